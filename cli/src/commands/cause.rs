//! How is it said why a step could not be found?
//!
//! In words and as JSON, for `plan`, which foretells, and for `why`, which looks back. Steps are named by the caller, who
//! counts them in its own way.

use rbuild_engine::{Cause, Change, Changes, ComponentChange};
use serde_json::{Value, json};

use crate::human;

/// Values may be whole scripts.
const LONGEST: usize = 28;
/// How much is shown of what two long values have in common, before what they have not.
const COMMON: usize = 8;

/// The cause under the names of `docs/plan.md`.
pub fn json(cause: &Cause, step: impl Fn(usize) -> Value) -> Value {
    match cause {
        Cause::NeverBuilt => json!({ "code": "never-built" }),
        Cause::Forced => json!({ "code": "forced" }),
        Cause::Forgotten => json!({ "code": "forgotten" }),
        Cause::Files { context, changes } => {
            let file = |(path, change): &(String, Change)| json!({ "path": path, "change": word(*change) });
            let files = changes.as_ref().map(|changes| changes.shown.iter().map(file).collect::<Vec<_>>());
            let others = changes.as_ref().map(|changes| changes.others);
            json!({ "code": "files", "context": context, "files": files, "others": others })
        }
        Cause::Input(input) => json!({ "code": "input", "step": step(*input) }),
        Cause::Changed(changes) => {
            let changes = changes
                .iter()
                .map(|change| json!({ "name": change.name, "before": change.before, "after": change.after }));
            json!({ "code": "changed", "changes": changes.collect::<Vec<_>>() })
        }
    }
}

/// The cause in words, each line on its own.
pub fn lines(cause: &Cause, step: impl Fn(usize) -> String) -> Vec<String> {
    match cause {
        Cause::NeverBuilt => vec!["no such step was ever built".to_owned()],
        Cause::Forced => vec!["results of earlier builds may not be used".to_owned()],
        Cause::Forgotten => vec!["its result is no longer there".to_owned()],
        Cause::Input(input) => vec![format!("{} is not what it was", step(*input))],
        Cause::Changed(changes) if changes.iter().any(|change| change.name == "op") => {
            vec!["another kind of step was in its place".to_owned()]
        }
        Cause::Changed(changes) => changes.iter().map(change).collect(),
        Cause::Files { context, changes } => {
            let mut lines = vec![files(context)];
            if let Some(Changes { shown, others }) = changes {
                lines[0].push(':');
                lines.extend(shown.iter().map(|(path, change)| format!("{:8} {}", word(*change), tame(path))));
                if *others > 0 {
                    lines.push(format!("and {others} other{}", if *others == 1 { "" } else { "s" }));
                }
            }
            lines
        }
    }
}

fn files(context: &str) -> String {
    match context {
        "context" => "files in the build context changed".to_owned(),
        name => format!("files in the build context `{name}` changed"),
    }
}

fn word(change: Change) -> &'static str {
    match change {
        Change::Added => "added",
        Change::Removed => "removed",
        Change::Content => "content",
        Change::Mode => "mode",
        Change::Kind => "kind",
    }
}

/// Without what a terminal would act on.
fn tame(path: &str) -> String {
    path.chars().map(|character| if character.is_control() { '?' } else { character }).collect()
}

fn change(ComponentChange { name, before, after }: &ComponentChange) -> String {
    let shown = match name.as_str() {
        "image" => "base image".to_owned(),
        name => name.strip_prefix("env ").map_or_else(|| name.to_owned(), |variable| format!("variable {variable}")),
    };
    match (before, after) {
        (Some(_), Some(_)) if name == "files" => files("context"),
        (Some(before), Some(after)) => {
            let from = difference(before, after);
            format!("{shown}: {} became {}", value(before, from), value(after, from))
        }
        (None, Some(after)) => format!("{shown}: {} is new", value(after, 0)),
        (Some(before), None) => format!("{shown}: {} is gone", value(before, 0)),
        (None, None) => format!("{shown} changed"),
    }
}

/// The value from this character on, as far as there is room for it.
fn value(value: &str, from: usize) -> String {
    let rest: String = value.chars().skip(from).collect();
    let dots = if from > 0 { "…" } else { "" };
    format!("`{dots}{}`", human::shorten(&rest.escape_debug().to_string(), LONGEST - dots.chars().count()))
}

/// Where to begin, so that it can be seen in what two values differ.
fn difference(before: &str, after: &str) -> usize {
    let common = before.chars().zip(after.chars()).take_while(|(one, other)| one == other).count();
    if common + COMMON < LONGEST { 0 } else { common - COMMON }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(name: &str, before: Option<&str>, after: Option<&str>) -> Cause {
        let (before, after) = (before.map(str::to_owned), after.map(str::to_owned));
        Cause::Changed(vec![ComponentChange { name: name.to_owned(), before, after }])
    }

    #[test]
    fn words_name_what_changed() {
        let long = "apt-get update && apt-get install --yes --no-install-recommends";
        let (before, after) =
            (format!("{long} curl && rm -rf /var/lib/apt"), format!("{long} wget && rm -rf /var/lib"));
        let files = |changes| Cause::Files { context: "context".to_owned(), changes };
        let shown = vec![("src/a.js".to_owned(), Change::Content), ("b\u{1b}[2J".to_owned(), Change::Added)];
        for (cause, expected) in [
            (changed("env VERSION", Some("1"), Some("2")), "variable VERSION: `1` became `2`"),
            (changed("env VERSION", None, Some("2")), "variable VERSION: `2` is new"),
            (changed("image", Some("sha256:12"), Some("sha256:34")), "base image: `sha256:12` became `sha256:34`"),
            (
                changed("argument 2", Some(&before), Some(&after)),
                "argument 2: `…ommends curl && rm -rf /va…` became `…ommends wget && rm -rf /va…`",
            ),
            (changed("op", Some("exec"), Some("file")), "another kind of step was in its place"),
            (Cause::Input(3), "step 4 is not what it was"),
            (files(None), "files in the build context changed"),
            (
                files(Some(Changes { shown, others: 7 })),
                "files in the build context changed:/content  src/a.js/added    b?[2J/and 7 others",
            ),
        ] {
            assert_eq!(lines(&cause, |step| format!("step {}", step + 1)).join("/"), expected);
        }
    }

    #[test]
    fn json_counts_what_it_does_not_name() {
        let shown = vec![("a".to_owned(), Change::Removed)];
        let cause = Cause::Files { context: "tools".to_owned(), changes: Some(Changes { shown, others: 2 }) };
        let expected = r#"{"code":"files","context":"tools","files":[{"change":"removed","path":"a"}],"others":2}"#;
        assert_eq!(json(&cause, |step| step.into()), serde_json::from_str::<Value>(expected).unwrap());
    }
}

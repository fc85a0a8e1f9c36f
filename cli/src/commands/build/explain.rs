//! What would a build do, and why?

use rbuild_engine::{ComponentChange, Reason, StepVerdict, Verdict};

use crate::human;

/// One line per step, and one for each thing that is not as it was. `maybe` is a step that runs unless what it needs
/// turns out to be the same as before.
pub fn text(steps: &[StepVerdict]) -> String {
    let mut text = String::new();
    for StepVerdict { title, verdict, input } in steps.iter().filter(|step| !is_internal(&step.title)) {
        let (word, reasons) = match verdict {
            Verdict::Hit(_) => ("cached", Vec::new()),
            Verdict::Missed(reason @ Reason::InputChanged(_)) if !input.as_deref().is_some_and(is_internal) => {
                ("maybe", reasons(reason, input.as_deref()))
            }
            Verdict::Missed(reason) => ("runs", reasons(reason, input.as_deref())),
        };
        text.push_str(&format!("{word:7} {title}\n"));
        reasons.iter().for_each(|reason| text.push_str(&format!("          {reason}\n")));
    }
    text
}

/// Whether it is no step of the Dockerfile, but what loads its context.
fn is_internal(title: &str) -> bool {
    title.starts_with("[internal]")
}

fn reasons(reason: &Reason, input: Option<&str>) -> Vec<String> {
    let one = match reason {
        Reason::NeverBuilt => "it was never built".to_owned(),
        Reason::Forced => "results of earlier builds may not be used".to_owned(),
        Reason::Forgotten => "its result is no longer there".to_owned(),
        Reason::InputChanged(_) => match input {
            Some(title) if is_internal(title) => FILES.to_owned(),
            Some(title) => format!("it needs {}", human::shorten(title, LONGEST)),
            None => "what it needs changed".to_owned(),
        },
        Reason::OpChanged(changes) if changes.iter().any(|change| change.name == "op") => {
            "another kind of step was in its place".to_owned()
        }
        Reason::OpChanged(changes) => return changes.iter().map(change).collect(),
    };
    vec![one]
}

const FILES: &str = "files in the build context changed";

/// Values may be whole scripts.
const LONGEST: usize = 60;

fn change(ComponentChange { name, before, after }: &ComponentChange) -> String {
    let value = |value: &str| format!("`{}`", human::shorten(&value.escape_debug().to_string(), LONGEST));
    match (before, after) {
        (Some(_), Some(_)) if name == "files" => FILES.to_owned(),
        (Some(before), Some(after)) => format!("{name}: {} became {}", value(before), value(after)),
        (None, Some(after)) => format!("{name}: {} is new", value(after)),
        (Some(before), None) => format!("{name}: {} is gone", value(before)),
        (None, None) => format!("{name} changed"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_is_a_sentence() {
        let digest = rbuild_core::Digest::sha256([1; 32]);
        let changed = |name: &str, before: Option<&str>, after: Option<&str>| ComponentChange {
            name: name.to_owned(),
            before: before.map(str::to_owned),
            after: after.map(str::to_owned),
        };
        let changes = vec![
            changed("argument 2", Some("make\n"), Some("make install")),
            changed("env VERSION", None, Some("2")),
            changed("env DEBUG", Some("1"), None),
            changed("files", Some("blake3:00"), Some("blake3:01")),
        ];
        let steps: Vec<_> = [
            Verdict::Hit(digest),
            Verdict::Missed(Reason::NeverBuilt),
            Verdict::Missed(Reason::Forced),
            Verdict::Missed(Reason::Forgotten),
            Verdict::Missed(Reason::OpChanged(changes)),
            Verdict::Missed(Reason::OpChanged(vec![changed("op", Some("file"), Some("exec"))])),
        ]
        .into_iter()
        .enumerate()
        .map(|(number, verdict)| StepVerdict { title: format!("[{}/6] RUN make", number + 1), verdict, input: None })
        .collect();
        insta::assert_snapshot!(text(&steps), @r"
        cached  [1/6] RUN make
        runs    [2/6] RUN make
                  it was never built
        runs    [3/6] RUN make
                  results of earlier builds may not be used
        runs    [4/6] RUN make
                  its result is no longer there
        runs    [5/6] RUN make
                  argument 2: `make\n` became `make install`
                  env VERSION: `2` is new
                  env DEBUG: `1` is gone
                  files in the build context changed
        runs    [6/6] RUN make
                  another kind of step was in its place
        ");
    }
}

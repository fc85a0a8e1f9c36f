//! What do the comments at the top of a file tell the parser?
//!
//! `# escape=`, `# syntax=` and `# check=` count only before anything else: a blank line, another comment or an
//! instruction ends the zone. rbuild stands in for Docker's own frontend images; other syntaxes would need their image to
//! be run, and are refused. Of such a file nothing else can be said; `syntax` is also looked for in the two forms that
//! other languages have for it, `// syntax=` and `{"syntax": …}`.

use std::sync::LazyLock;

use rbuild_core::Span;
use regex::Regex;

use crate::ast::{Directives, Word};
use crate::diagnostic::{Diagnostic, Severity};
use crate::findings::Findings;
use crate::grammar::{Grammar, Pair, Parser as _, Rule as Syntax};
use crate::rule::{CheckOptions, Rule, RuleSet};
use crate::suggest::did_you_mean;

/// Reading the expression takes longer than reading most Dockerfiles: only for a text that begins like it.
static JSON_SYNTAX: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r#"^\s*\{[^{}]*?"syntax"\s*:\s*"([^"\\]*)""#).expect("a constant that tests read"));

/// What stands in for directives of the file, from the build arguments `BUILDKIT_SYNTAX` and `BUILDKIT_DOCKERFILE_CHECK`.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Overrides {
    /// The value of `# syntax=`.
    pub syntax: Option<String>,
    /// The value of `# check=`.
    pub check: Option<String>,
}

/// What a file that does not begin with `#` says about its frontend.
pub(crate) fn other_syntax(text: &str, diagnostics: &mut Findings) {
    let text_start = text.len() - text.trim_start_matches('\u{FEFF}').len();
    let body = &text[text_start..];
    let body_start = if body.starts_with("#!") { body.find('\n').map_or(body.len(), |feed| feed + 1) } else { 0 };
    let body = &body[body_start..];
    let start = text_start + body_start;
    let place = |from: usize, to: usize| Span::new((start + from) as u32, (start + to) as u32);
    if body.starts_with("//") {
        let mut at = 0;
        for line in body.split_inclusive('\n') {
            let Some(rest) = line.trim_end().strip_prefix("//") else { break };
            // As long as `#`, once the second slash has become a part of what is cut off.
            let Some(found) = Found::read(&format!("#{rest}"), start + at + 1) else { break };
            at += line.len();
            if found.name == "syntax" {
                syntax(found.value, diagnostics);
                break;
            }
        }
    } else if body.trim_start().starts_with('{')
        && let Some(value) = JSON_SYNTAX.captures(body).and_then(|captures| captures.get(1))
    {
        let word = Word { text: value.as_str().to_owned(), span: place(value.start(), value.end()) };
        syntax(word, diagnostics);
    }
}

/// What the zone says, and where it ends.
pub(crate) fn read(text: &str, overrides: &Overrides, diagnostics: &mut Findings) -> (Directives, usize) {
    let mut directives = Directives { escape: '\\', syntax: None, check: CheckOptions::default(), check_span: None };
    let mut seen: Vec<(String, Span)> = Vec::new();
    let mark = text.len() - text.trim_start_matches('\u{FEFF}').len();
    let mut at = mark.min('\u{FEFF}'.len_utf8());
    // After a `#!` line only `syntax` and `check` count.
    let shebang = text[at..].starts_with("#!");
    let mut end = at;
    for (number, line) in text[at..].split_inclusive('\n').enumerate() {
        let start = at;
        at += line.len();
        let trimmed = line.trim_end_matches(['\n', '\r']);
        let Some(found) = Found::read(trimmed, start) else {
            if shebang && number == 0 {
                continue;
            }
            break;
        };
        if shebang && found.name == "escape" {
            break;
        }
        end = at;
        if let Some((_, first)) = seen.iter().find(|(name, _)| *name == found.name) {
            diagnostics.push(
                Diagnostic::error(found.span, format!("only one `{}` parser directive can be used", found.name))
                    .and(*first, "the first one is here")
                    .hint("remove one of the two lines"),
            );
            continue;
        }
        seen.push((found.name.clone(), found.span));
        match found.name.as_str() {
            "escape" => match found.value.text.as_str() {
                "\\" => directives.escape = '\\',
                "`" => directives.escape = '`',
                other => diagnostics.push(
                    Diagnostic::error(found.value.span, format!("invalid escape character `{other}`"))
                        .hint("`escape` is a backslash or a backtick"),
                ),
            },
            // Frontends and checks are looked up by tools that want the `#` in the first column.
            _ if found.indented => {}
            "syntax" if overrides.syntax.is_some() => {}
            "check" if overrides.check.is_some() => {}
            "syntax" => directives.syntax = syntax(found.value, diagnostics),
            _ => {
                directives.check = checks(&found.value, diagnostics);
                directives.check_span = Some(found.span);
            }
        }
    }
    let given = |value: &String| Word { text: value.clone(), span: Span::default() };
    if let Some(value) = &overrides.syntax {
        directives.syntax = syntax(given(value), diagnostics);
    }
    if let Some(value) = &overrides.check {
        directives.check = checks(&given(value), diagnostics);
    }
    (directives, end)
}

struct Found {
    name: String,
    value: Word,
    indented: bool,
    span: Span,
}

impl Found {
    fn read(line: &str, start: usize) -> Option<Self> {
        let place =
            |pair: &Pair<'_>| Span::new((start + pair.as_span().start()) as u32, (start + pair.as_span().end()) as u32);
        let directive = Grammar::parse(Syntax::directive, line).ok()?.next()?;
        let mut parts = directive.into_inner();
        let indent = parts.next()?;
        let name = parts.next()?;
        let value = parts.next()?;
        let lower = name.as_str().to_ascii_lowercase();
        matches!(lower.as_str(), "escape" | "syntax" | "check").then(|| Self {
            name: lower,
            indented: !indent.as_str().is_empty(),
            span: Span::new((start + indent.as_str().len()) as u32, place(&value).end),
            value: Word { text: value.as_str().to_owned(), span: place(&value) },
        })
    }
}

/// The frontend image, if rbuild does what it does.
fn syntax(value: Word, diagnostics: &mut Findings) -> Option<Word> {
    // After a blank follows a command line for the frontend.
    let image = value.text.split(' ').next().unwrap_or("");
    let name = image.split('@').next().unwrap_or("");
    let name = name.rsplit_once(':').filter(|(_, tag)| !tag.contains('/')).map_or(name, |(name, _)| name);
    let docker = |name: &str| matches!(name, "docker/dockerfile" | "docker/dockerfile-upstream" | "dockerfile.v0");
    // Mirrors keep Docker's path behind their own host name.
    let path = name.split_once('/').filter(|(host, _)| host.contains(['.', ':']) || *host == "localhost");
    if docker(name) || path.is_some_and(|(_, path)| ends_as_docker(path)) {
        return Some(value);
    }
    diagnostics.set_foreign();
    diagnostics.push(
        Diagnostic::error(value.span, format!("the frontend `{image}` is not supported"))
            .hint("rbuild reads Dockerfiles itself, as `docker/dockerfile` does, and runs no other frontend"),
    );
    None
}

fn ends_as_docker(path: &str) -> bool {
    let known = ["docker/dockerfile", "docker/dockerfile-upstream"];
    known.iter().any(|known| path.strip_suffix(known).is_some_and(|lead| lead.is_empty() || lead.ends_with('/')))
}

/// Whether a comment with this text, without its `#`, may speak to the parser or to the checks.
pub(crate) fn is_directive(text: &str) -> bool {
    Found::read(&format!("#{text}"), 0).is_some()
}

/// Whether reading a comment is worth its time: most are about something else.
fn is_about_checks(comment: &Word) -> bool {
    comment.text.trim_start().get(.."check".len()).is_some_and(|start| start.eq_ignore_ascii_case("check"))
}

/// What is wrong with the wishes above a single instruction.
pub(crate) fn comment_remarks(comment: &Word, found: &mut Findings) {
    if !is_about_checks(comment) {
        return;
    }
    // The text begins behind the `#`.
    let start = (comment.span.start as usize).saturating_sub(1);
    let Some(check) = Found::read(&format!("#{}", comment.text), start).filter(|found| found.name == "check") else {
        return;
    };
    let mut own = Findings::default();
    checks(&check.value, &mut own);
    for mut remark in own.finish().unwrap_or_else(|errors| errors) {
        // Above an instruction a mistake only means that nothing is skipped.
        (remark.severity, remark.rule) = (Severity::Warning, Some(Rule::UnknownCheckRule));
        found.push(remark);
    }
}

/// The rules above a single instruction: `check=skip=…` as the text of a comment.
pub(crate) fn comment_checks(comment: &Word) -> Option<CheckOptions> {
    if !is_about_checks(comment) {
        return None;
    }
    let found = Found::read(&format!("#{}", comment.text), 0).filter(|found| found.name == "check")?;
    Some(checks(&found.value, &mut Findings::default()))
}

/// Where a remark begins behind the options: at the first space that does not stand at a separator.
fn without_remark(text: &str) -> &str {
    let is_separator = |letter: char| matches!(letter, ',' | ';' | '=');
    let mut at = 0;
    while let Some(space) = text[at..].find(char::is_whitespace).map(|found| at + found) {
        let behind = text[space..].trim_start();
        let before = &text[..space];
        if before.contains('=') && !before.ends_with(is_separator) && !behind.starts_with(is_separator) {
            return before;
        }
        at = text.len() - behind.len();
    }
    text
}

fn checks(value: &Word, diagnostics: &mut Findings) -> CheckOptions {
    let mut options = CheckOptions::default();
    let Some(pairs) = Grammar::parse(Syntax::checks, without_remark(&value.text)).ok() else {
        diagnostics.push(Diagnostic::error(value.span, format!("`{}` is no list of checks", value.text)).hint(FORM));
        return options;
    };
    for check in pairs.flatten().filter(|pair| pair.as_rule() == Syntax::check) {
        let mut parts = check.into_inner();
        let Some(key) = parts.next() else { continue };
        let place = |pair: &Pair<'_>| value.part(pair.as_span().start(), pair.as_span().end());
        match key.as_str().to_ascii_lowercase().as_str() {
            "" => {}
            "skip" => options.skip = rules(parts, place, diagnostics),
            "experimental" => options.experimental = rules(parts, place, diagnostics),
            "error" => match parts.next().map(|value| value.as_str().trim().to_ascii_lowercase()).as_deref() {
                Some("true" | "1" | "t") => options.error = true,
                Some("false" | "0" | "f") => options.error = false,
                _ => diagnostics
                    .push(Diagnostic::error(place(&key), "`error` in `check` is `true` or `false`").hint(FORM)),
            },
            other => diagnostics.push(
                Diagnostic::error(place(&key), format!("unknown option `{other}` in `check`"))
                    .hint(did_you_mean(other, ["skip", "error", "experimental"]).unwrap_or_else(|| FORM.to_owned())),
            ),
        }
    }
    options
}

const FORM: &str = "write `# check=skip=RuleA,RuleB;error=true`";

fn rules<'text>(
    items: impl Iterator<Item = Pair<'text>>,
    place: impl Fn(&Pair<'text>) -> Span,
    diagnostics: &mut Findings,
) -> RuleSet {
    let mut rules = Vec::new();
    for item in items {
        let name = item.as_str().trim();
        if name.eq_ignore_ascii_case("all") {
            return RuleSet::All;
        }
        match name.parse() {
            Ok(rule) => rules.push(rule),
            Err(_) => diagnostics.push(
                Diagnostic::warning(Rule::UnknownCheckRule, place(&item), format!("`{name}` is not a lint rule"))
                    .hint_if(did_you_mean(name, Rule::ALL.iter().map(|rule| rule.name()))),
            ),
        }
    }
    RuleSet::Some(rules)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary(text: &str) -> (char, String, String, Vec<String>) {
        let mut diagnostics = Findings::default();
        let (directives, end) = read(text, &Overrides::default(), &mut diagnostics);
        let syntax = directives.syntax.map_or_else(String::new, |word| word.text);
        let found = diagnostics.finish().unwrap_or_else(|errors| errors);
        let messages = found.into_iter().map(|diagnostic| diagnostic.message).collect();
        (directives.escape, syntax, text[end..].to_owned(), messages)
    }

    #[test]
    fn directives_stand_at_the_top() {
        let cases = [
            ("FROM x", '\\', "", "FROM x"),
            ("# escape=`\nFROM x", '`', "", "FROM x"),
            ("\u{FEFF}# escape = ` \r\nx", '`', "", "x"),
            ("  #ESCAPE=`\nx", '`', "", "x"),
            ("# a\n# escape=`\n", '\\', "", "# a\n# escape=`\n"),
            ("\n# escape=`\n", '\\', "", "\n# escape=`\n"),
            ("# unknown=x\n# escape=`\n", '\\', "", "# unknown=x\n# escape=`\n"),
            ("# syntax=docker/dockerfile:1.7-labs\n# escape=`\nx", '`', "docker/dockerfile:1.7-labs", "x"),
            (" # syntax=foreign/image\nx", '\\', "", "x"),
            ("#!/usr/bin/env rbuild\n# syntax=docker/dockerfile\nx", '\\', "docker/dockerfile", "x"),
            (
                "# syntax=mirror.example:5000/docker.io/docker/dockerfile:1\n",
                '\\',
                "mirror.example:5000/docker.io/docker/dockerfile:1",
                "",
            ),
        ];
        for (text, escape, syntax, rest) in cases {
            let expected = (escape, syntax.to_owned(), rest.to_owned(), Vec::new());
            assert_eq!(summary(text), expected, "{text:?}");
        }
    }

    #[test]
    fn mistakes_in_directives() {
        let cases = [
            ("# escape=\\\n# escape=`\n", "only one `escape` parser directive can be used"),
            ("# escape=x\n", "invalid escape character `x`"),
            ("# syntax=foreign/image:1\n", "the frontend `foreign/image:1` is not supported"),
            ("# check=skp=all\n", "unknown option `skp` in `check`"),
            ("# check=skip=UndefinedVra\n", "`UndefinedVra` is not a lint rule"),
            ("# check=error=maybe\n", "`error` in `check` is `true` or `false`"),
        ];
        for (text, message) in cases {
            assert_eq!(summary(text).3, [message], "{text:?}");
        }
    }

    #[test]
    fn a077_build_arguments_stand_in_for_directives() {
        let overrides =
            Overrides { syntax: Some("docker/dockerfile:1".to_owned()), check: Some("error=true".to_owned()) };
        let mut diagnostics = Findings::default();
        let (directives, _) =
            read("# syntax=foreign/image\n# check=skip=all\n# escape=`\n", &overrides, &mut diagnostics);
        assert_eq!(directives.syntax.unwrap().text, "docker/dockerfile:1");
        assert_eq!(directives.check, CheckOptions { error: true, ..CheckOptions::default() });
        assert_eq!((directives.escape, diagnostics.finish()), ('`', Ok(Vec::new())));

        let foreign = Overrides { syntax: Some("foreign/image".to_owned()), check: Some("skp=all".to_owned()) };
        let mut diagnostics = Findings::default();
        drop(read("FROM x\n", &foreign, &mut diagnostics));
        let found: Vec<_> = diagnostics.finish().unwrap_err().into_iter().map(|found| found.message).collect();
        assert_eq!(found, ["the frontend `foreign/image` is not supported", "unknown option `skp` in `check`"]);
    }

    #[test]
    fn a023_other_forms_of_syntax() {
        let foreign = "the frontend `foreign/image:1` is not supported";
        let cases: [(&str, &[&str]); 7] = [
            ("// syntax=foreign/image:1\nFROM x", &[foreign]),
            ("#!/usr/bin/x\n// syntax = foreign/image:1 cmdline\n", &[foreign]),
            ("// check=skip=all\n// syntax=foreign/image:1\n", &[foreign]),
            ("\u{FEFF}{\"a\": 1, \"syntax\": \"foreign/image:1\"}", &[foreign]),
            ("// syntax=docker/dockerfile:1\n", &[]),
            ("// words\n// syntax=foreign/image:1\n", &[]),
            ("{\"a\": {\"syntax\": \"foreign/image:1\"}}", &[]),
        ];
        for (text, expected) in cases {
            let mut found = Findings::default();
            other_syntax(text, &mut found);
            let found = found.finish().unwrap_or_else(|errors| errors);
            assert_eq!(found.iter().map(|found| found.message.as_str()).collect::<Vec<_>>(), expected, "{text:?}");
            for found in found {
                assert_eq!(&text[found.span().range()].split(' ').next(), &Some("foreign/image:1"));
            }
        }
    }

    #[test]
    fn a024_remarks_follow_options() {
        let cases = [
            ("skip=all", "skip=all"),
            ("skip=all // why", "skip=all"),
            ("skip=A, B ;error = true because of x=y", "skip=A, B ;error = true"),
            ("skip=A\u{3000}B", "skip=A"),
        ];
        for (text, expected) in cases {
            assert_eq!(without_remark(text), expected, "{text}");
        }
    }

    #[test]
    fn a024_checks_name_rules() {
        let mut diagnostics = Findings::default();
        let text = "# check=skip=undefinedvar, StageNameCasing ;error=true;experimental=all\n";
        let (directives, _) = read(text, &Overrides::default(), &mut diagnostics);
        assert_eq!(diagnostics.finish(), Ok(Vec::new()));
        let rules = vec![Rule::UndefinedVar, Rule::StageNameCasing];
        let expected = CheckOptions { skip: RuleSet::Some(rules), error: true, experimental: RuleSet::All };
        assert_eq!(directives.check, expected);
        let comment = |text: &str| comment_checks(&Word { text: text.to_owned(), span: Span::default() });
        assert!(comment("check=skip=all").is_some_and(|options| !options.wants(Rule::UndefinedVar)));
        assert_eq!(comment("nothing to see"), None);
    }
}

//! Do patterns mean what slow and simple definitions of them say?

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::path::Path;

use proptest::prelude::*;
use rbuild_frontend::{Glob, IgnoreFile, Match, Stars, clean};
use regex::Regex;

/// The definition: every token as a piece of a regular expression. The one exception is a leading `**` before plain text,
/// which is about the end of the path.
fn oracle(pattern: &str) -> Regex {
    let mut out = "(?s)^".to_owned();
    let mut rest = pattern;
    if let Some(text) = pattern.strip_prefix("**")
        && !text.is_empty()
        && text != "/"
        && !text.contains(['*', '?', '[', '\\'])
    {
        let text = text.strip_prefix('/').map_or_else(|| text.to_owned(), |text| format!("\0{text}"));
        let anchored = regex::escape(text.trim_start_matches('\0'));
        let lead = if text.starts_with('\0') { "(.*/)?" } else { ".*" };
        return Regex::new(&format!("(?s)^{lead}{anchored}$")).unwrap();
    }
    while let Some(first) = rest.chars().next() {
        let (token, length) = match first {
            '*' if rest.starts_with("**") => {
                let length = if rest.starts_with("**/") { 3 } else { 2 };
                (if rest.len() == length { ".*" } else { "(.*/)?" }.to_owned(), length)
            }
            '*' => ("[^/]*".to_owned(), 1),
            '?' => ("[^/]".to_owned(), 1),
            '[' => {
                let end = rest.find(']').unwrap() + 1;
                (rest[..end].to_owned(), end)
            }
            '\\' => (regex::escape(&rest[1..2]), 2),
            other => (regex::escape(&other.to_string()), other.len_utf8()),
        };
        out.push_str(&token);
        rest = &rest[length..];
    }
    Regex::new(&(out + "$")).unwrap()
}

/// The definition: patterns in order, each against the path and every directory above it.
fn excluded(patterns: &[String], path: &str) -> bool {
    let mut excluded = false;
    for pattern in patterns {
        let (exception, text) = pattern.strip_prefix('!').map_or((false, pattern.as_str()), |text| (true, text));
        let cleaned = clean(text);
        let regex = oracle(cleaned.strip_prefix('/').filter(|rest| !rest.is_empty()).unwrap_or(&cleaned));
        let ends = path.match_indices('/').map(|(at, _)| at).chain([path.len()]);
        if ends.into_iter().any(|end| regex.is_match(&path[..end])) {
            excluded = !exception;
        }
    }
    excluded
}

fn pattern() -> impl Strategy<Value = String> {
    let token = prop::sample::select(vec!["a", "b", "é", "/", "/", "*", "**", "**/", "?", "[ab]", "[^a]", "\\*", "."]);
    prop::collection::vec(token, 1..8).prop_map(|tokens| tokens.concat())
}

fn path() -> impl Strategy<Value = String> {
    let name = prop::collection::vec(prop::sample::select(vec!["a", "b", "é", "*", "."]), 1..4);
    let name = name.prop_map(|parts| parts.concat()).prop_filter("a name", |name| name != "." && name != "..");
    prop::collection::vec(name, 1..5).prop_map(|names| names.join("/"))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn globs_match_what_their_regular_expression_matches(pattern in pattern(), path in path()) {
        let glob = Glob::new(&pattern, Stars::Deep).unwrap();
        prop_assert_eq!(glob.matches(Path::new(&path)), oracle(&pattern).is_match(&path), "{} {}", pattern, path);
    }

    #[test]
    fn a_directory_that_is_not_entered_contains_no_match(pattern in pattern(), directory in path(), below in path()) {
        let glob = Glob::new(&pattern, Stars::Deep).unwrap();
        if glob.matches(Path::new(&format!("{directory}/{below}"))) {
            prop_assert!(glob.may_match_below(Path::new(&directory)), "{} {} {}", pattern, directory, below);
        }
    }

    #[test]
    fn ignore_files_decide_as_defined_and_pruning_loses_nothing(
        patterns in prop::collection::vec((any::<bool>(), pattern()), 1..5),
        path in path(),
    ) {
        let patterns: Vec<_> =
            patterns.into_iter().map(|(not, text)| if not { format!("!{text}") } else { text }).collect();
        let file = IgnoreFile::parse(&patterns.join("\n")).unwrap();
        let mut verdict = Match::None;
        let mut pruned = false;
        for (end, _) in path.match_indices('/').chain([(path.len(), "")]) {
            let part = Path::new(&path[..end]);
            verdict = file.matched_below(verdict, part);
            prop_assert_eq!(verdict.is_excluded(), excluded(&patterns, &path[..end]), "{:?} {:?}", &patterns, part);
            prop_assert!(!pruned || verdict.is_excluded(), "{:?} {:?}", &patterns, part);
            pruned |= file.prunes(verdict, part);
        }
        prop_assert_eq!(file.matched(Path::new(&path)), verdict);
    }

    #[test]
    fn any_text_is_an_ignore_file_or_has_mistakes_in_it(text in "\\PC{0,40}(\n\\PC{0,20}){0,3}") {
        if let Err(mistakes) = IgnoreFile::parse(&text) {
            prop_assert!(mistakes.iter().all(|mistake| text.get(mistake.span().range()).is_some()));
        }
    }
}

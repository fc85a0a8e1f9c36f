//! Does an ignore file say about every path what the description of its language says, in linear time?
//!
//! An input is an ignore file, a line of three dashes, and paths, one per line.

#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use rbuild_frontend::{IgnoreFile, Match, Source};
use rbuild_fuzz::ignore::{Line, decide};
use rbuild_fuzz::{cost::bounded, spans};

fuzz_target!(|data: &str| {
    let (text, paths) = data.split_once("---\n").unwrap_or((data, "a\na/b\n.git/x.c\n"));
    let source = Source::new(".dockerignore", text);
    let parsed = bounded("parsing", text.len(), || IgnoreFile::parse(text));
    let naive = lines(text);
    let file = match parsed {
        Ok(file) => file,
        Err(found) => {
            assert!(!found.is_empty(), "neither a file nor a mistake");
            assert!(naive.is_none(), "only the real one finds a mistake: {found:?}");
            return spans::drawable(&source, &found);
        }
    };
    let naive = naive.expect("only the naive one finds a mistake");
    for pattern in file.patterns() {
        spans::inside(&source, pattern.span(), pattern);
        assert_eq!(source.slice(pattern.span()), pattern.text(), "a pattern is not where it is said to be");
    }
    // Each path costs a walk of its own over all patterns.
    let paths: Vec<String> = paths.lines().take(16).map(path).filter(|path| !path.is_empty()).collect();
    for path in &paths {
        let found = bounded("matching", text.len() * (path.len() + 1) / 64, || file.matched(Path::new(path)));
        let found = found.pattern().map(|decider| {
            let index = file.patterns().iter().position(|pattern| std::ptr::eq(pattern, decider));
            (index.expect("a pattern of the file"), found.is_excluded())
        });
        assert_eq!(found, decide(&naive, path), "`{path}`");
        for (end, _) in path.match_indices('/') {
            let directory = Path::new(&path[..end]);
            let verdict = file.matched(directory);
            let hidden = file.prunes(verdict, directory);
            assert!(!hidden || found.is_some_and(|(_, excluded)| excluded), "a walk would not see `{path}`");
        }
        let walked = path.match_indices('/').map(|(at, _)| at).chain([path.len()]);
        let walked = walked.fold(Match::None, |above, end| file.matched_below(above, Path::new(&path[..end])));
        assert_eq!(walked, file.matched(Path::new(path)), "`{path}`, step by step");
    }
});

/// The naive reading of a file; nothing if a line of it is a mistake.
fn lines(text: &str) -> Option<Vec<Line>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let written = text.split('\n').filter(|line| !line.starts_with('#')).map(str::trim).filter(|line| !line.is_empty());
    written
        .map(|line| match line.strip_prefix('!') {
            Some("") => None,
            Some(rest) => Line::new(rest.trim(), true).ok(),
            None => Line::new(line, false).ok(),
        })
        .collect()
}

/// A path as a walk would have it.
fn path(line: &str) -> String {
    let parts = line.split('/').filter(|part| !matches!(*part, "" | "." | ".."));
    parts.collect::<Vec<_>>().join("/")
}

//! Does each row of `docs/cache-keys.md` name a test that exists?

#![expect(clippy::unwrap_used, reason = "a test fails where its reading of the sources is wrong")]

use std::fs;
use std::path::{Path, PathBuf};

/// All files of tests, with what is in them.
fn sources(directory: &Path, found: &mut Vec<(PathBuf, String)>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() && !name.starts_with('.') && name != "target" {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push((path.clone(), fs::read_to_string(&path).unwrap()));
        }
    }
}

/// Whether there is a test `name` in a module whose path ends as `modules` say.
fn exists(sources: &[(PathBuf, String)], modules: &[&str], name: &str) -> bool {
    let begin = format!("fn {name}(");
    sources.iter().any(|(path, text)| {
        let place = path.with_extension("");
        let place: Vec<_> = place.iter().map(|part| part.to_string_lossy()).filter(|part| part != "src").collect();
        place.iter().rev().zip(modules.iter().rev()).all(|(is, wanted)| is == wanted) && text.contains(&begin)
    })
}

/// Field and tests of every row that says which keys something enters, or why it enters none.
fn rows(text: &str) -> Vec<(&str, Vec<&str>)> {
    let rows = text.lines().filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |"));
    let cells = rows.map(|row| row.split(" | ").collect::<Vec<_>>());
    let cells = cells.filter(|cells| cells.len() >= 3 && *cells.last().unwrap() != "test");
    cells.map(|cells| (cells[0], cells.last().unwrap().split('`').skip(1).step_by(2).collect())).collect()
}

#[test]
fn every_row_of_the_table_of_keys_has_a_test_that_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let text = fs::read_to_string(root.join("docs/cache-keys.md")).unwrap();
    let mut all = Vec::new();
    sources(&root, &mut all);
    let rows = rows(&text);
    assert!(rows.len() > 50, "{} rows", rows.len());
    let mut wrong = Vec::new();
    for (field, tests) in &rows {
        if tests.is_empty() {
            wrong.push(format!("{field}: no test"));
        }
        for test in tests {
            let parts: Vec<_> = test.split("::").filter(|part| *part != "tests").collect();
            let (name, modules) = parts.split_last().unwrap();
            if !exists(&all, modules, name) {
                wrong.push(format!("{field}: there is no test `{test}`"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn rows_and_tests_are_recognised() {
    let text = "| field | key | why | test |\n|---|---|---|---|\n| `a`, `b` | D C | because | `m::t`, `u` (so) |\n\
                | c | why | — |\n\ntext | x | y |\n";
    assert_eq!(rows(text), [("`a`, `b`", vec!["m::t", "u"]), ("c", vec![])]);
    let sources = [(PathBuf::from("x/src/files/m.rs"), "fn t() {}".to_owned())];
    assert!(exists(&sources, &["m"], "t") && exists(&sources, &["files", "m"], "t") && exists(&sources, &[], "t"));
    assert!(!exists(&sources, &["other", "m"], "t") && !exists(&sources, &["m"], "tt"));
}

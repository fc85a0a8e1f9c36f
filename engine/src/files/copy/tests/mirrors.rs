//! Whole directories are planned at once. Nobody sees that they are.

use std::ffi::OsString;
use std::io::{self, Read};

use rbuild_image::{Change, EntryKind};

use super::archives::tar_of;
use super::*;
use crate::files::tree::Seen;
use crate::files::{FileDigest, Tree};

/// A context of which nothing is planned at once.
struct OneByOne<'a>(&'a ContextScan);

impl Tree for OneByOne<'_> {
    fn node(&self, path: &InnerPath) -> io::Result<Option<Node>> {
        self.0.node(path)
    }

    fn list(&self, directory: &InnerPath) -> io::Result<Vec<(OsString, Node)>> {
        self.0.list(directory)
    }
}

impl SourceTree for OneByOne<'_> {
    fn root(&self) -> &Root {
        self.0.root()
    }

    fn digests(&self, files: &[(&InnerPath, &Node)]) -> Result<Vec<FileDigest>, (InnerPath, io::Error)> {
        self.0.digests(files)
    }

    fn known(&self, path: &InnerPath) -> Option<Seen> {
        self.0.known(path)
    }

    fn hidden_by(&self, path: &InnerPath) -> Option<String> {
        self.0.hidden_by(path)
    }

    fn keeps_directory_attributes(&self) -> bool {
        self.0.keeps_directory_attributes()
    }
}

/// Writes down what it is given.
#[derive(Debug, Default, PartialEq)]
struct Recorder(Vec<(Change, Vec<u8>)>);

impl Sink for Recorder {
    type Error = CopyError;

    fn put(&mut self, change: &Change, filling: Filling<'_>) -> Result<(), CopyError> {
        let mut content = Vec::new();
        match filling.bytes {
            Bytes::Empty => {}
            Bytes::Small(bytes) => content = bytes,
            Bytes::Reader(reader) => drop(reader.read_to_end(&mut content).unwrap()),
            Bytes::File(file) => drop((&*file).read_to_end(&mut content).unwrap()),
            Bytes::Former(_) => panic!("there is no former layer"),
        }
        self.0.push((change.clone(), content));
        Ok(())
    }
}

fn planned(bench: &Bench, tree: &dyn SourceTree, steps: &[&str]) -> Result<(Recorder, usize), String> {
    let image = bench.image();
    let mut stage = Stage::over(Some(&image), None).unwrap();
    for step in steps {
        let sources: Sources<'_> = BTreeMap::from([(1, tree)]);
        match step.strip_prefix("WORKDIR ") {
            Some(path) => stage.make_directory(path, None, Some(5)),
            None => stage.copy(&CopyAction { mtime: Some(5), ..parse(step) }, &sources),
        }
        .map_err(|error| error.to_string())?;
    }
    let mut recorder = Recorder::default();
    stage.carry_out(&mut recorder, &|_| ()).map_err(|error| error.to_string())?;
    Ok((recorder, stage.items.len()))
}

fn bench() -> Bench {
    let bench = Bench::new();
    for (path, content) in [
        ("a/sub/deep/one", "1"),
        ("a/sub/deep/two", "2"),
        ("a/sub/f", "f of a"),
        ("a/z", ""),
        ("a/etc/passwd", "maker:x:41:42::/:/bin/sh\n"),
        ("b/sub/deep/two", "other"),
        ("b/sub/new/in", "in"),
        ("b/sub-", "after"),
        ("f", "f"),
        ("large/large", &"x".repeat(200_000)),
    ] {
        bench.file(&format!("context/{path}"), content);
    }
    bench.link("context/a/link", "sub/deep");
    bench.shell("context", "mkfifo a/fifo; mkdir a/empty; chmod 711 a/sub; touch -d @1000 a/sub a/sub/deep b/sub");
    let tar = tar_of(&["sub/f=replaced", "sub/deep/added=new", "sub/linked=>sub/deep/one"]);
    bench.file("context/t.tar", tar);
    bench.file("image/there/a/kept", "kept");
    bench
}

#[test]
fn directories_that_are_planned_at_once_are_those_that_are_planned_one_by_one() {
    let bench = bench();
    let context = bench.context();
    for steps in [
        &[r#"COPY [".", "/"]"#][..],
        &[r#"COPY [".", "/x"]"#],
        &[r#"COPY [".", "/there"]"#],
        &[r#"COPY --chown=3:4 --chmod=750 ["a", "/x"]"#],
        &[r#"COPY ["a", "b", "/x/"]"#],
        &[r#"COPY ["b", "a", "/x/"]"#],
        &[r#"COPY ["a", "/x"]"#, r#"COPY --chmod=700 ["b", "/x"]"#],
        &[r#"COPY ["a", "/x"]"#, r#"COPY ["a", "/x"]"#],
        &[r#"COPY ["a", "/x"]"#, r#"COPY --parents ["b/./sub/new/in", "/x/"]"#],
        &[r#"COPY ["a", "/x"]"#, r#"COPY --parents ["b/./sub/deep/two", "/x/"]"#],
        &[r#"COPY --parents ["a", "b/./sub/deep/two", "/x/"]"#, r#"COPY ["b", "/x/a"]"#],
        &[r#"COPY ["a", "/x"]"#, r#"COPY ["f", "/x/sub/deep/new"]"#],
        &[r#"COPY ["a", "/x"]"#, r#"COPY ["f", "/x/sub"]"#],
        &[r#"COPY ["a", "/x"]"#, r#"COPY ["f", "/x/link/"]"#],
        &[r#"COPY ["a", "/x"]"#, r#"COPY ["f", "/x/sub/f"]"#],
        &[r#"COPY ["a", "/x"]"#, r#"COPY ["b", "/x/sub/f/"]"#],
        &[r#"COPY ["a", "/x"]"#, r#"COPY ["f", "/x/z/"]"#],
        &[r#"COPY ["a", "/x"]"#, r#"COPY --parents ["b/./sub-", "/x/sub/"]"#],
        &[r#"COPY ["a", "/x"]"#, r#"ADD ["t.tar", "/x/"]"#],
        &[r#"COPY ["a", "/x"]"#, "WORKDIR /x/sub/deep/below", "WORKDIR /x/sub"],
        &[r#"COPY ["a", "/x"]"#, "WORKDIR /x/sub/f"],
        &[r#"COPY ["a/etc", "/etc"]"#, r#"COPY --chown=maker ["b", "/y"]"#],
        &[r#"COPY ["large", "/x"]"#, r#"COPY ["large", "/y"]"#],
        &[r#"COPY ["a/*", "/x/"]"#],
        &[r#"COPY ["*/sub/*/t*", "f", "/x/"]"#, r#"COPY --chmod=600 ["a/sub/deep/o*", "/x/"]"#],
        &[r#"COPY ["a/z", "/x"]"#, r#"COPY ["a/z", "/y"]"#, "WORKDIR /x"],
        &[r#"COPY --exclude=*/o* ["a/sub", "/x"]"#, r#"COPY --chown=maker ["f", "/x/deep/"]"#],
        &[r#"COPY --parents ["./*/sub/**", "/x"]"#, r#"COPY ["b/sub/deep", "/x/a/sub/f"]"#],
        &[r#"COPY ["a/etc/*", "/etc/"]"#, r#"COPY --chown=maker ["b", "/y"]"#],
        &[r#"COPY --exclude=none ["a", "/x"]"#, r#"ADD ["t.tar", "/x/"]"#],
        &[r#"COPY ["large/*", "f", "/x/"]"#, r#"COPY ["f", "/x/large"]"#],
        &[r#"COPY --parents ["a/sub/f", "/x/"]"#, r#"COPY ["f", "/x/a/sub/f/"]"#],
    ] {
        let (at_once, one_by_one) = (planned(&bench, &context, steps), planned(&bench, &OneByOne(&context), steps));
        match (&at_once, &one_by_one) {
            (Ok((at_once, _)), Ok((one_by_one, _))) => assert_eq!(at_once, one_by_one, "{steps:?}"),
            (at_once, one_by_one) => {
                let text = |result: &Result<_, String>| result.as_ref().err().cloned();
                assert_eq!(text(at_once), text(one_by_one), "{steps:?}");
            }
        }
    }
}

#[test]
fn a_copy_of_many_files_is_planned_in_no_memory() {
    let bench = Bench::new();
    for number in 0..300 {
        bench.file(&format!("context/{}/{}/{number}", number / 30, number / 10 % 3), "");
    }
    let context = bench.context();
    let (recorder, items) = planned(&bench, &context, &[r#"COPY [".", "/x"]"#]).unwrap();
    assert_eq!((recorder.0.len(), items), (1 + 1 + 10 + 30 + 300, 2));
    let (_, items) = planned(&bench, &context, &[r#"COPY [".", "/x"]"#, r#"COPY ["0", "/x/5/1"]"#]).unwrap();
    // What is in /x and in /x/5, and what came into /x/5/1 beside files.
    assert_eq!(items, 2 + 10 + 3 + 3);
    let (recorder, items) = planned(&bench, &context, &[r#"COPY ["*/*/*1", "*/*/*2", "/x/"]"#]).unwrap();
    assert_eq!((recorder.0.len(), items), (1 + 1 + 60, 2));
}

#[test]
fn files_with_several_names_are_planned_one_by_one() {
    let bench = Bench::new();
    bench.file("context/d/first", "same");
    bench.shell("context/d", "mkdir e; ln first ../../elsewhere");
    let (_, items) = planned(&bench, &bench.context(), &[r#"COPY [".", "/"]"#]).unwrap();
    assert_eq!(items, 2, "the other name is not in the context");
    bench.shell("context/d", "ln first e/second");
    let (recorder, _) = planned(&bench, &bench.context(), &[r#"COPY [".", "/"]"#]).unwrap();
    let kinds = recorder.0.iter().filter_map(|(change, _)| match change {
        Change::Upsert(entry) => Some(&entry.kind),
        _ => None,
    });
    let links: Vec<_> = kinds.filter(|kind| matches!(kind, EntryKind::Hardlink { .. })).collect();
    assert_eq!(links, [&EntryKind::Hardlink { target: "d/e/second".into() }]);
}

/// A context in which files have several names.
fn linked() -> Bench {
    let bench = bench();
    bench.shell(
        "context",
        "ln a/sub/f a/again; ln a/sub/f b/again; mkdir c; ln a/z c/z; ln c/z c/y; ln large/large c/large",
    );
    bench
}

#[test]
fn files_with_several_names_are_those_that_are_planned_by_their_paths() {
    let bench = linked();
    let context = bench.context();
    for steps in [
        &[r#"COPY [".", "/"]"#][..],
        &[r#"COPY ["a", "b", "c", "/x/"]"#],
        &[r#"COPY ["*/*", "/x/"]"#],
        &[r#"COPY --exclude=sub ["a", "/x"]"#, r#"COPY ["c", "/x"]"#],
        &[r#"COPY [".", "/x"]"#, r#"COPY ["f", "/x/a/again"]"#],
        &[r#"COPY [".", "/x"]"#, r#"COPY ["f", "/x/a/again"]"#, r#"COPY ["f", "/x/a/sub/f"]"#],
        &[r#"COPY --parents ["**/z", "./c", "/x"]"#, r#"COPY ["b/*", "/x/c/"]"#],
        &[r#"COPY ["a", "/x"]"#, r#"ADD ["t.tar", "/x/"]"#],
        &[r#"COPY ["c", "/x"]"#, r#"COPY --chmod=600 ["c", "/x"]"#],
        &[r#"COPY ["c", "/there/a"]"#, r#"COPY ["a/z", "/there/a/z/"]"#],
    ] {
        let numbered = planned(&bench, &context, steps).map(|(recorder, _)| recorder);
        let by_path = planned(&bench, &OneByOne(&context), steps).map(|(recorder, _)| recorder);
        assert_eq!(numbered, by_path, "{steps:?}");
    }
}

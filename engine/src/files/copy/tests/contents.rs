//! Are all files copied, as they were when the key was made?

use super::*;

#[test]
fn many_files_are_copied_in_batches() {
    if !root() {
        return;
    }
    let bench = Bench::new();
    for directory in 0..150 {
        for file in 0..20 {
            bench.file(&format!("context/d{directory}/f{file}"), format!("{directory}/{file}"));
        }
    }
    bench.file("context/large", vec![7; 3 << 20]);
    fs::set_permissions(bench.at("context/d7"), fs::Permissions::from_mode(0o500)).unwrap();
    let copied = bench.run(r#"COPY ["", "/all/"]"#).unwrap();
    assert_eq!((copied.files, copied.changed), (3001, vec![]));
    assert_eq!(bench.text("all/d149/f19"), "149/19");
    assert_eq!(fs::metadata(bench.at("image/all/large")).unwrap().len(), 3 << 20);
    bench.run(r#"COPY ["d*/f1*", "/flat/"]"#).unwrap();
    assert_eq!(fs::read_dir(bench.at("image/flat")).unwrap().count(), 11);
    assert_eq!(bench.text("flat/f19"), "99/19", "the last one in the order of the walk");
    let context = bench.context();
    let image = Root::open(&bench.at("image/all")).unwrap();
    let selector = Selector { owners: false, ..Selector::path("") };
    let digests = [&context as &dyn SourceTree, &image].map(|tree| selector.digest(tree).unwrap());
    assert_eq!(digests[0], digests[1], "the copy has the content that the key was made of");
}

#[test]
fn files_that_change_meanwhile_are_told() {
    if !root() {
        return;
    }
    let bench = Bench::new();
    bench.file("context/a", "a");
    bench.file("context/b", "b");
    let context = bench.context();
    bench.file("context/b", "changed");
    let sources: Sources<'_> = BTreeMap::from([(1, &context as &dyn SourceTree)]);
    let copied = apply(&parse(r#"COPY ["", "/"]"#), &sources, &bench.image(), &|_| ()).unwrap();
    assert_eq!(copied.changed, [InnerPath::new("b")]);
}

#[test]
fn files_that_change_within_a_tick_are_told() {
    if !root() {
        return;
    }
    let selector = Selector::path("");
    let size = 3 << 20;
    for (name, before, after) in
        [("small", vec![b'a'; 3], vec![b'b'; 3]), ("large", vec![b'a'; size], vec![b'b'; size])]
    {
        for same in [false, true] {
            let bench = Bench::new();
            let path = bench.file(&format!("context/{name}"), before.clone());
            let context = bench.context();
            selector.digest(&context).unwrap();
            let seen = context.known(&InnerPath::new(name)).unwrap().node.clone();
            // What no metadata tell: times that are those of before. The change time is not to be set, so it is another
            // file that the digest must not be believed of.
            bench.file(&format!("context/{name}"), if same { before.clone() } else { after.clone() });
            let time =
                UNIX_EPOCH + std::time::Duration::new(seen.mtime.seconds.try_into().unwrap(), seen.mtime.nanoseconds);
            File::options().write(true).open(&path).unwrap().set_modified(time).unwrap();
            let sources: Sources<'_> = BTreeMap::from([(1, &context as &dyn SourceTree)]);
            let copied = apply(&parse(r#"COPY ["", "/"]"#), &sources, &bench.image(), &|_| ()).unwrap();
            assert_eq!(copied.changed.is_empty(), same, "{name}");
        }
    }
}

#[test]
fn digests_are_believed_of_settled_files_only() {
    let bench = Bench::new();
    bench.file("context/old", "a");
    std::thread::sleep(std::time::Duration::from_millis(40));
    let young = bench.file("context/young", "a");
    let context = bench.context();
    drop(young);
    let settled = |name: &str| context.known(&InnerPath::new(name)).unwrap().settled;
    assert!(settled("old") && !settled("young"));
}

/// Cuts a file off before it is read to the end that it had, as the builder of a layer that is a file does.
struct Cutter<'a>(&'a Path);

impl Sink for Cutter<'_> {
    type Error = CopyError;

    fn put(&mut self, change: &rbuild_image::Change, filling: Filling<'_>) -> Result<(), CopyError> {
        let Bytes::File(mut file) = filling.bytes else { return Ok(()) };
        File::options().write(true).open(self.0).unwrap().set_len(1 << 20).unwrap();
        let path = InnerPath::new(change.path());
        let mut bytes = vec![0; 3 << 20];
        std::io::Read::read_exact(&mut file, &mut bytes).map_err(|source| CopyError::Write { path, source })
    }
}

#[test]
fn a_large_file_that_becomes_shorter_is_named() {
    let bench = Bench::new();
    let path = bench.file("context/d/large", vec![7; 3 << 20]);
    // Times of just now are not believed.
    std::thread::sleep(std::time::Duration::from_millis(40));
    let context = bench.context();
    // The scan knows the file's digest from now on, so that nobody hashes it again.
    Selector::path("").digest(&context).unwrap();
    let sources: Sources<'_> = BTreeMap::from([(1, &context as &dyn SourceTree)]);
    let mut stage = Stage::over(None, None).unwrap();
    stage.copy(&parse(r#"COPY ["d", "/elsewhere/"]"#), &sources).unwrap();
    let error = stage.carry_out(&mut Cutter(&path), &|_| ()).unwrap_err();
    assert_eq!(error.to_string(), "`/d/large` became shorter while it was copied");
    assert!(error.hint().is_some());
}

//! Does the store survive several processes at once, and processes that die anywhere?
//!
//! The test binary starts itself again: [`child`] plays the part that `ROLE` names.

#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "tests, and what they share")]

use std::fs;
use std::io::{Read, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rbuild_cache::{Form, Image, LayerError, LayerKind, OverlayXattrs, Store, StoreOptions, TarOptions};
use rbuild_core::Digest;
use rbuild_image::{Compression, sha256};

const ROLE: &str = "RBUILD_CACHE_TEST_ROLE";
const ROOT: &str = "RBUILD_CACHE_TEST_ROOT";
const COUNT: u32 = 50;

fn start(role: &str, root: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--nocapture", "--test-threads=1"])
        .env(ROLE, role)
        .env(ROOT, root)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Waits until the child says that it is where it should be.
fn wait_ready(child: &mut Child) {
    let mut seen = Vec::new();
    let output = child.stdout.as_mut().unwrap();
    while !seen.ends_with(b"READY") {
        let mut byte = [0];
        assert_eq!(output.read(&mut byte).unwrap(), 1, "the child ended: {}", String::from_utf8_lossy(&seen));
        seen.push(byte[0]);
    }
}

fn finish(mut child: Child) {
    drop(child.stdin.take());
    let mut output = String::new();
    child.stdout.take().unwrap().read_to_string(&mut output).unwrap();
    assert!(child.wait().unwrap().success(), "{output}");
}

fn ready() {
    print!("READY");
    std::io::stdout().flush().unwrap();
}

fn wait_forever() {
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
}

/// Not a test by itself.
#[test]
fn child() {
    let (Ok(role), Ok(root)) = (std::env::var(ROLE), std::env::var(ROOT)) else { return };
    if role == "forbidden" {
        return open_forbidden(Path::new(&root));
    }
    let store = Store::open(Path::new(&root)).unwrap();
    match role.as_str() {
        "write-a" | "write-b" => write_rows(&store, role.as_bytes()[6]),
        "import" => {
            let tar = big_tar();
            let layer = store.layers().import(&sha256(&tar), &mut tar.as_slice()).unwrap();
            assert_eq!(layer.form, Form::Directory);
        }
        "die-everywhere" => {
            let _lease = store.lease("dying").unwrap();
            let _lock = store.records().try_lock(&Digest::blake3([7; 32])).unwrap().unwrap();
            let snapshot = store.layers().prepare(&[]).unwrap();
            fs::write(snapshot.upper().join("half"), b"half").unwrap();
            let mut blob = store.content().writer().unwrap();
            blob.write_all(b"half").unwrap();
            let mut partial = store.content().resume(&sha256(b"whole")).unwrap();
            partial.write_all(b"who").unwrap();
            ready();
            wait_forever();
            std::mem::forget((snapshot, blob, partial));
        }
        "lease" => {
            let _lease = store.lease("child").unwrap();
            ready();
            wait_forever();
        }
        "full" => fill(&store),
        "rootless" => work_rootless(&Path::new(&root).join("rootless")),
        other => panic!("unknown role {other}"),
    }
}

fn write_rows(store: &Store, who: u8) {
    for index in 0..COUNT {
        let mut id = [who; 32];
        id[1] = index as u8;
        let image = Image { id: Digest::sha256(id), layers: Vec::new(), manifest: None, created: 1, size: 1 };
        store.images().put(&image, &[&format!("{}-{index}", char::from(who)), "latest"]).unwrap();
        let snapshot = store.layers().prepare(&[]).unwrap();
        fs::write(snapshot.upper().join("x"), index.to_string()).unwrap();
        snapshot.commit(LayerKind::Run).unwrap();
    }
}

fn big_tar() -> Vec<u8> {
    let source = tempfile::tempdir().unwrap();
    let store = Store::open(source.path()).unwrap();
    let snapshot = store.layers().prepare(&[]).unwrap();
    for index in 0..200 {
        let path = snapshot.upper().join(index.to_string());
        fs::write(&path, vec![index as u8; 1000]).unwrap();
        let time = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000);
        fs::File::open(&path).unwrap().set_modified(time).unwrap();
    }
    let layer = snapshot.commit(LayerKind::Files).unwrap();
    let mut tar = Vec::new();
    store.layers().write_tar(&layer.id, TarOptions::default(), &mut tar).unwrap();
    tar
}

fn count(store: &Store, name: &str) -> usize {
    fs::read_dir(store.root().join(name)).unwrap().count()
}

#[test]
fn two_processes_write_and_lose_nothing() {
    let root = tempfile::tempdir().unwrap();
    let children: Vec<_> = ["write-a", "write-b"].map(|role| start(role, root.path())).into();
    let store = Store::open(root.path()).unwrap();
    write_rows(&store, b'c');
    children.into_iter().for_each(finish);
    let images = store.images().list().unwrap();
    assert_eq!(images.len(), 3 * COUNT as usize);
    assert!(images.iter().all(|listed| listed.names.iter().any(|name| name != "latest")));
    assert_eq!(images.iter().filter(|listed| listed.names.contains(&"latest".to_owned())).count(), 1);
    let layers = store.layers().list().unwrap();
    assert_eq!((layers.len(), count(&store, "layers-v1")), (3 * COUNT as usize, 3 * COUNT as usize));
    store.reap().unwrap();
    assert_eq!((count(&store, "ingest"), count(&store, "trash")), (0, 0));
}

#[test]
fn the_same_layer_can_be_imported_by_everybody_at_once() {
    let root = tempfile::tempdir().unwrap();
    let store = Store::open(root.path()).unwrap();
    let children: Vec<_> = (0..2).map(|_| start("import", root.path())).collect();
    let tar = big_tar();
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| store.layers().import(&sha256(&tar), &mut tar.as_slice()).unwrap());
        }
    });
    children.into_iter().for_each(finish);
    assert_eq!((count(&store, "layers-v1"), count(&store, "ingest")), (1, 0));
    let layer = store.layers().find_by_diff_id(&sha256(&tar)).unwrap().unwrap();
    let mut again = Vec::new();
    let written = store.layers().write_tar(&layer.id, TarOptions::default(), &mut again).unwrap();
    assert!(again == tar && written.descriptor.media_type == Compression::None.media_type());
}

#[test]
fn a_killed_process_leaves_nothing_that_matters() {
    let root = tempfile::tempdir().unwrap();
    let store = Store::open(root.path()).unwrap();
    let mut child = start("die-everywhere", root.path());
    wait_ready(&mut child);
    let key = Digest::blake3([7; 32]);
    assert_eq!(count(&store, "ingest"), 3);
    store.reap().unwrap();
    assert_eq!(count(&store, "ingest"), 3, "its maker lives");
    assert!(store.records().try_lock(&key).unwrap().is_none());
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(store.records().try_lock(&key).unwrap().is_some(), "locks die with their process");
    let report = store.prune(&rbuild_cache::PrunePolicy::default()).unwrap();
    assert_eq!(report.holders, [], "leases too");
    let left: Vec<_> = fs::read_dir(store.root().join("ingest")).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(left.len() == 1 && left[0].extension().is_some_and(|end| end == "partial"), "{left:?}");
    assert_eq!(store.content().resume(&sha256(b"whole")).unwrap().offset(), 3);
    assert_eq!((count(&store, "layers-v1"), count(&store, "blobs/sha256")), (0, 0));
}

#[test]
fn pruning_says_whose_end_it_waits_for() {
    let root = tempfile::tempdir().unwrap();
    let store = Store::open(root.path()).unwrap();
    let mut child = start("lease", root.path());
    wait_ready(&mut child);
    store.content().put("text/plain", b"unneeded").unwrap();
    let policy = rbuild_cache::PrunePolicy::default();
    let report = store.prune(&policy).unwrap();
    assert_eq!((report.swept.blobs, report.waiting.blobs), (0, 1));
    let holders: Vec<_> = report.holders.iter().map(ToString::to_string).collect();
    assert!(holders.len() == 1 && holders[0].contains(&format!("(process {})", child.id())), "{holders:?}");
    finish(child);
    assert_eq!(store.prune(&policy).unwrap().swept.blobs, 1);
}

#[test]
fn a_full_disk_is_an_error_that_says_so_and_hides_nothing() {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: needs root for a small file system");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let script = r#"mount -t tmpfs -o size=2m none "$1" || exit 77; shift; exec "$@""#;
    let output = Command::new("unshare")
        .args(["-m", "sh", "-c", script, "sh"])
        .arg(directory.path())
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--nocapture", "--test-threads=1"])
        .env(ROLE, "full")
        .env(ROOT, directory.path())
        .output();
    match output {
        Ok(output) if output.status.success() => {}
        Ok(output) if output.status.code() != Some(77) => {
            panic!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
        }
        _ => println!("skipped: cannot mount a tmpfs here"),
    }
}

#[test]
fn a_user_namespace_is_enough() {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: needs root to become nobody");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    std::os::unix::fs::chown(directory.path(), Some(65534), Some(65534)).unwrap();
    let output = Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups", "unshare", "-Urm"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--nocapture", "--test-threads=1"])
        .env(ROLE, "rootless")
        .env(ROOT, directory.path())
        .output();
    match output {
        Ok(output) if output.status.success() && String::from_utf8_lossy(&output.stdout).contains("READY") => {}
        Ok(output) if String::from_utf8_lossy(&output.stderr).contains("panicked") => {
            panic!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
        }
        other => println!("skipped: no user namespace with an overlay here: {other:?}"),
    }
}

#[test]
fn a_store_of_somebody_else_is_refused_with_advice() {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: needs root to become nobody");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    std::os::unix::fs::chown(directory.path(), Some(65534), Some(65534)).unwrap();
    Store::open(&directory.path().join("made")).unwrap();
    std::os::unix::fs::chown(directory.path().join("made/meta-v1"), Some(65534), Some(65534)).unwrap();
    let output = Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--nocapture", "--test-threads=1"])
        .env(ROLE, "forbidden")
        .env(ROOT, directory.path())
        .output();
    match output {
        Ok(output) if String::from_utf8_lossy(&output.stdout).contains("READY") => {}
        Ok(output) if String::from_utf8_lossy(&output.stderr).contains("panicked") => {
            panic!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
        }
        other => println!("skipped: cannot become nobody here: {other:?}"),
    }
}

/// Runs as nobody.
fn open_forbidden(root: &Path) {
    for path in [root.join("made"), "/proc/rbuild".into(), root.join("file")] {
        fs::write(root.join("file"), b"").unwrap();
        let error = Store::open(&path).unwrap_err();
        assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
        assert!(path.ends_with("file") || path.starts_with("/proc") || error.hint().is_some(), "{error:?}");
    }
    ready();
}

/// Runs as the root of a user namespace with a single user.
fn work_rootless(root: &Path) {
    use rbuild_image::{Change, Entry, EntryKind};
    let options = StoreOptions { overlay_xattrs: OverlayXattrs::User, ..StoreOptions::default() };
    let store = Store::open_with(root, options).unwrap();
    let entry = |path: &str, kind| Entry {
        path: path.into(),
        kind,
        mode: 0o755,
        uid: 0,
        gid: 0,
        mtime: rbuild_image::Timestamp::default(),
        xattrs: Default::default(),
    };
    let import = |changes: &[Change]| {
        let mut tar = Vec::new();
        let mut writer = rbuild_image::LayerWriter::new(&mut tar, Compression::None).unwrap();
        for change in changes {
            writer.append(change, &mut std::io::empty()).unwrap();
        }
        writer.finish().unwrap();
        store.layers().import(&sha256(&tar), &mut tar.as_slice()).unwrap().id
    };
    let directory = |path: &str| Change::Upsert(entry(path, EntryKind::Directory));
    let file = |path: &str| Change::Upsert(entry(path, EntryKind::File { size: 0 }));
    let device = Change::Upsert(entry("null", EntryKind::CharDevice { major: 1, minor: 3 }));
    let base = import(&[directory("d"), file("d/old"), file("f"), file("g"), device]);
    let top = import(&[directory("d"), Change::Opaque("d".into()), file("d/new"), Change::Remove("f".into())]);
    assert_eq!(store.layers().changes(&base).unwrap().count(), 4, "devices are left out");
    let snapshot = store.layers().prepare(&[base, top]).unwrap();
    let rbuild_core::MountKind::Overlay { lower, upper: Some(upper) } = snapshot.root_mount().kind else {
        panic!("not writable")
    };
    let lower: Vec<_> = lower.iter().map(|lower| lower.path().to_str().unwrap()).collect();
    let (lower, work) = (lower.join(":"), upper.work.display());
    let options = format!("userxattr,lowerdir={lower},upperdir={},workdir={work}", upper.upper.display());
    let script = r#"set -e
        mkdir merged; mount -t overlay overlay -o "$1" merged || exit 77
        cd merged; test "$(echo * d/*)" = "d g d/new"; rm g; rm -r d; mkdir d; cd ..; umount merged"#;
    let status = Command::new("sh").args(["-c", script, "sh", &options]).current_dir(root).status().unwrap();
    if status.code() == Some(77) {
        return;
    }
    assert!(status.success());
    let layer = store.layers().changes(&snapshot.commit(LayerKind::Run).unwrap().id).unwrap();
    assert_eq!(
        layer.skip(1).map(Result::unwrap).collect::<Vec<_>>(),
        [Change::Opaque("d".into()), Change::Remove("g".into())]
    );
    // The kernel left a work directory with mode 0.
    assert_eq!(count(&store, "trash"), 1);
    store.reap().unwrap();
    assert_eq!((count(&store, "trash"), count(&store, "ingest")), (0, 0));
    ready();
}

/// Runs on a file system of 2 MiB.
fn fill(store: &Store) {
    let hinted = |hint: Option<String>| assert!(hint.unwrap().contains("disk is full"));
    let mut blob = store.content().writer().unwrap();
    let error = blob.write_all(&vec![0; 4 << 20]).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
    drop(blob);

    let mut tar = Vec::new();
    let mut writer = rbuild_image::LayerWriter::new(&mut tar, Compression::None).unwrap();
    for index in 0..40 {
        let entry = rbuild_image::Entry {
            path: format!("file-{index}").into(),
            kind: rbuild_image::EntryKind::File { size: 100_000 },
            mode: 0o644,
            uid: 0,
            gid: 0,
            mtime: rbuild_image::Timestamp::default(),
            xattrs: Default::default(),
        };
        writer.append(&rbuild_image::Change::Upsert(entry), &mut &[1; 100_000][..]).unwrap();
    }
    writer.finish().unwrap();
    let error = store.layers().import(&sha256(&tar), &mut tar.as_slice()).unwrap_err();
    assert!(error.to_string().contains("/file-"), "{error}");
    hinted(error.hint());
    assert!(matches!(&error, LayerError::Store(error) if error.is_full()));
    assert!(store.layers().find_by_diff_id(&sha256(&tar)).unwrap().is_none());

    // Something small works again once the discarded is gone, and the metadata is whole.
    store.reap().unwrap();
    assert_eq!((count(store, "layers-v1"), count(store, "ingest"), count(store, "trash")), (0, 0, 0));
    store.content().put("text/plain", b"small").unwrap();

    let big = vec!["x".repeat(1000); 4000];
    let image = Image { id: sha256(b"1"), layers: Vec::new(), manifest: None, created: 1, size: 1 };
    store.images().put(&image, &["small"]).unwrap();
    let container = rbuild_cache::Container {
        id: "1".into(),
        name: "one".into(),
        image: None,
        layers: Vec::new(),
        created: 1,
        details: serde_json::json!(big),
    };
    let error = store.containers().create(&container).unwrap_err();
    hinted(error.hint());
    assert!(store.containers().resolve("one").unwrap().is_none());
    assert_eq!(store.images().resolve("small").unwrap(), Some(image));
}

//! Which change of which field changes which key?
//!
//! Each row of a table is a row of `docs/cache-keys.md`: a change to one field, and the keys it must reach.

use rbuild_core::{Digest, Platform};
use rbuild_solver::Fingerprint;
use rbuild_solver::graph::{
    CacheSharing, CopyAction, CopySource, ExecDevice, ExecMount, ExecMountKind, ExecOp, FileAction, FileOp, GitOp,
    GitTime, HttpOp, ImageOp, LocalOp, Mode, NetworkMode, Op, Owner, Principal, SecurityMode, Unpack, Variables,
};

use crate::fake::exec;

/// Which keys a change reaches.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Reaches {
    Both,
    /// The definition key only: what the field selects is in the content key by its content.
    Definition,
    Neither,
}
use Reaches::{Both, Definition, Neither};

type Row<T> = (&'static str, Reaches, fn(&mut T));

fn check<T: Clone>(base: &T, op: impl Fn(T) -> Op, rows: &[Row<T>]) {
    let print = |value: &T| Fingerprint::of(op(value.clone()).components());
    let before = print(base);
    let mut seen: Vec<(&str, Digest)> = vec![("the base", before.digest)];
    for (name, expected, change) in rows {
        let mut changed = base.clone();
        change(&mut changed);
        assert_ne!(op(changed.clone()), op(base.clone()), "{name} changes nothing");
        let after = print(&changed);
        let reaches = match (after.digest != before.digest, after.content != before.content) {
            (true, true) => Both,
            (true, false) => Definition,
            (false, false) => Neither,
            (false, true) => panic!("{name} is in the content key alone"),
        };
        assert_eq!(reaches, *expected, "{name}");
        if *expected != Neither {
            if let Some((other, _)) = seen.iter().find(|(_, digest)| *digest == after.digest) {
                panic!("{name} and {other} lead to one key");
            }
            seen.push((name, after.digest));
        }
    }
}

fn variables(pairs: &[(&str, &str)]) -> Variables {
    pairs.iter().copied().collect()
}

fn base_exec() -> ExecOp {
    let Op::Exec(op) = exec(&["/bin/sh", "-c", "make"]) else { unreachable!() };
    let mut op = *op;
    op.env = variables(&[("PATH", "/bin"), ("VERSION", "1")]);
    op.extra_hosts = vec![("mirror".into(), "10.0.0.1".into())];
    op.proxy_env = vec![("HTTP_PROXY".into(), "http://one".into())];
    op
}

#[test]
fn a073_a100_fields_of_exec() {
    check(
        &base_exec(),
        |op| Op::Exec(Box::new(op)),
        &[
            ("argument", Both, |op| op.args[2].push('x')),
            ("one argument more", Both, |op| op.args.push(String::new())),
            ("argument boundary", Both, |op| op.args = vec!["/bin/sh".into(), "-c make".into()]),
            ("env value", Both, |op| op.env = variables(&[("PATH", "/bin"), ("VERSION", "2")])),
            ("env name", Both, |op| op.env = variables(&[("PATH", "/bin"), ("RELEASE", "1")])),
            ("env order", Both, |op| op.env = variables(&[("VERSION", "1"), ("PATH", "/bin")])),
            ("one variable less", Both, |op| op.env = variables(&[("PATH", "/bin")])),
            ("working directory", Both, |op| op.cwd = "/src".into()),
            ("user", Both, |op| op.user = "nobody".into()),
            ("host name", Both, |op| op.hostname = "builder".into()),
            ("network none", Both, |op| op.network = NetworkMode::None),
            ("network host", Both, |op| op.network = NetworkMode::Host),
            ("security", Both, |op| op.security = SecurityMode::Insecure),
            ("extra host name", Both, |op| op.extra_hosts[0].0 = "other".into()),
            ("one extra host more", Both, |op| op.extra_hosts.push(("other".into(), "10.0.0.1".into()))),
            ("extra host address", Neither, |op| op.extra_hosts[0].1 = "10.0.0.2".into()),
            ("A073 proxy variable", Neither, |op| op.proxy_env[0].1 = "http://two".into()),
            ("one proxy variable less", Neither, |op| op.proxy_env.clear()),
            ("size of /dev/shm", Neither, |op| op.shm_size = Some(1 << 20)),
            ("operating system", Both, |op| op.platform.os = "windows".into()),
            ("architecture", Both, |op| op.platform.arch = "arm64".into()),
            ("variant", Both, |op| op.platform.variant = Some("v7".into())),
            ("A106 a device", Both, |op| {
                op.devices = vec![ExecDevice { name: "vendor.com/gpu=0".into(), required: false }];
            }),
            ("A106 a required device", Both, |op| {
                op.devices = vec![ExecDevice { name: "vendor.com/gpu=0".into(), required: true }];
            }),
            ("a mount", Both, |op| {
                op.mounts = vec![ExecMount { target: "/tmp".into(), kind: ExecMountKind::Tmpfs { size: None } }];
            }),
        ],
    );
}

fn with_mount(mount: ExecMount) -> Op {
    Op::Exec(Box::new(ExecOp { mounts: vec![mount], ..base_exec() }))
}

fn mount(kind: ExecMountKind) -> ExecMount {
    ExecMount { target: "/mnt".into(), kind }
}

/// Changes one field of a mount's kind.
macro_rules! field {
    ($kind:ident, $field:ident, $value:expr) => {
        |mount| {
            let ExecMountKind::$kind { $field, .. } = &mut mount.kind else { unreachable!() };
            *$field = $value;
        }
    };
}

#[test]
fn a114_fields_of_a_bind_mount() {
    let base = mount(ExecMountKind::Bind { input: 1, source: "/a".into(), writable: false });
    let rows: &[Row<ExecMount>] = &[
        ("target", Both, |mount| mount.target = "/other".into()),
        ("input", Both, field!(Bind, input, 2)),
        ("writable", Both, field!(Bind, writable, true)),
        ("source", Definition, field!(Bind, source, "/b".into())),
    ];
    check(&base, with_mount, rows);
}

#[test]
fn a120_fields_of_a_cache_mount() {
    let base = mount(ExecMountKind::Cache {
        id: "go".into(),
        sharing: CacheSharing::Shared,
        from: Some(1),
        source: "/a".into(),
        mode: 0o755,
        uid: 0,
        gid: 0,
        read_only: false,
    });
    let rows: &[Row<ExecMount>] = &[
        ("target", Both, |mount| mount.target = "/other".into()),
        ("id", Neither, field!(Cache, id, "cargo".into())),
        ("sharing", Neither, field!(Cache, sharing, CacheSharing::Locked)),
        ("from", Both, field!(Cache, from, Some(2))),
        ("from nothing", Both, field!(Cache, from, None)),
        ("source", Definition, field!(Cache, source, "/b".into())),
        ("mode", Both, field!(Cache, mode, 0o700)),
        ("uid", Both, field!(Cache, uid, 7)),
        ("gid", Both, field!(Cache, gid, 7)),
        ("read-only", Both, field!(Cache, read_only, true)),
    ];
    check(&base, with_mount, rows);
}

#[test]
fn fields_of_a_tmpfs_mount() {
    let base = mount(ExecMountKind::Tmpfs { size: None });
    let rows: &[Row<ExecMount>] =
        &[("target", Both, |mount| mount.target = "/other".into()), ("size", Both, field!(Tmpfs, size, Some(1)))];
    check(&base, with_mount, rows);
}

#[test]
fn fields_of_an_inline_mount() {
    let base = mount(ExecMountKind::Inline { data: b"#!/bin/sh\n".to_vec(), mode: 0o755 });
    let rows: &[Row<ExecMount>] = &[
        ("target", Both, |mount| mount.target = "/other".into()),
        ("content", Both, field!(Inline, data, b"#!/bin/bash\n".to_vec())),
        ("mode", Both, field!(Inline, mode, 0o700)),
    ];
    check(&base, with_mount, rows);
}

#[test]
fn a124_fields_of_a_secret_mount() {
    let base = mount(ExecMountKind::Secret {
        id: "token".into(),
        required: false,
        file: true,
        env: None,
        mode: 0o400,
        uid: 0,
        gid: 0,
    });
    let rows: &[Row<ExecMount>] = &[
        ("target", Both, |mount| mount.target = "/other".into()),
        ("id", Both, field!(Secret, id, "password".into())),
        ("required", Both, field!(Secret, required, true)),
        ("file", Both, field!(Secret, file, false)),
        ("variable", Both, field!(Secret, env, Some("TOKEN".into()))),
        ("mode", Both, field!(Secret, mode, 0o444)),
        ("uid", Both, field!(Secret, uid, 7)),
        ("gid", Both, field!(Secret, gid, 7)),
    ];
    check(&base, with_mount, rows);
}

#[test]
fn a125_fields_of_an_ssh_mount() {
    let base = mount(ExecMountKind::Ssh { id: "default".into(), required: false, mode: 0o600, uid: 0, gid: 0 });
    let rows: &[Row<ExecMount>] = &[
        ("target", Both, |mount| mount.target = "/other".into()),
        ("id", Both, field!(Ssh, id, "work".into())),
        ("required", Both, field!(Ssh, required, true)),
        ("mode", Both, field!(Ssh, mode, 0o666)),
        ("uid", Both, field!(Ssh, uid, 7)),
        ("gid", Both, field!(Ssh, gid, 7)),
    ];
    check(&base, with_mount, rows);
}

fn owned_by(user: Principal, group: Option<Principal>) -> Option<Owner> {
    Some(Owner { user, group })
}

fn base_copy() -> CopyAction {
    CopyAction {
        sources: vec![CopySource::Path { input: 1, path: "src/main.c".into(), written: "./src/main.c".into() }],
        destination: "/app/".into(),
        into_directory: true,
        owner: None,
        mode: None,
        preserve_owner: false,
        unpack: Unpack::Never,
        parents: false,
        exclude: vec!["*.o".into()],
        wildcards: true,
        mtime: None,
    }
}

fn copy(action: CopyAction) -> Op {
    Op::File(FileOp { actions: vec![FileAction::Copy(action)] })
}

/// Changes one field of the first source.
macro_rules! source {
    ($kind:ident, $field:ident, $value:expr) => {
        |copy| {
            let CopySource::$kind { $field, .. } = &mut copy.sources[0] else { unreachable!() };
            *$field = $value;
        }
    };
}

#[test]
fn fields_of_copy() {
    let rows: &[Row<CopyAction>] = &[
        ("destination", Both, |copy| copy.destination = "/other/".into()),
        ("into directory", Both, |copy| copy.into_directory = false),
        ("user by name", Both, |copy| copy.owner = owned_by(Principal::Name("7".into()), None)),
        ("user by number", Both, |copy| copy.owner = owned_by(Principal::Id(7), None)),
        ("group by name", Both, |copy| copy.owner = owned_by(Principal::Id(7), Some(Principal::Name("7".into())))),
        ("group by number", Both, |copy| copy.owner = owned_by(Principal::Id(7), Some(Principal::Id(7)))),
        ("mode", Both, |copy| copy.mode = Some(Mode::Octal(0o755))),
        ("symbolic mode", Both, |copy| copy.mode = Some(Mode::Symbolic("0755".into()))),
        ("preserve owner", Both, |copy| copy.preserve_owner = true),
        ("unpack", Both, |copy| copy.unpack = Unpack::Archives),
        ("parents", Both, |copy| copy.parents = true),
        ("exclude", Both, |copy| copy.exclude[0] = "*.a".into()),
        ("one exclude more", Both, |copy| copy.exclude.push("*.a".into())),
        ("wildcards", Both, |copy| copy.wildcards = false),
        ("mtime", Neither, |copy| copy.mtime = Some(1)),
        ("source input", Both, source!(Path, input, 2)),
        ("source name", Both, source!(Path, path, "src/other.c".into())),
        ("source directory", Definition, source!(Path, path, "lib/main.c".into())),
        ("source as written", Neither, source!(Path, written, "src//main.c".into())),
        ("one source more", Both, |copy| copy.sources.push(copy.sources[0].clone())),
    ];
    check(&base_copy(), copy, rows);
}

#[test]
fn fields_of_copy_with_parents() {
    let base = CopyAction { parents: true, ..base_copy() };
    check(&base, copy, &[("source directory", Both, source!(Path, path, "lib/main.c".into()))]);
}

#[test]
fn fields_of_copy_from_a_heredoc() {
    let inline = CopySource::Inline { name: "motd".into(), data: b"hello\n".to_vec() };
    let base = CopyAction { sources: vec![inline], ..base_copy() };
    let rows: &[Row<CopyAction>] = &[
        ("name", Both, source!(Inline, name, "issue".into())),
        ("content", Both, source!(Inline, data, b"bye\n".to_vec())),
    ];
    check(&base, copy, rows);
}

#[test]
fn fields_of_make_directory() {
    let base = FileAction::MakeDirectory { path: "/app".into(), owner: None, mtime: None };
    macro_rules! set {
        ($field:ident, $value:expr) => {
            |action| {
                let FileAction::MakeDirectory { $field, .. } = action else { unreachable!() };
                *$field = $value;
            }
        };
    }
    let rows: &[Row<FileAction>] = &[
        ("path", Both, set!(path, "/src".into())),
        ("owner", Both, set!(owner, owned_by(Principal::Id(7), None))),
        ("mtime", Neither, set!(mtime, Some(1))),
    ];
    check(&base, |action| Op::File(FileOp { actions: vec![action] }), rows);
}

#[test]
fn order_and_number_of_actions() {
    let directory = |path: &str| FileAction::MakeDirectory { path: path.into(), owner: None, mtime: None };
    let base = vec![directory("/a"), directory("/b")];
    let rows: &[Row<Vec<FileAction>>] = &[
        ("order", Both, |actions| actions.reverse()),
        ("one less", Both, |actions| drop(actions.pop())),
        ("none", Both, Vec::clear),
    ];
    check(&base, |actions| Op::File(FileOp { actions }), rows);
}

#[test]
fn fields_of_image() {
    let platform = Platform { os: "linux".into(), arch: "amd64".into(), variant: None };
    let base = ImageOp { id: Digest::sha256([1; 32]), name: "alpine".into(), platform };
    let rows: &[Row<ImageOp>] = &[
        ("id", Both, |image| image.id = Digest::sha256([2; 32])),
        ("platform", Both, |image| image.platform.arch = "arm64".into()),
        ("name", Neither, |image| image.name = "alpine:3".into()),
    ];
    check(&base, |image| Op::Image(Box::new(image)), rows);
}

#[test]
fn the_selection_of_local_is_its_tree_digest_alone() {
    let base = LocalOp {
        name: "context".into(),
        include: vec!["src".into()],
        wildcards: false,
        parents: false,
        exclude: Vec::new(),
    };
    let rows: &[Row<LocalOp>] = &[
        ("name", Neither, |local| local.name = "docs".into()),
        ("include", Neither, |local| local.include.clear()),
        ("wildcards", Neither, |local| local.wildcards = true),
        ("parents", Neither, |local| local.parents = true),
        ("exclude", Neither, |local| local.exclude.push("*.o".into())),
    ];
    check(&base, Op::Local, rows);
}

#[test]
fn fields_of_http() {
    let base = base_http();
    let rows: &[Row<HttpOp>] = &[
        ("url", Neither, |http| http.url = "https://other.example/a".into()),
        ("name", Both, |http| http.name = "b".into()),
        ("checksum", Both, |http| http.checksum = Some(Digest::sha256([2; 32]))),
        ("mtime", Neither, |http| http.mtime = Some(1)),
    ];
    check(&base, Op::Http, rows);
}

#[test]
fn fields_of_git() {
    let base = base_git();
    let rows: &[Row<GitOp>] = &[
        ("remote", Neither, |git| git.remote = "git@other:a".into()),
        ("reference", Neither, |git| git.reference = Some("v1".into())),
        ("checksum", Neither, |git| git.checksum = Some("ab".into())),
        ("subdir", Both, |git| git.subdir = "b".into()),
        ("keep_git_dir", Both, |git| git.keep_git_dir = true),
        ("submodules", Both, |git| git.submodules = false),
        ("mtime", Both, |git| git.mtime = GitTime::Commit),
        ("fetch_by_commit", Neither, |git| git.fetch_by_commit = true),
    ];
    check(&base, Op::Git, rows);
    let kept = GitOp { keep_git_dir: true, ..base_git() };
    let rows: &[Row<GitOp>] = &[
        ("remote", Both, |git| git.remote = "git@other:a".into()),
        ("reference", Both, |git| git.reference = Some("v1".into())),
    ];
    check(&kept, Op::Git, rows);
}

fn base_http() -> HttpOp {
    let checksum = Some(Digest::sha256([1; 32]));
    HttpOp { url: "https://example.com/a".into(), name: "a".into(), checksum, mtime: None }
}

fn base_git() -> GitOp {
    GitOp {
        remote: "https://example.com/a.git".into(),
        reference: None,
        checksum: None,
        subdir: String::new(),
        keep_git_dir: false,
        submodules: true,
        mtime: GitTime::Checkout,
        fetch_by_commit: false,
    }
}

#[test]
fn kinds_of_op_never_share_a_key() {
    let platform = Platform { os: "linux".into(), arch: "amd64".into(), variant: None };
    let image = ImageOp { id: Digest::sha256([1; 32]), name: String::new(), platform };
    let local =
        LocalOp { name: String::new(), include: Vec::new(), wildcards: false, parents: false, exclude: Vec::new() };
    let file = FileOp { actions: Vec::new() };
    let ops = [
        Op::Scratch,
        Op::Image(Box::new(image)),
        Op::Local(local),
        exec(&[]),
        Op::File(file),
        Op::Merge,
        Op::Http(base_http()),
        Op::Git(base_git()),
    ];
    let digests: std::collections::HashSet<_> = ops.iter().map(|op| Fingerprint::of(op.components()).digest).collect();
    assert_eq!(digests.len(), ops.len());
}

#[test]
fn a_change_is_named_as_a_person_would_name_it() {
    let names = |op: Op| op.components().into_iter().map(|component| component.name.into_owned()).collect::<Vec<_>>();
    let exec = names(Op::Exec(Box::new(base_exec())));
    assert!(exec.contains(&"env VERSION".to_owned()) && exec.contains(&"argument 2".to_owned()), "{exec:?}");
    let second = FileAction::MakeDirectory { path: "/a".into(), owner: None, mtime: None };
    let file = names(Op::File(FileOp { actions: vec![FileAction::Copy(base_copy()), second] }));
    assert!(file.contains(&"source 0 path".to_owned()) && file.contains(&"path (action 1)".to_owned()), "{file:?}");
}

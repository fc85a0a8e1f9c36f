//! What can a vertex do?
//!
//! Plain data. Every text is already expanded, every path inside the image is absolute and cleaned unless said
//! otherwise. Numbers named `input` count a vertex's inputs.

use rbuild_core::{Digest, Platform};
use serde::{Deserialize, Serialize};

use super::Variables;

/// One operation.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Op {
    /// A root file system without anything in it (LLB writes this as input -1). No inputs.
    Scratch,
    /// A base image. No inputs.
    Image(Box<ImageOp>),
    /// Files of a local directory. No inputs.
    Local(LocalOp),
    /// A file at a URL, alone in a root. No inputs.
    Http(HttpOp),
    /// The files of a commit of a git repository, as a root. No inputs.
    Git(GitOp),
    /// A process in a sandbox; input 0 is its root file system, the others are mounted. Output 0 is the root after it.
    Exec(Box<ExecOp>),
    /// Changes to a root file system by our own code; input 0 is the root file system.
    File(FileOp),
    /// The layers of input 0, then those of input 1, and so on: `COPY --link`.
    Merge,
}

/// What executing a vertex takes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Work {
    /// A process in a sandbox.
    Process,
    /// Reading and writing files, by our own code.
    Files,
    /// Waiting for somebody else, if anything.
    Fetch,
}

/// A base image, already resolved.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ImageOp {
    /// The image ID: sha256 of its configuration, which names every layer by its diff ID.
    pub id: Digest,
    /// What the user called it, for messages.
    pub name: String,
    /// The platform it was resolved for.
    pub platform: Platform,
}

/// Selected files of a named local directory. The op's fingerprint is the tree digest of the selection, so each
/// `COPY` has a `Local` of its own and is only invalidated by what it copies.
#[derive(Clone, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
pub struct LocalOp {
    /// `context`, or the name given to `--build-context`.
    pub name: String,
    /// The files whose content matters: context-relative, `/`-separated patterns as the user wrote them, cleaned, of
    /// the same language as [`CopySource::Path`]. Symlinks among them are followed. An empty list selects everything.
    pub include: Vec<String>,
    /// Whether `include` may contain wildcards (`filepath.Match`).
    pub wildcards: bool,
    /// `--parents`: `include` has `**` and the pivot `/./`, its symlinks are not followed, and the modes of the
    /// directories above a match count.
    pub parents: bool,
    /// `--exclude` patterns: `.dockerignore` language, relative to each included source's root.
    pub exclude: Vec<String>,
}

/// A file at a URL. Its content belongs to the op's fingerprint: the checksum, where there is one, else what the worker
/// finds at the URL.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct HttpOp {
    /// `http://…` or `https://…`, without a fragment.
    pub url: String,
    /// What the file is called in its root: one component of a path.
    pub name: String,
    /// The sha256 that its content must have.
    pub checksum: Option<Digest>,
    /// Modification time if the server does not know one, in seconds since the epoch; now if absent.
    pub mtime: Option<i64>,
}

/// Files of a git repository. The commit belongs to the op's fingerprint: the worker asks the repository for it, unless
/// it is written here in full.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct GitOp {
    /// The repository, as `git` wants it: a URL without query and fragment, or `user@host:path`. Never begins with `-`.
    pub remote: String,
    /// A branch, a tag, another ref, or a commit in full; absent: what the repository calls `HEAD`. A valid ref name.
    pub reference: Option<String>,
    /// The commit that it must be, or the beginning of its name: lower-case hexadecimal.
    pub checksum: Option<String>,
    /// The directory that becomes the root, cleaned, without a leading `/`; empty for the whole tree.
    pub subdir: String,
    /// Whether `.git` stays (it never does if there is a `subdir`).
    pub keep_git_dir: bool,
    /// Whether submodules are checked out, too.
    pub submodules: bool,
    /// Which modification time the files get.
    pub mtime: GitTime,
    /// Whether the commit is asked for by its name alone, which `checksum` or `reference` must then give in full.
    pub fetch_by_commit: bool,
}

/// Modification times of files out of a repository, which has none.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub enum GitTime {
    /// When they were checked out.
    #[default]
    Checkout,
    /// When the commit was made.
    Commit,
}

impl GitOp {
    /// The commit, if it is named in full and nobody has to be asked: by the reference, by the checksum.
    pub fn commit(&self) -> Option<&str> {
        let reference = self.reference.as_deref().filter(|reference| is_commit(reference));
        reference.or_else(|| self.checksum.as_deref().filter(|checksum| is_commit(checksum)))
    }
}

/// Whether a text is the whole name of a commit, of either kind of repository.
pub fn is_commit(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// A process to run.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ExecOp {
    /// The command line, shell prefix included.
    pub args: Vec<String>,
    /// The environment.
    pub env: Variables,
    /// Absolute working directory; created if it does not exist.
    pub cwd: String,
    /// `user[:group]` by name or number; empty is root.
    pub user: String,
    /// The sandbox's host name.
    pub hostname: String,
    /// Which network it sees.
    pub network: NetworkMode,
    /// How much it is confined.
    pub security: SecurityMode,
    /// What is mounted besides the root file system, in the order of the instruction.
    pub mounts: Vec<ExecMount>,
    /// Devices of the host that it may use.
    pub devices: Vec<ExecDevice>,
    /// Lines for `/etc/hosts`: name and address. Only the names enter the key.
    pub extra_hosts: Vec<(String, String)>,
    /// Proxy variables: in the environment, never in the key.
    pub proxy_env: Vec<(String, String)>,
    /// `/dev/shm` in bytes; Docker's 64 MiB if absent. Not in the key.
    pub shm_size: Option<u64>,
    /// What it runs on.
    pub platform: Platform,
}

/// `RUN --network`.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum NetworkMode {
    /// Outbound access.
    #[default]
    Default,
    /// Loopback only.
    None,
    /// The host's own network.
    Host,
}

/// `RUN --security`.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum SecurityMode {
    /// Docker's default capabilities and seccomp profile.
    #[default]
    Sandbox,
    /// All capabilities, no filter.
    Insecure,
}

/// One `RUN --device`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ExecDevice {
    /// What the container device interface calls it: `vendor.com/class=name`.
    pub name: String,
    /// Whether the build fails without it.
    pub required: bool,
}

/// One `RUN --mount`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ExecMount {
    /// Absolute path in the sandbox.
    pub target: String,
    /// What is mounted.
    pub kind: ExecMountKind,
}

/// What a `RUN --mount` mounts.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ExecMountKind {
    /// Part of another result or of the context.
    Bind {
        /// Which input.
        input: usize,
        /// Path below that input's root; `/` for all of it.
        source: String,
        /// Whether writes are allowed (they are thrown away afterwards).
        writable: bool,
    },
    /// A directory that outlives the build and is shared between builds.
    Cache {
        /// Its name, global across Dockerfiles.
        id: String,
        /// What happens when two want it at once.
        sharing: CacheSharing,
        /// Which input it starts from when it is first made.
        from: Option<usize>,
        /// Path below that input's root.
        source: String,
        /// Permission bits when it is first made.
        mode: u32,
        /// Owner when it is first made.
        uid: u32,
        /// Group when it is first made.
        gid: u32,
        /// Whether it is mounted read-only.
        read_only: bool,
    },
    /// An empty directory in memory.
    Tmpfs {
        /// Upper bound in bytes.
        size: Option<u64>,
    },
    /// A read-only file that exists nowhere else: the script of a here-document that starts with `#!`.
    Inline {
        /// Its content.
        data: Vec<u8>,
        /// Its permission bits; it belongs to root.
        mode: u32,
    },
    /// A secret, as a file, an environment variable or both.
    Secret {
        /// Its name.
        id: String,
        /// Whether the build fails without it.
        required: bool,
        /// Whether it appears as a file at the mount's target.
        file: bool,
        /// The environment variable that holds it.
        env: Option<String>,
        /// Permission bits of the file.
        mode: u32,
        /// Owner of the file.
        uid: u32,
        /// Group of the file.
        gid: u32,
    },
    /// The socket of an SSH agent, at the mount's target.
    Ssh {
        /// Which agent.
        id: String,
        /// Whether the build fails without it.
        required: bool,
        /// Permission bits of the socket.
        mode: u32,
        /// Owner of the socket.
        uid: u32,
        /// Group of the socket.
        gid: u32,
    },
}

/// `--mount=type=cache,sharing=…`.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum CacheSharing {
    /// Any number of writers.
    #[default]
    Shared,
    /// Each concurrent user gets one of its own.
    Private,
    /// The second user waits.
    Locked,
}

/// An ordered list of changes, which together make one layer.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct FileOp {
    /// The changes.
    pub actions: Vec<FileAction>,
}

/// One change.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum FileAction {
    /// `COPY` and `ADD`.
    Copy(CopyAction),
    /// A directory with its parents, 0755 where they are missing: `WORKDIR`. Existing directories are left alone.
    MakeDirectory {
        /// Absolute path.
        path: String,
        /// Who owns what is created; root if absent.
        owner: Option<Owner>,
        /// Modification time of what is created, in seconds since the epoch; now if absent.
        mtime: Option<i64>,
    },
}

/// A copy of several sources to one destination, with BuildKit's semantics.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CopyAction {
    /// What is copied, in order.
    pub sources: Vec<CopySource>,
    /// Absolute destination path.
    pub destination: String,
    /// Whether the destination was written as a directory (`/` or `.` at its end).
    pub into_directory: bool,
    /// Who owns the copies and created parents; see `preserve_owner` if absent.
    pub owner: Option<Owner>,
    /// Permission bits of the copies; those of the source if absent.
    pub mode: Option<Mode>,
    /// Whether sources keep their owner when `owner` is absent (`COPY --from`); otherwise they become root's.
    pub preserve_owner: bool,
    /// Whether archives are unpacked.
    pub unpack: Unpack,
    /// Whether the sources' parent directories are recreated below the destination (`--parents`).
    pub parents: bool,
    /// What to leave out: `.dockerignore` language, relative to each source's root.
    pub exclude: Vec<String>,
    /// Whether a wildcard in a source is special.
    pub wildcards: bool,
    /// Modification time of created parents and inline files, in seconds since the epoch; now if absent.
    pub mtime: Option<i64>,
}

/// One source of a copy.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum CopySource {
    /// Files of another input.
    Path {
        /// Which input.
        input: usize,
        /// Path or pattern below that input's root, cleaned, without `..`, without a leading `/`; empty is the root.
        /// With `--parents` the pivot stays in it, once, as `a/./b` (or `./b` in front).
        path: String,
        /// The path as the user wrote it, for messages.
        written: String,
    },
    /// A heredoc.
    Inline {
        /// File name if the destination is a directory.
        name: String,
        /// Content.
        data: Vec<u8>,
    },
}

/// `--unpack`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Unpack {
    /// `COPY`, `ADD --unpack=false`.
    Never,
    /// `ADD`: a source file that is a tar archive, compressed or not, is unpacked; any other is copied.
    Archives,
}

/// A user and a group, each by name or number, resolved in the root file system that is changed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Owner {
    /// The user.
    pub user: Principal,
    /// The group; absent: the user's number (`--chown=5`) or the primary group of the named user.
    pub group: Option<Principal>,
}

/// A name or a number.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Principal {
    /// To be looked up in `/etc/passwd` or `/etc/group`.
    Name(String),
    /// A number.
    Id(u32),
}

/// `--chmod`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Mode {
    /// The permission bits, 0 to 0o7777.
    Octal(u32),
    /// `u=rwX,go=rX` and the like, already checked.
    Symbolic(String),
}

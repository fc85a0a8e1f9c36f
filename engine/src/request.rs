//! What does a caller ask for, in types?

use std::path::PathBuf;

use crate::input::Input;

pub use rbuild_solver::graph::NetworkMode;

/// One `rbuild build`.
#[derive(Clone, Debug)]
pub struct BuildRequest {
    /// Where the files of `COPY` come from.
    pub context: ContextSource,
    /// Which Dockerfile; `Dockerfile` (or `dockerfile`) of the context if absent.
    pub dockerfile: Option<DockerfileSource>,
    /// References that the image gets in the local store.
    pub tags: Vec<String>,
    /// `--build-arg`: a name without a value takes it from this process's environment.
    pub build_args: Vec<(String, Option<String>)>,
    /// The stage to build; the last if absent.
    pub target: Option<String>,
    /// Whether no cached result may be used.
    pub no_cache: bool,
    /// Stages whose cached results may not be used.
    pub no_cache_stages: Vec<String>,
    /// The platform of the image, `os/arch[/variant]`; the host's if absent.
    pub platform: Option<String>,
    /// Whether base images are asked for at the registry even if a local one has the name.
    pub pull: bool,
    /// `--build-context NAME=SOURCE`.
    pub build_contexts: Vec<(String, String)>,
    /// Whether ignore files count in contexts that are no directories of the user's.
    pub remote_ignore: RemoteIgnore,
    /// The directory of such a main context that is used instead of its root.
    pub context_subdir: Option<String>,
    /// `--secret`.
    pub secrets: Vec<SecretSource>,
    /// `--ssh`.
    pub ssh: Vec<SshSource>,
    /// `--allow`.
    pub allow: Vec<Entitlement>,
    /// Where device specifications are; the usual directories if empty.
    pub device_specifications: Vec<PathBuf>,
    /// `--add-host`: name and address.
    pub add_hosts: Vec<(String, String)>,
    /// Network of every `RUN` that does not say otherwise.
    pub network: Option<NetworkMode>,
    /// Whether the host's certificate bundle is shown to `RUN`.
    pub host_ca: bool,
    /// `--label`, applied last.
    pub labels: Vec<(String, String)>,
    /// Where the result goes besides the local store.
    pub outputs: Vec<Export>,
    /// Whether the tags are pushed afterwards.
    pub push: bool,
    /// Whether the outcome is to say what was done and why even if nothing was made.
    pub explain: bool,
    /// How many processes may run at once; four per processor and at least 16 if absent.
    pub jobs: Option<usize>,
    /// Size of `/dev/shm` in bytes.
    pub shm_size: Option<u64>,
}

impl BuildRequest {
    /// A build of `context` with nothing else asked for.
    pub fn new(context: ContextSource) -> Self {
        Self {
            context,
            dockerfile: None,
            tags: Vec::new(),
            build_args: Vec::new(),
            target: None,
            no_cache: false,
            no_cache_stages: Vec::new(),
            platform: None,
            pull: false,
            build_contexts: Vec::new(),
            remote_ignore: RemoteIgnore::default(),
            context_subdir: None,
            secrets: Vec::new(),
            ssh: Vec::new(),
            allow: Vec::new(),
            device_specifications: Vec::new(),
            add_hosts: Vec::new(),
            network: None,
            host_ca: false,
            labels: Vec::new(),
            outputs: Vec::new(),
            push: false,
            explain: false,
            jobs: None,
            shm_size: None,
        }
    }
}

/// The build context. [`ContextSource::new`] says which one a word on a command line means.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ContextSource {
    /// A path of this machine: a directory, or a tar archive, compressed or not.
    Local(PathBuf),
    /// A tar archive, compressed or not, or else a Dockerfile without files.
    Stream(Input),
    /// What is at a URL: a tar archive, compressed or not, or else a Dockerfile.
    Http(String),
    /// A git repository, as `URL[#REF[:DIRECTORY]]`.
    Git(String),
    /// No files at all.
    Empty,
}

/// Whether ignore files count in contexts that come as an archive, from a URL or from a repository. Those of local
/// directories always do.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum RemoteIgnore {
    /// They do.
    #[default]
    Apply,
    /// They do not, as in BuildKit.
    Skip,
}

/// The Dockerfile.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum DockerfileSource {
    /// A file: relative to the current directory if the context is a local directory, else inside the context.
    Path(PathBuf),
    /// What is at a URL.
    Http(String),
    /// Text that was read elsewhere, such as standard input.
    Text {
        /// What messages call it.
        name: String,
        /// The text, as bytes that need not be UTF-8.
        text: Vec<u8>,
    },
}

/// One `--secret`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SecretSource {
    /// What `RUN --mount=type=secret,id=…` calls it.
    pub id: String,
    /// Where its value is.
    pub from: SecretFrom,
}

/// Where a secret's value is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum SecretFrom {
    /// In a file of the host.
    File(PathBuf),
    /// In a variable of this process's environment.
    Env(String),
}

/// One `--ssh`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SshSource {
    /// What `RUN --mount=type=ssh,id=…` calls it.
    pub id: String,
    /// A socket, or files with private keys; the agent of this process's environment if empty.
    pub paths: Vec<PathBuf>,
    /// Whether anything may be said to the socket, and not only what asks an agent for signatures.
    pub raw: bool,
}

/// One `--allow`: what a `RUN` may ask for beyond the usual.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Entitlement {
    /// `--network=host`. A build whose own network is the host's has it anyway.
    NetworkHost,
    /// `--security=insecure`.
    SecurityInsecure,
    /// `--device`: this one, or any.
    Device(Option<String>),
}

/// One `--output`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Export {
    /// An OCI image layout as a tar archive; standard output without `dest`.
    Oci {
        /// The archive.
        dest: Option<PathBuf>,
        /// How it is written.
        options: ExportOptions,
    },
    /// A `docker load` archive; standard output without `dest`.
    Docker {
        /// The archive.
        dest: Option<PathBuf>,
        /// How it is written.
        options: ExportOptions,
    },
    /// The root file system as a tar archive; standard output without `dest`.
    Tar {
        /// The archive.
        dest: Option<PathBuf>,
    },
    /// The root file system as a directory.
    Local {
        /// The directory; made if missing, existing files in it are kept unless overwritten.
        dest: PathBuf,
    },
    /// Only the local store, which every build writes to.
    Image {
        /// How the image travels from now on: pushed now or later. Says nothing new if absent, but is a valid `--output`.
        travels: Option<ExportOptions>,
    },
}

/// How an image is written for others.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ExportOptions {
    /// References it carries; the build's tags if empty.
    pub names: Vec<String>,
    /// How new layers are compressed.
    pub compression: LayerCompression,
    /// Compressor level; its default if absent.
    pub level: Option<i32>,
    /// Whether files of new layers that are newer than `SOURCE_DATE_EPOCH` get that time.
    pub rewrite_timestamp: bool,
}

/// How layers are compressed for others.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum LayerCompression {
    /// What every client reads.
    #[default]
    Gzip,
    /// Faster and smaller.
    Zstd,
    /// Plain tar.
    None,
}

/// One `rbuild run`.
#[derive(Clone, Debug, Default)]
pub struct RunRequest {
    /// Name or id of the image; pulled if it is not there.
    pub image: String,
    /// Replaces the image's `CMD`.
    pub command: Vec<String>,
    /// Replaces the image's `ENTRYPOINT` (and clears its `CMD`); an empty list clears it.
    pub entrypoint: Option<Vec<String>>,
    /// `-e`: a name without a value takes it from this process's environment.
    pub env: Vec<(String, Option<String>)>,
    /// `-v HOST:CONTAINER[:ro]`, as written.
    pub volumes: Vec<String>,
    /// `-p [IP:][HOST:]CONTAINER[/tcp]`, as written.
    pub ports: Vec<String>,
    /// Replaces the image's `WORKDIR`.
    pub workdir: Option<String>,
    /// Replaces the image's `USER`.
    pub user: Option<String>,
    /// A name of the user's; a random one if absent.
    pub name: Option<String>,
    /// Host name; the short id if absent.
    pub hostname: Option<String>,
    /// `host`, `none` or `bridge`; `bridge` if absent.
    pub network: Option<String>,
    /// `-t`.
    pub terminal: bool,
    /// `-i`.
    pub stdin: bool,
    /// `--rm`.
    pub remove: bool,
    /// Whether the host's certificate bundle is shown to the process.
    pub host_ca: bool,
    /// `-l`.
    pub labels: Vec<(String, String)>,
    /// `--add-host`: name and address.
    pub add_hosts: Vec<(String, String)>,
}

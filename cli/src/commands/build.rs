//! `rbuild build`: which build does a command line ask for?

mod allow;
mod call;
mod output;
mod report;
mod request;
mod secret;
mod source;
mod ssh;

use std::io::{self, IsTerminal, Write};
use std::mem::ManuallyDrop;
use std::path::{Path, PathBuf};

use clap::Args;
use rbuild_engine::{BuildError, BuildOutcome, Engine, Entitlement, Input, SshSource};

use self::call::{Call, Method};
use self::output::Output;
use self::report::{metadata, report, write_file};
use self::secret::Secret;
use super::why::{self, WhyFormat};
use crate::arguments::unsupported::{Flag, Refuses, Unsupported};
use crate::arguments::values::{self, Assignment};
use crate::failure::Failure;
use crate::progress::{Progress, ProgressMode};
use crate::session::{Session, note, print};

#[derive(Args, Clone, Debug)]
pub struct BuildArgs {
    /// The files that COPY and ADD see: a directory, a tar archive, a git repository (URL#REF:DIRECTORY), the URL of
    /// a tar archive or a Dockerfile, or `-` for either of these on standard input
    #[arg(value_name = "CONTEXT")]
    context: Option<PathBuf>,

    /// Name of the image (repeatable)
    #[arg(short, long = "tag", value_name = "NAME[:TAG]")]
    tags: Vec<String>,

    /// Dockerfile: a path (inside CONTEXT if that is no directory), a URL, or `-` for standard input [default:
    /// CONTEXT/Dockerfile]
    #[arg(short, long, value_name = "PATH")]
    file: Option<PathBuf>,

    /// Set a build argument; without a value, from the environment (repeatable)
    #[arg(long = "build-arg", value_name = "NAME[=VALUE]", value_parser = values::assignment)]
    build_args: Vec<Assignment>,

    /// Stage to build [default: the last]
    #[arg(long, value_name = "STAGE")]
    target: Option<String>,

    /// Where the result goes: PATH, `-` for a tar archive, or attributes joined by commas:
    /// type=oci|docker|tar|local|image|registry dest=PATH name=NAME push=true compression=gzip|zstd|uncompressed
    /// compression-level=N rewrite-timestamp=true
    #[arg(short, long = "output", value_name = "OUTPUT")]
    outputs: Vec<Output>,

    /// Do not use earlier results
    #[arg(long)]
    no_cache: bool,

    /// Do not use earlier results of these stages
    #[arg(long, value_name = "STAGE", value_delimiter = ',')]
    no_cache_filter: Vec<String>,

    /// How progress is shown [default: auto; $BUILDKIT_PROGRESS]
    #[arg(long, value_name = "MODE")]
    progress: Option<ProgressMode>,

    /// Print nothing but the image's ID
    #[arg(short, long)]
    quiet: bool,

    /// Another context or image that the Dockerfile knows by NAME: docker-image://IMAGE,
    /// oci-layout://DIRECTORY[:TAG|@DIGEST], or any CONTEXT but `-`
    #[arg(long = "build-context", value_name = "NAME=SOURCE", value_parser = values::named_source)]
    build_contexts: Vec<(String, String)>,

    /// Use this directory of a context that is an archive or a repository
    #[arg(long, value_name = "DIRECTORY")]
    context_subdir: Option<String>,

    /// Do not look for .dockerignore in contexts that are no local directories, as BuildKit does not
    #[arg(long)]
    no_remote_dockerignore: bool,

    /// Show a secret to RUN --mount=type=secret: id=ID[,src=PATH|,env=NAME]
    #[arg(long = "secret", value_name = "SECRET")]
    secrets: Vec<Secret>,

    /// Show an SSH agent to RUN --mount=type=ssh: default, ID=SOCKET or ID=KEY[,KEY…] (repeatable)
    #[arg(long = "ssh", value_name = "AGENT", value_parser = ssh::source)]
    ssh: Vec<SshSource>,

    /// Let RUN ask for more than the usual: network.host, security.insecure, device[=NAME] (repeatable)
    #[arg(long = "allow", value_name = "ENTITLEMENT", value_parser = allow::entitlement)]
    allow: Vec<Entitlement>,

    /// Directory with device specifications for RUN --device [default: /etc/cdi, /var/run/cdi] (repeatable)
    #[arg(long = "cdi-spec-dir", value_name = "PATH")]
    cdi_spec_dirs: Vec<PathBuf>,

    /// Set a label of the image (repeatable)
    #[arg(long = "label", value_name = "NAME=VALUE", value_parser = values::label)]
    labels: Vec<(String, String)>,

    /// Platform of the image [default: this machine's]
    #[arg(long, value_name = "OS/ARCH")]
    platform: Vec<String>,

    /// Ask the registry for newer base images
    #[arg(long)]
    pull: bool,

    /// Push the image under its names
    #[arg(long)]
    push: bool,

    /// Accepted for Docker's sake: every image is in the store of this machine
    #[arg(long)]
    load: bool,

    /// Network of RUN
    #[arg(long, value_name = "MODE")]
    network: Option<Network>,

    /// Add a line to /etc/hosts of RUN (repeatable)
    #[arg(long = "add-host", value_name = "NAME:ADDRESS", value_parser = values::host)]
    add_hosts: Vec<(String, String)>,

    /// Show this machine's certificates to RUN, so that it trusts whom this machine trusts
    #[arg(long)]
    host_ca: bool,

    /// How many RUNs may go on at once [default: four per processor, at least 16]
    #[arg(short, long, value_name = "N")]
    jobs: Option<std::num::NonZeroUsize>,

    /// Size of /dev/shm in RUN
    #[arg(long, value_name = "BYTES", value_parser = values::size)]
    shm_size: Option<u64>,

    /// Write the image's ID to a file
    #[arg(long, value_name = "PATH")]
    iidfile: Option<PathBuf>,

    /// Write what was built to a file, as JSON
    #[arg(long, value_name = "PATH")]
    metadata_file: Option<PathBuf>,

    /// Only say what is doubtful about the Dockerfile; ends with 1 if something is
    #[arg(long)]
    check: bool,

    /// Say afterwards why each step ran that did, as text or json; `rbuild why` says it later, `rbuild plan` before
    #[arg(
        long,
        value_name = "FORMAT",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "text",
        conflicts_with = "check"
    )]
    explain: Option<WhyFormat>,

    /// Only answer a question about the Dockerfile: check, outline (what can be given to it) or targets (its stages)
    #[arg(long, value_name = "METHOD[,format=json]")]
    call: Option<Call>,

    /// There are no intermediate containers to remove, and no daemon to compress the context for.
    #[arg(long, hide = true)]
    rm: bool,
    #[arg(long, hide = true)]
    force_rm: bool,
    #[arg(long, hide = true)]
    compress: bool,

    #[command(flatten)]
    unsupported: Unsupported<Refused>,
}

/// `--network` of `build`.
#[derive(Clone, Copy, Debug, Eq, PartialEq, clap::ValueEnum)]
enum Network {
    /// This machine's own, for now
    Default,
    /// Loopback only
    None,
    /// This machine's own
    Host,
}

#[derive(Clone, Copy, Debug)]
struct Refused;

/// What a step that wants more than others is to say.
const INSECURE: &str =
    "a step that needs more rights says so, `RUN --security=insecure`, and `--allow security.insecure` permits it";

impl Refuses for Refused {
    const FLAGS: &'static [Flag] = &[
        Flag::value("annotation"),
        Flag::value("attest"),
        Flag::value("build-arg-file").instead("give each as `--build-arg NAME=VALUE`"),
        Flag::value("builder"),
        Flag::value("cache-from"),
        Flag::value("cache-to"),
        Flag::value("cap-add").instead(INSECURE),
        Flag::value("cap-drop"),
        Flag::value("cgroup-parent"),
        Flag::value("cpu-period"),
        Flag::value("cpu-quota"),
        Flag::value("cpu-shares").short('c'),
        Flag::value("cpuset-cpus"),
        Flag::value("cpuset-mems"),
        Flag::value("device")
            .instead("a step that needs a device says so, `RUN --device=NAME`, and `--allow device` permits it"),
        Flag::value("env").instead("write `ENV` in the Dockerfile, or `ARG` and give `--build-arg NAME=VALUE`"),
        Flag::value("from").instead("replace the image that `FROM` names: `--build-context NAME=docker-image://OTHER`"),
        Flag::value("isolation").except("default"),
        Flag::value("memory").short('m'),
        Flag::value("memory-swap"),
        Flag::value("policy"),
        Flag::value("provenance").except("false"),
        Flag::value("resource"),
        Flag::value("sbom").except("false"),
        Flag::value("security-opt"),
        Flag::switch("squash"),
        Flag::value("ulimit"),
        Flag::value("unsetenv").instead("write `ENV NAME=` in the Dockerfile: the variable is empty then"),
        Flag::value("unsetlabel").instead("write `LABEL NAME=` in the Dockerfile: the label is empty then"),
        Flag::value("volume")
            .instead("mount it with `RUN --mount=from=NAME,target=…` and `--build-context NAME=DIRECTORY`"),
    ];
}

impl BuildArgs {
    pub async fn execute(&self, session: &Session) -> Result<(), Failure> {
        let mode = match self.quiet {
            true => ProgressMode::Quiet,
            false => ProgressMode::chosen(self.progress),
        };
        if self.outputs.iter().any(Output::is_stdout) {
            if io::stdout().is_terminal() {
                let failure = Failure::usage("an archive cannot be written to a terminal");
                return Err(failure.hint("redirect standard output, or give the output a `dest`"));
            }
            if self.quiet {
                return Err(Failure::usage("`--quiet` and an `--output` both want standard output"));
            }
        }
        let request = self.request(&Input::new(io::stdin()), |name| std::env::var_os(name).is_some())?;
        match self.call.or(self.check.then_some(Call::CHECK)) {
            Some(call) if call.method == Method::Check => {
                return call::check(&session.engine()?, &request, call).await;
            }
            Some(call) if call.method != Method::Build => {
                return call::describe(&session.engine()?, &request, call).await;
            }
            _ => {}
        }
        if self.load && !self.quiet {
            note("`--load` changes nothing: every image is in the store of this machine");
        }
        // The end of the process closes the database in a fraction of the time.
        let engine = ManuallyDrop::new(session.engine()?);
        let progress = Progress::start(self.title(), mode);
        let reporter = progress.reporter();
        let result = progress.during(engine.build(request, &reporter)).await;
        progress.finish(result.is_ok());
        if let Some(format) = self.explain {
            self.account(&engine, &result, format)?;
        }
        let outcome = result.map_err(|error| self.explain(error))?;
        if !self.quiet {
            report(&outcome, mode);
        }
        if let Some(path) = &self.iidfile {
            write_file(path, &outcome.id.to_string())?;
        }
        if let Some(path) = &self.metadata_file {
            write_file(path, &format!("{:#}\n", metadata(&outcome)))?;
        }
        if self.quiet { print(&format!("{}\n", outcome.id)) } else { Ok(()) }
    }

    /// Shows what was done and why. Of a build that failed it is what was remembered.
    fn account(
        &self,
        engine: &Engine,
        result: &Result<BuildOutcome, BuildError>,
        format: WhyFormat,
    ) -> Result<(), Failure> {
        let context = self.context.as_deref().unwrap_or(Path::new("."));
        let account = match result {
            Ok(outcome) => outcome.account.clone(),
            Err(BuildError::Step { .. }) => engine.past_build(self.file.as_deref(), context)?,
            Err(_) => None,
        };
        let Some(account) = account else { return Ok(()) };
        let text = why::show(&account, None, format);
        if self.quiet || self.outputs.iter().any(Output::is_stdout) {
            // Whoever closed standard error does not want to know.
            drop(io::stderr().write_all(text.as_bytes()));
            return Ok(());
        }
        print(&text)
    }

    /// What progress says of all of it; `BUILDKIT_BUILD_NAME` gives it a name.
    fn title(&self) -> String {
        let name = self.build_args.iter().rfind(|(name, _)| name == "BUILDKIT_BUILD_NAME");
        let value = name.and_then(|(name, value)| value.clone().or_else(|| std::env::var(name).ok()));
        value.filter(|value| !value.is_empty()).map_or_else(|| "Building".to_owned(), |name| format!("Building {name}"))
    }

    /// Adds advice if the context may have been meant as a command.
    pub(super) fn explain(&self, error: BuildError) -> Failure {
        let Some(context) = &self.context else { return error.into() };
        let word = matches!(&error, BuildError::Context { .. } | BuildError::Read { .. })
            && context.components().count() == 1
            && !context.exists();
        let failure = Failure::from(error);
        let name = context.display();
        if word {
            failure.hint(format!("`{name}` is neither a directory nor a command of `rbuild --help`"))
        } else {
            failure
        }
    }
}

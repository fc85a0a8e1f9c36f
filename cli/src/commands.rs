//! What can be done?
//!
//! One module per command or per few alike: clap's description of the arguments, how they become a request, and what
//! is printed of the answer.

pub mod archive;
pub mod build;
mod cause;
pub mod check;
pub mod containers;
pub mod images;
pub mod inspect;
pub mod login;
pub mod plan;
pub mod prune;
pub mod ps;
pub mod run;
mod system;
pub mod transfer;
pub mod why;

use std::str::FromStr;

use clap::Subcommand;
use serde_json::Value;

use crate::failure::Failure;
use crate::interrupt::{block_on, block_on_demand, interruptible};
use crate::session::Session;
use crate::template::Template;

/// The commands, in the order of the help.
// Deferred: the arguments of all the others would only cost time.
#[derive(Debug, Subcommand)]
#[command(defer = true)]
pub enum Command {
    /// Build an image from a Dockerfile
    Build(Box<build::BuildArgs>),
    /// Show what a build would do, without doing it
    Plan(Box<plan::PlanArgs>),
    /// Say why the last build ran what it ran
    Why(why::WhyArgs),
    /// Look for mistakes in a Dockerfile, and repair them
    Check(check::CheckArgs),
    /// Run a command in a new container
    Run(Box<run::RunArgs>),
    /// List containers
    Ps(ps::PsArgs),
    /// Print what a container has written
    Logs(containers::LogsArgs),
    /// Make a container without starting it
    Create(Box<run::RunArgs>),
    /// Start containers that have ended, or were never started
    Start(containers::StartArgs),
    /// End containers: ask, wait, kill
    Stop(containers::StopArgs),
    /// End containers and start them again
    Restart(containers::RestartArgs),
    /// Send a signal to containers
    Kill(containers::KillArgs),
    /// Wait until containers have ended and print their exit codes
    Wait(containers::WaitArgs),
    /// Show where a container's ports are published
    Port(containers::PortArgs),
    /// Remove containers
    Rm(containers::RmArgs),
    /// List images
    Images(images::ImagesArgs),
    /// Give an image another name
    Tag(images::TagArgs),
    /// Remove images
    Rmi(images::RmiArgs),
    /// Show how an image came about
    History(images::HistoryArgs),
    /// Show everything about images or containers
    Inspect(inspect::InspectArgs),
    /// Fetch an image from its registry
    Pull(transfer::PullArgs),
    /// Send an image to its registry
    Push(transfer::PushArgs),
    /// Write images to an archive that `load` and `docker load` read
    Save(archive::SaveArgs),
    /// Read images from an archive of `save`, `docker save` or an OCI layout
    Load(archive::LoadArgs),
    /// Make an image of one layer from a tar archive of a root file system
    Import(archive::ImportArgs),
    /// Remember a user and a password for a registry
    Login(login::LoginArgs),
    /// Forget the credentials for a registry
    Logout(login::LogoutArgs),
    /// Delete what nothing needs
    Prune(prune::PruneArgs),
    /// Show what takes how much room
    Df(prune::DfArgs),
    /// List images, build results and cache mounts with their sizes
    Du(prune::DuArgs),
    /// Count what there is
    Info(system::InfoArgs),
    /// Say what this machine offers and lacks
    Doctor(system::DoctorArgs),
    /// Print a script that completes command lines
    Completion(system::CompletionArgs),
    /// Print the version
    Version(system::VersionArgs),
}

/// What a command does with files that belong to an image's users, which an ordinary user can only touch within a user
/// namespace.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Touches {
    /// It leaves them alone.
    Nothing,
    /// It reads or removes some.
    OldLayers,
    /// It may write some.
    NewLayers,
    /// As `NewLayers`, unless it finds that there is nothing to do: it says so itself once it knows.
    PerhapsNewLayers,
}

impl Command {
    /// What it does with the files of layers.
    pub fn touches(&self) -> Touches {
        match self {
            Self::Build(_) | Self::Plan(_) => Touches::PerhapsNewLayers,
            Self::Run(_)
            | Self::Create(_)
            | Self::Start(_)
            | Self::Restart(_)
            | Self::Pull(_)
            | Self::Load(_)
            | Self::Import(_) => Touches::NewLayers,
            Self::Rm(_) | Self::Rmi(_) | Self::Push(_) | Self::Save(_) | Self::Prune(_) | Self::Df(_) | Self::Du(_) => {
                Touches::OldLayers
            }
            Self::Check(_)
            | Self::Ps(_)
            | Self::Logs(_)
            | Self::Stop(_)
            | Self::Kill(_)
            | Self::Wait(_)
            | Self::Port(_)
            | Self::Info(_)
            | Self::Images(_)
            | Self::Tag(_)
            | Self::History(_)
            | Self::Inspect(_)
            | Self::Why(_)
            | Self::Login(_)
            | Self::Logout(_)
            | Self::Doctor(_)
            | Self::Completion(_)
            | Self::Version(_) => Touches::Nothing,
        }
    }

    /// Does it. An event loop is only started for what waits.
    pub fn execute(&self, session: &Session) -> Result<(), Failure> {
        let prepare = || session.prepare_for(Touches::NewLayers);
        match self {
            Self::Build(arguments) => block_on_demand(arguments.execute(session), prepare),
            Self::Plan(arguments) => block_on_demand(arguments.execute(session), prepare),
            Self::Why(arguments) => arguments.execute(session),
            Self::Check(arguments) => arguments.execute(),
            // It passes signals on once the container runs.
            Self::Run(arguments) => block_on(arguments.execute(session)),
            Self::Ps(arguments) => arguments.execute(session),
            Self::Logs(arguments) => arguments.execute(session),
            Self::Create(arguments) => block_on(interruptible(arguments.create(session))),
            // As `run`, if it attaches.
            Self::Start(arguments) => block_on(arguments.execute(session)),
            Self::Restart(arguments) => block_on(interruptible(arguments.execute(session))),
            Self::Wait(arguments) => block_on(interruptible(arguments.execute(session))),
            Self::Port(arguments) => arguments.execute(session),
            Self::Stop(arguments) => block_on(interruptible(arguments.execute(session))),
            Self::Kill(arguments) => arguments.execute(session),
            Self::Rm(arguments) => block_on(interruptible(arguments.execute(session))),
            Self::Images(arguments) => arguments.execute(session),
            Self::Tag(arguments) => arguments.execute(session),
            Self::Rmi(arguments) => arguments.execute(session),
            Self::History(arguments) => arguments.execute(session),
            Self::Inspect(arguments) => arguments.execute(session),
            Self::Pull(arguments) => block_on(interruptible(arguments.execute(session))),
            Self::Push(arguments) => block_on(interruptible(arguments.execute(session))),
            Self::Save(arguments) => block_on(interruptible(arguments.execute(session))),
            Self::Load(arguments) => block_on(interruptible(arguments.execute(session))),
            Self::Import(arguments) => block_on(interruptible(arguments.execute(session))),
            Self::Login(arguments) => block_on(interruptible(arguments.execute(session))),
            Self::Logout(arguments) => block_on(interruptible(arguments.execute(session))),
            Self::Prune(arguments) => arguments.execute(session),
            Self::Df(arguments) => arguments.execute(session),
            Self::Du(arguments) => arguments.execute(session),
            Self::Info(arguments) => arguments.execute(session),
            Self::Doctor(arguments) => arguments.execute(session),
            Self::Completion(arguments) => arguments.execute(),
            Self::Version(arguments) => arguments.execute(),
        }
    }
}

/// `--format` of the commands that list things.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Format {
    /// Columns.
    #[default]
    Table,
    /// One JSON object per line.
    Json,
    /// What a template says of each object, one per line.
    Template(Template),
}

impl FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "table" => Ok(Self::Table),
            "json" | "{{json .}}" => Ok(Self::Json),
            template if template.contains("{{") => Template::parse(template).map(Self::Template),
            _ => Err("expected table, json or a template such as `{{.ID}}`".to_owned()),
        }
    }
}

impl Format {
    /// The line for an object, unless all of them are to be a table.
    pub fn line(&self, object: &Value) -> Option<String> {
        match self {
            Self::Table => None,
            Self::Json => Some(format!("{object}\n")),
            Self::Template(template) => Some(template.render(object) + "\n"),
        }
    }
}

//! `rbuild info`, `doctor`, `version`: what about this machine?

use clap::{Args, CommandFactory};
use rbuild_core::Platform;
use rbuild_engine::{Engine, Finding, Status};

use crate::arguments::CommandLine;
use crate::diagnostics::Colour;
use crate::failure::Failure;
use crate::human;
use crate::session::{Session, print};

const VERSION: &str = env!("CARGO_PKG_VERSION");

#[derive(Args, Clone, Debug)]
pub struct InfoArgs {}

impl InfoArgs {
    pub fn execute(&self, session: &Session) -> Result<(), Failure> {
        let engine = session.engine()?;
        let (containers, broken) = engine.containers()?;
        let running = containers.iter().filter(|container| matches!(container.status, Status::Running { .. })).count();
        let host = rustix::system::uname();
        let memory = rustix::system::sysinfo();
        let text = format!(
            "Containers: {}\n Running: {running}\n Stopped: {}\nImages: {}\nVersion: {VERSION}\nRoot Dir: {}\n\
             Rootless: {}\nInsecure Registries: {}\nKernel Version: {}\nArchitecture: {}\nCPUs: {}\n\
             Total Memory: {}\n",
            containers.len() + broken.len(),
            containers.len() + broken.len() - running,
            engine.images()?.len(),
            session.root().display(),
            engine.config().rootless,
            engine.config().insecure_registries.join(", "),
            host.release().to_string_lossy(),
            host.machine().to_string_lossy(),
            std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get),
            human::size(memory.totalram.saturating_mul(u64::from(memory.mem_unit))),
        );
        print(&text)
    }
}

#[derive(Args, Clone, Debug)]
pub struct DoctorArgs {}

impl DoctorArgs {
    pub fn execute(&self, session: &Session) -> Result<(), Failure> {
        let mut text = format!("rbuild {VERSION}, state directory {}\n", session.root().display());
        let form = match session.engine_if_there() {
            // To look is no reason to make one.
            Ok(None) => Finding {
                what: "layers",
                ok: true,
                detail: "which form they take is found out by a trial in the state directory, which is not there yet"
                    .to_owned(),
                hint: None,
            },
            Ok(Some(engine)) => engine.layer_form(),
            // What keeps the store from being opened is said where the machine is at fault, and by every other command.
            Err(failure) => Finding {
                what: "layers",
                ok: false,
                detail: "the state directory cannot be opened".to_owned(),
                hint: failure.text(Colour::Plain).map(|text| text.trim_end().replace('\n', "; ")),
            },
        };
        for check in Engine::doctor().into_iter().chain([form]) {
            let mark = if check.ok { "ok     " } else { "missing" };
            text.push_str(&format!("{mark}  {}: {}\n", check.what, check.detail));
            if let Some(hint) = &check.hint {
                text.push_str(&format!("         hint: {hint}\n"));
            }
        }
        print(&text)
    }
}

#[derive(Args, Clone, Debug)]
pub struct CompletionArgs {
    /// Whose language it is in
    shell: clap_complete::Shell,
}

impl CompletionArgs {
    pub fn execute(&self) -> Result<(), Failure> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut CommandLine::command(), "rbuild", &mut script);
        print(&String::from_utf8_lossy(&script))
    }
}

#[derive(Args, Clone, Debug)]
pub struct VersionArgs {}

impl VersionArgs {
    pub fn execute(&self) -> Result<(), Failure> {
        print(&format!("rbuild {VERSION}\n  platform  {}\n", Platform::host()))
    }
}

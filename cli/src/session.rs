//! What does a command run in?

use std::io::{self, Write};
use std::path::PathBuf;

use rbuild_engine::{Config, Engine};

use crate::arguments::Global;
use crate::commands::Touches;
use crate::failure::Failure;

/// The state directory and how it is used.
#[derive(Debug)]
pub struct Session {
    config: Config,
}

impl Session {
    /// Opens nothing yet.
    pub fn new(global: &Global, rootless: bool) -> Self {
        let root = global.root.clone().unwrap_or_else(Engine::default_root);
        let insecure_registries = global.insecure_registries.clone();
        Self { config: Config { root, rootless, insecure_registries, collect: global.gc, layers: global.layers } }
    }

    /// Where the state is.
    pub fn root(&self) -> &PathBuf {
        &self.config.root
    }

    /// Becomes root of a user namespace, if an ordinary user needs that for what a command does with files. To be called
    /// while this process has a single thread.
    pub fn prepare_for(&self, touches: Touches) -> Result<(), Failure> {
        if !self.config.rootless || matches!(touches, Touches::Nothing | Touches::PerhapsNewLayers) {
            return Ok(());
        }
        let hint = "`rbuild doctor` says what this machine lacks";
        let mapping = rbuild_executor::userns::enter().map_err(|error| Failure::error(error, Some(hint.to_owned())))?;
        if let Some(reason) = mapping.single.filter(|_| touches == Touches::NewLayers) {
            note(&format!("only your own user exists in containers and layers, `chown` fails: {reason}"));
        }
        Ok(())
    }

    /// Opens the state directory.
    pub fn engine(&self) -> Result<Engine, Failure> {
        Ok(Engine::open(self.config.clone())?)
    }

    /// The same, but does not make it: `None` if nothing is there.
    pub fn engine_if_there(&self) -> Result<Option<Engine>, Failure> {
        if matches!(self.config.root.try_exists(), Ok(false)) {
            return Ok(None);
        }
        self.engine().map(Some)
    }
}

/// Does something with each name; what goes wrong with one does not keep it from the others.
pub fn each(names: &[String], mut act: impl FnMut(&str) -> Result<(), Failure>) -> Result<(), Failure> {
    let mut failed = None;
    for name in names {
        if let Err(failure) = act(name) {
            failed = Some(failure.after(failed));
        }
    }
    failed.map_or(Ok(()), Err)
}

/// Writes to standard output.
pub fn print(text: &str) -> Result<(), Failure> {
    print_bytes(text.as_bytes())
}

/// The same with what need not be text.
pub fn print_bytes(bytes: &[u8]) -> Result<(), Failure> {
    let mut output = io::stdout().lock();
    output.write_all(bytes).and_then(|()| output.flush()).map_err(|error| match error.kind() {
        io::ErrorKind::BrokenPipe => Failure::Closed,
        _ => Failure::io("cannot write to standard output", error),
    })
}

/// Tells the user, on standard error.
pub fn note(message: &str) {
    // Whoever closed standard error does not want to know.
    drop(writeln!(io::stderr(), "note: {message}"));
}

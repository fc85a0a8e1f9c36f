//! The `rbuild` program: how does a command line become calls of the engine, and their answers text and an exit code?
//!
//! The same program is also started by itself, as the first process of a sandbox (`__init`) and as the watcher of a
//! container in the background (`__monitor`); both are decided before anything else is looked at.

#![expect(unreachable_pub, reason = "a program has no callers; `pub` is for its other modules")]

mod arguments;
mod commands;
mod diagnostics;
mod failure;
mod human;
mod interrupt;
mod progress;
mod report;
mod session;
mod table;
mod template;

use std::env;
use std::ffi::OsString;
use std::io::{self, Write};
use std::panic::{self, PanicHookInfo};
use std::path::Path;
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches};
use tracing_subscriber::EnvFilter;

use crate::arguments::{CommandLine, normalize};
use crate::diagnostics::Colour;
use crate::failure::Failure;
use crate::session::{Session, print};

fn main() -> ExitCode {
    let words: Vec<OsString> = env::args_os().collect();
    match words.get(1).and_then(|word| word.to_str()) {
        Some("__init") => rbuild_executor::init(),
        word => {
            rbuild_executor::let_large_writes_fail();
            if word == Some("__monitor") {
                return monitor(&words[2..]);
            }
        }
    }
    panic::set_hook(Box::new(report_panic));
    rbuild_executor::give_memory_back();
    let code = match run(words) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if let Some(text) = failure.text(Colour::of(&io::stderr())) {
                // Nobody is left to be told if this fails.
                drop(io::stderr().write_all(text.as_bytes()));
            }
            failure.exit_code()
        }
    };
    rbuild_executor::dismiss();
    code
}

fn run(words: Vec<OsString>) -> Result<(), Failure> {
    if words.len() < 2 {
        return print(&CommandLine::command().render_help().to_string());
    }
    let mut top = CommandLine::command();
    let words = normalize(&top, words, |path| Path::new(path).exists())?;
    let matches = top.try_get_matches_from_mut(words);
    // Taking it apart would take a tenth of the time that a short command has.
    std::mem::forget(top);
    let line = match matches.and_then(|mut matches| CommandLine::from_arg_matches_mut(&mut matches)) {
        Ok(line) => line,
        Err(error) => {
            let code = u8::try_from(error.exit_code()).unwrap_or(2);
            // Help goes to standard output, mistakes to standard error; a closed one is no further mistake.
            drop(error.print());
            return if code == 0 { Ok(()) } else { Err(Failure::Code(code)) };
        }
    };
    trace();
    let rootless = !rustix::process::geteuid().is_root();
    // Before the user namespace, in which everybody is root and would get root's state directory.
    let session = Session::new(&line.global, rootless);
    session.prepare_for(line.command.touches())?;
    line.command.execute(&session)
}

/// `rbuild __monitor ROOT root|rootless ID`.
fn monitor(words: &[OsString]) -> ExitCode {
    let [root, mode, id] = words else { return ExitCode::from(2) };
    ExitCode::from(rbuild_engine::monitor(Path::new(root), mode == "rootless", &id.to_string_lossy()))
}

/// Writes traces to standard error if `RBUILD_LOG` says which, as in `RBUILD_LOG=rbuild_engine=debug`.
fn trace() {
    if let Ok(filter) = EnvFilter::try_from_env("RBUILD_LOG") {
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).init();
    }
}

/// What a user sees of a mistake of ours. A backtrace only where it was asked for.
fn report_panic(info: &PanicHookInfo<'_>) {
    let message = info.payload_as_str().unwrap_or("no message");
    let place = info.location().map(ToString::to_string).unwrap_or_default();
    let mut text = format!(
        "error: this is a mistake in rbuild {}: {message} ({place})\n\
         hint: please report it, with the command and the Dockerfile; RUST_BACKTRACE=1 says more\n",
        env!("CARGO_PKG_VERSION"),
    );
    if env::var_os("RUST_BACKTRACE").is_some_and(|value| value != "0") {
        text.push_str(&format!("{}\n", std::backtrace::Backtrace::force_capture()));
    }
    drop(io::stderr().write_all(text.as_bytes()));
}

//! `rbuild start`, `stop`, `kill`, `rm` and their like: what do containers do, and how is that changed?

use std::io::{self, Write};
use std::net::SocketAddr;
use std::time::Duration;

use clap::Args;
use rbuild_core::Stream;
use rbuild_engine::{Engine, LogOptions, PortMapping, Status};

use super::run;
use crate::failure::Failure;
use crate::interrupt::interruptible;
use crate::session::{Session, each, print};

#[derive(Args, Clone, Debug)]
pub struct PortArgs {
    /// Name or ID
    container: String,
    /// Only this port of the container
    #[arg(value_name = "PORT[/tcp]")]
    port: Option<String>,
}

impl PortArgs {
    pub fn execute(&self, session: &Session) -> Result<(), Failure> {
        let container = session.engine()?.container(&self.container)?;
        let address = |port: &PortMapping| SocketAddr::new(port.address, port.host);
        let Some(wanted) = &self.port else {
            let line = |port: &PortMapping| format!("{}/tcp -> {}\n", port.container, address(port));
            return print(&container.ports.iter().map(line).collect::<String>());
        };
        let number = wanted.strip_suffix("/tcp").unwrap_or(wanted);
        let matching = container.ports.iter().filter(|port| port.container.to_string() == number);
        let lines: String = matching.map(|port| format!("{}\n", address(port))).collect();
        if lines.is_empty() {
            return Err(Failure::message(format!(
                "port `{wanted}` of container `{}` is not published",
                self.container
            )));
        }
        print(&lines)
    }
}

#[derive(Args, Clone, Debug)]
pub struct LogsArgs {
    /// Name or ID
    container: String,
    /// Go on until it ends
    #[arg(short, long)]
    follow: bool,
    /// Only the last N lines
    #[arg(short = 'n', long, value_name = "N|all", default_value = "all", hide_default_value = true, value_parser = tail)]
    tail: Tail,
    /// Begin each line with its time
    #[arg(short, long)]
    timestamps: bool,
}

impl LogsArgs {
    pub fn execute(&self, session: &Session) -> Result<(), Failure> {
        let engine = session.engine()?;
        let container = engine.container(&self.container)?;
        let options = LogOptions { follow: self.follow, tail: self.tail.0 };
        let mut closed = false;
        let result = engine.logs(&container, options, &mut |stream, line| {
            let time = if self.timestamps { format!("{} ", line.time) } else { String::new() };
            let text = format!("{time}{}", line.log);
            let written = match stream {
                Stream::Stdout => io::stdout().write_all(text.as_bytes()).and_then(|()| io::stdout().flush()),
                Stream::Stderr => io::stderr().write_all(text.as_bytes()),
            };
            closed = written.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::BrokenPipe);
            written
        });
        if closed { Err(Failure::Closed) } else { Ok(result?) }
    }
}

/// How much of a log is wanted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Tail(Option<usize>);

fn tail(text: &str) -> Result<Tail, String> {
    match text {
        "all" => Ok(Tail(None)),
        number => number.parse().map(|lines| Tail(Some(lines))).map_err(|_| "expected a number or `all`".to_owned()),
    }
}

#[derive(Args, Clone, Debug)]
pub struct StopArgs {
    /// Names or IDs
    #[arg(value_name = "CONTAINER", required = true)]
    containers: Vec<String>,
    /// How long to wait before killing
    #[arg(short, long = "time", visible_alias = "timeout", value_name = "SECONDS", default_value_t = 10)]
    time: u64,
}

#[derive(Args, Clone, Debug)]
pub struct StartArgs {
    /// Names or IDs
    #[arg(value_name = "CONTAINER", required = true)]
    containers: Vec<String>,
    /// Show what it writes, pass signals on, and end with its exit code
    #[arg(short, long)]
    attach: bool,
    /// As --attach; standard input is open if the container was made with it
    #[arg(short, long)]
    interactive: bool,
}

impl StartArgs {
    pub async fn execute(&self, session: &Session) -> Result<(), Failure> {
        let engine = session.engine()?;
        if self.attach || self.interactive {
            let [name] = self.containers.as_slice() else {
                return Err(Failure::usage("only one container can be attached to"));
            };
            return run::attach(&engine, engine.container(name)?).await;
        }
        let start = async |name: &str| {
            let container = engine.container(name)?;
            if !matches!(container.status, Status::Running { .. }) {
                engine.start_detached(&container)?;
            }
            Ok(())
        };
        interruptible(echo(&self.containers, start)).await
    }
}

#[derive(Args, Clone, Debug)]
pub struct RestartArgs {
    /// Names or IDs
    #[arg(value_name = "CONTAINER", required = true)]
    containers: Vec<String>,
    /// How long to wait before killing
    #[arg(short, long = "time", visible_alias = "timeout", value_name = "SECONDS", default_value_t = 10)]
    time: u64,
}

impl RestartArgs {
    pub async fn execute(&self, session: &Session) -> Result<(), Failure> {
        let engine = session.engine()?;
        let restart = async |name: &str| {
            engine.stop(&engine.container(name)?, Duration::from_secs(self.time)).await?;
            engine.start_detached(&engine.container(name)?)?;
            Ok(())
        };
        echo(&self.containers, restart).await
    }
}

#[derive(Args, Clone, Debug)]
pub struct WaitArgs {
    /// Names or IDs
    #[arg(value_name = "CONTAINER", required = true)]
    containers: Vec<String>,
}

impl WaitArgs {
    pub async fn execute(&self, session: &Session) -> Result<(), Failure> {
        let engine = session.engine()?;
        for name in &self.containers {
            // Its ID, since its name may become another's.
            let id = engine.container(name)?.id;
            let code = loop {
                match engine.container(&id)?.status {
                    Status::Exited { code, .. } => break code,
                    Status::Dead { .. } => break 137,
                    Status::Created | Status::Running { .. } => tokio::time::sleep(Duration::from_millis(50)).await,
                }
            };
            print(&format!("{code}\n"))?;
        }
        Ok(())
    }
}

impl StopArgs {
    pub async fn execute(&self, session: &Session) -> Result<(), Failure> {
        let engine = session.engine()?;
        let timeout = Duration::from_secs(self.time);
        let stop = async |name: &str| {
            engine.stop(&engine.container(name)?, timeout).await?;
            Ok(())
        };
        echo(&self.containers, stop).await
    }
}

#[derive(Args, Clone, Debug)]
pub struct KillArgs {
    /// Names or IDs
    #[arg(value_name = "CONTAINER", required = true)]
    containers: Vec<String>,
    /// Name or number
    #[arg(short, long, value_name = "SIGNAL", default_value = "KILL")]
    signal: String,
}

impl KillArgs {
    pub fn execute(&self, session: &Session) -> Result<(), Failure> {
        let engine = session.engine()?;
        each(&self.containers, |name| {
            engine.kill(&engine.container(name)?, &self.signal)?;
            print(&format!("{name}\n"))
        })
    }
}

#[derive(Args, Clone, Debug)]
pub struct RmArgs {
    /// Names or IDs
    #[arg(value_name = "CONTAINER", required = true)]
    containers: Vec<String>,
    /// Kill those that run
    #[arg(short, long)]
    force: bool,
    /// Accepted for Docker's sake: there are no anonymous volumes
    #[arg(short, long, hide = true)]
    volumes: bool,
}

impl RmArgs {
    pub async fn execute(&self, session: &Session) -> Result<(), Failure> {
        let engine: Engine = session.engine()?;
        let remove = async |name: &str| {
            engine.remove_container(name, self.force).await?;
            Ok(())
        };
        echo(&self.containers, remove).await
    }
}

/// Does something to each container and prints its name; what goes wrong with one does not keep it from the others.
async fn echo(names: &[String], act: impl AsyncFn(&str) -> Result<(), Failure>) -> Result<(), Failure> {
    let mut failed = None;
    for name in names {
        match act(name).await {
            Ok(()) => print(&format!("{name}\n"))?,
            Err(failure) => failed = Some(failure.after(failed)),
        }
    }
    failed.map_or(Ok(()), Err)
}

//! `rbuild ps`, `logs`, `stop`, `kill`, `rm`: what do containers do, and how is that changed?

use std::io::{self, Write};
use std::net::SocketAddr;
use std::time::Duration;

use clap::Args;
use rbuild_core::Stream;
use rbuild_engine::{Container, Engine, LogOptions, PortMapping, Status};
use serde_json::{Map, Value, json};

use super::{Format, run};
use crate::arguments::values;
use crate::failure::Failure;
use crate::human::{self, Clock};
use crate::interrupt::interruptible;
use crate::session::{Session, each, print};
use crate::table::Table;

#[derive(Args, Clone, Debug)]
pub struct PsArgs {
    /// Also those that have ended
    #[arg(short, long)]
    all: bool,
    /// Only IDs
    #[arg(short, long)]
    quiet: bool,
    /// Whole IDs and commands
    #[arg(long)]
    no_trunc: bool,
    /// Only the N newest, ended ones included
    #[arg(short = 'n', long, value_name = "N")]
    last: Option<usize>,
    /// Only the newest, even if it has ended
    #[arg(short, long)]
    latest: bool,
    /// Only some: status=STATUS, name=TEXT, id=PREFIX, ancestor=IMAGE, exited=CODE, label=NAME[=VALUE]
    #[arg(short, long = "filter", value_name = "NAME=VALUE", value_parser = values::label)]
    filters: Vec<(String, String)>,
    /// How they are printed: table, json, or a template such as `{{.ID}} {{.Status}}`
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    format: Format,
}

impl PsArgs {
    pub fn execute(&self, session: &Session) -> Result<(), Failure> {
        let filters =
            self.filters.iter().map(|(name, value)| Filter::new(name, value)).collect::<Result<Vec<_>, _>>()?;
        let mut containers = session.engine()?.containers()?;
        containers.retain(|container| filters.iter().all(|filter| filter.matches(container)));
        let named_state = filters.iter().any(|filter| matches!(filter, Filter::Status(_) | Filter::Exited(_)));
        match self.last.or(self.latest.then_some(1)) {
            Some(number) => containers.truncate(number),
            None if self.all || named_state => {}
            None => containers.retain(|container| matches!(container.status, Status::Running { .. })),
        }
        print(&self.text(&containers, Clock::now()))
    }

    fn text(&self, containers: &[Container], clock: Clock) -> String {
        let id = |container: &Container| if self.no_trunc { container.id.clone() } else { short(&container.id) };
        if self.quiet {
            return containers.iter().map(|container| id(container) + "\n").collect();
        }
        let cells = |container: &Container| {
            let command = container.command.join(" ");
            let command = if self.no_trunc { command } else { human::shorten(&command, 20) };
            [
                id(container),
                container.image.clone(),
                format!("\"{command}\""),
                clock.ago(Some(&container.created)),
                status(&container.status, clock),
                ports(&container.ports),
                container.name.clone(),
            ]
        };
        let mut lines = String::new();
        let mut table = Table::new(&["CONTAINER ID", "IMAGE", "COMMAND", "CREATED", "STATUS", "PORTS", "NAMES"]);
        for container in containers {
            let cells = cells(container);
            let [id, image, command, created, status, ports, name] = &cells;
            let labels: Map<String, Value> =
                container.labels.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
            let object = json!({
                "ID": id, "Image": image, "Command": command, "CreatedAt": container.created, "RunningFor": created,
                "State": state(&container.status), "Status": status, "Ports": ports, "Names": name, "Labels": labels,
            });
            match self.format.line(&object) {
                Some(line) => lines.push_str(&line),
                None => table.row(cells),
            }
        }
        if self.format == Format::Table { table.text() } else { lines }
    }
}

/// The first twelve digits of an ID.
fn short(id: &str) -> String {
    id.chars().take(12).collect()
}

/// Docker's word for a state.
fn state(status: &Status) -> &'static str {
    match status {
        Status::Created => "created",
        Status::Running { .. } => "running",
        Status::Exited { .. } => "exited",
        Status::Dead { .. } => "dead",
    }
}

fn status(status: &Status, clock: Clock) -> String {
    match status {
        Status::Created => "Created".to_owned(),
        Status::Running { started, .. } => format!("Up {}", clock.since(started)),
        Status::Exited { code, finished, .. } => format!("Exited ({code}) {}", clock.ago(Some(finished))),
        Status::Dead { .. } => "Dead".to_owned(),
    }
}

fn ports(ports: &[PortMapping]) -> String {
    let one = |port: &PortMapping| format!("{}->{}/tcp", SocketAddr::new(port.address, port.host), port.container);
    ports.iter().map(one).collect::<Vec<_>>().join(", ")
}

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

/// One `--filter` of `ps`.
#[derive(Clone, Debug, Eq, PartialEq)]
enum Filter {
    Status(String),
    Exited(i32),
    Name(String),
    Id(String),
    Ancestor(String),
    Label(String, Option<String>),
}

impl Filter {
    fn new(name: &str, value: &str) -> Result<Self, Failure> {
        let value = value.to_owned();
        Ok(match name {
            "status" => Self::Status(value),
            "exited" => {
                let code = value.parse();
                Self::Exited(code.map_err(|_| Failure::usage(format!("`{value}` is not an exit code")))?)
            }
            "name" => Self::Name(value),
            "id" => Self::Id(value),
            "ancestor" => Self::Ancestor(value),
            "label" => match value.split_once('=') {
                Some((name, value)) => Self::Label(name.to_owned(), Some(value.to_owned())),
                None => Self::Label(value, None),
            },
            _ => return Err(Failure::usage(format!("not supported: --filter {name}={value}"))),
        })
    }

    fn matches(&self, container: &Container) -> bool {
        match self {
            Self::Status(wanted) => state(&container.status) == wanted,
            Self::Exited(wanted) => matches!(&container.status, Status::Exited { code, .. } if code == wanted),
            Self::Name(part) => container.name.contains(part),
            Self::Id(prefix) => container.id.starts_with(prefix),
            Self::Ancestor(image) => {
                container.image == *image || container.image.strip_suffix(":latest") == Some(image)
            }
            Self::Label(name, value) => container
                .labels
                .iter()
                .any(|(known, found)| known == name && value.as_ref().is_none_or(|value| value == found)),
        }
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
            engine.remove_container(&engine.container(name)?, self.force).await?;
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

#[cfg(test)]
mod tests {
    use super::*;

    fn container(name: &str, status: Status) -> Container {
        Container {
            id: format!("{name:0<64}"),
            name: name.to_owned(),
            image: "koa-demo:latest".to_owned(),
            image_id: rbuild_core::Digest::sha256([3; 32]),
            command: vec!["/bin/sh".into(), "-c".into(), "node demos/01.js".into()],
            env: Vec::new(),
            workdir: "/".to_owned(),
            user: String::new(),
            hostname: String::new(),
            network: rbuild_engine::NetworkKind::Bridge,
            ports: vec![PortMapping { address: [0, 0, 0, 0].into(), host: 8080, container: 3000 }],
            volumes: Vec::new(),
            add_hosts: Vec::new(),
            labels: vec![("tier".to_owned(), "web".to_owned())],
            terminal: false,
            stdin: false,
            remove: false,
            host_ca: false,
            stop_signal: None,
            created: "2026-11-22T10:00:00Z".to_owned(),
            status,
        }
    }

    #[test]
    fn table_is_dockers() {
        let arguments = PsArgs {
            all: true,
            quiet: false,
            no_trunc: false,
            last: None,
            latest: false,
            filters: Vec::new(),
            format: Format::Table,
        };
        let started = "2026-11-22T10:00:01Z".to_owned();
        let containers = [
            container("web", Status::Running { pid: 7, started: started.clone() }),
            container("job", Status::Exited { code: 137, started, finished: "2026-11-22T10:02:00Z".to_owned() }),
            container("new", Status::Created),
        ];
        insta::assert_snapshot!(arguments.text(&containers, Clock::at("2026-11-22T10:05:00Z")), @r#"
        CONTAINER ID   IMAGE             COMMAND                  CREATED         STATUS                       PORTS                    NAMES
        web000000000   koa-demo:latest   "/bin/sh -c node dem…"   5 minutes ago   Up 4 minutes                 0.0.0.0:8080->3000/tcp   web
        job000000000   koa-demo:latest   "/bin/sh -c node dem…"   5 minutes ago   Exited (137) 3 minutes ago   0.0.0.0:8080->3000/tcp   job
        new000000000   koa-demo:latest   "/bin/sh -c node dem…"   5 minutes ago   Created                      0.0.0.0:8080->3000/tcp   new
        "#);
        let json = PsArgs { format: Format::Json, ..arguments.clone() };
        insta::assert_snapshot!(json.text(&containers[..1], Clock::at("2026-11-22T10:05:00Z")), @r#"
        {"ID":"web000000000","Image":"koa-demo:latest","Command":"\"/bin/sh -c node dem…\"","CreatedAt":"2026-11-22T10:00:00Z","RunningFor":"5 minutes ago","State":"running","Status":"Up 4 minutes","Ports":"0.0.0.0:8080->3000/tcp","Names":"web","Labels":{"tier":"web"}}
        "#);
        let quiet = PsArgs { quiet: true, ..arguments };
        insta::assert_snapshot!(quiet.text(&containers[2..], Clock::now()), @"new000000000");
        for (filter, expected) in [
            (("status", "exited"), "job"),
            (("exited", "137"), "job"),
            (("name", "we"), "web"),
            (("id", "new0"), "new"),
            (("ancestor", "koa-demo"), "web job new"),
            (("label", "tier"), "web job new"),
            (("label", "tier=db"), ""),
        ] {
            let filter = Filter::new(filter.0, filter.1).unwrap();
            let names: Vec<_> =
                containers.iter().filter(|one| filter.matches(one)).map(|one| one.name.as_str()).collect();
            assert_eq!(names.join(" "), expected, "{filter:?}");
        }
        assert!(Filter::new("volume", "x").is_err());
    }
}

//! `rbuild ps`: which containers are there?

use std::net::SocketAddr;

use clap::Args;
use rbuild_engine::{BrokenContainer, Container, PortMapping, Status};
use serde_json::{Map, Value, json};

use super::Format;
use crate::arguments::values;
use crate::failure::Failure;
use crate::human::{self, Clock};
use crate::session::{Session, note, print};
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
        let (mut containers, broken) = session.engine()?.containers()?;
        for BrokenContainer { id, error } in broken {
            let id = if self.no_trunc { id } else { short(&id) };
            let hint = error.hint().unwrap_or_else(|| format!("`rbuild rm {id}` removes it"));
            note(&format!("container `{id}` is left out: {}; {hint}", rbuild_core::with_causes(&error)));
        }
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

//! What does `rbuild run` start, given an image and what the user asked for?
//!
//! A pure function. Docker's rules: a command replaces `CMD`, `--entrypoint` replaces `ENTRYPOINT` and drops `CMD`,
//! variables are merged by name.

use rbuild_core::Digest;
use rbuild_image::RuntimeConfig;

use super::record::{Container, NetworkKind, Status};
use super::{names, ports, volumes};
use crate::request::RunRequest;

/// What is wrong with a request to run.
#[derive(Debug, thiserror::Error)]
pub enum ConfigureError {
    /// A `-p`.
    #[error(transparent)]
    Port(#[from] ports::PortError),
    /// A `-v`.
    #[error(transparent)]
    Volume(#[from] volumes::VolumeError),
    /// Neither the image nor the user says what to run.
    #[error("no command: `{0}` has neither an entrypoint nor a command")]
    NoCommand(String),
    /// A name Docker would not accept.
    #[error("`{0}` is not a container name: expected two or more of [a-zA-Z0-9_.-], the first a letter or digit")]
    Name(String),
    /// A `--network`.
    #[error("not supported: network `{0}` (`bridge`, `host` and `none` are)")]
    Network(String),
    /// Ports can only be published from a network of the container's own.
    #[error("ports cannot be published with network `{0}`")]
    PortsWithout(&'static str),
    /// `-w`.
    #[error("the working directory `{0}` is not absolute")]
    WorkingDirectory(String),
}

/// Makes the record of a container. `id` must be unique; `host` looks up variables of this process.
pub(crate) fn configure(
    id: &Digest,
    image_id: Digest,
    image: &RuntimeConfig,
    request: &RunRequest,
    host: impl Fn(&str) -> Option<String>,
    now: String,
) -> Result<Container, ConfigureError> {
    let command = command(image, request);
    if command.is_empty() {
        return Err(ConfigureError::NoCommand(request.image.clone()));
    }
    let name = match &request.name {
        Some(name) if names::is_valid(name) => name.clone(),
        Some(name) => return Err(ConfigureError::Name(name.clone())),
        None => names::from_id(id),
    };
    let network = match request.network.as_deref() {
        None | Some("bridge" | "default") => NetworkKind::Bridge,
        Some("host") => NetworkKind::Host,
        Some("none") => NetworkKind::None,
        Some(other) => return Err(ConfigureError::Network(other.to_owned())),
    };
    let mut published = Vec::new();
    for port in &request.ports {
        published.extend(ports::parse(port)?);
    }
    match network {
        NetworkKind::None if !published.is_empty() => return Err(ConfigureError::PortsWithout("none")),
        NetworkKind::Host if !published.is_empty() => return Err(ConfigureError::PortsWithout("host")),
        _ => {}
    }
    let volumes = request.volumes.iter().map(|volume| volumes::parse(volume)).collect::<Result<_, _>>()?;
    let workdir = request.workdir.clone().unwrap_or_else(|| image.working_dir.clone());
    if !workdir.is_empty() && !workdir.starts_with('/') {
        return Err(ConfigureError::WorkingDirectory(workdir));
    }
    let hex = id.hex();
    Ok(Container {
        hostname: request.hostname.clone().unwrap_or_else(|| hex[..12].to_owned()),
        id: hex,
        name,
        image: request.image.clone(),
        image_id,
        command,
        env: environment(image, request, host),
        workdir: if workdir.is_empty() { "/".to_owned() } else { workdir },
        user: request.user.clone().unwrap_or_else(|| image.user.clone()),
        network,
        ports: published,
        volumes,
        add_hosts: request.add_hosts.clone(),
        labels: image.labels.clone().into_iter().chain(request.labels.iter().cloned()).collect(),
        terminal: request.terminal,
        stdin: request.stdin,
        remove: request.remove,
        host_ca: request.host_ca,
        stop_signal: image.stop_signal.clone(),
        created: now,
        status: Status::Created,
    })
}

fn command(image: &RuntimeConfig, request: &RunRequest) -> Vec<String> {
    let (entrypoint, default) = match &request.entrypoint {
        Some(entrypoint) => (Some(entrypoint), None),
        None => (image.entrypoint.as_ref(), image.cmd.as_ref()),
    };
    let arguments = if request.command.is_empty() { default } else { Some(&request.command) };
    [entrypoint, arguments].into_iter().flatten().flatten().cloned().collect()
}

fn environment(
    image: &RuntimeConfig,
    request: &RunRequest,
    host: impl Fn(&str) -> Option<String>,
) -> Vec<(String, String)> {
    const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    let mut variables: Vec<(String, String)> = vec![("PATH".to_owned(), PATH.to_owned())];
    let mut set = |name: &str, value: &str| match variables.iter_mut().find(|(known, _)| known == name) {
        Some((_, old)) => value.clone_into(old),
        None => variables.push((name.to_owned(), value.to_owned())),
    };
    if request.terminal {
        set("TERM", "xterm");
    }
    for variable in &image.env {
        let (name, value) = variable.split_once('=').unwrap_or((variable, ""));
        set(name, value);
    }
    for (name, value) in &request.env {
        if let Some(value) = value.clone().or_else(|| host(name)) {
            set(name, &value);
        }
    }
    variables
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Option<Vec<String>> {
        Some(text.split_whitespace().map(str::to_owned).collect())
    }

    fn made(image: &RuntimeConfig, request: &RunRequest) -> Result<Container, ConfigureError> {
        let id = Digest::sha256([3; 32]);
        configure(&id, id, image, request, |name| (name == "FROM_HOST").then(|| "h".to_owned()), String::new())
    }

    #[test]
    fn a130_command_and_entrypoint_combine_as_docker_does() {
        for (entrypoint, cmd, override_, command, expected) in [
            (None, words("c d"), None, "", "c d"),
            (words("e"), words("c"), None, "", "e c"),
            (words("e"), words("c"), None, "x y", "e x y"),
            (words("e"), words("c"), words("n"), "", "n"),
            (words("e"), words("c"), words("n"), "x", "n x"),
            (words("e"), words("c"), Some(vec![]), "x", "x"),
        ] {
            let image = RuntimeConfig { entrypoint, cmd, ..RuntimeConfig::default() };
            let request =
                RunRequest { entrypoint: override_, command: words(command).unwrap(), ..RunRequest::default() };
            assert_eq!(made(&image, &request).unwrap().command.join(" "), expected);
        }
        assert!(matches!(made(&RuntimeConfig::default(), &RunRequest::default()), Err(ConfigureError::NoCommand(_))));
    }

    /// The table of the Dockerfile reference: what a container runs for each way to write the two.
    #[test]
    fn a133_every_form_of_entrypoint_meets_every_form_of_cmd() {
        let words = |words: &[&str]| Some(words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>());
        let shell = |line: &str| words(&["/bin/sh", "-c", line]);
        let (entry, cmd) = (&["entry", "p1"][..], &["cmd", "p2"][..]);
        for (entrypoint, cmd, expected) in [
            (None, None, None),
            (None, words(cmd), words(cmd)),
            (None, shell("cmd p2"), shell("cmd p2")),
            (shell("entry p1"), None, shell("entry p1")),
            // The shell takes what follows for `$0` and `$1`.
            (shell("entry p1"), words(cmd), words(&["/bin/sh", "-c", "entry p1", "cmd", "p2"])),
            (shell("entry p1"), shell("cmd p2"), words(&["/bin/sh", "-c", "entry p1", "/bin/sh", "-c", "cmd p2"])),
            (words(entry), None, words(entry)),
            (words(entry), words(cmd), words(&["entry", "p1", "cmd", "p2"])),
            (words(entry), shell("cmd p2"), words(&["entry", "p1", "/bin/sh", "-c", "cmd p2"])),
            // What clears an inherited value is as good as none.
            (Some(Vec::new()), words(cmd), words(cmd)),
            (words(entry), Some(Vec::new()), words(entry)),
            (Some(Vec::new()), Some(Vec::new()), None),
        ] {
            let image = RuntimeConfig { entrypoint, cmd, ..RuntimeConfig::default() };
            match (made(&image, &RunRequest::default()), expected) {
                (Ok(container), Some(expected)) => assert_eq!(container.command, expected),
                (Err(ConfigureError::NoCommand(_)), None) => {}
                (found, expected) => panic!("{image:?}: {found:?} instead of {expected:?}"),
            }
        }
    }

    #[test]
    fn variables_are_merged_by_name() {
        let image =
            RuntimeConfig { env: vec!["PATH=/x".into(), "A=1".into()], cmd: words("c"), ..RuntimeConfig::default() };
        let env = [("A", Some("2")), ("FROM_HOST", None), ("UNSET", None)];
        let request = RunRequest {
            env: env.into_iter().map(|(name, value)| (name.to_owned(), value.map(str::to_owned))).collect(),
            ..RunRequest::default()
        };
        let container = made(&image, &request).unwrap();
        let shown: Vec<_> = container.env.iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(shown, ["PATH=/x", "A=2", "FROM_HOST=h"]);
        assert_eq!(container.workdir, "/");
    }

    #[test]
    fn impossible_requests_are_refused() {
        let image = RuntimeConfig { cmd: words("c"), ..RuntimeConfig::default() };
        let request = |network: &str| RunRequest {
            network: Some(network.into()),
            ports: vec!["1:1".into()],
            ..RunRequest::default()
        };
        assert!(matches!(made(&image, &request("host")), Err(ConfigureError::PortsWithout("host"))));
        assert!(matches!(made(&image, &request("none")), Err(ConfigureError::PortsWithout("none"))));
        assert!(matches!(made(&image, &request("mynet")), Err(ConfigureError::Network(_))));
        let named = RunRequest { name: Some("-x".into()), ..RunRequest::default() };
        assert!(matches!(made(&image, &named), Err(ConfigureError::Name(_))));
        let relative = RunRequest { workdir: Some("x".into()), ..RunRequest::default() };
        assert!(matches!(made(&image, &relative), Err(ConfigureError::WorkingDirectory(_))));
    }
}

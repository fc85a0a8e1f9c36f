//! What does `rbuild inspect` say of a container?
//!
//! Docker's shape, as far as rbuild has the thing.

use serde_json::{Value, json};

use super::record::{Container, NetworkKind, Status};
use crate::engine::Engine;

impl Engine {
    /// Describes a container.
    pub fn inspect_container(&self, container: &Container) -> Value {
        let (status, pid, code, started, finished, error) = match &container.status {
            Status::Created => ("created", 0, 0, "", "", ""),
            Status::Running { pid, started } => ("running", *pid, 0, started.as_str(), "", ""),
            Status::Exited { code, started, finished } => ("exited", 0, *code, started.as_str(), finished.as_str(), ""),
            Status::Dead { reason } => ("dead", 0, 137, "", "", reason.as_str()),
        };
        let network = match container.network {
            NetworkKind::Bridge => "bridge",
            NetworkKind::Host => "host",
            NetworkKind::None => "none",
        };
        let mut ports = serde_json::Map::new();
        for port in &container.ports {
            let binding = json!({ "HostIp": port.address.to_string(), "HostPort": port.host.to_string() });
            let bindings = ports.entry(format!("{}/tcp", port.container)).or_insert_with(|| json!([]));
            if let Some(bindings) = bindings.as_array_mut() {
                bindings.push(binding);
            }
        }
        let mounts: Vec<_> = container
            .volumes
            .iter()
            .map(|volume| {
                let mode = if volume.read_only { "ro" } else { "rw" };
                json!({ "Type": "bind", "Source": volume.source, "Destination": volume.target, "Mode": mode,
                        "RW": !volume.read_only })
            })
            .collect();
        let env: Vec<_> = container.env.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let labels: serde_json::Map<_, _> =
            container.labels.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
        json!({
            "Id": container.id,
            "Created": container.created,
            "Path": container.command.first(),
            "Args": container.command.get(1..).unwrap_or_default(),
            "State": {
                "Status": status, "Running": status == "running", "Paused": false, "Dead": status == "dead",
                "Pid": pid, "ExitCode": code, "Error": error, "StartedAt": started, "FinishedAt": finished,
            },
            "Image": container.image_id,
            "Name": format!("/{}", container.name),
            "RestartCount": 0,
            "LogPath": self.places(&container.id).log(),
            "HostConfig": {
                "AutoRemove": container.remove, "NetworkMode": network, "PortBindings": ports,
            },
            "Mounts": mounts,
            "Config": {
                "Hostname": container.hostname, "User": container.user, "Tty": container.terminal,
                "OpenStdin": container.stdin, "Env": env, "Cmd": container.command, "Image": container.image,
                "WorkingDir": container.workdir, "Labels": labels, "StopSignal": container.stop_signal,
            },
            "NetworkSettings": { "Ports": ports, "Networks": { network: {} } },
        })
    }
}

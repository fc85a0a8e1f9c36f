//! What changes in a sandbox that gets a device?
//!
//! Of what a specification can ask for, nodes, bind mounts, variables and groups are done. The rest would have to be done
//! by a container runtime, and is refused by name rather than left out.

use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;

use super::DeviceError;

/// A node of the host, and where the sandbox has it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Node {
    pub(crate) source: PathBuf,
    pub(crate) target: PathBuf,
}

/// Files of the host, and where the sandbox has them.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Bind {
    pub(crate) source: PathBuf,
    pub(crate) target: PathBuf,
    pub(crate) read_only: bool,
    pub(crate) recursive: bool,
}

/// What devices bring along, in order.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Edits {
    pub(crate) env: Vec<(String, String)>,
    pub(crate) nodes: Vec<Node>,
    pub(crate) binds: Vec<Bind>,
    pub(crate) groups: Vec<u32>,
}

/// `containerEdits` as they are written.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Written {
    env: Vec<String>,
    device_nodes: Vec<WrittenNode>,
    mounts: Vec<WrittenMount>,
    #[serde(rename = "additionalGids")]
    groups: Vec<u32>,
    #[serde(flatten)]
    other: serde_json::Map<String, Value>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct WrittenNode {
    path: PathBuf,
    host_path: Option<PathBuf>,
    r#type: Option<String>,
    major: Option<u64>,
    minor: Option<u64>,
    file_mode: Option<u32>,
    permissions: Option<String>,
    uid: Option<u32>,
    gid: Option<u32>,
    #[serde(flatten)]
    other: serde_json::Map<String, Value>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct WrittenMount {
    host_path: PathBuf,
    container_path: PathBuf,
    r#type: Option<String>,
    options: Vec<String>,
    #[serde(flatten)]
    other: serde_json::Map<String, Value>,
}

impl Edits {
    /// Adds the `containerEdits` of a file or a device.
    pub(super) fn add(&mut self, device: &str, file: &Path, edits: &Value) -> Result<(), DeviceError> {
        if edits.is_null() {
            return Ok(());
        }
        let malformed = |source| DeviceError::Malformed { path: file.to_owned(), source };
        let written: Written = Written::deserialize(edits).map_err(malformed)?;
        known(device, &written.other)?;
        for variable in &written.env {
            let (name, value) = variable.split_once('=').unwrap_or((variable, ""));
            self.env.push((name.to_owned(), value.to_owned()));
        }
        for node in &written.device_nodes {
            self.nodes.push(checked(device, node)?);
        }
        for mount in &written.mounts {
            self.binds.push(bind(device, mount)?);
        }
        self.groups.extend(&written.groups);
        Ok(())
    }
}

fn unsupported(device: &str, what: impl Into<String>) -> DeviceError {
    DeviceError::Unsupported { device: device.to_owned(), what: what.into() }
}

/// Refuses what has no field above, unless it says nothing.
fn known(device: &str, other: &serde_json::Map<String, Value>) -> Result<(), DeviceError> {
    let says = |value: &Value| match value {
        Value::Null => false,
        Value::Array(items) => !items.is_empty(),
        _ => true,
    };
    match other.iter().find(|(_, value)| says(value)) {
        Some((name, _)) => Err(unsupported(device, name)),
        None => Ok(()),
    }
}

/// A node is bound, not made, so it is what it is on the host.
fn checked(device: &str, node: &WrittenNode) -> Result<Node, DeviceError> {
    known(device, &node.other)?;
    let source =
        node.host_path.clone().filter(|path| !path.as_os_str().is_empty()).unwrap_or_else(|| node.path.clone());
    let wrong = |problem: String| DeviceError::Node { device: device.to_owned(), path: source.clone(), problem };
    if let Some(permissions) = node.permissions.as_deref().filter(|text| !text.is_empty())
        && !(permissions.contains('r') && permissions.contains('w'))
    {
        return Err(unsupported(
            device,
            format!("`{}` with no more permissions than `{permissions}`", node.path.display()),
        ));
    }
    let found = std::fs::metadata(&source).map_err(|error| wrong(format!("which cannot be looked at: {error}")))?;
    let kind = match found.file_type() {
        kind if kind.is_char_device() => "c",
        kind if kind.is_block_device() => "b",
        kind if kind.is_fifo() => "p",
        _ => return Err(wrong("which is no device".to_owned())),
    };
    // `u` is an unbuffered character device.
    let wanted =
        node.r#type.as_deref().filter(|kind| !kind.is_empty()).map(|kind| if kind == "u" { "c" } else { kind });
    let number = found.rdev();
    let (major, minor) = (u64::from(rustix::fs::major(number)), u64::from(rustix::fs::minor(number)));
    for (what, same) in [
        ("type", wanted.is_none_or(|wanted| wanted == kind)),
        // A specification that leaves a number out may have a zero there.
        (
            "number",
            (node.major.unwrap_or(0), node.minor.unwrap_or(0)) == (0, 0)
                || (node.major, node.minor) == (Some(major), Some(minor)),
        ),
        ("mode", node.file_mode.is_none_or(|mode| mode & 0o7777 == found.mode() & 0o7777)),
        ("owner", node.uid.is_none_or(|uid| uid == found.uid()) && node.gid.is_none_or(|gid| gid == found.gid())),
    ] {
        if !same {
            return Err(wrong(format!("whose {what} on this machine is not what its specification says")));
        }
    }
    Ok(Node { source, target: node.path.clone() })
}

fn bind(device: &str, mount: &WrittenMount) -> Result<Bind, DeviceError> {
    known(device, &mount.other)?;
    let target = mount.container_path.clone();
    if let Some(kind) = mount.r#type.as_deref().filter(|kind| !matches!(*kind, "" | "none" | "bind")) {
        return Err(unsupported(device, format!("a mount of type `{kind}` at `{}`", target.display())));
    }
    let mut bind = Bind { source: mount.host_path.clone(), target, read_only: false, recursive: false };
    for option in &mount.options {
        match option.as_str() {
            "ro" => bind.read_only = true,
            "rbind" => bind.recursive = true,
            // All mounts of a sandbox are private and without devices. A program of the host that is set-user-ID is no
            // more than the same program in the image: the sandbox's capabilities bound both.
            "rw" | "bind" | "nodev" | "nosuid" | "private" | "rprivate" | "slave" | "rslave" => {}
            other => return Err(unsupported(device, format!("mount option `{other}` at `{}`", bind.target.display()))),
        }
    }
    Ok(bind)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add(edits: &str) -> Result<Edits, String> {
        let mut all = Edits::default();
        let edits: Value = serde_json::from_str(edits).unwrap();
        all.add("v/c=d", Path::new("spec.json"), &edits).map(|()| all).map_err(|error| error.to_string())
    }

    #[test]
    fn a106_edits_are_taken_or_refused() {
        let all = add(
            r#"{"env": ["A=1=2", "B"], "additionalGids": [44], "hooks": [], "intelRdt": null,
                "deviceNodes": [{"path": "/dev/null", "type": "c", "major": 1, "minor": 3, "permissions": "rw"},
                                {"path": "/dev/x", "hostPath": "/dev/zero"}],
                "mounts": [{"hostPath": "/lib", "containerPath": "/opt/lib", "options": ["ro", "nosuid", "nodev", "rbind", "rprivate"]}]}"#,
        )
        .unwrap();
        let node = |source: &str, target: &str| Node { source: source.into(), target: target.into() };
        assert_eq!(all.env, [("A".to_owned(), "1=2".to_owned()), ("B".to_owned(), String::new())]);
        assert_eq!(all.nodes, [node("/dev/null", "/dev/null"), node("/dev/zero", "/dev/x")]);
        assert_eq!(
            all.binds,
            [Bind { source: "/lib".into(), target: "/opt/lib".into(), read_only: true, recursive: true }]
        );
        assert_eq!(all.groups, [44]);
        let no = "device `v/c=d` wants what is not supported: ";
        let odd = "device `v/c=d` consists of ";
        for (edits, expected) in [
            (r#"{"intelRdt": {"closID": "x"}}"#, format!("{no}intelRdt")),
            (r#"{"netDevices": [{"hostInterfaceName": "x"}]}"#, format!("{no}netDevices")),
            (
                r#"{"mounts": [{"hostPath": "/a", "containerPath": "/b", "type": "tmpfs"}]}"#,
                format!("{no}a mount of type `tmpfs` at `/b`"),
            ),
            (
                r#"{"mounts": [{"hostPath": "/a", "containerPath": "/b", "options": ["shared"]}]}"#,
                format!("{no}mount option `shared` at `/b`"),
            ),
            (
                r#"{"deviceNodes": [{"path": "/dev/null", "permissions": "r"}]}"#,
                format!("{no}`/dev/null` with no more permissions than `r`"),
            ),
            (r#"{"deviceNodes": [{"path": "/dev"}]}"#, format!("{odd}`/dev`, which is no device")),
            (
                r#"{"deviceNodes": [{"path": "/dev/null", "type": "b"}]}"#,
                format!("{odd}`/dev/null`, whose type on this machine is not what its specification says"),
            ),
            (
                r#"{"deviceNodes": [{"path": "/dev/null", "major": 9, "minor": 9}]}"#,
                format!("{odd}`/dev/null`, whose number on this machine is not what its specification says"),
            ),
            (
                r#"{"deviceNodes": [{"path": "/dev/null", "fileMode": 1}]}"#,
                format!("{odd}`/dev/null`, whose mode on this machine is not what its specification says"),
            ),
            (
                r#"{"deviceNodes": [{"path": "/dev/null", "uid": 7}]}"#,
                format!("{odd}`/dev/null`, whose owner on this machine is not what its specification says"),
            ),
            (r#"{"env": 1}"#, "`spec.json` is not a device specification".to_owned()),
        ] {
            assert_eq!(add(edits).unwrap_err(), expected, "{edits}");
        }
        let missing = add(r#"{"deviceNodes": [{"path": "/dev/no such"}]}"#).unwrap_err();
        assert!(
            missing.starts_with("device `v/c=d` consists of `/dev/no such`, which cannot be looked at: "),
            "{missing}"
        );
    }
}

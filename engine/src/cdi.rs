//! Which devices of this machine does `RUN --device` mean?
//!
//! Specifications of the container device interface (CDI), JSON files that drivers leave in `/etc/cdi` and
//! `/var/run/cdi`, say what a device consists of: nodes below `/dev`, libraries to mount, variables. `vendor.com/gpu=0`
//! names one device, `vendor.com/gpu` the first of its kind, `vendor.com/gpu=*` all of them; a name no device has may be
//! that of a class, which is an annotation of BuildKit's.
//!
//! A directory hides equal names of those before it. Nothing is read until a step asks for a device.

mod edits;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use rbuild_frontend::Diagnostic;
use rbuild_solver::graph::{ExecDevice, Graph, Op};
use serde::Deserialize;
use serde_json::Value;

pub(crate) use self::edits::Edits;
use crate::request::Entitlement;

/// Where specifications are, unless somebody says otherwise.
const DIRECTORIES: [&str; 2] = ["/etc/cdi", "/var/run/cdi"];

const CLASS: &str = "org.mobyproject.buildkit.device.class";
const AUTO_ALLOW: &str = "org.mobyproject.buildkit.device.autoallow";

/// Why a device cannot be given to a step.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// A specification cannot be read.
    #[error("cannot read the device specification `{}`", path.display())]
    Read {
        /// The file or directory.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A specification is none.
    #[error("`{}` is not a device specification", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: serde_json::Error,
    },
    /// Not `vendor/class[=name]`.
    #[error("`{0}` is not the name of a device: expected VENDOR/CLASS=NAME")]
    Name(String),
    /// Nobody describes it.
    #[error("there is no device `{name}`: no specification in {places} describes it")]
    Unknown {
        /// The device.
        name: String,
        /// Where was looked.
        places: String,
        /// A file that could not be understood, and may have been the one.
        yaml: Option<PathBuf>,
    },
    /// Two files of one directory describe it.
    #[error("device `{0}` is described twice")]
    Ambiguous(String),
    /// The user has not allowed it.
    #[error("device `{0}` is not allowed for this build")]
    Forbidden(String),
    /// Something in a specification that rbuild cannot do.
    #[error("device `{device}` wants what is not supported: {what}")]
    Unsupported {
        /// The device.
        device: String,
        /// What.
        what: String,
    },
    /// Something else is where a node should be.
    #[error("device `{device}` consists of `{}`, {problem}", path.display())]
    Node {
        /// The device.
        device: String,
        /// The node on the host.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
}

impl DeviceError {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Forbidden(name) => Some(format!("`--allow device={name}` on the command line allows it")),
            Self::Unknown { yaml: Some(path), .. } => {
                Some(format!("`{}` was not read: rbuild takes specifications in JSON only", path.display()))
            }
            _ => None,
        }
    }
}

/// One file.
#[derive(Debug, Deserialize)]
struct Specification {
    kind: String,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
    devices: Vec<Described>,
    #[serde(default, rename = "containerEdits")]
    edits: Value,
}

/// One device of a file. Its edits are looked at when it is used: nobody needs all devices of a machine.
#[derive(Debug, Deserialize)]
struct Described {
    name: String,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
    #[serde(default, rename = "containerEdits")]
    edits: Value,
}

/// Where a device is described.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Place {
    directory: usize,
    file: usize,
    device: usize,
    twice: bool,
}

/// The devices of this machine, and which of them the build may use.
#[derive(Debug, Default)]
pub(crate) struct Devices {
    directories: Vec<PathBuf>,
    files: Vec<(PathBuf, Specification)>,
    /// By qualified name.
    places: BTreeMap<String, Place>,
    yaml: Option<PathBuf>,
    allowed: Vec<Option<String>>,
}

impl Devices {
    /// Reads the specifications if a step of the graph asks for a device.
    pub(crate) fn of(graph: &Graph, directories: &[PathBuf], allow: &[Entitlement]) -> Result<Self, DeviceError> {
        if graph.vertices().all(|(_, vertex)| !matches!(&vertex.op, Op::Exec(exec) if !exec.devices.is_empty())) {
            return Ok(Self::default());
        }
        let directories = match directories {
            [] => DIRECTORIES.map(PathBuf::from).to_vec(),
            given => given.to_vec(),
        };
        let allowed = allow.iter().filter_map(|entitlement| match entitlement {
            Entitlement::Device(name) => Some(name.clone()),
            _ => None,
        });
        let mut devices = Self { allowed: allowed.collect(), ..Self::default() };
        for (number, directory) in directories.iter().enumerate() {
            devices.read(number, directory)?;
        }
        Ok(Self { directories, ..devices })
    }

    /// What is wrong with the devices that steps ask for, each at its instruction.
    pub(crate) fn check(&self, graph: &Graph) -> Vec<Diagnostic> {
        let mut mistakes = Vec::new();
        for (_, vertex) in graph.vertices() {
            let Op::Exec(exec) = &vertex.op else { continue };
            for device in &exec.devices {
                if let Err(error) = self.edits(device) {
                    let span = vertex.origin.spans.first().copied().unwrap_or_default();
                    let diagnostic = Diagnostic::error(span, rbuild_core::with_causes(&error));
                    mistakes.push(diagnostic.hint_if(error.hint()));
                }
            }
        }
        mistakes
    }

    /// What a step gets that asks for `wanted`; nothing for an optional device that is not there.
    pub(crate) fn edits(&self, wanted: &ExecDevice) -> Result<Edits, DeviceError> {
        let names = self.find(&wanted.name)?;
        if names.is_empty() && wanted.required {
            let places: Vec<_> = self.directories.iter().map(|path| format!("`{}`", path.display())).collect();
            let (name, yaml) = (wanted.name.clone(), self.yaml.clone());
            return Err(DeviceError::Unknown { name, places: places.join(" or "), yaml });
        }
        let mut edits = Edits::default();
        let mut files = BTreeSet::new();
        for name in names {
            let place = &self.places[name];
            let (path, specification) = &self.files[place.file];
            let device = &specification.devices[place.device];
            if place.twice {
                return Err(DeviceError::Ambiguous(name.to_owned()));
            }
            if !self.is_allowed(name)?
                && !is_set(&specification.annotations, AUTO_ALLOW)
                && !is_set(&device.annotations, AUTO_ALLOW)
            {
                return Err(DeviceError::Forbidden(name.to_owned()));
            }
            if files.insert(place.file) {
                edits.add(name, path, &specification.edits)?;
            }
            edits.add(name, path, &device.edits)?;
        }
        Ok(edits)
    }

    fn is_allowed(&self, name: &str) -> Result<bool, DeviceError> {
        for allowed in &self.allowed {
            match allowed {
                None => return Ok(true),
                Some(allowed) if self.find(allowed)?.contains(&name) => return Ok(true),
                Some(_) => {}
            }
        }
        Ok(false)
    }

    /// The qualified names that a name stands for.
    fn find(&self, wanted: &str) -> Result<Vec<&str>, DeviceError> {
        let (kind, name) = wanted.split_once('=').unwrap_or((wanted, ""));
        let word = |text: &str| {
            text.starts_with(|first: char| first.is_ascii_alphabetic())
                && text.chars().all(|one| one.is_ascii_alphanumeric() || "._-".contains(one))
        };
        if !kind.split_once('/').is_some_and(|(vendor, class)| word(vendor) && word(class)) {
            return Err(DeviceError::Name(wanted.to_owned()));
        }
        let of_kind = self.places.keys().map(String::as_str).filter(|other| other.split('=').next() == Some(kind));
        Ok(match name {
            "" => of_kind.take(1).collect(),
            "*" => of_kind.collect(),
            _ if self.places.contains_key(wanted) => of_kind.filter(|other| *other == wanted).collect(),
            class => of_kind.filter(|other| self.class(other) == Some(class)).collect(),
        })
    }

    fn class(&self, name: &str) -> Option<&str> {
        let place = self.places.get(name)?;
        let specification = &self.files[place.file].1;
        let own = specification.devices[place.device].annotations.get(CLASS);
        own.or_else(|| specification.annotations.get(CLASS)).map(String::as_str)
    }

    fn read(&mut self, directory: usize, path: &Path) -> Result<(), DeviceError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            |source| DeviceError::Read { path, source }
        };
        let entries = match std::fs::read_dir(path) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(failed(path)(error)),
        };
        let mut paths = entries
            .map(|entry| entry.map(|entry| entry.path()))
            .collect::<io::Result<Vec<_>>>()
            .map_err(failed(path))?;
        paths.sort();
        for path in paths {
            match path.extension().and_then(|extension| extension.to_str()) {
                Some("json") => {}
                Some("yaml" | "yml") => {
                    self.yaml.get_or_insert(path);
                    continue;
                }
                _ => continue,
            }
            let text = std::fs::read(&path).map_err(failed(&path))?;
            let specification = serde_json::from_slice(&text);
            let specification: Specification =
                specification.map_err(|source| DeviceError::Malformed { path: path.clone(), source })?;
            self.add(directory, path, specification);
        }
        Ok(())
    }

    fn add(&mut self, directory: usize, path: PathBuf, specification: Specification) {
        let file = self.files.len();
        for (device, described) in specification.devices.iter().enumerate() {
            let name = format!("{}={}", specification.kind, described.name);
            let twice = self.places.get(&name).is_some_and(|other| other.directory == directory);
            self.places.insert(name, Place { directory, file, device, twice });
        }
        self.files.push((path, specification));
    }
}

fn is_set(annotations: &BTreeMap<String, String>, name: &str) -> bool {
    annotations.get(name).is_some_and(|value| matches!(value.as_str(), "1" | "t" | "T" | "true" | "TRUE" | "True"))
}

#[cfg(test)]
mod tests {
    use super::edits::Node;
    use super::*;

    const GPUS: &str = r#"{"cdiVersion": "0.6.0", "kind": "vendor.com/gpu",
        "containerEdits": {"env": ["ALL=1"]},
        "devices": [
            {"name": "0", "annotations": {"org.mobyproject.buildkit.device.class": "small"},
             "containerEdits": {"deviceNodes": [{"path": "/dev/gpu0", "hostPath": "/dev/null"}]}},
            {"name": "1", "annotations": {"org.mobyproject.buildkit.device.class": "small",
                                          "org.mobyproject.buildkit.device.autoallow": "true"},
             "containerEdits": {"env": ["ONE=1"]}},
            {"name": "odd", "containerEdits": {"hooks": [{"hookName": "createContainer", "path": "/bin/x"}]}}
        ]}"#;

    fn devices(files: &[(&str, &str)], allowed: &[Option<&str>]) -> Result<Devices, DeviceError> {
        let directory = tempfile::tempdir().unwrap();
        let directories = ["one", "two"].map(|name| directory.path().join(name));
        directories.iter().for_each(|path| std::fs::create_dir(path).unwrap());
        for (path, text) in files {
            std::fs::write(directory.path().join(path), text).unwrap();
        }
        let allowed = allowed.iter().map(|name| name.map(str::to_owned)).collect();
        let mut devices = Devices { allowed, directories: directories.to_vec(), ..Devices::default() };
        for (number, directory) in directories.iter().enumerate() {
            devices.read(number, directory)?;
        }
        Ok(devices)
    }

    fn wanted(name: &str, required: bool) -> ExecDevice {
        ExecDevice { name: name.to_owned(), required }
    }

    #[test]
    fn a106_names_stand_for_devices() {
        let devices = devices(&[("one/gpus.json", GPUS)], &[]).unwrap();
        for (name, expected) in [
            ("vendor.com/gpu=0", &["vendor.com/gpu=0"][..]),
            ("vendor.com/gpu", &["vendor.com/gpu=0"]),
            ("vendor.com/gpu=*", &["vendor.com/gpu=0", "vendor.com/gpu=1", "vendor.com/gpu=odd"]),
            ("vendor.com/gpu=small", &["vendor.com/gpu=0", "vendor.com/gpu=1"]),
            ("vendor.com/gpu=2", &[]),
            ("vendor.com/net", &[]),
        ] {
            assert_eq!(devices.find(name).unwrap(), expected, "{name}");
        }
        for name in ["gpu", "vendor.com/", "/gpu=0", "a b/c", ""] {
            assert!(matches!(devices.find(name), Err(DeviceError::Name(_))), "{name}");
        }
    }

    #[test]
    fn a106_devices_must_be_there_and_allowed() {
        let all = devices(&[("one/gpus.json", GPUS)], &[None]).unwrap();
        let edits = all.edits(&wanted("vendor.com/gpu=small", true)).unwrap();
        assert_eq!(edits.env, [("ALL".to_owned(), "1".to_owned()), ("ONE".to_owned(), "1".to_owned())]);
        assert_eq!(edits.nodes, [Node { source: "/dev/null".into(), target: "/dev/gpu0".into() }]);
        assert!(all.edits(&wanted("vendor.com/gpu=9", false)).unwrap().nodes.is_empty());
        let missing = all.edits(&wanted("vendor.com/gpu=9", true)).unwrap_err().to_string();
        assert!(missing.starts_with("there is no device `vendor.com/gpu=9`: no specification in `"), "{missing}");

        let none = devices(&[("one/gpus.json", GPUS)], &[]).unwrap();
        let refused = none.edits(&wanted("vendor.com/gpu=0", false)).unwrap_err();
        assert_eq!(refused.hint().unwrap(), "`--allow device=vendor.com/gpu=0` on the command line allows it");
        assert!(none.edits(&wanted("vendor.com/gpu=1", true)).is_ok(), "the specification allows it");
        assert!(none.edits(&wanted("vendor.com/gpu=9", false)).is_ok(), "it is not there");
        let one = devices(&[("one/gpus.json", GPUS)], &[Some("vendor.com/gpu=0")]).unwrap();
        assert!(one.edits(&wanted("vendor.com/gpu=0", true)).is_ok());
        assert!(matches!(one.edits(&wanted("vendor.com/gpu=odd", true)), Err(DeviceError::Forbidden(_))));
    }

    #[test]
    fn a106_what_cannot_be_done_is_named() {
        let all = devices(&[("one/gpus.json", GPUS)], &[None]).unwrap();
        let hooks = all.edits(&wanted("vendor.com/gpu=odd", true)).unwrap_err();
        assert_eq!(hooks.to_string(), "device `vendor.com/gpu=odd` wants what is not supported: hooks");
        let yaml = devices(&[("one/x.yaml", "kind: a/b")], &[None]).unwrap();
        let hint = yaml.edits(&wanted("a/b=c", true)).unwrap_err().hint().unwrap();
        assert!(hint.contains("x.yaml` was not read"), "{hint}");
        assert!(matches!(devices(&[("one/x.json", "{}")], &[]), Err(DeviceError::Malformed { .. })));
        let other = GPUS.replace("ALL=1", "ALL=2");
        let hidden = devices(&[("one/a.json", GPUS), ("two/a.json", &other)], &[None]).unwrap();
        assert_eq!(hidden.edits(&wanted("vendor.com/gpu=0", true)).unwrap().env[0].1, "2");
        let twice = devices(&[("one/a.json", GPUS), ("one/b.json", &other)], &[None]).unwrap();
        assert!(matches!(twice.edits(&wanted("vendor.com/gpu=0", true)), Err(DeviceError::Ambiguous(_))));
    }
}

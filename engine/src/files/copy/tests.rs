//! Copies in temporary directories, and the cases of `testdata/copies`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use rbuild_frontend::IgnoreFile;
use rbuild_solver::graph::{Mode, Principal};

use super::*;
use crate::files::{ContextScan, Selector, StatCache};

mod archives;
mod buildkit;
mod contents;
mod keys;
mod metadata;
mod mirrors;
mod no_archives;
mod paths;

/// A context, an image and a stage, side by side.
struct Bench {
    directory: tempfile::TempDir,
    ignore: String,
}

impl Bench {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        for name in ["context", "image", "stage"] {
            fs::create_dir(directory.path().join(name)).unwrap();
        }
        Self { directory, ignore: String::new() }
    }

    fn at(&self, path: &str) -> PathBuf {
        self.directory.path().join(path)
    }

    fn file(&self, path: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.at(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        path
    }

    fn link(&self, path: &str, target: &str) {
        let path = self.at(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        symlink(target, path).unwrap();
    }

    fn shell(&self, directory: &str, script: &str) {
        let script = format!("umask 022\n{script}");
        let status = Command::new("sh").arg("-euc").arg(&script).current_dir(self.at(directory)).status().unwrap();
        assert!(status.success(), "{script}");
    }

    fn context(&self) -> ContextScan {
        let ignore = IgnoreFile::parse(&self.ignore).unwrap();
        ContextScan::new(&self.at("context"), ignore, StatCache::default(), None).unwrap()
    }

    fn image(&self) -> Root {
        Root::open(&self.at("image")).unwrap()
    }

    /// Carries out an instruction as written in `testdata/copies`.
    fn run(&self, instruction: &str) -> Result<Copied, CopyError> {
        if let Some(path) = instruction.strip_prefix("WORKDIR ") {
            let image = self.image();
            let mut stage = Stage::over(Some(&image), None)?;
            stage.make_directory(path, None, None)?;
            return carry_out_in(&stage, &image, &|_| ());
        }
        let context = self.context();
        let stage = Root::open(&self.at("stage")).unwrap();
        let sources: Sources<'_> = BTreeMap::from([(1, &context as &dyn SourceTree), (2, &stage as &dyn SourceTree)]);
        apply(&parse(instruction), &sources, &self.image(), &|_| ())
    }

    fn text(&self, path: &str) -> String {
        fs::read_to_string(self.at("image").join(path)).unwrap_or_else(|error| format!("{path}: {error}"))
    }

    /// Everything in the image.
    fn listing(&self) -> BTreeMap<String, Row> {
        let mut rows = BTreeMap::new();
        list(&self.at("image"), "", &mut rows, &mut BTreeMap::new());
        rows
    }

    fn names(&self) -> String {
        self.listing().into_keys().collect::<Vec<_>>().join(" ")
    }
}

/// `COPY --flag=… ["source", "destination"]`: paths as lowering leaves them.
fn parse(instruction: &str) -> CopyAction {
    let (head, words) = instruction.split_at(instruction.find('[').unwrap());
    let mut words: Vec<String> = serde_json::from_str(words).unwrap();
    let written = words.pop().unwrap();
    let mut action = CopyAction {
        sources: Vec::new(),
        destination: if written == "/" { written.clone() } else { written.trim_end_matches('/').to_owned() },
        into_directory: written.ends_with('/'),
        owner: None,
        mode: None,
        preserve_owner: false,
        unpack: if head.starts_with("ADD") { Unpack::Archives } else { Unpack::Never },
        parents: false,
        exclude: Vec::new(),
        wildcards: true,
        mtime: None,
    };
    let mut input = 1;
    for flag in head.split_whitespace().skip(1) {
        let (name, value) = flag.split_once('=').unwrap_or((flag, ""));
        match name {
            "--chmod" => {
                action.mode = Some(match u32::from_str_radix(value, 8) {
                    Ok(mode) => Mode::Octal(mode),
                    Err(_) => Mode::Symbolic(value.to_owned()),
                });
            }
            "--chown" => {
                let principal = |text: &str| text.parse().map_or(Principal::Name(text.to_owned()), Principal::Id);
                let (user, group) = value.split_once(':').map_or((value, None), |(user, group)| (user, Some(group)));
                action.owner = Some(Owner { user: principal(user), group: group.map(principal) });
            }
            "--exclude" => action.exclude.push(value.to_owned()),
            "--from" => (input, action.preserve_owner) = (2, true),
            "--parents" => action.parents = true,
            "--unpack" => action.unpack = if value == "false" { Unpack::Never } else { Unpack::Archives },
            "--mtime" => action.mtime = Some(value.parse().unwrap()),
            other => panic!("{other}"),
        }
    }
    let path = |path: String| CopySource::Path { input, written: path.clone(), path };
    action.sources = words.into_iter().map(path).collect();
    action
}

#[derive(Clone, Debug, Eq, PartialEq)]
struct Row {
    kind: char,
    mode: String,
    owner: String,
    facts: BTreeMap<&'static str, serde_json::Value>,
}

impl Row {
    fn parse(line: &str) -> (String, Self) {
        let (fields, rest) = line.split_once(" \"").unwrap();
        let fields: Vec<_> = fields.split(' ').collect();
        let rest = format!("\"{rest}");
        let mut values = serde_json::Deserializer::from_str(&rest).into_iter::<String>();
        let path = values.next().unwrap().unwrap();
        let mut rest = rest[values.byte_offset()..].trim();
        let mut facts = BTreeMap::new();
        while !rest.is_empty() {
            let (name, value) = rest.split_once('=').unwrap();
            let name = ["text", "target", "same", "device", "mtime"].into_iter().find(|known| *known == name).unwrap();
            let mut values = serde_json::Deserializer::from_str(value).into_iter();
            facts.insert(name, values.next().unwrap().unwrap());
            rest = value[values.byte_offset()..].trim();
        }
        let row =
            Self { kind: fields[0].chars().next().unwrap(), mode: fields[1].into(), owner: fields[2].into(), facts };
        (path, row)
    }
}

fn list(directory: &Path, prefix: &str, rows: &mut BTreeMap<String, Row>, first: &mut BTreeMap<u64, String>) {
    let mut entries: Vec<_> = fs::read_dir(directory).unwrap().map(Result::unwrap).collect();
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let path = format!("{prefix}/{}", entry.file_name().to_str().unwrap());
        let metadata = entry.metadata().unwrap();
        let kind = metadata.file_type();
        let mut facts = BTreeMap::from([("mtime", metadata.mtime().into())]);
        let kind = if kind.is_dir() {
            list(&entry.path(), &path, rows, first);
            'd'
        } else if kind.is_symlink() {
            facts.insert("target", fs::read_link(entry.path()).unwrap().to_str().unwrap().into());
            'l'
        } else if kind.is_fifo() {
            'p'
        } else if kind.is_char_device() {
            let device = metadata.rdev();
            facts.insert("device", format!("{}:{}", rustix::fs::major(device), rustix::fs::minor(device)).into());
            'c'
        } else {
            if let Ok(text) = String::from_utf8(fs::read(entry.path()).unwrap()) {
                facts.insert("text", text.into());
            }
            let same = first.entry(metadata.ino()).or_insert_with(|| path.clone());
            if *same != path {
                facts.insert("same", same.clone().into());
            }
            '-'
        };
        let owner = format!("{}:{}", metadata.uid(), metadata.gid());
        rows.insert(path, Row { kind, mode: format!("{:04o}", metadata.mode() & 0o7777), owner, facts });
    }
}

/// Whether files can be given away and devices be made: as root, but not in every user namespace.
fn root() -> bool {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("device");
    let (kind, mode) = (rustix::fs::FileType::CharacterDevice, rustix::fs::Mode::RUSR);
    let made = rustix::fs::mknodat(rustix::fs::CWD, &path, kind, mode, rustix::fs::makedev(1, 3));
    let given = made.is_ok() && std::os::unix::fs::lchown(&path, Some(1), Some(1)).is_ok();
    if !given {
        println!("skipped: only root can give files away and make devices");
    }
    given
}

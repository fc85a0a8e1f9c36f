//! `rbuild check`: what is wrong with a Dockerfile, and what of it can be repaired?
//!
//! No base image is needed and no build context; if there is one, its ignore file is looked at. Ends with 0 if there is
//! nothing to say, with 1 if there is.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, fchown};
use std::path::{Path, PathBuf};

use clap::Args;
use rbuild_frontend::fix::repair_with;
use rbuild_frontend::{Diagnostic, IgnoreFile, Overrides, Source, Surroundings, examine};
use similar::TextDiff;

use crate::arguments::values::{self, Assignment};
use crate::diagnostics::Colour;
use crate::failure::Failure;
use crate::report::{self, ReportFormat};
use crate::session::{note, print, print_bytes};

/// What a Dockerfile that has no file is called.
const NAMELESS: &str = "Dockerfile";

#[derive(Args, Clone, Debug)]
pub struct CheckArgs {
    /// A Dockerfile, or a directory with one; `-` is standard input
    #[arg(value_name = "PATH", default_value = ".")]
    path: PathBuf,

    /// Dockerfile, if PATH is a build context that has it elsewhere; `-` is standard input
    #[arg(short, long, value_name = "PATH")]
    file: Option<PathBuf>,

    /// How findings are written
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    format: ReportFormat,

    /// Repair what needs no decision, and report the rest; of standard input the repaired text is printed
    #[arg(long)]
    fix: bool,

    /// Only show what `--fix` would change
    #[arg(long, requires = "fix")]
    dry_run: bool,

    /// The same as `--fix --dry-run`
    #[arg(long, conflicts_with_all = ["fix", "dry_run"])]
    diff: bool,

    /// Check what a build with this argument would do; without a value, from the environment (repeatable)
    #[arg(long = "build-arg", value_name = "NAME[=VALUE]", value_parser = values::assignment)]
    build_args: Vec<Assignment>,

    /// Check only what this stage needs [default: all stages]
    #[arg(long, value_name = "STAGE")]
    target: Option<String>,
}

/// A Dockerfile and where it came from.
struct Input {
    source: Source,
    /// Absent for standard input.
    path: Option<PathBuf>,
    ignored: IgnoreFile,
}

impl CheckArgs {
    pub fn execute(&self) -> Result<(), Failure> {
        let input = self.input(&mut io::stdin())?;
        let surroundings = self.surroundings(input.ignored.clone());
        if self.diff || self.dry_run {
            let repaired = repair_with(&input.source, &surroundings);
            print_bytes(&unified(&input.source, &repaired.source))?;
            return verdict(&examine(&input.source, &surroundings));
        }
        if !self.fix {
            let found = examine(&input.source, &surroundings);
            print(&report::write(self.format, &input.source, &found, Colour::of(&io::stdout())))?;
            return verdict(&found);
        }
        let repaired = repair_with(&input.source, &surroundings);
        let found = examine(&repaired.source, &surroundings);
        let changed = !repaired.done.is_empty();
        match &input.path {
            Some(path) if changed => {
                replace(path, &repaired.source.to_bytes())
                    .map_err(|error| Failure::io(format!("cannot write `{}`", path.display()), error))?;
                note(&format!("repaired {} in `{}`", count(repaired.done.len()), path.display()));
            }
            Some(_) => {}
            None => {
                print_bytes(&repaired.source.to_bytes())?;
                return verdict(&found);
            }
        }
        print(&report::write(self.format, &repaired.source, &found, Colour::of(&io::stdout())))?;
        verdict(&found)
    }

    fn surroundings(&self, ignored: IgnoreFile) -> Surroundings {
        let value = |(name, value): &Assignment| (name.clone(), value.clone().or_else(|| std::env::var(name).ok()));
        let build_args: BTreeMap<_, _> = self.build_args.iter().map(value).collect();
        let given = |name: &str| build_args.get(name).cloned().flatten().filter(|value| !value.is_empty());
        let overrides = Overrides { syntax: given("BUILDKIT_SYNTAX"), check: given("BUILDKIT_DOCKERFILE_CHECK") };
        Surroundings { ignored, overrides, build_args, target: self.target.clone() }
    }

    fn input(&self, stdin: &mut dyn Read) -> Result<Input, Failure> {
        let is_stdin = |path: &Path| path == OsStr::new("-");
        let file = self.file.as_deref();
        if file.is_some_and(is_stdin) || file.is_none() && is_stdin(&self.path) {
            let mut bytes = Vec::new();
            stdin.read_to_end(&mut bytes).map_err(|error| Failure::io("cannot read standard input", error))?;
            let ignored = if is_stdin(&self.path) { IgnoreFile::default() } else { ignored(None, &self.path)? };
            return Ok(Input { source: Source::from_bytes(NAMELESS, bytes), path: None, ignored });
        }
        let (path, context) = match file {
            Some(file) => (file.to_owned(), self.path.clone()),
            None if self.path.is_dir() => (in_directory(&self.path), self.path.clone()),
            None => (self.path.clone(), self.path.parent().unwrap_or(Path::new("")).to_owned()),
        };
        let bytes = fs::read(&path).map_err(|error| {
            let failure = Failure::io(format!("cannot read the Dockerfile `{}`", path.display()), error);
            failure.hint("name a Dockerfile, a directory with one, or `-`")
        })?;
        let ignored = ignored(Some(&path), &context)?;
        let name = path.strip_prefix(".").unwrap_or(&path).display().to_string();
        Ok(Input { source: Source::from_bytes(name, bytes), path: Some(path), ignored })
    }
}

fn in_directory(directory: &Path) -> PathBuf {
    let (usual, lower) = (directory.join("Dockerfile"), directory.join("dockerfile"));
    if !usual.exists() && lower.exists() { lower } else { usual }
}

/// What the ignore file says that a build would use.
fn ignored(dockerfile: Option<&Path>, context: &Path) -> Result<IgnoreFile, Failure> {
    let beside = dockerfile.map(|path| {
        let mut beside = path.to_owned();
        beside.as_mut_os_string().push(".dockerignore");
        beside
    });
    for path in beside.into_iter().chain([context.join(".dockerignore")]) {
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => continue,
            Err(error) => return Err(Failure::io(format!("cannot read `{}`", path.display()), error)),
        };
        let text = String::from_utf8_lossy(&bytes).into_owned();
        return IgnoreFile::parse(&text).map_err(|diagnostics| {
            let source = Source::new(path.display().to_string(), text);
            Failure::Dockerfile { source: source.into(), diagnostics }
        });
    }
    Ok(IgnoreFile::default())
}

/// The difference as `diff -u` and `patch` have it; empty if there is none.
fn unified(before: &Source, after: &Source) -> Vec<u8> {
    let (old, new) = (before.to_bytes(), after.to_bytes());
    let diff = TextDiff::from_lines(&old, &new);
    let mut text = Vec::new();
    // Hunk by hunk: all at once they are written as text in similar 2.7.
    for hunk in diff.unified_diff().iter_hunks() {
        if text.is_empty() {
            text.extend(format!("--- a/{}\n+++ b/{}\n", before.name(), after.name()).bytes());
        }
        hunk.to_writer(&mut text).expect("memory can be written to");
    }
    text
}

/// Gives a file another content, all of it or nothing. A link still leads to it, and who may read and write it can still
/// do so.
fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let path = fs::canonicalize(path)?;
    if !fs::metadata(&path)?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    // Whoever may not write to the file may not replace it either.
    let before = fs::OpenOptions::new().write(true).open(&path)?.metadata()?;
    let directory = path.parent().unwrap_or(Path::new("/"));
    let mut temporary = tempfile::Builder::new().prefix(".rbuild-fix-").tempfile_in(directory)?;
    temporary.write_all(content)?;
    let file = temporary.as_file();
    // Only root can give files away; everyone else's are their own already, but for the group.
    drop(fchown(file, Some(before.uid()), Some(before.gid())));
    file.set_permissions(before.permissions())?;
    file.sync_all()?;
    temporary.persist(&path).map(drop).map_err(|error| error.error)
}

fn verdict(found: &[Diagnostic]) -> Result<(), Failure> {
    if found.is_empty() { Ok(()) } else { Err(Failure::Code(1)) }
}

fn count(number: usize) -> String {
    if number == 1 { "1 finding".to_owned() } else { format!("{number} findings") }
}

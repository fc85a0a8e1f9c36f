//! `rbuild prune`, `df`, `doctor`, `version`: what about this machine?

use std::io::{self, BufRead, IsTerminal, Write};
use std::time::Duration;

use clap::{Args, CommandFactory};
use rbuild_core::Platform;
use rbuild_engine::{Engine, PruneOptions, PruneReport, Status};

use crate::arguments::{CommandLine, values};
use crate::failure::Failure;
use crate::human;
use crate::session::{Session, print};
use crate::table::Table;

const VERSION: &str = env!("CARGO_PKG_VERSION");

#[derive(Args, Clone, Debug)]
pub struct PruneArgs {
    /// Also images that have names, unless a container was made from them, and what RUN --mount=type=cache keeps
    #[arg(short, long)]
    all: bool,
    /// Only what was not used for so long: until=24h
    #[arg(long, value_name = "until=TIME", value_parser = until)]
    filter: Option<Duration>,
    /// Only results of earlier builds, the longest unused first, until the store takes at most so much
    #[arg(long, visible_alias = "max-used-space", value_name = "BYTES", value_parser = values::size)]
    keep_storage: Option<u64>,
    /// Do not ask
    #[arg(short, long)]
    force: bool,
}

impl PruneArgs {
    pub fn execute(&self, session: &Session) -> Result<(), Failure> {
        let engine = session.engine()?;
        if !self.force && !confirmed(self.question())? {
            return Ok(());
        }
        let options = PruneOptions { all: self.all, unused_for: self.filter, keep_bytes: self.keep_storage };
        let pruned = engine.prune(options)?;
        let mut text = String::new();
        let mut list = |title: &str, items: Vec<String>| {
            if !items.is_empty() {
                text.push_str(&format!("Deleted {title}:\n{}\n\n", items.join("\n")));
            }
        };
        list("containers", pruned.containers);
        list("images", pruned.store.images.iter().map(ToString::to_string).collect());
        list("cache mounts", pruned.store.cache_mounts);
        let PruneReport { records, layers, blobs, bytes, .. } = pruned.store;
        text.push_str(&format!("Deleted {records} build results, {layers} layers, {blobs} blobs\n"));
        text.push_str(&format!("Total reclaimed space: {}\n", human::size(bytes)));
        print(&text)
    }

    fn question(&self) -> &'static str {
        if self.all {
            "Remove containers that have ended, all images without a container, and all build results and cache mounts?"
        } else {
            "Remove containers that have ended, images without a name, and build results that no image needs?"
        }
    }
}

/// `until=24h`: a time in Go's notation, `1h30m` for instance.
fn until(text: &str) -> Result<Duration, String> {
    let value = text.strip_prefix("until=").ok_or_else(|| format!("not supported: --filter {text}"))?;
    let wrong = || format!("`{value}` is not a time such as 24h or 1h30m");
    let mut total = 0.0;
    let mut rest = value;
    while !rest.is_empty() {
        let digits = rest.find(|char: char| !char.is_ascii_digit() && char != '.').ok_or_else(wrong)?;
        let number: f64 = rest[..digits].parse().map_err(|_| wrong())?;
        let unit = rest[digits..].find(|char: char| char.is_ascii_digit()).map_or(rest.len(), |length| digits + length);
        total += number
            * match &rest[digits..unit] {
                "ms" => 0.001,
                "s" => 1.0,
                "m" => 60.0,
                "h" => 3600.0,
                _ => return Err(wrong()),
            };
        rest = &rest[unit..];
    }
    if value.is_empty() { Err(wrong()) } else { Duration::try_from_secs_f64(total).map_err(|_| wrong()) }
}

/// Asks a person; who is no person has to say `--force`.
fn confirmed(question: &str) -> Result<bool, Failure> {
    if !io::stdin().is_terminal() {
        return Err(Failure::usage("nobody can be asked: standard input is no terminal").hint("`--force` does not ask"));
    }
    let asked = write!(io::stderr(), "{question} [y/N] ");
    let mut answer = String::new();
    asked.and_then(|()| io::stdin().lock().read_line(&mut answer)).map_err(|error| Failure::io("cannot ask", error))?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

#[derive(Args, Clone, Debug)]
pub struct DfArgs {}

impl DfArgs {
    pub fn execute(&self, session: &Session) -> Result<(), Failure> {
        let usage = session.engine()?.disk_usage()?;
        let mut table = Table::new(&["TYPE", "TOTAL", "SIZE", "RECLAIMABLE"]);
        for (what, usage) in [
            ("Images", usage.images),
            ("Containers", usage.containers),
            ("Build cache", usage.build_cache),
            ("Cache mounts", usage.cache_mounts),
            ("Blobs", usage.blobs),
            ("Trash", usage.trash),
        ] {
            let (size, reclaimable) = (human::size(usage.bytes), human::size(usage.reclaimable));
            table.row([what.to_owned(), usage.count.to_string(), size, reclaimable]);
        }
        print(&table.text())
    }
}

#[derive(Args, Clone, Debug)]
pub struct InfoArgs {}

impl InfoArgs {
    pub fn execute(&self, session: &Session) -> Result<(), Failure> {
        let engine = session.engine()?;
        let containers = engine.containers()?;
        let running = containers.iter().filter(|container| matches!(container.status, Status::Running { .. })).count();
        let host = rustix::system::uname();
        let memory = rustix::system::sysinfo();
        let text = format!(
            "Containers: {}\n Running: {running}\n Stopped: {}\nImages: {}\nVersion: {VERSION}\nRoot Dir: {}\n\
             Rootless: {}\nInsecure Registries: {}\nKernel Version: {}\nArchitecture: {}\nCPUs: {}\n\
             Total Memory: {}\n",
            containers.len(),
            containers.len() - running,
            engine.images()?.len(),
            session.root().display(),
            engine.config().rootless,
            engine.config().insecure_registries.join(", "),
            host.release().to_string_lossy(),
            host.machine().to_string_lossy(),
            std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get),
            human::size(memory.totalram.saturating_mul(u64::from(memory.mem_unit))),
        );
        print(&text)
    }
}

#[derive(Args, Clone, Debug)]
pub struct DoctorArgs {}

impl DoctorArgs {
    pub fn execute(&self, session: &Session) -> Result<(), Failure> {
        let mut text = format!("rbuild {VERSION}, state directory {}\n", session.root().display());
        for check in Engine::doctor() {
            let mark = if check.ok { "ok     " } else { "missing" };
            text.push_str(&format!("{mark}  {}: {}\n", check.what, check.detail));
            if let Some(hint) = &check.hint {
                text.push_str(&format!("         hint: {hint}\n"));
            }
        }
        print(&text)
    }
}

#[derive(Args, Clone, Debug)]
pub struct CompletionArgs {
    /// Whose language it is in
    shell: clap_complete::Shell,
}

impl CompletionArgs {
    pub fn execute(&self) -> Result<(), Failure> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut CommandLine::command(), "rbuild", &mut script);
        print(&String::from_utf8_lossy(&script))
    }
}

#[derive(Args, Clone, Debug)]
pub struct VersionArgs {}

impl VersionArgs {
    pub fn execute(&self) -> Result<(), Failure> {
        print(&format!("rbuild {VERSION}\n  platform  {}\n", Platform::host()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_gos() {
        for (text, seconds) in [("until=24h", 86_400), ("until=1h30m", 5400), ("until=90s", 90), ("until=0.5h", 1800)] {
            assert_eq!(until(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in
            ["", "until=", "until=1", "until=h", "until=1d", "until=1..2h", "label=x", "until=999999999999999999999h"]
        {
            assert!(until(text).is_err(), "{text}");
        }
    }
}

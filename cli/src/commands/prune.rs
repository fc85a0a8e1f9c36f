//! `rbuild prune`, `df`, `du`: what is in the store, and what may go?

mod filter;

use std::io::{self, BufRead, IsTerminal, Write};
use std::time::{Duration, SystemTime};

use clap::Args;
use rbuild_engine::prune::{Item, PruneOptions, Pruned, Removal, Space};
use serde_json::json;

use self::filter::Given;
use crate::arguments::values;
use crate::failure::Failure;
use crate::human;
use crate::session::{Session, note, print};
use crate::table::Table;

#[derive(Args, Clone, Debug)]
pub struct PruneArgs {
    /// Also images that have names, unless a container was made from them, and what RUN --mount=type=cache keeps
    #[arg(short, long)]
    all: bool,
    /// Only what was not used for so long, until=24h, or what matches: id, type (container, image, step, cachemount) or
    /// description, with =, != or ~= for a regular expression (repeatable)
    #[arg(long, value_name = "FILTER", value_parser = filter::parse)]
    filter: Vec<Given>,
    /// Leave the build cache so many bytes (1gb is 2^30). With a limit of space no container goes
    #[arg(long, visible_alias = "keep-storage", value_name = "BYTES", value_parser = values::size)]
    reserved_space: Option<u64>,
    /// Only the longest unused, until the build cache takes at most so many bytes
    #[arg(long, value_name = "BYTES", value_parser = values::size)]
    max_used_space: Option<u64>,
    /// Only the longest unused, until so many bytes are free on the disk
    #[arg(long, value_name = "BYTES", value_parser = values::size)]
    min_free_space: Option<u64>,
    /// Only say what would go, and why
    #[arg(long)]
    dry_run: bool,
    /// Do not ask
    #[arg(short, long)]
    force: bool,
}

impl PruneArgs {
    pub fn execute(&self, session: &Session) -> Result<(), Failure> {
        let engine = session.engine()?;
        let options = self.options();
        if self.dry_run {
            let (containers, removals) = engine.prunable(&options)?;
            return print(&planned(&containers, &removals));
        }
        if !self.force && !confirmed(self.question())? {
            return Ok(());
        }
        let Pruned { containers, store } = engine.prune(&options)?;
        let mut text = String::new();
        let mut list = |title: &str, items: Vec<String>| {
            if !items.is_empty() {
                text.push_str(&format!("Deleted {title}:\n{}\n\n", items.join("\n")));
            }
        };
        let of = |wanted: &str, name: fn(&Removal) -> String| {
            store.removals.iter().filter(|gone| gone.item.kind() == wanted).map(name).collect::<Vec<_>>()
        };
        list("containers", containers);
        list("images", of("image", |gone| gone.item.id()));
        list("cache mounts", of("cachemount", |gone| gone.description.clone()));
        let (records, swept) = (store.count("step"), store.swept);
        text.push_str(&format!("Deleted {records} build results, {} layers, {} blobs\n", swept.layers, swept.blobs));
        text.push_str(&format!("Total reclaimed space: {}\n", human::size(store.bytes())));
        print(&text)?;
        if !store.holders.is_empty() {
            let holders: Vec<_> = store.holders.iter().map(ToString::to_string).collect();
            let (layers, bytes) = (store.waiting.layers, human::size(store.waiting.bytes));
            note(&format!("{layers} layers ({bytes}) go when these have ended: {}", holders.join(", ")));
        }
        Ok(())
    }

    fn options(&self) -> PruneOptions {
        let mut options = PruneOptions { all: self.all, ..PruneOptions::default() };
        for given in &self.filter {
            match given {
                Given::Until(time) => options.unused_for = Some(*time),
                Given::Matching(filter) => options.filters.push(filter.clone()),
            }
        }
        let (reserved, max_used, min_free) = (self.reserved_space, self.max_used_space, self.min_free_space);
        options.space = Space { reserved, max_used, min_free };
        options
    }

    fn question(&self) -> &'static str {
        if self.all {
            "Remove containers that have ended, all images without a container, and all build results and cache mounts?"
        } else {
            "Remove containers that have ended, images without a name, and build results that no image needs?"
        }
    }
}

/// What a dry run says.
fn planned(containers: &[String], removals: &[Removal]) -> String {
    let mut table = Table::new(&["TYPE", "ID", "SIZE", "LAST USED", "WHY", "WHAT"]);
    for name in containers {
        let row = ["container", name, "", "", "it has ended", ""];
        table.row(row.map(str::to_owned));
    }
    for Removal { item, description, bytes, last_used, reason } in removals {
        let size = if *bytes == 0 { String::new() } else { human::size(*bytes) };
        let used = last_used.map_or_else(String::new, ago);
        table.row([item.kind().to_owned(), short(item), size, used, reason.to_string(), description.clone()]);
    }
    let bytes = removals.iter().map(|removal| removal.bytes).sum();
    format!("{}\nWould reclaim: {}\n", table.text(), human::size(bytes))
}

/// Enough of an id to tell it from others.
fn short(item: &Item) -> String {
    let id = item.id();
    let digits = id.strip_prefix("sha256:").or_else(|| id.strip_prefix("sha256-")).unwrap_or(&id);
    digits.chars().take(12).collect()
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
pub struct DuArgs {
    /// Only what matches: id, type (image, step, cachemount) or description, with =, != or ~= (repeatable)
    #[arg(long, value_name = "FILTER", value_parser = filter::parse)]
    filter: Vec<Given>,
    /// `json`: a line for each
    #[arg(long, value_name = "FORMAT", value_parser = ["table", "json"], default_value = "table")]
    format: String,
}

impl DuArgs {
    pub fn execute(&self, session: &Session) -> Result<(), Failure> {
        let engine = session.engine()?;
        let now = seconds();
        let mut entries = engine.inventory()?;
        entries.retain(|entry| {
            self.filter.iter().all(|given| match given {
                Given::Until(time) => now.saturating_sub(entry.last_used) > time.as_secs(),
                Given::Matching(filter) => filter.admits(&entry.item.id(), entry.item.kind(), &entry.description),
            })
        });
        if self.format == "json" {
            let line = |entry: &rbuild_engine::prune::Entry| {
                json!({
                    "type": entry.item.kind(), "id": entry.item.id(), "description": entry.description,
                    "size": entry.bytes, "shared": entry.shared, "reclaimable": !entry.in_use,
                    "lastUsed": entry.last_used,
                })
            };
            return print(&entries.iter().map(|entry| format!("{}\n", line(entry))).collect::<String>());
        }
        let mut table = Table::new(&["TYPE", "ID", "RECLAIMABLE", "SIZE", "LAST USED", "WHAT"]);
        for entry in &entries {
            let size = format!("{}{}", human::size(entry.bytes), if entry.shared { "*" } else { "" });
            let (used, what) = (ago(entry.last_used), entry.description.clone());
            table.row([
                entry.item.kind().to_owned(),
                short(&entry.item),
                (!entry.in_use).to_string(),
                size,
                used,
                what,
            ]);
        }
        let usage = engine.disk_usage()?;
        let cache = usage.build_cache.bytes + usage.cache_mounts.bytes;
        let (images, cache) = (human::size(usage.images.bytes), human::size(cache));
        print(&format!("{}\n* shared with others\nImages: {images}\nBuild cache: {cache}\n", table.text()))
    }
}

/// How long ago, in words.
fn ago(time: u64) -> String {
    format!("{} ago", human::age(Duration::from_secs(seconds().saturating_sub(time))))
}

/// Since 1970.
fn seconds() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

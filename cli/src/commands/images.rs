//! `rbuild images`, `tag`, `rmi`, `history`: which images are there?

use clap::Args;
use rbuild_engine::{HistoryRow, ImageSummary, Removal};
use rbuild_image::Reference;
use serde_json::json;

use super::Format;
use crate::failure::Failure;
use crate::human::{self, Clock};
use crate::session::{Session, each, print};
use crate::table::Table;

#[derive(Args, Clone, Debug)]
pub struct ImagesArgs {
    /// Only those of this repository, or this name
    #[arg(value_name = "REPOSITORY[:TAG]")]
    name: Option<String>,
    /// Accepted for Docker's sake: there are no intermediate images
    #[arg(short, long, hide = true)]
    all: bool,
    /// Only IDs
    #[arg(short, long)]
    quiet: bool,
    /// Whole IDs
    #[arg(long)]
    no_trunc: bool,
    /// Also the digests they were pulled or pushed by
    #[arg(long)]
    digests: bool,
    /// Only some: dangling=true|false
    #[arg(short, long = "filter", value_name = "NAME=VALUE", value_parser = crate::arguments::values::label)]
    filters: Vec<(String, String)>,
    /// How they are printed: table, json, or a template such as `{{.Repository}} {{.Size}}`
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    format: Format,
}

/// What Docker prints where there is no name.
const NONE: &str = "<none>";

impl ImagesArgs {
    pub fn execute(&self, session: &Session) -> Result<(), Failure> {
        let dangling = self.dangling()?;
        let mut images = session.engine()?.images()?;
        images.retain(|image| dangling.is_none_or(|wanted| wanted == image.names.is_empty()));
        print(&self.text(&images, Clock::now()))
    }

    /// What `--filter dangling=` wants.
    fn dangling(&self) -> Result<Option<bool>, Failure> {
        let mut wanted = None;
        for (name, value) in &self.filters {
            wanted = match (name.as_str(), value.as_str()) {
                ("dangling", "true" | "1") => Some(true),
                ("dangling", "false" | "0") => Some(false),
                _ => return Err(Failure::usage(format!("not supported: --filter {name}={value}"))),
            };
        }
        Ok(wanted)
    }

    fn text(&self, images: &[ImageSummary], clock: Clock) -> String {
        let wanted = |name: &str| self.name.as_deref().is_none_or(|pattern| is_named(name, pattern));
        let rows = images.iter().flat_map(|image| {
            let names =
                if image.names.is_empty() { vec![NONE] } else { image.names.iter().map(String::as_str).collect() };
            names.into_iter().filter(|name| wanted(name)).map(move |name| (image, name))
        });
        let mut table = Table::new(if self.digests {
            &["REPOSITORY", "TAG", "DIGEST", "IMAGE ID", "CREATED", "SIZE"]
        } else {
            &["REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE"]
        });
        let mut lines = String::new();
        let mut listed = Vec::new();
        for (image, name) in rows {
            let id = if self.no_trunc { image.id.to_string() } else { image.id.hex()[..12].to_owned() };
            if self.quiet {
                if !listed.contains(&id) {
                    lines.push_str(&format!("{id}\n"));
                    listed.push(id);
                }
                continue;
            }
            let (repository, tag) = split(name);
            let digest = image.manifest.map_or_else(|| NONE.to_owned(), |digest| digest.to_string());
            let (created, size) = (clock.ago(image.created.as_deref()), human::size(image.size));
            let object = json!({
                "Repository": repository, "Tag": tag, "Digest": digest, "ID": id, "CreatedAt": image.created,
                "CreatedSince": created, "Size": size, "Bytes": image.size,
            });
            if let Some(line) = self.format.line(&object) {
                lines.push_str(&line);
                continue;
            }
            let digest = self.digests.then_some(digest);
            table.row([repository.to_owned(), tag.to_owned()].into_iter().chain(digest).chain([id, created, size]));
        }
        if self.quiet || self.format != Format::Table { lines } else { table.text() }
    }
}

/// Repository and tag of a name in its short form.
fn split(name: &str) -> (&str, &str) {
    match name.rsplit_once(':') {
        _ if name.contains('@') => (name, NONE),
        Some((repository, tag)) if !tag.contains('/') => (repository, tag),
        _ => (name, NONE),
    }
}

/// Whether a name is the wanted one, or of the wanted repository if that has no tag.
fn is_named(name: &str, wanted: &str) -> bool {
    let Ok(reference) = wanted.parse::<Reference>() else { return name == wanted };
    if split(wanted).1 == NONE && !wanted.contains('@') {
        return split(name).0 == reference.familiar_name();
    }
    name == reference.familiar()
}

#[derive(Args, Clone, Debug)]
pub struct TagArgs {
    /// Name or ID
    image: String,
    /// The new name
    #[arg(value_name = "NAME[:TAG]")]
    name: String,
}

impl TagArgs {
    pub fn execute(&self, session: &Session) -> Result<(), Failure> {
        Ok(session.engine()?.tag(&self.image, &self.name)?)
    }
}

#[derive(Args, Clone, Debug)]
pub struct RmiArgs {
    /// Names or IDs
    #[arg(value_name = "IMAGE", required = true)]
    images: Vec<String>,
    /// Even if they have several names, or containers were made from them
    #[arg(short, long)]
    force: bool,
}

impl RmiArgs {
    pub fn execute(&self, session: &Session) -> Result<(), Failure> {
        let engine = session.engine()?;
        each(&self.images, |name| {
            let line = |removal: &Removal| match removal {
                Removal::Untagged(name) => format!("Untagged: {name}\n"),
                Removal::Deleted(id) => format!("Deleted: {id}\n"),
            };
            print(&engine.remove_image(name, self.force)?.iter().map(line).collect::<String>())
        })
    }
}

#[derive(Args, Clone, Debug)]
pub struct HistoryArgs {
    /// Name or ID
    image: String,
    /// Whole instructions
    #[arg(long)]
    no_trunc: bool,
    /// How it is printed: table, json, or a template such as `{{.CreatedBy}}`
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    format: Format,
}

impl HistoryArgs {
    pub fn execute(&self, session: &Session) -> Result<(), Failure> {
        let engine = session.engine()?;
        let rows = engine.history(&self.image)?;
        let id = engine.inspect_image(&self.image)?["Id"].as_str().unwrap_or_default().to_owned();
        print(&self.text(&id, &rows, Clock::now()))
    }

    fn text(&self, id: &str, rows: &[HistoryRow], clock: Clock) -> String {
        let shown =
            if self.no_trunc { id } else { id.strip_prefix("sha256:").and_then(|hex| hex.get(..12)).unwrap_or(id) };
        let mut table = Table::new(&["IMAGE", "CREATED", "CREATED BY", "SIZE", "COMMENT"]);
        let mut lines = String::new();
        for (index, row) in rows.iter().enumerate() {
            let image = if index == 0 { shown } else { "<missing>" };
            let created_by = row.created_by.replace(['\t', '\n'], " ");
            let created_by = if self.no_trunc { created_by } else { human::shorten(&created_by, 45) };
            let created = clock.ago(row.created.as_deref());
            let object = json!({
                "ID": image, "CreatedAt": row.created, "CreatedSince": created, "CreatedBy": created_by,
                "Size": human::size(row.size), "Bytes": row.size, "Comment": row.comment, "EmptyLayer": row.empty,
            });
            if let Some(line) = self.format.line(&object) {
                lines.push_str(&line);
                continue;
            }
            table.row([image.to_owned(), created, created_by, human::size(row.size), row.comment.clone()]);
        }
        if self.format == Format::Table { table.text() } else { lines }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn images() -> Vec<ImageSummary> {
        let image = |digit: u8, names: &[&str], size| ImageSummary {
            id: rbuild_core::Digest::sha256([digit; 32]),
            names: names.iter().map(|&name| name.to_owned()).collect(),
            created: Some("2026-11-20T10:00:00Z".to_owned()),
            size,
            manifest: None,
        };
        vec![
            image(0xab, &["koa-demo:latest", "localhost:5000/koa:1.2"], 681_234_567),
            image(0xcd, &["busybox:1.36", "busybox:latest"], 4_261_550),
            image(0xef, &[], 0),
        ]
    }

    fn arguments() -> ImagesArgs {
        ImagesArgs {
            name: None,
            all: false,
            quiet: false,
            no_trunc: false,
            digests: false,
            filters: Vec::new(),
            format: Format::Table,
        }
    }

    #[test]
    fn table_is_dockers() {
        let clock = Clock::at("2026-11-22T10:05:00Z");
        insta::assert_snapshot!(arguments().text(&images(), clock), @"
        REPOSITORY           TAG       IMAGE ID       CREATED      SIZE
        koa-demo             latest    abababababab   2 days ago   681MB
        localhost:5000/koa   1.2       abababababab   2 days ago   681MB
        busybox              1.36      cdcdcdcdcdcd   2 days ago   4.26MB
        busybox              latest    cdcdcdcdcdcd   2 days ago   4.26MB
        <none>               <none>    efefefefefef   2 days ago   0B
        ");
        let quiet = ImagesArgs { quiet: true, ..arguments() };
        insta::assert_snapshot!(quiet.text(&images(), clock), @"
        abababababab
        cdcdcdcdcdcd
        efefefefefef
        ");
        for (name, expected) in [
            ("busybox", 2),
            ("docker.io/library/busybox", 2),
            ("busybox:latest", 1),
            ("localhost:5000/koa", 1),
            ("nothing", 0),
        ] {
            let some = ImagesArgs { name: Some(name.to_owned()), ..arguments() };
            assert_eq!(some.text(&images(), clock).lines().count(), expected + 1, "{name}");
        }
    }

    #[test]
    fn history_is_dockers() {
        let row = |created_by: &str, size, empty| HistoryRow {
            created: Some("2026-11-20T10:00:00Z".to_owned()),
            created_by: created_by.to_owned(),
            size,
            comment: "buildkit.dockerfile.v0".to_owned(),
            empty,
        };
        let rows = [
            row("CMD [\"node\" \"demos/01.js\"]", 0, true),
            row("RUN /bin/sh -c npm install --registry=https://registry.npmmirror.com # buildkit", 12_345_678, false),
        ];
        let arguments = HistoryArgs { image: String::new(), no_trunc: false, format: Format::Table };
        let id = rbuild_core::Digest::sha256([0xab; 32]).to_string();
        insta::assert_snapshot!(arguments.text(&id, &rows, Clock::at("2026-11-22T10:05:00Z")), @r#"
        IMAGE          CREATED      CREATED BY                                      SIZE      COMMENT
        abababababab   2 days ago   CMD ["node" "demos/01.js"]                      0B        buildkit.dockerfile.v0
        <missing>      2 days ago   RUN /bin/sh -c npm install --registry=https:…   12.3MB    buildkit.dockerfile.v0
        "#);
    }
}

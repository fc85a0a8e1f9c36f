//! Where does `--output` want the result?

use std::path::PathBuf;
use std::str::FromStr;

use rbuild_engine::{Export, ExportOptions, LayerCompression};

use crate::arguments::csv;

/// One `--output`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Output {
    /// Where the result goes.
    pub export: Export,
    /// Names for the image besides the build's `--tag`s.
    pub names: Vec<String>,
    /// Whether the image is pushed under its names.
    pub push: bool,
}

impl Output {
    /// Whether it writes to standard output.
    pub fn is_stdout(&self) -> bool {
        matches!(
            self.export,
            Export::Oci { dest: None, .. } | Export::Docker { dest: None, .. } | Export::Tar { dest: None }
        )
    }
}

/// The attributes of one `--output`, before its type says which are allowed.
#[derive(Debug, Default)]
struct Attributes {
    kind: Option<String>,
    dest: Option<String>,
    names: Vec<String>,
    push: bool,
    options: ExportOptions,
    /// Whether `options` says how layers are compressed.
    compresses: bool,
}

impl FromStr for Output {
    type Err = String;

    /// `PATH` is a directory, `-` a tar archive on standard output, everything else a list of attributes.
    fn from_str(text: &str) -> Result<Self, String> {
        let fields = csv::fields(text)?;
        if let [only] = fields.as_slice()
            && !only.contains('=')
        {
            let export = match only.as_str() {
                "" => return Err("expected a path or type=…".to_owned()),
                "-" => Export::Tar { dest: None },
                path => Export::Local { dest: PathBuf::from(path) },
            };
            return Ok(Self { export, names: Vec::new(), push: false });
        }
        let mut attributes = Attributes::default();
        for (name, value) in csv::pairs(text)? {
            let value = value.ok_or_else(|| format!("`{name}` has no value"))?;
            attributes.set(&name, &value)?;
        }
        attributes.finish()
    }
}

impl Attributes {
    fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        match name {
            "type" => self.kind = Some(value.to_owned()),
            "dest" => self.dest = Some(value.to_owned()),
            "name" => {
                self.names.extend(value.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned));
            }
            "push" => self.push = boolean(name, value)?,
            "rewrite-timestamp" => self.options.rewrite_timestamp = boolean(name, value)?,
            "compression" => {
                self.compresses = true;
                self.options.compression = match value {
                    "gzip" => LayerCompression::Gzip,
                    "zstd" => LayerCompression::Zstd,
                    "uncompressed" => LayerCompression::None,
                    other => {
                        return Err(format!("not supported: compression={other} (gzip, zstd and uncompressed are)"));
                    }
                }
            }
            "compression-level" => {
                let level = value.parse().map_err(|_| format!("`{value}` is not a compression level"))?;
                self.options.level = Some(level);
                self.compresses = true;
            }
            // These ask for what is done anyway.
            "oci-mediatypes" | "tar" | "store" if boolean(name, value)? => {}
            "unpack" | "push-by-digest" | "name-canonical" | "force-compression" if !boolean(name, value)? => {}
            _ => return Err(format!("not supported: {name}={value}")),
        }
        Ok(())
    }

    fn finish(self) -> Result<Output, String> {
        let Self { kind, dest, names, push, options, compresses } = self;
        let kind = kind.ok_or("`type` is missing")?;
        let path = dest.as_deref().filter(|dest| *dest != "-").map(PathBuf::from);
        let is_image = matches!(kind.as_str(), "image" | "registry" | "oci" | "docker");
        if !is_image && (!names.is_empty() || options != ExportOptions::default()) {
            return Err(format!("type={kind} has no name, compression or timestamps"));
        }
        let levels = match options.compression {
            LayerCompression::Gzip => 0..=9,
            LayerCompression::Zstd => 1..=22,
            LayerCompression::None => 0..=22,
        };
        if let Some(level) = options.level.filter(|level| !levels.contains(level)) {
            return Err(format!("compression-level={level} is not between {} and {}", levels.start(), levels.end()));
        }
        if push && kind != "image" && kind != "registry" {
            return Err(format!("type={kind} cannot be pushed"));
        }
        let archive_options = ExportOptions { names: names.clone(), ..options.clone() };
        let (export, names) = match kind.as_str() {
            "oci" => (Export::Oci { dest: path, options: archive_options }, Vec::new()),
            // Without a file, `docker` means the image store of the machine, as it does for `docker buildx`.
            "docker" if dest.is_some() => (Export::Docker { dest: path, options: archive_options }, Vec::new()),
            "image" | "registry" | "docker" => {
                if dest.is_some() {
                    return Err(format!("type={kind} has no `dest`"));
                }
                if options.rewrite_timestamp {
                    return Err(format!("not supported: type={kind} with rewrite-timestamp"));
                }
                (Export::Image { travels: compresses.then_some(options) }, names)
            }
            "tar" => (Export::Tar { dest: path }, Vec::new()),
            "local" => match (dest, path) {
                (_, Some(dest)) => (Export::Local { dest }, Vec::new()),
                (Some(_), None) => return Err("a directory cannot be written to standard output".to_owned()),
                (None, None) => return Err("`dest` is missing".to_owned()),
            },
            other => {
                return Err(format!("not supported: type={other} (oci, docker, tar, local, image and registry are)"));
            }
        };
        Ok(Output { export, names, push: push || kind == "registry" })
    }
}

fn boolean(name: &str, value: &str) -> Result<bool, String> {
    match value {
        "true" | "1" | "t" | "True" | "TRUE" => Ok(true),
        "false" | "0" | "f" | "False" | "FALSE" => Ok(false),
        _ => Err(format!("`{name}` is true or false, not `{value}`")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn export(text: &str) -> Result<Export, String> {
        text.parse::<Output>().map(|output| output.export)
    }

    #[test]
    fn outputs_are_buildx_ones() {
        let options = ExportOptions::default();
        let dest = || Some(PathBuf::from("f"));
        for (text, expected) in [
            ("out.tar", Export::Local { dest: "out.tar".into() }),
            ("-", Export::Tar { dest: None }),
            ("type=local,dest=f", Export::Local { dest: "f".into() }),
            ("type=tar", Export::Tar { dest: None }),
            ("type=tar,dest=-", Export::Tar { dest: None }),
            ("type=tar,dest=f", Export::Tar { dest: dest() }),
            ("type=oci,dest=f", Export::Oci { dest: dest(), options: options.clone() }),
            ("type=oci,tar=true", Export::Oci { dest: None, options: options.clone() }),
            ("type=docker", Export::Image { travels: None }),
            ("type=docker,dest=-", Export::Docker { dest: None, options: options.clone() }),
            ("type=docker,dest=f", Export::Docker { dest: dest(), options: options.clone() }),
            ("type=image,oci-mediatypes=true", Export::Image { travels: None }),
            (
                "type=oci,\"name=a,b\",dest=f,rewrite-timestamp=true,compression=zstd,compression-level=3",
                Export::Oci {
                    dest: dest(),
                    options: ExportOptions {
                        names: vec!["a".into(), "b".into()],
                        compression: LayerCompression::Zstd,
                        level: Some(3),
                        rewrite_timestamp: true,
                    },
                },
            ),
        ] {
            assert_eq!(export(text), Ok(expected), "{text}");
        }
        let zstd = ExportOptions { compression: LayerCompression::Zstd, level: Some(5), ..options };
        assert_eq!(
            export("type=registry,name=r/a,compression=zstd,compression-level=5"),
            Ok(Export::Image { travels: Some(zstd) })
        );
        let pushed: Output = "type=image,\"name=r/a,r/b\",push=true".parse().unwrap();
        assert_eq!((pushed.names, pushed.push), (vec!["r/a".to_owned(), "r/b".to_owned()], true));
        assert!("type=registry,name=r/a".parse::<Output>().unwrap().push);
    }

    #[test]
    fn what_cannot_be_done_is_refused_by_name() {
        for (text, expected) in [
            ("", "expected a path or type=…"),
            ("dest=f", "`type` is missing"),
            ("type=local", "`dest` is missing"),
            ("type=local,dest=-", "a directory cannot be written to standard output"),
            ("type=cacheonly", "not supported: type=cacheonly (oci, docker, tar, local, image and registry are)"),
            ("type=oci,dest=f,compression-level=10", "compression-level=10 is not between 0 and 9"),
            ("type=oci,dest=f,compression=zstd,compression-level=0", "compression-level=0 is not between 1 and 22"),
            ("type=oci,tar=false", "not supported: tar=false"),
            ("type=oci,compression=estargz", "not supported: compression=estargz (gzip, zstd and uncompressed are)"),
            ("type=oci,annotation.a=b", "not supported: annotation.a=b"),
            ("type=oci,push=true", "type=oci cannot be pushed"),
            ("type=oci,push=maybe", "`push` is true or false, not `maybe`"),
            ("type=image,dest=f", "type=image has no `dest`"),
            ("type=image,rewrite-timestamp=true", "not supported: type=image with rewrite-timestamp"),
            ("type=tar,name=x", "type=tar has no name, compression or timestamps"),
            ("type=oci,dest", "`dest` has no value"),
        ] {
            assert_eq!(export(text), Err(expected.to_owned()), "{text}");
        }
    }
}

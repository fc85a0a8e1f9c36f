//! `rbuild save`, `load`, `import`: how do images become files, and files images?

use std::fs::File;
use std::io::{self, IsTerminal, Read};
use std::path::{Path, PathBuf};

use clap::Args;

use crate::arguments::unsupported::{Flag, Refuses, Unsupported};
use crate::failure::Failure;
use crate::session::{Session, print};

#[derive(Args, Clone, Debug)]
pub struct SaveArgs {
    /// Names or IDs
    #[arg(value_name = "IMAGE", required = true)]
    images: Vec<String>,
    /// The archive [default: standard output]
    #[arg(short, long, value_name = "PATH")]
    output: Option<PathBuf>,
}

impl SaveArgs {
    pub async fn execute(&self, session: &Session) -> Result<(), Failure> {
        let engine = session.engine()?;
        let Some(path) = &self.output else {
            if io::stdout().is_terminal() {
                let failure = Failure::usage("an archive cannot be written to a terminal");
                return Err(failure.hint("name a file with `-o PATH`, or redirect standard output"));
            }
            return Ok(engine.save(&self.images, &mut io::stdout()).await?);
        };
        // Under another name until it is whole, so that what is there under this one always is.
        let temporary = Temporary::beside(path)?;
        engine.save(&self.images, &mut &temporary.file).await?;
        temporary.rename(path)
    }
}

/// A file that is removed unless it is given its name.
#[derive(Debug)]
struct Temporary {
    path: PathBuf,
    file: File,
}

impl Temporary {
    fn beside(path: &Path) -> Result<Self, Failure> {
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{}.part", std::process::id()));
        let path = path.with_file_name(name);
        match File::create(&path) {
            Ok(file) => Ok(Self { path, file }),
            Err(error) => Err(Failure::io(format!("cannot write `{}`", path.display()), error)),
        }
    }

    fn rename(self, path: &Path) -> Result<(), Failure> {
        std::fs::rename(&self.path, path)
            .map_err(|error| Failure::io(format!("cannot write `{}`", path.display()), error))
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // Nothing is there any more once it was renamed.
        drop(std::fs::remove_file(&self.path));
    }
}

#[derive(Args, Clone, Debug)]
pub struct LoadArgs {
    /// The archive [default: standard input]
    #[arg(short, long, value_name = "PATH")]
    input: Option<PathBuf>,
    /// Print nothing
    #[arg(short, long)]
    quiet: bool,
}

impl LoadArgs {
    pub async fn execute(&self, session: &Session) -> Result<(), Failure> {
        let engine = session.engine()?;
        let names = engine.load(open(self.input.as_deref())?.as_mut()).await?;
        let lines = names.iter().map(|name| match name.starts_with("sha256:") {
            true => format!("Loaded image ID: {name}\n"),
            false => format!("Loaded image: {name}\n"),
        });
        if self.quiet { Ok(()) } else { print(&lines.collect::<String>()) }
    }
}

/// Standard input, unless a person types there, or a file.
fn open(path: Option<&Path>) -> Result<Box<dyn Read + Send>, Failure> {
    match path {
        Some(path) => match File::open(path) {
            Ok(file) => Ok(Box::new(file)),
            Err(error) => Err(Failure::io(format!("cannot read `{}`", path.display()), error)),
        },
        None if io::stdin().is_terminal() => Err(Failure::usage("an archive cannot be read from a terminal")),
        None => Ok(Box::new(io::stdin())),
    }
}

#[derive(Args, Clone, Debug)]
pub struct ImportArgs {
    /// The archive; `-` is standard input
    #[arg(value_name = "PATH")]
    file: PathBuf,
    /// Name of the image
    #[arg(value_name = "NAME[:TAG]")]
    name: Option<String>,
    /// Apply an instruction such as `CMD ["sh"]` (repeatable)
    #[arg(short, long = "change", value_name = "INSTRUCTION")]
    changes: Vec<String>,
    #[command(flatten)]
    unsupported: Unsupported<Refused>,
}

#[derive(Clone, Copy, Debug)]
struct Refused;

impl Refuses for Refused {
    const FLAGS: &'static [Flag] = &[Flag::value("message").short('m'), Flag::value("platform")];
}

impl ImportArgs {
    pub async fn execute(&self, session: &Session) -> Result<(), Failure> {
        self.unsupported.check()?;
        if self.file.to_str().is_some_and(|file| file.starts_with("http://") || file.starts_with("https://")) {
            return Err(Failure::usage(format!("not supported: an archive at a URL: `{}`", self.file.display())));
        }
        let engine = session.engine()?;
        let path = Some(self.file.as_path()).filter(|path| *path != Path::new("-"));
        let id = engine.import(open(path)?.as_mut(), self.name.as_deref(), &self.changes).await?;
        print(&format!("{id}\n"))
    }
}

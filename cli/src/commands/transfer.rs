//! `rbuild pull` and `push`: how do images travel?

use clap::Args;
use rbuild_engine::PushedLayer;
use rbuild_image::Reference;

use crate::failure::Failure;
use crate::progress::{Progress, ProgressMode};
use crate::session::{Session, print};

#[derive(Args, Clone, Debug)]
pub struct PullArgs {
    /// Its name
    #[arg(value_name = "NAME[:TAG|@DIGEST]")]
    name: String,
    /// Platform [default: this machine's]
    #[arg(long, value_name = "OS/ARCH")]
    platform: Option<rbuild_core::Platform>,
    /// Print nothing but its name
    #[arg(short, long)]
    quiet: bool,
    /// How progress is shown
    #[arg(long, value_name = "MODE")]
    progress: Option<ProgressMode>,
}

impl PullArgs {
    pub async fn execute(&self, session: &Session) -> Result<(), Failure> {
        let engine = session.engine()?;
        let progress = Progress::start("Pulling", mode(self.quiet, self.progress));
        let reporter = progress.reporter();
        let result = progress.during(engine.pull(&self.name, self.platform.as_ref(), &reporter)).await;
        progress.finish(result.is_ok());
        let pulled = result?;
        let mut text = String::new();
        if !self.quiet {
            let status = if pulled.fresh { "Downloaded newer image" } else { "Image is up to date" };
            text.push_str(&format!("Digest: {}\nStatus: {status} for {}\n", pulled.manifest, familiar(&pulled.name)));
        }
        print(&format!("{text}{}\n", pulled.name))
    }
}

#[derive(Args, Clone, Debug)]
pub struct PushArgs {
    /// Its name
    #[arg(value_name = "NAME[:TAG]")]
    name: String,
    /// Print nothing but its name
    #[arg(short, long)]
    quiet: bool,
    /// How progress is shown
    #[arg(long, value_name = "MODE")]
    progress: Option<ProgressMode>,
}

impl PushArgs {
    pub async fn execute(&self, session: &Session) -> Result<(), Failure> {
        let engine = session.engine()?;
        let progress = Progress::start("Pushing", mode(self.quiet, self.progress));
        let reporter = progress.reporter();
        let result = progress.during(engine.push(&self.name, &reporter)).await;
        progress.finish(result.is_ok());
        let pushed = result?;
        if self.quiet {
            return print(&format!("{}\n", pushed.name));
        }
        let name: Option<Reference> = pushed.name.parse().ok();
        let repository = name.as_ref().map_or_else(|| pushed.name.clone(), Reference::name);
        let tag = name.as_ref().and_then(Reference::tag).unwrap_or("latest");
        let mut text = format!("The push refers to repository [{repository}]\n");
        for (digest, how) in &pushed.layers {
            let how = match how {
                PushedLayer::Pushed => "Pushed",
                PushedLayer::Exists => "Layer already exists",
                PushedLayer::Mounted => "Mounted from another repository",
            };
            text.push_str(&format!("{}: {how}\n", &digest.hex()[..12]));
        }
        print(&format!("{text}{tag}: digest: {} size: {}\n", pushed.manifest, pushed.size))
    }
}

fn mode(quiet: bool, chosen: Option<ProgressMode>) -> ProgressMode {
    if quiet { ProgressMode::Quiet } else { ProgressMode::chosen(chosen) }
}

/// The name as a person writes it.
fn familiar(name: &str) -> String {
    name.parse().map_or_else(|_| name.to_owned(), |name: Reference| name.familiar())
}

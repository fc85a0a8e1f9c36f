//! What is known of a stage while its instructions are lowered?

use std::collections::BTreeMap;

use rbuild_core::Platform;
use rbuild_image::{History, ImageConfig, RuntimeConfig};
use rbuild_solver::graph::Output;

use super::environment::Environment;
use super::history::{self, LayerKind};
use super::plan::Use;
use super::title::Titles;
use crate::Diagnostic;
use crate::ignore::clean;

const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A stage so far.
#[derive(Clone, Debug)]
pub(super) struct State {
    /// The root file system.
    pub(super) root: Output,
    /// The image's configuration; `history` and `config.env` are filled in when it is done.
    pub(super) image: ImageConfig,
    /// The variables of the image.
    pub(super) image_env: Environment,
    /// The variables of a `RUN`: those of the image and the declared arguments, whichever line came last.
    pub(super) env: Environment,
    /// Declared arguments, for history entries; the value counts if `env` has none.
    pub(super) args: Environment,
    pub(super) platform: Platform,
    /// Whether some `CMD` of this stage set the command.
    pub(super) own_command: bool,
    /// Whether some `WORKDIR` of the file set the directory.
    pub(super) own_directory: bool,
    /// Whether all variables are known: those of the base image, too.
    pub(super) known: bool,
    /// `ARG`s that hide an `ENV` from `RUN`, by name, as long as no `ENV` takes them over.
    pub(super) hidden: BTreeMap<String, Diagnostic>,
    pub(super) cache: bool,
    pub(super) titles: Titles,
    /// What comes of the stage: only if the image does, there is a history to write.
    pub(super) used: Use,
    /// Bytes of history entries.
    pub(super) written: usize,
    pub(super) history: Vec<History>,
    /// The history below `history`.
    pub(super) below: Below,
}

/// Whose history a stage continues.
#[derive(Clone, Debug)]
pub(super) enum Below {
    Image(Vec<History>),
    Stage(usize),
}

impl State {
    pub(super) fn config(&mut self) -> &mut RuntimeConfig {
        &mut self.image.config
    }

    /// Where relative paths start.
    pub(super) fn directory(&self) -> &str {
        match self.image.config.working_dir.as_str() {
            "" => "/",
            directory => directory,
        }
    }

    /// Adds a history entry.
    pub(super) fn record(&mut self, text: String, layer: LayerKind) {
        self.written += text.len();
        if self.used == Use::Image {
            self.history.push(history::entry(text, layer));
        }
    }

    /// The command line of a shell form.
    pub(super) fn in_shell(&self, command: String) -> Vec<String> {
        let mut args = match &self.image.config.shell {
            Some(shell) if !shell.is_empty() => shell.clone(),
            _ => vec!["/bin/sh".to_owned(), "-c".to_owned()],
        };
        args.push(command);
        args
    }

    /// Joins a path to the working directory.
    pub(super) fn absolute(&self, path: &str) -> String {
        if path.starts_with('/') { clean(path) } else { clean(&format!("{}/{path}", self.directory())) }
    }

    pub(super) fn new(
        root: Output,
        mut image: ImageConfig,
        platform: Platform,
        cache: bool,
        titles: Titles,
        used: Use,
    ) -> Self {
        let history = std::mem::take(&mut image.history);
        let mut image_env = Environment::from_config(&std::mem::take(&mut image.config.env));
        if !image_env.has("PATH") && image.os != "windows" {
            image_env.set("PATH", DEFAULT_PATH);
        }
        let directory = &mut image.config.working_dir;
        if !directory.is_empty() {
            *directory = clean(&format!("/{directory}"));
        }
        image.created = None;
        image.rootfs = rbuild_image::RootFs::default();
        // What else old Docker versions wrote is about the container the image was made in.
        image.other.retain(|name, _| matches!(name.as_str(), "os.version" | "os.features"));
        image.config.other.clear();
        image.config.on_build.clear();
        Self {
            root,
            env: image_env.clone(),
            image,
            image_env,
            args: Environment::default(),
            platform,
            own_command: false,
            own_directory: false,
            known: true,
            hidden: BTreeMap::new(),
            cache,
            titles,
            used,
            written: 0,
            history: Vec::new(),
            below: Below::Image(history),
        }
    }

    /// A copy that leaves out what a stage built on this one does not take over.
    pub(super) fn without_history(&self) -> Self {
        Self {
            root: self.root,
            image: self.image.clone(),
            image_env: self.image_env.clone(),
            env: self.env.clone(),
            args: self.args.clone(),
            platform: self.platform.clone(),
            own_command: self.own_command,
            own_directory: self.own_directory,
            known: self.known,
            hidden: BTreeMap::new(),
            cache: self.cache,
            titles: Titles::default(),
            used: self.used,
            written: 0,
            history: Vec::new(),
            below: Below::Image(Vec::new()),
        }
    }
}

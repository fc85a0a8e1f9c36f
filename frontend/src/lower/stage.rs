//! What becomes of one stage?
//!
//! Its instructions are lowered in order over a [`State`], which a stage built on it starts from.

use rbuild_core::{Platform, Span};
use rbuild_image::ImageConfig;
use rbuild_solver::graph::{CopyAction, CopySource, FileAction, FileOp, ImageOp, LocalOp, Op, Origin, Output, Unpack};

use super::Lowering;
use super::globals::{NOT_IN_ENVIRONMENT, expand};
use super::history::LayerKind;
use super::options::{Bases, CacheUse};
use super::owner;
use super::plan::{Provider, Trigger, Use};
use super::state::{Below, State};
use super::title::Titles;
use crate::ast::{Command, Instruction, Kind, Spanned, Word};
use crate::rule::Rule;
use crate::suggest::did_you_mean;
use crate::{Diagnostic, lower::metadata};

/// Longest text that history entries may become; stops files in which each `RUN` repeats thousands of arguments.
const LONGEST_HISTORY: usize = 128 << 20;

/// What is kept of a stage.
#[derive(Clone, Debug)]
pub(super) struct Built {
    /// The root file system.
    pub(super) root: Output,
    /// Where stages go on that start from this one; nothing if there is none and it is not the target.
    state: Option<Box<State>>,
}

/// The instruction at hand.
#[derive(Clone, Copy, Debug)]
pub(super) struct Site<'a> {
    /// The stage it is lowered for.
    pub(super) stage: usize,
    pub(super) instruction: &'a Instruction,
    pub(super) is_trigger: bool,
    /// Where the file says so: for triggers of a base image its `FROM`.
    pub(super) span: Span,
}

impl Lowering<'_> {
    /// Lowers a stage whose needs are lowered.
    pub(super) fn stage(&mut self, index: usize) {
        let mut state = self.start(index);
        let plan = self.plan;
        let stage = &plan.stages[index];
        for step in &stage.steps {
            let instruction = &*step.instruction;
            let mut span = instruction.header.span;
            if step.trigger == Trigger::Image {
                span = stage.stage.header.span;
                self.notes.enter_trigger(stage.base_span(), instruction);
            }
            let site = Site { stage: index, instruction, is_trigger: step.trigger != Trigger::No, span };
            let mark = self.notes.mark();
            self.uncertain = false;
            let result = self.instruction(&mut state, &site);
            if self.uncertain {
                self.notes.only_undefined(mark);
            } else {
                self.notes.take(result);
            }
            self.notes.leave_trigger();
            if self.written + state.written > LONGEST_HISTORY {
                let message =
                    format!("what the instructions up to here expand to is longer than {} MiB", LONGEST_HISTORY >> 20);
                self.notes.mistake(Diagnostic::error(span, message));
                break;
            }
        }
        std::mem::take(&mut state.hidden).into_values().for_each(|warning| self.notes.warn(warning));
        self.written += state.written;
        let root = state.root;
        let state = (self.uses[index] > Use::Files).then(|| Box::new(state));
        self.built[index] = Some(Built { root, state });
    }

    /// Where a stage that others start from, or the target, ended.
    fn end_of(&self, index: usize) -> &State {
        let built = self.built[index].as_ref().and_then(|built| built.state.as_ref());
        built.expect("stages are lowered before what starts from them, and kept for it")
    }

    /// The finished configuration of a stage.
    pub(super) fn image_config(&self, index: usize) -> ImageConfig {
        let state = self.end_of(index);
        let mut image = state.image.clone();
        image.config.env = state.image_env.to_config();
        let mut parts = vec![&state.history];
        let mut below = &state.below;
        image.history = loop {
            match below {
                Below::Image(history) => break history.clone(),
                Below::Stage(index) => {
                    parts.push(&self.end_of(*index).history);
                    below = &self.end_of(*index).below;
                }
            }
        };
        image.history.extend(parts.into_iter().rev().flatten().cloned());
        image
    }

    /// The root file system a provider stands for, as input of a vertex; `local` says which files of a directory.
    pub(super) fn provide(
        &mut self,
        provider: &Provider,
        platform: &Platform,
        span: Span,
        local: impl FnOnce(String) -> LocalOp,
    ) -> Output {
        match provider {
            Provider::Nothing => self.scratch(),
            Provider::Stage(index) => {
                self.built[*index].as_ref().expect("stages are lowered before what needs them").root
            }
            Provider::Image(name) => {
                let title = format!("FROM {}", self.image_title(name));
                self.image(name, platform, Origin { title, spans: vec![span], ignore_cache: false })
            }
            Provider::Local(name) => self.local(local(name.clone()), span),
        }
    }

    /// A selection of a directory.
    pub(super) fn local(&mut self, op: LocalOp, span: Span) -> Output {
        let title = match op.name.as_str() {
            "context" => "[internal] load build context".to_owned(),
            name => format!("[internal] load build context {name}"),
        };
        self.add(Op::Local(op), &[], Origin { title, spans: vec![span], ignore_cache: false })
    }

    pub(super) fn scratch(&mut self) -> Output {
        if let Some(scratch) = self.scratch {
            return scratch;
        }
        let scratch =
            self.add(Op::Scratch, &[], Origin { title: "[internal] scratch".to_owned(), ..Origin::default() });
        self.scratch = Some(scratch);
        scratch
    }

    pub(super) fn add(&mut self, op: Op, inputs: &[Output], origin: Origin) -> Output {
        self.graph.add(op, inputs, origin).expect("all inputs were added to this graph before")
    }

    /// The origin of an instruction's vertex, with the next step number.
    pub(super) fn origin(&self, state: &mut State, site: &Site<'_>, text: &str) -> Origin {
        let title = state.titles.next(text, site.is_trigger);
        Origin { title, spans: vec![site.span], ignore_cache: !state.cache }
    }

    /// Expands a word where the stage is now; variables without a value are worth a warning.
    pub(super) fn expand(&mut self, state: &State, word: &Word) -> Result<String, Diagnostic> {
        let expanded = self.judged(expand(self.escape, &state.env, word))?;
        self.undefined(state, &expanded.undefined);
        Ok(expanded.value)
    }

    /// Without the values of build arguments and images no expansion is a mistake: of those whose form is wrong the
    /// parser has told.
    pub(super) fn judged<T>(&mut self, result: Result<T, Diagnostic>) -> Result<T, Diagnostic> {
        self.uncertain |= result.is_err() && self.options.bases == Bases::Unknown;
        result
    }

    pub(super) fn undefined(&mut self, state: &State, variables: &[Spanned<String>]) {
        self.uncertain |= !variables.is_empty() && self.options.bases == Bases::Unknown;
        for Spanned { value: name, span } in variables {
            if state.args.has(name) || NOT_IN_ENVIRONMENT.contains(&name.as_str()) {
                continue;
            }
            let hint = if self.globals.has(name) {
                Some(format!("write `ARG {name}` in this stage to use the global argument"))
            } else if self.notes.is_long() {
                None
            } else {
                did_you_mean(name, state.env.names())
            };
            if hint.is_none() && !state.known {
                continue;
            }
            let message = format!("`${name}` is not defined here: no `ARG` or `ENV` above gives it a value");
            self.notes.warn(Diagnostic::warning(Rule::UndefinedVar, *span, message).hint_if(hint));
        }
    }

    fn start(&mut self, index: usize) -> State {
        let plan = self.plan;
        let stage = &plan.stages[index];
        let name = stage.stage.from.name.as_ref();
        let label = match (plan.stages.len(), name) {
            (1, _) => String::new(),
            (_, Some(name)) => name.word.text.clone(),
            (_, None) => format!("stage-{index}"),
        };
        let layers = stage.steps.iter().filter(|step| makes_layer(&step.instruction)).count();
        let from_image = usize::from(matches!(stage.provider, Provider::Image(_) | Provider::Local(_)));
        let mut titles = Titles::new(label, layers + from_image);
        let cache = match &self.options.cache {
            CacheUse::All => true,
            CacheUse::None => false,
            CacheUse::AllBut(stages) => {
                let is_named = |other: &String| name.is_some_and(|name| name.name.eq_ignore_ascii_case(other));
                !stages.iter().any(is_named)
            }
        };
        let span = stage.base_span();
        match &stage.provider {
            Provider::Stage(base) => {
                let mut state = State {
                    history: Vec::new(),
                    below: Below::Stage(*base),
                    own_command: false,
                    platform: stage.platform.clone(),
                    cache,
                    titles,
                    used: self.uses[index],
                    ..self.end_of(*base).without_history()
                };
                state.config().on_build.clear();
                state
            }
            Provider::Image(name) => {
                let title = titles.next(&format!("FROM {}", self.image_title(name)), false);
                let spans = vec![stage.stage.header.span];
                let root = self.image(name, &stage.platform, Origin { title, spans, ignore_cache: false });
                let config = self.images.find(name, &stage.platform).map(|image| image.config.clone());
                let config = config.unwrap_or_else(|| ImageConfig::scratch(&stage.platform));
                self.check_platform(name, &config, &stage.platform, span);
                let mut state = State::new(root, config, stage.platform.clone(), cache, titles, self.uses[index]);
                state.known = self.options.bases == Bases::Known;
                state
            }
            Provider::Nothing | Provider::Local(_) => {
                let mut config = ImageConfig::scratch(&stage.platform);
                config.config.working_dir = "/".to_owned();
                let root = self.scratch();
                let mut state = State::new(root, config, stage.platform.clone(), cache, titles, self.uses[index]);
                if let Provider::Local(name) = &stage.provider {
                    self.start_from_files(&mut state, name, stage.stage.header.span);
                }
                state
            }
        }
    }

    /// Makes a root file system of a directory: what is in it, owned by root.
    fn start_from_files(&mut self, state: &mut State, name: &str, span: Span) {
        let name = name.to_owned();
        let text = format!("FROM {name}");
        let everything = LocalOp { name, include: Vec::new(), wildcards: false, parents: false, exclude: Vec::new() };
        let files = self.local(everything, span);
        let action = CopyAction {
            sources: vec![CopySource::Path { input: 1, path: String::new(), written: "/".to_owned() }],
            destination: "/".to_owned(),
            into_directory: true,
            owner: None,
            mode: None,
            preserve_owner: false,
            unpack: Unpack::Never,
            parents: false,
            exclude: Vec::new(),
            wildcards: false,
            mtime: self.globals.epoch,
        };
        let origin = Origin { title: state.titles.next(&text, false), spans: vec![span], ignore_cache: !state.cache };
        let op = Op::File(FileOp { actions: vec![FileAction::Copy(action)] });
        state.root = self.add(op, &[state.root, files], origin);
        state.record(text, LayerKind::Files);
    }

    fn image(&mut self, name: &str, platform: &Platform, origin: Origin) -> Output {
        let key = (name.to_owned(), platform.clone());
        if let Some(output) = self.image_vertices.get(&key) {
            return *output;
        }
        let Some(image) = self.images.find(name, platform) else { return self.scratch() };
        let op = ImageOp { id: image.id, name: name.to_owned(), platform: platform.clone() };
        let output = if image.config.rootfs.diff_ids.is_empty() {
            self.scratch()
        } else {
            self.add(Op::Image(Box::new(op)), &[], origin)
        };
        self.image_vertices.insert(key, output);
        output
    }

    fn image_title(&self, name: &str) -> String {
        name.parse::<rbuild_image::Reference>().map_or_else(|_| name.to_owned(), |reference| reference.to_string())
    }

    fn check_platform(&mut self, name: &str, config: &ImageConfig, wanted: &Platform, span: Span) {
        let found = config.platform();
        if found.os.is_empty() || (&found.os, &found.arch) == (&wanted.os, &wanted.arch) {
            return;
        }
        let message = format!("`{name}` is for {found}, not for {wanted}");
        self.notes.warn(Diagnostic::warning(Rule::InvalidBaseImagePlatform, span, message));
    }

    fn instruction(&mut self, state: &mut State, site: &Site<'_>) -> Result<(), Diagnostic> {
        match &site.instruction.kind {
            Kind::Add(add) => self.add_files(state, site, add),
            Kind::Copy(copy) => self.copy_files(state, site, copy),
            Kind::Run(run) => self.run(state, site, run),
            Kind::Workdir(path) => self.workdir(state, site, path),
            Kind::Arg(arg) => self.arg(state, site, arg),
            Kind::Env(pairs) => self.env(state, pairs),
            Kind::Label(pairs) => self.label(state, pairs),
            Kind::Expose(words) => self.expose(state, words),
            Kind::Stopsignal(word) => self.stopsignal(state, word),
            Kind::User(word) => self.user(state, word),
            Kind::Volume(words) => self.volume(state, words),
            Kind::Cmd(_)
            | Kind::Entrypoint(_)
            | Kind::Healthcheck(_)
            | Kind::Maintainer(_)
            | Kind::Onbuild(_)
            | Kind::Shell(_) => {
                self.refute(state, &site.instruction.kind);
                metadata::record(state, site.instruction);
                Ok(())
            }
        }
    }

    /// A shell that the base image chose is meant.
    fn refute(&mut self, state: &State, kind: &Kind) {
        if let Kind::Cmd(Command::Shell(line)) | Kind::Entrypoint(Command::Shell(line)) = kind
            && state.image.config.shell.as_ref().is_some_and(|shell| !shell.is_empty())
        {
            self.refuted.push(line.span);
        }
    }

    fn workdir(&mut self, state: &mut State, site: &Site<'_>, word: &Word) -> Result<(), Diagnostic> {
        let path = self.expand(state, word)?;
        // `check` sees what is constant.
        let has_values = word.text.contains('$');
        if !state.own_directory && !path.starts_with('/') && has_values {
            let message = format!("relative `WORKDIR {path}` depends on where the base image starts");
            self.notes.warn(Diagnostic::warning(Rule::WorkdirRelativePath, word.span, message));
        }
        state.own_directory = true;
        let path = state.absolute(&path);
        state.config().working_dir.clone_from(&path);
        let text = format!("WORKDIR {path}");
        if path == "/" {
            state.record(text, LayerKind::None);
            return Ok(());
        }
        let action = FileAction::MakeDirectory {
            path,
            owner: owner::owner(&state.image.config.user),
            mtime: self.globals.epoch,
        };
        let origin = self.origin(state, site, &text);
        state.root = self.add(Op::File(FileOp { actions: vec![action] }), &[state.root], origin);
        state.record(text, LayerKind::Directory);
        Ok(())
    }
}

/// Whether the instruction counts as a step.
fn makes_layer(instruction: &Instruction) -> bool {
    matches!(instruction.kind, Kind::Add(_) | Kind::Copy(_) | Kind::Run(_) | Kind::Workdir(_))
}

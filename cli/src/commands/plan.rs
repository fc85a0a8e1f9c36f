//! `rbuild plan`: what would a build do?
//!
//! The command line is that of `rbuild build`, so that `plan` can be put in its place; what only matters once there is a
//! result is accepted and not shown in the help. Four ways of writing the same plan: for people, for programs
//! (`docs/plan.md`), and for two tools that draw graphs.

mod dot;
mod json;
mod mermaid;
mod text;

use std::io::{self, Write};

use clap::{Arg, Args};
use rbuild_engine::{BuildError, BuildPlan, BuildRequest, Cause, Engine, Forecast, Input, PlannedStep, StepInput};

use super::build::BuildArgs;
use crate::diagnostics::{self, Colour};
use crate::failure::Failure;
use crate::session::{Session, print};

/// Arguments of `build` that only matter once there is a result.
const WITHOUT_EFFECT: [&str; 12] = [
    "tags",
    "outputs",
    "progress",
    "quiet",
    "push",
    "load",
    "jobs",
    "iidfile",
    "metadata_file",
    "check",
    "call",
    "explain",
];

#[derive(Args, Clone, Debug)]
#[command(mut_args(without_effect_hidden))]
pub struct PlanArgs {
    #[command(flatten)]
    build: BuildArgs,

    /// How the plan is written; `dot` is for Graphviz
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    format: PlanFormat,
}

/// `--format` of `plan`.
#[derive(Clone, Copy, Debug, Eq, PartialEq, clap::ValueEnum)]
pub enum PlanFormat {
    Text,
    Json,
    Dot,
    Mermaid,
}

fn without_effect_hidden(argument: Arg) -> Arg {
    let hidden = argument.is_hide_set() || WITHOUT_EFFECT.contains(&argument.get_id().as_str());
    argument.hide(hidden)
}

impl PlanArgs {
    pub async fn execute(&self, session: &Session) -> Result<(), Failure> {
        let request = self.build.request(&Input::new(io::stdin()), |name| std::env::var_os(name).is_some())?;
        show(&session.engine()?, &request, self.format).await.map_err(|error| match error {
            Shown::Plan(error) => self.build.explain(error),
            Shown::Output(failure) => failure,
        })
    }
}

/// Why no plan was shown.
#[derive(Debug)]
pub enum Shown {
    Plan(BuildError),
    Output(Failure),
}

impl From<Shown> for Failure {
    fn from(error: Shown) -> Self {
        match error {
            Shown::Plan(error) => error.into(),
            Shown::Output(failure) => failure,
        }
    }
}

/// Writes the plan of a build to standard output, and to standard error what is doubtful about its Dockerfile.
pub async fn show(engine: &Engine, request: &BuildRequest, format: PlanFormat) -> Result<(), Shown> {
    let plan = engine.plan(request).await.map_err(Shown::Plan)?;
    let warnings = diagnostics::render(&plan.source, &plan.warnings, Colour::of(&io::stderr()));
    // Whoever closed standard error does not want to know.
    drop(io::stderr().write_all(warnings.as_bytes()));
    let text = match format {
        PlanFormat::Text => text::text(&plan, Colour::of(&io::stdout())),
        PlanFormat::Json => format!("{:#}\n", json::json(&plan)),
        PlanFormat::Dot => dot::dot(&plan),
        PlanFormat::Mermaid => mermaid::mermaid(&plan),
    };
    print(&text).map_err(Shown::Output)
}

/// What a stage is called, by its place.
fn stage_name(plan: &BuildPlan, stage: usize) -> String {
    plan.stages[stage].name.clone().unwrap_or_else(|| format!("stage-{stage}"))
}

/// The instruction alone, without what progress puts before it and without what a terminal would act on.
fn instruction(step: &PlannedStep) -> String {
    let text = match step.title.strip_prefix('[').and_then(|rest| rest.split_once("] ")) {
        Some((_, text)) => text,
        None => &step.title,
    };
    text.chars().map(|character| if character.is_control() { ' ' } else { character }).collect()
}

/// What a context is called.
fn context_name(name: &str) -> String {
    if name == "context" { name.to_owned() } else { format!("context {name}") }
}

/// One word for what would come of a step.
fn word(forecast: &Forecast) -> &'static str {
    match forecast {
        Forecast::Cached => "cached",
        Forecast::Skipped => "skipped",
        Forecast::Pulled { .. } => "pulled",
        Forecast::Depends(_) => "maybe",
        Forecast::Same(_) => "same",
        Forecast::Runs(Cause::NeverBuilt) => "new",
        Forecast::Runs(Cause::Forced) => "forced",
        Forecast::Runs(_) => "runs",
    }
}

/// The contexts that steps read, each once.
fn contexts(plan: &BuildPlan) -> Vec<&str> {
    let mut names = Vec::new();
    for input in plan.steps.iter().flat_map(|step| &step.inputs) {
        if let StepInput::Context { name, .. } = input
            && !names.contains(&name.as_str())
        {
            names.push(name.as_str());
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rbuild_engine::{Change, Changes, ComponentChange, PlannedStage, StepKind};
    use rbuild_frontend::Source;

    use super::*;

    fn stage(name: Option<&str>, base: &str, line: usize, needed: bool) -> PlannedStage {
        PlannedStage { name: name.map(str::to_owned), base: base.to_owned(), line, needed }
    }

    fn step(stage: usize, title: &str, line: usize, inputs: &[StepInput], forecast: Forecast) -> PlannedStep {
        let kind = match title.split("] ").last() {
            Some(text) if text.starts_with("FROM") => StepKind::Image,
            Some(text) if text.starts_with("RUN") => StepKind::Exec,
            _ => StepKind::File,
        };
        PlannedStep { stage, title: title.to_owned(), kind, lines: (line, line), inputs: inputs.to_vec(), forecast }
    }

    fn change(name: &str, before: Option<&str>, after: Option<&str>) -> ComponentChange {
        ComponentChange { name: name.to_owned(), before: before.map(str::to_owned), after: after.map(str::to_owned) }
    }

    /// Three stages and a half, with every kind of forecast and letters that formats give a meaning.
    pub(super) fn sample() -> BuildPlan {
        let context = |name: &str, include: &[&str]| StepInput::Context {
            name: name.to_owned(),
            include: include.iter().map(|pattern| (*pattern).to_owned()).collect(),
        };
        let on = StepInput::Step;
        let changes = vec![
            change("argument 2", Some("make\n"), Some("make \"all\" # <fast>")),
            change("env VERSION", None, Some("2")),
            change("env DEBUG", Some("1"), None),
        ];
        let changed = Changes { shown: vec![("go.sum".to_owned(), Change::Content)], others: 0 };
        let heredoc =
            "[build 5/6] RUN <<\"EOF\" (echo [a] | tee `b` {c}...) and a tail too long to be shown on one line";
        BuildPlan {
            source: Arc::new(Source::new("Dockerfile", "")),
            warnings: Vec::new(),
            platform: "linux/amd64".parse().unwrap(),
            target: 3,
            stages: vec![
                stage(Some("build"), "golang:1.22", 2, true),
                stage(Some("debug"), "build", 12, false),
                stage(None, "base", 14, true),
                stage(Some("final"), "scratch", 20, true),
            ],
            steps: vec![
                step(0, "[build 1/6] FROM golang:1.22", 2, &[], Forecast::Pulled { missing: 2, layers: 5 }),
                step(0, "[build 2/6] WORKDIR /src", 3, &[on(0)], Forecast::Cached),
                step(
                    0,
                    "[build 3/6] COPY go.mod go.sum ./",
                    4,
                    &[on(1), context("context", &["go.mod", "go.sum"])],
                    Forecast::Runs(Cause::Files { context: "context".to_owned(), changes: Some(changed) }),
                ),
                step(0, "[build 4/6] RUN make", 5, &[on(2)], Forecast::Runs(Cause::Changed(changes))),
                step(0, heredoc, 6, &[on(3)], Forecast::Depends(3)),
                step(0, "[build 6/6] RUN true\u{1b}[2J", 9, &[on(4)], Forecast::Runs(Cause::Forced)),
                step(2, "[stage-2 1/2] RUN gone", 16, &[on(0)], Forecast::Runs(Cause::Forgotten)),
                step(2, "[stage-2 2/2] WORKDIR /src", 17, &[on(0)], Forecast::Same(1)),
                step(3, "[final 1/3] RUN once", 21, &[on(7)], Forecast::Skipped),
                step(
                    3,
                    "[final 2/3] COPY --from=build /a /b /c /d /e /",
                    22,
                    &[StepInput::Scratch, on(5), on(6), on(7), context("tools", &[])],
                    Forecast::Depends(6),
                ),
                step(3, "[final 3/3] ADD a /", 23, &[on(9), on(1)], Forecast::Runs(Cause::NeverBuilt)),
            ],
        }
    }

    #[test]
    fn only_what_matters_before_a_build_is_in_the_help() {
        let command = PlanArgs::augment_args(clap::Command::new("plan"));
        let shown = |name: &str| {
            let argument = command.get_arguments().find(|argument| argument.get_id() == name);
            !argument.unwrap_or_else(|| panic!("{name}")).is_hide_set()
        };
        assert!(shown("context") && shown("build_args") && shown("target") && shown("format"));
        assert!(!WITHOUT_EFFECT.iter().any(|name| shown(name)));
    }
}

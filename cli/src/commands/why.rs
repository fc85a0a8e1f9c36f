//! `rbuild why`: why did the last build do what it did?
//!
//! Reads what the build wrote down (`docs/plan.md`), and executes nothing. `rbuild build --explain` shows the same at the
//! end of the build.

mod json;
mod text;

use std::io;
use std::path::{Path, PathBuf};

use clap::Args;
use rbuild_engine::{Engine, PastBuild, PastStep};

use crate::diagnostics::Colour;
use crate::failure::Failure;
use crate::human::Clock;
use crate::session::{Session, print};

#[derive(Args, Clone, Debug)]
pub struct WhyArgs {
    /// A step: its number in the progress (`4`), its instruction (`RUN make`), stage and instruction (`build RUN make`),
    /// or a part of that [default: all that were not cached]
    #[arg(value_name = "STEP")]
    step: Vec<String>,

    /// The Dockerfile that was built [default: the last that was built in or of this directory]
    #[arg(short, long, value_name = "PATH")]
    file: Option<PathBuf>,

    /// How the answer is written
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    format: WhyFormat,
}

/// `--format` of `why`, and what `build --explain` takes.
#[derive(Clone, Copy, Debug, Eq, PartialEq, clap::ValueEnum)]
pub enum WhyFormat {
    Text,
    Json,
}

impl WhyArgs {
    pub fn execute(&self, session: &Session) -> Result<(), Failure> {
        let engine = session.engine()?;
        let Some(build) = engine.past_build(self.file.as_deref(), Path::new("."))? else {
            return Err(nothing_known(&engine, self.file.as_deref())?);
        };
        let wanted = self.step.join(" ");
        let step = if wanted.is_empty() { None } else { Some(find(&build, &wanted)?) };
        print(&show(&build, step, self.format))
    }
}

/// The answer.
pub fn show(build: &PastBuild, step: Option<usize>, format: WhyFormat) -> String {
    match format {
        WhyFormat::Text => text::text(build, step, Clock::now(), Colour::of(&io::stdout())),
        WhyFormat::Json => format!("{:#}\n", json::json(build, step)),
    }
}

fn nothing_known(engine: &Engine, file: Option<&Path>) -> Result<Failure, Failure> {
    let what = file.map_or_else(|| "in this directory".to_owned(), |file| format!("of `{}`", file.display()));
    let failure = Failure::message(format!("no build {what} is remembered"));
    Ok(match engine.latest_build()? {
        Some(latest) => failure.hint(format!("the last that made something was of `{}`", latest.dockerfile)),
        None => failure.hint("builds that only find things in the cache are not remembered"),
    })
}

/// The place of the step that is meant.
fn find(build: &PastBuild, wanted: &str) -> Result<usize, Failure> {
    let number = wanted.strip_prefix('#').unwrap_or(wanted).parse::<usize>().ok();
    let ways: [&dyn Fn(&PastStep) -> bool; 4] = [
        &|step| number.is_some() && step.number == number,
        &|step| step.title == wanted || parts(step).1 == wanted,
        &|step| named(step).starts_with(wanted),
        &|step| named(step).contains(wanted) || step.title.starts_with(wanted),
    ];
    // A number is that of the progress, or nothing: titles are full of numbers.
    let ways = if number.is_some() { &ways[..1] } else { &ways[..] };
    for way in ways {
        let found: Vec<usize> = (0..build.steps.len()).filter(|at| way(&build.steps[*at])).collect();
        match found.as_slice() {
            [] => {}
            [one] => return Ok(*one),
            several => {
                let shown = several.iter().take(5).map(|at| label(build, *at) + " " + &build.steps[*at].title);
                let shown = shown.collect::<Vec<_>>().join(", ");
                let failure = Failure::usage(format!("`{wanted}` can be {} steps", several.len()));
                return Err(failure.hint(format!("say which by its number: {shown}")));
            }
        }
    }
    let failure = Failure::usage(format!("the last build has no step `{wanted}`"));
    Err(failure.hint("`rbuild why --format json` lists all of its steps"))
}

/// Stage and instruction of a title such as `[build 2/5] RUN make`.
fn parts(step: &PastStep) -> (&str, &str) {
    let split = step.title.strip_prefix('[').and_then(|rest| rest.split_once("] "));
    let Some((counter, instruction)) = split else { return ("", &step.title) };
    (counter.rsplit_once(' ').map_or("", |(stage, _)| stage.trim()), instruction)
}

fn named(step: &PastStep) -> String {
    let (stage, instruction) = parts(step);
    format!("{stage} {instruction}")
}

/// What a step is called in causes: its number in the progress.
fn label(build: &PastBuild, at: usize) -> String {
    let step = build.steps.get(at);
    match step.and_then(|step| step.number) {
        Some(number) => format!("#{number}"),
        None => step.map_or_else(|| "another step".to_owned(), |step| format!("`{}`", step.title)),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rbuild_core::{Digest, Resources};
    use rbuild_engine::{Cause, Change, Changes, ComponentChange, PastResult, PastVerdict, StepKind};

    use super::*;

    /// One step for each verdict and most causes.
    pub(super) fn sample() -> PastBuild {
        let files = Changes {
            shown: vec![("src/a.js".to_owned(), Change::Content), ("b.txt".to_owned(), Change::Added)],
            others: 12,
        };
        let version = ComponentChange {
            name: "env VERSION".to_owned(),
            before: Some("1".to_owned()),
            after: Some("2".to_owned()),
        };
        let moved = ComponentChange {
            name: "image".to_owned(),
            before: Some(Digest::sha256([0x12; 32]).to_string()),
            after: Some(Digest::sha256([0x34; 32]).to_string()),
        };
        let took = Resources {
            user: Duration::from_millis(2800),
            system: Duration::from_millis(100),
            peak_memory: 120_000_000,
            read: 0,
            written: 3_000_000,
        };
        let step = |number, title: &str, kind, line, verdict, millis: Option<u64>, resources| PastStep {
            number,
            title: title.to_owned(),
            kind,
            lines: (line, line),
            verdict,
            duration: millis.map(Duration::from_millis),
            resources,
        };
        let context = Cause::Files { context: "context".to_owned(), changes: Some(files) };
        use PastVerdict::{Cached, Failed, Kept, Ran, Same, Skipped, Unfinished};
        PastBuild {
            dockerfile: "/src/Dockerfile".to_owned(),
            context: Some("/src".to_owned()),
            platform: "linux/amd64".parse().unwrap(),
            ended: 1_795_341_420,
            elapsed: Duration::from_millis(12_340),
            result: PastResult::Failed(
                "process `/bin/sh -c false` did not complete successfully: exit code: 1".to_owned(),
            ),
            steps: vec![
                step(Some(1), "[build 1/6] FROM node:8", StepKind::Image, 1, Skipped, None, None),
                step(Some(3), "[build 2/6] WORKDIR /app", StepKind::File, 2, Cached, None, None),
                step(Some(4), "[build 3/6] COPY . /app", StepKind::File, 3, Ran(vec![context]), Some(200), None),
                step(
                    Some(5),
                    "[build 4/6] RUN make",
                    StepKind::Exec,
                    4,
                    Ran(vec![Cause::Changed(vec![version]), Cause::Input(2)]),
                    Some(3100),
                    Some(took),
                ),
                step(
                    Some(6),
                    "[build 5/6] RUN strip /app/bin",
                    StepKind::Exec,
                    5,
                    Kept(vec![Cause::Input(3)]),
                    None,
                    None,
                ),
                step(
                    Some(7),
                    "[test 1/3] FROM debian",
                    StepKind::Image,
                    7,
                    Ran(vec![Cause::Changed(vec![moved])]),
                    Some(0),
                    None,
                ),
                step(Some(8), "[test 2/3] RUN false", StepKind::Exec, 8, Failed(vec![Cause::Input(5)]), None, None),
                step(None, "[test 3/3] RUN make", StepKind::Exec, 9, Unfinished(vec![Cause::Forced]), None, None),
                step(Some(9), "[stage-2 1/1] WORKDIR /app", StepKind::File, 11, Same(1), None, None),
            ],
        }
    }

    #[test]
    fn a_step_is_found_by_number_title_or_a_part_of_it() {
        let build = sample();
        for (wanted, expected) in [
            ("4", Ok(2)),
            ("#5", Ok(3)),
            ("[build 3/6] COPY . /app", Ok(2)),
            ("COPY . /app", Ok(2)),
            ("build RUN make", Ok(3)),
            ("test RUN m", Ok(7)),
            ("strip", Ok(4)),
            (
                "RUN make",
                Err(
                    "error: `RUN make` can be 2 steps\nhint: say which by its number: #5 [build 4/6] RUN make, `[test 3/3] RUN make` [test 3/3] RUN make\n",
                ),
            ),
            (
                "6/6",
                Err(
                    "error: the last build has no step `6/6`\nhint: `rbuild why --format json` lists all of its steps\n",
                ),
            ),
            (
                "99",
                Err(
                    "error: the last build has no step `99`\nhint: `rbuild why --format json` lists all of its steps\n",
                ),
            ),
        ] {
            let found = find(&build, wanted).map_err(|failure| failure.text(Colour::Plain).unwrap());
            assert_eq!(found.as_ref().map_err(String::as_str), expected.as_ref().map_err(|text| *text), "{wanted}");
        }
    }
}

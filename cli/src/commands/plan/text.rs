//! How does a person read a plan?
//!
//! One line per step, a hundred columns wide, and below it what has changed. Words that need an explanation have it at
//! the end, so that it is not on every line.

use std::fmt::Write as _;

use rbuild_engine::{BuildPlan, Cause, Forecast, PlannedStep, StepInput};
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use super::{context_name, instruction, stage_name, word};
use crate::commands::cause;
use crate::diagnostics::Colour;
use crate::human;

/// How wide the instruction is.
const INSTRUCTION: usize = 58;
/// Where the instruction begins.
const INDENT: usize = 21;
/// How wide the last column is.
const NEEDS: usize = 19;
/// How wide what stands below the instruction is.
const BELOW: usize = INSTRUCTION + 2 + NEEDS;

/// The words that one line cannot explain.
const LEGEND: [(&str, &str); 6] = [
    ("new", "it runs: no such step was ever built"),
    ("forced", "it runs: results of earlier builds may not be used"),
    ("maybe", "it runs, unless what it needs turns out to have the same files as before"),
    ("skipped", "nothing is done: only cached steps need it"),
    ("same", "it is done once, with the step that says the same"),
    ("pulled", "layers of the base image are fetched"),
];

/// The plan as lines of at most a hundred columns, whatever the Dockerfile says.
pub fn text(plan: &BuildPlan, colour: Colour) -> String {
    let paint = |code: &str, text: &str| match colour {
        Colour::Ansi if !code.is_empty() => format!("\x1b[{code}m{text}\x1b[0m"),
        _ => text.to_owned(),
    };
    let mut out = format!("{}\n\n", heading(plan));
    let columns = format!("step  line  result   {:INSTRUCTION$}  needs", "instruction");
    writeln!(out, "{}", paint("2", &columns)).expect(ENDLESS);
    for (index, stage) in plan.stages.iter().enumerate() {
        let name = stage_name(plan, index);
        let base = human::shorten(&stage.base, INSTRUCTION);
        if !stage.needed {
            let line = format!("{name}: FROM {base} on line {}, not needed", stage.line);
            writeln!(out, "\n{}", paint("2", &line)).expect(ENDLESS);
            continue;
        }
        writeln!(out, "\n{}: FROM {base}", paint("1", &name)).expect(ENDLESS);
        for (number, step) in plan.steps.iter().enumerate().filter(|(_, step)| step.stage == index) {
            let word = word(&step.forecast);
            let cells = format!("{:>4}  {:>4}  ", number + 1, step.lines.0);
            let word = paint(code(&step.forecast), word) + &" ".repeat(7 - word.len());
            let needs = needs(step);
            let fits = needs.width() <= NEEDS;
            let shown = fit(&instruction(step), INSTRUCTION);
            let row = format!("{cells}{word}  {}  {}", pad(&shown), if fits { &needs } else { "" });
            writeln!(out, "{}", row.trim_end()).expect(ENDLESS);
            let reasons = reasons(step);
            let needs = if fits { None } else { Some(format!("needs {needs}")) };
            for line in needs.into_iter().chain(reasons) {
                writeln!(out, "{:INDENT$}{}", "", paint("2", &fit(&line, BELOW))).expect(ENDLESS);
            }
        }
    }
    let used: Vec<&str> = plan.steps.iter().map(|step| word(&step.forecast)).collect();
    for (at, (word, meaning)) in LEGEND.iter().filter(|(word, _)| used.contains(word)).enumerate() {
        let before = if at == 0 { "\n" } else { "" };
        writeln!(out, "{before}{}", paint("2", &format!("{word:7}  {meaning}"))).expect(ENDLESS);
    }
    out
}

const ENDLESS: &str = "a String takes everything";

fn heading(plan: &BuildPlan) -> String {
    let count = |which: &[&str]| plan.steps.iter().filter(|step| which.contains(&word(&step.forecast))).count();
    let counts = [
        (count(&["cached", "skipped", "same"]), "cached"),
        (count(&["pulled"]), "pulled"),
        (count(&["new", "forced", "runs"]), "to run"),
        (count(&["maybe"]), "maybe"),
    ];
    let counts = counts.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}"));
    let total = match plan.steps.len() {
        0 => "no steps".to_owned(),
        1 => "1 step: ".to_owned(),
        total => format!("{total} steps: "),
    };
    let name = stage_name(plan, plan.target);
    format!(
        "{}, stage {name} for {}\n{total}{}",
        plan.source.name(),
        plan.platform,
        counts.collect::<Vec<_>>().join(", ")
    )
}

fn code(forecast: &Forecast) -> &'static str {
    match forecast {
        Forecast::Cached => "32",
        Forecast::Skipped | Forecast::Same(_) => "2",
        Forecast::Pulled { .. } => "34",
        Forecast::Depends(_) => "33",
        Forecast::Runs(_) => "1",
    }
}

fn needs(step: &PlannedStep) -> String {
    let mut names: Vec<String> = Vec::new();
    for input in &step.inputs {
        let name = match input {
            StepInput::Step(number) => (number + 1).to_string(),
            StepInput::Context { name, .. } => context_name(name),
            StepInput::Scratch => continue,
        };
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names.join(", ")
}

/// What stands below a step: nothing where its word says all.
fn reasons(step: &PlannedStep) -> Vec<String> {
    let one = match &step.forecast {
        Forecast::Cached | Forecast::Skipped | Forecast::Runs(Cause::NeverBuilt | Cause::Forced) => return Vec::new(),
        Forecast::Depends(number) if step.inputs.first() == Some(&StepInput::Step(*number)) => return Vec::new(),
        Forecast::Depends(number) => format!("step {} may not be what it was", number + 1),
        Forecast::Same(number) => format!("as step {}", number + 1),
        Forecast::Pulled { missing, layers } => format!("{missing} of its {layers} layers are not here"),
        Forecast::Runs(cause) => return cause::lines(cause, |step| format!("step {}", step + 1)),
    };
    vec![one]
}

/// As much of the text as fits, with an ellipsis if that is not all.
fn fit(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let mut used = 1;
    let kept = text.chars().take_while(|character| {
        used += character.width().unwrap_or(0);
        used <= width
    });
    kept.chain(['…']).collect()
}

/// The text in the width of the column for instructions.
fn pad(text: &str) -> String {
    format!("{text}{}", " ".repeat(INSTRUCTION.saturating_sub(text.width())))
}

#[cfg(test)]
mod tests {
    use super::super::tests::sample;
    use super::*;

    #[test]
    fn a_plan_is_a_table_by_stages() {
        insta::assert_snapshot!(text(&sample(), Colour::Plain), @r#"
        Dockerfile, stage final for linux/amd64
        11 steps: 3 cached, 1 pulled, 5 to run, 2 maybe

        step  line  result   instruction                                                 needs

        build: FROM golang:1.22
           1     2  pulled   FROM golang:1.22
                             2 of its 5 layers are not here
           2     3  cached   WORKDIR /src                                                1
           3     4  runs     COPY go.mod go.sum ./                                       2, context
                             files in the build context changed:
                             content  go.sum
           4     5  runs     RUN make                                                    3
                             argument 2: `make\n` became `make \"all\" # <fast>`
                             variable VERSION: `2` is new
                             variable DEBUG: `1` is gone
           5     6  maybe    RUN <<"EOF" (echo [a] | tee `b` {c}...) and a tail too lo…  4
           6     9  forced   RUN true [2J                                                5

        debug: FROM build on line 12, not needed

        stage-2: FROM base
           7    16  runs     RUN gone                                                    1
                             its result is no longer there
           8    17  same     WORKDIR /src                                                1
                             as step 2

        final: FROM scratch
           9    21  skipped  RUN once                                                    8
          10    22  maybe    COPY --from=build /a /b /c /d /e /
                             needs 6, 7, 8, context tools
                             step 7 may not be what it was
          11    23  new      ADD a /                                                     10, 2

        new      it runs: no such step was ever built
        forced   it runs: results of earlier builds may not be used
        maybe    it runs, unless what it needs turns out to have the same files as before
        skipped  nothing is done: only cached steps need it
        same     it is done once, with the step that says the same
        pulled   layers of the base image are fetched
        "#);
    }

    #[test]
    fn no_line_is_wider_than_a_hundred_columns() {
        let mut plan = sample();
        for step in &mut plan.steps {
            step.title = format!("[a 1/1] RUN {}", "字".repeat(200));
            step.inputs = (0..60).map(StepInput::Step).collect();
        }
        for line in text(&plan, Colour::Plain).lines() {
            assert!(line.width() <= 100, "{line}");
        }
    }

    #[test]
    fn colours_repeat_what_words_say() {
        let plain = text(&sample(), Colour::Plain);
        let painted = text(&sample(), Colour::Ansi);
        assert_ne!(painted, plain);
        let mut bare = String::new();
        let mut rest = painted.as_str();
        while let Some((before, after)) = rest.split_once("\x1b[") {
            bare.push_str(before);
            rest = after.split_once('m').unwrap().1;
        }
        assert_eq!(bare + rest, plain);
    }
}

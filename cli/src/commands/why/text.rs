//! How does a person read why steps ran?

use std::fmt::Write as _;
use std::time::Duration;

use jiff::Timestamp;
use rbuild_core::Resources;
use rbuild_engine::{Cause, PastBuild, PastResult, PastStep, PastVerdict};

use super::label;
use crate::commands::cause;
use crate::diagnostics::Colour;
use crate::human::{self, Clock};

/// Where titles begin.
const INDENT: usize = 24;
const ENDLESS: &str = "a String takes everything";

/// All steps that were not found, or one and what it is because of.
pub fn text(build: &PastBuild, wanted: Option<usize>, clock: Clock, colour: Colour) -> String {
    let paint = |code: &str, text: &str| match colour {
        Colour::Ansi => format!("\x1b[{code}m{text}\x1b[0m"),
        Colour::Plain => text.to_owned(),
    };
    let mut out = format!("{}\n", heading(build, clock));
    let shown = match wanted {
        Some(step) => chain(build, step),
        None => (0..build.steps.len()).filter(|at| !build.steps[*at].verdict.causes().is_empty()).collect(),
    };
    for at in shown {
        let step = &build.steps[at];
        let took = step.duration.map(human::seconds).unwrap_or_default();
        let number = step.number.map(|number| format!("#{number}")).unwrap_or_default();
        let word = word(&step.verdict);
        let title: String = step.title.chars().map(|one| if one.is_control() { ' ' } else { one }).collect();
        let painted = paint(code(&step.verdict), word) + &" ".repeat(9usize.saturating_sub(word.len()));
        writeln!(out, "\n{number:>5}  {painted} {took:>6} {title}").expect(ENDLESS);
        for line in below(build, step) {
            writeln!(out, "{:INDENT$}{}", "", paint("2", &line)).expect(ENDLESS);
        }
    }
    out
}

/// The step and, inputs first, all that it ran because of.
fn chain(build: &PastBuild, step: usize) -> Vec<usize> {
    let mut shown = vec![step];
    let mut next = 0;
    while let Some(at) = shown.get(next).copied() {
        next += 1;
        for cause in build.steps[at].verdict.causes() {
            if let Cause::Input(input) = cause
                && *input < build.steps.len()
                && !shown.contains(input)
            {
                shown.push(*input);
            }
        }
    }
    shown.sort_unstable();
    shown
}

fn heading(build: &PastBuild, clock: Clock) -> String {
    let ended = i64::try_from(build.ended).ok().and_then(|seconds| Timestamp::from_second(seconds).ok());
    let ago = clock.ago(ended.map(|time| time.to_string()).as_deref());
    let (verb, came) = match &build.result {
        PastResult::Image(id) => ("built", format!("image {id}")),
        PastResult::Failed(why) => ("failed", why.lines().next().unwrap_or_default().to_owned()),
    };
    let count = |which: &[&str]| build.steps.iter().filter(|step| which.contains(&word(&step.verdict))).count();
    let counts = [
        (count(&["cached", "skipped", "same"]), "cached"),
        (count(&["kept"]), "kept"),
        (count(&["ran"]), "ran"),
        (count(&["failed"]), "failed"),
        (count(&["not done"]), "not done"),
    ];
    let counts = counts.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}"));
    let counts = counts.collect::<Vec<_>>().join(", ");
    let steps = if build.steps.len() == 1 { "step" } else { "steps" };
    format!(
        "{}: {verb} {} in {}\n{came}\n{} {steps}: {counts}",
        build.dockerfile,
        ago.to_lowercase(),
        human::seconds(build.elapsed),
        build.steps.len(),
    )
}

fn word(verdict: &PastVerdict) -> &'static str {
    match verdict {
        PastVerdict::Cached => "cached",
        PastVerdict::Skipped => "skipped",
        PastVerdict::Same(_) => "same",
        PastVerdict::Kept(_) => "kept",
        PastVerdict::Ran(_) => "ran",
        PastVerdict::Failed(_) => "failed",
        PastVerdict::Unfinished(_) => "not done",
    }
}

fn code(verdict: &PastVerdict) -> &'static str {
    match verdict {
        PastVerdict::Cached | PastVerdict::Kept(_) => "32",
        PastVerdict::Skipped | PastVerdict::Same(_) | PastVerdict::Unfinished(_) => "2",
        PastVerdict::Ran(_) => "1",
        PastVerdict::Failed(_) => "31",
    }
}

fn below(build: &PastBuild, step: &PastStep) -> Vec<String> {
    let mut lines = match &step.verdict {
        PastVerdict::Cached => vec!["its result was found".to_owned()],
        PastVerdict::Skipped => vec!["only cached steps needed it".to_owned()],
        PastVerdict::Same(other) => vec![format!("done once, with {}, which says the same", label(build, *other))],
        PastVerdict::Kept(_) => {
            vec!["inputs made anew, same content: found under the content key".to_owned()]
        }
        PastVerdict::Ran(_) | PastVerdict::Failed(_) | PastVerdict::Unfinished(_) => Vec::new(),
    };
    lines.extend(step.verdict.causes().iter().flat_map(|cause| cause::lines(cause, |input| label(build, input))));
    lines.extend(step.resources.as_ref().map(took));
    lines
}

fn took(resources: &Resources) -> String {
    let Resources { user, system, peak_memory, read, written } = *resources;
    let precise = |time: Duration| format!("{:.2}s", time.as_secs_f64());
    format!(
        "took {} of processor time ({} in the kernel), {} of memory, read {}, wrote {}",
        precise(user + system),
        precise(system),
        human::size(peak_memory),
        human::size(read),
        human::size(written),
    )
}

#[cfg(test)]
mod tests {
    use super::super::tests::sample;
    use super::*;

    fn plain(step: Option<usize>) -> String {
        text(&sample(), step, Clock::at("2026-11-22T10:00:00Z"), Colour::Plain)
    }

    #[test]
    fn what_was_not_found_says_why() {
        insta::assert_snapshot!(plain(None), @"
        /src/Dockerfile: failed 3 minutes ago in 12.3s
        process `/bin/sh -c false` did not complete successfully: exit code: 1
        9 steps: 3 cached, 1 kept, 3 ran, 1 failed, 1 not done

           #4  ran         0.2s [build 3/6] COPY . /app
                                files in the build context changed:
                                content  src/a.js
                                added    b.txt
                                and 12 others

           #5  ran         3.1s [build 4/6] RUN make
                                variable VERSION: `1` became `2`
                                #4 is not what it was
                                took 2.90s of processor time (0.10s in the kernel), 120MB of memory, read 0B, wrote 3MB

           #6  kept             [build 5/6] RUN strip /app/bin
                                inputs made anew, same content: found under the content key
                                #5 is not what it was

           #7  ran         0.0s [test 1/3] FROM debian
                                base image: `sha256:12121212121212121212…` became `sha256:34343434343434343434…`

           #8  failed           [test 2/3] RUN false
                                #7 is not what it was

               not done         [test 3/3] RUN make
                                results of earlier builds may not be used
        ");
    }

    #[test]
    fn a_step_is_shown_with_what_it_is_because_of() {
        insta::assert_snapshot!(plain(Some(4)), @"
        /src/Dockerfile: failed 3 minutes ago in 12.3s
        process `/bin/sh -c false` did not complete successfully: exit code: 1
        9 steps: 3 cached, 1 kept, 3 ran, 1 failed, 1 not done

           #4  ran         0.2s [build 3/6] COPY . /app
                                files in the build context changed:
                                content  src/a.js
                                added    b.txt
                                and 12 others

           #5  ran         3.1s [build 4/6] RUN make
                                variable VERSION: `1` became `2`
                                #4 is not what it was
                                took 2.90s of processor time (0.10s in the kernel), 120MB of memory, read 0B, wrote 3MB

           #6  kept             [build 5/6] RUN strip /app/bin
                                inputs made anew, same content: found under the content key
                                #5 is not what it was
        ");
    }

    #[test]
    fn what_was_found_says_how() {
        insta::assert_snapshot!(plain(Some(8)) + &plain(Some(1)), @"
        /src/Dockerfile: failed 3 minutes ago in 12.3s
        process `/bin/sh -c false` did not complete successfully: exit code: 1
        9 steps: 3 cached, 1 kept, 3 ran, 1 failed, 1 not done

           #9  same             [stage-2 1/1] WORKDIR /app
                                done once, with #3, which says the same
        /src/Dockerfile: failed 3 minutes ago in 12.3s
        process `/bin/sh -c false` did not complete successfully: exit code: 1
        9 steps: 3 cached, 1 kept, 3 ran, 1 failed, 1 not done

           #3  cached           [build 2/6] WORKDIR /app
                                its result was found
        ");
    }
}

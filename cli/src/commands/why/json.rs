//! How does a program read why steps ran?
//!
//! `docs/plan.md` says what the fields mean; a change that would break a reader gets another `version`.

use jiff::Timestamp;
use rbuild_engine::{PastBuild, PastResult, PastStep, PastVerdict, StepKind};
use serde_json::{Map, Value, json};

use crate::commands::cause;
use crate::progress::took;

const VERSION: u32 = 1;

/// The build under the names of `docs/plan.md`; `wanted` leaves out all other steps.
pub fn json(build: &PastBuild, wanted: Option<usize>) -> Value {
    let ended = i64::try_from(build.ended).ok().and_then(|seconds| Timestamp::from_second(seconds).ok());
    let steps = build.steps.iter().enumerate().filter(|(at, _)| wanted.is_none_or(|wanted| wanted == *at));
    let (image, failure) = match &build.result {
        PastResult::Image(id) => (Some(id), None),
        PastResult::Failed(why) => (None, Some(why)),
    };
    json!({
        "version": VERSION,
        "dockerfile": build.dockerfile,
        "context": build.context,
        "platform": build.platform.to_string(),
        "ended": ended.map(|time| time.to_string()),
        "seconds": build.elapsed.as_secs_f64(),
        "image": image,
        "failure": failure,
        "steps": steps.map(|(_, one)| step(build, one)).collect::<Vec<_>>(),
    })
}

fn step(build: &PastBuild, step: &PastStep) -> Value {
    let kind = match step.kind {
        StepKind::Image => "image",
        StepKind::Source => "source",
        StepKind::Exec => "exec",
        StepKind::File => "file",
        StepKind::Merge => "merge",
    };
    let result = match &step.verdict {
        PastVerdict::Cached => "cached",
        PastVerdict::Skipped => "skipped",
        PastVerdict::Same(_) => "same",
        PastVerdict::Kept(_) => "kept",
        PastVerdict::Ran(_) => "ran",
        PastVerdict::Failed(_) => "failed",
        PastVerdict::Unfinished(_) => "unfinished",
    };
    let number = |at: usize| json!(build.steps.get(at).and_then(|step| step.number));
    let causes = step.verdict.causes().iter().map(|cause| cause::json(cause, number));
    let mut fields = Map::new();
    for (name, value) in [
        ("number", json!(step.number)),
        ("title", json!(step.title)),
        ("kind", json!(kind)),
        ("lines", json!([step.lines.0, step.lines.1])),
        ("result", json!(result)),
        ("causes", causes.collect()),
    ] {
        fields.insert(name.to_owned(), value);
    }
    if let PastVerdict::Same(other) = step.verdict {
        fields.insert("same_as".to_owned(), number(other));
    }
    if let Some(duration) = step.duration {
        fields.insert("seconds".to_owned(), json!(duration.as_secs_f64()));
    }
    if let Some(Value::Object(resources)) = step.resources.map(took) {
        fields.extend(resources);
    }
    Value::Object(fields)
}

#[cfg(test)]
mod tests {
    use super::super::tests::sample;

    #[test]
    fn the_fields_are_those_of_the_documentation() {
        let mut build = sample();
        build.steps.truncate(5);
        build.steps.drain(..2);
        build.steps[1].verdict = rbuild_engine::PastVerdict::Ran(vec![rbuild_engine::Cause::Input(0)]);
        build.steps[2].verdict = rbuild_engine::PastVerdict::Kept(vec![rbuild_engine::Cause::Input(1)]);
        let text = format!("{:#}\n", super::json(&build, None));
        let documentation = include_str!("../../../../docs/plan.md");
        let part = documentation.split_once("## What did the last build do?").unwrap().1;
        let example = part.split_once("```json\n").unwrap().1.split_once("```").unwrap().0;
        assert_eq!(text, example, "the example of docs/plan.md, as it should be:\n{text}");
    }
}

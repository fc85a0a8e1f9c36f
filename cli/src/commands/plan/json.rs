//! How does a program read a plan?
//!
//! `docs/plan.md` says what the fields mean, and promises that they stay what they are: a change that would break a
//! reader gets another `version`.

use rbuild_engine::{BuildPlan, Forecast, PlannedStep, StepInput, StepKind};
use serde_json::{Map, Value, json};

use crate::commands::cause;

const VERSION: u32 = 1;

/// The plan under the names of `docs/plan.md`.
pub fn json(plan: &BuildPlan) -> Value {
    let count = |name: &str| plan.steps.iter().filter(|step| forecast(&step.forecast) == name).count();
    let names = ["cached", "skipped", "same", "pull", "run", "depends"];
    let summary: Map<String, Value> = names.iter().map(|name| ((*name).to_owned(), json!(count(name)))).collect();
    let stages = plan.stages.iter().enumerate().map(|(index, stage)| {
        let steps = plan.steps.iter().enumerate().filter(|(_, step)| step.stage == index);
        let steps: Vec<usize> = steps.map(|(at, _)| at + 1).collect();
        json!({
            "index": index,
            "name": stage.name,
            "base": stage.base,
            "line": stage.line,
            "needed": stage.needed,
            "steps": steps,
        })
    });
    json!({
        "version": VERSION,
        "dockerfile": plan.source.name(),
        "platform": plan.platform.to_string(),
        "target": plan.target,
        "summary": summary,
        "stages": stages.collect::<Vec<_>>(),
        "steps": plan.steps.iter().enumerate().map(|(at, planned)| step(at, planned)).collect::<Vec<_>>(),
    })
}

fn step(at: usize, step: &PlannedStep) -> Value {
    let kind = match step.kind {
        StepKind::Image => "image",
        StepKind::Source => "source",
        StepKind::Exec => "exec",
        StepKind::File => "file",
        StepKind::Merge => "merge",
    };
    json!({
        "number": at + 1,
        "stage": step.stage,
        "title": step.title,
        "instruction": super::instruction(step),
        "kind": kind,
        "lines": [step.lines.0, step.lines.1],
        "inputs": step.inputs.iter().map(input).collect::<Vec<_>>(),
        "forecast": forecast(&step.forecast),
        "reason": reason(&step.forecast),
    })
}

fn input(input: &StepInput) -> Value {
    match input {
        StepInput::Step(number) => json!({ "step": number + 1 }),
        StepInput::Context { name, include } => json!({ "context": name, "include": include }),
        StepInput::Scratch => json!({ "scratch": true }),
    }
}

fn forecast(forecast: &Forecast) -> &'static str {
    match forecast {
        Forecast::Cached => "cached",
        Forecast::Skipped => "skipped",
        Forecast::Pulled { .. } => "pull",
        Forecast::Runs(_) => "run",
        Forecast::Depends(_) => "depends",
        Forecast::Same(_) => "same",
    }
}

fn reason(forecast: &Forecast) -> Value {
    match forecast {
        Forecast::Cached | Forecast::Skipped => Value::Null,
        Forecast::Pulled { missing, layers } => json!({ "code": "layers", "missing": missing, "layers": layers }),
        Forecast::Depends(number) => json!({ "code": "input", "step": number + 1 }),
        Forecast::Same(number) => json!({ "code": "same", "step": number + 1 }),
        Forecast::Runs(cause) => cause::json(cause, |step| json!(step + 1)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::sample;

    #[test]
    fn every_forecast_has_its_reason() {
        let json = super::json(&sample());
        let steps = json["steps"].as_array().unwrap().iter();
        let codes: Vec<_> = steps.map(|step| format!("{} {}", step["forecast"], step["reason"]["code"])).collect();
        let expected = [
            ("pull", "layers"),
            ("cached", ""),
            ("run", "files"),
            ("run", "changed"),
            ("depends", "input"),
            ("run", "forced"),
            ("run", "forgotten"),
            ("same", "same"),
            ("skipped", ""),
            ("depends", "input"),
            ("run", "never-built"),
        ];
        let expected = expected.map(|(forecast, code)| match code {
            "" => format!("\"{forecast}\" null"),
            code => format!("\"{forecast}\" \"{code}\""),
        });
        assert_eq!(codes, expected);
    }

    #[test]
    fn the_fields_are_those_of_the_documentation() {
        let mut plan = sample();
        plan.stages.truncate(2);
        plan.steps.truncate(4);
        plan.steps.remove(1);
        plan.steps[1].inputs[0] = rbuild_engine::StepInput::Step(0);
        plan.steps[2].inputs[0] = rbuild_engine::StepInput::Step(1);
        plan.target = 0;
        let text = format!("{:#}\n", super::json(&plan));
        let documentation = include_str!("../../../../docs/plan.md");
        let example = documentation.split_once("```json\n").unwrap().1.split_once("```").unwrap().0;
        assert_eq!(text, example, "the example of docs/plan.md, as it should be:\n{text}");
    }
}

//! How does Graphviz read a plan?
//!
//! A box per step, filled by what would come of it, in a frame per stage; a folder per context. `scratch` is left out: it
//! has nothing. A stage that is not needed is a grey name, since Graphviz does not draw empty frames.

use std::fmt::Write as _;

use rbuild_engine::{BuildPlan, Forecast, StepInput};

use super::{context_name, contexts, instruction, stage_name, word};
use crate::human;

/// Instructions may be long, boxes should not.
const LONGEST: usize = 48;
const ENDLESS: &str = "a String takes everything";

/// The plan in the DOT language, to be drawn by `dot -Tsvg`.
pub fn dot(plan: &BuildPlan) -> String {
    let mut out =
        "digraph plan {\n  rankdir=TB;\n  node [shape=box, style=filled, fontname=\"monospace\"];\n".to_owned();
    for (index, stage) in plan.stages.iter().enumerate() {
        let name = stage_name(plan, index);
        if !stage.needed {
            let label = quoted(&format!("{name}\nnot needed"));
            writeln!(out, "  u{index} [label={label}, shape=plaintext, style=\"\", fontcolor=gray];").expect(ENDLESS);
            continue;
        }
        writeln!(out, "  subgraph cluster_{index} {{\n    label={};", quoted(&name)).expect(ENDLESS);
        for (at, step) in plan.steps.iter().enumerate().filter(|(_, step)| step.stage == index) {
            let text = human::shorten(&instruction(step), LONGEST);
            let label = quoted(&format!("{} {text}\n{}", at + 1, word(&step.forecast)));
            writeln!(out, "    s{} [label={label}, fillcolor={}];", at + 1, quoted(fill(&step.forecast)))
                .expect(ENDLESS);
        }
        out.push_str("  }\n");
    }
    let contexts = contexts(plan);
    for (at, name) in contexts.iter().enumerate() {
        let label = quoted(&context_name(name));
        writeln!(out, "  c{at} [label={label}, shape=folder, fillcolor=white];").expect(ENDLESS);
    }
    for (at, step) in plan.steps.iter().enumerate() {
        for input in &step.inputs {
            let from = match input {
                StepInput::Step(number) => format!("s{}", number + 1),
                StepInput::Context { name, .. } => {
                    let place = contexts.iter().position(|known| known == name);
                    format!("c{}", place.expect("every context of a step was collected"))
                }
                StepInput::Scratch => continue,
            };
            writeln!(out, "  {from} -> s{};", at + 1).expect(ENDLESS);
        }
    }
    out.push_str("}\n");
    out
}

/// A string of the DOT language: backslashes have a meaning there, too.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for character in text.chars() {
        match character {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            other if other.is_control() => quoted.push(' '),
            other => quoted.push(other),
        }
    }
    quoted.push('"');
    quoted
}

fn fill(forecast: &Forecast) -> &'static str {
    match forecast {
        Forecast::Cached => "#d8f0d8",
        Forecast::Skipped | Forecast::Same(_) => "#eeeeee",
        Forecast::Pulled { .. } => "#d8e4f8",
        Forecast::Depends(_) => "#fff2cc",
        Forecast::Runs(_) => "#f8d8d0",
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::process::{Command, Stdio};

    use super::super::tests::sample;
    use super::*;

    #[test]
    fn steps_are_boxes_in_frames() {
        insta::assert_snapshot!(dot(&sample()), @r##"
        digraph plan {
          rankdir=TB;
          node [shape=box, style=filled, fontname="monospace"];
          subgraph cluster_0 {
            label="build";
            s1 [label="1 FROM golang:1.22\npulled", fillcolor="#d8e4f8"];
            s2 [label="2 WORKDIR /src\ncached", fillcolor="#d8f0d8"];
            s3 [label="3 COPY go.mod go.sum ./\nruns", fillcolor="#f8d8d0"];
            s4 [label="4 RUN make\nruns", fillcolor="#f8d8d0"];
            s5 [label="5 RUN <<\"EOF\" (echo [a] | tee `b` {c}...) and a t…\nmaybe", fillcolor="#fff2cc"];
            s6 [label="6 RUN true [2J\nforced", fillcolor="#f8d8d0"];
          }
          u1 [label="debug\nnot needed", shape=plaintext, style="", fontcolor=gray];
          subgraph cluster_2 {
            label="stage-2";
            s7 [label="7 RUN gone\nruns", fillcolor="#f8d8d0"];
            s8 [label="8 WORKDIR /src\nsame", fillcolor="#eeeeee"];
          }
          subgraph cluster_3 {
            label="final";
            s9 [label="9 RUN once\nskipped", fillcolor="#eeeeee"];
            s10 [label="10 COPY --from=build /a /b /c /d /e /\nmaybe", fillcolor="#fff2cc"];
            s11 [label="11 ADD a /\nnew", fillcolor="#f8d8d0"];
          }
          c0 [label="context", shape=folder, fillcolor=white];
          c1 [label="context tools", shape=folder, fillcolor=white];
          s1 -> s2;
          s2 -> s3;
          c0 -> s3;
          s3 -> s4;
          s4 -> s5;
          s5 -> s6;
          s1 -> s7;
          s1 -> s8;
          s8 -> s9;
          s6 -> s10;
          s7 -> s10;
          s8 -> s10;
          c1 -> s10;
          s10 -> s11;
          s2 -> s11;
        }
        "##);
    }

    #[test]
    fn quotes_and_backslashes_stay_what_they_are() {
        assert_eq!(quoted("a\"b\\n\nc\td"), r#""a\"b\\n\nc d""#);
    }

    #[test]
    fn graphviz_draws_it() {
        let started = Command::new("dot").arg("-Tsvg").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let Ok(mut child) = started else {
            println!("skipped: Graphviz is not installed");
            return;
        };
        child.stdin.take().unwrap().write_all(dot(&sample()).as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let svg = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success() && svg.contains("final") && svg.contains("not needed"), "{svg}");
    }
}

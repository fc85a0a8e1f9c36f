//! How does Mermaid read a plan?
//!
//! A flowchart: a node per step, in a subgraph per stage. Labels are quoted, and whatever could mean something in one is
//! written as an entity of Mermaid's (`#quot;`, `#35;`), which is neither HTML's nor JSON's.

use std::fmt::Write as _;

use rbuild_engine::{BuildPlan, Forecast, StepInput};

use super::{context_name, contexts, instruction, stage_name, word};
use crate::human;

/// Instructions may be long, boxes should not.
const LONGEST: usize = 48;
const ENDLESS: &str = "a String takes everything";
const CLASSES: &str = "  classDef cached fill:#d8f0d8,stroke:#3a7a3a,color:#000
  classDef quiet fill:#eeeeee,stroke:#999999,color:#000
  classDef pulled fill:#d8e4f8,stroke:#3a5a9a,color:#000
  classDef maybe fill:#fff2cc,stroke:#a08020,color:#000
  classDef runs fill:#f8d8d0,stroke:#a04030,color:#000
  classDef unused fill:#ffffff,stroke:#cccccc,color:#999999
";

/// The plan as a flowchart, as it stands between the fences of a `mermaid` block.
pub fn mermaid(plan: &BuildPlan) -> String {
    let mut out = "flowchart TB\n".to_owned();
    for (index, stage) in plan.stages.iter().enumerate() {
        let name = stage_name(plan, index);
        if !stage.needed {
            let label = label(&format!("{name}\nnot needed"));
            writeln!(out, "  unused{index}[{label}]:::unused").expect(ENDLESS);
            continue;
        }
        writeln!(out, "  subgraph stage{index}[{}]", label(&name)).expect(ENDLESS);
        for (at, step) in plan.steps.iter().enumerate().filter(|(_, step)| step.stage == index) {
            let text = human::shorten(&instruction(step), LONGEST);
            let label = label(&format!("{} {text}\n{}", at + 1, word(&step.forecast)));
            writeln!(out, "    step{}[{label}]:::{}", at + 1, class(&step.forecast)).expect(ENDLESS);
        }
        out.push_str("  end\n");
    }
    let contexts = contexts(plan);
    for (at, name) in contexts.iter().enumerate() {
        writeln!(out, "  context{at}[({})]", label(&context_name(name))).expect(ENDLESS);
    }
    for (at, step) in plan.steps.iter().enumerate() {
        for input in &step.inputs {
            let from = match input {
                StepInput::Step(number) => format!("step{}", number + 1),
                StepInput::Context { name, .. } => {
                    let place = contexts.iter().position(|known| known == name);
                    format!("context{}", place.expect("every context of a step was collected"))
                }
                StepInput::Scratch => continue,
            };
            writeln!(out, "  {from} --> step{}", at + 1).expect(ENDLESS);
        }
    }
    out.push_str(CLASSES);
    out
}

/// A quoted label. Letters, digits and what certainly means nothing stay; a line feed is a break.
fn label(text: &str) -> String {
    let mut label = String::from("\"");
    for character in text.chars() {
        match character {
            '\n' => label.push_str("<br/>"),
            '"' => label.push_str("#quot;"),
            _ if character.is_control() => label.push(' '),
            ' ' | '/' | '.' | ',' | ':' | '=' | '-' | '_' | '…' => label.push(character),
            _ if character.is_alphanumeric() => label.push(character),
            _ => write!(label, "#{};", u32::from(character)).expect(ENDLESS),
        }
    }
    label.push('"');
    label
}

fn class(forecast: &Forecast) -> &'static str {
    match forecast {
        Forecast::Cached => "cached",
        Forecast::Skipped | Forecast::Same(_) => "quiet",
        Forecast::Pulled { .. } => "pulled",
        Forecast::Depends(_) => "maybe",
        Forecast::Runs(_) => "runs",
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::sample;
    use super::*;

    #[test]
    fn steps_are_nodes_in_subgraphs() {
        insta::assert_snapshot!(mermaid(&sample()), @r#"
        flowchart TB
          subgraph stage0["build"]
            step1["1 FROM golang:1.22<br/>pulled"]:::pulled
            step2["2 WORKDIR /src<br/>cached"]:::cached
            step3["3 COPY go.mod go.sum ./<br/>runs"]:::runs
            step4["4 RUN make<br/>runs"]:::runs
            step5["5 RUN #60;#60;#quot;EOF#quot; #40;echo #91;a#93; #124; tee #96;b#96; #123;c#125;...#41; and a t…<br/>maybe"]:::maybe
            step6["6 RUN true #91;2J<br/>forced"]:::runs
          end
          unused1["debug<br/>not needed"]:::unused
          subgraph stage2["stage-2"]
            step7["7 RUN gone<br/>runs"]:::runs
            step8["8 WORKDIR /src<br/>same"]:::quiet
          end
          subgraph stage3["final"]
            step9["9 RUN once<br/>skipped"]:::quiet
            step10["10 COPY --from=build /a /b /c /d /e /<br/>maybe"]:::maybe
            step11["11 ADD a /<br/>new"]:::runs
          end
          context0[("context")]
          context1[("context tools")]
          step1 --> step2
          step2 --> step3
          context0 --> step3
          step3 --> step4
          step4 --> step5
          step5 --> step6
          step1 --> step7
          step1 --> step8
          step8 --> step9
          step6 --> step10
          step7 --> step10
          step8 --> step10
          context1 --> step10
          step10 --> step11
          step2 --> step11
          classDef cached fill:#d8f0d8,stroke:#3a7a3a,color:#000
          classDef quiet fill:#eeeeee,stroke:#999999,color:#000
          classDef pulled fill:#d8e4f8,stroke:#3a5a9a,color:#000
          classDef maybe fill:#fff2cc,stroke:#a08020,color:#000
          classDef runs fill:#f8d8d0,stroke:#a04030,color:#000
          classDef unused fill:#ffffff,stroke:#cccccc,color:#999999
        "#);
    }

    #[test]
    fn nothing_in_a_label_means_something() {
        assert_eq!(
            label("a\"b] # <c> `d`; %%\n{e} & \\"),
            concat!("\"a#quot;b#93; #35; #60;c#62; #96;d#96;#59; #37;#37;<br/>", "#123;e#125; #38; #92;\"")
        );
        assert_eq!(label("end é字"), "\"end é字\"");
    }

    /// Every line is one of the few forms that are written here, and labels end where they should.
    #[test]
    fn lines_have_the_form_of_a_flowchart() {
        let identifier = |text: &str| !text.is_empty() && text.chars().all(|one| one.is_ascii_alphanumeric());
        for line in mermaid(&sample()).lines().skip(1) {
            let line = line.trim_start();
            let is_edge = line.split_once(" --> ").is_some_and(|(from, to)| identifier(from) && identifier(to));
            let node = line.strip_prefix("subgraph ").unwrap_or(line);
            let is_node = node.split_once('[').is_some_and(|(name, rest)| {
                let (rest, class) = rest.rsplit_once(":::").unwrap_or((rest, "none"));
                let label = rest.strip_suffix(']').map(|label| label.trim_matches(['(', ')']));
                let label = label.and_then(|label| label.strip_prefix('"')?.strip_suffix('"'));
                let plain = label.map(|label| label.replace("<br/>", ""));
                identifier(name)
                    && identifier(class)
                    && plain.is_some_and(|label| !label.contains(['"', '[', ']', '<']))
            });
            assert!(line == "end" || line.starts_with("classDef ") || is_edge || is_node, "{line}");
        }
    }
}

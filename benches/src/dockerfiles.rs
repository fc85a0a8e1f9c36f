//! Which Dockerfiles are read to see how long that takes?
//!
//! [`typical`] is what people write, made as long as wanted; the rest of [`CASES`] is one thing far too often, where a
//! reader that is not linear takes minutes or all memory.

use std::fmt::Write;

/// Ten megabytes, the length budgets are given for.
pub const LONG: usize = 10_000_000;

/// A text to measure.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// What is in it.
    pub name: &'static str,
    /// Makes the text.
    pub text: fn() -> String,
}

/// Every text, the two with a budget first.
pub const CASES: &[Case] = &[
    Case { name: "typical_500_lines", text: || typical(|_, lines| lines < 500) },
    Case { name: "typical_10_MB", text: || typical(|bytes, _| bytes < LONG - 250_000) },
    Case { name: "one_RUN_10_MB", text: || format!("FROM scratch\nRUN {}", "echo aa; ".repeat(LONG / 9)) },
    Case { name: "one_RUN_without_blanks_10_MB", text: || format!("FROM scratch\nRUN {}", "a".repeat(LONG)) },
    Case { name: "one_ENV_without_blanks_10_MB", text: || format!("FROM scratch\nENV A={}", "a".repeat(LONG)) },
    Case { name: "one_heredoc_of_RUN_10_MB", text: || heredoc("RUN <<EOF") },
    Case { name: "one_heredoc_of_COPY_10_MB", text: || heredoc("COPY <<EOF /x") },
    Case {
        name: "one_COPY_of_many_words_10_MB",
        text: || format!("FROM scratch\nCOPY {}/x/", "a.txt ".repeat(LONG / 6)),
    },
    Case { name: "continuations_100_000", text: || format!("FROM scratch\nRUN a{}", " \\\n  b".repeat(100_000)) },
    Case { name: "comments_100_000", text: || format!("FROM scratch\n{}RUN a", "# a comment\n".repeat(100_000)) },
    Case { name: "nested_expansions_1_000", text: || nested(1_000) },
    Case { name: "nested_expansions_100_000", text: || nested(100_000) },
    Case { name: "nested_arrays_100_000", text: || format!("FROM scratch\nRUN {}", "[".repeat(100_000)) },
    Case { name: "stages_100_000", text: || stages(100_000) },
    Case { name: "ENV_50_000_then_RUN_5_000", text: || environment(50_000, 5_000) },
    Case { name: "ENV_and_RUN_5_000_in_turn", text: || in_turn(5_000) },
    Case { name: "nested_ONBUILD_10_000", text: || format!("FROM scratch\n{}RUN a", "ONBUILD ".repeat(10_000)) },
    Case { name: "flags_10_000", text: || format!("FROM scratch\nCOPY {}a /x", "--exclude=a ".repeat(10_000)) },
    Case {
        name: "mounts_10_000",
        text: || format!("FROM scratch\nRUN {}a", "--mount=type=tmpfs,target=/x ".repeat(10_000)),
    },
    Case {
        name: "unterminated_heredocs_10_000",
        text: || format!("FROM scratch\n{}", "RUN <<EOF\na\n".repeat(10_000)),
    },
    Case { name: "mistakes_100_000", text: || format!("FROM scratch\n{}", "CPOY a\n".repeat(100_000)) },
];

/// The case of a name.
pub fn case(name: &str) -> Option<Case> {
    CASES.iter().copied().find(|case| case.name == name)
}

/// Services, each built in one stage and packed in another, as long as `more` says so, given bytes and lines so far; a
/// last stage needs them all.
pub fn typical(more: impl Fn(usize, usize) -> bool) -> String {
    let mut text = include_str!("head.Dockerfile").to_owned();
    let mut lines = text.lines().count();
    let template = include_str!("service.Dockerfile");
    let (height, mut count) = (template.lines().count() + 1, 0);
    while more(text.len(), lines + height) {
        count += 1;
        lines += height;
        text.push_str(&template.replace("@", &count.to_string()));
    }
    text.push_str("\nFROM scratch AS all\n");
    for number in 1..=count {
        writeln!(text, "COPY --from=service-{number} /usr/local/bin/service-{number} /bin/")
            .expect("a String takes all");
    }
    text
}

fn heredoc(opener: &str) -> String {
    format!("FROM scratch\n{opener}\n{}EOF\n", "some text with a $VARIABLE\n".repeat(LONG / 27))
}

fn nested(depth: usize) -> String {
    format!("FROM scratch\nENV A={}x{}\n", "${a:-".repeat(depth), "}".repeat(depth))
}

fn stages(count: usize) -> String {
    let stage = |at: usize| format!("FROM scratch AS s{at}\nCOPY --from={} a b\n", at.saturating_sub(1));
    std::iter::once("FROM scratch AS s\n".to_owned()).chain((1..count).map(stage)).collect()
}

fn environment(variables: usize, runs: usize) -> String {
    let variables: String = (0..variables).map(|at| format!("ENV V{at}=value\n")).collect();
    format!("FROM scratch\n{variables}{}", "RUN a\n".repeat(runs))
}

fn in_turn(count: usize) -> String {
    let lines: String = (0..count).map(|at| format!("ENV V{at}=value\nRUN a\n")).collect();
    format!("FROM scratch\n{lines}")
}

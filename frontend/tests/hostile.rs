//! Does bad input ever cost more than its length?
//!
//! Each text is read at two sizes; the processor time of this thread may grow with the size, not with its square. Limits
//! are wide, because machines are busy; a quadratic reader exceeds them many times over.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::convert::Infallible;

use futures_util::FutureExt as _;
use rbuild_core::{Digest, Platform};
use rbuild_frontend::ast::{Command, CopySource, Kind};
use rbuild_frontend::{LowerError, LowerOptions, Lowered, ResolveImage, Source, check, lower, parse};
use rbuild_image::ImageConfig;
use rustix::time::{ClockId, clock_gettime};

/// Every image is empty.
struct Registry;

impl ResolveImage for Registry {
    type Error = Infallible;

    async fn resolve(&self, _: &str, platform: &Platform) -> Result<(Digest, ImageConfig), Infallible> {
        Ok((Digest::sha256([7; 32]), ImageConfig::scratch(platform)))
    }
}

/// Everything up to the graph, where the text has no mistakes.
fn lowered(source: &Source) -> Option<Result<Lowered, LowerError<Infallible>>> {
    let file = parse(source).ok()?;
    check(&file);
    let options = LowerOptions::new("linux/amd64".parse().unwrap());
    lower(&file, &options, &Registry).now_or_never()
}

/// Reads a text and says how long that took, in seconds of this thread's processor time.
fn cost(text: String) -> f64 {
    let source = Source::new("Dockerfile", text);
    let now = || {
        let time = clock_gettime(ClockId::ThreadCPUTime);
        time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
    };
    let start = now();
    drop(lowered(&source));
    now() - start
}

/// Four times the text may cost ten times as much, or a second: a quadratic reader needs sixteen times.
fn linear(name: &str, size: usize, text: impl Fn(usize) -> String) {
    let small = cost(text(size));
    let large = cost(text(size * 4));
    assert!(large < (small * 10.0).max(1.0), "{name}: {size} costs {small:.3} s, four times that {large:.3} s");
}

#[test]
fn many_lines() {
    linear("instructions", 2_000, |n| {
        format!("FROM x\n{}", "RUN echo a && echo \"b\" # c\nENV A=$B C=\"d\"\n".repeat(n))
    });
    linear("continuations", 25_000, |n| format!("FROM x\nRUN a{}", " \\\n b".repeat(n)));
    linear("empty continuations", 10_000, |n| format!("FROM x\nRUN a{}", " \\\n\n b".repeat(n)));
    linear("comments", 10_000, |n| format!("{}FROM x\nRUN a", "# comment\n".repeat(n)));
    linear("stages", 1_000, |n| (0..n).map(|at| format!("FROM x AS s{at}\nCOPY --from=s0 a b\n")).collect());
    linear("comments above names", 500, |n| {
        let names: String = (0..n).map(|at| format!(" a{at}")).collect();
        format!("{}ARG{names}\nFROM x", "# check=skip=all\n# a1 b\n".repeat(n))
    });
    linear("undeclared names", 300, |n| {
        let args: String = (0..n).map(|at| format!("ARG name{at}\n")).collect();
        let stages: String = (0..n).map(|at| format!("FROM $nam{at}\n")).collect();
        args + &stages
    });
    linear("A220: images of arguments without a default", 1_000, |n| {
        let args: String = (0..n).map(|at| format!("ARG A{at}\n")).collect();
        let images: String = (0..n).map(|at| format!("FROM x:$A{at}\n")).collect();
        args + &images
    });
    linear("errors", 2_000, |n| format!("FROM x\n{}", "EMTRYPOINT x\nCOPY a\nENV\n".repeat(n)));
}

#[test]
fn what_steps_have_in_common_is_shared() {
    linear("variables, then steps", 2_000, |n| {
        let variables: String = (0..n).map(|at| format!("ENV V{at}=value\n")).collect();
        format!("FROM x\n{variables}{}", "RUN a\n".repeat(n))
    });
    linear("variables and steps", 2_000, |n| {
        format!("FROM x\n{}", (0..n).map(|at| format!("ENV V{at}=value\nRUN a\n")).collect::<String>())
    });
    linear("stages on stages", 1_000, |n| {
        let variables: String = (0..n).map(|at| format!("ENV V{at}=value\n")).collect();
        let stages: String = (1..n).map(|at| format!("FROM s{} AS s{at}\nRUN a\n", at - 1)).collect();
        format!("FROM x AS s0\n{variables}{stages}")
    });
    linear("arguments of stages that are copied from", 500, |n| {
        let arguments: String = (0..n).map(|at| format!("ARG A{at}=value\n")).collect();
        format!("FROM x AS a\n{arguments}{}FROM x\nCOPY --from=a a b", "RUN a\n".repeat(n))
    });
    linear("triggers of stages", 1_000, |n| format!("FROM x AS a\n{}FROM a\nRUN b", "ONBUILD RUN a\n".repeat(n)));
    linear("places", 1_000, |n| format!("FROM x\n{}", "WORKDIR a\nWORKDIR /\nUSER a\nCOPY a /b\nADD c /d\n".repeat(n)));
}

/// What a history repeats can be longer than any memory.
#[test]
fn a_history_that_never_ends_is_a_mistake() {
    let doubled = "ENV A=$A$A\n".repeat(16);
    let text = format!("FROM x\nENV A={}\n{doubled}{}", "a".repeat(64), "LABEL b=$A\n".repeat(1_000));
    let source = Source::new("Dockerfile", text);
    let Some(Err(LowerError::Mistakes(mistakes))) = lowered(&source) else { panic!() };
    assert_eq!(mistakes.len(), 1);
    assert_eq!(mistakes[0].message, "what the instructions up to here expand to is longer than 128 MiB");
    assert_eq!(source.slice(mistakes[0].span()), "LABEL b=$A");
}

/// Arguments before the first stage are in no history.
#[test]
fn arguments_that_double_before_the_first_stage_are_a_mistake() {
    let doubled = "ARG A=$A$A\n".repeat(16);
    let text = format!("ARG A={}\n{doubled}{}FROM x\n", "a".repeat(64), "ARG B=$A\n".repeat(1_000));
    let source = Source::new("Dockerfile", text);
    let Some(Err(LowerError::Mistakes(mistakes))) = lowered(&source) else { panic!() };
    let last = &mistakes.last().unwrap().message;
    assert_eq!(last, "what the lines up to here expand to is longer than 128 MiB");

    let text = format!("ARG A={}\n{doubled}{}", "a".repeat(64), "FROM $A\n".repeat(3));
    let source = Source::new("Dockerfile", text);
    let Some(Err(LowerError::Mistakes(mistakes))) = lowered(&source) else { panic!() };
    assert_eq!(mistakes[0].message, "this names neither an image nor a platform: it is 4194304 bytes long");
}

/// Docker refuses lines of more than 65,535 bytes; here there is no such limit.
#[test]
fn a003_a_line_can_be_of_any_length() {
    for length in [65_535, 65_536, 1 << 20] {
        let long = "x".repeat(length);
        let text =
            format!("# {long}\nFROM x\nRUN {long}\nRUN a \\\n  {long}\nCOPY <<EOF /x\n{long}\nEOF\nENV A={long}\n");
        let file = parse(&Source::new("Dockerfile", text)).unwrap();
        let [one, two, three, four] = &file.stages[0].instructions[..] else { panic!() };
        let Kind::Run(run) = &one.kind else { panic!() };
        assert!(matches!(&run.command, Command::Shell(word) if word.text == long), "{length}");
        assert_eq!(two.header.text, format!("RUN a   {long}"));
        let Kind::Copy(copy) = &three.kind else { panic!() };
        assert!(matches!(&copy.sources[0], CopySource::Heredoc(heredoc) if heredoc.body.len() == length + 1));
        assert_eq!(four.header.text.len(), "ENV A=".len() + length);
    }
}

#[test]
fn long_lines() {
    linear("one RUN", 250_000, |n| format!("FROM x\nRUN {}", "echo aa; ".repeat(n / 9)));
    linear("words", 20_000, |n| format!("FROM x\nCOPY {}/x", "a ".repeat(n)));
    linear("pairs", 5_000, |n| format!("FROM x\nENV {}", "a=\"b $c\" ".repeat(n)));
    linear("no pairs", 20_000, |n| format!("FROM x\nENV a=b {}", "c ".repeat(n)));
    linear("flags", 1_000, |n| format!("FROM x\nCOPY {}a /x", "--exclude=a ".repeat(n)));
    linear("mounts", 500, |n| format!("FROM x\nRUN {}a", "--mount=type=cache,target=/x ".repeat(n)));
    linear("mount options", 1_000, |n| format!("FROM x\nRUN --mount=target=/x{} a", ",rw".repeat(n)));
    linear("one ENV", 100_000, |n| format!("FROM x\nENV A={}", "a".repeat(n)));
    linear("one LABEL in quotes", 100_000, |n| format!("FROM x\nLABEL A=\"{}\"", "a ".repeat(n)));
    linear("one word", 100_000, |n| format!("FROM x\nWORKDIR {}", "a".repeat(n)));
    linear("one flag", 100_000, |n| format!("FROM x\nCOPY --exclude={} a /x", "a".repeat(n)));
    linear("blanks", 100_000, |n| format!("FROM x\nRUN a{}b", " ".repeat(n)));
    linear("blanks at the end", 100_000, |n| format!("FROM x\nRUN a{}", " ".repeat(n)));
    linear("escapes", 100_000, |n| format!("FROM x\nRUN {}", "\\".repeat(n)));
    linear("escapes and blanks", 50_000, |n| format!("FROM x\nRUN {}", "\\ ".repeat(n)));
    linear("array", 10_000, |n| format!("FROM x\nRUN [{}\"x\"]", "\"a\\n\", ".repeat(n)));
    linear("ports", 5_000, |n| format!("FROM x\nEXPOSE {}", "80:".repeat(n)));
}

#[test]
fn unfinished() {
    linear("open quotes", 20_000, |n| format!("FROM x\nENV a={}", "\"'".repeat(n)));
    linear("open quotes in a flag", 20_000, |n| format!("FROM x\nRUN --mount={} a", "\"a'".repeat(n)));
    linear("open braces", 500, |n| format!("FROM x\nENV a={}", "${a:-".repeat(n)));
    linear("open quoted braces", 500, |n| format!("FROM x\nENV a={}", "\"${a:-".repeat(n)));
    linear("open replacements", 500, |n| format!("FROM x\nENV a={}", "${a/${".repeat(n)));
    linear("open arrays", 1_000, |n| format!("FROM x\nRUN {}", "[".repeat(n)));
    linear("open objects", 500, |n| format!("FROM x\nRUN {}", "[{\"a\":".repeat(n)));
    linear("open array", 20_000, |n| format!("FROM x\nRUN [{}", "\"a\",".repeat(n)));
    linear("thousands of open heredocs", 10_000, |n| format!("FROM x\n{}", "COPY <<EOF /x\na\n".repeat(n)));
    linear("open heredocs", 500, |n| format!("FROM x\n{}", "RUN <<EOF\na\n".repeat(n)));
    linear("nearly closed heredocs", 500, |n| format!("FROM x\n{}", "RUN <<EOF\n EOF\n".repeat(n)));
    linear("misspelt heredocs", 200, |n| format!("FROM x\n{}", "RNU <<EOF\na\n".repeat(n)));
    linear("heredoc openers", 2_000, |n| format!("FROM x\nRUN {}\n", "<<A ".repeat(n)));
    linear("almost heredocs", 10_000, |n| format!("FROM x\nRUN {}\n", "<<a<".repeat(n)));
    linear("triggers", 2_000, |n| format!("FROM x\n{}RUN a", "ONBUILD ".repeat(n)));
    linear("directives", 2_000, |n| "# escape=`\n".repeat(n));
}

#[test]
fn deep_nesting_is_an_error_and_no_overflow() {
    for open in ["[", "[{\"a\":", "${a:-", "\"${a:-", "${a/${a//", "ONBUILD "] {
        for depth in [100, 1_000, 3_000, 100_000] {
            for text in ["RUN ", "COPY ", "ENV a=", "ONBUILD RUN "] {
                let file = Source::new("Dockerfile", format!("FROM x\n{text}{}\nRUN b\n", open.repeat(depth)));
                drop(parse(&file));
            }
        }
    }
}

#[test]
fn ten_megabytes() {
    let size = 10 << 20;
    let run = Source::new("Dockerfile", format!("FROM x\nRUN {}", "a".repeat(size)));
    assert!(parse(&run).is_ok());
    let body = Source::new("Dockerfile", format!("FROM x\nCOPY <<EOF /x\n{}EOF\n", "line $A\n".repeat(size / 8)));
    assert!(parse(&body).is_ok());
    let script = Source::new("Dockerfile", format!("FROM x\nRUN <<EOF\n{}EOF\n", "line $A\n".repeat(size / 8)));
    assert!(parse(&script).is_ok());
    let lines = Source::new("Dockerfile", format!("FROM x\nRUN a{}", " \\\n  b".repeat(100_000)));
    assert!(parse(&lines).is_ok());
}

//! Do fixes leave a file as good as they found it?

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::convert::Infallible;

use futures_util::FutureExt;
use proptest::prelude::*;
use rbuild_core::{Digest, Platform};
use rbuild_frontend::fix::repair;
use rbuild_frontend::{Bases, Diagnostic, LowerOptions, Lowered, ResolveImage, Source, StageUse, lower, parse};
use rbuild_image::ImageConfig;

/// Lines with something to repair, and some without. Those of the first list mean afterwards what they meant before.
const SAME: &[&str] = &[
    "run true",
    "Copy a b",
    "ENV a b",
    "ENV a  b c $x",
    "LABEL a 'b c' d\\ e",
    "ENV a ${b:-x y} \\\n  # comment\n  c",
    "EXPOSE 80/TCP 81-82/uDP 90",
    "RUN a \\\n\n  \n b",
    "RUN <<E\nFrom x\n\n ENV a b\nE",
    "COPY --from=Base / /x",
    "RUN --mount=from=BASE,target=/m true",
    "# check=skip=all\nenv a b",
    "# words \u{FFFD}",
    "  ",
    "ARG x=1",
    "USER é",
];

const OTHER: &[&str] = &[
    "MAINTAINER  Some One <a@b>",
    "maintainer \"$x `y\\z\"",
    "CMD node app.js",
    "entrypoint /bin/x",
    "CMD [\"ls\" \"-a\"]",
    "CMD ['a','b',]",
    "COPY a\u{3000}b /c/",
    "EXPOSE 80\u{3000}30",
    "RUN a\u{A0}b 'c\u{A0}d'",
    "WORKDIR /x # here",
    "ENV a b # c",
    "EXPOSE 80 # web",
    "RUN\u{3000}true",
    "SHELL ['a' 'b']",
    "COPY a",
    "FRMO x",
];

const FROMS: &[&str] =
    &["FROM x as Base", "from scratch AS Base", "From --platform=$TARGETPLATFORM  y As b", "FROM Base"];
const ENDS: &[&str] = &["\n", "\r\n", "\n\n"];

fn file(lines: &'static [&'static str]) -> impl Strategy<Value = String> {
    let line =
        || (prop::sample::select(lines), prop::sample::select(ENDS)).prop_map(|(line, end)| format!("{line}{end}"));
    let from =
        || (prop::sample::select(FROMS), prop::sample::select(ENDS)).prop_map(|(line, end)| format!("{line}{end}"));
    let stage = (from(), prop::collection::vec(line(), 0..5)).prop_map(|(from, lines)| from + &lines.concat());
    (any::<bool>(), prop::collection::vec(stage, 1..4))
        .prop_map(|(escape, stages)| if escape { "# escape=`\n" } else { "" }.to_owned() + &stages.concat())
}

struct Nowhere;

impl ResolveImage for Nowhere {
    type Error = Infallible;

    async fn resolve(&self, _: &str, platform: &Platform) -> Result<(Digest, ImageConfig), Infallible> {
        Ok((Digest::sha256([0; 32]), ImageConfig::scratch(platform)))
    }
}

fn lowered(source: &Source) -> Option<Lowered> {
    let mut options = LowerOptions::new("linux/amd64".parse().unwrap());
    options.bases = Bases::Known;
    options.stages = StageUse::All;
    lower(&parse(source).ok()?, &options, &Nowhere).now_or_never().unwrap().ok()
}

/// What is built: ops, and the configuration with its history.
fn meaning(lowered: &Lowered) -> String {
    let ops: Vec<_> = lowered.graph.vertices().map(|(_, vertex)| format!("{:?}", vertex.op)).collect();
    format!("{}\n{:#?}", ops.join("\n"), lowered.config)
}

fn fixed(text: &str) -> (Source, Vec<Diagnostic>) {
    let repaired = repair(&Source::new("Dockerfile", text));
    (repaired.source, repaired.done)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn once_is_enough(text in prop_oneof![file(SAME), file(OTHER)]) {
        let (once, _) = fixed(&text);
        let (twice, done) = fixed(once.text());
        prop_assert_eq!(once.text(), twice.text());
        prop_assert!(done.is_empty());
        if parse(&Source::new("Dockerfile", text)).is_ok() {
            prop_assert!(parse(&once).is_ok(), "{}", once.text());
        }
    }

    #[test]
    fn meanings_stay(text in file(SAME)) {
        let before = Source::new("Dockerfile", text);
        let (after, _) = fixed(before.text());
        if let Some(before) = lowered(&before) {
            let after = lowered(&after);
            prop_assert!(after.is_some());
            prop_assert_eq!(meaning(&before), meaning(&after.unwrap()));
        }
    }

    #[test]
    fn other_lines_stay(before in file(SAME), text in file(OTHER)) {
        // Lines that no fix is about are in the result, byte by byte and in order.
        let text = text + "FROM z\nUSER kept \\\n  # as it is\n  by all\r\n" + &before;
        let (after, _) = fixed(&text);
        prop_assert!(after.text().contains(" kept \\\n  # as it is\n  by all\r\n"), "{}", after.text());
    }

    #[test]
    fn nothing_panics(text in "(FROM|CMD|\\[|\\]|'|\"|,| |\u{3000}|#|\n|\\\\|a|ENV|=|\\$|\\{|x){0,40}") {
        let (once, _) = fixed(&text);
        let (twice, _) = fixed(once.text());
        prop_assert_eq!(once.text(), twice.text());
    }
}

#[test]
fn fixing_takes_linear_time() {
    let texts: [&dyn Fn(usize) -> String; 4] = [
        &|n| {
            let lines = "env a b\nRUN a \\\n\n b\nCOPY --from=A x y\nEXPOSE 8/TCP\n";
            "FROM x as A\n".to_owned() + &lines.repeat(n)
        },
        &|n| "FROM x AS A\nENTRYPOINT a\nCOPY --from=A x y\n".repeat(n),
        &|n| format!("FROM x\nEXPOSE{}\n", " 8/TCP".repeat(n)),
        &|n| format!("FROM x\nRUN a{}\n", " \\\n\n b".repeat(n)),
    ];
    for text in texts {
        let time = |n: usize| {
            let source = Source::new("Dockerfile", text(n));
            let start = std::time::Instant::now();
            assert!(!repair(&source).done.is_empty());
            start.elapsed().as_secs_f64()
        };
        let (small, large) = (time(300), time(1_200));
        assert!(large < (small * 12.0).max(2.0), "{small} s, four times that {large} s: {}", text(1));
    }
}

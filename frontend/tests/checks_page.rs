//! Does the page about the checks say what is so?
//!
//! Every rule has a section in `docs/checks.md`; its bad example has that finding and no other, its good one none, and
//! `--fix` repairs it if the page says so.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeSet;
use std::convert::Infallible;

use futures_util::FutureExt;
use rbuild_core::{Digest, Platform};
use rbuild_frontend::fix::repair;
use rbuild_frontend::rule::Rule;
use rbuild_frontend::{IgnoreFile, LowerOptions, ResolveImage, Source, Surroundings, examine, lower, parse};
use rbuild_image::ImageConfig;

struct Section<'page> {
    text: &'page str,
}

impl<'page> Section<'page> {
    fn of(page: &'page str, rule: Rule) -> Self {
        let heading = format!("\n## {rule}\n");
        let start = page.find(&heading).unwrap_or_else(|| panic!("no section `{rule}`")) + heading.len();
        let end = page[start..].find("\n## ").map_or(page.len(), |end| start + end);
        Self { text: &page[start..end] }
    }

    /// The block behind a word, with its odd bytes.
    fn block(&self, title: &str) -> Option<Vec<u8>> {
        let (_, behind) = self.text.split_once(title)?;
        let (_, behind) = behind.split_once("```")?;
        let (_, block) = behind.split_once('\n')?;
        let (block, _) = block.split_once("```")?;
        let mut bytes = Vec::new();
        for line in block.split_inclusive('\n') {
            let mut rest = line;
            while let Some((before, behind)) = rest.split_once('\\') {
                bytes.extend(before.bytes());
                let (byte, length) = match behind {
                    _ if behind.starts_with("xE9") => (0xe9, 3),
                    _ if behind.starts_with('0') => (0, 1),
                    _ if behind.starts_with("r\n") => (b'\r', 1),
                    _ => (b'\\', 0),
                };
                bytes.push(byte);
                rest = &behind[length..];
            }
            bytes.extend(rest.bytes());
        }
        Some(bytes)
    }

    fn surroundings(&self) -> Surroundings {
        let mut surroundings = Surroundings::default();
        if let Some(ignored) = self.block("With this `.dockerignore`:") {
            surroundings.ignored = IgnoreFile::parse(&String::from_utf8(ignored).unwrap()).unwrap();
        }
        if let Some((_, argument)) = self.text.split_once("With `--build-arg ") {
            let (name, value) = argument.split_once('`').unwrap().0.split_once('=').unwrap();
            surroundings.build_args.insert(name.to_owned(), Some(value.to_owned()));
        }
        surroundings
    }
}

/// Images with the platform that their name says.
struct Named;

impl ResolveImage for Named {
    type Error = Infallible;

    async fn resolve(&self, name: &str, platform: &Platform) -> Result<(Digest, ImageConfig), Infallible> {
        let own = if name.starts_with("arm64v8/") { "linux/arm64".parse().unwrap() } else { platform.clone() };
        Ok((Digest::sha256([1; 32]), ImageConfig::scratch(&own)))
    }
}

fn found(text: Vec<u8>, surroundings: &Surroundings) -> BTreeSet<String> {
    let source = Source::from_bytes("Dockerfile", text);
    let mut found = examine(&source, surroundings);
    if let Ok(file) = parse(&source) {
        let options = LowerOptions::new("linux/amd64".parse().unwrap());
        let lowered = lower(&file, &options, &Named).now_or_never().unwrap();
        let images = lowered.map(|lowered| lowered.warnings).unwrap_or_default();
        found.extend(images.into_iter().filter(|found| found.rule == Some(Rule::InvalidBaseImagePlatform)));
    }
    found.iter().map(|found| found.rule.map_or_else(|| found.message.clone(), |rule| rule.to_string())).collect()
}

#[test]
fn a204_to_a226_every_rule_is_as_its_page_says() {
    let page = include_str!("../../docs/checks.md");
    for rule in Rule::ALL {
        let section = Section::of(page, *rule);
        let surroundings = section.surroundings();
        let bad = section.block("Bad:").unwrap();
        assert_eq!(found(bad.clone(), &surroundings), BTreeSet::from([rule.to_string()]), "bad example of {rule}");
        let without = section.block("Good, without it:");
        let with = if without.is_some() { Surroundings::default() } else { surroundings.clone() };
        let good = without.or_else(|| section.block("Good:")).unwrap();
        assert_eq!(found(good.clone(), &with), BTreeSet::new(), "good example of {rule}");
        let repaired = repair(&Source::from_bytes("Dockerfile", bad)).source.to_bytes();
        let is_repaired = found(repaired.clone(), &surroundings).is_empty();
        let promise = format!("Repaired by `--fix`: {}.", if is_repaired { "yes" } else { "no" });
        assert!(section.text.contains(&promise), "{rule}: {promise}");
        assert!(!is_repaired || repaired == good, "{rule}: {}", String::from_utf8_lossy(&repaired));
    }
}

#[test]
fn every_section_is_about_a_rule() {
    let page = include_str!("../../docs/checks.md");
    let (_, rules) = page.split_once("\n# The rules\n").unwrap();
    let sections: Vec<_> = rules.lines().filter_map(|line| line.strip_prefix("## ")).collect();
    assert_eq!(sections, Rule::ALL.iter().map(|rule| rule.name()).collect::<Vec<_>>());
}

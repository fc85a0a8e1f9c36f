//! What does one input of the target `lower` say?
//!
//! A Dockerfile, and before it what a command line and a registry would say, a line each, up to a line of three dashes:
//!
//! ```text
//! arg NAME=VALUE        --build-arg; without `=` an argument that the client does not have either
//! context NAME=dir      --build-context NAME=./somewhere
//! context NAME=IMAGE    --build-context NAME=docker-image://IMAGE
//! label NAME=VALUE      --label
//! target NAME           --target
//! platform PLATFORM     --platform
//! env NAME=VALUE        what every base image has in its environment
//! trigger TEXT          what every base image has as an `ONBUILD`
//! ---
//! FROM …
//! ```
//!
//! Text rather than bytes, so that the mutations of one input are readable and its dictionary is the Dockerfile's.

use rbuild_core::Platform;
use rbuild_frontend::{LowerOptions, NamedContext};

use crate::registry::Registry;

/// What an input comes down to.
#[derive(Debug)]
pub struct Input<'a> {
    /// What the command line would say.
    pub options: LowerOptions,
    /// What base images are like.
    pub registry: Registry,
    /// The Dockerfile.
    pub text: &'a str,
}

impl<'a> Input<'a> {
    /// Reads an input; lines that say nothing known are skipped.
    pub fn new(data: &'a str) -> Self {
        let (head, text) = data.split_once("---\n").unwrap_or(("", data));
        let platform: Platform = "linux/amd64".parse().expect("a platform");
        let mut options = LowerOptions::new(platform);
        let mut registry = Registry::default();
        for line in head.lines() {
            let Some((word, rest)) = line.split_once(' ') else { continue };
            let (name, value) = rest.split_once('=').map_or((rest, None), |(name, value)| (name, Some(value)));
            let (name, text) = (name.to_owned(), value.unwrap_or_default().to_owned());
            match word {
                "arg" => _ = options.build_args.insert(name, value.map(str::to_owned)),
                "context" if text == "dir" => _ = options.named_contexts.insert(name, NamedContext::Local),
                "context" => _ = options.named_contexts.insert(name, NamedContext::Image(text)),
                "label" => _ = options.labels.insert(name, text),
                "target" => options.target = Some(rest.to_owned()),
                "platform" => options.platform = rest.parse().unwrap_or(options.platform),
                "env" => registry.environment.push(rest.to_owned()),
                "trigger" => registry.triggers.push(rest.to_owned()),
                _ => {}
            }
        }
        Self { options, registry, text }
    }
}

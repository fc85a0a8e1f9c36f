//! What do base images say that nobody has?
//!
//! A few kinds, told by their names, so that the fuzzer finds all of them; none is ever fetched.

use rbuild_core::{Digest, Platform};
use rbuild_frontend::ResolveImage;
use rbuild_image::{History, ImageConfig};

/// Answers for every name but those that contain `absent`.
#[derive(Clone, Debug, Default)]
pub struct Registry {
    /// Added to the environment of every image.
    pub environment: Vec<String>,
    /// The triggers of every image.
    pub triggers: Vec<String>,
}

/// There is no such image.
#[derive(Debug, thiserror::Error)]
#[error("no such image")]
pub struct Absent;

impl ResolveImage for Registry {
    type Error = Absent;

    async fn resolve(&self, name: &str, platform: &Platform) -> Result<(Digest, ImageConfig), Absent> {
        if name.contains("absent") {
            return Err(Absent);
        }
        let mut image = ImageConfig::scratch(platform);
        image.config.env = vec!["PATH=/usr/bin:/bin".to_owned()];
        image.config.env.extend(self.environment.iter().cloned());
        image.config.on_build.clone_from(&self.triggers);
        image.history = vec![History { created_by: Some("base".to_owned()), ..History::default() }];
        image.rootfs.diff_ids = vec![Digest::sha256([7; 32])];
        if name.contains("windows") {
            (image.os, image.architecture, image.variant) = ("windows".to_owned(), "amd64".to_owned(), None);
        }
        if name.contains("trigger") {
            let triggers = ["COPY . /app", "COPY --from=tools /tool /tool", "RUN --mount=type=cache,target=/c make $X"];
            image.config.on_build.extend(triggers.map(str::to_owned));
        }
        if name.contains("broken") {
            let texts = ["CPOY a b", "FROM x", "ONBUILD ONBUILD RUN a", "RUN <<EOF\na\nEOF", "", "ENV a=${b"];
            image.config.on_build.extend(texts.map(str::to_owned));
            image.config.env.extend(["", "=", "no-value", "é=\u{0}"].map(str::to_owned));
            image.config.working_dir = "relative/../../dir".to_owned();
            image.config.user = "no such:user:at all".to_owned();
        }
        if name.contains("empty") {
            image.rootfs.diff_ids.clear();
        }
        Ok((Digest::sha256([u8::try_from(name.len() % 256).expect("a remainder"); 32]), image))
    }
}

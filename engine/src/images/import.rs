//! How does a tar of a root file system become an image?

use std::io::Read;

use rbuild_core::{Digest, Platform};
use rbuild_frontend::{LowerOptions, ResolveImage, Source};
use rbuild_image::{History, ImageConfig};

use crate::assemble::{self, LayerFact};
use crate::build::BuildError;
use crate::engine::{Engine, reference};
use crate::error::Error;

impl Engine {
    /// Makes an image of one layer. `changes` are Dockerfile instructions for its configuration, such as
    /// `CMD ["sh"]`.
    ///
    /// # Errors
    /// If the archive is no tar, or a change is no instruction that configures an image.
    pub async fn import(
        &self,
        archive: &mut (dyn Read + Send),
        name: Option<&str>,
        changes: &[String],
    ) -> Result<Digest, BuildError> {
        let _lease = self.store().lease("import").map_err(Error::from)?;
        let imported = self.import_all(archive, name, changes).await;
        if imported.is_err() {
            self.clean_up_after_failure().await;
        }
        imported
    }

    async fn import_all(
        &self,
        archive: &mut (dyn Read + Send),
        name: Option<&str>,
        changes: &[String],
    ) -> Result<Digest, BuildError> {
        let name = name.map(|name| reference(name).map(|name| name.to_string())).transpose()?;
        let mut config = configured(changes).await?;
        let mut plain = rbuild_image::archive::decompress(archive)
            .map_err(|source| Error::Stream { action: "read the archive", source })?;
        let layer = self.store().layers().adopt(&mut plain).map_err(Error::from)?;
        let (diff_id, size) = self.store().layers().describe(&layer.id).map_err(Error::from)?;
        let now = jiff::Timestamp::now();
        // One entry, and no directory unless one was asked for: what builds on it is then the same as on an image that
        // came from elsewhere.
        config.history = vec![History { comment: Some("Imported from -".to_owned()), ..History::default() }];
        if config.config.working_dir == "/" {
            config.config.working_dir.clear();
        }
        let epoch = crate::time::source_date_epoch().and_then(|seconds| jiff::Timestamp::from_second(seconds).ok());
        let config = assemble::finish(config, &[LayerFact { diff_id, created: now }], 0, epoch);
        let bytes = serde_json::to_vec(&config).map_err(|e| Error::malformed("configuration", "the import", e))?;
        let descriptor = self.store().content().put(rbuild_image::media::OCI_CONFIG, &bytes).map_err(Error::from)?;
        let image = rbuild_cache::Image {
            id: descriptor.digest,
            size,
            layers: vec![layer.id],
            manifest: None,
            created: crate::time::now(),
        };
        let names: Vec<&str> = name.iter().map(String::as_str).collect();
        self.store().images().put(&image, &names).map_err(Error::from)?;
        Ok(image.id)
    }
}

/// The configuration that a Dockerfile of `FROM scratch` and the changes would give.
async fn configured(changes: &[String]) -> Result<ImageConfig, BuildError> {
    let mut text = String::from("FROM scratch\n");
    for change in changes {
        text.push_str(change);
        text.push('\n');
    }
    let source = std::sync::Arc::new(Source::new("--change", text));
    let mistakes = |diagnostics| BuildError::Dockerfile { text: source.clone(), diagnostics };
    let file = rbuild_frontend::parse(&source).map_err(mistakes)?;
    let options = LowerOptions::new(Platform::host());
    let lowered = rbuild_frontend::lower(&file, &options, &NoImages).await.map_err(|error| match error {
        rbuild_frontend::LowerError::Mistakes(diagnostics) => mistakes(diagnostics),
        rbuild_frontend::LowerError::Image { source, .. } | rbuild_frontend::LowerError::Date { source, .. } => {
            source.into()
        }
    })?;
    if lowered.graph.reachable(&[lowered.result]).len() > 1 {
        let what = "a `--change` that changes files (those that configure the image are)".to_owned();
        return Err(Error::Unsupported(what).into());
    }
    Ok(lowered.config)
}

struct NoImages;

impl ResolveImage for NoImages {
    type Error = Error;

    async fn resolve(&self, name: &str, _platform: &Platform) -> Result<(Digest, ImageConfig), Error> {
        Err(Error::Unsupported(format!("image `{name}` in a `--change`")))
    }
}

//! Where else does a finished image go?

pub(crate) mod archive;
mod tree;

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use rbuild_core::Reporter;
use rbuild_image::{Compression, Descriptor, ImageConfig, Reference};
use serde_json::json;

use self::archive::{ArchiveWriter, blob_path};
use crate::blocking::blocking;
use crate::engine::{Engine, reference};
use crate::error::Error;
use crate::images::blobs::{LayerBlob, Wanted};
use crate::request::{Export, ExportOptions, LayerCompression};

/// Whether Docker's own index stands beside the OCI one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum ArchiveKind {
    Oci,
    Docker,
}

/// An image to be exported, complete with blobs.
#[derive(Debug)]
pub(crate) struct Exportable {
    names: Vec<Reference>,
    manifest: Descriptor,
    config: Descriptor,
    layers: Vec<LayerBlob>,
}

impl Engine {
    /// Carries out one `--output`.
    pub(crate) async fn export(
        &self,
        image: &rbuild_cache::Image,
        names: &[String],
        export: &Export,
        epoch: Option<i64>,
        reporter: &Reporter,
    ) -> Result<Option<Descriptor>, Error> {
        match export {
            Export::Oci { dest, options } => {
                self.export_archive(image, names, dest.as_deref(), options, ArchiveKind::Oci, epoch, reporter).await
            }
            Export::Docker { dest, options } => {
                self.export_archive(image, names, dest.as_deref(), options, ArchiveKind::Docker, epoch, reporter).await
            }
            Export::Tar { dest } => {
                self.materialize(&image.layers, reporter, rbuild_core::StepId(0)).await?;
                let (engine, layers, dest) = (self.clone(), image.layers.clone(), dest.clone());
                blocking(move || to_file(dest.as_deref(), |out| tree::write_tar(&engine, &layers, out))).await?;
                Ok(None)
            }
            Export::Local { dest } => {
                self.materialize(&image.layers, reporter, rbuild_core::StepId(0)).await?;
                let (engine, layers, dest) = (self.clone(), image.layers.clone(), dest.clone());
                blocking(move || tree::write_directory(&engine, &layers, &dest)).await?;
                Ok(None)
            }
            Export::Image { travels: None } => Ok(None),
            Export::Image { travels: Some(options) } => {
                let exportable = self.exportable(image, Vec::new(), options, epoch, reporter).await?;
                let image = rbuild_cache::Image { manifest: Some(exportable.manifest.clone()), ..image.clone() };
                self.store().images().put(&image, &[])?;
                Ok(Some(exportable.manifest))
            }
        }
    }

    #[expect(clippy::too_many_arguments, reason = "one caller, which has them apart")]
    async fn export_archive(
        &self,
        image: &rbuild_cache::Image,
        names: &[String],
        dest: Option<&Path>,
        options: &ExportOptions,
        kind: ArchiveKind,
        epoch: Option<i64>,
        reporter: &Reporter,
    ) -> Result<Option<Descriptor>, Error> {
        let names = if options.names.is_empty() { names } else { &options.names };
        let names = names.iter().map(|name| reference(name)).collect::<Result<Vec<_>, _>>()?;
        let exportable = self.exportable(image, names, options, epoch, reporter).await?;
        let manifest = exportable.manifest.clone();
        let (engine, dest) = (self.clone(), dest.map(PathBuf::from));
        blocking(move || {
            to_file(dest.as_deref(), |out| {
                let mut archive = ArchiveWriter::new(out);
                engine.write_images(&mut archive, &[exportable], kind)?;
                archive.finish().map(drop).map_err(writing)
            })
        })
        .await?;
        Ok(Some(manifest))
    }

    /// Makes the blobs of an image.
    pub(crate) async fn exportable(
        &self,
        image: &rbuild_cache::Image,
        names: Vec<Reference>,
        options: &ExportOptions,
        epoch: Option<i64>,
        reporter: &Reporter,
    ) -> Result<Exportable, Error> {
        let compression = compression(options);
        let mut config = self.store().content().read_verified(&image.id)?;
        let mut layers = Vec::with_capacity(image.layers.len());
        for id in &image.layers {
            let layer = self.store().layers().find(id)?.ok_or_else(|| self.vanished(id))?;
            // Layers of a base image keep their times: they are somebody else's bytes.
            let ours = layer.sources.is_empty() && layer.identity.algorithm() == rbuild_core::Algorithm::Blake3;
            let wanted = match epoch.filter(|_| options.rewrite_timestamp && ours) {
                Some(epoch) => Wanted::Clamped(compression, epoch),
                None => Wanted::Any(compression),
            };
            layers.push(self.layer_blob(id, wanted, reporter).await?);
        }
        let mut parsed: ImageConfig =
            serde_json::from_slice(&config).map_err(|source| Error::malformed("configuration", image.id, source))?;
        let diff_ids: Vec<_> = layers.iter().map(|layer| layer.diff_id).collect();
        if parsed.rootfs.diff_ids != diff_ids {
            parsed.rootfs.diff_ids = diff_ids;
            config = serde_json::to_vec(&parsed).map_err(|e| Error::malformed("configuration", image.id, e))?;
        }
        let blobs = layers.iter().map(|layer| layer.descriptor.clone()).collect();
        let (manifest, descriptor) = self.put_manifest(&config, blobs)?;
        Ok(Exportable { names, manifest: descriptor, config: manifest.config, layers })
    }

    /// Writes images and their index into an archive.
    pub(crate) fn write_images<W: Write>(
        &self,
        archive: &mut ArchiveWriter<W>,
        images: &[Exportable],
        kind: ArchiveKind,
    ) -> Result<(), Error> {
        let (mut manifests, mut docker) = (Vec::new(), Vec::new());
        for image in images {
            let blobs = image.layers.iter().map(|layer| &layer.descriptor).chain([&image.config, &image.manifest]);
            for blob in blobs {
                let content = self.store().content().open(&blob.digest)?.ok_or(Error::LayerGone(blob.digest))?;
                archive.blob(&blob.digest, blob.size, content.into_file()).map_err(writing)?;
            }
            let mut entry = image.manifest.clone();
            if image.names.is_empty() {
                manifests.push(entry.clone());
            }
            for name in &image.names {
                let tag = name.tag().unwrap_or_default().to_owned();
                entry.annotations.insert("org.opencontainers.image.ref.name".to_owned(), tag);
                entry.annotations.insert("io.containerd.image.name".to_owned(), name.to_string());
                manifests.push(entry.clone());
            }
            docker.push(json!({
                "Config": blob_path(&image.config.digest),
                "RepoTags": image.names.iter().map(Reference::familiar).collect::<Vec<_>>(),
                "Layers": image.layers.iter().map(|layer| blob_path(&layer.descriptor.digest)).collect::<Vec<_>>(),
            }));
        }
        let (index, _) = rbuild_image::Index::new(rbuild_image::Family::Oci, manifests).to_bytes();
        archive.file("index.json", &index).map_err(writing)?;
        if kind == ArchiveKind::Docker {
            archive.file("manifest.json", json!(docker).to_string().as_bytes()).map_err(writing)?;
        }
        archive.file("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#).map_err(writing)
    }
}

/// As the options say.
pub(crate) fn compression(options: &ExportOptions) -> Compression {
    match options.compression {
        LayerCompression::Gzip => {
            options.level.and_then(|level| u32::try_from(level).ok()).map_or(Compression::GZIP, Compression::Gzip)
        }
        LayerCompression::Zstd => Compression::Zstd(options.level.unwrap_or(3)),
        LayerCompression::None => Compression::None,
    }
}

fn writing(source: io::Error) -> Error {
    Error::Stream { action: "write the archive", source }
}

/// Writes a file that appears only when it is complete; without a path, standard output.
pub(crate) fn to_file(
    dest: Option<&Path>,
    write: impl FnOnce(&mut dyn Write) -> Result<(), Error>,
) -> Result<(), Error> {
    let Some(dest) = dest else {
        let mut out = BufWriter::with_capacity(1 << 18, io::stdout().lock());
        write(&mut out)?;
        return out.flush().map_err(writing);
    };
    let directory = dest.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let failed = || Error::file("write", dest);
    // A device or a pipe is written to, not replaced.
    if dest.exists() && !dest.is_file() {
        let mut out = BufWriter::with_capacity(1 << 18, File::options().write(true).open(dest).map_err(failed())?);
        write(&mut out)?;
        return out.flush().map_err(failed());
    }
    let aside = tempfile::Builder::new().prefix(".rbuild-").tempfile_in(directory).map_err(failed())?;
    let mut out = BufWriter::with_capacity(1 << 18, aside);
    write(&mut out)?;
    let aside = out.into_inner().map_err(|error| failed()(error.into_error()))?;
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    aside.as_file().set_permissions(mode).map_err(failed())?;
    aside.persist(dest).map_err(|error| failed()(error.error))?;
    Ok(())
}

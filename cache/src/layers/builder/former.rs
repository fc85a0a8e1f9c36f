//! What can be taken from the layer that was made of nearly the same files before?

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use rbuild_image::erofs::TAR_OFFSET;
use rbuild_image::{Change, FormerTar, Found, PartDigest, ReadAt};

use super::super::{Form, LayerId, Layers, Result};
use crate::error::Context;

/// What begins somewhere in the file of a layer: the plain tar, or its index.
#[derive(Debug)]
pub(super) struct InLayer {
    file: Arc<File>,
    start: u64,
}

impl ReadAt for InLayer {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read_exact_at(buffer, self.start + offset)
    }
}

/// A layer whose parts may become parts of another one. Made by [`Layers::former`].
#[derive(Clone, Debug)]
pub struct FormerLayer(pub(super) Arc<FormerTar<InLayer>>);

impl FormerLayer {
    /// The same file, with the same metadata, and content with this blake3.
    pub fn find(&self, change: &Change, content: &[u8; 32]) -> Option<Found> {
        // What no layer can express is in none.
        PartDigest::of(change, content).ok().and_then(|part| self.0.find(&part))
    }
}

impl Layers<'_> {
    /// A layer for [`Layers::build_like`]; `None` if it is not here, or not in a form that anything can be taken from, or
    /// new layers are of another form.
    ///
    /// # Errors
    /// Only if the disk or the metadata fails.
    pub fn former(&self, id: &LayerId) -> Result<Option<FormerLayer>> {
        if !self.makes_files()? {
            return Ok(None);
        }
        let Some(layer) = self.find_intact(id)?.filter(|layer| layer.form == Form::Erofs) else { return Ok(None) };
        let file = self.open_file(&layer)?;
        let failed = || self.path(id);
        let Some(index) = file.index().context("read", failed())? else { return Ok(None) };
        let file = Arc::new(file.file);
        let at = |start| InLayer { file: Arc::clone(&file), start };
        let former = FormerTar::new(at(index.start), index.end - index.start, at(TAR_OFFSET));
        Ok(former.context("read", failed())?.map(|former| FormerLayer(Arc::new(former))))
    }
}

//! How does a planned copy become a layer?

use std::path::PathBuf;
use std::sync::Arc;

use rbuild_cache::{FileContent, FormerLayer, Layer, LayerBuilder, LayerError, LayerId, LayerKind, Layers};
use rbuild_image::{Change, Found};
use rustix::io::Errno;

use super::WorkerError;
use crate::files::InnerPath;
use crate::files::copy::{Bytes, CopyError, Filling, Former, Sink};
use crate::files_error::FilesError;

/// Puts changes into a layer.
#[derive(Debug)]
pub(crate) struct LayerSink {
    builder: LayerBuilder,
    former: Option<FormerLayer>,
}

impl LayerSink {
    /// For a new layer. If nearly the same was done before, `former` is what came of it.
    pub(crate) fn new(layers: Layers<'_>, former: Option<&LayerId>) -> Result<Self, WorkerError> {
        // Without it everything is read, that is all.
        let former = former.and_then(|id| layers.former(id).ok().flatten());
        Ok(Self { builder: layers.build_like(former.clone())?, former })
    }

    /// Where contents may be kept that have to be unpacked first.
    pub(crate) fn scratch(&self) -> Result<PathBuf, WorkerError> {
        Ok(self.builder.scratch()?)
    }

    /// Makes what was put into it a layer.
    pub(crate) fn commit(self) -> Result<Layer, WorkerError> {
        self.builder.commit(LayerKind::Files).map_err(copy_error)
    }
}

impl Former for FormerLayer {
    fn find(&self, change: &Change, digest: &[u8; 32]) -> Option<Found> {
        Self::find(self, change, digest)
    }
}

impl Sink for LayerSink {
    type Error = WorkerError;

    fn former(&self) -> Option<Arc<dyn Former>> {
        self.former.clone().map(|former| Arc::new(former) as Arc<dyn Former>)
    }

    fn put(&mut self, change: &Change, filling: Filling<'_>) -> Result<(), WorkerError> {
        refuse_whiteout(change)?;
        let mut content = match filling.bytes {
            Bytes::Empty => FileContent::empty(),
            Bytes::Small(bytes) => FileContent::bytes(bytes),
            Bytes::Reader(reader) => FileContent::reader(reader),
            Bytes::File(file) => FileContent::file(file),
            Bytes::Former(found) => FileContent::former(found, filling.digest.unwrap_or_default()),
        };
        if let Some(digest) = filling.digest {
            content = content.with_digest(digest);
        }
        if filling.linked {
            content = content.linked();
        }
        self.builder.append(change, content).map_err(copy_error)
    }
}

/// Directories come before what is in them, so the last name is enough.
fn refuse_whiteout(change: &Change) -> Result<(), CopyError> {
    let path = change.path();
    match path.file_name() {
        Some(name) if name.as_encoded_bytes().starts_with(b".wh.") => {
            Err(CopyError::Whiteout { path: InnerPath::new(path) })
        }
        _ => Ok(()),
    }
}

/// What a layer's builder says, in the words of a copy.
fn copy_error(error: LayerError) -> WorkerError {
    let error = match error {
        LayerError::Source { path, source } => CopyError::Read { path: InnerPath::new(path), source },
        LayerError::Owner { path, uid, gid, source } => {
            let path = InnerPath::new(path);
            match Errno::from_io_error(&source) {
                Some(Errno::PERM | Errno::INVAL | Errno::OVERFLOW) => CopyError::Chown { path, uid, gid, source },
                _ => CopyError::Write { path, source },
            }
        }
        LayerError::Change { action: "make the device", path, source }
            if source.kind() == std::io::ErrorKind::PermissionDenied =>
        {
            CopyError::Device { path: InnerPath::new(path), source }
        }
        LayerError::Change { path, source, .. } => CopyError::Write { path: InnerPath::new(path), source },
        other => return other.into(),
    };
    FilesError::from(error).into()
}

impl From<CopyError> for WorkerError {
    fn from(error: CopyError) -> Self {
        FilesError::from(error).into()
    }
}

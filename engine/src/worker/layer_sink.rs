//! How does a planned copy become a layer?

use rbuild_cache::{FileContent, LayerBuilder, LayerError};
use rbuild_image::Change;
use rustix::io::Errno;

use super::WorkerError;
use crate::files::InnerPath;
use crate::files::copy::{Bytes, CopyError, Filling, Sink};
use crate::files_error::FilesError;

/// Puts changes into a layer.
#[derive(Debug)]
pub(crate) struct LayerSink(pub(crate) LayerBuilder);

impl Sink for LayerSink {
    type Error = WorkerError;

    fn put(&mut self, change: &Change, filling: Filling<'_>) -> Result<(), WorkerError> {
        let mut content = match filling.bytes {
            Bytes::Empty => FileContent::empty(),
            Bytes::Small(bytes) => FileContent::bytes(bytes),
            Bytes::Reader(reader) => FileContent::reader(reader),
            Bytes::File(file) => FileContent::file(file),
        };
        if let Some(digest) = filling.digest {
            content = content.with_digest(digest);
        }
        if filling.linked {
            content = content.linked();
        }
        self.0.append(change, content).map_err(copy_error)
    }
}

/// What a layer's builder says, in the words of a copy.
pub(super) fn copy_error(error: LayerError) -> WorkerError {
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

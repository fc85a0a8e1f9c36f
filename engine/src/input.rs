//! How is something handed over that can be read only once?

use std::fmt;
use std::io::{self, Cursor, Read};
use std::sync::{Arc, Mutex, PoisonError};

/// Standard input, or whatever stands for it. All clones share one stream: who takes it first has it.
#[derive(Clone)]
pub struct Input(Arc<Mutex<Option<Box<dyn Read + Send>>>>);

impl Input {
    /// A stream that has not been read from.
    pub fn new(stream: impl Read + Send + 'static) -> Self {
        Self(Arc::new(Mutex::new(Some(Box::new(stream)))))
    }

    /// The stream; an empty one for everybody after the first.
    pub fn take(&self) -> Box<dyn Read + Send> {
        let taken = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        taken.unwrap_or_else(|| Box::new(Cursor::new(Vec::new())))
    }
}

impl Default for Input {
    /// Nothing to read.
    fn default() -> Self {
        Self::new(io::empty())
    }
}

impl fmt::Debug for Input {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Input")
    }
}

/// Two are the same if they share one stream.
impl PartialEq for Input {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Input {}

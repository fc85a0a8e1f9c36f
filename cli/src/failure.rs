//! Why does a command end without success, and with which exit code?

use std::error::Error;
use std::fmt;
use std::io;
use std::process::ExitCode;
use std::sync::Arc;

use rbuild_engine::BuildError;
use rbuild_frontend::{Diagnostic, Source};

use crate::diagnostics::{Colour, chain, render};

/// Shown at the end of `rbuild --help`.
pub const EXIT_CODES: &str = "\
Exit codes:
  0    success
  1    the command, or the build, failed
  2    the command line makes no sense
  130  interrupted

  `rbuild run` ends with the code of its process, or
  125  the container could not be made
  126  its command cannot be executed
  127  its command was not found";

/// The end of a command that did not do what it should.
#[derive(Debug)]
pub enum Failure {
    /// The command line asks for something that makes no sense.
    Usage {
        /// What is wrong with it.
        message: String,
        /// What to write instead.
        hint: Option<String>,
    },
    /// Something could not be done.
    Error {
        /// What and why.
        error: Box<dyn Error>,
        /// What the user can do about it.
        hint: Option<String>,
        /// The exit code.
        code: u8,
    },
    /// Mistakes in a Dockerfile, or a step that failed.
    Dockerfile {
        /// The Dockerfile.
        source: Arc<Source>,
        /// What is wrong, and where.
        diagnostics: Vec<Diagnostic>,
    },
    /// Everything was said; only the exit code is left.
    Code(u8),
    /// Several things went wrong, one after the other.
    Several(Vec<Self>),
    /// The user asked for the end.
    Interrupted,
    /// Nobody reads standard output any more, so nobody wants to know.
    Closed,
}

/// An error without a type of its own: what could not be done and the cause.
#[derive(Debug)]
struct Message {
    text: String,
    source: Option<Box<dyn Error>>,
}

impl Failure {
    /// The command line makes no sense.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::Usage { message: message.into(), hint: None }
    }

    /// An error of a library, with the library's advice.
    pub fn error(error: impl Error + 'static, hint: Option<String>) -> Self {
        Self::Error { error: Box::new(error), hint, code: 1 }
    }

    /// An error that has no cause.
    pub fn message(text: impl Into<String>) -> Self {
        Self::error(Message { text: text.into(), source: None }, None)
    }

    /// An error of the system.
    pub fn io(text: impl Into<String>, error: io::Error) -> Self {
        Self::error(Message { text: text.into(), source: Some(Box::new(error)) }, None)
    }

    /// Adds advice.
    #[must_use]
    pub fn hint(self, text: impl Into<String>) -> Self {
        let hint = Some(text.into());
        match self {
            Self::Usage { message, .. } => Self::Usage { message, hint },
            Self::Error { error, code, .. } => Self::Error { error, hint, code },
            other => other,
        }
    }

    /// Ends with this code instead of 1.
    #[must_use]
    pub fn code(self, code: u8) -> Self {
        match self {
            Self::Error { error, hint, .. } => Self::Error { error, hint, code },
            other => other,
        }
    }

    /// This failure after others.
    #[must_use]
    pub fn after(self, earlier: Option<Self>) -> Self {
        match earlier {
            None => self,
            Some(Self::Several(mut failures)) => {
                failures.push(self);
                Self::Several(failures)
            }
            Some(one) => Self::Several(vec![one, self]),
        }
    }

    /// What is written to standard error.
    pub fn text(&self, colour: Colour) -> Option<String> {
        match self {
            Self::Usage { message, hint } => {
                let message = Message { text: message.clone(), source: None };
                Some(chain(&message, hint.as_deref(), colour))
            }
            Self::Error { error, hint, .. } => Some(chain(error.as_ref(), hint.as_deref(), colour)),
            Self::Several(failures) => Some(failures.iter().filter_map(|failure| failure.text(colour)).collect()),
            Self::Dockerfile { source, diagnostics } => Some(render(source, diagnostics, colour)),
            Self::Interrupted => Some(chain(&Message { text: "interrupted".to_owned(), source: None }, None, colour)),
            Self::Code(_) | Self::Closed => None,
        }
    }

    /// The exit code.
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Usage { .. } => 2,
            Self::Error { code, .. } | Self::Code(code) => *code,
            Self::Several(_) | Self::Dockerfile { .. } => 1,
            Self::Interrupted => 130,
            Self::Closed => 0,
        })
    }
}

impl fmt::Display for Message {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

impl Error for Message {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref()
    }
}

impl From<rbuild_engine::Error> for Failure {
    fn from(error: rbuild_engine::Error) -> Self {
        let hint = error.hint();
        Self::error(error, hint)
    }
}

impl From<rbuild_engine::RunError> for Failure {
    fn from(error: rbuild_engine::RunError) -> Self {
        let hint = error.hint();
        Self::error(error, hint)
    }
}

impl From<BuildError> for Failure {
    fn from(error: BuildError) -> Self {
        match error {
            BuildError::Dockerfile { text: source, diagnostics } => Self::Dockerfile { source, diagnostics },
            BuildError::Step { text: source, diagnostic, mut warnings, .. } => {
                warnings.push(*diagnostic);
                Self::Dockerfile { source, diagnostics: warnings }
            }
            error => {
                let hint = error.hint();
                Self::error(error, hint)
            }
        }
    }
}

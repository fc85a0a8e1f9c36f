//! What is a user told while work goes on?
//!
//! `Event` is the only progress type. Libraries emit, the command line folds: nothing below `cli` ever prints.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::Resources;

/// Identifies one step (a vertex of the build graph, or a transfer) within one command.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
pub struct StepId(pub u32);

/// How a step ended.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It was executed and succeeded.
    Done,
    /// Its result was known; nothing was executed.
    Cached,
    /// It was executed and failed, with this one-line reason.
    Failed(String),
    /// It was stopped because another step failed or the user asked for it.
    Cancelled,
}

/// Which output of a process a [`Event::Log`] came from.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Stream {
    /// File descriptor 1.
    Stdout,
    /// File descriptor 2.
    Stderr,
}

/// One thing that happened.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "snake_case", tag = "event")]
pub enum Event {
    /// How many steps the build has in all, cached ones included. May be sent again when it is known better.
    Planned {
        /// The number of steps.
        steps: u32,
    },
    /// A step began: its cache look-up or its execution.
    StepStarted {
        /// The step.
        step: StepId,
        /// What a person calls it, such as `[build 2/5] RUN make`.
        title: String,
    },
    /// A step ended. Sent exactly once for each started step.
    StepFinished {
        /// The step.
        step: StepId,
        /// How it ended.
        outcome: Outcome,
        /// Time since it began to execute; zero for a cached step.
        elapsed: Duration,
    },
    /// What a step's processes took. Sent before its end, if it ran any.
    Resources {
        /// The step.
        step: StepId,
        /// All of them together.
        resources: Resources,
    },
    /// A piece of a step's output, in the order it was read; not necessarily whole lines or valid UTF-8.
    Log {
        /// The step.
        step: StepId,
        /// Where the bytes came from.
        stream: Stream,
        /// The bytes.
        data: Vec<u8>,
    },
    /// Bytes moved: a blob pulled or pushed, an archive written.
    Transfer {
        /// The step it belongs to.
        step: StepId,
        /// What moves, such as a short digest; unique within the step.
        item: String,
        /// Bytes so far.
        current: u64,
        /// All bytes, if known.
        total: Option<u64>,
        /// What is being done: `downloading`, `extracting`, `pushing`, `exists`, `mounted`, `done`.
        action: &'static str,
    },
    /// Something the user should know that is no error, such as a fallback that was taken.
    Notice {
        /// One sentence.
        message: String,
    },
}

/// Where events go. Cloning is cheap; every clone feeds the same receiver.
#[derive(Clone)]
pub struct Reporter(Option<Arc<dyn Fn(Event) + Send + Sync>>);

impl Reporter {
    /// Sends every event to `receive`, on whatever thread it happens; `receive` must not block for long.
    pub fn new(receive: impl Fn(Event) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(receive)))
    }

    /// Drops every event.
    pub fn silent() -> Self {
        Self(None)
    }

    /// Tells the receiver.
    pub fn emit(&self, event: Event) {
        if let Some(receive) = &self.0 {
            receive(event);
        }
    }
}

impl fmt::Debug for Reporter {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(if self.0.is_some() { "Reporter" } else { "Reporter(silent)" })
    }
}

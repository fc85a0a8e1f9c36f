//! Who is told that a step began, printed something, or ended?
//!
//! One [`Progress`] per solve keeps the promise that each started step ends exactly once, also when the solve is
//! dropped or fails: whatever is still open then is cancelled. One [`Audience`] per execution passes events to every
//! solve that waits for it, each under its own step.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use rbuild_core::{Event, Outcome, Reporter, StepId};

#[derive(Debug)]
pub(crate) struct Progress {
    reporter: Reporter,
    open: Mutex<Steps>,
}

#[derive(Debug, Default)]
struct Steps {
    started: BTreeMap<StepId, Instant>,
    closed: bool,
}

impl Progress {
    pub(crate) fn new(reporter: &Reporter) -> Self {
        Self { reporter: reporter.clone(), open: Mutex::default() }
    }

    pub(crate) fn planned(&self, steps: usize) {
        self.reporter.emit(Event::Planned { steps: u32::try_from(steps).unwrap_or(u32::MAX) });
    }

    // Events are sent under the lock, so that their order is the order of what happened.
    fn start(&self, step: StepId, title: &str) {
        let mut steps = self.steps();
        if !steps.closed && !steps.started.contains_key(&step) {
            steps.started.insert(step, Instant::now());
            self.reporter.emit(Event::StepStarted { step, title: title.to_owned() });
        }
    }

    /// Ends a step; starts it before if that was not done.
    pub(crate) fn finish(&self, step: StepId, title: &str, outcome: Outcome) {
        let mut steps = self.steps();
        if steps.closed {
            return;
        }
        let began = steps.started.remove(&step);
        if began.is_none() {
            self.reporter.emit(Event::StepStarted { step, title: title.to_owned() });
        }
        let elapsed = match outcome {
            Outcome::Cached => Duration::ZERO,
            _ => began.map_or(Duration::ZERO, |began| began.elapsed()),
        };
        self.reporter.emit(Event::StepFinished { step, outcome, elapsed });
    }

    /// Cancels what is open; nothing is sent afterwards.
    pub(crate) fn close(&self) {
        let mut steps = self.steps();
        steps.closed = true;
        for (step, began) in std::mem::take(&mut steps.started) {
            self.reporter.emit(Event::StepFinished { step, outcome: Outcome::Cancelled, elapsed: began.elapsed() });
        }
    }

    fn forward(&self, event: Event) {
        if !self.steps().closed {
            self.reporter.emit(event);
        }
    }

    fn steps(&self) -> MutexGuard<'_, Steps> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Closes a [`Progress`] when the solve that owns it ends, however it ends.
#[derive(Debug)]
pub(crate) struct Closing(pub(crate) Arc<Progress>);

impl Drop for Closing {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// A solve that waits for an execution.
#[derive(Debug)]
pub(crate) struct Listener {
    pub(crate) progress: Weak<Progress>,
    pub(crate) step: StepId,
    pub(crate) title: String,
}

/// All solves that wait for one execution.
#[derive(Debug, Default)]
pub(crate) struct Audience(Mutex<Seats>);

#[derive(Debug, Default)]
struct Seats {
    listeners: Vec<Listener>,
    started: bool,
}

impl Audience {
    pub(crate) fn join(&self, listener: Listener) {
        let mut seats = self.seats();
        if seats.started
            && let Some(progress) = listener.progress.upgrade()
        {
            progress.start(listener.step, &listener.title);
        }
        seats.listeners.retain(|earlier| earlier.progress.strong_count() > 0);
        seats.listeners.push(listener);
    }

    pub(crate) fn start(&self) {
        let mut seats = self.seats();
        seats.started = true;
        for listener in &seats.listeners {
            if let Some(progress) = listener.progress.upgrade() {
                progress.start(listener.step, &listener.title);
            }
        }
    }

    /// Where the execution, which calls itself `step`, sends its events.
    pub(crate) fn reporter(self: &Arc<Self>, step: StepId) -> Reporter {
        let audience = Arc::downgrade(self);
        Reporter::new(move |event| {
            if let Some(audience) = audience.upgrade() {
                audience.tell(step, &event);
            }
        })
    }

    fn tell(&self, own: StepId, event: &Event) {
        for listener in &self.seats().listeners {
            let Some(progress) = listener.progress.upgrade() else { continue };
            let mut event = event.clone();
            if let Event::Log { step, .. } | Event::Transfer { step, .. } | Event::Resources { step, .. } = &mut event
                && *step == own
            {
                *step = listener.step;
            }
            progress.forward(event);
        }
    }

    fn seats(&self) -> MutexGuard<'_, Seats> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

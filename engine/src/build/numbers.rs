//! Which numbers does progress give to steps?
//!
//! They are counted where they are shown, in the order in which steps are first mentioned; a step that is begun again,
//! as one is whose layer turns out to be lost, gets another number. Whoever tells of a build later has to name the same
//! ones, so they are counted here, too.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use rbuild_core::{Event, Reporter, StepId};

/// The numbers of a build's steps.
#[derive(Clone, Debug, Default)]
pub(super) struct Numbers(Arc<Mutex<Counted>>);

#[derive(Debug, Default)]
struct Counted {
    last: usize,
    steps: HashMap<StepId, Numbered>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Numbered {
    /// What is shown of it now.
    current: usize,
    /// Whether that has begun, and has a title; else it has only been mentioned.
    begun: bool,
    ended: bool,
    /// The number under which it began last.
    known: Option<usize>,
}

impl Numbers {
    /// Counts what is passed on to `reporter`.
    pub(super) fn counting(&self, reporter: &Reporter) -> Reporter {
        let (counted, reporter) = (Arc::clone(&self.0), reporter.clone());
        Reporter::new(move |event| {
            // Passed on under the lock: the order here must be that of whoever counts there.
            let mut counted = counted.lock().unwrap_or_else(PoisonError::into_inner);
            counted.count(&event);
            reporter.emit(event);
        })
    }

    /// The number of the step's last try.
    pub(super) fn of(&self, step: StepId) -> Option<usize> {
        let counted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counted.steps.get(&step).map(|numbered| numbered.known.unwrap_or(numbered.current))
    }
}

impl Counted {
    fn count(&mut self, event: &Event) {
        match event {
            Event::StepStarted { step, title } => {
                if self.place(*step).begun {
                    self.renumber(*step);
                }
                let numbered = self.place(*step);
                if !title.is_empty() {
                    numbered.begun = true;
                    numbered.known = Some(numbered.current);
                }
            }
            Event::StepFinished { step, .. } => self.place(*step).ended = true,
            Event::Log { step, .. } | Event::Resources { step, .. } => drop(self.place(*step)),
            Event::Transfer { step, .. } => {
                let numbered = *self.place(*step);
                // What is pushed or exported after a build counts its own steps.
                if numbered.begun && numbered.ended {
                    self.renumber(*step);
                }
            }
            Event::Planned { .. } | Event::Notice { .. } => {}
        }
    }

    fn place(&mut self, step: StepId) -> &mut Numbered {
        let last = &mut self.last;
        self.steps.entry(step).or_insert_with(|| {
            *last += 1;
            Numbered { current: *last, ..Numbered::default() }
        })
    }

    fn renumber(&mut self, step: StepId) {
        self.last += 1;
        let current = self.last;
        let numbered = self.place(step);
        *numbered = Numbered { current, begun: false, ended: false, known: numbered.known };
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rbuild_core::{Outcome, Stream};

    use super::*;

    fn started(step: u32) -> Event {
        Event::StepStarted { step: StepId(step), title: "RUN x".to_owned() }
    }

    fn ended(step: u32) -> Event {
        Event::StepFinished { step: StepId(step), outcome: Outcome::Done, elapsed: Duration::ZERO }
    }

    fn transfer(step: u32) -> Event {
        Event::Transfer { step: StepId(step), item: "blob".to_owned(), current: 0, total: None, action: "pushing" }
    }

    fn log(step: u32) -> Event {
        Event::Log { step: StepId(step), stream: Stream::Stdout, data: b"a\n".to_vec() }
    }

    #[test]
    fn numbers_are_those_of_progress() {
        for (events, expected) in [
            (vec![started(7), started(3), ended(7), log(3), ended(3)], [Some(2), Some(1)]),
            // What is mentioned first begins later.
            (vec![log(3), started(7), started(3), ended(3)], [Some(1), Some(2)]),
            // A second try.
            (vec![started(3), ended(3), started(7), ended(7), started(3), ended(3)], [Some(3), Some(2)]),
            (vec![started(3), started(3), started(7)], [Some(2), Some(3)]),
            // What is pushed has a number, and leaves the step its own.
            (vec![started(3), ended(3), transfer(3), transfer(3), started(7)], [Some(1), Some(3)]),
            (vec![started(3), transfer(3), ended(3), started(7)], [Some(1), Some(2)]),
            (vec![], [None, None]),
        ] {
            let numbers = Numbers::default();
            let text = format!("{events:?}");
            let reporter = numbers.counting(&Reporter::new(|_| {}));
            events.into_iter().for_each(|event| reporter.emit(event));
            assert_eq!([3, 7].map(|step| numbers.of(StepId(step))), expected, "{text}");
        }
    }
}

//! How does a user see what is going on?
//!
//! [`Progress`] hands out the [`Reporter`] that a command gives to the engine, folds what comes back and shows it on
//! standard error, in one of four ways. Events arrive on any thread; plain and JSON lines are written where they
//! arrive, a terminal is drawn by a thread of its own, ten times a second.

mod fold;
mod json;
mod lines;
mod plain;
mod tty;

use std::future::poll_fn;
use std::io::{self, IsTerminal, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use clap::ValueEnum;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use rbuild_core::{Event, Reporter};

use self::fold::{Fold, News};
pub use self::json::took;
use self::plain::Plain;
use self::tty::{Phase, Row, Tone, View};
use crate::diagnostics::Colour;

/// `--progress`.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, ValueEnum)]
pub enum ProgressMode {
    /// `tty` on a terminal, else `plain`.
    #[default]
    Auto,
    /// Live, drawn in place.
    Tty,
    /// Numbered lines.
    Plain,
    /// One JSON object per line and event.
    Json,
    /// Nothing but what went wrong.
    #[value(alias = "none")]
    Quiet,
}

impl ProgressMode {
    /// What was asked for by a flag, else by `$BUILDKIT_PROGRESS`, which may have a value that is only known there.
    pub fn chosen(flag: Option<Self>) -> Self {
        let variable = || Self::from_str(&std::env::var("BUILDKIT_PROGRESS").ok()?, true).ok();
        flag.or_else(variable).unwrap_or_default()
    }
}

/// Shows one command's events until it is finished or dropped.
#[derive(Debug)]
#[must_use = "dropping it ends the display"]
pub struct Progress {
    shared: Arc<Shared>,
    drawing: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug)]
struct Shared {
    verb: String,
    started: Instant,
    state: Mutex<State>,
    ended: Condvar,
}

#[derive(Debug)]
struct State {
    fold: Fold,
    output: Output,
    ended: bool,
}

#[derive(Debug)]
enum Output {
    Quiet,
    Plain(Plain),
    Json,
    Terminal(ProgressBar),
}

/// How often a terminal is drawn.
const PERIOD: Duration = Duration::from_millis(100);

impl Progress {
    /// Begins to show; `verb` says what is done, such as `Building`.
    pub fn start(verb: impl Into<String>, mode: ProgressMode) -> Self {
        let output = match mode {
            ProgressMode::Auto if io::stderr().is_terminal() => terminal(),
            ProgressMode::Tty => terminal(),
            ProgressMode::Auto | ProgressMode::Plain => Output::Plain(Plain::default()),
            ProgressMode::Json => Output::Json,
            ProgressMode::Quiet => Output::Quiet,
        };
        let state = Mutex::new(State { fold: Fold::default(), output, ended: false });
        let shared = Arc::new(Shared { verb: verb.into(), started: Instant::now(), state, ended: Condvar::new() });
        Self { shared, drawing: Mutex::default() }
    }

    /// Draws, on a terminal, from the moment at which `work` waits for something.
    pub fn during<T>(&self, work: impl Future<Output = T>) -> impl Future<Output = T> {
        let mut work = Box::pin(work);
        poll_fn(move |context| {
            let polled = work.as_mut().poll(context);
            // Before there is an event loop there may be no thread.
            if polled.is_pending() && tokio::runtime::Handle::try_current().is_ok() {
                self.draw();
            }
            polled
        })
    }

    /// Starts the thread that draws, unless there is nothing to draw on, or it is there.
    fn draw(&self) {
        if matches!(self.shared.lock().output, Output::Terminal(_)) {
            let mut drawing = self.drawing.lock().unwrap_or_else(PoisonError::into_inner);
            drawing.get_or_insert_with(|| {
                let shared = Arc::clone(&self.shared);
                thread::spawn(move || shared.draw_until_ended())
            });
        }
    }

    /// What the engine reports to.
    pub fn reporter(&self) -> Reporter {
        let shared = Arc::clone(&self.shared);
        Reporter::new(move |event| shared.receive(event))
    }

    /// Shows the end and, if something failed, the last output of what did.
    pub fn finish(mut self, success: bool) {
        self.show_end(success);
    }

    fn show_end(&mut self, success: bool) {
        if self.stop_drawing() == Before::Ended {
            return;
        }
        let state = self.shared.lock();
        let mut text = String::new();
        if !state.fold.steps().is_empty() {
            match state.output {
                Output::Terminal(_) => {
                    let phase = if success { Phase::Finished } else { Phase::Failed };
                    let rows = tty::draw(&state.fold, self.shared.started.elapsed(), self.shared.view(phase));
                    text.push_str(&paint(&rows));
                    text.push('\n');
                }
                Output::Plain(_) => text.push('\n'),
                Output::Json | Output::Quiet => {}
            }
        }
        if !success && !matches!(state.output, Output::Json) {
            text.push_str(&plain::failures(&state.fold));
        }
        emit(&text);
    }

    fn stop_drawing(&mut self) -> Before {
        let before = std::mem::replace(&mut self.shared.lock().ended, true);
        self.shared.ended.notify_all();
        let drawing = self.drawing.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(drawing) = drawing {
            // A drawing thread that panicked has said so itself; the command's result does not depend on it.
            drop(drawing.join());
        }
        if before { Before::Ended } else { Before::Going }
    }
}

/// Who drops the display has given up.
impl Drop for Progress {
    fn drop(&mut self) {
        self.show_end(false);
    }
}

/// Whether the display had been ended before.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Before {
    Going,
    Ended,
}

impl Shared {
    fn receive(&self, event: Event) {
        let now = self.started.elapsed();
        let mut state = self.lock();
        let State { fold, output, ended } = &mut *state;
        // One write for all that an event brought: a step may print thousands of lines at once.
        let mut text = String::new();
        for news in fold.apply(now, event) {
            match output {
                Output::Plain(plain) => text.push_str(&plain.write(fold, now, &news)),
                Output::Json => text.push_str(&json::line(fold, now, &news)),
                Output::Terminal(bar) => {
                    if let News::Notice(message) = news {
                        let print = || emit(&format!("note: {message}\n"));
                        if *ended { print() } else { bar.suspend(print) }
                    }
                }
                Output::Quiet => {}
            }
        }
        emit(&text);
    }

    fn draw_until_ended(&self) {
        let mut state = self.lock();
        loop {
            let waited = self.ended.wait_timeout(state, PERIOD);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
            let Output::Terminal(bar) = &state.output else { return };
            if state.ended {
                bar.finish_and_clear();
                return;
            }
            if !state.fold.steps().is_empty() {
                let rows = tty::draw(&state.fold, self.started.elapsed(), self.view(Phase::Running));
                bar.set_message(paint(&rows));
            }
        }
    }

    fn view(&self, phase: Phase) -> View<'_> {
        let size = rustix::termios::tcgetwinsize(io::stderr()).ok().filter(|size| size.ws_col > 0 && size.ws_row > 0);
        let (width, height) = size.map_or((80, 24), |size| (usize::from(size.ws_col), usize::from(size.ws_row)));
        View { verb: &self.verb, phase, width, height }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn terminal() -> Output {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    Output::Terminal(bar.with_style(ProgressStyle::with_template("{msg}").expect("a template of one field")))
}

/// Colours the lines, as far as the terminal and the user's environment want it.
fn paint(rows: &[Row]) -> String {
    let colour = Colour::of(&io::stderr()) == Colour::Ansi;
    let lines: Vec<String> = rows
        .iter()
        .map(|Row { tone, text }| match tone {
            _ if !colour => text.clone(),
            Tone::Header => format!("\x1b[1m{text}\x1b[0m"),
            Tone::Running => text.clone(),
            Tone::Ended => format!("\x1b[34m{text}\x1b[0m"),
            Tone::Failed => format!("\x1b[31m{text}\x1b[0m"),
            Tone::Cancelled => format!("\x1b[33m{text}\x1b[0m"),
            Tone::Log => format!("\x1b[2m{text}\x1b[0m"),
        })
        .collect();
    lines.join("\n")
}

/// Writes to standard error; progress that nobody can read any more is no reason to stop.
fn emit(text: &str) {
    if text.is_empty() {
        return;
    }
    drop(io::stderr().lock().write_all(text.as_bytes()));
}

#[cfg(test)]
mod tests {
    use rbuild_core::{Outcome, Resources, StepId, Stream};

    use super::*;

    /// A build of two parallel stages, one of which fails.
    pub(super) fn example() -> Vec<(Duration, Event)> {
        let start = |step, title: &str| Event::StepStarted { step: StepId(step), title: title.to_owned() };
        let log = |step, text: &str| Event::Log {
            step: StepId(step),
            stream: Stream::Stdout,
            data: text.as_bytes().to_vec(),
        };
        let end = |step, outcome, millis| Event::StepFinished {
            step: StepId(step),
            outcome,
            elapsed: Duration::from_millis(millis),
        };
        let pull = |current, action| Event::Transfer {
            step: StepId(1),
            item: "sha256:1a2b3c4d5e6f".to_owned(),
            current,
            total: Some(3_400_000),
            action,
        };
        let took = Resources {
            user: Duration::from_millis(1500),
            system: Duration::from_millis(250),
            peak_memory: 2 << 20,
            read: 512,
            written: 1024,
        };
        let events = vec![
            (0, Event::Planned { steps: 6 }),
            (0, start(0, "[internal] load build context")),
            (100, end(0, Outcome::Done, 100)),
            (100, Event::Notice { message: "`RUN` uses the host's network: no bridge".to_owned() }),
            (100, start(1, "[build 1/3] FROM docker.io/library/debian:trixie")),
            (200, pull(0, "downloading")),
            (600, pull(1_050_000, "downloading")),
            (900, pull(3_400_000, "done")),
            (1000, end(1, Outcome::Done, 900)),
            (1000, start(2, "[build 2/3] WORKDIR /app")),
            (1000, end(2, Outcome::Cached, 0)),
            (1000, start(3, "[build 3/3] RUN make all install DESTDIR=/out PREFIX=/usr")),
            (1000, start(4, "[docs 2/2] RUN mkdocs build")),
            (1500, log(3, "cc -c main.c\ncc -c util.c\n")),
            (1600, log(4, "INFO: building\n")),
            (1700, log(3, "util.c:1: error\n10%\r20%")),
            (3000, Event::Resources { step: StepId(3), resources: took }),
            (3000, end(3, Outcome::Failed("exit code: 2".to_owned()), 2000)),
            (3100, end(4, Outcome::Cancelled, 2100)),
        ];
        events.into_iter().map(|(millis, event)| (Duration::from_millis(millis), event)).collect()
    }

    pub(super) fn events(events: Vec<(Duration, Event)>) -> Fold {
        let mut fold = Fold::default();
        for (at, event) in events {
            fold.apply(at, event);
        }
        fold
    }
}

//! How does a command's progress read in a file?
//!
//! As numbered lines, the way BuildKit's users know them, so that the output of parallel steps can be told apart:
//!
//! ```text
//! #2 [2/3] RUN make
//! #2 0.512 cc -c main.c
//! #2 DONE 1.4s
//! ```

use std::time::Duration;

use rbuild_core::Outcome;

use super::fold::{Fold, News, Step, Transfer};
use crate::human;

/// Writes news down; remembers only which step the last line belonged to.
#[derive(Debug, Default)]
pub struct Plain {
    last: Option<usize>,
}

impl Plain {
    /// The text for what just happened at `now`; `fold` has it already.
    pub fn write(&mut self, fold: &Fold, now: Duration, news: &News) -> String {
        let mut text = String::new();
        match news {
            News::Planned => {}
            News::Started(step) => {
                self.turn_to(*step, &mut text);
                line(&mut text, *step, &fold.steps()[*step].title);
            }
            News::Line { step, after, text: output, .. } => {
                self.turn_to(*step, &mut text);
                line(&mut text, *step, &format!("{:.3} {output}", after.as_secs_f64()));
            }
            News::Transfer(step, transfer) => {
                self.turn_to(*step, &mut text);
                let transfer = &fold.steps()[*step].transfers[*transfer];
                line(&mut text, *step, &moved(transfer, now));
            }
            News::Finished(step) => {
                self.turn_to(*step, &mut text);
                line(&mut text, *step, &ending(&fold.steps()[*step]));
            }
            News::Notice(message) => {
                if self.last.take().is_some() {
                    text.push('\n');
                }
                text.push_str(&format!("note: {message}\n\n"));
            }
        }
        text
    }

    /// Sets another step's lines apart from those before.
    fn turn_to(&mut self, step: usize, text: &mut String) {
        if self.last.is_some_and(|last| last != step) {
            text.push('\n');
        }
        self.last = Some(step);
    }
}

fn line(text: &mut String, step: usize, rest: &str) {
    text.push_str(&format!("#{} {rest}", step + 1));
    text.truncate(text.trim_end_matches(' ').len());
    text.push('\n');
}

fn ending(step: &Step) -> String {
    match &step.ended {
        Some((Outcome::Cached, _)) => "CACHED".to_owned(),
        Some((Outcome::Failed(reason), _)) => format!("ERROR: {reason}"),
        Some((Outcome::Cancelled, _)) => "CANCELED".to_owned(),
        Some((Outcome::Done, elapsed)) => format!("DONE {}", human::seconds(*elapsed)),
        None => String::new(),
    }
}

/// `sha256:1a2b 1.05MB / 3.4MB 0.3s downloading`.
pub fn moved(transfer: &Transfer, now: Duration) -> String {
    let Transfer { item, current, total, action, started, .. } = transfer;
    let amount = match total {
        Some(total) => format!("{} / {}", human::size(*current), human::size(*total)),
        None => human::size(*current),
    };
    format!("{item} {amount} {} {action}", human::seconds(now.saturating_sub(*started)))
}

/// The last lines of each failed step, to be read just above the reason.
pub fn failures(fold: &Fold) -> String {
    let mut text = String::new();
    for step in fold.steps().iter().filter(|step| !step.repeated) {
        let Some((Outcome::Failed(_), _)) = step.ended else { continue };
        if step.recent().next().is_none() {
            continue;
        }
        text.push_str(&format!("------\n > {}:\n", step.title));
        for (after, output) in step.recent() {
            text.push_str(&format!("{:.3} {output}\n", after.as_secs_f64()));
        }
        text.push_str("------\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::tests::{events, example};
    use super::*;

    #[test]
    fn failed_build() {
        let mut fold = Fold::default();
        let mut plain = Plain::default();
        let mut text = String::new();
        for (at, event) in example() {
            for news in fold.apply(at, event) {
                text.push_str(&plain.write(&fold, at, &news));
            }
        }
        insta::assert_snapshot!(text, @"
        #1 [internal] load build context
        #1 DONE 0.1s

        note: `RUN` uses the host's network: no bridge

        #2 [build 1/3] FROM docker.io/library/debian:trixie
        #2 sha256:1a2b3c4d5e6f 0B / 3.4MB 0.0s downloading
        #2 sha256:1a2b3c4d5e6f 3.4MB / 3.4MB 0.7s done
        #2 DONE 0.9s

        #3 [build 2/3] WORKDIR /app
        #3 CACHED

        #4 [build 3/3] RUN make all install DESTDIR=/out PREFIX=/usr

        #5 [docs 2/2] RUN mkdocs build

        #4 0.500 cc -c main.c
        #4 0.500 cc -c util.c

        #5 0.600 INFO: building

        #4 0.700 util.c:1: error
        #4 2.000 20%
        #4 ERROR: exit code: 2

        #5 CANCELED
        ");
        insta::assert_snapshot!(failures(&events(example())), @"
        ------
         > [build 3/3] RUN make all install DESTDIR=/out PREFIX=/usr:
        0.500 cc -c main.c
        0.500 cc -c util.c
        0.700 util.c:1: error
        2.000 20%
        ------
        ");
    }
}

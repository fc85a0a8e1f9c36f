//! What does a terminal show of a command's progress?
//!
//! [`draw`] is pure: state, time and size of the screen in, lines out. While the command goes on the lines are drawn over and
//! over in place, so there may be no more of them than the screen has rows: ended steps leave first, oldest first,
//! then logs become shorter.

use std::time::Duration;

use rbuild_core::Outcome;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use super::fold::{Fold, Step, Transfer};
use super::plain::moved;
use crate::human;

/// How many of a running step's last lines are shown.
const LOG_LINES: usize = 6;

/// How the state is looked at.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// What is being done, such as `Building`.
    pub verb: &'a str,
    /// Whether it still goes on.
    pub phase: Phase,
    /// Columns of the screen.
    pub width: usize,
    /// Rows of the screen.
    pub height: usize,
}

/// Whether the command still goes on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Phase {
    /// It does: the lines must fit the screen.
    Running,
    /// It ended well: everything is shown, once.
    Finished,
    /// It ended otherwise.
    Failed,
}

/// What a line is about, for its colour; its words say the same.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Tone {
    /// The summary.
    Header,
    /// A step that goes on.
    Running,
    /// A step that ended well.
    Ended,
    /// A step that failed.
    Failed,
    /// A step that was stopped.
    Cancelled,
    /// Output of a step.
    Log,
}

/// One line, not wider than the screen.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Row {
    /// What it is about.
    pub tone: Tone,
    /// What it says.
    pub text: String,
}

/// The lines for the state at `now`.
pub fn draw(fold: &Fold, now: Duration, view: View<'_>) -> Vec<Row> {
    let steps = fold.steps().iter().filter(|step| !step.repeated);
    let mut blocks: Vec<Block> = steps.map(|step| Block::of(step, now, view)).collect();
    let room = view.height.saturating_sub(2).max(1);
    if view.phase == Phase::Running {
        fit(&mut blocks, room);
    }
    let mut rows = vec![header(fold, now, view)];
    rows.extend(blocks.into_iter().flat_map(|block| block.rows));
    if view.phase == Phase::Running {
        rows.truncate(room + 1);
    }
    rows
}

/// The lines of one step: itself first, then what it moves and writes.
struct Block {
    ended: bool,
    rows: Vec<Row>,
}

impl Block {
    fn of(step: &Step, now: Duration, View { phase, width, .. }: View<'_>) -> Self {
        let (prefix, tone) = match &step.ended {
            None => ("", Tone::Running),
            Some((Outcome::Done, _)) => ("", Tone::Ended),
            Some((Outcome::Cached, _)) => ("CACHED ", Tone::Ended),
            Some((Outcome::Failed(_), _)) => ("ERROR ", Tone::Failed),
            Some((Outcome::Cancelled, _)) => ("CANCELED ", Tone::Cancelled),
        };
        let title = format!(" => {prefix}{}", step.title);
        let mut rows = vec![Row { tone, text: timed(&title, &human::seconds(step.elapsed(now)), width) }];
        if step.title.is_empty() {
            rows.clear();
        }
        if step.title.is_empty() || (step.ended.is_none() && phase == Phase::Running) {
            let wanted = |transfer: &&Transfer| {
                step.title.is_empty() || !matches!(transfer.action, "done" | "exists" | "mounted")
            };
            let moving = step.transfers.iter().filter(wanted);
            rows.extend(moving.map(|transfer| Row {
                tone: Tone::Running,
                text: clip(&format!(" => => {}", moved(transfer, now)), width),
            }));
            let pending = step.pending();
            let room = LOG_LINES - usize::from(pending.is_some());
            let mut log: Vec<&str> = step.recent().rev().take(room).map(|(_, text)| text).collect();
            log.reverse();
            let log = log.into_iter().chain(pending.as_deref());
            rows.extend(
                log.map(|line| Row { tone: Tone::Log, text: clip(&format!(" => => # {}", tame(line)), width) }),
            );
        }
        Self { ended: step.ended.is_some(), rows }
    }
}

/// Drops what matters least until at most `height` lines are left.
fn fit(blocks: &mut Vec<Block>, height: usize) {
    let mut lines: usize = blocks.iter().map(|block| block.rows.len()).sum();
    blocks.retain(|block| {
        let keep = !block.ended || lines <= height;
        lines -= if keep { 0 } else { block.rows.len() };
        keep
    });
    // The longest block gives first, so that every running step keeps a line or two for as long as possible.
    let mut longest = blocks.iter().map(|block| block.rows.len()).max().unwrap_or(0);
    while lines > height && longest > 1 {
        for block in blocks.iter_mut().filter(|block| block.rows.len() == longest) {
            if lines > height {
                block.rows.remove(1);
                lines -= 1;
            }
        }
        longest -= 1;
    }
}

fn header(fold: &Fold, now: Duration, View { verb, phase, width, .. }: View<'_>) -> Row {
    let (ended, all) = fold.progress();
    let state = match phase {
        Phase::Running => "",
        Phase::Finished => " FINISHED",
        Phase::Failed => " FAILED",
    };
    let count = if all > 0 { format!(" ({ended}/{all})") } else { String::new() };
    let text = clip(&format!("[+] {verb} {}{count}{state}", human::seconds(now)), width);
    Row { tone: Tone::Header, text }
}

/// `title` at the left edge, `time` at the right one.
fn timed(title: &str, time: &str, width: usize) -> String {
    let room = width.saturating_sub(time.len() + 2);
    let title = clip(&tame(title), room);
    let gap = width.saturating_sub(title.width() + time.len() + 1);
    format!("{title}{:gap$}{time}", "")
}

/// As many characters as `width` columns can show.
fn clip(text: &str, width: usize) -> String {
    let mut used = 0;
    text.chars()
        .take_while(|char| {
            used += char.width().unwrap_or(0);
            used <= width
        })
        .collect()
}

/// The line without what would move the cursor or change the terminal.
fn tame(line: &str) -> String {
    let plain = anstream::adapter::strip_str(line).to_string();
    plain.chars().map(|char| if char == '\t' { ' ' } else { char }).filter(|char| !char.is_control()).collect()
}

#[cfg(test)]
mod tests {
    use super::super::tests::{events, example};
    use super::*;

    fn picture(fold: &Fold, now: Duration, phase: Phase, height: usize) -> String {
        let view = View { verb: "Building", phase, width: 60, height };
        let rows = draw(fold, now, view);
        assert!(rows.iter().all(|row| row.text.width() <= 60), "{rows:#?}");
        rows.into_iter().map(|row| row.text + "\n").collect()
    }

    #[test]
    fn running_build() {
        let mut fold = Fold::default();
        for (at, event) in example().into_iter().take_while(|(at, _)| *at <= Duration::from_millis(1700)) {
            fold.apply(at, event);
        }
        let now = Duration::from_millis(1950);
        insta::assert_snapshot!(picture(&fold, now, Phase::Running, 24), @"
        [+] Building 1.9s (3/6)
         => [internal] load build context                      0.1s
         => [build 1/3] FROM docker.io/library/debian:trixie   0.9s
         => CACHED [build 2/3] WORKDIR /app                    0.0s
         => [build 3/3] RUN make all install DESTDIR=/out PREF 0.9s
         => => # cc -c main.c
         => => # cc -c util.c
         => => # util.c:1: error
         => => # 20%
         => [docs 2/2] RUN mkdocs build                        0.9s
         => => # INFO: building
        ");
        insta::assert_snapshot!(picture(&fold, now, Phase::Running, 6), @"
        [+] Building 1.9s (3/6)
         => [build 3/3] RUN make all install DESTDIR=/out PREF 0.9s
         => => # 20%
         => [docs 2/2] RUN mkdocs build                        0.9s
         => => # INFO: building
        ");
        insta::assert_snapshot!(picture(&fold, now, Phase::Running, 0), @"
        [+] Building 1.9s (3/6)
         => [build 3/3] RUN make all install DESTDIR=/out PREF 0.9s
        ");
    }

    #[test]
    fn failed_build() {
        let fold = events(example());
        insta::assert_snapshot!(picture(&fold, Duration::from_millis(3200), Phase::Failed, 5), @"
        [+] Building 3.2s (5/6) FAILED
         => [internal] load build context                      0.1s
         => [build 1/3] FROM docker.io/library/debian:trixie   0.9s
         => CACHED [build 2/3] WORKDIR /app                    0.0s
         => ERROR [build 3/3] RUN make all install DESTDIR=/ou 2.0s
         => CANCELED [docs 2/2] RUN mkdocs build               2.1s
        ");
    }

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        assert_eq!(tame("\u{1b}[2J\u{1b}[1;31mred\u{1b}[0m\tx\u{7}\u{9b}31m"), "red x31m");
        assert_eq!(clip("日本語", 5), "日本");
    }
}

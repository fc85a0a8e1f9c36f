//! What is the state of a command, after these events?
//!
//! A pure fold: [`Fold::apply`] takes an event and the time, changes the state and says what is new. Plain output
//! prints what is new; a terminal draws the state.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use rbuild_core::{Event, Outcome, Resources, StepId, Stream};

use super::lines::Lines;

/// How many of a step's last lines are kept to be shown again if it fails.
const KEPT: usize = 20;

/// The state.
#[derive(Debug, Default)]
pub struct Fold {
    planned: usize,
    steps: Vec<Step>,
    index: HashMap<StepId, usize>,
}

/// One step that was started.
#[derive(Debug)]
pub struct Step {
    /// What a person calls it; empty for transfers that belong to no step.
    pub title: String,
    /// When it was started.
    pub started: Duration,
    /// How it ended and how long it executed.
    pub ended: Option<(Outcome, Duration)>,
    /// What it moves or moved, in the order it began.
    pub transfers: Vec<Transfer>,
    /// What its processes took, if it ran any and they have ended.
    pub resources: Option<Resources>,
    /// Whether it was begun again after it had ended, as it is when a layer turns out to be lost: what counts is the
    /// later one.
    pub repeated: bool,
    recent: VecDeque<(Duration, String)>,
    stdout: Lines,
    stderr: Lines,
}

/// One thing that is moved.
#[derive(Debug)]
pub struct Transfer {
    /// What.
    pub item: String,
    /// Bytes so far.
    pub current: u64,
    /// All bytes, if known.
    pub total: Option<u64>,
    /// What is being done with it.
    pub action: &'static str,
    /// When it was first mentioned.
    pub started: Duration,
    /// When it was last reported as [`News::Transfer`].
    reported: Duration,
}

/// What an event changed. Steps are named by their place in [`Fold::steps`].
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum News {
    /// The number of steps is known, or known better.
    Planned,
    /// A step began.
    Started(usize),
    /// A step wrote a line, this long after its start.
    Line {
        /// The step.
        step: usize,
        /// Where it wrote it.
        stream: Stream,
        /// Time since the step's start.
        after: Duration,
        /// The line, without its end.
        text: String,
    },
    /// A transfer, by its place in [`Step::transfers`], is being treated otherwise than before, or went on for some time.
    Transfer(usize, usize),
    /// A step ended.
    Finished(usize),
    /// Something the user should know.
    Notice(String),
}

/// How long a transfer goes on before it is news again.
const TRANSFER_PERIOD: Duration = Duration::from_secs(5);

impl Fold {
    /// Takes in what happened at `now`, counted from the command's start.
    pub fn apply(&mut self, now: Duration, event: Event) -> Vec<News> {
        match event {
            Event::Planned { steps } => {
                self.planned = steps as usize;
                vec![News::Planned]
            }
            Event::StepStarted { step, title } => vec![News::Started(self.start(now, step, title))],
            Event::StepFinished { step, outcome, elapsed } => self.finish(now, step, outcome, elapsed),
            Event::Log { step, stream, data } => self.log(now, step, stream, &data),
            Event::Transfer { step, item, current, total, action } => {
                let mut index = self.place(now, step);
                // What is pushed or exported after a build counts its own steps.
                if self.steps[index].ended.is_some() {
                    index = self.start(now, step, String::new());
                }
                let Some(transfer) = self.steps[index].transfer(now, item, current, total, action) else {
                    return Vec::new();
                };
                vec![News::Transfer(index, transfer)]
            }
            Event::Resources { step, resources } => {
                let index = self.place(now, step);
                self.steps[index].resources = Some(resources);
                Vec::new()
            }
            Event::Notice { message } => vec![News::Notice(message)],
        }
    }

    /// Every step that was started, in that order.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// How many steps ended, and how many there are in all as far as is known. Transfers outside of any step do not
    /// count.
    pub fn progress(&self) -> (usize, usize) {
        let current = || self.steps.iter().filter(|step| !step.repeated);
        let ended = current().filter(|step| step.ended.is_some()).count();
        let started = current().filter(|step| !step.title.is_empty()).count();
        (ended, self.planned.max(started))
    }

    fn start(&mut self, now: Duration, step: StepId, title: String) -> usize {
        if let Some(index) = self.index.get(&step).copied()
            && self.steps[index].title.is_empty()
        {
            self.steps[index].title = title;
            return index;
        }
        if !title.is_empty() {
            self.index.get(&step).into_iter().for_each(|earlier| self.steps[*earlier].repeated = true);
        }
        let index = self.steps.len();
        self.index.insert(step, index);
        self.steps.push(Step {
            title,
            started: now,
            ended: None,
            transfers: Vec::new(),
            resources: None,
            repeated: false,
            recent: VecDeque::new(),
            stdout: Lines::default(),
            stderr: Lines::default(),
        });
        index
    }

    /// Where the step is; one that was never started is started without a title, so that nothing it says is lost.
    fn place(&mut self, now: Duration, step: StepId) -> usize {
        match self.index.get(&step) {
            Some(index) => *index,
            None => self.start(now, step, String::new()),
        }
    }

    fn log(&mut self, now: Duration, step: StepId, stream: Stream, data: &[u8]) -> Vec<News> {
        let index = self.place(now, step);
        let step = &mut self.steps[index];
        let after = now.saturating_sub(step.started);
        let mut news = Vec::new();
        let (lines, recent) = match stream {
            Stream::Stdout => (&mut step.stdout, &mut step.recent),
            Stream::Stderr => (&mut step.stderr, &mut step.recent),
        };
        lines.feed(data, |text| {
            remember(recent, after, &text);
            news.push(News::Line { step: index, stream, after, text });
        });
        news
    }

    fn finish(&mut self, now: Duration, step: StepId, outcome: Outcome, elapsed: Duration) -> Vec<News> {
        let index = self.place(now, step);
        let step = &mut self.steps[index];
        let after = now.saturating_sub(step.started);
        let rest = [(Stream::Stdout, step.stdout.finish()), (Stream::Stderr, step.stderr.finish())];
        let mut news = Vec::new();
        for (stream, text) in rest.into_iter().filter_map(|(stream, text)| Some((stream, text?))) {
            remember(&mut step.recent, after, &text);
            news.push(News::Line { step: index, stream, after, text });
        }
        step.ended = Some((outcome, elapsed));
        news.push(News::Finished(index));
        news
    }
}

impl Step {
    /// The last lines it wrote, with the time since its start; the latest last.
    pub fn recent(&self) -> impl DoubleEndedIterator<Item = (Duration, &str)> {
        self.recent.iter().map(|(after, text)| (*after, text.as_str()))
    }

    /// What it has written without ending the line.
    pub fn pending(&self) -> Option<String> {
        self.stderr.pending().or_else(|| self.stdout.pending())
    }

    /// How long it has executed by now.
    pub fn elapsed(&self, now: Duration) -> Duration {
        self.ended.as_ref().map_or_else(|| now.saturating_sub(self.started), |(_, elapsed)| *elapsed)
    }

    /// The place of the transfer if it is news.
    fn transfer(
        &mut self,
        now: Duration,
        item: String,
        current: u64,
        total: Option<u64>,
        action: &'static str,
    ) -> Option<usize> {
        if let Some(place) = self.transfers.iter().position(|transfer| transfer.item == item) {
            let transfer = &mut self.transfers[place];
            let news = transfer.action != action || now.saturating_sub(transfer.reported) >= TRANSFER_PERIOD;
            if news {
                transfer.reported = now;
            }
            *transfer = Transfer { current, total, action, item, ..*transfer };
            return news.then_some(place);
        }
        self.transfers.push(Transfer { item, current, total, action, started: now, reported: now });
        Some(self.transfers.len() - 1)
    }
}

fn remember(recent: &mut VecDeque<(Duration, String)>, after: Duration, text: &str) {
    if recent.len() == KEPT {
        recent.pop_front();
    }
    recent.push_back((after, text.to_owned()));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn millis(number: u64) -> Duration {
        Duration::from_millis(number)
    }

    #[test]
    fn failed_step_keeps_its_last_lines() {
        let mut fold = Fold::default();
        let step = StepId(7);
        fold.apply(millis(0), Event::Planned { steps: 3 });
        fold.apply(millis(10), Event::StepStarted { step, title: "[2/3] RUN make".to_owned() });
        for number in 0..30 {
            let data = format!("line {number}\n").into_bytes();
            fold.apply(millis(20), Event::Log { step, stream: Stream::Stdout, data });
        }
        fold.apply(millis(30), Event::Log { step, stream: Stream::Stderr, data: b"no line feed".to_vec() });
        assert_eq!(fold.steps()[0].pending().as_deref(), Some("no line feed"));
        let outcome = Outcome::Failed("exit code: 2".to_owned());
        let news = fold.apply(millis(40), Event::StepFinished { step, outcome, elapsed: millis(25) });
        assert_eq!(news.len(), 2, "{news:?}");
        let recent: Vec<_> = fold.steps()[0].recent().collect();
        assert_eq!(recent.len(), KEPT);
        assert_eq!(recent.first(), Some(&(millis(10), "line 11")));
        assert_eq!(recent.last(), Some(&(millis(30), "no line feed")));
        assert_eq!(fold.progress(), (1, 3));
        assert_eq!(fold.steps()[0].elapsed(millis(99)), millis(25));
    }

    #[test]
    fn steps_that_are_begun_again_count_once() {
        let mut fold = Fold::default();
        let outcomes = [Outcome::Cached, Outcome::Failed("gone".to_owned())];
        let again = [Outcome::Cached, Outcome::Done, Outcome::Done];
        let mut seen = Vec::new();
        for attempt in [&outcomes[..], &again[..]] {
            fold.apply(millis(0), Event::Planned { steps: 3 });
            for (number, outcome) in (0..).zip(attempt) {
                let (step, title) = (StepId(number), format!("[{}/3] RUN x", number + 1));
                fold.apply(millis(1), Event::StepStarted { step, title });
                fold.apply(millis(2), Event::StepFinished { step, outcome: outcome.clone(), elapsed: millis(1) });
                seen.push(fold.progress());
            }
        }
        assert_eq!(seen, [(1, 3), (2, 3), (2, 3), (2, 3), (3, 3)]);
        let repeated: Vec<_> = fold.steps().iter().map(|step| step.repeated).collect();
        assert_eq!(repeated, [true, true, false, false, false]);
    }

    #[test]
    fn transfer_is_news_when_its_action_changes_or_time_passes() {
        let mut fold = Fold::default();
        let mut at = |seconds, current, action| {
            let event = Event::Transfer { step: StepId(1), item: "blob".to_owned(), current, total: Some(9), action };
            fold.apply(Duration::from_secs(seconds), event).iter().any(|news| matches!(news, News::Transfer(..)))
        };
        assert!(at(0, 0, "downloading"));
        assert!(!at(1, 1, "downloading"));
        assert!(at(5, 2, "downloading"));
        assert!(!at(6, 3, "downloading"));
        assert!(at(6, 9, "done"));
    }

    #[test]
    fn transfer_after_the_end_of_its_step_is_not_the_steps() {
        let mut fold = Fold::default();
        let step = StepId(0);
        fold.apply(millis(0), Event::StepStarted { step, title: "[1/1] FROM scratch".to_owned() });
        fold.apply(millis(1), Event::StepFinished { step, outcome: Outcome::Done, elapsed: millis(1) });
        for current in 0..3 {
            let item = "blob".to_owned();
            fold.apply(millis(2), Event::Transfer { step, item, current, total: None, action: "pushing" });
        }
        assert!(fold.steps()[0].transfers.is_empty());
        assert_eq!(fold.steps()[1].transfers.len(), 1);
        assert_eq!(fold.progress(), (1, 1));
    }
}

//! How does a command's progress read for a program?
//!
//! One JSON object per line and event, with `event` saying which and `at` the seconds since the command began. Steps
//! carry the number that plain output gives them. Logs come as whole lines: pieces of bytes would be of no use to JSON.

use std::time::Duration;

use rbuild_core::{Outcome, Resources, Stream};
use serde::Serialize;

use super::fold::{Fold, News};

#[derive(Serialize)]
struct Line<'a> {
    at: f64,
    #[serde(flatten)]
    what: What<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "snake_case", tag = "event")]
enum What<'a> {
    Planned {
        steps: usize,
    },
    StepStarted {
        step: usize,
        title: &'a str,
    },
    StepFinished {
        step: usize,
        outcome: &'a str,
        reason: Option<&'a str>,
        seconds: f64,
        #[serde(flatten, skip_serializing_if = "Option::is_none")]
        resources: Option<Took>,
    },
    Log {
        step: usize,
        stream: Stream,
        line: &'a str,
    },
    Transfer {
        step: usize,
        item: &'a str,
        current: u64,
        total: Option<u64>,
        action: &'a str,
    },
    Notice {
        message: &'a str,
    },
}

/// What the step's processes took.
#[derive(Serialize)]
struct Took {
    user_seconds: f64,
    system_seconds: f64,
    peak_memory: u64,
    read_bytes: u64,
    written_bytes: u64,
}

/// Resources as an object whose fields stand among those of a step, here and elsewhere.
pub fn took(resources: Resources) -> serde_json::Value {
    serde_json::to_value(Took::from(resources)).expect("numbers are JSON")
}

impl From<Resources> for Took {
    fn from(resources: Resources) -> Self {
        Self {
            user_seconds: resources.user.as_secs_f64(),
            system_seconds: resources.system.as_secs_f64(),
            peak_memory: resources.peak_memory,
            read_bytes: resources.read,
            written_bytes: resources.written,
        }
    }
}

/// The line for one piece of news.
pub fn line(fold: &Fold, now: Duration, news: &News) -> String {
    let what = match news {
        News::Planned => What::Planned { steps: fold.progress().1 },
        News::Started(step) => What::StepStarted { step: step + 1, title: &fold.steps()[*step].title },
        News::Line { step, stream, text, .. } => What::Log { step: step + 1, stream: *stream, line: text },
        News::Transfer(step, transfer) => {
            let transfer = &fold.steps()[*step].transfers[*transfer];
            What::Transfer {
                step: step + 1,
                item: &transfer.item,
                current: transfer.current,
                total: transfer.total,
                action: transfer.action,
            }
        }
        News::Finished(step) => {
            let (outcome, reason, elapsed) = match &fold.steps()[*step].ended {
                Some((Outcome::Done, elapsed)) => ("done", None, *elapsed),
                Some((Outcome::Cached, elapsed)) => ("cached", None, *elapsed),
                Some((Outcome::Failed(reason), elapsed)) => ("failed", Some(reason.as_str()), *elapsed),
                Some((Outcome::Cancelled, elapsed)) => ("cancelled", None, *elapsed),
                None => return String::new(),
            };
            let resources = fold.steps()[*step].resources.map(Took::from);
            What::StepFinished { step: step + 1, outcome, reason, seconds: elapsed.as_secs_f64(), resources }
        }
        News::Notice(message) => What::Notice { message },
    };
    let mut line = serde_json::to_string(&Line { at: now.as_secs_f64(), what }).expect("strings and numbers are JSON");
    line.push('\n');
    line
}

#[cfg(test)]
mod tests {
    use super::super::tests::example;
    use super::*;

    #[test]
    fn failed_build() {
        let mut fold = Fold::default();
        let mut text = String::new();
        for (at, event) in example() {
            for news in fold.apply(at, event) {
                text.push_str(&line(&fold, at, &news));
            }
        }
        insta::assert_snapshot!(text, @r#"
        {"at":0.0,"event":"planned","steps":6}
        {"at":0.0,"event":"step_started","step":1,"title":"[internal] load build context"}
        {"at":0.1,"event":"step_finished","step":1,"outcome":"done","reason":null,"seconds":0.1}
        {"at":0.1,"event":"notice","message":"`RUN` uses the host's network: no bridge"}
        {"at":0.1,"event":"step_started","step":2,"title":"[build 1/3] FROM docker.io/library/debian:trixie"}
        {"at":0.2,"event":"transfer","step":2,"item":"sha256:1a2b3c4d5e6f","current":0,"total":3400000,"action":"downloading"}
        {"at":0.9,"event":"transfer","step":2,"item":"sha256:1a2b3c4d5e6f","current":3400000,"total":3400000,"action":"done"}
        {"at":1.0,"event":"step_finished","step":2,"outcome":"done","reason":null,"seconds":0.9}
        {"at":1.0,"event":"step_started","step":3,"title":"[build 2/3] WORKDIR /app"}
        {"at":1.0,"event":"step_finished","step":3,"outcome":"cached","reason":null,"seconds":0.0}
        {"at":1.0,"event":"step_started","step":4,"title":"[build 3/3] RUN make all install DESTDIR=/out PREFIX=/usr"}
        {"at":1.0,"event":"step_started","step":5,"title":"[docs 2/2] RUN mkdocs build"}
        {"at":1.5,"event":"log","step":4,"stream":"stdout","line":"cc -c main.c"}
        {"at":1.5,"event":"log","step":4,"stream":"stdout","line":"cc -c util.c"}
        {"at":1.6,"event":"log","step":5,"stream":"stdout","line":"INFO: building"}
        {"at":1.7,"event":"log","step":4,"stream":"stdout","line":"util.c:1: error"}
        {"at":3.0,"event":"log","step":4,"stream":"stdout","line":"20%"}
        {"at":3.0,"event":"step_finished","step":4,"outcome":"failed","reason":"exit code: 2","seconds":2.0,"user_seconds":1.5,"system_seconds":0.25,"peak_memory":2097152,"read_bytes":512,"written_bytes":1024}
        {"at":3.1,"event":"step_finished","step":5,"outcome":"cancelled","reason":null,"seconds":2.1}
        "#);
    }
}

//! How are sizes and times written for people?
//!
//! As Docker writes them: decimal units with three significant digits, and ages in the one unit that matters.

use std::time::Duration;

use jiff::Timestamp;

/// `1.05MB`: decimal units, as many digits as matter.
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 7] = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    // 999.5 would be written as 1000 of the smaller unit.
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    let digits = match value {
        _ if unit == 0 => 0,
        value if value < 9.995 => 2,
        value if value < 99.95 => 1,
        _ => 0,
    };
    let number = format!("{value:.digits$}");
    let number = if digits > 0 { number.trim_end_matches('0').trim_end_matches('.') } else { &number };
    format!("{number}{}", UNITS[unit])
}

/// `1.2s`: what a step took.
pub fn seconds(elapsed: Duration) -> String {
    format!("{:.1}s", elapsed.as_secs_f64())
}

/// `5 minutes`: a span of time in its largest unit that gives a number of more than one, as `docker ps` shows it.
pub fn age(elapsed: Duration) -> String {
    const MINUTE: u64 = 60;
    const HOUR: u64 = 60 * MINUTE;
    const DAY: u64 = 24 * HOUR;
    let seconds = elapsed.as_secs();
    let hours = (seconds + HOUR / 2) / HOUR;
    match seconds {
        0 => "Less than a second".to_owned(),
        1 => "1 second".to_owned(),
        2..MINUTE => format!("{seconds} seconds"),
        _ if seconds < 2 * MINUTE => "About a minute".to_owned(),
        _ if seconds < HOUR => format!("{} minutes", seconds / MINUTE),
        _ if hours <= 1 => "About an hour".to_owned(),
        _ if hours < 48 => format!("{hours} hours"),
        _ if seconds < 14 * DAY => format!("{} days", seconds / DAY),
        _ if seconds < 60 * DAY => format!("{} weeks", seconds / DAY / 7),
        _ if seconds < 730 * DAY => format!("{} months", seconds / DAY / 30),
        _ => format!("{} years", seconds / DAY / 365),
    }
}

/// The text, or its beginning and an ellipsis if it has more than `longest` characters.
pub fn shorten(text: &str, longest: usize) -> String {
    match text.char_indices().nth(longest) {
        Some(_) => text.chars().take(longest - 1).chain(['…']).collect(),
        None => text.to_owned(),
    }
}

/// The time that ages are counted from: one for a whole list.
#[derive(Clone, Copy, Debug)]
pub struct Clock(Timestamp);

impl Clock {
    /// The present.
    pub fn now() -> Self {
        Self(Timestamp::now())
    }

    /// A fixed time.
    #[cfg(test)]
    pub fn at(time: &str) -> Self {
        Self(time.parse().unwrap())
    }

    /// `5 minutes ago`, of an RFC 3339 time; `N/A` if there is none.
    pub fn ago(self, time: Option<&str>) -> String {
        match time.and_then(|time| self.elapsed(time)) {
            Some(elapsed) => format!("{} ago", age(elapsed)),
            None => "N/A".to_owned(),
        }
    }

    /// `5 minutes`, of an RFC 3339 time.
    pub fn since(self, time: &str) -> String {
        self.elapsed(time).map(age).unwrap_or_default()
    }

    fn elapsed(self, time: &str) -> Option<Duration> {
        let time: Timestamp = time.parse().ok()?;
        // A clock that was set back makes no negative ages.
        Some(self.0.duration_since(time).try_into().unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_dockers() {
        for (bytes, expected) in [
            (0, "0B"),
            (999, "999B"),
            (1000, "1kB"),
            (1023, "1.02kB"),
            (12_345, "12.3kB"),
            (999_499, "999kB"),
            (999_500, "1MB"),
            (1_050_000, "1.05MB"),
            (4_260_000, "4.26MB"),
            (117_000_000, "117MB"),
            (1_234_000_000, "1.23GB"),
            (u64::MAX, "18.4EB"),
        ] {
            assert_eq!(size(bytes), expected, "{bytes}");
        }
    }

    #[test]
    fn ages_are_dockers() {
        for (seconds, expected) in [
            (0, "Less than a second"),
            (1, "1 second"),
            (59, "59 seconds"),
            (60, "About a minute"),
            (119, "About a minute"),
            (120, "2 minutes"),
            (3599, "59 minutes"),
            (3600, "About an hour"),
            (5400, "2 hours"),
            (2 * 86_400, "2 days"),
            (14 * 86_400, "2 weeks"),
            (60 * 86_400, "2 months"),
            (800 * 86_400, "2 years"),
        ] {
            assert_eq!(age(Duration::from_secs(seconds)), expected, "{seconds}");
        }
    }

    #[test]
    fn ages_end_at_the_clock() {
        let clock = Clock::at("2026-11-22T10:00:00Z");
        assert_eq!(clock.ago(Some("2026-11-22T09:57:00.5+00:00")), "2 minutes ago");
        assert_eq!(clock.ago(Some("2026-11-22T10:57:00Z")), "Less than a second ago");
        assert_eq!(clock.ago(Some("1970-01-01T00:00:00Z")), "56 years ago");
        assert_eq!(clock.ago(Some("yesterday")), "N/A");
        assert_eq!(clock.ago(None), "N/A");
        assert_eq!(shorten("abcdé", 5), "abcdé");
        assert_eq!(shorten("abcdéf", 5), "abcd…");
    }
}

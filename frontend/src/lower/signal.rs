//! Is this a signal?

use crate::suggest;

/// Signal names without `SIG`, as Linux has them.
const NAMES: [&str; 36] = [
    "ABRT", "ALRM", "BUS", "CHLD", "CLD", "CONT", "FPE", "HUP", "ILL", "INT", "IO", "IOT", "KILL", "PIPE", "POLL",
    "PROF", "PWR", "QUIT", "SEGV", "STKFLT", "STOP", "SYS", "TERM", "TRAP", "TSTP", "TTIN", "TTOU", "URG", "USR1",
    "USR2", "VTALRM", "WINCH", "XCPU", "XFSZ", "RTMIN", "RTMAX",
];

/// Whether `STOPSIGNAL` may name it: a positive number, or a name in any case, with or without `SIG`.
pub(super) fn is_signal(text: &str) -> bool {
    if let Ok(number) = text.parse::<i32>() {
        return number > 0;
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let offset = |prefix, most| {
        let digits: Option<&str> = name.strip_prefix(prefix);
        digits.and_then(|digits| digits.parse::<u32>().ok()).is_some_and(|offset| (1..=most).contains(&offset))
    };
    NAMES.contains(&name) || offset("RTMIN+", 15) || offset("RTMAX-", 14)
}

/// The signal that may have been meant, with `SIG` if it was written so.
pub(super) fn nearest(text: &str) -> Option<String> {
    let upper = text.to_ascii_uppercase();
    let (prefix, name) = upper.strip_prefix("SIG").map_or(("", upper.as_str()), |name| ("SIG", name));
    suggest::nearest(name, NAMES).map(|near| format!("{prefix}{near}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_have_names_and_numbers() {
        for text in ["SIGTERM", "term", "sigusr1", "9", "35", "SIGRTMIN", "RTMIN+3", "SIGRTMAX-14"] {
            assert!(is_signal(text), "{text}");
        }
        for text in
            ["", "0", "-1", "SIGFOO", "RTMIN+", "RTMIN+0", "RTMIN+16", "RTMAX-15", "SIG", "SIGSIGTERM", "1x", "SIGEMT"]
        {
            assert!(!is_signal(text), "{text}");
        }
    }
}

//! What does progress call a vertex?

/// Numbers the steps of one stage: `[build 2/5] RUN make`.
#[derive(Clone, Debug, Default)]
pub(super) struct Titles {
    stage: String,
    total: usize,
    done: usize,
}

impl Titles {
    /// `stage` is empty if there is only one.
    pub(super) fn new(stage: String, total: usize) -> Self {
        Self { stage, total, done: 0 }
    }

    /// The title of the next step.
    pub(super) fn next(&mut self, text: &str, trigger: bool) -> String {
        self.done += 1;
        let width = self.total.to_string().len();
        let separator = if self.stage.is_empty() { "" } else { " " };
        let onbuild = if trigger { "ONBUILD " } else { "" };
        format!("[{}{separator}{:>width$}/{}] {onbuild}{text}", self.stage, self.done, self.total)
    }
}

/// The first line of a here-document, for titles.
pub(super) fn summary(body: &str) -> String {
    let mut lines = body.trim().lines();
    let first = lines.next().unwrap_or_default();
    if lines.next().is_some() { format!("{first}...") } else { first.to_owned() }
}

/// The instruction with its keyword in upper case.
pub(super) fn upper_keyword(text: &str) -> String {
    let end = text.find(char::is_whitespace).unwrap_or(text.len());
    format!("{}{}", text[..end].to_uppercase(), &text[end..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_numbered_per_stage() {
        let mut titles = Titles::new("build".to_owned(), 10);
        assert_eq!(titles.next("FROM a", false), "[build  1/10] FROM a");
        assert_eq!(titles.next("RUN x", true), "[build  2/10] ONBUILD RUN x");
        assert_eq!(Titles::new(String::new(), 3).next("RUN x", false), "[1/3] RUN x");
        assert_eq!(summary("\n echo a\n echo b\n"), "echo a...");
        assert_eq!(upper_keyword("run\techo"), "RUN\techo");
    }
}

//! Where does expanded text go?

/// Where expanded text goes.
pub(super) trait Output {
    /// Text that spaces may split.
    fn loose(&mut self, text: &str);
    /// Text that stays together.
    fn fixed(&mut self, text: &str);
    /// Bytes so far.
    fn size(&self) -> usize;
}

/// Everything in one piece.
pub(super) struct Whole(pub(super) String);

impl Whole {
    pub(super) fn new() -> Self {
        Self(String::new())
    }
}

impl Output for Whole {
    fn loose(&mut self, text: &str) {
        self.0.push_str(text);
    }

    fn fixed(&mut self, text: &str) {
        self.0.push_str(text);
    }

    fn size(&self) -> usize {
        self.0.len()
    }
}

/// Cut at loose spaces; empty words vanish, quoted or not.
#[derive(Default)]
pub(super) struct Split {
    words: Vec<String>,
    current: String,
    size: usize,
}

impl Split {
    pub(super) fn finish(mut self) -> Vec<String> {
        self.cut();
        self.words
    }

    fn cut(&mut self) {
        if !self.current.is_empty() {
            self.words.push(std::mem::take(&mut self.current));
        }
    }
}

impl Output for Split {
    fn loose(&mut self, text: &str) {
        for (at, part) in text.split(char::is_whitespace).enumerate() {
            if at > 0 {
                self.cut();
            }
            self.fixed(part);
        }
    }

    fn fixed(&mut self, text: &str) {
        self.size += text.len();
        self.current.push_str(text);
    }

    fn size(&self) -> usize {
        self.size
    }
}

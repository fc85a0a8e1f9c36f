//! What do `SHELL`, `EXPOSE` and `VOLUME` list?

use super::{Arguments, Walker, arguments};
use crate::ast::Word;
use crate::diagnostic::Diagnostic;
use crate::fix;
use crate::rule::Rule;

impl Walker<'_> {
    pub(super) fn shell(&mut self, arguments: Arguments) -> Option<Vec<Word>> {
        match arguments {
            Arguments::Array(words) if !words.is_empty() => Some(words),
            Arguments::Line(line) => {
                let plain = !line.text.contains(['[', '"', '\'', '\\']);
                let mut words: Vec<_> = line.text.split_whitespace().filter(|_| plain).take(8).collect();
                // A shell reads its command line as an option's value.
                if words.len() == 1 {
                    words.push("-c");
                } else if words.is_empty() {
                    words = vec!["/bin/sh", "-c"];
                }
                self.fail(
                    Diagnostic::error(line.span, "`SHELL` requires its arguments as a JSON array")
                        .hint(format!("write `SHELL [\"{}\"]`", words.join("\", \"")))
                        .fix_if(fix::mend_array(&line)),
                )
            }
            Arguments::Broken => None,
            _ => self.missing("`SHELL` requires at least one argument".to_owned(), "SHELL"),
        }
    }

    pub(super) fn expose(&mut self, arguments: Arguments) -> Option<Vec<Word>> {
        let Arguments::Words(words) = arguments else {
            return self.missing("`EXPOSE` requires at least one argument".to_owned(), "EXPOSE");
        };
        let comment = words.iter().position(|word| word.text.starts_with('#'));
        let mut sound = true;
        for word in &words[..comment.unwrap_or(words.len())] {
            // What has variables, quotes or escapes in it is checked when it is expanded.
            if !word.text.contains(['$', '\'', '"', self.escape])
                && let Err(error) = crate::port::parse(&word.text)
            {
                let odd = word.text.contains(|letter: char| letter.is_whitespace());
                let odd = odd.then(|| {
                    format!("ports are separated by plain blanks; here stands {}", arguments::odd_space(&word.text))
                });
                let found = Diagnostic::error(word.span, error.to_string()).hint_if(error.hint()).hint_if(odd);
                self.sink.push(found.fix_if(fix::mend_spaces(word)));
                sound = false;
            }
        }
        if let Some(at) = comment {
            let span = words[at].span.to(words[words.len() - 1].span);
            return self.fail(
                Diagnostic::error(span, "invalid port in `EXPOSE`: a comment cannot follow on the same line")
                    .about(Rule::TrailingComment)
                    .hint(arguments::COMMENT),
            );
        }
        sound.then_some(words)
    }

    pub(super) fn volume(&mut self, arguments: Arguments) -> Option<Vec<Word>> {
        let mut words = match arguments {
            Arguments::Array(words) => words,
            Arguments::Words(words) => {
                arguments::word_list(&words, "VOLUME", self.sink);
                words
            }
            Arguments::Broken => return None,
            _ => Vec::new(),
        };
        if words.is_empty() {
            return self.missing("`VOLUME` requires at least one argument".to_owned(), "VOLUME");
        }
        let mut sound = true;
        for word in &mut words {
            word.text = word.text.trim().to_owned();
            if word.text.is_empty() {
                self.sink.push(
                    Diagnostic::error(word.span, "a `VOLUME` cannot be an empty text")
                        .hint("write a path: `VOLUME [\"/data\"]`"),
                );
                sound = false;
            }
        }
        sound.then_some(words)
    }
}

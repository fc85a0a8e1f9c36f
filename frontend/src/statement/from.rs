//! What does a `FROM` say?

use super::{Arguments, Flags, Walker, arguments, describe};
use crate::ast::{From, Header, StageName, Word};
use crate::diagnostic::Diagnostic;
use crate::fix;
use crate::rule::Rule;

impl Walker<'_> {
    pub(super) fn from(&mut self, header: &Header, flags: &mut Flags, arguments: Arguments) -> Option<From> {
        let platform = flags.word("platform", self.sink);
        let sound = flags.finish(self.sink);
        let words = match arguments {
            Arguments::Words(words) => words,
            _ => Vec::new(),
        };
        let comment = words.iter().find(|word| word.text.starts_with('#')).map(|word| word.span);
        let comment = comment.zip(words.last()).map(|(comment, last)| comment.to(last.span));
        let mut words = words.into_iter();
        let (Some(image), keyword, name, more) = (words.next(), words.next(), words.next(), words.next()) else {
            return self.fail(
                Diagnostic::error(self.span, "`FROM` requires an image")
                    .hint("write `FROM image`; `FROM scratch` starts from nothing"),
            );
        };
        let odd = image.text.contains(|letter: char| letter.is_whitespace());
        if odd {
            let hint = format!("only plain blanks separate words; here stands {}", arguments::odd_space(&image.text));
            let error = Diagnostic::error(image.span, "`FROM` names an image with a space in it").hint(hint);
            return self.fail(error.fix_if(fix::mend_spaces(&image)));
        }
        let name = match (keyword, name, more) {
            (None, ..) => None,
            (Some(keyword), Some(name), None) if keyword.text.eq_ignore_ascii_case("as") => {
                Some(self.stage_name(header, keyword, name)?)
            }
            (Some(second), third, fourth) => {
                let hint = if let Some(comment) = comment {
                    let message = "`FROM` requires either one or three arguments";
                    let error = Diagnostic::error(comment, message).about(Rule::TrailingComment);
                    return self.fail(error.hint(arguments::COMMENT));
                } else if second.text.eq_ignore_ascii_case("as") {
                    format!("one name follows `{}`: `FROM {} {} name`", second.text, image.text, second.text)
                } else {
                    format!("to name the stage, write `FROM {} AS {}`", image.text, second.text)
                };
                let message = "`FROM` requires either one or three arguments";
                let span = second.span.to(fourth.or(third).unwrap_or_else(|| second.clone()).span);
                return self.fail(Diagnostic::error(span, message).hint(hint));
            }
        };
        sound.then_some(From { platform, image, name })
    }

    fn stage_name(&mut self, header: &Header, keyword: Word, word: Word) -> Option<StageName> {
        let name = word.text.to_lowercase();
        let first = name.starts_with(|letter: char| letter.is_ascii_lowercase());
        let rest = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || "-_.".contains(letter);
        if !first || !name.chars().all(rest) {
            let variable = if name.contains('$') { "; variables are not replaced here" } else { "" };
            let form = "a name begins with a letter and goes on with letters, digits, `-`, `_` and `.`";
            return self.fail(
                Diagnostic::error(word.span, format!("invalid name for build stage: `{}`", word.text))
                    .hint(format!("{form}{variable}")),
            );
        }
        let description = describe(&header.comments, &name);
        Some(StageName { name, word, keyword, description })
    }
}

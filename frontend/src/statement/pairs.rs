//! Which names and values do `ARG`, `ENV` and `LABEL` have?

use super::{Arguments, Walker, arguments, describe, shorten};
use crate::ast::{Arg, Declaration, Header, Pair, PairForm, Pairs, Word};
use crate::diagnostic::Diagnostic;
use crate::fix;
use crate::rule::Rule;
use rbuild_core::Span;

impl Walker<'_> {
    pub(super) fn arg(&mut self, arguments: Arguments, header: &Header) -> Option<Arg> {
        let Arguments::Tokens(tokens) = arguments else {
            return self.missing("`ARG` requires at least one argument".to_owned(), "ARG");
        };
        let mut sound = true;
        let mut declarations = Vec::with_capacity(tokens.len());
        // `A= b` declares two.
        if let Some((span, hint)) = blanks_around_equals(&tokens, "ARG")
            && tokens.iter().any(|token| token.span == span && token.text.starts_with('='))
        {
            return self.fail(Diagnostic::error(span, "names in `ARG` cannot be blank").hint(hint));
        }
        let last = tokens.last().map_or(self.span, |last| last.span);
        for token in tokens {
            let (name, default) = match arguments::split(&token) {
                Some((name, value)) => (name, Some(value)),
                None => (token.clone(), None),
            };
            if name.text.is_empty() {
                self.sink.push(blank_name(&token, "ARG"));
                sound = false;
            } else if name.text.starts_with('#') {
                let error = Diagnostic::error(token.span.to(last), "`#` begins no name in `ARG`");
                return self.fail(error.about(Rule::TrailingComment).hint(arguments::COMMENT));
            }
            let description = describe(&header.comments, &name.text);
            declarations.push(Declaration { name, default, description, span: token.span });
        }
        sound.then_some(Arg { declarations })
    }

    pub(super) fn pairs(&mut self, arguments: Arguments, name: &str) -> Option<Pairs> {
        match arguments {
            Arguments::Legacy(key, value) => {
                arguments::trailing_comment(&value, name, self.sink);
                Some(Pairs { form: PairForm::Legacy, pairs: vec![Pair { name: key, value }] })
            }
            Arguments::Lonely(word) => {
                let odd = word.text.contains(|letter: char| letter.is_whitespace());
                let hint = if odd {
                    format!(
                        "only plain blanks separate name and value; here stands {}",
                        arguments::odd_space(&word.text)
                    )
                } else {
                    format!("write `{name} {}=…`", shorten(&word.text))
                };
                self.fail(
                    Diagnostic::error(word.span, format!("`{name}` must have two arguments: a name and a value"))
                        .hint(hint)
                        .fix_if(fix::mend_first_space(&word)),
                )
            }
            Arguments::Tokens(tokens) => {
                let pairs = self.equations(tokens, name)?;
                Some(Pairs { form: PairForm::Equals, pairs })
            }
            Arguments::Broken => None,
            _ => self.missing(format!("`{name}` requires at least one argument"), name),
        }
    }

    fn equations(&mut self, tokens: Vec<Word>, name: &str) -> Option<Vec<Pair>> {
        let mut sound = true;
        let mut pairs = Vec::with_capacity(tokens.len());
        let mut lacking = false;
        let blanks = blanks_around_equals(&tokens, name);
        let last = tokens.last().map_or(self.span, |last| last.span);
        for token in tokens {
            match arguments::split(&token) {
                _ if token.text.starts_with('#') => {
                    let error = Diagnostic::error(token.span.to(last), format!("`#` begins no name in `{name}`"));
                    return self.fail(error.about(Rule::TrailingComment).hint(arguments::COMMENT));
                }
                Some((key, value)) if !key.text.is_empty() => pairs.push(Pair { name: key, value }),
                Some(_) => {
                    let hint = blanks.as_ref().filter(|(span, _)| *span == token.span).map(|(_, hint)| hint.clone());
                    lacking = hint.is_some();
                    self.sink.push(blank_name(&token, name).hint_if(hint));
                    sound = false;
                    continue;
                }
                None => {
                    // One mistake, however many words the value has.
                    let again = std::mem::replace(&mut lacking, true);
                    if !again {
                        let message = format!("`{}` has no `=`: `{name}` expects name=value", shorten(&token.text));
                        let hint = "put quotes around a value with blanks".to_owned();
                        let hint = blanks.as_ref().map_or(hint, |(_, hint)| hint.clone());
                        self.sink.push(Diagnostic::error(token.span, message).hint(hint));
                    }
                    sound = false;
                    continue;
                }
            }
            lacking = false;
        }
        sound.then_some(pairs)
    }
}

/// Of `name = value`, `name =value` and `name= value`: the token with the `=`, and how it is written.
fn blanks_around_equals(tokens: &[Word], instruction: &str) -> Option<(Span, String)> {
    let at = tokens.iter().position(|token| token.text.starts_with('=') || token.text.ends_with('='))?;
    let (token, text) = (&tokens[at], tokens[at].text.as_str());
    let before = at.checked_sub(1).map(|before| tokens[before].text.as_str()).filter(|before| !before.contains('='));
    let after = tokens.get(at + 1).map(|after| after.text.as_str()).filter(|after| !after.contains('='));
    let (name, value) = match (text.strip_prefix('='), text.strip_suffix('=')) {
        (Some(""), _) => (before.unwrap_or("NAME"), after.unwrap_or("value")),
        (Some(value), _) => (before?, value),
        (None, Some(name)) => (name, after?),
        (None, None) => return None,
    };
    let written = format!("{}={}", shorten(name), shorten(value));
    Some((token.span, format!("write `{instruction} {written}`, without blanks around the `=`")))
}

fn blank_name(token: &Word, instruction: &str) -> Diagnostic {
    Diagnostic::error(token.span, format!("names in `{instruction}` cannot be blank"))
        .hint(format!("write `{instruction} NAME{}`", shorten(&token.text)))
}

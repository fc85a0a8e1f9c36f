//! What does one instruction say?
//!
//! The grammar's `logical` rule tells keyword, flags and arguments apart; the modules here check what is there against
//! what the instruction takes, and collect every mistake instead of stopping at the first.

use std::borrow::Cow;

use rbuild_core::Span;

use crate::ast::{Command, Header, Heredoc, Instruction, Keyword, Kind, Word};
use crate::diagnostic::{Diagnostic, Edit, Fix};
use crate::elsewhere;
use crate::findings::Findings;
use crate::fix;
use crate::grammar::{Grammar, Pair, Parser as _, Rule as Syntax};
use crate::lines::{Joined, Lines, Map};
use crate::rule::Rule;
use crate::source::Source;
use crate::suggest::nearest;

mod arguments;
mod continued;
mod copy;
mod flags;
mod from;
mod healthcheck;
mod heredoc;
mod lists;
mod onbuild;
mod pairs;
mod run;
mod spaces;
mod syntax;

use arguments::Arguments;
pub(crate) use arguments::COMMENT;
use flags::Flags;
use heredoc::Opener;

/// Every keyword of the language.
pub(crate) const KEYWORDS: [&str; 18] = [
    "ADD",
    "ARG",
    "CMD",
    "COPY",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "FROM",
    "HEALTHCHECK",
    "LABEL",
    "MAINTAINER",
    "ONBUILD",
    "RUN",
    "SHELL",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
];

/// The known keyword a text begins with.
pub(crate) fn keyword(text: &str) -> Option<&'static str> {
    let first = text.split([' ', '\t', '\u{b}', '\u{c}', '\r']).next().unwrap_or("");
    KEYWORDS.into_iter().find(|known| known.eq_ignore_ascii_case(first))
}

/// An instruction that was understood.
#[derive(Debug)]
pub(crate) enum Statement {
    From(Header, crate::ast::From),
    Other(Instruction),
}

/// Reads an instruction and takes the bodies of its here-documents from the lines below.
pub(crate) fn read(joined: Joined, lines: &mut Lines<'_>, source: &Source, sink: &mut Findings) -> Option<Statement> {
    let Joined { text, map, span, comments, empty } = joined;
    let prefix = lines.escape().len_utf8();
    if let Some(line) = empty.first() {
        sink.push(
            Diagnostic::warning(Rule::NoEmptyContinuation, *line, "empty line inside a continued instruction")
                .and(span, "of this instruction")
                .hint("remove the line, or put a `#` on it")
                .fix_if(Some(without_lines(&empty, source.text()))),
        );
    }
    continued::check(&text[prefix..], &map, sink);
    let place = Place { map: &map, base: 0, prefix };
    let pair = logical(&text, span, sink)?;
    let Some(pair) = pair else {
        sink.push(
            Diagnostic::error(span, "an escape character stands alone, no instruction follows")
                .hint("remove the line: nothing follows that it could continue"),
        );
        return None;
    };
    let mut walker = Walker { place, escape: lines.escape(), span, heredocs: Vec::new(), sink };
    let mut end = span.end;
    if let Some(opened) = walker.openers(&pair, &text[prefix..]) {
        let start = lines.position();
        match walker.bodies(opened, lines, source) {
            Ok(last) => end = end.max(last),
            // Of a misspelt instruction it is not known whether it has here-documents at all.
            Err(_) if pair.as_rule() == Syntax::unknown => lines.seek(start),
            Err(error) => return walker.fail(error),
        }
    }
    let header = Header {
        span: Span::new(span.start, end),
        text: text[prefix..].to_owned(),
        keyword: walker.keyword(&pair),
        comments,
    };
    let (place, mark) = (header.span, walker.sink.mark());
    let statement = walker.statement(pair, header);
    for found in sink.since(mark).iter_mut().filter(|found| found.rule == Some(Rule::TrailingComment)) {
        found.fix = fix::mend_comment(source, place, found.span()).map(Box::new);
    }
    statement
}

/// The instruction that stands alone in a text, if that is one without mistakes.
pub(crate) fn alone(text: &str, escape: char) -> Option<Instruction> {
    let source = Source::new("", text);
    let mut found = Findings::default();
    let mut lines = Lines::new(text, 0, escape);
    let statement = read(lines.next()?, &mut lines, &source, &mut found)?;
    match statement {
        Statement::Other(instruction) if found.errors() == 0 && lines.next().is_none() => Some(instruction),
        _ => None,
    }
}

/// Takes whole lines out, each with its line end.
fn without_lines(lines: &[Span], text: &str) -> Fix {
    let whole = |line: &Span| {
        let end = text.get(line.range().end..).and_then(|rest| rest.find('\n'));
        Span::new(line.start, end.map_or(text.len() as u32, |end| line.end + end as u32 + 1))
    };
    // Lines that follow each other go together, so that edits do not touch.
    let mut spans: Vec<Span> = Vec::new();
    for span in lines.iter().map(whole) {
        match spans.last_mut() {
            Some(last) if last.end == span.start => last.end = span.end,
            _ => spans.push(span),
        }
    }
    Fix { edits: spans.into_iter().map(|span| Edit { span, text: String::new() }).collect() }
}

/// The instruction in a joined text, `Some(None)` for an empty one.
fn logical<'text>(text: &'text str, span: Span, sink: &mut Findings) -> Option<Option<Pair<'text>>> {
    // The rule accepts every text; only the parser's own stack limit makes it fail.
    let Some(logical) = Grammar::parse(Syntax::logical, text).ok().and_then(|mut pairs| pairs.next()) else {
        sink.push(Diagnostic::error(span, "this instruction is nested too deeply to be read"));
        return None;
    };
    Some(logical.into_inner().next().filter(|pair| pair.as_rule() != Syntax::EOI))
}

/// From the text the grammar saw to the source.
#[derive(Clone, Copy)]
struct Place<'a> {
    map: &'a Map,
    /// Where the text begins in the joined line.
    base: usize,
    /// Bytes of the escape character in front of it.
    prefix: usize,
}

impl Place<'_> {
    fn span(self, pair: &Pair<'_>) -> Span {
        let span = pair.as_span();
        self.map.span(self.base + span.start() - self.prefix, self.base + span.end() - self.prefix)
    }

    fn word(self, pair: &Pair<'_>) -> Word {
        Word { text: pair.as_str().to_owned(), span: self.span(pair) }
    }
}

struct Walker<'a> {
    place: Place<'a>,
    escape: char,
    /// The whole instruction.
    span: Span,
    /// In the order of their openers.
    heredocs: Vec<Heredoc>,
    sink: &'a mut Findings,
}

impl Walker<'_> {
    fn keyword(&self, pair: &Pair<'_>) -> Keyword {
        let Some(keyword) = pair.clone().into_inner().next() else {
            return Keyword { text: Cow::Borrowed(""), span: self.span };
        };
        let known = KEYWORDS.into_iter().find(|known| *known == keyword.as_str());
        let text = known.map_or_else(|| Cow::Owned(keyword.as_str().to_owned()), Cow::Borrowed);
        Keyword { text, span: self.place.span(&keyword) }
    }

    /// Notes a mistake; the instruction is lost.
    fn fail<T>(&mut self, diagnostic: Diagnostic) -> Option<T> {
        self.sink.push(diagnostic);
        None
    }

    /// The here-documents the instruction opens, if it is one that may.
    fn openers(&self, pair: &Pair<'_>, text: &str) -> Option<Vec<Opener>> {
        (text.contains("<<") && self.takes_heredocs(pair)).then(|| heredoc::openers(text, self.place)).flatten()
    }

    fn takes_heredocs(&self, pair: &Pair<'_>) -> bool {
        let mut inner = pair.clone().into_inner();
        match pair.as_rule() {
            Syntax::run | Syntax::copy | Syntax::add => !inner.any(|inner| inner.as_rule() == Syntax::array),
            Syntax::onbuild => inner.find(|inner| inner.as_rule() == Syntax::line).is_some_and(|line| {
                let text = format!("{}{}", self.escape, line.as_str());
                let trigger = logical(&text, self.span, &mut Findings::default()).flatten();
                trigger.is_some_and(|trigger| trigger.as_rule() != Syntax::onbuild && self.takes_heredocs(&trigger))
            }),
            // So that a misspelt RUN does not make an instruction of every line below it.
            Syntax::unknown => inner.next().is_some_and(|keyword| {
                nearest(keyword.as_str(), KEYWORDS).is_some_and(|near| matches!(near, "RUN" | "COPY" | "ADD"))
            }),
            _ => false,
        }
    }

    /// Takes the bodies from the lines below; where the last one ends.
    fn bodies(&mut self, openers: Vec<Opener>, lines: &mut Lines<'_>, source: &Source) -> Result<u32, Diagnostic> {
        let mut end = 0;
        self.heredocs.reserve_exact(openers.len());
        for opener in openers {
            let found = match lines.body(&opener.name, opener.strip_tabs) {
                Ok(found) => found,
                Err(unterminated) => {
                    if let Some(near) = unterminated.near {
                        lines.resume_after(near);
                    }
                    return Err(opener.unterminated(unterminated.near));
                }
            };
            end = found.terminator.end;
            self.heredocs.push(opener.with_body(found, source));
        }
        Ok(end)
    }

    fn statement(&mut self, pair: Pair<'_>, header: Header) -> Option<Statement> {
        let rule = pair.as_rule();
        if rule == Syntax::from {
            let (mut flags, arguments) = self.parts(pair, "FROM");
            let from = self.from(&header, &mut flags, arguments)?;
            return syntax::check_from(&from, self.escape, self.sink).then_some(Statement::From(header, from));
        }
        self.checked(pair, &header).map(|kind| Statement::Other(Instruction { header, kind }))
    }

    /// An instruction whose words will expand, as far as their form tells.
    fn checked(&mut self, pair: Pair<'_>, header: &Header) -> Option<Kind> {
        let kind = self.kind(pair, header)?;
        syntax::check(&kind, self.escape, self.sink).then_some(kind)
    }

    /// Flags and arguments of an instruction.
    fn parts(&mut self, pair: Pair<'_>, instruction: &'static str) -> (Flags, Arguments) {
        let mut inner = pair.into_inner().skip(1).peekable();
        let mut flags = Flags::new(instruction);
        while let Some(flag) = inner.next_if(|pair| matches!(pair.as_rule(), Syntax::flag | Syntax::dashes)) {
            if flag.as_rule() == Syntax::flag {
                flags.add(flag, self.place, self.sink);
            }
        }
        (flags, arguments::read(inner, self.place, self.sink))
    }

    fn kind(&mut self, pair: Pair<'_>, header: &Header) -> Option<Kind> {
        let name = match pair.as_rule() {
            Syntax::add => "ADD",
            Syntax::arg => "ARG",
            Syntax::cmd => "CMD",
            Syntax::copy => "COPY",
            Syntax::entrypoint => "ENTRYPOINT",
            Syntax::env => "ENV",
            Syntax::expose => "EXPOSE",
            Syntax::healthcheck => "HEALTHCHECK",
            Syntax::label => "LABEL",
            Syntax::maintainer => "MAINTAINER",
            Syntax::onbuild => "ONBUILD",
            Syntax::run => "RUN",
            Syntax::shell => "SHELL",
            Syntax::stopsignal => "STOPSIGNAL",
            Syntax::user => "USER",
            Syntax::volume => "VOLUME",
            Syntax::workdir => "WORKDIR",
            _ => return self.unknown(header),
        };
        let trigger = pair.clone().into_inner().find(|inner| inner.as_rule() == Syntax::line);
        let (mut flags, arguments) = self.parts(pair, name);
        let kind = match name {
            "RUN" => return self.run(&mut flags, arguments).map(Box::new).map(Kind::Run),
            "COPY" => return self.copy(&mut flags, arguments).map(Box::new).map(Kind::Copy),
            "ADD" => return self.add(&mut flags, arguments).map(Box::new).map(Kind::Add),
            "HEALTHCHECK" => return self.healthcheck(&mut flags, arguments).map(Kind::Healthcheck),
            "ARG" => self.arg(arguments, header).map(Kind::Arg),
            "CMD" => self.command(arguments, name).map(Kind::Cmd),
            "ENTRYPOINT" => self.command(arguments, name).map(Kind::Entrypoint),
            "ENV" => self.pairs(arguments, name).map(Kind::Env),
            "EXPOSE" => self.expose(arguments).map(Kind::Expose),
            "LABEL" => self.pairs(arguments, name).map(Kind::Label),
            "MAINTAINER" => self.one(arguments, name).map(Kind::Maintainer),
            "ONBUILD" => self.onbuild(trigger).map(Kind::Onbuild),
            "SHELL" => self.shell(arguments).map(Kind::Shell),
            "STOPSIGNAL" => self.one(arguments, name).map(Kind::Stopsignal),
            "USER" => self.one(arguments, name).map(Kind::User),
            "VOLUME" => self.volume(arguments).map(Kind::Volume),
            _ => self.one(arguments, name).map(Kind::Workdir),
        };
        flags.finish(self.sink).then_some(kind).flatten()
    }

    fn unknown(&mut self, header: &Header) -> Option<Kind> {
        let keyword = &header.keyword;
        let known = |word: &str| KEYWORDS.iter().find(|known| known.eq_ignore_ascii_case(word));
        let first = keyword.text.split(char::is_whitespace).next().unwrap_or("");
        let mut error = Diagnostic::error(keyword.span, format!("unknown instruction: `{}`", shorten(&keyword.text)));
        if first != keyword.text
            && let Some(known) = known(first)
        {
            error = error.hint(format!(
                "only a plain blank or a tab ends `{known}`; here stands {}",
                arguments::odd_space(&keyword.text)
            ));
            let word = Word { text: keyword.text.as_ref().into(), span: keyword.span };
            error = error.fix_if(fix::mend_first_space(&word));
        } else if let Some(hint) = elsewhere::instruction(&keyword.text) {
            error = error.hint(hint);
        } else if let Some(near) = nearest(&keyword.text, KEYWORDS) {
            error = error.hint(format!("did you mean `{near}`?"));
        } else if keyword.text.starts_with("//") || keyword.text.starts_with("/*") {
            error = error.hint("comments begin with `#`");
        }
        self.fail(error)
    }

    fn command(&mut self, arguments: Arguments, name: &str) -> Option<Command> {
        match arguments {
            Arguments::Array(words) => Some(Command::Exec(words)),
            Arguments::Line(line) => {
                arguments::looks_like_json(&line, name, self.sink);
                spaces::in_command(&line, name, self.sink);
                Some(Command::Shell(line))
            }
            Arguments::Broken => None,
            _ => Some(Command::Shell(Word { text: String::new(), span: self.after() })),
        }
    }

    /// The empty place behind the instruction's first line.
    fn after(&self) -> Span {
        Span::new(self.span.end, self.span.end)
    }

    /// Fails for want of arguments, with an example of some.
    fn missing<T>(&mut self, message: String, name: &str) -> Option<T> {
        let example = match name {
            "ARG" => "ARG NAME=default",
            "ENV" | "LABEL" => "NAME=value",
            "EXPOSE" => "EXPOSE 80",
            "MAINTAINER" => "MAINTAINER name",
            "ONBUILD" => "ONBUILD RUN command",
            "RUN" => "RUN command",
            "SHELL" => "SHELL [\"/bin/sh\", \"-c\"]",
            "STOPSIGNAL" => "STOPSIGNAL SIGTERM",
            "USER" => "USER name",
            "VOLUME" => "VOLUME /data",
            _ => "WORKDIR /path",
        };
        let lead = if example.starts_with("NAME") { format!("{name} ") } else { String::new() };
        self.fail(Diagnostic::error(self.span, message).hint(format!("write `{lead}{example}`")))
    }

    /// The rest of the line, which must be there.
    fn one(&mut self, arguments: Arguments, name: &str) -> Option<Word> {
        match arguments {
            Arguments::Line(line) => {
                if name != "MAINTAINER" {
                    arguments::trailing_comment(&line, name, self.sink);
                    spaces::in_value(&line, name, self.sink);
                }
                Some(line)
            }
            Arguments::Broken => None,
            _ => self.missing(format!("`{name}` requires exactly one argument"), name),
        }
    }
}

/// The rest of a comment that begins with a name.
fn describe(comments: &[Word], name: &str) -> Option<String> {
    comments.iter().find_map(|comment| comment.text.strip_prefix(name)?.strip_prefix(' ').map(str::to_owned))
}

/// The beginning of what may be very long.
pub(crate) fn shorten(text: &str) -> String {
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

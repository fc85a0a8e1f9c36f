//! What can a Dockerfile say?
//!
//! The checked syntax tree: every flag has its type, every node its place in the source, every text is as written, that
//! is with variables and quotes still in it ([`Word`]); [`expand`](crate::expand) resolves them when values are known.
//! Nothing here refers to a base image, a build argument or a file.
//!
//! ```text
//! Dockerfile ── directives
//!            ── global_args: Instruction (Kind::Arg)…
//!            ── stages: Stage ── header, from
//!                             ── instructions: Instruction ── span, text, keyword, comments
//!                                                          ── kind: Kind::{Add, Arg, Cmd, Copy, …}
//! ```

use std::borrow::Cow;
use std::time::Duration;

use rbuild_core::Span;

use crate::diagnostic::Diagnostic;
use crate::rule::CheckOptions;

/// A value with its place.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Spanned<T> {
    /// What stands there.
    pub value: T,
    /// Where it stands.
    pub span: Span,
}

/// Text before expansion, quotes and escapes included, continuation lines joined.
///
/// If the span is as long as the text, the text is that very piece of the source, so offsets in it can be added to
/// `span.start`; else a continuation or a JSON escape lies within.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Word {
    /// The text.
    pub text: String,
    /// Where it stands.
    pub span: Span,
}

impl Word {
    /// The place of `start..end` of the text, or of the whole word where the two do not correspond byte by byte.
    pub fn part(&self, start: usize, end: usize) -> Span {
        if self.span.range().len() == self.text.len() {
            Span::new(self.span.start + start as u32, self.span.start + end as u32)
        } else {
            self.span
        }
    }
}

/// A whole file.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Dockerfile {
    /// What the comments at the top ask of the parser.
    pub directives: Directives,
    /// `ARG` instructions before the first `FROM`; each `kind` is [`Kind::Arg`].
    pub global_args: Vec<Instruction>,
    /// At least one.
    pub stages: Vec<Stage>,
    /// What was noticed while parsing; [`check`](crate::check()) repeats it.
    pub warnings: Vec<Diagnostic>,
}

/// The parser directives at the top of a file.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Directives {
    /// The character that escapes and continues lines: a backslash or a backtick.
    pub escape: char,
    /// The frontend image of `# syntax=`; one that rbuild itself stands in for.
    pub syntax: Option<Word>,
    /// The wishes of `# check=`.
    pub check: CheckOptions,
    /// Where `# check=` stands.
    pub check_span: Option<Span>,
}

/// A build stage: a `FROM` and all up to the next one.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Stage {
    /// Place, text and comments of the `FROM` instruction.
    pub header: Header,
    /// What the stage starts from and is called.
    pub from: From,
    /// Neither `FROM` nor global arguments occur here.
    pub instructions: Vec<Instruction>,
}

/// `FROM [--platform=…] image [AS name]`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct From {
    /// `--platform`; expands with global arguments.
    pub platform: Option<Word>,
    /// An image or an earlier stage; expands with global arguments.
    pub image: Word,
    /// The name of the stage, checked.
    pub name: Option<StageName>,
}

/// The name after `AS`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct StageName {
    /// In lower case, as look-ups want it.
    pub name: String,
    /// As written.
    pub word: Word,
    /// The `AS` as written.
    pub keyword: Word,
    /// From a comment `# name description` above the `FROM`.
    pub description: Option<String>,
}

/// What every instruction has.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Header {
    /// From the keyword to the end of the last line, here-documents included.
    pub span: Span,
    /// The instruction as one line: continuations joined, comments between them gone, trimmed; without here-document
    /// bodies. History entries are made of it.
    pub text: String,
    /// The keyword as written.
    pub keyword: Keyword,
    /// The comments directly above, without `#` and blanks around.
    pub comments: Vec<Word>,
}

/// The first word of an instruction. In most files all of them are written in upper case, and take no memory.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Keyword {
    /// The text.
    pub text: Cow<'static, str>,
    /// Where it stands.
    pub span: Span,
}

/// One instruction other than `FROM`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Instruction {
    /// Place, text and comments.
    pub header: Header,
    /// What it says.
    pub kind: Kind,
}

/// The instructions of the language, `FROM` aside.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Kind {
    /// `ADD`
    Add(Box<Add>),
    /// `ARG`
    Arg(Arg),
    /// `CMD`
    Cmd(Command),
    /// `COPY`
    Copy(Box<Copy>),
    /// `ENTRYPOINT`
    Entrypoint(Command),
    /// `ENV`
    Env(Pairs),
    /// `EXPOSE`; each word may expand to several ports.
    Expose(Vec<Word>),
    /// `HEALTHCHECK`
    Healthcheck(Healthcheck),
    /// `LABEL`
    Label(Pairs),
    /// `MAINTAINER`; never expanded.
    Maintainer(Word),
    /// `ONBUILD`
    Onbuild(Onbuild),
    /// `RUN`
    Run(Box<Run>),
    /// `SHELL`; at least one string.
    Shell(Vec<Word>),
    /// `STOPSIGNAL`
    Stopsignal(Word),
    /// `USER`
    User(Word),
    /// `VOLUME`; no empty words.
    Volume(Vec<Word>),
    /// `WORKDIR`
    Workdir(Word),
}

/// A command to run, now or later.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Command {
    /// For the stage's shell; never expanded by the builder. Empty for a bare `CMD`.
    Shell(Word),
    /// A JSON array: program and arguments, decoded.
    Exec(Vec<Word>),
}

/// `RUN`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Run {
    /// `--mount`, each still to be read with [`mount::parse`](crate::mount::parse).
    pub mounts: Vec<Word>,
    /// `--network`
    pub network: Option<Spanned<Network>>,
    /// `--security`
    pub security: Option<Spanned<Security>>,
    /// `--device`
    pub devices: Vec<Device>,
    /// The command; its text still has the here-document openers.
    pub command: Command,
    /// Bodies in the order of their openers; none for the exec form.
    pub heredocs: Vec<Heredoc>,
}

/// The network a `RUN` sees.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Network {
    /// An own one with access to the outside.
    Default,
    /// Loopback only.
    None,
    /// The host's.
    Host,
}

/// How much a `RUN` may do.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Security {
    /// What containers usually may.
    Sandbox,
    /// Nearly all that root on the host may.
    Insecure,
}

/// `--device=name[,required]`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Device {
    /// A CDI name such as `nvidia.com/gpu=all`.
    pub name: String,
    /// Whether its absence is an error.
    pub required: bool,
    /// The value of the flag.
    pub span: Span,
}

/// A here-document.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Heredoc {
    /// The delimiter without quotes.
    pub name: String,
    /// The digits before `<<`.
    pub descriptor: Option<u32>,
    /// Whether `COPY` and `ADD` expand variables in the body: no part of the delimiter was quoted.
    pub expand: bool,
    /// `<<-`: leading tabs are to be taken off, see [`Heredoc::content`].
    pub strip_tabs: bool,
    /// The lines between opener and terminator, as they stand in the file, line ends included.
    pub body: String,
    /// The same as bytes, if they are no UTF-8.
    pub raw: Option<Vec<u8>>,
    /// The opener, such as `<<EOF`.
    pub span: Span,
    /// The body.
    pub body_span: Span,
    /// The line that ends the body.
    pub terminator_span: Span,
}

impl Heredoc {
    /// The body, without leading tabs where `<<-` says so; before expansion.
    pub fn content(&self) -> String {
        if !self.strip_tabs {
            return self.body.clone();
        }
        self.body.split_inclusive('\n').map(|line| line.trim_start_matches('\t')).collect()
    }
}

/// A source of `COPY` or `ADD`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum CopySource {
    /// A path, pattern or (for `ADD`) URL; expands.
    Path(Word),
    /// A file made of a here-document.
    Heredoc(Box<Heredoc>),
}

/// Flags that `COPY` and `ADD` share.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct CopyFlags {
    /// `--chown`; expands.
    pub chown: Option<Word>,
    /// `--chmod`; expands.
    pub chmod: Option<Word>,
    /// `--link`
    pub link: Option<Spanned<bool>>,
    /// `--exclude`; does not expand.
    pub exclude: Vec<Word>,
}

/// `COPY`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Copy {
    /// `--from`: a stage name or number, an image or a named context; has no variables.
    pub from: Option<Word>,
    /// `--parents`
    pub parents: Option<Spanned<bool>>,
    /// Flags as for `ADD`.
    pub flags: CopyFlags,
    /// At least one.
    pub sources: Vec<CopySource>,
    /// Where to; expands.
    pub destination: Word,
}

/// `ADD`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Add {
    /// `--checksum`; expands.
    pub checksum: Option<Word>,
    /// `--keep-git-dir`
    pub keep_git_dir: Option<Spanned<bool>>,
    /// `--unpack`
    pub unpack: Option<Spanned<bool>>,
    /// Flags as for `COPY`.
    pub flags: CopyFlags,
    /// At least one.
    pub sources: Vec<CopySource>,
    /// Where to; expands.
    pub destination: Word,
}

/// `ARG`; at least one declaration, later ones see earlier ones.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Arg {
    /// In the order written.
    pub declarations: Vec<Declaration>,
}

/// One `name[=default]` of an `ARG`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Declaration {
    /// The name; expands.
    pub name: Word,
    /// The default; expands.
    pub default: Option<Word>,
    /// From a comment `# name description` above the `ARG`.
    pub description: Option<String>,
    /// Name and default.
    pub span: Span,
}

/// The pairs of `ENV` or `LABEL`; at least one, all of them see the environment before the line.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Pairs {
    /// How they are written.
    pub form: PairForm,
    /// In the order written.
    pub pairs: Vec<Pair>,
}

/// How pairs are written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PairForm {
    /// `name=value …`
    Equals,
    /// `name rest of the line`, one pair.
    Legacy,
}

/// One name and its value; both expand.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Pair {
    /// Not empty.
    pub name: Word,
    /// May be empty.
    pub value: Word,
}

/// `HEALTHCHECK`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Healthcheck {
    /// Turns an inherited check off.
    None,
    /// Runs a command now and then.
    Command(Box<Probe>),
}

/// The check of a `HEALTHCHECK CMD`; what is absent is left to whoever runs the image.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Probe {
    /// `--interval`
    pub interval: Option<Spanned<Duration>>,
    /// `--timeout`
    pub timeout: Option<Spanned<Duration>>,
    /// `--start-period`
    pub start_period: Option<Spanned<Duration>>,
    /// `--start-interval`
    pub start_interval: Option<Spanned<Duration>>,
    /// `--retries`
    pub retries: Option<Spanned<u32>>,
    /// Not empty.
    pub command: Command,
}

/// `ONBUILD`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Onbuild {
    /// What the image config keeps: one line, and the here-documents after it. [`parse_trigger`](crate::parse_trigger)
    /// reads it again.
    pub trigger: Word,
    /// The same, parsed.
    pub instruction: Box<Instruction>,
}

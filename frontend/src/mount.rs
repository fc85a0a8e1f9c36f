//! What does the value of `RUN --mount=` ask for?
//!
//! Options come in any order and are checked against the type once all are read. Values expand one by one, so a
//! variable cannot add options; `from` never expands, because stages must be known before any value is.

mod foreign;
mod options;
mod values;

use rbuild_core::Span;

use self::options::Options;
use crate::ast::{Device, Word};
use crate::diagnostic::Diagnostic;
use crate::grammar::{Grammar, Pair, Parser as _, Rule};
use crate::suggest::did_you_mean;

/// A checked mount.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum RunMount {
    /// Files of the context, a stage or an image.
    Bind(BindMount),
    /// A directory that outlives the build.
    Cache(CacheMount),
    /// An empty directory in memory.
    Tmpfs(TmpfsMount),
    /// A secret as a file, an environment variable or both.
    Secret(SecretMount),
    /// The socket of an SSH agent.
    Ssh(SshMount),
}

/// `type=bind`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct BindMount {
    /// Joined to the working directory; empty means that directory itself.
    pub target: String,
    /// A path in what `from` names; empty means all of it.
    pub source: String,
    /// A stage, image or named context; the build context if absent.
    pub from: Option<Word>,
    /// Whether the command may write; what it writes is thrown away.
    pub read_only: bool,
}

/// `type=cache`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CacheMount {
    /// Joined to the working directory.
    pub target: String,
    /// Names the cache; the cleaned target as written if absent.
    pub id: Option<String>,
    /// Where a new cache gets its content; nothing if absent.
    pub from: Option<Word>,
    /// A path in what `from` names; empty means all of it.
    pub source: String,
    /// Who else may use the cache meanwhile.
    pub sharing: Sharing,
    /// Whether the command may not write.
    pub read_only: bool,
    /// Mode and owner of a new cache directory.
    pub file: FileOptions,
}

/// Who may use a cache mount at the same time.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Sharing {
    /// Everyone.
    #[default]
    Shared,
    /// Others get a cache of their own.
    Private,
    /// Others wait.
    Locked,
}

/// `type=tmpfs`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TmpfsMount {
    /// Joined to the working directory.
    pub target: String,
    /// Upper bound in bytes; the kernel's default if absent.
    pub size: Option<u64>,
}

/// `type=secret`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SecretMount {
    /// Which secret.
    pub id: String,
    /// Where to put the file; absent if the secret is wanted as a variable only.
    pub target: Option<String>,
    /// The environment variable to set.
    pub env: Option<String>,
    /// Whether a missing secret fails the build.
    pub required: bool,
    /// Mode (0400 if absent) and owner of the file.
    pub file: FileOptions,
}

/// `type=ssh`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SshMount {
    /// Which agent; `default` if not given.
    pub id: String,
    /// Where to put the socket; the builder chooses if absent.
    pub target: Option<String>,
    /// Whether a missing agent fails the build.
    pub required: bool,
    /// Mode (0600 if absent) and owner of the socket.
    pub file: FileOptions,
}

/// Mode and owner of what a mount creates.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct FileOptions {
    /// Permission bits.
    pub mode: Option<u32>,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
}

/// Expands one option value.
pub type Expand<'a> = dyn FnMut(&Word) -> Result<String, Diagnostic> + 'a;

/// Reads a mount; `expand` gets each option's value but that of `from`.
///
/// # Errors
/// Anything `expand` returns, and options that do not exist, have no sense together or have a bad value.
pub fn parse(word: &Word, expand: &mut Expand<'_>) -> Result<RunMount, Diagnostic> {
    let mut options = Options::new(word.span);
    for field in fields(word)? {
        options.set(&field, expand)?;
    }
    options.finish()
}

/// The value of `from`, which never has variables; nothing where the mount is malformed, [`parse`] says how.
pub(crate) fn from(word: &Word) -> Option<Word> {
    // Asked of every mount of a file; most have none, and a look is cheaper than a parse.
    if !word.text.to_ascii_lowercase().contains("from") {
        return None;
    }
    let fields = fields(word).ok()?;
    fields.into_iter().rfind(|field| field.key() == "from").and_then(|field| field.value)
}

/// Finds the mistakes that can be seen before values are known.
pub(crate) fn check(word: &Word, escape: char) -> Result<(), Diagnostic> {
    let mut deferred = false;
    let mut options = Options::new(word.span);
    for field in fields(word)? {
        let special = |text: &str| text.contains(['$', '\'', '"', escape]);
        if field.key() != "from" && field.value.as_ref().is_some_and(|value| special(&value.text)) {
            options.known(&field)?;
            deferred = true;
        } else {
            options.set(&field, &mut |value| Ok(value.text.clone()))?;
        }
    }
    if deferred { Ok(()) } else { options.finish().map(drop) }
}

/// Reads the value of `--device=`: a name, and whether it is required.
pub(crate) fn device(word: &Word) -> Result<Device, Diagnostic> {
    let mut device = Device { name: String::new(), required: false, span: word.span };
    for field in fields(word)? {
        match (field.key().as_str(), &field.value) {
            ("required", None) => device.required = true,
            ("required", Some(value)) => device.required = values::boolean(&field, value)?,
            ("name", Some(value)) if device.name.is_empty() => device.name.clone_from(&value.text),
            ("name", Some(_)) => {
                return Err(Diagnostic::error(field.span, format!("the device is already named `{}`", device.name))
                    .hint("for another device write another `--device`"));
            }
            _ if device.name.is_empty() => device.name.clone_from(&field.text),
            (key, _) => {
                return Err(Diagnostic::error(field.span, format!("unknown option `{key}` of `--device`"))
                    .hint_if(did_you_mean(key, ["name", "required"])));
            }
        }
    }
    if device.name.is_empty() {
        return Err(Diagnostic::error(word.span, "`--device` needs the name of a device")
            .hint("write `--device=vendor.com/class=name`"));
    }
    Ok(device)
}

/// One `key[=value]`.
struct Field {
    name: String,
    value: Option<Word>,
    text: String,
    span: Span,
}

impl Field {
    fn key(&self) -> String {
        self.name.to_lowercase()
    }
}

fn fields(word: &Word) -> Result<Vec<Field>, Diagnostic> {
    let pairs = Grammar::parse(Rule::options, &word.text).map_err(|_| {
        Diagnostic::error(word.span, format!("`{}` is not a comma-separated list of options", word.text))
            .hint("quotes go around a whole option: `\"key=value\"`")
    })?;
    let options = pairs.flatten().filter(|pair| pair.as_rule() == Rule::option);
    Ok(options.map(|option| field(word, option)).collect())
}

fn field(word: &Word, option: Pair<'_>) -> Field {
    let quoted = option.as_str().starts_with('"');
    let place = |pair: &Pair<'_>| word.part(pair.as_span().start(), pair.as_span().end());
    let text = |pair: &Pair<'_>| if quoted { pair.as_str().replace("\"\"", "\"") } else { pair.as_str().to_owned() };
    let span = place(&option);
    let mut parts = option.into_inner();
    let name = parts.next().map_or_else(String::new, |key| text(&key));
    let value = parts.next().map(|value| Word { text: text(&value), span: place(&value) });
    let text = value.as_ref().map_or_else(|| name.clone(), |value| format!("{name}={}", value.text));
    Field { name, value, text, span }
}

/// Rejects `$name`: the value decides which stages are built, before variables have values.
pub(crate) fn without_variables(word: &Word, what: &str) -> Result<Word, Diagnostic> {
    match word.text.find('$') {
        Some(at) if at + 1 < word.text.len() => {
            let message = format!("{what} does not support variables: `{}`", word.text);
            Err(Diagnostic::error(word.span, message)
                .hint(format!("give the image a stage: `FROM {} AS name`, and use `name` here", word.text)))
        }
        _ => Ok(word.clone()),
    }
}

#[cfg(test)]
mod tests;

//! Which options does a `--mount` have, and what do they make together?

use rbuild_core::Span;

use super::{
    BindMount, CacheMount, Expand, Field, FileOptions, RunMount, SecretMount, Sharing, SshMount, TmpfsMount, foreign,
    values, without_variables,
};
use crate::ast::Word;
use crate::diagnostic::Diagnostic;
use crate::suggest::did_you_mean;

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) enum Type {
    #[default]
    Bind,
    Cache,
    Tmpfs,
    Secret,
    Ssh,
}

impl Type {
    const NAMES: [(&str, Self); 5] = [
        ("bind", Self::Bind),
        ("cache", Self::Cache),
        ("tmpfs", Self::Tmpfs),
        ("secret", Self::Secret),
        ("ssh", Self::Ssh),
    ];

    fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(_, kind)| *kind == self).map_or("bind", |(name, _)| name)
    }

    /// Whether an option has a meaning for this type.
    fn accepts(self, option: &str) -> bool {
        match option {
            "from" | "source" => matches!(self, Self::Bind | Self::Cache) || option == "source" && self == Self::Secret,
            "sharing" => self == Self::Cache,
            "size" => self == Self::Tmpfs,
            "env" => self == Self::Secret,
            "required" => matches!(self, Self::Secret | Self::Ssh),
            "id" | "mode" | "uid" | "gid" => matches!(self, Self::Cache | Self::Secret | Self::Ssh),
            "readonly" | "readwrite" => matches!(self, Self::Bind | Self::Cache),
            _ => true,
        }
    }
}

/// What was read so far, in no order.
pub(super) struct Options {
    span: Span,
    seen: Vec<(&'static str, Span)>,
    kind: Type,
    target: Option<String>,
    source: Option<String>,
    from: Option<Word>,
    id: Option<String>,
    env: Option<String>,
    sharing: Sharing,
    size: Option<u64>,
    read_only: Option<bool>,
    required: bool,
    file: FileOptions,
}

/// Every spelling of an option and its name here.
const KEYS: [(&str, &str); 19] = [
    ("type", "type"),
    ("from", "from"),
    ("source", "source"),
    ("src", "source"),
    ("target", "target"),
    ("dst", "target"),
    ("destination", "target"),
    ("readonly", "readonly"),
    ("ro", "readonly"),
    ("readwrite", "readwrite"),
    ("rw", "readwrite"),
    ("required", "required"),
    ("size", "size"),
    ("id", "id"),
    ("sharing", "sharing"),
    ("mode", "mode"),
    ("uid", "uid"),
    ("gid", "gid"),
    ("env", "env"),
];

impl Options {
    pub(super) fn new(span: Span) -> Self {
        Self {
            span,
            seen: Vec::new(),
            kind: Type::default(),
            target: None,
            source: None,
            from: None,
            id: None,
            env: None,
            sharing: Sharing::default(),
            size: None,
            read_only: None,
            required: false,
            file: FileOptions::default(),
        }
    }

    /// The option's name, noted for [`Options::finish`].
    pub(super) fn known(&mut self, field: &Field) -> Result<&'static str, Diagnostic> {
        let key = field.key();
        let Some((_, name)) = KEYS.iter().find(|(spelling, _)| *spelling == key) else {
            if let Some(error) = foreign::refused(field) {
                return Err(error);
            }
            let known = KEYS.iter().map(|(spelling, _)| *spelling);
            return Err(Diagnostic::error(field.span, format!("unknown option `{}` of `--mount`", field.name))
                .hint_if(did_you_mean(&key, known)));
        };
        if field.value.is_none() && !matches!(*name, "readonly" | "readwrite" | "required") {
            let message = format!("option `{}` of `--mount` needs a value", field.name);
            return Err(Diagnostic::error(field.span, message).hint(format!("write `{}=…`", field.name)));
        }
        self.seen.push((name, field.span));
        Ok(name)
    }

    pub(super) fn set(&mut self, field: &Field, expand: &mut Expand<'_>) -> Result<(), Diagnostic> {
        let name = self.known(field)?;
        let Some(raw) = &field.value else {
            match name {
                "required" => self.required = true,
                _ => self.read_only = Some(name == "readonly"),
            }
            return Ok(());
        };
        if name == "from" {
            self.from = Some(without_variables(raw, "`from` of `--mount`")?);
            return Ok(());
        }
        let value = Word { text: expand(raw)?, span: raw.span };
        match name {
            "type" => self.kind = values::choice(field, &value, &Type::NAMES, "mount type")?,
            "target" => self.target = Some(value.text),
            "source" => self.source = Some(value.text),
            "id" => self.id = Some(value.text),
            "env" => self.env = Some(value.text),
            "sharing" => {
                let names = [("shared", Sharing::Shared), ("private", Sharing::Private), ("locked", Sharing::Locked)];
                self.sharing = values::choice(field, &value, &names, "sharing")?;
            }
            "size" => self.size = Some(values::size(field, &value)?),
            "required" => self.required = values::boolean(field, &value)?,
            "readonly" => self.read_only = Some(values::boolean(field, &value)?),
            "readwrite" => self.read_only = Some(!values::boolean(field, &value)?),
            "mode" => self.file.mode = Some(values::mode(field, &value)?),
            "uid" => self.file.uid = Some(values::number(field, &value)?),
            _ => self.file.gid = Some(values::number(field, &value)?),
        }
        Ok(())
    }

    pub(super) fn finish(self) -> Result<RunMount, Diagnostic> {
        for (name, span) in &self.seen {
            if !self.kind.accepts(name) {
                let message = format!("option `{name}` has no meaning for a mount of type `{}`", self.kind.name());
                return Err(Diagnostic::error(*span, message).hint(format!("leave `{name}` out")));
            }
        }
        let target = self.target.filter(|target| !target.is_empty());
        let source = self.source.filter(|source| !source.is_empty());
        if matches!(self.kind, Type::Bind | Type::Cache | Type::Tmpfs) && target.as_deref().is_some_and(is_root) {
            return Err(Diagnostic::error(self.span, "invalid mount target `/`").hint("mount below the root"));
        }
        let default_id = || target.as_deref().and_then(last_component);
        Ok(match self.kind {
            Type::Bind => RunMount::Bind(BindMount {
                target: target.unwrap_or_default(),
                source: source.unwrap_or_default(),
                from: self.from,
                read_only: self.read_only.unwrap_or(true),
            }),
            Type::Cache => RunMount::Cache(CacheMount {
                target: target.unwrap_or_default(),
                id: self.id.filter(|id| !id.is_empty()),
                from: self.from,
                source: source.unwrap_or_default(),
                sharing: self.sharing,
                read_only: self.read_only.unwrap_or(false),
                file: self.file,
            }),
            Type::Tmpfs => RunMount::Tmpfs(TmpfsMount { target: target.unwrap_or_default(), size: self.size }),
            Type::Secret => {
                let given = self.id.filter(|id| !id.is_empty());
                if given.is_some() && source.is_some() {
                    let message = "a secret mount has either `id` or `source`, not both";
                    return Err(Diagnostic::error(self.span, message));
                }
                let Some(id) = given.or(source).or_else(default_id) else {
                    return Err(Diagnostic::error(self.span, "a secret mount needs `id` or `target`")
                        .hint("write `--mount=type=secret,id=NAME`"));
                };
                let file = || last_component(&id).map(|name| format!("/run/secrets/{name}"));
                let target = if self.env.is_some() { target } else { target.or_else(file) };
                // `env=` without a name calls the variable like the secret.
                let env = self.env.map(|env| if env.is_empty() { id.clone() } else { env });
                RunMount::Secret(SecretMount { id, target, env, required: self.required, file: self.file })
            }
            Type::Ssh => RunMount::Ssh(SshMount {
                id: self.id.filter(|id| !id.is_empty()).unwrap_or_else(|| "default".to_owned()),
                target,
                required: self.required,
                file: self.file,
            }),
        })
    }
}

fn is_root(path: &str) -> bool {
    path.starts_with('/') && path.split('/').all(|part| matches!(part, "" | "." | ".."))
}

fn last_component(path: &str) -> Option<String> {
    let name = path.trim_end_matches('/').rsplit('/').next().unwrap_or("");
    (!name.is_empty()).then(|| name.to_owned())
}

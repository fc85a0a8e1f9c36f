//! Where does `--secret` say a secret is?

use std::path::PathBuf;
use std::str::FromStr;

use rbuild_engine::{SecretFrom, SecretSource};

use crate::arguments::csv;

/// One `--secret`. Where it says only an id, the environment decides when the build begins.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Secret {
    id: String,
    kind: Option<Kind>,
    source: Option<String>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Kind {
    File,
    Env,
}

impl Secret {
    /// What the engine is told. Without `src=` and `env=` it is the variable named like the secret if there is one,
    /// else the file named like it.
    pub fn resolve(&self, is_variable: impl Fn(&str) -> bool) -> SecretSource {
        let source = self.source.clone().unwrap_or_else(|| self.id.clone());
        let env = match self.kind {
            Some(kind) => kind == Kind::Env,
            None => self.source.is_none() && is_variable(&self.id),
        };
        let from = if env { SecretFrom::Env(source) } else { SecretFrom::File(PathBuf::from(source)) };
        SecretSource { id: self.id.clone(), from }
    }
}

impl FromStr for Secret {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (mut id, mut kind, mut source) = (None, None, None);
        for (name, value) in csv::pairs(text)? {
            let value = value.ok_or_else(|| format!("`{name}` has no value"))?;
            match name.as_str() {
                "id" => id = Some(value),
                "src" | "source" => source = Some(value),
                "env" => (source, kind) = (Some(value), Some(Kind::Env)),
                "type" => match value.as_str() {
                    "file" => kind = Some(Kind::File),
                    "env" => kind = Some(Kind::Env),
                    _ => return Err(format!("`type` is file or env, not `{value}`")),
                },
                _ => return Err(format!("unknown field `{name}`: expected id, src, env or type")),
            }
        }
        let id = id.filter(|id| !id.is_empty()).ok_or("`id` is missing")?;
        Ok(Self { id, kind, source })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_come_from_files_and_variables() {
        let file = |path: &str| SecretFrom::File(PathBuf::from(path));
        let env = |name: &str| SecretFrom::Env(name.to_owned());
        for (text, expected) in [
            ("id=a,src=f", file("f")),
            ("id=a,source=f,type=file", file("f")),
            ("id=a,env=E", env("E")),
            ("type=env,id=a", env("a")),
            ("type=env,id=a,src=E", env("E")),
            ("id=SET", env("SET")),
            ("id=SET,type=file", file("SET")),
            ("id=UNSET", file("UNSET")),
        ] {
            let secret: Secret = text.parse().unwrap();
            assert_eq!(secret.resolve(|name| name == "SET").from, expected, "{text}");
        }
        for text in ["", "id", "id=", "src=f", "id=a,type=x", "id=a,target=b"] {
            assert!(text.parse::<Secret>().is_err(), "{text}");
        }
    }
}

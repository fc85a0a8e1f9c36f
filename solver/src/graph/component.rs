//! Which named facts make an op the op it is?
//!
//! An op's fingerprint is a hash over an ordered list of named values. The list itself is kept with every record, so
//! that a cache miss can be explained by naming what changed. `docs/cache-keys.md` says which field is in it and why.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

/// Which of a vertex's two keys a component enters.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub enum KeyScope {
    /// The definition key and the content key.
    #[default]
    Both,
    /// Only the definition key: the value selects a part of an input, and that part's content, which is in the
    /// content key, makes the selector's text irrelevant there.
    Definition,
}

/// One named value of an op.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Component {
    /// What a person calls it: `args`, `env VERSION`, `mount /src source`. Not necessarily unique within an op.
    pub name: Cow<'static, str>,
    /// Its value as text; a digest where the value is long or binary.
    pub value: String,
    /// Where it enters.
    #[serde(default)]
    pub scope: KeyScope,
}

impl Component {
    /// A component of both keys.
    pub fn new(name: impl Into<Cow<'static, str>>, value: impl Into<String>) -> Self {
        Self { name: name.into(), value: value.into(), scope: KeyScope::Both }
    }

    /// A component of the definition key only; see [`KeyScope::Definition`].
    pub fn selector(name: impl Into<Cow<'static, str>>, value: impl Into<String>) -> Self {
        Self { name: name.into(), value: value.into(), scope: KeyScope::Definition }
    }
}

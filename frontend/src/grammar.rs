//! What does the grammar file become?
//!
//! `grammar/dockerfile.pest` is the one description of the language; pest turns each of its rules into a variant of
//! [`Rule`]. Everything else in this crate walks the pairs that come out.

pub(crate) use pest::Parser;

pub(crate) type Pair<'text> = pest::iterators::Pair<'text, Rule>;

#[derive(Debug, pest_derive::Parser)]
#[grammar = "../grammar/dockerfile.pest"]
pub(crate) struct Grammar;

//! How do bytes that are no text get into a file?
//!
//! Here-documents are expanded as text, but the files made of them hold what stood in the Dockerfile. On the way each
//! byte that is no UTF-8 is a character at the very end of Unicode, where nothing is assigned; such characters in the
//! text itself travel byte by byte.

use super::Lowering;
use super::state::State;
use crate::Diagnostic;
use crate::ast::Heredoc;
use crate::expand::Expander;

/// Stands for the byte 0x80; the last character of Unicode stands for 0xFF.
const FIRST: u32 = 0x0010_FF80;

impl Lowering<'_> {
    /// The content of a here-document of `COPY` or `ADD`.
    pub(super) fn body(&mut self, state: &State, heredoc: &Heredoc) -> Result<Vec<u8>, Diagnostic> {
        let carried = carried(heredoc);
        let is_carried = carried.is_some();
        let lookup = |name: &str| {
            let value = state.env.value(name)?;
            Some(if is_carried { carry(value.as_bytes()) } else { value.to_owned() })
        };
        let expander = Expander { escape: self.escape, lookup: &lookup };
        let body = self.judged(expander.body(carried.as_ref().unwrap_or(heredoc)))?;
        self.undefined(state, &body.undefined);
        Ok(if is_carried { deliver(&body.value) } else { body.value.into_bytes() })
    }
}

/// The content of a here-document that nothing is replaced in.
pub(super) fn script(heredoc: &Heredoc) -> Vec<u8> {
    match carried(heredoc) {
        Some(carried) => deliver(&carried.content()),
        None => heredoc.content().into_bytes(),
    }
}

fn carried(heredoc: &Heredoc) -> Option<Heredoc> {
    heredoc.raw.as_ref().map(|raw| Heredoc { body: carry(raw), ..heredoc.clone() })
}

fn carry(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    let as_letter = |byte: &u8| char::from_u32(FIRST + u32::from(*byte) - 0x80).unwrap_or(char::REPLACEMENT_CHARACTER);
    for chunk in bytes.utf8_chunks() {
        for letter in chunk.valid().chars() {
            if u32::from(letter) >= FIRST {
                text.extend(letter.encode_utf8(&mut [0; 4]).as_bytes().iter().map(as_letter));
            } else {
                text.push(letter);
            }
        }
        text.extend(chunk.invalid().iter().map(as_letter));
    }
    text
}

fn deliver(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    for letter in text.chars() {
        match u32::from(letter).checked_sub(FIRST).and_then(|byte| u8::try_from(byte + 0x80).ok()) {
            Some(byte) => bytes.push(byte),
            None => bytes.extend(letter.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a001_every_byte_arrives() {
        let all: Vec<u8> = (0..=255).chain("é\u{10FF80}\u{10FFFF}\u{10FF7F}".bytes()).chain([0xf4, 0x8f]).collect();
        assert_eq!(deliver(&carry(&all)), all);
        assert_eq!(carry("plain é".as_bytes()), "plain é");
    }
}

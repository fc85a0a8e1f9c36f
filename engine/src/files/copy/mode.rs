//! Which permission bits does `--chmod` give a file?
//!
//! Octal numbers replace all bits. Symbols are those of chmod(1) with a umask of 0: `u=rwX,go=rX`, `+x`, `g=u`, `a-w`.

use rbuild_solver::graph::Mode;

use super::super::Kind;

/// A symbolic mode that is none.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("invalid chmod parameter: `{0}`; write an octal number up to 07777, or symbols such as `u=rwX,go=rX`")]
pub struct ModeError(pub String);

/// What becomes of the mode of what is copied.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum ModeChange {
    Keep,
    Set(u32),
    Symbols(Vec<Clause>),
}

/// `go-w`: some operations for some of user, group and others.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Clause {
    /// `u`, `g` and `o` as 4, 2 and 1.
    who: u32,
    operations: Vec<(u8, Bits)>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Bits {
    Letters {
        /// `r`, `w` and `x` as 4, 2 and 1.
        permissions: u32,
        execute_if_useful: bool,
        set_id: bool,
        sticky: bool,
    },
    /// What user, group or others have, as a shift.
    Copy(u32),
}

impl ModeChange {
    pub(crate) fn new(mode: Option<&Mode>) -> Result<Self, ModeError> {
        match mode {
            None => Ok(Self::Keep),
            Some(Mode::Octal(mode)) => Ok(Self::Set(mode & 0o7777)),
            Some(Mode::Symbolic(text)) => {
                let clauses: Option<_> = text.split(',').map(clause).collect();
                Ok(Self::Symbols(clauses.ok_or_else(|| ModeError(text.clone()))?))
            }
        }
    }

    /// The mode of a copy.
    pub(crate) fn apply(&self, mode: u32, kind: Kind) -> u32 {
        match self {
            Self::Keep => mode,
            Self::Set(mode) => *mode,
            Self::Symbols(clauses) => clauses.iter().fold(mode, |mode, clause| clause.apply(mode, kind)),
        }
    }

    /// The mode of directories made on the way: octal numbers also hit them, without the special bits.
    pub(crate) fn of_parents(&self) -> u32 {
        if let Self::Set(mode) = self { mode & 0o777 } else { 0o755 }
    }
}

fn clause(text: &str) -> Option<Clause> {
    let start = text.find(['+', '-', '='])?;
    let mut who = 0;
    for letter in text[..start].bytes() {
        who |= match letter {
            b'u' => 4,
            b'g' => 2,
            b'o' => 1,
            b'a' => 7,
            _ => return None,
        };
    }
    let who = if who == 0 { 7 } else { who };
    let mut operations = Vec::new();
    let mut rest = &text[start..];
    while let Some(operator) = rest.bytes().next() {
        let end = rest[1..].find(['+', '-', '=']).map_or(rest.len(), |end| end + 1);
        operations.push((operator, bits(&rest[1..end])?));
        rest = &rest[end..];
    }
    Some(Clause { who, operations })
}

fn bits(letters: &str) -> Option<Bits> {
    match letters {
        "u" => return Some(Bits::Copy(6)),
        "g" => return Some(Bits::Copy(3)),
        "o" => return Some(Bits::Copy(0)),
        _ => {}
    }
    let (mut permissions, mut execute_if_useful, mut set_id, mut sticky) = (0, false, false, false);
    for letter in letters.bytes() {
        match letter {
            b'r' => permissions |= 4,
            b'w' => permissions |= 2,
            b'x' => permissions |= 1,
            b'X' => execute_if_useful = true,
            b's' => set_id = true,
            b't' => sticky = true,
            _ => return None,
        }
    }
    Some(Bits::Letters { permissions, execute_if_useful, set_id, sticky })
}

impl Clause {
    fn apply(&self, mode: u32, kind: Kind) -> u32 {
        self.operations.iter().fold(mode, |mode, (operator, bits)| {
            let value = self.value(*bits, mode, kind);
            match operator {
                b'+' => mode | value,
                b'-' => mode & !value,
                _ => mode & !self.covered(kind) | value,
            }
        })
    }

    fn value(&self, bits: Bits, mode: u32, kind: Kind) -> u32 {
        match bits {
            Bits::Copy(shift) => self.for_each(mode >> shift & 7),
            Bits::Letters { permissions, execute_if_useful, set_id, sticky } => {
                let useful = execute_if_useful && (kind == Kind::Directory || mode & 0o111 != 0);
                self.for_each(permissions | u32::from(useful))
                    | if set_id { (self.who & 6) << 9 } else { 0 }
                    | if sticky { 0o1000 } else { 0 }
            }
        }
    }

    /// What `=` takes away. As with chmod(1), directories keep their set-id bits.
    fn covered(&self, kind: Kind) -> u32 {
        let set_id = if kind == Kind::Directory { 0 } else { (self.who & 6) << 9 };
        self.for_each(7) | set_id
    }

    fn for_each(&self, permissions: u32) -> u32 {
        let shifts = [(4, 6), (2, 3), (1, 0)];
        shifts.iter().filter(|(who, _)| self.who & who != 0).fold(0, |mode, (_, shift)| mode | permissions << shift)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn symbols_mean_what_chmod_says() {
        for (symbols, kind, before, after) in [
            ("+x", Kind::File, 0o644, 0o755),
            ("+x", Kind::File, 0o600, 0o711),
            ("u=rwX,go=rX", Kind::Directory, 0o700, 0o755),
            ("u=rwX,go=rX", Kind::File, 0o600, 0o644),
            ("u=rwX,go=rX", Kind::File, 0o755, 0o755),
            ("go-rwx", Kind::File, 0o755, 0o700),
            ("g=u", Kind::File, 0o644, 0o664),
            ("g=u", Kind::Directory, 0o700, 0o770),
            ("a=r,u+w", Kind::File, 0o755, 0o644),
            ("a-w", Kind::File, 0o666, 0o444),
            ("u+s", Kind::File, 0o755, 0o4755),
            ("g+s,+t", Kind::Directory, 0o755, 0o3755),
            ("ug+s", Kind::File, 0o755, 0o6755),
            ("u=rwx", Kind::File, 0o4711, 0o711),
            ("u=rwx", Kind::Directory, 0o4711, 0o4711),
            ("-s", Kind::File, 0o6755, 0o755),
            ("o=", Kind::File, 0o777, 0o770),
            ("u=rw,g=u-w", Kind::File, 0o700, 0o640),
            ("+X", Kind::File, 0o644, 0o644),
            ("+X", Kind::File, 0o744, 0o755),
        ] {
            let change = ModeChange::new(Some(&Mode::Symbolic(symbols.into()))).unwrap();
            assert_eq!(format!("{:o}", change.apply(before, kind)), format!("{after:o}"), "{symbols} {before:o}");
        }
    }

    #[test]
    fn other_words_are_refused() {
        for symbols in ["", "x", "u", "q+x", "u+q", "u+rw,", "u+ug", "9"] {
            assert!(ModeChange::new(Some(&Mode::Symbolic(symbols.into()))).is_err(), "{symbols}");
        }
    }

    #[test]
    fn octal_numbers_replace_all_bits_and_hit_parents() {
        let change = ModeChange::new(Some(&Mode::Octal(0o7751))).unwrap();
        assert_eq!((change.apply(0o644, Kind::File), change.of_parents()), (0o7751, 0o751));
        assert_eq!((ModeChange::Keep.apply(0o4644, Kind::File), ModeChange::Keep.of_parents()), (0o4644, 0o755));
    }
}

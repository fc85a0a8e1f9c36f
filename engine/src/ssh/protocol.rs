//! What do agents and their clients say to each other?
//!
//! Messages of a length, a number for what they are, and values of SSH's wire format (RFC 4251, section 5, and
//! draft-miller-ssh-agent). Of everything a client can ask, two questions are answered: which keys there are, and what
//! the signature of some data is. An agent's user does not want a build step to add, remove or lock keys.

use super::key::PrivateKey;

const FAILURE: u8 = 5;
const REQUEST_IDENTITIES: u8 = 11;
const IDENTITIES: u8 = 12;
const SIGN_REQUEST: u8 = 13;
const SIGNATURE: u8 = 14;

/// The longest message; OpenSSH has the same bound.
pub(super) const LONGEST: usize = 256 * 1024;

/// Whether a step may ask it of the user's agent.
pub(super) fn is_allowed(request: &[u8]) -> bool {
    matches!(request.first(), Some(&(REQUEST_IDENTITIES | SIGN_REQUEST)))
}

/// The answer to what is not allowed, or makes no sense.
pub(super) fn refusal() -> Vec<u8> {
    vec![FAILURE]
}

/// The answer of an agent that has these keys.
pub(super) fn answer(keys: &[PrivateKey], request: &[u8]) -> Vec<u8> {
    match request.split_first() {
        Some((&REQUEST_IDENTITIES, _)) => {
            let mut answer = vec![IDENTITIES];
            put_number(&mut answer, u32::try_from(keys.len()).unwrap_or(u32::MAX));
            for key in keys {
                put_string(&mut answer, key.public());
                put_string(&mut answer, key.comment().as_bytes());
            }
            answer
        }
        Some((&SIGN_REQUEST, rest)) => sign(keys, rest).unwrap_or_else(refusal),
        _ => refusal(),
    }
}

fn sign(keys: &[PrivateKey], request: &[u8]) -> Option<Vec<u8>> {
    let mut reader = Reader(request);
    let (public, data, flags) = (reader.string()?, reader.string()?, reader.number()?);
    let signature = keys.iter().find(|key| key.public() == public)?.sign(data, flags)?;
    let mut answer = vec![SIGNATURE];
    put_string(&mut answer, &signature);
    Some(answer)
}

/// Reads values from the front.
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (bytes, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(bytes)
    }

    pub(super) fn number(&mut self) -> Option<u32> {
        Some(u32::from_be_bytes(self.bytes(4)?.try_into().ok()?))
    }

    pub(super) fn string(&mut self) -> Option<&'a [u8]> {
        let length = self.number()?;
        self.bytes(usize::try_from(length).ok()?)
    }

    /// A positive integer, big-endian, without leading zeros.
    pub(super) fn integer(&mut self) -> Option<&'a [u8]> {
        self.string().map(without_zeros)
    }
}

pub(super) fn without_zeros(bytes: &[u8]) -> &[u8] {
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    &bytes[zeros..]
}

pub(super) fn put_number(out: &mut Vec<u8>, number: u32) {
    out.extend(number.to_be_bytes());
}

pub(super) fn put_string(out: &mut Vec<u8>, bytes: &[u8]) {
    put_number(out, u32::try_from(bytes.len()).expect("what is written here came in a shorter message"));
    out.extend(bytes);
}

/// A positive integer: a zero in front says that its first bit is no sign.
pub(super) fn put_integer(out: &mut Vec<u8>, bytes: &[u8]) {
    let bytes = without_zeros(bytes);
    match bytes.first() {
        Some(first) if first & 0x80 != 0 => put_string(out, &[&[0], bytes].concat()),
        _ => put_string(out, bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a125_steps_may_ask_for_signatures_and_nothing_else() {
        // The numbers of draft-miller-ssh-agent: 17 adds a key, 18 and 19 remove, 22 and 23 lock, 27 extends.
        for (request, allowed) in
            [(11, true), (13, true), (17, false), (18, false), (19, false), (22, false), (27, false)]
        {
            assert_eq!(is_allowed(&[request, 0]), allowed, "{request}");
        }
        assert!(!is_allowed(&[]));
        for request in [&[][..], &[1], &[13], &[13, 0, 0, 0, 9, 1], &[13, 255, 255, 255, 255], &[19]] {
            assert_eq!(answer(&[], request), [FAILURE], "{request:?}");
        }
        assert_eq!(answer(&[], &[11]), [12, 0, 0, 0, 0]);
    }

    #[test]
    fn integers_are_positive() {
        for (bytes, expected) in
            [(&[0, 0, 1][..], &[0, 0, 0, 1, 1][..]), (&[0x80], &[0, 0, 0, 2, 0, 0x80]), (&[0], &[0, 0, 0, 0])]
        {
            let mut out = Vec::new();
            put_integer(&mut out, bytes);
            assert_eq!(out, expected);
            assert_eq!(Reader(&out).integer().unwrap(), without_zeros(bytes));
        }
    }
}

//! What can be signed with a private key in a file?
//!
//! Keys as `ssh-keygen` writes them (`openssh-key-v1`, described in OpenSSH's PROTOCOL.key), and the older forms PKCS #8
//! and PKCS #1. The signing itself is `ring`'s, which knows Ed25519, ECDSA over P-256 and P-384, and RSA from 2048 bits.
//! A key that needs a passphrase belongs into an agent: there is nobody to ask during a build.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::rand::SystemRandom;
use ring::rsa::{KeyPairComponents, PublicKeyComponents};
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm,
    Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256, RSA_PKCS1_SHA512, RsaKeyPair,
};

use super::protocol::{Reader, put_integer, put_string, without_zeros};

/// The longest file that may be a key, as BuildKit has it.
const LONGEST: u64 = 100 * 1024;

/// What begins a key of OpenSSH's own form.
const MAGIC: &[u8] = b"openssh-key-v1\0";

/// Flags of a request for a signature by an RSA key.
const SHA2_256: u32 = 2;
const SHA2_512: u32 = 4;

/// Why a file is no key that can be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file cannot be read.
    #[error("it cannot be read")]
    Read(#[source] io::Error),
    /// Nothing in it begins like a key.
    #[error("it has no private key in it")]
    NoKey,
    /// It is encrypted.
    #[error("it is protected by a passphrase")]
    Passphrase,
    /// A kind of key that only other programs know.
    #[error("not supported: keys of type `{0}`")]
    Unsupported(String),
    /// The file breaks off, or its parts do not belong together.
    #[error("it is damaged")]
    Damaged,
}

/// A curve of ECDSA keys.
#[derive(Debug)]
struct Curve {
    name: &'static str,
    /// Bytes of a number.
    size: usize,
    algorithm: &'static EcdsaSigningAlgorithm,
}

static CURVES: [Curve; 2] = [
    Curve { name: "nistp256", size: 32, algorithm: &ECDSA_P256_SHA256_FIXED_SIGNING },
    Curve { name: "nistp384", size: 48, algorithm: &ECDSA_P384_SHA384_FIXED_SIGNING },
];

#[derive(Debug)]
enum Signer {
    Ed25519(Ed25519KeyPair),
    Ecdsa(&'static Curve, EcdsaKeyPair),
    Rsa(Box<RsaKeyPair>),
}

/// A key that can sign.
#[derive(Debug)]
pub(crate) struct PrivateKey {
    comment: String,
    /// The public key, as it is sent.
    public: Vec<u8>,
    signer: Signer,
}

impl PrivateKey {
    pub(super) fn read(path: &Path) -> Result<Self, KeyError> {
        let mut text = Vec::new();
        File::open(path).and_then(|file| file.take(LONGEST).read_to_end(&mut text)).map_err(KeyError::Read)?;
        let mut key = Self::parse(&String::from_utf8_lossy(&text))?;
        if key.comment.is_empty() {
            key.comment = path.display().to_string();
        }
        Ok(key)
    }

    fn parse(text: &str) -> Result<Self, KeyError> {
        let Block { label, headers, data } = Block::find(text)?;
        match label {
            _ if label.starts_with("ENCRYPTED ") || headers.contains("ENCRYPTED") => Err(KeyError::Passphrase),
            "OPENSSH PRIVATE KEY" => openssh(&data),
            "RSA PRIVATE KEY" => {
                let pair = RsaKeyPair::from_der(&data).map_err(|_| KeyError::Damaged)?;
                Ok(Self::new("", Signer::Rsa(Box::new(pair))))
            }
            "PRIVATE KEY" => pkcs8(&data),
            other => Err(KeyError::Unsupported(other.trim_end_matches(" PRIVATE KEY").to_owned())),
        }
    }

    fn new(comment: &str, signer: Signer) -> Self {
        let mut public = Vec::new();
        match &signer {
            Signer::Ed25519(pair) => {
                put_string(&mut public, b"ssh-ed25519");
                put_string(&mut public, pair.public_key().as_ref());
            }
            Signer::Ecdsa(curve, pair) => {
                put_string(&mut public, format!("ecdsa-sha2-{}", curve.name).as_bytes());
                put_string(&mut public, curve.name.as_bytes());
                put_string(&mut public, pair.public_key().as_ref());
            }
            Signer::Rsa(pair) => {
                let PublicKeyComponents::<Vec<u8>> { n, e } = pair.public().into();
                put_string(&mut public, b"ssh-rsa");
                put_integer(&mut public, &e);
                put_integer(&mut public, &n);
            }
        }
        Self { comment: comment.to_owned(), public, signer }
    }

    pub(super) fn comment(&self) -> &str {
        &self.comment
    }

    pub(super) fn public(&self) -> &[u8] {
        &self.public
    }

    /// A signature as it is sent; none for RSA with SHA-1, which no server takes any more.
    pub(super) fn sign(&self, data: &[u8], flags: u32) -> Option<Vec<u8>> {
        let (name, signature) = match &self.signer {
            Signer::Ed25519(pair) => ("ssh-ed25519".to_owned(), pair.sign(data).as_ref().to_vec()),
            Signer::Ecdsa(curve, pair) => {
                let both = pair.sign(&SystemRandom::new(), data).ok()?;
                let (r, s) = both.as_ref().split_at_checked(curve.size)?;
                let mut signature = Vec::new();
                put_integer(&mut signature, r);
                put_integer(&mut signature, s);
                (format!("ecdsa-sha2-{}", curve.name), signature)
            }
            Signer::Rsa(pair) => {
                let (name, padding) = match flags {
                    _ if flags & SHA2_512 != 0 => ("rsa-sha2-512", &RSA_PKCS1_SHA512),
                    _ if flags & SHA2_256 != 0 => ("rsa-sha2-256", &RSA_PKCS1_SHA256),
                    _ => return None,
                };
                let mut signature = vec![0; pair.public().modulus_len()];
                pair.sign(padding, &SystemRandom::new(), data, &mut signature).ok()?;
                (name.to_owned(), signature)
            }
        };
        let mut out = Vec::new();
        put_string(&mut out, name.as_bytes());
        put_string(&mut out, &signature);
        Some(out)
    }
}

/// What stands between `-----BEGIN` and `-----END`.
struct Block<'a> {
    label: &'a str,
    headers: String,
    data: Vec<u8>,
}

impl<'a> Block<'a> {
    /// The first private key of a text.
    fn find(text: &'a str) -> Result<Self, KeyError> {
        let mut lines = text.lines().map(str::trim);
        let begin = |line: &'a str| line.strip_prefix("-----BEGIN ")?.strip_suffix("-----");
        let label = lines.by_ref().find_map(|line| begin(line).filter(|label| label.ends_with("PRIVATE KEY")));
        let label = label.ok_or(KeyError::NoKey)?;
        let (mut headers, mut body) = (String::new(), String::new());
        for line in lines {
            if line.starts_with("-----END ") {
                let data = STANDARD.decode(body).map_err(|_| KeyError::Damaged)?;
                return Ok(Self { label, headers, data });
            }
            let part = if line.contains(':') { &mut headers } else { &mut body };
            part.push_str(line);
        }
        Err(KeyError::Damaged)
    }
}

fn pkcs8(data: &[u8]) -> Result<PrivateKey, KeyError> {
    if let Ok(pair) = Ed25519KeyPair::from_pkcs8_maybe_unchecked(data) {
        return Ok(PrivateKey::new("", Signer::Ed25519(pair)));
    }
    if let Ok(pair) = RsaKeyPair::from_pkcs8(data) {
        return Ok(PrivateKey::new("", Signer::Rsa(Box::new(pair))));
    }
    let ecdsa = CURVES.iter().find_map(|curve| {
        let pair = EcdsaKeyPair::from_pkcs8(curve.algorithm, data, &SystemRandom::new()).ok()?;
        Some(PrivateKey::new("", Signer::Ecdsa(curve, pair)))
    });
    ecdsa.ok_or_else(|| KeyError::Unsupported("PKCS #8 other than Ed25519, RSA, P-256 and P-384".to_owned()))
}

fn openssh(data: &[u8]) -> Result<PrivateKey, KeyError> {
    let mut reader = Reader(data.strip_prefix(MAGIC).ok_or(KeyError::Damaged)?);
    let mut read = || Some((reader.string()?, reader.string()?, reader.string()?, reader.number()?));
    let (cipher, _, _, count) = read().ok_or(KeyError::Damaged)?;
    if cipher != b"none" {
        return Err(KeyError::Passphrase);
    }
    let mut keys = || Some((reader.string()?, reader.string()?));
    let (_, private) = keys().filter(|_| count == 1).ok_or(KeyError::Damaged)?;
    let mut reader = Reader(private);
    let mut start = || Some((reader.number()?, reader.number()?, reader.string()?));
    let (_, _, kind) = start().filter(|(one, two, _)| one == two).ok_or(KeyError::Damaged)?;
    let signer = match kind {
        b"ssh-ed25519" => ed25519(&mut reader),
        b"ssh-rsa" => rsa(&mut reader),
        kind => {
            let name = String::from_utf8_lossy(kind).into_owned();
            let curve = CURVES.iter().find(|curve| name.strip_prefix("ecdsa-sha2-") == Some(curve.name));
            ecdsa(&mut reader, curve.ok_or(KeyError::Unsupported(name))?)
        }
    };
    let signer = signer.ok_or(KeyError::Damaged)?;
    let comment = reader.string().ok_or(KeyError::Damaged)?;
    Ok(PrivateKey::new(&String::from_utf8_lossy(comment), signer))
}

fn ed25519(reader: &mut Reader<'_>) -> Option<Signer> {
    let (public, both) = (reader.string()?, reader.string()?);
    let (seed, _) = both.split_at_checked(32)?;
    Ed25519KeyPair::from_seed_and_public_key(seed, public).ok().map(Signer::Ed25519)
}

fn ecdsa(reader: &mut Reader<'_>, curve: &'static Curve) -> Option<Signer> {
    let (_, public, secret) = (reader.string()?, reader.string()?, reader.integer()?);
    let mut padded = vec![0; curve.size.checked_sub(secret.len())?];
    padded.extend(secret);
    let pair = EcdsaKeyPair::from_private_key_and_public_key(curve.algorithm, &padded, public, &SystemRandom::new());
    pair.ok().map(|pair| Signer::Ecdsa(curve, pair))
}

fn rsa(reader: &mut Reader<'_>) -> Option<Signer> {
    let (n, e, d) = (reader.integer()?, reader.integer()?, reader.integer()?);
    let (inverse, p, q) = (reader.integer()?, reader.integer()?, reader.integer()?);
    // `ring` wants the exponents modulo each prime, which the file leaves out.
    let (d_p, d_q) = (remainder(d, &one_less(p)?)?, remainder(d, &one_less(q)?)?);
    let public_key = PublicKeyComponents { n, e };
    let components = KeyPairComponents { public_key, d, p, q, dP: d_p.as_slice(), dQ: d_q.as_slice(), qInv: inverse };
    RsaKeyPair::from_components(&components).ok().map(|pair| Signer::Rsa(Box::new(pair)))
}

/// A prime less one: primes are odd.
fn one_less(prime: &[u8]) -> Option<Vec<u8>> {
    let mut less = prime.to_vec();
    let last = less.last_mut().filter(|last| **last & 1 == 1)?;
    *last -= 1;
    Some(less)
}

/// `number` modulo `modulus`, both big-endian, bit by bit: it is done once for each prime of a key.
fn remainder(number: &[u8], modulus: &[u8]) -> Option<Vec<u8>> {
    let modulus = without_zeros(modulus);
    // Nothing that `ring` takes is longer, and the time is the product of both.
    if modulus.is_empty() || number.len().max(modulus.len()) > 1024 {
        return None;
    }
    // One byte more than the modulus, for what is shifted out.
    let mut rest = vec![0_u8; modulus.len() + 1];
    for bit in number.iter().flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1)) {
        let mut carry = bit;
        for byte in rest.iter_mut().rev() {
            (*byte, carry) = (*byte << 1 | carry, *byte >> 7);
        }
        if without_zeros(&rest).len() > modulus.len() || rest[1..] >= *modulus {
            let mut borrow = 0;
            for (byte, minus) in rest.iter_mut().rev().zip(modulus.iter().rev().chain([&0])) {
                let (difference, one) = byte.overflowing_sub(*minus);
                let (difference, two) = difference.overflowing_sub(borrow);
                (*byte, borrow) = (difference, u8::from(one || two));
            }
        }
    }
    Some(without_zeros(&rest).to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a125_damaged_and_foreign_keys_are_told_apart() {
        let wrap = |label: &str, body: &str| format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n");
        let openssh = |fields: &[&[u8]]| {
            let mut data = MAGIC.to_vec();
            data.extend(fields.concat());
            wrap("OPENSSH PRIVATE KEY", &STANDARD.encode(data))
        };
        let rows = [
            (String::new(), "it has no private key in it"),
            (wrap("CERTIFICATE", ""), "it has no private key in it"),
            (wrap("PUBLIC KEY", ""), "it has no private key in it"),
            ("-----BEGIN PRIVATE KEY-----\nAAAA\n".to_owned(), "it is damaged"),
            (wrap("PRIVATE KEY", "!"), "it is damaged"),
            (wrap("RSA PRIVATE KEY", "AAAA"), "it is damaged"),
            (wrap("RSA PRIVATE KEY", "Proc-Type: 4,ENCRYPTED\nDEK-Info: x\n\nAAAA"), "it is protected by a passphrase"),
            (wrap("ENCRYPTED PRIVATE KEY", "AAAA"), "it is protected by a passphrase"),
            (wrap("EC PRIVATE KEY", "AAAA"), "not supported: keys of type `EC`"),
            (
                wrap("PRIVATE KEY", "AAAA"),
                "not supported: keys of type `PKCS #8 other than Ed25519, RSA, P-256 and P-384`",
            ),
            (openssh(&[]), "it is damaged"),
            (openssh(&[b"\0\0\0\x04none\0\0\0\x04none\0\0\0\0\0\0\0\x01\0\0\0\0\xff\xff\xff\xff"]), "it is damaged"),
            (openssh(&[b"\0\0\0\x0aaes256-ctr\0\0\0\x06bcrypt\0\0\0\0\0\0\0\x01"]), "it is protected by a passphrase"),
            (
                openssh(&[
                    b"\0\0\0\x04none\0\0\0\x04none\0\0\0\0\0\0\0\x01\0\0\0\0",
                    b"\0\0\0\x13\0\0\0\x07\0\0\0\x07\0\0\0\x07ssh-dss",
                ]),
                "not supported: keys of type `ssh-dss`",
            ),
        ];
        for (text, expected) in rows {
            assert_eq!(PrivateKey::parse(&text).unwrap_err().to_string(), expected, "{text}");
        }
    }

    #[test]
    fn remainders_are_those_of_numbers() {
        for (number, modulus) in
            [(0_u64, 7_u64), (6, 7), (7, 7), (1 << 40, 255), (u64::MAX, 256), (u64::MAX, u64::MAX - 1)]
        {
            let found = remainder(&number.to_be_bytes(), &modulus.to_be_bytes()).unwrap();
            assert_eq!(found, without_zeros(&(number % modulus).to_be_bytes()), "{number} % {modulus}");
        }
        assert_eq!(remainder(&[1], &[0]), None);
    }
}

//! Which ports does a word of `EXPOSE` name?

use crate::grammar::{Grammar, Parser as _, Rule};

/// An expanded word of `EXPOSE`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Ports {
    /// First port.
    pub first: u16,
    /// Last port, the first one again if there is no range.
    pub last: u16,
    /// `tcp`, `udp` or `sctp`.
    pub protocol: &'static str,
    /// Whether the protocol is not written in lower case.
    pub odd_protocol: bool,
    /// What stands before the port: an address, a port of the host, or both. It has no effect.
    pub published: Option<String>,
}

impl Ports {
    /// Each port as image configurations write it: `80/tcp`.
    pub fn each(&self) -> impl Iterator<Item = String> + '_ {
        (self.first..=self.last).map(|port| format!("{port}/{}", self.protocol))
    }
}

/// Why a text names no ports.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum PortError {
    /// Not of the form `port[-port][/protocol]`.
    #[error("invalid port `{0}` in `EXPOSE`: expected port[-port][/protocol]")]
    Form(String),
    /// A number that is no port.
    #[error("invalid port `{0}` in `EXPOSE`: ports are at most 65535")]
    Range(String),
    /// The range ends before it begins.
    #[error("invalid port range `{0}` in `EXPOSE`: it ends before it begins")]
    Backwards(String),
    /// A protocol there is not.
    #[error("invalid protocol `{0}` in `EXPOSE`: expected `tcp`, `udp` or `sctp`")]
    Protocol(String),
}

impl PortError {
    /// What to write instead.
    pub(crate) fn hint(&self) -> Option<String> {
        match self {
            Self::Form(_) => Some("write a number or a range: `80`, `53/udp`, `8000-8010`".to_owned()),
            Self::Backwards(range) => range.split_once('-').map(|(first, last)| format!("write `{last}-{first}`")),
            Self::Range(_) | Self::Protocol(_) => None,
        }
    }
}

/// Reads an expanded word of `EXPOSE`.
///
/// # Errors
/// Anything that names no port, and ports or protocols that do not exist.
pub fn parse(text: &str) -> Result<Ports, PortError> {
    let mut published = None;
    let mut numbers = Vec::new();
    let mut protocol = "tcp".to_owned();
    let port = Grammar::parse(Rule::port, text).ok().and_then(|mut pairs| pairs.next());
    for pair in port.ok_or_else(|| PortError::Form(text.to_owned()))?.into_inner() {
        match pair.as_rule() {
            Rule::published => published = Some(pair.as_str().to_owned()),
            Rule::port_number => {
                numbers.push(pair.as_str().parse::<u16>().map_err(|_| PortError::Range(pair.as_str().to_owned()))?);
            }
            Rule::protocol => pair.as_str().clone_into(&mut protocol),
            _ => {}
        }
    }
    let first = numbers.first().copied().unwrap_or_default();
    let last = numbers.last().copied().unwrap_or_default();
    if last < first {
        return Err(PortError::Backwards(format!("{first}-{last}")));
    }
    let lower = protocol.to_ascii_lowercase();
    // An empty protocol (`80/`) means the default.
    let known = ["tcp", "udp", "sctp"].into_iter().find(|known| *known == lower || lower.is_empty());
    let odd_protocol = protocol != lower;
    let protocol = known.ok_or(PortError::Protocol(protocol))?;
    Ok(Ports { first, last, protocol, odd_protocol, published })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports() {
        let ports = |first, last, protocol, odd_protocol, published: Option<&str>| {
            Ok(Ports { first, last, protocol, odd_protocol, published: published.map(str::to_owned) })
        };
        let cases = [
            ("80", ports(80, 80, "tcp", false, None)),
            ("80/", ports(80, 80, "tcp", false, None)),
            ("80-82/UDP", ports(80, 82, "udp", true, None)),
            ("0/sctp", ports(0, 0, "sctp", false, None)),
            ("8080:80", ports(80, 80, "tcp", false, Some("8080"))),
            ("127.0.0.1:8080:80/tcp", ports(80, 80, "tcp", false, Some("127.0.0.1:8080"))),
            ("[::1]:80:80", ports(80, 80, "tcp", false, Some("[::1]:80"))),
            ("notaport", Err(PortError::Form("notaport".to_owned()))),
            ("", Err(PortError::Form(String::new()))),
            ("80　30", Err(PortError::Form("80　30".to_owned()))),
            ("#", Err(PortError::Form("#".to_owned()))),
            ("65536", Err(PortError::Range("65536".to_owned()))),
            ("82-80", Err(PortError::Backwards("82-80".to_owned()))),
            ("80/icmp", Err(PortError::Protocol("icmp".to_owned()))),
        ];
        for (text, expected) in cases {
            assert_eq!(parse(text), expected, "{text}");
        }
        assert_eq!(
            parse("80-81").map(|ports| ports.each().collect::<Vec<_>>()),
            Ok(vec!["80/tcp".to_owned(), "81/tcp".to_owned()])
        );
    }
}

//! Which ports of the host lead into a container?

use std::net::{IpAddr, Ipv4Addr};

use serde::{Deserialize, Serialize};

/// One published port.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct PortMapping {
    /// Address of the host to listen on; unspecified means all of them.
    pub address: IpAddr,
    /// Port of the host; 0 until a free one was chosen.
    pub host: u16,
    /// Port inside the container.
    pub container: u16,
}

/// Why a `-p` cannot be used.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum PortError {
    /// Not of the form.
    #[error("`{0}` is not a port mapping: expected [[IP:]HOST:]CONTAINER[/tcp]")]
    Form(String),
    /// A protocol that is not forwarded.
    #[error("port mapping `{0}`: only tcp is supported")]
    Protocol(String),
    /// Two ranges that differ in length.
    #[error("port mapping `{0}`: the ranges have different lengths")]
    Ranges(String),
}

/// Parses `[[IP:]HOST:]CONTAINER[/tcp]`; HOST and CONTAINER may be ranges, an IPv6 address stands in brackets.
pub(crate) fn parse(text: &str) -> Result<Vec<PortMapping>, PortError> {
    let form = || PortError::Form(text.to_owned());
    let (ports, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    if !protocol.eq_ignore_ascii_case("tcp") {
        return Err(PortError::Protocol(text.to_owned()));
    }
    let (front, container) = ports.rsplit_once(':').unwrap_or(("", ports));
    let (address, host) = match front.rsplit_once(':') {
        Some((address, host)) => (address.trim_start_matches('[').trim_end_matches(']'), host),
        None => ("", front),
    };
    let address =
        if address.is_empty() { IpAddr::V4(Ipv4Addr::UNSPECIFIED) } else { address.parse().map_err(|_| form())? };
    let container = range(container).ok_or_else(form)?;
    let host = if host.is_empty() { None } else { Some(range(host).ok_or_else(form)?) };
    if host.as_ref().is_some_and(|host| host.len() != container.len()) {
        return Err(PortError::Ranges(text.to_owned()));
    }
    Ok(container
        .enumerate()
        .map(|(index, container)| PortMapping {
            address,
            host: host.clone().and_then(|mut host| host.nth(index)).unwrap_or(0),
            container,
        })
        .collect())
}

fn range(text: &str) -> Option<std::ops::RangeInclusive<u16>> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let number = |text: &str| text.parse().ok().filter(|port| *port != 0);
    let (first, last) = (number(first)?, number(last)?);
    (first <= last).then_some(first..=last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mappings() {
        let shown = |text| {
            parse(text).map(|ports| {
                ports.iter().map(|p| format!("{} {}>{}", p.address, p.host, p.container)).collect::<Vec<_>>().join(" ")
            })
        };
        for (text, expected) in [
            ("8000:3000", "0.0.0.0 8000>3000"),
            ("3000", "0.0.0.0 0>3000"),
            ("127.0.0.1:8000:3000/tcp", "127.0.0.1 8000>3000"),
            ("127.0.0.1::80", "127.0.0.1 0>80"),
            ("[::1]:8000:80", "::1 8000>80"),
            ("8000-8001:80-81", "0.0.0.0 8000>80 0.0.0.0 8001>81"),
        ] {
            assert_eq!(shown(text).as_deref(), Ok(expected), "{text}");
        }
        for text in ["", "a", "0", "70000", "1:2:3:4", "x:80:80", "9-8", ":"] {
            assert_eq!(shown(text), Err(PortError::Form(text.to_owned())), "{text}");
        }
        assert_eq!(shown("53:53/udp"), Err(PortError::Protocol("53:53/udp".into())));
        assert_eq!(shown("1-2:1-3"), Err(PortError::Ranges("1-2:1-3".into())));
    }
}

//! Which name servers can a sandbox use?
//!
//! Those of the host, except the ones that only the host's own loopback reaches, as BuildKit and Docker decide: a stub
//! resolver's list is read behind the stub, and Google's servers are the last resort.

use std::fs;
use std::net::IpAddr;

use crate::spec::Network;

const FALLBACK: &str = "nameserver 8.8.8.8\nnameserver 8.8.4.4\n";

/// The content of `/etc/resolv.conf` for a sandbox in this network, read from the host now.
pub fn resolv_conf(network: &Network) -> String {
    let own = fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    if *network == Network::Host {
        return own;
    }
    let stub = servers(&own).eq([IpAddr::from([127, 0, 0, 53])]);
    let behind = stub.then(|| fs::read_to_string("/run/systemd/resolve/resolv.conf").ok()).flatten();
    reachable(&behind.unwrap_or(own))
}

fn servers(text: &str) -> impl Iterator<Item = IpAddr> {
    text.lines().filter_map(server)
}

fn server(line: &str) -> Option<IpAddr> {
    let mut words = line.split_whitespace();
    if words.next() != Some("nameserver") {
        return None;
    }
    // A link-local address may carry `%eth0`.
    words.next()?.split('%').next()?.parse().ok()
}

/// The same without servers on loopback, which means something else inside.
fn reachable(text: &str) -> String {
    let is_local = |line: &&str| server(line).is_some_and(|address| address.is_loopback());
    let mut kept: String = text.lines().filter(|line| !is_local(line)).flat_map(|line| [line, "\n"]).collect();
    if servers(&kept).next().is_none() {
        kept.push_str(FALLBACK);
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_servers_are_left_out_and_the_rest_is_kept() {
        for (given, expected) in [
            ("nameserver 10.0.0.1\nsearch a b\n", "nameserver 10.0.0.1\nsearch a b\n"),
            ("nameserver 127.0.0.11\nnameserver 10.0.0.1\n", "nameserver 10.0.0.1\n"),
            ("search x\nnameserver ::1\n", "search x\nnameserver 8.8.8.8\nnameserver 8.8.4.4\n"),
            ("nameserver fe80::1%eth0\n", "nameserver fe80::1%eth0\n"),
            ("", FALLBACK),
        ] {
            assert_eq!(reachable(given), expected, "{given}");
        }
    }
}

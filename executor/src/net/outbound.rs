//! How does a network namespace reach the world?
//!
//! ```text
//! sandbox: eth0 10.213.0.2/30 ──pair──► rbuild0 10.213.0.1/30 :host ── masquerade ──► world
//! ```
//!
//! Only for root. The number in the link's name is the allocation: the kernel refuses a second link of a name, so several
//! programs may do this at once, and it gives the addresses. The pair vanishes with the namespace, the rule with the
//! socket that owns it. What stays is `net.ipv4.ip_forward`, switched on as Docker does.

use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::AsFd as _;

use super::masquerade::Masquerade;
use super::{Namespace, netlink};

/// Networks of 65,536 addresses, one of which is used: the first that the host has no way to yet.
const NETWORKS: [Ipv4Addr; 4] = [
    Ipv4Addr::new(10, 213, 0, 0),
    Ipv4Addr::new(172, 29, 0, 0),
    Ipv4Addr::new(10, 77, 0, 0),
    Ipv4Addr::new(192, 168, 0, 0),
];
/// Links made here are called this and a number.
const LINK: &str = "rbuild";
const MOST_LINKS: u32 = 4096;

/// Why a namespace got no way out.
#[derive(Debug, thiserror::Error)]
#[error("cannot connect the network namespace: cannot {step}")]
pub struct OutboundError {
    step: &'static str,
    #[source]
    source: io::Error,
}

impl OutboundError {
    pub(super) fn namespace(source: io::Error) -> Self {
        Self { step: "make a namespace", source }
    }
}

/// A namespace's way out, open as long as this value.
#[derive(Debug)]
#[must_use = "dropping it closes the way out"]
pub struct Outbound {
    address: Ipv4Addr,
    gateway: Ipv4Addr,
    _masquerade: Masquerade,
}

impl Outbound {
    /// Connects a namespace to the network of the calling thread.
    ///
    /// # Errors
    /// Without root's privileges, when the host has no way out itself, or a kernel without the needed parts.
    pub fn connect(namespace: &Namespace) -> Result<Self, OutboundError> {
        let failed = |step| move |source| OutboundError { step, source };
        let routes = fs::read_to_string("/proc/thread-self/net/route").map_err(failed("read the host's routes"))?;
        let none = || io::Error::new(io::ErrorKind::NotFound, "the host has no default route");
        let uplink = uplink(&routes).ok_or_else(none).map_err(failed("find the way out"))?;
        let (_, mtu) = netlink::link(uplink).map_err(failed("look at the way out"))?;
        let taken = || io::Error::other("all of rbuild's address ranges are in use");
        let network = free_network(&routes).ok_or_else(taken).map_err(failed("choose an address"))?;

        let number = make_link(namespace, mtu).map_err(failed("make a pair of links"))?;
        let name = format!("{LINK}{number}");
        let first = u32::from(network) + number * 4;
        let (gateway, address) = (Ipv4Addr::from(first + 1), Ipv4Addr::from(first + 2));
        let (index, _) = netlink::link(&name).map_err(failed("find the new link"))?;
        netlink::add_address(index, gateway, 30).map_err(failed("set the gateway's address"))?;
        netlink::set_up(index).map_err(failed("bring the gateway up"))?;
        let inside = || {
            let (index, _) = netlink::link("eth0")?;
            netlink::add_address(index, address, 30)?;
            netlink::set_up(index)?;
            netlink::add_default_route(index, gateway)
        };
        namespace.run(inside).map_err(failed("set up the link inside"))?;
        let masquerade = Masquerade::start(&name, address).map_err(failed("masquerade"))?;
        let switch = "/proc/sys/net/ipv4/ip_forward";
        if fs::read_to_string(switch).is_ok_and(|text| text.trim() != "1") {
            fs::write(switch, "1").map_err(failed("switch on forwarding"))?;
        }
        Ok(Self { address, gateway, _masquerade: masquerade })
    }

    /// The namespace's address.
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// The host's address on the way: where `host-gateway` leads.
    pub fn gateway(&self) -> Ipv4Addr {
        self.gateway
    }
}

fn make_link(namespace: &Namespace, mtu: u32) -> io::Result<u32> {
    for number in 0..MOST_LINKS {
        match netlink::make_pair(&format!("{LINK}{number}"), "eth0", namespace.as_fd(), mtu) {
            Err(error) if error.raw_os_error() == Some(libc::EEXIST) => {}
            Err(error) => return Err(error),
            Ok(()) => return Ok(number),
        }
    }
    Err(io::Error::from_raw_os_error(libc::EEXIST))
}

/// Destination and mask of each line of `/proc/net/route`, in which addresses are hexadecimal in memory order.
fn routes(text: &str) -> impl Iterator<Item = (&str, u32, u32)> {
    text.lines().skip(1).filter_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let number = |index: usize| Some(u32::from_be(u32::from_str_radix(fields.get(index)?, 16).ok()?));
        Some((*fields.first()?, number(1)?, number(7)?))
    })
}

fn uplink(text: &str) -> Option<&str> {
    routes(text).find(|(_, destination, mask)| *destination == 0 && *mask == 0).map(|(link, ..)| link)
}

fn free_network(text: &str) -> Option<Ipv4Addr> {
    NETWORKS.into_iter().find(|network| {
        let overlaps = |(link, destination, mask): (&str, u32, u32)| {
            let narrower = mask & 0xffff_0000;
            !link.starts_with(LINK) && mask != 0 && destination & narrower == u32::from(*network) & narrower
        };
        !routes(text).any(overlaps)
    })
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::{IpAddr, TcpListener, TcpStream};

    use super::*;

    const ROUTES: &str = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n\
        eth0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n\
        rbuild0\t0000D50A\t00000000\t0001\t0\t0\t0\tFCFFFFFF\t0\t0\t0\n";

    #[test]
    fn a_network_is_free_unless_others_route_to_it() {
        assert_eq!(uplink(ROUTES), Some("eth0"));
        assert_eq!(uplink("Iface\n"), None);
        assert_eq!(free_network(ROUTES), Some(NETWORKS[0]));
        for (line, free) in [
            ("tun0\t0000000A\t0\t1\t0\t0\t0\t000000FF\t0\t0\t0\n", Some(NETWORKS[1])),
            ("tun0\t0005D50A\t0\t1\t0\t0\t0\t00FFFFFF\t0\t0\t0\n", Some(NETWORKS[1])),
            ("tun0\t0000D60A\t0\t1\t0\t0\t0\t0000FFFF\t0\t0\t0\n", Some(NETWORKS[0])),
        ] {
            assert_eq!(free_network(&format!("{ROUTES}{line}")), free, "{line}");
        }
    }

    /// world ── host ── sandbox, all of them namespaces: this machine's own network stays as it is.
    #[test]
    fn connections_leave_under_the_hosts_address() {
        let (Ok(world), Ok(host), Ok(sandbox)) = (Namespace::create(), Namespace::create(), Namespace::create()) else {
            return println!("skipped: no network namespaces can be made");
        };
        let here = Ipv4Addr::new(203, 0, 113, 1);
        let there = Ipv4Addr::new(203, 0, 113, 2);
        let wire = host.run(|| {
            netlink::make_pair("up0", "eth0", world.as_fd(), 1400)?;
            let (index, mtu) = netlink::link("up0")?;
            assert_eq!(mtu, 1400);
            netlink::add_address(index, here, 24)?;
            netlink::set_up(index)
        });
        if let Err(error) = wire {
            return println!("skipped: no links can be made: {error}");
        }
        let listener = world
            .run(|| {
                let (index, _) = netlink::link("eth0")?;
                netlink::add_address(index, there, 24)?;
                netlink::set_up(index)?;
                TcpListener::bind((there, 80))
            })
            .unwrap();
        host.run(|| netlink::add_default_route(netlink::link("up0")?.0, there)).unwrap();
        let connect = || host.run(|| Outbound::connect(&sandbox).map_err(io::Error::other));
        let outbound = match connect() {
            Err(error) => return println!("skipped: {error:?}"),
            Ok(outbound) => outbound,
        };
        assert_eq!(outbound.address(), Ipv4Addr::new(10, 213, 0, 2));
        let mut client = sandbox.run(|| TcpStream::connect((there, 80))).unwrap();
        let (mut served, peer) = listener.accept().unwrap();
        assert_eq!(peer.ip(), IpAddr::from(here));
        client.write_all(b"x").unwrap();
        let mut byte = [0];
        served.read_exact(&mut byte).unwrap();
        let (mtu, second) = host
            .run(|| {
                let another = Namespace::create()?;
                let second = Outbound::connect(&another).map_err(io::Error::other)?;
                Ok((netlink::link("rbuild0")?.1, second.address()))
            })
            .unwrap();
        assert_eq!((mtu, second), (1400, Ipv4Addr::new(10, 213, 0, 6)));
        let pooled = host
            .run(|| {
                let pool = super::super::Pool::new();
                let take = || pool.take().map_err(io::Error::other);
                let (first, second) = (take()?, take()?);
                let addresses = (first.outbound().address(), second.outbound().address());
                drop(second);
                Ok((addresses, take()?.outbound().address()))
            })
            .unwrap();
        assert_ne!(pooled.0.0, pooled.0.1, "never two at once");
        assert_eq!(pooled.1, pooled.0.1, "used again");
    }
}

//! How is the kernel told about links, addresses, routes and packet filters?
//!
//! By requests and answers over netlink sockets, built by hand: the handful of messages that are needed is smaller than
//! the interface of a library for all of them. Messages are a header, a fixed body, and attributes that may nest.

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd as _, BorrowedFd, OwnedFd};

use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{
    AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType, bind, recv, send, socket_with,
};

const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLM_F_EXCL: u16 = 0x200;
pub(super) const NLM_F_CREATE: u16 = 0x400;
const NLMSG_ERROR: u16 = 2;
const HEADER: usize = 16;

const RTM_NEWLINK: u16 = 16;
const RTM_GETLINK: u16 = 18;
const RTM_NEWADDR: u16 = 20;
const RTM_NEWROUTE: u16 = 24;
const IFF_UP: u32 = 1;
const AF_INET: u8 = 2;

const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_LINKINFO: u16 = 18;
const IFLA_NET_NS_FD: u16 = 28;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const VETH_INFO_PEER: u16 = 1;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const NESTED: u16 = 0x8000;

/// A message, or the inside of a nested attribute, under construction.
#[derive(Debug, Default)]
pub(super) struct Message(Vec<u8>);

impl Message {
    /// A request; `flags` come on top of those every request has.
    pub(super) fn request(kind: u16, flags: u16, body: &[u8]) -> Self {
        let mut bytes = vec![0; 4];
        bytes.extend(kind.to_ne_bytes());
        bytes.extend((NLM_F_REQUEST | flags).to_ne_bytes());
        bytes.extend([0; 8]);
        bytes.extend(body);
        Self(bytes)
    }

    pub(super) fn attribute(mut self, kind: u16, value: &[u8]) -> Self {
        let length = u16::try_from(4 + value.len()).expect("attributes here are a few bytes long");
        self.0.extend(length.to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.0.extend(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    /// A text with the zero byte the kernel wants.
    pub(super) fn text(self, kind: u16, value: &str) -> Self {
        let mut bytes = value.as_bytes().to_vec();
        bytes.push(0);
        self.attribute(kind, &bytes)
    }

    pub(super) fn nested(self, kind: u16, inside: Self) -> Self {
        self.attribute(kind | NESTED, &inside.0)
    }

    /// The bytes, with the length filled in.
    pub(super) fn finish(mut self) -> Vec<u8> {
        let length = u32::try_from(self.0.len()).expect("messages here are short");
        self.0[..4].copy_from_slice(&length.to_ne_bytes());
        self.0
    }

    /// Sends it to the routing part of the kernel, and waits for the verdict.
    fn ask(self) -> io::Result<Vec<u8>> {
        let socket = connect(None)?;
        send(&socket, &self.finish(), SendFlags::empty())?;
        let answer = receive(&socket)?;
        verdicts(&answer)?;
        Ok(answer)
    }
}

/// A socket of a netlink protocol; routing, which has the number 0, if absent.
pub(super) fn connect(protocol: Option<Protocol>) -> io::Result<OwnedFd> {
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, protocol)?;
    bind(&socket, &SocketAddrNetlink::new(0, 0))?;
    Ok(socket)
}

/// One packet of answers.
pub(super) fn receive(socket: &OwnedFd) -> io::Result<Vec<u8>> {
    let mut answer = vec![0; 32 << 10];
    let (length, _) = recv(socket, answer.as_mut_slice(), RecvFlags::empty())?;
    answer.truncate(length);
    Ok(answer)
}

/// How many messages were acknowledged, or the first error. An acknowledgement is an error message with the number 0.
pub(super) fn verdicts(mut answer: &[u8]) -> io::Result<usize> {
    let mut count = 0;
    while let Some(length) = number(answer, 0) {
        let kind = answer.get(4..6).map(|bytes| u16::from_ne_bytes([bytes[0], bytes[1]]));
        if kind == Some(NLMSG_ERROR) {
            match number(answer, HEADER).map(u32::cast_signed) {
                Some(0) => count += 1,
                Some(code) => return Err(io::Error::from_raw_os_error(-code)),
                None => return Err(io::Error::other("the kernel's answer is too short")),
            }
        }
        let Some(rest) = answer.get((length as usize).max(HEADER).next_multiple_of(4)..) else { break };
        answer = rest;
    }
    Ok(count)
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// `struct ifinfomsg`.
fn link_body(index: u32, flags: u32) -> Vec<u8> {
    [[0; 4], index.to_ne_bytes(), flags.to_ne_bytes(), flags.to_ne_bytes()].concat()
}

/// Brings a link up, by its index; loopback is 1.
pub(super) fn set_up(index: u32) -> io::Result<()> {
    Message::request(RTM_NEWLINK, NLM_F_ACK, &link_body(index, IFF_UP)).ask().map(drop)
}

/// Index and largest packet of a link.
pub(super) fn link(name: &str) -> io::Result<(u32, u32)> {
    let answer = Message::request(RTM_GETLINK, 0, &link_body(0, 0)).text(IFLA_IFNAME, name).ask()?;
    let short = || io::Error::other("the kernel's answer is too short");
    let index = number(&answer, HEADER + 4).ok_or_else(short)?;
    let mut attributes = answer.get(HEADER + 16..).ok_or_else(short)?;
    while let Some(head) = number(attributes, 0) {
        // Length, then kind, in one native word.
        let bytes = head.to_ne_bytes();
        let (length, kind) = (u16::from_ne_bytes([bytes[0], bytes[1]]), u16::from_ne_bytes([bytes[2], bytes[3]]));
        if kind == IFLA_MTU {
            return Ok((index, number(attributes, 4).ok_or_else(short)?));
        }
        let Some(rest) = attributes.get(usize::from(length).max(4).next_multiple_of(4)..) else { break };
        attributes = rest;
    }
    Err(short())
}

/// A pair of connected links: `name` here, `peer_name` in another namespace. `EEXIST` if there is one of this name.
pub(super) fn make_pair(name: &str, peer_name: &str, peer: BorrowedFd<'_>, mtu: u32) -> io::Result<()> {
    let size = mtu.to_ne_bytes();
    let inside = Message(link_body(0, 0))
        .text(IFLA_IFNAME, peer_name)
        .attribute(IFLA_MTU, &size)
        .attribute(IFLA_NET_NS_FD, &peer.as_raw_fd().to_ne_bytes());
    let data = Message::default().nested(VETH_INFO_PEER, inside);
    let info = Message::default().text(IFLA_INFO_KIND, "veth").nested(IFLA_INFO_DATA, data);
    Message::request(RTM_NEWLINK, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL, &link_body(0, 0))
        .text(IFLA_IFNAME, name)
        .attribute(IFLA_MTU, &size)
        .nested(IFLA_LINKINFO, info)
        .ask()
        .map(drop)
}

/// Gives a link an address in a network of this many bits.
pub(super) fn add_address(index: u32, address: Ipv4Addr, bits: u8) -> io::Result<()> {
    // `struct ifaddrmsg`
    let body = [[AF_INET, bits, 0, 0], index.to_ne_bytes()].concat();
    Message::request(RTM_NEWADDR, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL, &body)
        .attribute(IFA_LOCAL, &address.octets())
        .attribute(IFA_ADDRESS, &address.octets())
        .ask()
        .map(drop)
}

/// Sends everything without a better way to a gateway.
pub(super) fn add_default_route(index: u32, gateway: Ipv4Addr) -> io::Result<()> {
    const MAIN_TABLE: u8 = 254;
    const PROTOCOL_BOOT: u8 = 3;
    const UNIVERSE: u8 = 0;
    const UNICAST: u8 = 1;
    // `struct rtmsg`
    let body = [AF_INET, 0, 0, 0, MAIN_TABLE, PROTOCOL_BOOT, UNIVERSE, UNICAST, 0, 0, 0, 0];
    Message::request(RTM_NEWROUTE, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL, &body)
        .attribute(RTA_GATEWAY, &gateway.octets())
        .attribute(RTA_OIF, &index.to_ne_bytes())
        .ask()
        .map(drop)
}

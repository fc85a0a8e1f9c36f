//! How is the kernel told about links and addresses?
//!
//! By one request and one answer over a netlink socket, built by hand: the handful of messages that are needed is
//! smaller than the interface of a library for all of them.

use std::io;

use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind, recv, send, socket_with};

const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLMSG_ERROR: u16 = 2;
const RTM_NEWLINK: u16 = 16;
const IFF_UP: u32 = 1;

/// A request under construction: header, body, attributes.
struct Request(Vec<u8>);

impl Request {
    fn new(kind: u16, flags: u16, body: &[u8]) -> Self {
        let mut bytes = vec![0; 4];
        bytes.extend(kind.to_ne_bytes());
        bytes.extend((NLM_F_REQUEST | NLM_F_ACK | flags).to_ne_bytes());
        bytes.extend(1u32.to_ne_bytes());
        bytes.extend(0u32.to_ne_bytes());
        bytes.extend(body);
        Self(bytes)
    }

    /// Sends it, and waits for the kernel's verdict.
    fn send(mut self) -> io::Result<()> {
        let length = u32::try_from(self.0.len()).map_err(io::Error::other)?;
        self.0[..4].copy_from_slice(&length.to_ne_bytes());
        // Protocol 0 is NETLINK_ROUTE.
        let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
        bind(&socket, &SocketAddrNetlink::new(0, 0))?;
        send(&socket, &self.0, SendFlags::empty())?;
        let mut answer = [0u8; 4096];
        let (length, _) = recv(&socket, &mut answer, RecvFlags::empty())?;
        verdict(&answer[..length])
    }
}

/// An acknowledgement is an error message with the number 0.
fn verdict(answer: &[u8]) -> io::Result<()> {
    let short = || io::Error::other("the kernel's answer is too short");
    let kind = answer.get(4..6).and_then(|bytes| bytes.try_into().ok()).map(u16::from_ne_bytes).ok_or_else(short)?;
    if kind != NLMSG_ERROR {
        return Err(io::Error::other(format!("the kernel answered with message {kind}")));
    }
    let code = answer.get(16..20).and_then(|bytes| bytes.try_into().ok()).map(i32::from_ne_bytes).ok_or_else(short)?;
    if code == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(-code)) }
}

/// `struct ifinfomsg`.
fn link(index: i32, flags: u32, change: u32) -> Vec<u8> {
    let mut body = vec![0; 4];
    body.extend(index.to_ne_bytes());
    body.extend(flags.to_ne_bytes());
    body.extend(change.to_ne_bytes());
    body
}

/// Brings a link up, by its index; loopback is 1.
pub(super) fn set_up(index: i32) -> io::Result<()> {
    Request::new(RTM_NEWLINK, 0, &link(index, IFF_UP, IFF_UP)).send()
}

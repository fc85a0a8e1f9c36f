//! How do packets of a sandbox leave under the host's address, and how does that end by itself?
//!
//! By a table of the kernel's packet filter with one rule, `ip saddr ADDRESS masquerade`. The table has an *owner*, the
//! netlink socket that made it (Linux 5.12): when that is closed, in whatever way its process ends, the kernel removes
//! the table. No program such as `nft` or `iptables` is needed.

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;

use rustix::net::netlink::NETFILTER;
use rustix::net::{SendFlags, send};

use super::netlink::{self, Message, NLM_F_CREATE};

const NLM_F_ACK: u16 = 4;
const BATCH_BEGIN: u16 = 16;
const BATCH_END: u16 = 17;
const NFTABLES: u16 = 10;
const NEW_TABLE: u16 = NFTABLES << 8;
const NEW_CHAIN: u16 = NFTABLES << 8 | 3;
const NEW_RULE: u16 = NFTABLES << 8 | 6;
const NFPROTO_IPV4: u8 = 2;

const TABLE_NAME: u16 = 1;
const TABLE_FLAGS: u16 = 2;
const TABLE_F_OWNER: u32 = 2;
const CHAIN_TABLE: u16 = 1;
const CHAIN_NAME: u16 = 3;
const CHAIN_HOOK: u16 = 4;
const CHAIN_TYPE: u16 = 7;
const HOOK_NUMBER: u16 = 1;
const HOOK_PRIORITY: u16 = 2;
const POSTROUTING: u32 = 4;
const PRIORITY_SOURCE_NAT: u32 = 100;
const RULE_TABLE: u16 = 1;
const RULE_CHAIN: u16 = 2;
const RULE_EXPRESSIONS: u16 = 4;
const LIST_ELEMENT: u16 = 1;
const EXPRESSION_NAME: u16 = 1;
const EXPRESSION_DATA: u16 = 2;
const REGISTER_1: u32 = 1;

/// The rule exists as long as this value.
#[derive(Debug)]
pub(super) struct Masquerade {
    _owner: OwnedFd,
}

impl Masquerade {
    /// Hides `source` behind the host in the current network namespace. `name` must be unique there.
    pub(super) fn start(name: &str, source: Ipv4Addr) -> io::Result<Self> {
        let owner = netlink::connect(Some(NETFILTER))?;
        let messages = [
            Message::request(BATCH_BEGIN, 0, &body(0, NFTABLES)),
            request(NEW_TABLE).text(TABLE_NAME, name).attribute(TABLE_FLAGS, &TABLE_F_OWNER.to_be_bytes()),
            chain(name),
            rule(name, source),
            Message::request(BATCH_END, 0, &body(0, NFTABLES)),
        ];
        let batch: Vec<u8> = messages.into_iter().flat_map(Message::finish).collect();
        send(&owner, &batch, SendFlags::empty())?;
        let mut acknowledged = 0;
        while acknowledged < 3 {
            acknowledged += netlink::verdicts(&netlink::receive(&owner)?)?;
        }
        Ok(Self { _owner: owner })
    }
}

/// `struct nfgenmsg`.
fn body(family: u8, resource: u16) -> [u8; 4] {
    let [high, low] = resource.to_be_bytes();
    [family, 0, high, low]
}

fn request(kind: u16) -> Message {
    Message::request(kind, NLM_F_ACK | NLM_F_CREATE, &body(NFPROTO_IPV4, 0))
}

fn chain(table: &str) -> Message {
    let hook = Message::default()
        .attribute(HOOK_NUMBER, &POSTROUTING.to_be_bytes())
        .attribute(HOOK_PRIORITY, &PRIORITY_SOURCE_NAT.to_be_bytes());
    request(NEW_CHAIN)
        .text(CHAIN_TABLE, table)
        .text(CHAIN_NAME, "outbound")
        .nested(CHAIN_HOOK, hook)
        .text(CHAIN_TYPE, "nat")
}

/// Load the source address, compare it, masquerade.
fn rule(table: &str, source: Ipv4Addr) -> Message {
    const NETWORK_HEADER: u32 = 1;
    const SOURCE_ADDRESS: u32 = 12;
    const EQUAL: u32 = 0;
    let load = [REGISTER_1, NETWORK_HEADER, SOURCE_ADDRESS, 4];
    let load =
        (1..).zip(load).fold(Message::default(), |data, (kind, value)| data.attribute(kind, &value.to_be_bytes()));
    let compare = Message::default()
        .attribute(1, &REGISTER_1.to_be_bytes())
        .attribute(2, &EQUAL.to_be_bytes())
        .nested(3, Message::default().attribute(1, &source.octets()));
    let expressions = [("payload", load), ("cmp", compare), ("masq", Message::default())];
    let list = expressions.into_iter().fold(Message::default(), |list, (name, data)| {
        list.nested(LIST_ELEMENT, Message::default().text(EXPRESSION_NAME, name).nested(EXPRESSION_DATA, data))
    });
    request(NEW_RULE).text(RULE_TABLE, table).text(RULE_CHAIN, "outbound").nested(RULE_EXPRESSIONS, list)
}

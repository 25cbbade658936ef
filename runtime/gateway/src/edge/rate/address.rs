//! Where a request comes from.
//!
//! Invariant: a header decides only when whoever wrote it is trusted: `X-Forwarded-For` is read from its end, each entry
//! believed because the one who added it is one of ours, up to the first who is not.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use http::HeaderMap;

/// Entries of `X-Forwarded-For` that are looked at.
const MOST_HOPS: usize = 32;

/// A block of addresses, such as `10.0.0.0/8`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    bits: u8,
}

/// A text that is no block of addresses. Trying again does not help.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a block of addresses; write an address, or one with its bits such as 10.0.0.0/8")]
pub struct InvalidNetwork(String);

impl FromStr for Network {
    type Err = InvalidNetwork;

    fn from_str(text: &str) -> Result<Self, InvalidNetwork> {
        let refused = || InvalidNetwork(text.chars().take(60).collect());
        let (address, bits) = text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
        let address: IpAddr = address.parse().map_err(|_| refused())?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let bits = match bits {
            None => most,
            Some(bits) if bits.len() <= 3 && bits.bytes().all(|b| b.is_ascii_digit()) => {
                bits.parse::<u8>().ok().filter(|bits| *bits <= most).ok_or_else(refused)?
            }
            Some(_) => return Err(refused()),
        };
        Ok(Self { address, bits })
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.bits)
    }
}

impl Network {
    /// Whether the address is one of the block.
    pub fn contains(&self, address: IpAddr) -> bool {
        let shift = |width: u32| width.saturating_sub(u32::from(self.bits));
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(net), IpAddr::V4(ip)) => {
                let differing = u32::from(net) ^ u32::from(ip);
                differing.checked_shr(shift(32)).unwrap_or(0) == 0
            }
            (IpAddr::V6(net), IpAddr::V6(ip)) => {
                let differing = u128::from(net) ^ u128::from(ip);
                differing.checked_shr(shift(128)).unwrap_or(0) == 0
            }
            _ => false,
        }
    }
}

/// Some blocks of addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Networks(pub Vec<Network>);

impl Networks {
    /// Whether the address is in one of them.
    pub fn contain(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(address))
    }
}

/// The address of the client, given who is connected and what the request says.
pub(crate) fn client_address(peer: IpAddr, headers: &HeaderMap, trusted: &Networks) -> IpAddr {
    let mut client = peer.to_canonical();
    if !trusted.contain(client) {
        return client;
    }
    let values = headers.get_all("x-forwarded-for").iter().rev();
    let entries = values.flat_map(|value| value.to_str().unwrap_or("?").rsplit(','));
    for entry in entries.take(MOST_HOPS) {
        // What is not an address was not written by one of ours.
        let Some(address) = entry_address(entry.trim()) else { break };
        client = address;
        if !trusted.contain(client) {
            break;
        }
    }
    client
}

/// An address, as some proxies write it with a port.
fn entry_address(entry: &str) -> Option<IpAddr> {
    let bare = entry.strip_prefix('[').and_then(|e| e.strip_suffix(']')).unwrap_or(entry);
    let address = bare.parse::<IpAddr>().ok().or_else(|| entry.parse::<std::net::SocketAddr>().ok().map(|a| a.ip()))?;
    Some(address.to_canonical())
}

/// What counts as one client among the anonymous: an IPv4 address, or a /64 of IPv6, which one host commonly has.
pub(crate) fn client_block(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(v4) => IpAddr::V4(v4),
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from(u128::from(v6) & !u128::from(u64::MAX))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    fn trusted(blocks: &[&str]) -> Networks {
        Networks(blocks.iter().map(|block| block.parse().expect("a block")).collect())
    }

    fn seen(peer: &str, forwarded: &[&str], trusting: &[&str]) -> IpAddr {
        let mut headers = HeaderMap::new();
        for value in forwarded {
            headers.append("x-forwarded-for", value.parse().expect("a value"));
        }
        client_address(ip(peer), &headers, &trusted(trusting))
    }

    #[test]
    fn blocks_contain_their_addresses_and_no_others() {
        let block: Network = "10.1.0.0/16".parse().expect("a block");
        assert!(block.contains(ip("10.1.255.255")) && block.contains(ip("::ffff:10.1.2.3")));
        assert!(!block.contains(ip("10.2.0.0")) && !block.contains(ip("::1")));
        let all: Network = "0.0.0.0/0".parse().expect("a block");
        assert!(all.contains(ip("255.1.2.3")) && !all.contains(ip("::1")));
        let one: Network = "::1".parse().expect("a block");
        assert!(one.contains(ip("::1")) && !one.contains(ip("::2")));
        let all6: Network = "::/0".parse().expect("a block");
        assert!(all6.contains(ip("fe80::1")));
        for bad in ["", "10.0.0.0/33", "10.0.0.0/", "10.0.0.0/+8", "::/129", "example.org", "10.0.0/8"] {
            assert!(bad.parse::<Network>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_stranger_cannot_choose_an_address() {
        assert_eq!(seen("203.0.113.9", &["1.2.3.4"], &[]), ip("203.0.113.9"));
        assert_eq!(seen("203.0.113.9", &["1.2.3.4"], &["10.0.0.0/8"]), ip("203.0.113.9"));
    }

    #[test]
    fn entries_are_believed_from_the_end_up_to_the_first_stranger() {
        let ours = ["10.0.0.0/8"];
        assert_eq!(seen("10.0.0.1", &["198.51.100.7"], &ours), ip("198.51.100.7"));
        assert_eq!(seen("10.0.0.1", &["6.6.6.6, 198.51.100.7"], &ours), ip("198.51.100.7"), "the first is made up");
        assert_eq!(seen("10.0.0.1", &["198.51.100.7, 10.9.9.9"], &ours), ip("198.51.100.7"));
        assert_eq!(seen("10.0.0.1", &["6.6.6.6", "198.51.100.7"], &ours), ip("198.51.100.7"), "two headers");
        assert_eq!(seen("10.0.0.1", &["198.51.100.7, nonsense"], &ours), ip("10.0.0.1"));
        assert_eq!(seen("10.0.0.1", &[], &ours), ip("10.0.0.1"));
        assert_eq!(seen("10.0.0.1", &["198.51.100.7:4711"], &ours), ip("198.51.100.7"));
        assert_eq!(seen("::ffff:10.0.0.1", &["[2001:db8::1]"], &ours), ip("2001:db8::1"));
        let long = vec!["10.0.0.2"; 1_000].join(",");
        assert_eq!(seen("10.0.0.1", &[&format!("6.6.6.6,{long}")], &ours), ip("10.0.0.2"), "a bounded walk");
    }

    #[test]
    fn a_host_with_many_addresses_is_one_client() {
        assert_eq!(client_block(ip("2001:db8::1")), client_block(ip("2001:db8::ffff:1")));
        assert_ne!(client_block(ip("2001:db8::1")), client_block(ip("2001:db8:0:1::1")));
        assert_eq!(client_block(ip("::ffff:1.2.3.4")), ip("1.2.3.4"));
        assert_ne!(client_block(ip("1.2.3.4")), client_block(ip("1.2.3.5")));
    }
}

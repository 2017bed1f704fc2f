// SPDX-License-Identifier: Apache-2.0
//! `inet`, `cidr`, `macaddr` and `macaddr8`, as the text that the server shows.

use highwater_core::value::{ColumnDecoder, ValueError, ValueWriter};
use std::fmt::Write;
use std::net::{Ipv4Addr, Ipv6Addr};

/// The longest text here: an IPv6 address with an IPv4 tail and a mask.
const TEXT_BYTES_MAX: usize = 64;

/// Text of a bounded length without an allocation.
struct ShortText {
    bytes: [u8; TEXT_BYTES_MAX],
    length: usize,
}

impl ShortText {
    fn new() -> Self {
        Self {
            bytes: [0; TEXT_BYTES_MAX],
            length: 0,
        }
    }

    fn deliver(&self, out: &mut dyn ValueWriter) -> Result<(), ValueError> {
        let text = self
            .bytes
            .get(..self.length)
            .and_then(|bytes| std::str::from_utf8(bytes).ok());
        out.string(text.ok_or(ValueError::new("network address has no text"))?);
        Ok(())
    }
}

impl Write for ShortText {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        let end = self.length + text.len();
        self.bytes
            .get_mut(self.length..end)
            .ok_or(std::fmt::Error)?
            .copy_from_slice(text.as_bytes());
        self.length = end;
        Ok(())
    }
}

/// `inet` and `cidr`.
#[derive(Debug)]
pub struct Network;

impl ColumnDecoder for Network {
    fn decode(&self, bytes: &[u8], out: &mut dyn ValueWriter) -> Result<(), ValueError> {
        let mut text = ShortText::new();
        write_network(bytes, &mut text).ok_or(ValueError::new("network address is malformed"))?;
        text.deliver(out)
    }
}

fn write_network(bytes: &[u8], text: &mut ShortText) -> Option<()> {
    // Family (2 for IPv4, 3 for IPv6 whatever the system's own numbers), mask, whether cidr, length, address.
    let ([family, mask, is_cidr, length], address) = bytes.split_first_chunk::<4>()?;
    if usize::from(*length) != address.len() {
        return None;
    }
    let mask_max = match family {
        2 => {
            write!(text, "{}", Ipv4Addr::from(<[u8; 4]>::try_from(address).ok()?)).ok()?;
            32
        }
        3 => {
            write_ipv6(<[u8; 16]>::try_from(address).ok()?, text)?;
            128
        }
        _ => return None,
    };
    match *mask {
        mask if mask > mask_max => None,
        mask if mask == mask_max && *is_cidr == 0 => Some(()),
        mask => write!(text, "/{mask}").ok(),
    }
}

/// As the server writes it, which shows an IPv4 tail not only for mapped addresses but after exactly 96 zero bits too
/// (`src/port/inet_net_ntop.c`).
fn write_ipv6(octets: [u8; 16], text: &mut ShortText) -> Option<()> {
    match octets {
        [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, a, b, c, d] if (a, b) != (0, 0) => {
            write!(text, "::{}", Ipv4Addr::new(a, b, c, d)).ok()
        }
        _ => write!(text, "{}", Ipv6Addr::from(octets)).ok(),
    }
}

/// `macaddr` and `macaddr8`.
#[derive(Debug)]
pub struct MacAddress {
    /// 6 or 8.
    pub octets: usize,
}

impl ColumnDecoder for MacAddress {
    fn decode(&self, bytes: &[u8], out: &mut dyn ValueWriter) -> Result<(), ValueError> {
        let malformed = ValueError::new("hardware address is malformed");
        if bytes.len() != self.octets {
            return Err(malformed);
        }
        let mut text = ShortText::new();
        for (place, octet) in bytes.iter().enumerate() {
            let colon = if place == 0 { "" } else { ":" };
            write!(text, "{colon}{octet:02x}").map_err(|_| malformed)?;
        }
        text.deliver(out)
    }
}

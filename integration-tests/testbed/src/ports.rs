// SPDX-License-Identifier: Apache-2.0
//! Free ports that stay ours across a restart of the server.
//!
//! A port that the kernel hands out for `bind(0)` lies in the range of outgoing connections: while the server is
//! down, a client that keeps trying to connect can be given that very port and meet itself. So ports are taken
//! below that range, each with a lock that other test processes respect for as long as the handle lives.

use std::net::{Ipv4Addr, TcpListener};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::cache::{self, Lock};
use crate::error::{Error, Result};

/// First port that is tried.
const PORT_MIN: u16 = 14_000;
/// One past the last port that is tried, unless the machine's outgoing range begins earlier.
const PORT_END: u16 = 32_000;

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A TCP port of 127.0.0.1, reserved until it is dropped.
#[derive(Debug)]
pub(crate) struct Port {
    number: u16,
    _lock: Lock,
}

impl Port {
    /// Reserves a port on which nobody listens.
    pub(crate) fn reserve() -> Result<Self> {
        let span = u32::from(outgoing_begin().min(PORT_END).saturating_sub(PORT_MIN)).max(1_000);
        let start = std::process::id().wrapping_mul(97);
        for _ in 0..span {
            let step = NEXT.fetch_add(1, Ordering::Relaxed);
            let offset = start.wrapping_add(step) % span;
            let number = PORT_MIN.saturating_add(u16::try_from(offset).unwrap_or(0));
            if let Some(lock) = cache::try_lock(&format!("port-{number}"))?
                && TcpListener::bind((Ipv4Addr::LOCALHOST, number)).is_ok()
            {
                return Ok(Self { number, _lock: lock });
            }
        }
        Err(Error::new(format!("no free port from {PORT_MIN} on 127.0.0.1")))
    }

    /// The port's number.
    pub(crate) fn number(&self) -> u16 {
        self.number
    }
}

fn outgoing_begin() -> u16 {
    std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range")
        .ok()
        .and_then(|range| range.split_whitespace().next()?.parse().ok())
        .unwrap_or(PORT_END)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_reservations_never_share_a_port() {
        let first = Port::reserve().unwrap();
        let second = Port::reserve().unwrap();
        assert_ne!(first.number(), second.number());
        assert!(cache::try_lock(&format!("port-{}", first.number())).unwrap().is_none());
    }
}

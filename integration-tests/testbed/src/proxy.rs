// SPDX-License-Identifier: Apache-2.0
//! A TCP proxy that misbehaves on command, in this process.
//!
//! ```text
//!   client ──▶ FaultProxy::address() ──▶ upstream
//!          ◀── stall, delay, throttle, corrupt, cut ──
//! ```
//!
//! Faults may be set at any time and hold for running connections too. A connection is served by two tasks, one for
//! each direction; all of them end with the proxy.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};

use crate::error::{Error, Result};

/// Bytes that are read at once from either side.
const BLOCK_BYTES: usize = 16 * 1024;
/// Blocks a throttled second is cut into, so that a slow stream trickles instead of coming in bursts.
const THROTTLE_SLICES: u64 = 20;

/// What is to happen to the traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Faults {
    /// New connections are closed at once, as by a host whose server is down.
    pub refuse: bool,
    /// Nothing is passed on in either direction; connections stay open.
    pub stall: bool,
    /// Each block waits this long before it is passed on.
    pub delay: Duration,
    /// Bytes per second and direction, if limited.
    pub bytes_per_second: Option<u64>,
}

/// Decides which byte of a block from the server is to be broken: it gets the block and how many bytes of this
/// connection came before it, and returns an index into the block.
pub type Corruption = dyn FnMut(&[u8], u64) -> Option<usize> + Send;

/// A proxy in front of a server; dropped, it cuts every connection and stops listening.
pub struct FaultProxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: AbortHandle,
}

struct Shared {
    upstream: Mutex<SocketAddr>,
    faults: watch::Sender<Faults>,
    cuts: watch::Sender<u64>,
    corruption: Mutex<Option<Box<Corruption>>>,
    corrupted: AtomicU64,
    connections: AtomicU64,
    from_server_bytes: AtomicU64,
}

impl std::fmt::Debug for FaultProxy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FaultProxy")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

impl FaultProxy {
    /// Listens on a free port of 127.0.0.1 and forwards to `upstream` (`127.0.0.1:PORT`).
    pub async fn start(upstream: &str) -> Result<Self> {
        let target = parse(upstream)?;
        let failed = |e: std::io::Error| Error::during("cannot listen for the fault proxy", e);
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let shared = Arc::new(Shared {
            upstream: Mutex::new(target),
            faults: watch::Sender::new(Faults::default()),
            cuts: watch::Sender::new(0),
            corruption: Mutex::new(None),
            corrupted: AtomicU64::new(0),
            connections: AtomicU64::new(0),
            from_server_bytes: AtomicU64::new(0),
        });
        let accepting = tokio::spawn(accept(listener, Arc::clone(&shared))).abort_handle();
        Ok(Self {
            address,
            shared,
            accepting,
        })
    }

    /// Where clients connect: `127.0.0.1:PORT`.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// The port where clients connect.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Forwards new connections to another server.
    pub fn set_upstream(&self, upstream: &str) -> Result<()> {
        *self.shared.upstream.lock().unwrap_or_else(PoisonError::into_inner) = parse(upstream)?;
        Ok(())
    }

    /// Replaces the faults; running connections feel them with their next block.
    pub fn set(&self, faults: Faults) {
        self.shared.faults.send_replace(faults);
    }

    /// Ends all faults, a pending corruption included; cut connections stay cut.
    pub fn heal(&self) {
        self.set(Faults::default());
        *self.shared.corruption.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Cuts every running connection. New ones are taken.
    pub fn cut(&self) {
        self.shared.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// The server is down, as clients see it: running connections are cut and new ones closed.
    pub fn down(&self) {
        self.set(Faults {
            refuse: true,
            ..Faults::default()
        });
        self.cut();
    }

    /// Nothing passes any more, and no connection ends.
    pub fn stall(&self) {
        self.set(Faults {
            stall: true,
            ..Faults::default()
        });
    }

    /// Inverts, once, the byte at `offset` of what the server sends on some connection: the first to get there.
    pub fn corrupt_at(&self, offset: u64) {
        self.corrupt_when(move |block, before| {
            usize::try_from(offset.checked_sub(before)?)
                .ok()
                .filter(|index| *index < block.len())
        });
    }

    /// Inverts, once, the byte that `find` points at.
    pub fn corrupt_when(&self, find: impl FnMut(&[u8], u64) -> Option<usize> + Send + 'static) {
        *self.shared.corruption.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(find));
    }

    /// How many bytes were broken so far.
    pub fn corrupted(&self) -> u64 {
        self.shared.corrupted.load(Ordering::Relaxed)
    }

    /// How many connections were taken so far, refused ones not counted.
    pub fn connections(&self) -> u64 {
        self.shared.connections.load(Ordering::Relaxed)
    }

    /// How many bytes servers have sent through the proxy so far.
    pub fn from_server_bytes(&self) -> u64 {
        self.shared.from_server_bytes.load(Ordering::Relaxed)
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        // The connections' tasks belong to the accepting one and end with it.
        self.accepting.abort();
    }
}

fn parse(upstream: &str) -> Result<SocketAddr> {
    upstream
        .parse()
        .map_err(|e| Error::during(format!("{upstream:?} is no address of the form 127.0.0.1:PORT"), e))
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            taken = listener.accept() => {
                let Ok((client, _)) = taken else { continue };
                if !shared.faults.borrow().refuse {
                    shared.connections.fetch_add(1, Ordering::Relaxed);
                    connections.spawn(connection(client, Arc::clone(&shared)));
                }
            }
            // Ended connections are forgotten, or the set would grow without bound.
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn connection(client: TcpStream, shared: Arc<Shared>) {
    let mut cuts = shared.cuts.subscribe();
    let upstream = *shared.upstream.lock().unwrap_or_else(PoisonError::into_inner);
    let Ok(server) = TcpStream::connect(upstream).await else {
        return;
    };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let up = pass(from_client, to_server, Direction::FromClient, &shared);
    let down = pass(from_server, to_client, Direction::FromServer, &shared);
    tokio::select! {
        _ = async { tokio::join!(up, down) } => {}
        _ = cuts.changed() => {}
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    FromClient,
    FromServer,
}

/// Passes one direction on until its end or an error; the other half learns of an end by the shutdown.
async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, direction: Direction, shared: &Shared) {
    let mut faults = shared.faults.subscribe();
    let mut block = vec![0; BLOCK_BYTES];
    let mut passed = 0;
    loop {
        let limit = faults.borrow().bytes_per_second.map_or(BLOCK_BYTES, slice);
        let Ok(count @ 1..) = from.read(&mut block[..limit]).await else {
            break;
        };
        let read = &mut block[..count];
        let present = match faults.wait_for(|faults| !faults.stall).await {
            Ok(present) => *present,
            Err(_) => break,
        };
        if direction == Direction::FromServer {
            shared.corrupt(read, passed);
            shared.from_server_bytes.fetch_add(count as u64, Ordering::Relaxed);
        }
        passed += count as u64;
        tokio::time::sleep(present.delay + wait_of(count, present.bytes_per_second)).await;
        if to.write_all(read).await.is_err() {
            break;
        }
    }
    let _ = to.shutdown().await;
}

fn slice(bytes_per_second: u64) -> usize {
    usize::try_from(bytes_per_second / THROTTLE_SLICES)
        .unwrap_or(BLOCK_BYTES)
        .clamp(1, BLOCK_BYTES)
}

fn wait_of(count: usize, bytes_per_second: Option<u64>) -> Duration {
    bytes_per_second.map_or(Duration::ZERO, |rate| {
        Duration::from_secs_f64(count as f64 / rate.max(1) as f64)
    })
}

impl Shared {
    fn corrupt(&self, block: &mut [u8], before: u64) {
        let mut corruption = self.corruption.lock().unwrap_or_else(PoisonError::into_inner);
        let found = corruption.as_mut().and_then(|find| find(block, before));
        if let Some(byte) = found.and_then(|index| block.get_mut(index)) {
            *byte = !*byte;
            self.corrupted.fetch_add(1, Ordering::Relaxed);
            *corruption = None;
        }
    }
}

#[cfg(test)]
mod tests;

// SPDX-License-Identifier: Apache-2.0
//! The byte stream under a connection: TCP or Unix socket, plain or TLS.
//!
//! A walsender writes each row by itself, so a reader that wakes at every arrival makes a system call per row. While a
//! stream is busy, [`BulkTcp`] raises the socket's low-water mark (`SO_RCVLOWAT`): it wakes once 64 KiB lie there, or
//! after a few milliseconds with what there is. Near the head of the log it wakes at once. The choice is made below TLS,
//! from the traffic alone.

use socket2::SockRef;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{Instant, Sleep, sleep};
use tokio_rustls::client::TlsStream;

/// While a stream is busy it wakes its reader once this many bytes lie ready.
const BULK_LOW_WATER_BYTES: usize = 64 * 1024;
/// The longest that bytes lie unread while a stream is busy. Also the window over which traffic is judged.
const BULK_WAIT: Duration = Duration::from_millis(4);
/// A stream is busy when this many bytes arrived within [`BULK_WAIT`], in reads too small to be worth a wake-up.
const BUSY_BYTES: usize = 48 * 1024;
/// A busy stream is calm again when at most this many bytes arrived within [`BULK_WAIT`].
const CALM_BYTES: usize = 8 * 1024;
/// Reads of this size on average need no help.
const GOOD_READ_BYTES: usize = 16 * 1024;

/// What a connection reads from and writes to.
#[derive(Debug)]
pub enum Stream {
    /// Without TLS.
    Plain(Socket),
    /// Inside TLS.
    Tls(Box<TlsStream<Socket>>),
}

/// TCP or Unix.
#[derive(Debug)]
pub enum Socket {
    /// TCP.
    Tcp(BulkTcp),
    /// A Unix socket, on which the low-water mark has no effect.
    Unix(UnixStream),
}

/// A TCP stream whose reads get larger while it is busy.
#[derive(Debug)]
pub struct BulkTcp {
    stream: TcpStream,
    bulk: bool,
    /// Runs while a busy stream waits for its low-water mark.
    timer: Pin<Box<Sleep>>,
    timer_runs: bool,
    window: Window,
}

/// The traffic of the last [`BULK_WAIT`].
#[derive(Debug)]
struct Window {
    began: Instant,
    bytes: usize,
    reads: usize,
}

impl Window {
    fn new() -> Self {
        Self {
            began: Instant::now(),
            bytes: 0,
            reads: 0,
        }
    }

    /// Counts a read; whether the stream proved to be busy with small reads.
    fn count(&mut self, bytes: usize) -> bool {
        let now = Instant::now();
        if now.duration_since(self.began) > BULK_WAIT {
            *self = Self {
                began: now,
                bytes: 0,
                reads: 0,
            };
        }
        self.bytes += bytes;
        self.reads += 1;
        self.bytes >= BUSY_BYTES && self.bytes / self.reads < GOOD_READ_BYTES
    }
}

impl BulkTcp {
    /// Takes over `stream`.
    pub fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            bulk: false,
            timer: Box::pin(sleep(BULK_WAIT)),
            timer_runs: false,
            window: Window::new(),
        }
    }

    /// Whether reads wait for the low-water mark now.
    pub fn is_bulk(&self) -> bool {
        self.bulk
    }

    /// A system that does not let the mark be set serves small reads instead.
    fn set_bulk(&mut self, bulk: bool) {
        let mark = if bulk { BULK_LOW_WATER_BYTES } else { 1 };
        self.bulk = set_low_water(&self.stream, mark).is_ok() && bulk;
        self.window = Window::new();
    }

    fn poll_read_plain(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        if self.window.count(buf.filled().len() - before) {
            self.set_bulk(true);
        }
        Poll::Ready(Ok(()))
    }

    fn poll_read_bulk(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if let Poll::Ready(result) = Pin::new(&mut self.stream).poll_read(cx, buf) {
            self.timer_runs = false;
            return Poll::Ready(result);
        }
        if !self.timer_runs {
            self.timer.as_mut().reset(Instant::now() + BULK_WAIT);
            self.timer_runs = true;
        }
        ready!(self.timer.as_mut().poll(cx));
        self.timer_runs = false;
        self.poll_read_overdue(cx, buf)
    }

    /// Takes what lies below the low-water mark. The system call goes past the runtime, whose idea of readiness is the
    /// mark's; a non-blocking receive returns what there is.
    fn poll_read_overdue(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let received = SockRef::from(&self.stream).recv(
            // SAFETY: `recv` writes initialised bytes only; none is made uninitialised again.
            unsafe { buf.unfilled_mut() },
        );
        match received {
            Ok(length) => {
                // SAFETY: the system wrote `length` bytes at the start of the unfilled part.
                unsafe { buf.assume_init(length) };
                buf.advance(length);
                if length <= CALM_BYTES {
                    self.set_bulk(false);
                }
                Poll::Ready(Ok(()))
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.set_bulk(false);
                self.poll_read_plain(cx, buf)
            }
            Err(error) => Poll::Ready(Err(error)),
        }
    }
}

/// Sets `SO_RCVLOWAT`. On lowering it Linux signals bytes that lie there already (`tcp_set_rcvlowat`).
#[cfg(target_os = "linux")]
fn set_low_water(stream: &TcpStream, bytes: usize) -> io::Result<()> {
    use std::os::fd::AsRawFd;
    let value = libc::c_int::try_from(bytes).map_err(io::Error::other)?;
    // SAFETY: the descriptor is open as long as `stream`; the option takes one int, whose address and size are given.
    let result = unsafe {
        libc::setsockopt(
            stream.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_RCVLOWAT,
            std::ptr::from_ref(&value).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Elsewhere the mark's effect on readiness is not known to be the same.
#[cfg(not(target_os = "linux"))]
fn set_low_water(_stream: &TcpStream, _bytes: usize) -> io::Result<()> {
    Err(io::Error::from(io::ErrorKind::Unsupported))
}

impl AsyncRead for BulkTcp {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.bulk {
            self.poll_read_bulk(cx, buf)
        } else {
            self.poll_read_plain(cx, buf)
        }
    }
}

impl AsyncWrite for BulkTcp {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

macro_rules! delegate {
    ($of:ident: $($variant:ident),+) => {
        impl AsyncRead for $of {
            fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
                match self.get_mut() { $(Self::$variant(stream) => Pin::new(stream).poll_read(cx, buf)),+ }
            }
        }

        impl AsyncWrite for $of {
            fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
                match self.get_mut() { $(Self::$variant(stream) => Pin::new(stream).poll_write(cx, bytes)),+ }
            }

            fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                match self.get_mut() { $(Self::$variant(stream) => Pin::new(stream).poll_flush(cx)),+ }
            }

            fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                match self.get_mut() { $(Self::$variant(stream) => Pin::new(stream).poll_shutdown(cx)),+ }
            }
        }
    };
}

delegate!(Socket: Tcp, Unix);
delegate!(Stream: Plain, Tls);

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    async fn pair() -> (BulkTcp, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (server, _) = listener.accept().await.unwrap();
        (BulkTcp::new(client), server)
    }

    #[tokio::test]
    async fn a_busy_stream_goes_bulk_loses_nothing_and_calms_down_again() {
        let (mut reader, mut writer) = pair().await;
        let total = 8 * 1024 * 1024;
        let writing = tokio::spawn(async move {
            let row = [7_u8; 512];
            for _ in 0..total / row.len() {
                writer.write_all(&row).await.unwrap();
            }
            writer
        });
        // Judged by a slow clock on a loaded machine the stream may look calm: force the mode that is under test.
        reader.set_bulk(true);
        assert!(reader.is_bulk() || !cfg!(target_os = "linux"));
        let mut received = 0;
        let mut buffer = vec![0_u8; 256 * 1024];
        while received < total {
            received += reader.read(&mut buffer).await.unwrap();
        }
        let mut writer = writing.await.unwrap();
        assert_eq!(received, total);

        // A few bytes arrive although they lie far below the mark, and the stream is plain afterwards.
        reader.set_bulk(true);
        writer.write_all(b"tail").await.unwrap();
        let length = reader.read(&mut buffer).await.unwrap();
        assert_eq!(&buffer[..length], b"tail");
        assert!(!reader.is_bulk());
        writer.write_all(b"more").await.unwrap();
        assert_eq!(reader.read(&mut buffer).await.unwrap(), 4);
    }

    #[tokio::test]
    async fn the_end_of_a_bulk_stream_is_seen() {
        let (mut reader, writer) = pair().await;
        reader.set_bulk(true);
        drop(writer);
        assert_eq!(reader.read(&mut [0_u8; 16]).await.unwrap(), 0);
    }

    #[test]
    fn only_much_traffic_in_small_reads_counts_as_busy() {
        let mut window = Window::new();
        assert!(!window.count(1_000));
        let mut large = Window::new();
        assert!(!large.count(BUSY_BYTES), "one large read needs no help");
        let mut small = Window::new();
        let busy = (0..BUSY_BYTES / 512).map(|_| small.count(512)).last();
        assert_eq!(busy, Some(true));
    }
}

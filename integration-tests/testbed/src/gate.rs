// SPDX-License-Identifier: Apache-2.0
//! A gate before an HTTP server, as a reverse proxy in production is one: TLS, and a name and password to be shown.
//!
//! ```text
//!   client ──https, basic authentication──▶ Gate ──http──▶ server
//!          ◀──────────── 401 ──────────────
//! ```
//!
//! A connection carries one request.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;
use tokio_rustls::TlsAcceptor;

use crate::certificates::Identity;
use crate::error::{Error, Result};

/// Bytes of a request that are taken.
const REQUEST_BYTES_MAX: usize = 4 * 1024 * 1024;

/// A running gate; dropped, it listens no more.
#[derive(Debug)]
pub struct Gate {
    port: u16,
    counts: Arc<Counts>,
    accepting: AbortHandle,
}

#[derive(Debug, Default)]
struct Counts {
    passed: AtomicU64,
    refused: AtomicU64,
}

struct Door {
    upstream_port: u16,
    acceptor: TlsAcceptor,
    /// The header that is to be shown.
    authorization: String,
    counts: Arc<Counts>,
}

impl Gate {
    /// Listens on a free port of 127.0.0.1 as `identity` and lets requests with the right `user` and `password` through
    /// to the server at `upstream_port`.
    pub async fn start(upstream_port: u16, identity: &Identity, user: &str, password: &str) -> Result<Self> {
        let failed = |e: std::io::Error| Error::during("cannot listen for the gate", e);
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.map_err(failed)?;
        let port = listener.local_addr().map_err(failed)?.port();
        let counts = Arc::new(Counts::default());
        let door = Arc::new(Door {
            upstream_port,
            acceptor: TlsAcceptor::from(Arc::new(config(identity)?)),
            authorization: format!("Basic {}", STANDARD.encode(format!("{user}:{password}"))),
            counts: Arc::clone(&counts),
        });
        let accepting = tokio::spawn(async move {
            loop {
                if let Ok((client, _)) = listener.accept().await {
                    let door = Arc::clone(&door);
                    // A client that breaks off, as one that does not trust the certificate does, harms nobody else.
                    tokio::spawn(async move { door.serve(client).await });
                }
            }
        })
        .abort_handle();
        Ok(Self {
            port,
            counts,
            accepting,
        })
    }

    /// The TCP port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// How many requests were let through so far.
    pub fn passed(&self) -> u64 {
        self.counts.passed.load(Ordering::Relaxed)
    }

    /// How many requests showed no or wrong credentials so far.
    pub fn refused(&self) -> u64 {
        self.counts.refused.load(Ordering::Relaxed)
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

fn config(identity: &Identity) -> Result<ServerConfig> {
    let unusable = |e: &dyn std::fmt::Display| Error::new(format!("the gate's certificate cannot be used: {e}"));
    let certificate = CertificateDer::from_pem_slice(identity.certificate_pem.as_bytes()).map_err(|e| unusable(&e))?;
    let key = PrivateKeyDer::from_pem_slice(identity.key_pem.as_bytes()).map_err(|e| unusable(&e))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| unusable(&e))?
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .map_err(|e| unusable(&e))
}

impl Door {
    async fn serve(&self, client: TcpStream) -> Option<()> {
        let mut client = self.acceptor.accept(client).await.ok()?;
        let request = read_request(&mut client).await?;
        let (head, body) = request.split_at(request.windows(4).position(|end| end == b"\r\n\r\n")?);
        let head = String::from_utf8_lossy(head);
        let shown = header(&head, "authorization");
        if shown != Some(self.authorization.as_str()) {
            self.counts.refused.fetch_add(1, Ordering::Relaxed);
            let refusal = "HTTP/1.1 401 Unauthorized\r\nwww-authenticate: Basic realm=\"gate\"\r\n\
                           content-length: 0\r\nconnection: close\r\n\r\n";
            client.write_all(refusal.as_bytes()).await.ok()?;
        } else {
            self.counts.passed.fetch_add(1, Ordering::Relaxed);
            let mut server = TcpStream::connect(("127.0.0.1", self.upstream_port)).await.ok()?;
            let head = format!("{head}\r\nconnection: close");
            server.write_all(head.as_bytes()).await.ok()?;
            server.write_all(body).await.ok()?;
            tokio::io::copy(&mut server, &mut client).await.ok()?;
        }
        client.shutdown().await.ok()
    }
}

/// A header of a request's head.
fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = head.lines().filter_map(|line| line.split_once(':'));
    let (_, value) = lines.find(|(of, _)| of.eq_ignore_ascii_case(name))?;
    Some(value.trim())
}

/// One request, whole.
async fn read_request(client: &mut (impl AsyncRead + Unpin)) -> Option<Vec<u8>> {
    let mut request = Vec::new();
    loop {
        if client.read_buf(&mut request).await.ok()? == 0 || request.len() > REQUEST_BYTES_MAX {
            return None;
        }
        if let Some(end) = request.windows(4).position(|end| end == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&request[..end]);
            let length = header(&head, "content-length").and_then(|length| length.parse::<usize>().ok());
            if request.len() >= end + 4 + length.unwrap_or(0) {
                return Some(request);
            }
        }
    }
}

// SPDX-License-Identifier: Apache-2.0
//! Answers requests on the local socket.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use highwater_core::{Error, ErrorKind, Result};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use super::live::{Live, order_of};
use super::request::{Answer, Request, Told};
use crate::tail::{Tail, TailRequest, certificates};
use crate::telemetry::status::StatusBoard;

/// Connections served at once.
const CONNECTIONS_MAX: usize = 32;
/// Bytes of a request.
const REQUEST_BYTES_MAX: u64 = 1 << 20;
/// The longest that a request may take to arrive.
const REQUEST_WAIT_MAX: Duration = Duration::from_secs(10);
/// Wait after the system refused a connection (too many open files).
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// The local socket. Dropping it removes the socket and ends every request.
#[derive(Debug)]
pub struct Server {
    path: PathBuf,
    task: JoinHandle<()>,
}

impl Server {
    /// Listens at `path`; a socket that a dead process left there is replaced. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// [`ErrorKind::Unsuitable`] when a living process listens there, [`ErrorKind::Storage`] when the path cannot be
    /// used: it is too long (about 100 bytes) or its folder is missing.
    pub fn start(path: &Path, board: Arc<StatusBoard>, live: Live) -> Result<Self> {
        let failed = |error: std::io::Error| {
            Error::new(
                ErrorKind::Storage,
                format!("cannot listen on socket \"{}\"", path.display()),
            )
            .with_fix("set admin.socket to a short path in a folder that this user can write")
            .with_source(error)
        };
        if std::os::unix::net::UnixStream::connect(path).is_ok() {
            return Err(Error::new(
                ErrorKind::Unsuitable,
                format!("another process listens on socket \"{}\"", path.display()),
            )
            .with_fix("stop it, or set admin.socket to another path"));
        }
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        let listener = UnixListener::bind(path).map_err(failed)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).map_err(failed)?;
        let task = tokio::spawn(accept(listener, board, live));
        Ok(Server {
            path: path.to_owned(),
            task,
        })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
        let _ = std::fs::remove_file(&self.path);
    }
}

async fn accept(listener: UnixListener, board: Arc<StatusBoard>, live: Live) {
    let mut served = tokio::task::JoinSet::new();
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        while served.try_join_next().is_some() {}
        let Ok(permit) = room.clone().acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((stream, _)) => {
                let (board, live) = (board.clone(), live.clone());
                served.spawn(async move {
                    serve(stream, &board, &live).await;
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "the local socket refused a connection");
                tokio::time::sleep(ACCEPT_RETRY).await;
            }
        }
    }
}

async fn serve(stream: UnixStream, board: &StatusBoard, live: &Live) {
    let (read, mut write) = stream.into_split();
    let mut read = BufReader::new(read.take(REQUEST_BYTES_MAX));
    let mut line = String::new();
    if !matches!(
        tokio::time::timeout(REQUEST_WAIT_MAX, read.read_line(&mut line)).await,
        Ok(Ok(1..))
    ) {
        return;
    }
    let answered = tokio::select! {
        answered = answer(&line, board, live, &mut write) => answered,
        // Nothing more is expected: what comes is the end of the connection.
        () = gone(&mut read) => return,
    };
    let last = match answered {
        Ok(value) => Answer::End(value),
        Err(error) => Answer::Error(Told::of(&error)),
    };
    let _ = send(&mut write, &last).await;
}

async fn gone(read: &mut BufReader<tokio::io::Take<OwnedReadHalf>>) {
    let mut rest = [0; 64];
    while matches!(read.read(&mut rest).await, Ok(1..)) {}
}

async fn answer(line: &str, board: &StatusBoard, live: &Live, write: &mut OwnedWriteHalf) -> Result<Value> {
    let request: Request = serde_json::from_str(line).map_err(|error| {
        Error::new(
            ErrorKind::Configuration,
            format!("the request is not understood: {error}"),
        )
        .with_fix("use a client of the same release as the pipeline")
    })?;
    if let Some(order) = order_of(&request) {
        return live.order(order).await;
    }
    match request {
        Request::Topics => {
            for topic in live.transport.topics().await? {
                item(write, json!(topic)).await?;
            }
            Ok(json!({}))
        }
        Request::Tail(request) => tail(&request, live, write).await,
        Request::Certificates { table } => {
            for certificate in certificates(&*live.transport, &live.prefix).await? {
                if table.as_deref().is_none_or(|table| is_of(&certificate, table)) {
                    item(write, certificate).await?;
                }
            }
            Ok(json!({}))
        }
        _ => Ok(json!(board.read())),
    }
}

fn is_of(certificate: &Value, table: &str) -> bool {
    let part = |name: &str| certificate["table"][name].as_str().unwrap_or_default();
    format!("{}.{}", part("schema"), part("table")) == table
}

async fn tail(request: &TailRequest, live: &Live, write: &mut OwnedWriteHalf) -> Result<Value> {
    let mut tail = Tail::open(&*live.transport, live.registry.clone(), live.format, request).await?;
    let mut count = 0_u64;
    while let Some(event) = tail.next().await? {
        count += 1;
        item(write, json!(event)).await?;
    }
    Ok(json!({ "events": count }))
}

async fn item(write: &mut OwnedWriteHalf, value: Value) -> Result<()> {
    send(write, &Answer::Item(value)).await
}

async fn send(write: &mut OwnedWriteHalf, answer: &Answer) -> Result<()> {
    let mut line =
        serde_json::to_vec(answer).map_err(|error| Error::bug("an answer is not JSON").with_source(error))?;
    line.push(b'\n');
    let sent = write.write_all(&line).await;
    sent.map_err(|error| Error::new(ErrorKind::Cancelled, "the client went away").with_source(error))
}

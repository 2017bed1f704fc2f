// SPDX-License-Identifier: Apache-2.0
//! Asks a running pipeline over its local socket.

use std::path::{Path, PathBuf};

use highwater_core::{Error, ErrorKind, Result};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;

use super::request::{Answer, Request};

/// A client of one socket. Each request has a connection of its own.
#[derive(Debug, Clone)]
pub struct Client {
    path: PathBuf,
}

impl Client {
    /// A client of the socket at `path`; connects with each request.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Client { path: path.into() }
    }

    /// The socket.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Asks, hands each item to `item` until it says `false`, and gives what the answer ends with; null when `item`
    /// ended it.
    ///
    /// # Errors
    /// [`ErrorKind::Unreachable`] when no pipeline listens or it ends before the answer does; the pipeline's own errors;
    /// those of `item`.
    pub async fn ask(&self, request: &Request, mut item: impl FnMut(Value) -> Result<bool>) -> Result<Value> {
        let mut stream = UnixStream::connect(&self.path).await.map_err(|error| {
            Error::new(
                ErrorKind::Unreachable,
                format!("no running pipeline listens on socket \"{}\"", self.path.display()),
            )
            .with_fix("start it: highwater run FILE; or name its socket with --socket")
            .with_source(error)
        })?;
        let broken = |error: std::io::Error| {
            Error::new(ErrorKind::Unreachable, "the pipeline ended before its answer did").with_source(error)
        };
        let mut line =
            serde_json::to_vec(request).map_err(|error| Error::bug("a request is not JSON").with_source(error))?;
        line.push(b'\n');
        stream.write_all(&line).await.map_err(broken)?;
        let mut lines = BufReader::new(stream).lines();
        while let Some(line) = lines.next_line().await.map_err(broken)? {
            let answer = serde_json::from_str(&line).map_err(|error| {
                Error::new(ErrorKind::CorruptMessage, "the pipeline's answer is not understood").with_source(error)
            })?;
            match answer {
                Answer::Item(value) => {
                    if !item(value)? {
                        return Ok(Value::Null);
                    }
                }
                Answer::End(value) => return Ok(value),
                Answer::Error(told) => return Err(told.into_error()),
            }
        }
        Err(Error::new(
            ErrorKind::Unreachable,
            "the pipeline ended before its answer did",
        ))
    }

    /// Asks for one value.
    ///
    /// # Errors
    /// Those of [`Client::ask`].
    pub async fn get(&self, request: &Request) -> Result<Value> {
        self.ask(request, |_| Ok(true)).await
    }

    /// Asks for a list of items.
    ///
    /// # Errors
    /// Those of [`Client::ask`].
    pub async fn list(&self, request: &Request) -> Result<Vec<Value>> {
        let mut items = Vec::new();
        self.ask(request, |value| {
            items.push(value);
            Ok(true)
        })
        .await?;
        Ok(items)
    }
}

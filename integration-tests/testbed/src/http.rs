// SPDX-License-Identifier: Apache-2.0
//! The few requests by which the test-bed sets up a registry on this machine; no client library is worth them.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::error::{Error, Result};

/// Bytes of an answer that are read.
const ANSWER_BYTES_MAX: u64 = 1024 * 1024;

/// An HTTP answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: String,
}

/// Sends one request to 127.0.0.1 and reads the answer to its end.
pub(crate) async fn request(port: u16, method: &str, path: &str, json: &str) -> Result<Answer> {
    let failed = |e: std::io::Error| Error::during(format!("{method} 127.0.0.1:{port}{path}"), e);
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.map_err(failed)?;
    let head = format!(
        "{method} {path} HTTP/1.0\r\nHost: 127.0.0.1:{port}\r\nAccept: */*\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{json}",
        json.len()
    );
    stream.write_all(head.as_bytes()).await.map_err(failed)?;
    let mut bytes = Vec::new();
    stream
        .take(ANSWER_BYTES_MAX)
        .read_to_end(&mut bytes)
        .await
        .map_err(failed)?;
    let text = String::from_utf8_lossy(&bytes);
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    let status = status.ok_or_else(|| Error::new(format!("no HTTP answer from 127.0.0.1:{port}{path}")))?;
    Ok(Answer {
        status,
        body: body.to_owned(),
    })
}

// SPDX-License-Identifier: Apache-2.0
//! Requests to servers on this machine, as plain as a test needs them.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// The body of an answer with status 200.
///
/// # Panics
/// On any other answer, or none.
pub async fn get(port: u16, path: &str) -> String {
    request(port, "GET", path, "").await
}

/// The body of the answer to a request with a JSON body, with status 200.
///
/// # Panics
/// On any other answer, or none.
pub async fn request(port: u16, method: &str, path: &str, body: &str) -> String {
    // HTTP/1.0: no chunks, and the end of the connection is the end of the body.
    let head = format!(
        "{method} {path} HTTP/1.0\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let mut stream = TcpStream::connect(("127.0.0.1", port))
        .await
        .expect("the server listens");
    stream
        .write_all((head + body).as_bytes())
        .await
        .expect("the server reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("the server answers");
    let (head, body) = answer.split_once("\r\n\r\n").expect("an answer has a head");
    let status = head.split(' ').nth(1).unwrap_or_default();
    assert_eq!(status, "200", "{method} {path}: {answer}");
    body.to_owned()
}

// SPDX-License-Identifier: Apache-2.0
use std::time::Instant;

use super::*;

const LIMIT: Duration = Duration::from_secs(10);
const SHORT: Duration = Duration::from_millis(150);

/// A server that sends back what it gets.
async fn echo() -> String {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut from, mut to) = stream.into_split();
                let _ = tokio::io::copy(&mut from, &mut to).await;
            });
        }
    });
    address
}

async fn proxied() -> (FaultProxy, TcpStream) {
    let proxy = FaultProxy::start(&echo().await).await.unwrap();
    let stream = TcpStream::connect(proxy.address()).await.unwrap();
    (proxy, stream)
}

async fn ask(stream: &mut TcpStream, question: &[u8]) -> std::io::Result<Vec<u8>> {
    stream.write_all(question).await?;
    let mut answer = vec![0; question.len()];
    tokio::time::timeout(LIMIT, stream.read_exact(&mut answer))
        .await
        .unwrap()?;
    Ok(answer)
}

#[tokio::test]
async fn without_faults_bytes_pass_unchanged() {
    let (proxy, mut stream) = proxied().await;
    let much: Vec<u8> = (0..200_000_u32).map(|n| n.to_le_bytes()[0]).collect();
    let (mut from, mut to) = stream.split();
    let mut back = vec![0; much.len()];
    let (sent, read) = tokio::join!(to.write_all(&much), from.read_exact(&mut back));
    sent.unwrap();
    read.unwrap();
    assert!(back == much);
    assert_eq!((proxy.connections(), proxy.from_server_bytes()), (1, 200_000));
}

#[tokio::test]
async fn a_cut_ends_running_connections_and_new_ones_are_taken() {
    let (proxy, mut stream) = proxied().await;
    ask(&mut stream, b"alive").await.unwrap();
    proxy.cut();
    assert!(ask(&mut stream, b"dead").await.is_err());
    let mut again = TcpStream::connect(proxy.address()).await.unwrap();
    assert_eq!(ask(&mut again, b"alive").await.unwrap(), b"alive");
}

#[tokio::test]
async fn a_server_that_is_down_closes_connections_until_it_is_healed() {
    let (proxy, mut stream) = proxied().await;
    ask(&mut stream, b"alive").await.unwrap();
    proxy.down();
    assert!(ask(&mut stream, b"dead").await.is_err());
    let mut refused = TcpStream::connect(proxy.address()).await.unwrap();
    assert!(ask(&mut refused, b"dead").await.is_err());
    proxy.heal();
    let mut again = TcpStream::connect(proxy.address()).await.unwrap();
    assert_eq!(ask(&mut again, b"alive").await.unwrap(), b"alive");
}

#[tokio::test]
async fn a_stalled_connection_is_silent_and_then_loses_nothing() {
    let (proxy, mut stream) = proxied().await;
    proxy.stall();
    stream.write_all(b"late").await.unwrap();
    let mut answer = [0; 4];
    assert!(
        tokio::time::timeout(SHORT, stream.read_exact(&mut answer))
            .await
            .is_err(),
        "a stall let bytes through"
    );
    proxy.heal();
    tokio::time::timeout(LIMIT, stream.read_exact(&mut answer))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(&answer, b"late");
}

#[tokio::test]
async fn a_delay_and_a_throttle_take_their_time() {
    let (proxy, mut stream) = proxied().await;
    proxy.set(Faults {
        delay: SHORT,
        ..Faults::default()
    });
    let began = Instant::now();
    ask(&mut stream, b"slow").await.unwrap();
    assert!(began.elapsed() >= SHORT * 2, "both directions wait");
    proxy.set(Faults {
        bytes_per_second: Some(10_000),
        ..Faults::default()
    });
    let began = Instant::now();
    ask(&mut stream, &[7; 3_000]).await.unwrap();
    assert!(began.elapsed() >= Duration::from_millis(290), "{:?}", began.elapsed());
}

#[tokio::test]
async fn one_byte_of_the_server_is_broken_at_the_offset_and_only_once() {
    let (proxy, mut stream) = proxied().await;
    proxy.corrupt_at(6);
    assert_eq!(ask(&mut stream, b"0123").await.unwrap(), b"0123");
    assert_eq!(ask(&mut stream, b"4567").await.unwrap(), [b'4', b'5', !b'6', b'7']);
    assert_eq!(ask(&mut stream, b"0123456789").await.unwrap(), b"0123456789");
    assert_eq!(proxy.corrupted(), 1);
}

#[tokio::test]
async fn a_predicate_chooses_the_byte_that_is_broken() {
    let (proxy, mut stream) = proxied().await;
    proxy.corrupt_when(|block, _| block.iter().position(|byte| *byte == b'w'));
    assert_eq!(ask(&mut stream, b"hello").await.unwrap(), b"hello");
    assert_eq!(
        ask(&mut stream, b"world").await.unwrap(),
        [!b'w', b'o', b'r', b'l', b'd']
    );
}

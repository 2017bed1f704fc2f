// SPDX-License-Identifier: Apache-2.0
//! The start-up state machine against scripted servers, honest and false ones.

use super::*;
use proptest::prelude::*;

fn begin(password: Option<&str>, channel: Channel) -> (Handshake, BytesMut) {
    let mut out = BytesMut::new();
    let credentials = Credentials {
        user: "mover".into(),
        database: "catalogue".into(),
        password: password.map(|password| password.as_bytes().to_vec()),
    };
    let handshake = Handshake::start(credentials, channel, true, "highwater", &mut out).unwrap();
    (handshake, out)
}

fn authentication(method: i32, rest: &[u8]) -> Vec<u8> {
    [method.to_be_bytes().as_slice(), rest].concat()
}

#[test]
fn the_startup_message_asks_for_a_walsender_of_the_database() {
    let (_, out) = begin(None, Channel::Plain);
    let text = String::from_utf8_lossy(&out);
    assert!(text.contains("user\0mover\0database\0catalogue\0"), "{text}");
    assert!(text.contains("replication\0database\0"), "{text}");
    assert_eq!(&out[4..8], &196_608_i32.to_be_bytes());
}

#[test]
fn trust_leads_straight_to_ready_through_the_parameters() {
    let (mut handshake, mut out) = begin(None, Channel::Plain);
    handshake.receive(b'R', &authentication(0, b""), &mut out).unwrap();
    handshake.receive(b'S', b"server_version\x0015.8\0", &mut out).unwrap();
    handshake.receive(b'K', b"\0\0\0\x2A\0\0\0\x01", &mut out).unwrap();
    assert_eq!(handshake.receive(b'Z', b"I", &mut out), Ok(Progress::Ready));
}

#[test]
fn md5_and_cleartext_send_the_password_in_their_form() {
    let (mut handshake, mut out) = begin(Some("secret"), Channel::Plain);
    out.clear();
    handshake
        .receive(b'R', &authentication(5, b"\x01\x02\x03\x04"), &mut out)
        .unwrap();
    assert_eq!(out[0], b'p');
    let expected = md5_hash(b"mover", b"secret", [1, 2, 3, 4]);
    assert_eq!(&out[5..out.len() - 1], expected.as_bytes());

    let (mut handshake, mut out) = begin(Some("secret"), Channel::Plain);
    out.clear();
    handshake.receive(b'R', &authentication(3, b""), &mut out).unwrap();
    assert_eq!(out.as_ref(), b"p\0\0\0\x0Bsecret\0");
}

#[test]
fn a_missing_password_is_named() {
    for (method, rest) in [(3, b"".as_slice()), (5, b"1234"), (10, b"SCRAM-SHA-256\0\0")] {
        let (mut handshake, mut out) = begin(None, Channel::Plain);
        let error = handshake
            .receive(b'R', &authentication(method, rest), &mut out)
            .unwrap_err();
        assert!(error.to_string().contains("none is set"), "{error}");
    }
}

#[test]
fn channel_binding_is_used_when_both_sides_can() {
    let bound = Channel::Tls {
        server_end_point: Some(vec![7; 32]),
    };
    let offers = b"SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0";
    for (channel, offers, mechanism, header) in [
        (
            bound.clone(),
            offers.as_slice(),
            "SCRAM-SHA-256-PLUS",
            "p=tls-server-end-point,,",
        ),
        (bound, b"SCRAM-SHA-256\0\0", "SCRAM-SHA-256", "y,,"),
        (
            Channel::Tls { server_end_point: None },
            offers.as_slice(),
            "SCRAM-SHA-256",
            "n,,",
        ),
        (Channel::Plain, b"SCRAM-SHA-256\0\0", "SCRAM-SHA-256", "n,,"),
    ] {
        let (mut handshake, mut out) = begin(Some("secret"), channel);
        out.clear();
        handshake.receive(b'R', &authentication(10, offers), &mut out).unwrap();
        let sent = String::from_utf8_lossy(&out[5..]).into_owned();
        assert!(sent.starts_with(&format!("{mechanism}\0")), "{sent}");
        assert!(sent.contains(&format!("{header}n=,r=")), "{sent}");
    }
}

#[test]
fn a_server_that_skips_its_proof_is_not_believed() {
    let (mut handshake, mut out) = begin(Some("secret"), Channel::Plain);
    handshake
        .receive(b'R', &authentication(10, b"SCRAM-SHA-256\0\0"), &mut out)
        .unwrap();
    let error = handshake.receive(b'R', &authentication(0, b""), &mut out).unwrap_err();
    assert!(error.to_string().contains("without proof"), "{error}");
}

#[test]
fn a_server_with_a_false_nonce_is_refused() {
    let (mut handshake, mut out) = begin(Some("secret"), Channel::Plain);
    handshake
        .receive(b'R', &authentication(10, b"SCRAM-SHA-256\0\0"), &mut out)
        .unwrap();
    let first = b"r=not-your-nonce,s=QSXCR+Q6sek8bf92,i=4096";
    let error = handshake
        .receive(b'R', &authentication(11, first), &mut out)
        .unwrap_err();
    assert!(matches!(error, ProtocolError::Authentication(_)), "{error}");
}

#[test]
fn kerberos_and_strange_messages_are_errors() {
    let (mut handshake, mut out) = begin(Some("secret"), Channel::Plain);
    let error = handshake.receive(b'R', &authentication(7, b""), &mut out).unwrap_err();
    assert!(error.to_string().contains("scram-sha-256"), "{error}");
    let (mut handshake, mut out) = begin(Some("secret"), Channel::Plain);
    assert!(
        handshake.receive(b'Z', b"I", &mut out).is_err(),
        "ready before authentication"
    );
    assert!(handshake.receive(b'D', b"", &mut out).is_err());
}

#[test]
fn a_refusal_keeps_its_sqlstate() {
    let (mut handshake, mut out) = begin(Some("secret"), Channel::Plain);
    let error = handshake
        .receive(b'E', b"VFATAL\0C28P01\0Mno\0\0", &mut out)
        .unwrap_err();
    let ProtocolError::Server(server) = error else {
        panic!("not the server's error")
    };
    assert_eq!(server.sqlstate, "28P01");
}

#[test]
fn only_s_and_n_answer_a_request_for_tls() {
    assert_eq!(tls_answer(b'S'), Ok(TlsAnswer::Accepted));
    assert_eq!(tls_answer(b'N'), Ok(TlsAnswer::Refused));
    assert!(tls_answer(b'E').is_err());
}

#[test]
fn the_password_does_not_show_in_debug_output() {
    let (handshake, _) = begin(Some("secret"), Channel::Plain);
    assert!(!format!("{handshake:?}").contains("secret"));
}

proptest! {
    #[test]
    fn never_panics_on_any_script(
        script in prop::collection::vec((prop::sample::select(&b"RRRSKZEN"[..]), 0_u8..14, prop::collection::vec(any::<u8>(), 0..60)), 0..8),
    ) {
        let mut bytes = Vec::new();
        for (tag, method, rest) in script {
            let body = if tag == b'R' { authentication(i32::from(method), &rest) } else { rest };
            bytes.push(tag);
            bytes.extend_from_slice(&(body.len() as i32 + 4).to_be_bytes());
            bytes.extend_from_slice(&body);
        }
        crate::fuzzing::handshake(&bytes);
    }
}

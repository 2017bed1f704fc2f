// SPDX-License-Identifier: Apache-2.0
//! Bytes as the manual has them, and every cut of them.

use crate::protocol::pgoutput::{PgOutput, decode, decode_in_piece};
use crate::protocol::stream_messages::{StreamAbort, StreamCommit, StreamStart};
use crate::protocol::two_phase_messages::{CommitPrepared, Prepared, RollbackPrepared};
use crate::protocol::{Lsn, ProtocolError};
use proptest::prelude::*;

const START: &[u8] = b"S\0\0\x02\xF5\x01";
const COMMIT: &[u8] = b"c\0\0\x02\xF5\0\0\0\0\0\x01\x50\x00\x10\0\0\0\0\x01\x50\x00\x40\0\0\0\0\0\0\0\x07";
const ABORT: &[u8] = b"A\0\0\x02\xF5\0\0\x02\xF6";
const ABORT_AT: &[u8] = b"A\0\0\x02\xF5\0\0\x02\xF6\0\0\0\0\x01\x50\x00\x10\0\0\0\0\0\0\0\x07";
const BEGIN_PREPARE: &[u8] =
    b"b\0\0\0\0\x01\x50\x00\x10\0\0\0\0\x01\x50\x00\x40\0\0\0\0\0\0\0\x07\0\0\x02\xF5order 9\0";
const PREPARE: &[u8] = b"P\0\0\0\0\0\x01\x50\x00\x10\0\0\0\0\x01\x50\x00\x40\0\0\0\0\0\0\0\x07\0\0\x02\xF5order 9\0";
const STREAM_PREPARE: &[u8] =
    b"p\0\0\0\0\0\x01\x50\x00\x10\0\0\0\0\x01\x50\x00\x40\0\0\0\0\0\0\0\x07\0\0\x02\xF5order 9\0";
const COMMIT_PREPARED: &[u8] =
    b"K\0\0\0\0\0\x01\x50\x00\x10\0\0\0\0\x01\x50\x00\x40\0\0\0\0\0\0\0\x07\0\0\x02\xF5order 9\0";
const ROLLBACK_PREPARED: &[u8] =
    b"r\0\0\0\0\0\x01\x50\x00\x10\0\0\0\0\x01\x50\x00\x40\0\0\0\0\0\0\0\x07\0\0\0\0\0\0\0\x08\0\0\x02\xF5order 9\0";

const INSERT: &[u8] = b"I\0\0\x02\xF6\0\0\x40\x01N\0\x01b\0\0\0\x04\0\0\0\x07";
const TRUNCATE: &[u8] = b"T\0\0\x02\xF6\0\0\0\x01\0\0\0\x40\x01";
const RELATION: &[u8] = b"R\0\0\x02\xF6\0\0\x40\x01public\0movies\0d\0\x01\x01id\0\0\0\0\x17\xFF\xFF\xFF\xFF";
const MESSAGE: &[u8] = b"M\0\0\x02\xF6\x01\0\0\0\0\x01\x50\x00\x10highwater\0\0\0\0\x03abc";

const PREPARED: Prepared<'static> = Prepared {
    prepare_lsn: Lsn(0x150_0010),
    end_lsn: Lsn(0x150_0040),
    prepare_time_us: 7,
    xid: 757,
    gid: "order 9",
};

#[test]
fn the_frames_of_pieces_are_read() {
    assert_eq!(
        decode(START),
        Ok(PgOutput::StreamStart(StreamStart { xid: 757, first: true }))
    );
    assert_eq!(decode(b"E"), Ok(PgOutput::StreamStop));
    let commit = StreamCommit {
        xid: 757,
        commit_lsn: Lsn(0x150_0010),
        end_lsn: Lsn(0x150_0040),
        commit_time_us: 7,
    };
    assert_eq!(decode(COMMIT), Ok(PgOutput::StreamCommit(commit)));
    let abort = StreamAbort {
        xid: 757,
        subxid: 758,
        at: None,
    };
    assert_eq!(decode(ABORT), Ok(PgOutput::StreamAbort(abort)));
    let abort = StreamAbort {
        at: Some((Lsn(0x150_0010), 7)),
        ..abort
    };
    assert_eq!(decode(ABORT_AT), Ok(PgOutput::StreamAbort(abort)));
}

#[test]
fn prepared_transactions_and_their_decisions_are_read() {
    assert_eq!(decode(BEGIN_PREPARE), Ok(PgOutput::BeginPrepare(PREPARED)));
    assert_eq!(decode(PREPARE), Ok(PgOutput::Prepare(PREPARED)));
    assert_eq!(decode(STREAM_PREPARE), Ok(PgOutput::StreamPrepare(PREPARED)));
    let commit = CommitPrepared {
        commit_lsn: Lsn(0x150_0010),
        end_lsn: Lsn(0x150_0040),
        commit_time_us: 7,
        xid: 757,
        gid: "order 9",
    };
    assert_eq!(decode(COMMIT_PREPARED), Ok(PgOutput::CommitPrepared(commit)));
    let rollback = RollbackPrepared {
        prepare_end_lsn: Lsn(0x150_0010),
        end_lsn: Lsn(0x150_0040),
        xid: 757,
        gid: "order 9",
    };
    assert_eq!(decode(ROLLBACK_PREPARED), Ok(PgOutput::RollbackPrepared(rollback)));
}

#[test]
fn messages_of_a_piece_bear_their_transaction_and_read_as_those_outside() {
    for (inside, outside) in [INSERT, TRUNCATE, RELATION].map(|payload| {
        let outside = [payload.get(..1).unwrap(), payload.get(5..).unwrap()].concat();
        (payload, outside)
    }) {
        let (xid, found) = decode_in_piece(inside).unwrap();
        assert_eq!(xid, 758);
        let expected = decode(&outside).unwrap();
        assert_eq!(std::mem::discriminant(&found), std::mem::discriminant(&expected));
    }
    let Ok((758, PgOutput::Insert { relation: 0x4001, new })) = decode_in_piece(INSERT) else {
        panic!("not an insert")
    };
    let image = highwater_core::image::RowImage::new(bytes::Bytes::from_static(INSERT), new.cells);
    assert_eq!(
        image.cell(0),
        highwater_core::image::CellRef::Value(&[0, 0, 0, 7]),
        "cells lie in the payload with its id"
    );
    let Ok((758, PgOutput::Message(message))) = decode_in_piece(MESSAGE) else {
        panic!("not a message")
    };
    assert_eq!((message.transactional, message.prefix), (true, "highwater"));
}

#[test]
fn what_has_no_place_in_a_piece_is_refused() {
    for payload in [START, COMMIT, ABORT, BEGIN_PREPARE, PREPARE, COMMIT_PREPARED] {
        assert!(matches!(
            decode_in_piece(payload),
            Err(ProtocolError::Unexpected { .. })
        ));
    }
}

#[test]
fn every_cut_is_an_error() {
    for payload in [
        START,
        COMMIT,
        ABORT_AT,
        BEGIN_PREPARE,
        PREPARE,
        STREAM_PREPARE,
        COMMIT_PREPARED,
        ROLLBACK_PREPARED,
    ] {
        for length in 0..payload.len() {
            let cut = payload.get(..length).unwrap();
            assert!(
                decode(cut).is_err() || (payload == ABORT_AT && length == 9),
                "{length} of {payload:?}"
            );
        }
        assert!(decode(&[payload, b"x"].concat()).is_err());
    }
}

proptest! {
    #[test]
    fn never_panics_on_any_bytes(tag: u8, bytes in prop::collection::vec(any::<u8>(), 0..60)) {
        for tag in [tag, b'S', b'c', b'A', b'b', b'P', b'K', b'r', b'p', b'I', b'R', b'M', b'T'] {
            let payload = [&[tag], bytes.as_slice()].concat();
            let _ = decode(&payload);
            let _ = decode_in_piece(&payload);
        }
    }
}

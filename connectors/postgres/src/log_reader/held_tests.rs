// SPDX-License-Identifier: Apache-2.0
//! Transactions in pieces and prepared ones: order, content, ordinals, relations, memory, acknowledgement.

use super::tests::{Disk, MOVIES, Stream, at, decoder, number, outline, run, run_with, selection, with_memory};
use super::*;
use crate::watermark::MARK_PREFIX;
use highwater_core::position::Lineage;

pub(super) fn xid_behind_tag(xid: u32, payload: &[u8]) -> Vec<u8> {
    let (tag, rest) = payload.split_first().unwrap();
    [&[*tag], xid.to_be_bytes().as_slice(), rest].concat()
}

pub(super) fn row(id: u32) -> Vec<u8> {
    [
        b"I".as_slice(),
        &MOVIES.to_be_bytes(),
        b"N\0\x02",
        &number(id),
        b"b\0\0\0\x02hi",
    ]
    .concat()
}

/// A relation with this many columns after the key.
pub(super) fn shape(texts: u16) -> Vec<u8> {
    let mut payload = [b"R".as_slice(), &MOVIES.to_be_bytes(), b"public\0movies\0d"].concat();
    payload.extend_from_slice(&(texts + 1).to_be_bytes());
    payload.extend_from_slice(b"\x01id\0\0\0\0\x17\xFF\xFF\xFF\xFF");
    for text in 0..texts {
        let number = if text == 0 { String::new() } else { text.to_string() };
        payload.extend_from_slice(format!("\0title{number}\0\0\0\0\x19").as_bytes());
        payload.extend_from_slice(b"\xFF\xFF\xFF\xFF");
    }
    payload
}

impl Stream {
    pub(super) fn piece(self, xid: u32, first: bool) -> Self {
        let payload = [b"S".as_slice(), &xid.to_be_bytes(), &[u8::from(first)]].concat();
        self.log(0, &payload)
    }

    pub(super) fn stop(self) -> Self {
        self.log(0, b"E")
    }

    pub(super) fn of(self, xid: u32, lsn: u64, payload: &[u8]) -> Self {
        self.log(lsn, &xid_behind_tag(xid, payload))
    }

    pub(super) fn commit_pieces(self, xid: u32, commit: u64) -> Self {
        let numbers = [commit, commit + 8, 5].map(u64::to_be_bytes).concat();
        self.log(commit, &[b"c".as_slice(), &xid.to_be_bytes(), b"\0", &numbers].concat())
    }

    pub(super) fn abort_pieces(self, xid: u32, subxid: u32) -> Self {
        self.log(
            0,
            &[b"A".as_slice(), &xid.to_be_bytes(), &subxid.to_be_bytes()].concat(),
        )
    }

    fn prepared(self, tag: &[u8], xid: u32, lsn: u64) -> Self {
        let numbers = [lsn, lsn + 8, 5].map(u64::to_be_bytes).concat();
        self.log(lsn, &[tag, &numbers, &xid.to_be_bytes(), b"gid\0"].concat())
    }

    fn rollback_prepared(self, xid: u32, lsn: u64) -> Self {
        let numbers = [lsn, lsn + 8, 5, 5].map(u64::to_be_bytes).concat();
        self.log(
            lsn,
            &[b"r\0".as_slice(), &numbers, &xid.to_be_bytes(), b"gid\0"].concat(),
        )
    }
}

fn mark(xid: u32, lsn: u64, id: u64) -> Vec<u8> {
    let content = format!("1 hw {} {id}", RunId(7));
    let payload = [
        b"M\x01".as_slice(),
        &lsn.to_be_bytes(),
        MARK_PREFIX.as_bytes(),
        b"\0",
        &(content.len() as u32).to_be_bytes(),
        content.as_bytes(),
    ]
    .concat();
    xid_behind_tag(xid, &payload)
}

pub(super) fn fresh() -> Decoder {
    decoder(selection(&["public.*"]), ResumePoint::at(at(1)))
}

/// Ids of the rows that came, in order.
pub(super) fn ids(items: &Items) -> Vec<u32> {
    let id = |item: &LogItem<PgPosition>| match item {
        LogItem::Change(change) => match change.after.as_ref()?.cell(0) {
            highwater_core::image::CellRef::Value(bytes) => Some(u32::from_be_bytes(bytes.try_into().ok()?)),
            _ => None,
        },
        _ => None,
    };
    items.iter().filter_map(id).collect()
}

#[test]
fn transactions_in_pieces_come_at_their_commits_and_whole() {
    let stream = Stream::default()
        .piece(900, true)
        .of(900, 0, &shape(1))
        .of(900, 0x10, &row(1))
        .stop()
        .piece(901, true)
        .of(901, 0, &shape(1))
        .of(901, 0x18, &row(2))
        .stop()
        .begin(0x30, 902)
        .relation()
        .insert(0x20, 3)
        .commit(0x30)
        .piece(900, false)
        .of(900, 0x38, &row(4))
        .stop()
        .commit_pieces(901, 0x40)
        .commit_pieces(900, 0x50);
    let items = run(&mut fresh(), stream).unwrap();
    assert_eq!(
        outline(&items),
        [
            "begin 902 0/30",
            "Create #1 at 0/20",
            "commit 0/38",
            "begin 901 0/40",
            "Create #1 at 0/18",
            "commit 0/48",
            "begin 900 0/50",
            "Create #1 at 0/10",
            "Create #2 at 0/38",
            "commit 0/58",
        ]
    );
    assert_eq!(ids(&items), [3, 2, 1, 4]);
}

#[test]
fn what_was_rolled_back_leaves_no_row_no_mark_no_count_and_no_file() {
    let mut decoder = with_memory(selection(&["public.*"]), ResumePoint::at(at(1)), 10);
    let stream = Stream::default()
        .piece(900, true)
        .of(900, 0, &shape(1))
        .of(900, 0x10, &row(1))
        .of(901, 0x18, &row(2))
        .log(0x20, &mark(901, 0x20, 3))
        .of(902, 0x28, &row(3))
        .log(0x30, &mark(900, 0x30, 4))
        .stop()
        .piece(950, true)
        .of(950, 0, &shape(1))
        .of(950, 0x38, &row(9))
        .stop()
        .abort_pieces(900, 901)
        .abort_pieces(950, 950)
        .abort_pieces(951, 951)
        .commit_pieces(900, 0x50);
    let mut disk = Disk::default();
    let items = run_with(&mut decoder, stream, &mut disk).unwrap();
    assert_eq!(
        outline(&items),
        [
            "begin 900 0/50",
            "Create #1 at 0/10",
            "Create #2 at 0/28",
            "mark 4 at 0/30",
            "commit 0/58"
        ]
    );
    assert_eq!(ids(&items), [1, 3]);
    assert!(disk.is_empty(), "no file is left behind");
    assert_eq!(decoder.held.memory_bytes(), 0);
}

#[test]
fn a_relation_of_a_rolled_back_part_goes_with_it_and_the_next_one_holds() {
    let stream = Stream::default()
        .piece(900, true)
        .of(901, 0, &shape(2))
        .stop()
        .abort_pieces(900, 901)
        .piece(900, false)
        .of(900, 0, &shape(1))
        .of(900, 0x10, &row(1))
        .stop()
        .commit_pieces(900, 0x50);
    assert_eq!(ids(&run(&mut fresh(), stream).unwrap()), [1]);

    // Without the second announcement the row would follow a shape that was rolled back.
    let stream = Stream::default()
        .piece(900, true)
        .of(901, 0, &shape(1))
        .of(900, 0x10, &row(1))
        .stop()
        .abort_pieces(900, 901)
        .commit_pieces(900, 0x50);
    assert!(run(&mut fresh(), stream).is_err());
}

#[test]
fn the_connection_follows_the_announcement_that_arrived_last() {
    let old_in_pieces = Stream::default()
        .piece(900, true)
        .of(900, 0, &shape(1))
        .of(900, 0x10, &row(1))
        .stop();
    // The shape changed while the transaction ran (a column list): what was announced outside of it is newer.
    let wide_row = [b"I".as_slice(), &MOVIES.to_be_bytes(), b"N\0\x03", &number(2), b"nn"].concat();
    let stream = old_in_pieces
        .begin(0x30, 902)
        .log(0, &shape(2))
        .log(0x20, &wide_row)
        .commit(0x30)
        .commit_pieces(900, 0x50)
        .begin(0x70, 903)
        .log(0x60, &wide_row)
        .commit(0x70);
    let items = run(&mut fresh(), stream).unwrap();
    assert_eq!(ids(&items), [2, 1, 2]);
    assert_eq!(
        outline(&items).get(5..7).unwrap(),
        ["schema public.movies", "commit 0/58"],
        "the shape that the connection goes on with is told again"
    );

    // Announced in the transaction alone, it holds for the connection once the transaction has committed.
    let stream = Stream::default()
        .piece(900, true)
        .of(900, 0, &shape(1))
        .of(900, 0x10, &row(1))
        .stop()
        .commit_pieces(900, 0x50)
        .begin(0x70, 903)
        .insert(0x60, 2)
        .commit(0x70);
    assert_eq!(ids(&run(&mut fresh(), stream).unwrap()), [1, 2]);
}

#[test]
fn a_checkpoint_inside_holds_for_a_transaction_in_pieces_and_for_the_same_one_whole() {
    let inside = || ResumePoint {
        position: at(1),
        inside: Some(InsideTransaction {
            transaction: TransactionId(900),
            change: at(0x20),
            ordinal: 2,
        }),
        lineage: Lineage::default(),
    };
    let pieces = Stream::default()
        .piece(900, true)
        .of(900, 0, &shape(1))
        .of(900, 0x10, &row(1))
        .of(901, 0x18, &row(7))
        .stop()
        .abort_pieces(900, 901)
        .piece(900, false)
        .of(902, 0x20, &row(2))
        .of(900, 0x28, &row(3))
        .stop()
        .commit_pieces(900, 0x50);
    let whole = Stream::default()
        .begin(0x50, 900)
        .relation()
        .insert(0x10, 1)
        .insert(0x20, 2)
        .insert(0x28, 3)
        .commit(0x50);
    for stream in [pieces, whole] {
        let items = run(&mut decoder(selection(&["public.*"]), inside()), stream).unwrap();
        assert_eq!(outline(&items), ["begin 900 0/50", "Create #3 at 0/28", "commit 0/58"]);
    }
}

#[test]
fn a_prepared_transaction_comes_at_its_decision() {
    let stream = Stream::default()
        .begin(0x10, 899)
        .relation()
        .insert(0x8, 1)
        .commit(0x10)
        .prepared(b"b", 900, 0x30)
        .log(0x20, &row(2))
        .prepared(b"P\0", 900, 0x30)
        .prepared(b"b", 901, 0x40)
        .log(0x38, &row(3))
        .prepared(b"P\0", 901, 0x40)
        .begin(0x60, 902)
        .insert(0x50, 4)
        .commit(0x60)
        .rollback_prepared(901, 0x68)
        .prepared(b"K\0", 900, 0x70);
    let mut decoder = fresh();
    let items = run(&mut decoder, stream).unwrap();
    assert_eq!(ids(&items), [1, 4, 2]);
    assert_eq!(
        outline(&items).get(6..).unwrap(),
        ["begin 900 0/70", "Create #1 at 0/20", "commit 0/78"]
    );
    assert_eq!(
        decoder.acknowledgeable(at(0x68)),
        Lsn(0x30),
        "its commit is not durable yet"
    );
    assert_eq!(decoder.acknowledgeable(at(0x78)), Lsn(0x78));
}

#[test]
fn a_prepared_transaction_in_pieces_waits_for_its_decision_too() {
    let stream = Stream::default()
        .piece(900, true)
        .of(900, 0, &shape(1))
        .of(900, 0x10, &row(1))
        .stop()
        .prepared(b"p\0", 900, 0x30);
    let mut decoder = fresh();
    assert!(run(&mut decoder, stream).unwrap().is_empty());
    assert_eq!(decoder.acknowledgeable(at(0x90)), Lsn(0x30));
    let items = run(&mut decoder, Stream::default().prepared(b"K\0", 900, 0x70)).unwrap();
    assert_eq!(outline(&items), ["begin 900 0/70", "Create #1 at 0/10", "commit 0/78"]);
}

#[test]
fn rows_of_a_prepared_transaction_follow_the_shape_of_their_time() {
    let wide_row = [b"I".as_slice(), &MOVIES.to_be_bytes(), b"N\0\x03", &number(3), b"nn"].concat();
    let stream = Stream::default()
        .begin(0x10, 899)
        .relation()
        .insert(0x8, 1)
        .commit(0x10)
        .prepared(b"b", 900, 0x30)
        .log(0x20, &row(2))
        .prepared(b"P\0", 900, 0x30)
        .begin(0x60, 902)
        .log(0, &shape(2))
        .log(0x50, &wide_row)
        .commit(0x60)
        .prepared(b"K\0", 900, 0x70)
        .begin(0x90, 903)
        .log(0x80, &wide_row)
        .commit(0x90);
    assert_eq!(ids(&run(&mut fresh(), stream).unwrap()), [1, 3, 2, 3]);
}

#[test]
fn what_an_earlier_run_delivered_is_passed_over_when_it_comes_again_for_a_prepared_one() {
    // The checkpoint is at 0x60, the server was acknowledged at 0x30 only.
    let stream = Stream::default()
        .prepared(b"b", 900, 0x30)
        .relation()
        .log(0x20, &row(1))
        .prepared(b"P\0", 900, 0x30)
        .begin(0x50, 901)
        .insert(0x40, 2)
        .commit(0x50)
        .prepared(b"b", 902, 0x34)
        .log(0x32, &row(3))
        .prepared(b"P\0", 902, 0x34)
        .prepared(b"K\0", 902, 0x58)
        .piece(903, true)
        .of(903, 0, &shape(1))
        .of(903, 0x36, &row(4))
        .stop()
        .commit_pieces(903, 0x5A)
        .begin(0x70, 904)
        .insert(0x68, 5)
        .commit(0x70)
        .prepared(b"K\0", 900, 0x80);
    let mut decoder = decoder(selection(&["public.*"]), ResumePoint::at(at(0x60)));
    let items = run(&mut decoder, stream).unwrap();
    assert_eq!(ids(&items), [5, 1]);
    assert_eq!(outline(&items).first().unwrap(), "begin 904 0/70");
    assert_eq!(decoder.delivered(), at(0x88));
}

#[test]
fn a_decision_about_rows_that_never_came_is_a_lost_position() {
    for stream in [
        Stream::default().prepared(b"K\0", 900, 0x70),
        Stream::default().commit_pieces(900, 0x70),
    ] {
        let Err(DecodeFailure::Core(error)) = run(&mut fresh(), stream) else {
            panic!("accepted")
        };
        assert_eq!(error.kind(), ErrorKind::PositionLost);
    }
    let rolled_back = Stream::default().rollback_prepared(900, 0x70);
    assert!(run(&mut fresh(), rolled_back).unwrap().is_empty());
}

#[test]
fn what_has_no_place_around_pieces_is_an_error() {
    let fails = |stream: Stream| run(&mut fresh(), stream).is_err();
    let first = || Stream::default().piece(900, true);
    assert!(
        fails(Stream::default().piece(900, false)),
        "a piece without a first one"
    );
    assert!(fails(first().stop().piece(900, true)), "two first pieces");
    assert!(fails(first().begin(0x50, 901)), "a transaction inside a piece");
    assert!(fails(Stream::default().stop()), "an end without a piece");
    assert!(fails(first().log(0, b"I\0")), "a row that is cut");
    assert!(
        fails(Stream::default().begin(0x50, 901).piece(900, true)),
        "a piece inside a transaction"
    );
    assert!(
        fails(first().stop().begin(0x50, 901).commit_pieces(900, 0x60)),
        "a commit inside another"
    );
    assert!(
        fails(Stream::default().prepared(b"p\0", 900, 0x10)),
        "a prepare of nothing"
    );
    assert!(
        fails(Stream::default().prepared(b"P\0", 900, 0x10)),
        "an end of a prepare without its beginning"
    );
    let row_without_shape = first().of(900, 0x10, &row(1)).stop().commit_pieces(900, 0x50);
    assert!(fails(row_without_shape), "a row of an unknown relation");
}

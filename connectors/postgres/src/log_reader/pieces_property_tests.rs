// SPDX-License-Identifier: Apache-2.0
//! Random transactions, cut into random pieces, against the same ones whole.

use super::held_tests::{fresh, ids, row, shape};
use super::tests::{Disk, Stream, at, outline, run, run_with, selection, with_memory};
use super::*;
use proptest::prelude::*;
use std::collections::VecDeque;

/// What a random transaction does.
#[derive(Debug, Clone)]
struct Scripted {
    /// Sub-transaction (0: the top), in the order of the rows.
    rows: Vec<u8>,
    aborted: Vec<u8>,
    /// Rows of one piece.
    cut: usize,
    rolled_back: bool,
}

fn scripted() -> impl Strategy<Value = Scripted> {
    let rows = prop::collection::vec(0_u8..4, 0..20);
    (
        rows,
        prop::collection::vec(1_u8..4, 0..3),
        1_usize..6,
        prop::bool::weighted(0.2),
    )
        .prop_map(|(rows, aborted, cut, rolled_back)| Scripted {
            rows,
            aborted,
            cut,
            rolled_back,
        })
}

/// The transaction in pieces, each a stream of its own, and then its end.
fn in_pieces(script: &Scripted, xid: u32, commit: u64) -> Vec<Stream> {
    let mut pieces = Vec::new();
    for (number, chunk) in script.rows.chunks(script.cut).enumerate() {
        let mut piece = Stream::default().piece(xid, number == 0);
        if number == 0 {
            piece = piece.of(xid, 0, &shape(1));
        }
        for (place, sub) in chunk.iter().enumerate() {
            let id = (number * script.cut + place) as u32;
            piece = piece.of(xid + u32::from(*sub), u64::from(id) + 2, &row(xid * 100 + id));
        }
        pieces.push(piece.stop());
    }
    if pieces.is_empty() {
        pieces.push(Stream::default().piece(xid, true).stop());
    }
    let mut end = Stream::default();
    for sub in &script.aborted {
        end = end.abort_pieces(xid, xid + u32::from(*sub));
    }
    pieces.push(match script.rolled_back {
        true => end.abort_pieces(xid, xid),
        false => end.commit_pieces(xid, commit),
    });
    pieces
}

/// The transaction as a server without pieces sends it.
fn whole(script: &Scripted, xid: u32, commit: u64) -> Stream {
    let mut stream = Stream::default();
    if script.rolled_back {
        return stream;
    }
    stream = stream.begin(commit, xid).relation();
    for (id, sub) in (0_u32..).zip(&script.rows) {
        if !script.aborted.contains(sub) {
            stream = stream.log(u64::from(id) + 2, &row(xid * 100 + id));
        }
    }
    stream.commit(commit)
}

proptest! {
    /// Pieces of transactions, interleaved at random and past any limit of memory, give what the server sends without.
    #[test]
    fn pieces_give_what_whole_transactions_give(
        scripts in prop::collection::vec(scripted(), 1..5),
        order in prop::collection::vec(any::<prop::sample::Index>(), 0..60),
        memory in 0_usize..400,
    ) {
        let xid = |number: usize| 1_000 + 10 * number as u32;
        let mut queues: Vec<VecDeque<Stream>> = scripts
            .iter()
            .enumerate()
            .map(|(number, script)| in_pieces(script, xid(number), 0).into())
            .collect();
        let (mut pieces, mut plain) = (Stream::default(), Stream::default());
        let mut commit = 0x1000;
        for index in order {
            let open: Vec<usize> = (0..queues.len()).filter(|number| !queues[*number].is_empty()).collect();
            if open.is_empty() { break; }
            let number = open[index.index(open.len())];
            commit += 0x10;
            advance(&scripts[number], xid(number), commit, &mut queues[number], &mut pieces, &mut plain);
        }
        for number in 0..queues.len() {
            while !queues[number].is_empty() {
                commit += 0x10;
                advance(&scripts[number], xid(number), commit, &mut queues[number], &mut pieces, &mut plain);
            }
        }
        let (mut decoder, mut disk) = (with_memory(selection(&["public.*"]), ResumePoint::at(at(1)), memory), Disk::default());
        let found = run_with(&mut decoder, pieces, &mut disk).unwrap();
        let expected = run(&mut fresh(), plain).unwrap();
        prop_assert_eq!(outline(&found), outline(&expected));
        prop_assert_eq!(ids(&found), ids(&expected));
        prop_assert!(disk.is_empty());
        prop_assert_eq!(decoder.held.memory_bytes(), 0);
    }

    #[test]
    fn frames_that_were_kept_read_back_and_foreign_ones_do_not_panic(lsn: u64, payload: Vec<u8>, junk: Vec<u8>, tag: u8) {
        let mut held = HeldTransactions::default();
        held.begin(1, true);
        held.keep(1, Lsn(lsn), &payload);
        let (_, bytes) = held.take_largest().unwrap();
        let mut batch = FrameBatch::over(bytes.into());
        let frame = batch.next_frame().unwrap();
        let (found, _, start) = read_kept(frame.tag, frame.body).unwrap();
        prop_assert_eq!((found, frame.body.get(start..)), (Lsn(lsn), Some(payload.as_slice())));
        let _ = read_kept(tag, &junk);
    }
}

fn advance(
    script: &Scripted,
    xid: u32,
    commit: u64,
    queue: &mut VecDeque<Stream>,
    pieces: &mut Stream,
    plain: &mut Stream,
) {
    if queue.len() == 1 {
        queue.clear();
        let end = in_pieces(script, xid, commit).pop().unwrap();
        pieces.append(&end);
        plain.append(&whole(script, xid, commit));
    } else if let Some(piece) = queue.pop_front() {
        pieces.append(&piece);
    }
}

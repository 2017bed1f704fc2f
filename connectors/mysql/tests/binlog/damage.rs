// SPDX-License-Identifier: Apache-2.0
//! Samples with bytes changed and cut off: an error or a value, never a panic.

use highwater_mysql::fuzzing;
use highwater_mysql::protocol::{Checksum, Event, EventSequence, event_type};

use crate::sample::{FILES, STREAMS, events, file_bytes, stream_bytes};

/// What a byte is changed by.
const FLIPS: [u8; 3] = [0x01, 0x80, 0xff];
/// Of what is inflated each time, only some bytes are changed.
const STEP_COMPRESSED: usize = 13;
/// A sample that is short enough to be read as many times as it has bytes.
const SHORT_BYTES: usize = 2_600;

fn step(name: &str) -> usize {
    if name.ends_with("compressed") {
        STEP_COMPRESSED
    } else {
        1
    }
}

fn read_whole(bytes: Vec<u8>) -> bool {
    match EventSequence::of_file(bytes.into()) {
        Ok(mut events) => events.all(|event| event.is_ok()),
        Err(_) => false,
    }
}

/// Each byte of a file with checksums is guarded: by them, or by what comes before and after.
#[test]
fn no_byte_of_a_file_changes_unnoticed() {
    let mut tried = 0;
    for name in FILES.into_iter().filter(|name| !name.ends_with("no-checksum")) {
        let bytes = file_bytes(name);
        if bytes.len() > SHORT_BYTES {
            continue;
        }
        tried += 1;
        for place in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[place] ^= 0xff;
            fuzzing::file(&changed);
            assert!(!read_whole(changed), "{name}: byte {place}");
        }
    }
    assert!(tried > 5);
}

#[test]
fn a_file_that_is_cut_between_events_reads_up_to_there_and_else_fails() {
    for name in FILES {
        let bytes = file_bytes(name);
        let ends: Vec<usize> = events(name)
            .iter()
            .map(|placed| placed.position as usize + placed.header.length as usize)
            .collect();
        assert_eq!(ends.last(), Some(&bytes.len()), "{name}");
        for length in 0..bytes.len().min(SHORT_BYTES) {
            let whole = read_whole(bytes[..length].to_vec());
            assert_eq!(whole, length == 4 || ends.contains(&length), "{name}: {length} bytes");
        }
    }
}

/// Past the checksums: what each parser does with each byte changed, and with its event cut at each.
#[test]
fn no_parser_panics_on_a_changed_or_cut_event() {
    for name in FILES {
        let bytes = file_bytes(name);
        for placed in events(name) {
            let start = placed.position as usize;
            let event = &bytes[start..start + placed.header.length as usize];
            let body = &event[..event.len() - 4];
            for place in (19..body.len()).step_by(step(name)) {
                fuzzing::event(&body[..place]);
                for flip in FLIPS {
                    let mut changed = body.to_vec();
                    changed[place] ^= flip;
                    fuzzing::event(&changed);
                }
            }
        }
    }
}

#[test]
fn no_table_and_no_row_panics_when_a_byte_changes_or_is_missing() {
    let mut tried = 0;
    for name in FILES {
        for pair in tables_with_rows(name) {
            tried += 1;
            for place in (0..pair.len()).step_by(step(name)) {
                fuzzing::rows(&pair[..place]);
                for flip in FLIPS {
                    let mut changed = pair.clone();
                    changed[place] ^= flip;
                    fuzzing::rows(&changed);
                }
            }
        }
    }
    assert!(tried > 40);
}

/// Each TABLE_MAP with the rows after it, in the form that [`fuzzing::rows`] takes.
fn tables_with_rows(name: &str) -> Vec<Vec<u8>> {
    let bytes = file_bytes(name);
    let checksum = if name.ends_with("no-checksum") { 0 } else { 4 };
    let mut table: Option<&[u8]> = None;
    let mut pairs = Vec::new();
    let placed = events(name);
    for placed in &placed {
        let start = placed.position as usize;
        let body = &bytes[start + 19..start + placed.header.length as usize - checksum];
        match &placed.event {
            Event::TableMap(_) => table = Some(body),
            Event::Rows(_) => {
                let table = table.expect("a table before its rows");
                let length = u16::try_from(table.len()).unwrap().to_le_bytes();
                pairs.push([&length[..], table, &[placed.header.code], body].concat());
            }
            _ => {}
        }
    }
    pairs
}

#[test]
fn the_pairs_that_are_damaged_are_sound_before() {
    let pair = tables_with_rows("mysql-9.7-types").into_iter().next().unwrap();
    let code = pair[usize::from(u16::from_le_bytes([pair[0], pair[1]])) + 2];
    assert_eq!(code, event_type::WRITE_ROWS);
}

#[test]
fn no_byte_of_a_stream_panics() {
    for name in STREAMS {
        let bytes = stream_bytes(name);
        for place in 0..bytes.len() {
            fuzzing::stream(&bytes[..place]);
            let mut changed = bytes.clone();
            changed[place] ^= 0xff;
            fuzzing::stream(&changed);
            let all = EventSequence::of_stream(changed.into(), Checksum::Crc32).all(|event| event.is_ok());
            assert!(!all, "{name}: byte {place}");
        }
    }
}

#[test]
fn a_payload_that_lies_about_its_length_is_an_error() {
    let placed = events("mysql-9.7-compressed");
    let bytes = file_bytes("mysql-9.7-compressed");
    let first = placed
        .iter()
        .find(|placed| matches!(placed.event, Event::Payload(_)))
        .unwrap();
    let start = first.position as usize;
    let body = bytes[start + 19..start + first.header.length as usize - 4].to_vec();
    // Kind and length of a field, then the length before compression.
    assert_eq!(body[3..6], [3, 4, 0xfd]);
    for (byte, lower) in [(7, true), (8, false)] {
        let mut lying = body.clone();
        lying[byte] ^= 1;
        assert_eq!(lying[byte] < body[byte], lower);
        let Ok(Event::Payload(payload)) = Event::parse(&first.header, lying.into(), 0) else {
            panic!("a payload");
        };
        let error = payload.events(0).unwrap().find_map(Result::err).unwrap();
        assert_eq!(
            error.to_string(),
            "malformed TRANSACTION_PAYLOAD event in the binlog: another length than before compression"
        );
    }
}

// SPDX-License-Identifier: Apache-2.0
//! What only a stream has, and files that are none or not ours to read.

use highwater_mysql::protocol::header::FLAG_IN_USE;
use highwater_mysql::protocol::heartbeat::Heartbeat;
use highwater_mysql::protocol::{Checksum, Event, EventSequence, ProtocolError};

use crate::sample::{STREAMS, events, file_bytes, flavor, stream_bytes};

#[test]
fn a_stream_begins_with_a_rotate_that_lies_in_no_file() {
    for name in STREAMS {
        let placed = events(name);
        let (first, second) = (&placed[0], &placed[1]);
        assert!(first.header.is_artificial(), "{name}");
        let Event::Rotate { position: 4, file } = &first.event else {
            panic!("{name}: {:?}", first.event);
        };
        assert!(file.starts_with("binlog."), "{name}");
        let Event::FormatDescription(description) = &second.event else {
            panic!("{name}: {:?}", second.event);
        };
        assert_eq!(description.flavor(), flavor(name), "{name}");
        assert_eq!(description.checksum, Checksum::Crc32, "{name}");
    }
}

#[test]
fn heartbeats_of_both_forms_say_where_the_server_is() {
    for (name, file, position) in [
        ("mysql-9.7-stream", "binlog.000021", 294),
        ("mysql-9.7-stream-v1", "binlog.000021", 294),
        ("mysql-8.0-stream", "binlog.000007", 195),
        ("mariadb-11.8-stream", "binlog.000009", 395),
    ] {
        let expected = Heartbeat {
            file: file.into(),
            position,
        };
        let beats: Vec<_> = events(name)
            .into_iter()
            .filter_map(|placed| match placed.event {
                Event::Heartbeat(beat) => Some(beat),
                _ => None,
            })
            .collect();
        assert!(
            beats.len() > 1 && beats.iter().all(|beat| *beat == expected),
            "{name}: {beats:?}"
        );
    }
}

#[test]
fn a_file_without_checksums_is_read() {
    let placed = events("mysql-9.7-no-checksum");
    let Event::FormatDescription(description) = &placed[0].event else {
        panic!("a file begins with its description");
    };
    assert_eq!(description.checksum, Checksum::None);
    assert!(placed.iter().any(|placed| matches!(placed.event, Event::Rows(_))));
}

#[test]
fn a_changed_byte_names_the_position_of_its_event() {
    let name = "mysql-9.7-types";
    let mut bytes = file_bytes(name);
    let placed = events(name);
    let rows = placed
        .iter()
        .find(|placed| matches!(placed.event, Event::Rows(_)))
        .unwrap();
    bytes[rows.position as usize + 40] ^= 1;
    let error = EventSequence::of_file(bytes.into())
        .unwrap()
        .find_map(Result::err)
        .unwrap();
    let expected = ProtocolError::Checksum {
        event: "WRITE_ROWS",
        position: rows.position,
    };
    assert_eq!(error, expected);
    let text = format!("the WRITE_ROWS event at position {} of the binlog", rows.position);
    assert!(error.to_string().starts_with(&text), "{error}");
}

#[test]
fn an_unknown_event_is_an_error_unless_the_server_lets_it_be_passed_over() {
    let bytes = file_bytes("mysql-9.7-no-checksum");
    let placed = events("mysql-9.7-no-checksum");
    let xid = placed
        .iter()
        .find(|placed| matches!(placed.event, Event::Xid(_)))
        .unwrap();
    let mut future = bytes.clone();
    future[xid.position as usize + 4] = 99;
    let read = |bytes: Vec<u8>| {
        EventSequence::of_file(bytes.into())
            .unwrap()
            .collect::<Result<Vec<_>, _>>()
    };
    let error = read(future.clone()).unwrap_err();
    assert_eq!(
        error,
        ProtocolError::UnknownEvent {
            code: 99,
            position: xid.position
        }
    );
    future[xid.position as usize + 17] |= 0x80;
    let passed = read(future).unwrap();
    assert!(passed.iter().any(|placed| placed.event == Event::Ignored(99)));
}

#[test]
fn encrypted_files_are_refused_by_name() {
    let encrypted = EventSequence::of_file(file_bytes("mariadb-11.8-encrypted").into()).unwrap();
    let error = encrypted.collect::<Result<Vec<_>, _>>().unwrap_err();
    let text =
        "START_ENCRYPTION event in the binlog: the file is encrypted; its events can be read from the server only";
    assert_eq!(error.to_string(), text);
    let of_mysql = EventSequence::of_file(b"\xfdbin and more".as_slice().into()).unwrap_err();
    assert!(of_mysql.to_string().contains("encrypted"), "{of_mysql}");
    assert!(EventSequence::of_file(b"text".as_slice().into()).is_err());
}

#[test]
fn an_event_that_is_cut_is_an_error() {
    for name in STREAMS {
        let bytes = stream_bytes(name);
        let cut = bytes[..bytes.len() - 1].to_vec();
        let last = EventSequence::of_stream(cut.into(), Checksum::Crc32).last().unwrap();
        assert!(last.unwrap_err().to_string().contains("an event that is cut"), "{name}");
    }
}

/// The flag that says so is set after the checksum was made.
#[test]
fn a_file_that_the_server_has_open_is_read() {
    let first = &events("mysql-9.7-open")[0];
    assert_eq!(first.header.flags & FLAG_IN_USE, FLAG_IN_USE);
    assert!(matches!(first.event, Event::FormatDescription(_)));
    assert_eq!(events("mysql-9.7-types")[0].header.flags & FLAG_IN_USE, 0);
}

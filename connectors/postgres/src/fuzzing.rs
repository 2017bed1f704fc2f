// SPDX-License-Identifier: Apache-2.0
//! What the fuzz targets and the property tests drive: every parser of foreign bytes, one function each. They return
//! nothing and must not panic, whatever the bytes are.

use crate::protocol::framing::{FRAME_BYTES_MAX, FrameBatch, FrameSplitter, HANDSHAKE_FRAME_BYTES_MAX};
use crate::protocol::handshake::{Channel, Credentials, Handshake, Progress};
use crate::protocol::pgoutput::PgOutput;
use crate::protocol::{ProtocolError, ServerError, certificate, data_row, pgoutput as decoder, replication};
use crate::values::{
    Attribute, CARRIED_EXTENSION_TYPES, CARRIED_OIDS, PgType, TypeForm, ValueForms, resolve, resolve_text,
};
use bytes::{Bytes, BytesMut};
use highwater_core::image::{Cell, RowImage};
use highwater_core::value::{ColumnDecoder, ValueWriter};

/// Splits `bytes`, given in pieces of changing size, and checks that nothing is lost on the way.
pub fn framing(bytes: &[u8]) {
    let mut splitter = FrameSplitter::new(FRAME_BYTES_MAX);
    let mut rest = bytes;
    let mut step = 1;
    let mut passed = 0;
    while !rest.is_empty() {
        let (head, tail) = rest.split_at(step.min(rest.len()));
        splitter.buffer().extend_from_slice(head);
        rest = tail;
        step = step * 2 % 61 + 1;
        match splitter.take_batch() {
            Ok(Some(mut batch)) => {
                while let Some(frame) = batch.next_frame() {
                    passed += frame.body.len() + 5;
                }
                assert!(batch.is_exhausted(), "a batch holds whole messages");
            }
            Ok(None) => {}
            Err(_) => return,
        }
    }
    assert_eq!(passed + splitter.buffered_bytes(), bytes.len(), "no byte is lost");
}

/// Decodes `bytes` as a pgoutput message, outside and inside of a piece of a transaction, and touches every cell of its
/// rows.
pub fn pgoutput(bytes: &[u8]) {
    let touch = |cells: Box<[Cell]>| {
        let image = RowImage::new(Bytes::copy_from_slice(bytes), cells);
        assert!(image.value_bytes() <= bytes.len(), "cells lie inside the message");
        image.iter().count()
    };
    touch_cells(decoder::decode(bytes), touch);
    touch_cells(decoder::decode_in_piece(bytes).map(|(_, message)| message), touch);
}

fn touch_cells(decoded: Result<PgOutput<'_>, ProtocolError>, touch: impl Fn(Box<[Cell]>) -> usize) {
    match decoded {
        Ok(PgOutput::Insert { new, .. }) => {
            touch(new.cells);
        }
        Ok(PgOutput::Update { old, new, .. }) => {
            touch(new.cells);
            old.map(|old| touch(old.tuple.cells));
        }
        Ok(PgOutput::Delete { old, .. }) => {
            touch(old.tuple.cells);
        }
        Ok(_) | Err(_) => {}
    }
}

/// Takes `bytes` as a whole replication stream: frames, stream messages, pgoutput.
pub fn stream(bytes: &[u8]) {
    let mut batch = FrameBatch::over(Bytes::copy_from_slice(bytes));
    while let Some(frame) = batch.next_frame() {
        if let Ok(replication::StreamMessage::XLogData(data)) = replication::parse_stream_message(frame.body) {
            pgoutput(data.payload);
        }
        let _ = data_row::parse_data_row(frame.body, frame.body_start);
        let _ = data_row::parse_text_row(frame.body);
        let _ = data_row::parse_row_description(frame.body);
        let _ = ServerError::parse(frame.body);
    }
    let _ = certificate::tls_server_end_point(bytes);
}

/// Takes `bytes` as all that a server says while a client connects.
pub fn handshake(bytes: &[u8]) {
    let credentials = Credentials {
        user: "user".into(),
        database: "database".into(),
        password: Some(b"password".to_vec()),
    };
    for channel in [
        Channel::Plain,
        Channel::Tls {
            server_end_point: Some(vec![1; 32]),
        },
    ] {
        let mut out = BytesMut::new();
        let Ok(mut handshake) = Handshake::start(credentials.clone(), channel, true, "fuzz", &mut out) else {
            return;
        };
        let mut splitter = FrameSplitter::new(HANDSHAKE_FRAME_BYTES_MAX);
        splitter.buffer().extend_from_slice(bytes);
        while let Ok(Some((tag, body))) = splitter.take_frame() {
            match handshake.receive(tag, &body, &mut out) {
                Ok(Progress::Continue) => {}
                Ok(Progress::Ready) | Err(_) => break,
            }
        }
    }
}

/// Decodes `bytes` as a value of every carried type, in its own form and as text; the first two bytes choose a modifier.
/// Checks that a decoder writes exactly one value or fails without one.
pub fn values(bytes: &[u8]) {
    let modifier = bytes
        .first_chunk::<2>()
        .map_or(-1, |pair| i32::from(i16::from_be_bytes(*pair)));
    for of in fuzzed_types() {
        for modifier in [-1, modifier] {
            let carried = resolve(&of, modifier, &ValueForms::default());
            check_one_value(
                &*carried.expect("invariant: every type of the list is carried").decoder,
                bytes,
            );
        }
        let as_text = resolve_text(&of).expect("invariant: every type of the list has a text");
        check_one_value(&*as_text.decoder, bytes);
    }
}

/// Every base type that is carried, and what is made of some of them.
fn fuzzed_types() -> Vec<PgType> {
    let mut types: Vec<PgType> = CARRIED_OIDS.map(PgType::built_in).into();
    types.extend(CARRIED_EXTENSION_TYPES.map(|(extension, name)| PgType {
        name: name.into(),
        form: TypeForm::Base {
            extension: Some(extension.into()),
            binary: true,
        },
        ..PgType::built_in(0)
    }));
    let attributes = [25, 1700].map(|oid| Attribute {
        name: "attribute".into(),
        of: PgType::built_in(oid),
        type_modifier: -1,
    });
    let made = |form| PgType {
        form,
        ..PgType::built_in(0)
    };
    let composite = made(TypeForm::Composite {
        attributes: attributes.into(),
    });
    let of = |oid| Box::new(PgType::built_in(oid));
    let array = |item| TypeForm::Array { item, delimiter: ',' };
    types.extend([
        made(array(of(23))),
        made(array(of(1184))),
        made(array(Box::new(composite.clone()))),
        composite,
        made(TypeForm::Range { subtype: of(1700) }),
        made(TypeForm::Multirange { subtype: of(1082) }),
    ]);
    types
}

fn check_one_value(decoder: &dyn ColumnDecoder, bytes: &[u8]) {
    let mut calls = Calls::default();
    match decoder.decode(bytes, &mut calls) {
        Ok(()) => assert!(calls.values == 1 && calls.open.is_empty(), "one value on success"),
        Err(_) => assert_eq!(calls.values, 0, "no value on failure"),
    }
}

/// Counts what is written, but not what lies inside of other values.
#[derive(Default)]
pub(crate) struct Calls {
    values: usize,
    /// Of each value that was begun and not ended, how many others it holds and whether one may come now.
    open: Vec<(usize, bool)>,
}

impl Calls {
    /// How many values were written.
    #[cfg(test)]
    pub(crate) fn count(&self) -> usize {
        self.values
    }

    fn value(&mut self) {
        match self.open.last_mut() {
            None => self.values += 1,
            Some((_, may_come)) => assert!(std::mem::take(may_come), "next comes before each value"),
        }
    }
}

impl ValueWriter for Calls {
    fn null(&mut self) {
        self.value();
    }
    fn boolean(&mut self, _: bool) {
        self.value();
    }
    fn int(&mut self, _: i32) {
        self.value();
    }
    fn long(&mut self, _: i64) {
        self.value();
    }
    fn float(&mut self, _: f32) {
        self.value();
    }
    fn double(&mut self, _: f64) {
        self.value();
    }
    fn string(&mut self, _: &str) {
        self.value();
    }
    fn bytes(&mut self, _: &[u8]) {
        self.value();
    }
    fn decimal(&mut self, unscaled: &[u8]) {
        assert!(!unscaled.is_empty(), "a decimal has a byte at least");
        self.value();
    }
    fn variable_scale_decimal(&mut self, _: i32, unscaled: &[u8]) {
        self.decimal(unscaled);
    }
    fn begin(&mut self, length: usize) {
        if let Some((_, may_come)) = self.open.last_mut() {
            assert!(std::mem::take(may_come), "next comes before each value");
        }
        self.open.push((length, false));
    }
    fn next(&mut self) {
        let (_, may_come) = self.open.last_mut().expect("a value was begun");
        *may_come = true;
    }
    fn end(&mut self) {
        let (_, may_come) = self.open.pop().expect("a value was begun");
        assert!(!may_come, "no value is missing");
        if self.open.is_empty() {
            self.values += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    fn message() -> impl Strategy<Value = Vec<u8>> {
        (
            prop::sample::select(&b"dDETRSKZ"[..]),
            prop::collection::vec(any::<u8>(), 0..80),
        )
            .prop_map(|(tag, body)| [&[tag], (body.len() as i32 + 4).to_be_bytes().as_slice(), &body].concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn framing_never_panics_nor_loses_a_byte(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            super::framing(&bytes);
        }

        #[test]
        fn streams_of_random_messages_never_panic(messages in prop::collection::vec(message(), 0..6)) {
            let bytes = messages.concat();
            super::framing(&bytes);
            super::stream(&bytes);
            super::handshake(&bytes);
        }
    }
}

// SPDX-License-Identifier: Apache-2.0
//! Cutting a stream of bytes into messages: one tag byte, a length that counts itself, a body.
//!
//! The hot path of a replication stream. Bytes are read into one growing buffer; [`FrameSplitter::take_batch`] cuts off
//! everything that is complete as *one* reference-counted block, and [`FrameBatch::next_frame`] walks it without
//! touching a reference count. Only a row that is kept takes a slice of the block; nothing is copied.

use super::ProtocolError;
use bytes::{Bytes, BytesMut};

/// The longest message accepted in bytes: the server builds each in a buffer of at most 1 GiB - 1
/// (`MaxAllocSize` in `src/include/utils/memutils.h`), to which framing adds a few dozen bytes.
pub const FRAME_BYTES_MAX: usize = 0x4000_0000 + 64;

/// The longest message accepted before authentication is complete, in bytes. No honest server comes near it.
pub const HANDSHAKE_FRAME_BYTES_MAX: usize = 1 << 20;

const HEADER_BYTES: usize = 5;

/// An incremental splitter: bytes go into its buffer, complete messages come out.
#[derive(Debug)]
pub struct FrameSplitter {
    buffer: BytesMut,
    /// The length of the complete messages at the head of the buffer, as far as they have been looked at.
    complete: usize,
    frame_bytes_max: usize,
}

impl FrameSplitter {
    /// A splitter that refuses messages longer than `frame_bytes_max` bytes.
    pub fn new(frame_bytes_max: usize) -> Self {
        Self {
            buffer: BytesMut::new(),
            complete: 0,
            frame_bytes_max,
        }
    }

    /// Changes the longest message accepted, in bytes.
    pub fn set_frame_bytes_max(&mut self, frame_bytes_max: usize) {
        self.frame_bytes_max = frame_bytes_max;
    }

    /// The buffer to read into: append only. Reserve what one read shall take before.
    pub fn buffer(&mut self) -> &mut BytesMut {
        &mut self.buffer
    }

    /// How many bytes wait in the buffer, complete or not.
    pub fn buffered_bytes(&self) -> usize {
        self.buffer.len()
    }

    /// Cuts off every complete message, or returns `None` when there is none.
    ///
    /// A message whose length is out of bounds is an error as soon as its header is there, so that a false length never
    /// makes the buffer grow.
    pub fn take_batch(&mut self) -> Result<Option<FrameBatch>, ProtocolError> {
        loop {
            let rest = self.buffer.get(self.complete..).unwrap_or_default();
            let Some((_, total)) = header(rest, self.frame_bytes_max)? else {
                break;
            };
            if rest.len() < total {
                break;
            }
            self.complete += total;
        }
        if self.complete == 0 {
            return Ok(None);
        }
        let bytes = self.buffer.split_to(self.complete).freeze();
        self.complete = 0;
        Ok(Some(FrameBatch { bytes, offset: 0 }))
    }

    /// Cuts off the first complete message, or returns `None` when it is not complete.
    pub fn take_frame(&mut self) -> Result<Option<(u8, Bytes)>, ProtocolError> {
        let Some((tag, total)) = header(&self.buffer, self.frame_bytes_max)? else {
            return Ok(None);
        };
        if self.buffer.len() < total {
            return Ok(None);
        }
        self.complete = self.complete.saturating_sub(total);
        let frame = self.buffer.split_to(total).freeze();
        Ok(Some((tag, frame.slice(HEADER_BYTES..))))
    }
}

/// The tag and whole length (tag included) of the message at the head of `bytes`, when its header is there.
#[inline]
fn header(bytes: &[u8], frame_bytes_max: usize) -> Result<Option<(u8, usize)>, ProtocolError> {
    let Some(([tag, a, b, c, d], _)) = bytes.split_first_chunk::<HEADER_BYTES>() else {
        return Ok(None);
    };
    let length = i32::from_be_bytes([*a, *b, *c, *d]);
    match usize::try_from(length) {
        Ok(length) if length >= 4 && length < frame_bytes_max => Ok(Some((*tag, length + 1))),
        _ => Err(ProtocolError::Length {
            tag: *tag,
            length: i64::from(length),
        }),
    }
}

/// Some complete messages in one block of memory.
#[derive(Debug, Clone)]
pub struct FrameBatch {
    bytes: Bytes,
    offset: usize,
}

/// One message of a [`FrameBatch`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    /// The message's type.
    pub tag: u8,
    /// The message's body, after tag and length.
    pub body: &'a [u8],
    /// Where the body begins in the batch's block; see [`FrameBatch::bytes`].
    pub body_start: usize,
}

impl FrameBatch {
    /// A batch over `bytes`, which a caller got from elsewhere than a splitter (tests, fuzzers). What does not parse as
    /// messages is simply not returned.
    pub fn over(bytes: Bytes) -> Self {
        Self { bytes, offset: 0 }
    }

    /// The next message, or `None` at the end.
    #[inline]
    pub fn next_frame(&mut self) -> Option<Frame<'_>> {
        let rest = self.bytes.get(self.offset..)?;
        let (tag, total) = header(rest, FRAME_BYTES_MAX).ok()??;
        let body = rest.get(HEADER_BYTES..total)?;
        let body_start = self.offset + HEADER_BYTES;
        self.offset += total;
        Some(Frame { tag, body, body_start })
    }

    /// Where the next message begins in the block.
    pub fn offset(&self) -> usize {
        self.offset
    }

    /// Goes back to an offset that [`FrameBatch::offset`] gave, so that the message there comes again.
    pub fn rewind(&mut self, offset: usize) {
        self.offset = offset.min(self.offset);
    }

    /// The block that all bodies are slices of.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Whether every message has been returned.
    pub fn is_exhausted(&self) -> bool {
        self.offset >= self.bytes.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn message(tag: u8, body: &[u8]) -> Vec<u8> {
        let mut bytes = vec![tag];
        bytes.extend_from_slice(&(body.len() as i32 + 4).to_be_bytes());
        bytes.extend_from_slice(body);
        bytes
    }

    fn drain(splitter: &mut FrameSplitter, out: &mut Vec<(u8, Vec<u8>)>) -> Result<(), ProtocolError> {
        while let Some(mut batch) = splitter.take_batch()? {
            while let Some(frame) = batch.next_frame() {
                out.push((frame.tag, frame.body.to_vec()));
            }
            assert!(batch.is_exhausted());
        }
        Ok(())
    }

    #[test]
    fn a_false_length_is_refused_before_the_buffer_grows() {
        for length in [-1_i32, 0, 3, i32::MAX, i32::MIN] {
            let mut splitter = FrameSplitter::new(FRAME_BYTES_MAX);
            splitter.buffer().extend_from_slice(b"d");
            splitter.buffer().extend_from_slice(&length.to_be_bytes());
            assert_eq!(
                splitter.take_batch().unwrap_err(),
                ProtocolError::Length {
                    tag: b'd',
                    length: i64::from(length)
                }
            );
        }
    }

    #[test]
    fn messages_before_a_false_length_are_not_lost_silently() {
        let mut splitter = FrameSplitter::new(FRAME_BYTES_MAX);
        splitter.buffer().extend_from_slice(&message(b'd', b"abc"));
        splitter.buffer().extend_from_slice(b"d\0\0\0\x01");
        assert!(splitter.take_batch().is_err());
    }

    #[test]
    fn the_handshake_bound_holds_for_single_frames_too() {
        let mut splitter = FrameSplitter::new(HANDSHAKE_FRAME_BYTES_MAX);
        splitter.buffer().extend_from_slice(b"E");
        splitter
            .buffer()
            .extend_from_slice(&(HANDSHAKE_FRAME_BYTES_MAX as i32).to_be_bytes());
        assert!(splitter.take_frame().is_err());
    }

    proptest! {
        #[test]
        fn any_split_of_the_stream_gives_the_same_messages(
            bodies in prop::collection::vec((any::<u8>(), prop::collection::vec(any::<u8>(), 0..40)), 0..20),
            cuts in prop::collection::vec(1_usize..30, 1..200),
        ) {
            let stream: Vec<u8> = bodies.iter().flat_map(|(tag, body)| message(*tag, body)).collect();
            let mut splitter = FrameSplitter::new(FRAME_BYTES_MAX);
            let mut found = Vec::new();
            let mut rest = stream.as_slice();
            for cut in cuts.iter().cycle() {
                if rest.is_empty() { break; }
                let (head, tail) = rest.split_at((*cut).min(rest.len()));
                splitter.buffer().extend_from_slice(head);
                rest = tail;
                drain(&mut splitter, &mut found)?;
            }
            prop_assert_eq!(found, bodies);
            prop_assert_eq!(splitter.buffered_bytes(), 0);
        }

        #[test]
        fn single_frames_and_batches_agree(
            bodies in prop::collection::vec((any::<u8>(), prop::collection::vec(any::<u8>(), 0..40)), 1..20),
        ) {
            let stream: Vec<u8> = bodies.iter().flat_map(|(tag, body)| message(*tag, body)).collect();
            let mut splitter = FrameSplitter::new(FRAME_BYTES_MAX);
            splitter.buffer().extend_from_slice(&stream);
            let first = splitter.take_frame()?.unwrap();
            let mut found = vec![(first.0, first.1.to_vec())];
            drain(&mut splitter, &mut found)?;
            prop_assert_eq!(found, bodies);
        }
    }
}

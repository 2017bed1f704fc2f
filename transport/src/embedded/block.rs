// SPDX-License-Identifier: Apache-2.0
//! Blocks: what segment files consist of, records with a header that says how long they are and proves them whole.
//!
//! ```text
//! 0      4             8            16     20          24            32           36          40
//! magic  payload bytes  base offset  count  last delta  max time ms   payload crc  header crc  payload ...
//! ```
//! Numbers of the header are little endian. A writer fills blocks before it knows their offsets; [`set_offsets`] gives
//! them when the transaction commits, which changes the header only.

use std::sync::Arc;

use bytes::Bytes;
use highwater_core::transport::{Record, RecordRef};

use super::wire::{Cursor, put_bytes, put_number, put_optional};

pub(super) const HEADER_BYTES: usize = 40;
/// A block is closed when its payload has reached this size.
const PAYLOAD_BYTES_AIM: usize = 256 << 10;
const MAGIC: [u8; 4] = *b"HWB1";

/// What a block's header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) payload_bytes: u32,
    pub(super) base_offset: u64,
    pub(super) count: u32,
    /// The last record's offset less the base.
    pub(super) last_delta: u32,
    pub(super) timestamp_ms_max: i64,
    payload_crc: u32,
}

impl Header {
    /// The header at the start of `bytes`; `None` where it is cut short or damaged.
    pub(super) fn read(bytes: &[u8]) -> Option<Header> {
        let header = bytes.first_chunk::<HEADER_BYTES>()?;
        let (covered, crc) = header.split_last_chunk::<4>()?;
        let mut cursor = Cursor::new(covered);
        let intact = cursor.fixed::<4>()? == MAGIC && crc32fast::hash(covered) == u32::from_le_bytes(*crc);
        let header = Header {
            payload_bytes: u32::from_le_bytes(cursor.fixed()?),
            base_offset: u64::from_le_bytes(cursor.fixed()?),
            count: u32::from_le_bytes(cursor.fixed()?),
            last_delta: u32::from_le_bytes(cursor.fixed()?),
            timestamp_ms_max: i64::from_le_bytes(cursor.fixed()?),
            payload_crc: u32::from_le_bytes(cursor.fixed()?),
        };
        intact.then_some(header)
    }

    fn write(&self, bytes: &mut [u8; HEADER_BYTES]) {
        let mut header = Vec::with_capacity(HEADER_BYTES);
        header.extend_from_slice(&MAGIC);
        header.extend_from_slice(&self.payload_bytes.to_le_bytes());
        header.extend_from_slice(&self.base_offset.to_le_bytes());
        header.extend_from_slice(&self.count.to_le_bytes());
        header.extend_from_slice(&self.last_delta.to_le_bytes());
        header.extend_from_slice(&self.timestamp_ms_max.to_le_bytes());
        header.extend_from_slice(&self.payload_crc.to_le_bytes());
        let crc = crc32fast::hash(&header);
        header.extend_from_slice(&crc.to_le_bytes());
        bytes.copy_from_slice(&header);
    }

    /// Header and payload.
    pub(super) fn block_bytes(&self) -> u64 {
        HEADER_BYTES as u64 + u64::from(self.payload_bytes)
    }

    pub(super) fn last_offset(&self) -> u64 {
        self.base_offset.saturating_add(u64::from(self.last_delta))
    }
}

/// Blocks in the making, for one partition.
#[derive(Default)]
pub(super) struct Blocks {
    bytes: Vec<u8>,
    open: Option<Open>,
}

struct Open {
    start: usize,
    base_offset: u64,
    count: u32,
    last_delta: u32,
    timestamp_ms_max: i64,
}

impl Blocks {
    /// Fills `buffer`, which is empty, where nothing has been filled yet.
    pub(super) fn fill(&mut self, buffer: Vec<u8>) {
        if self.bytes.is_empty() {
            self.bytes = buffer;
        }
    }

    /// Bytes so far.
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Appends a record; its offset is given at commit.
    pub(super) fn push(&mut self, record: &RecordRef<'_>) {
        let delta = self.open.as_ref().map_or(0, |open| open.count);
        let open = Self::open(&mut self.open, &mut self.bytes, 0);
        open.note(delta, record.timestamp_ms);
        put_number(&mut self.bytes, u64::from(delta));
        self.bytes.extend_from_slice(&record.timestamp_ms.to_le_bytes());
        put_optional(&mut self.bytes, record.key);
        put_optional(&mut self.bytes, record.value);
        put_number(&mut self.bytes, record.headers.len() as u64);
        for header in record.headers {
            put_bytes(&mut self.bytes, header.name.as_bytes());
            put_bytes(&mut self.bytes, &header.value);
        }
        self.close_when_full();
    }

    /// Appends a record that has its offset. Offsets ascend.
    pub(super) fn push_kept(&mut self, record: &Record) {
        let far = |open: &Open| u32::try_from(record.offset - open.base_offset).is_err();
        if self.open.as_ref().is_some_and(far) {
            self.close();
        }
        let open = Self::open(&mut self.open, &mut self.bytes, record.offset);
        let delta = (record.offset - open.base_offset) as u32;
        open.note(delta, record.timestamp_ms);
        put_number(&mut self.bytes, u64::from(delta));
        self.bytes.extend_from_slice(&record.timestamp_ms.to_le_bytes());
        put_optional(&mut self.bytes, record.key.as_deref());
        put_optional(&mut self.bytes, record.value.as_deref());
        put_number(&mut self.bytes, record.headers.len() as u64);
        for (name, value) in &record.headers {
            put_bytes(&mut self.bytes, name.as_bytes());
            put_bytes(&mut self.bytes, value);
        }
        self.close_when_full();
    }

    fn open<'a>(open: &'a mut Option<Open>, bytes: &mut Vec<u8>, base_offset: u64) -> &'a mut Open {
        open.get_or_insert_with(|| {
            let start = bytes.len();
            bytes.extend_from_slice(&[0; HEADER_BYTES]);
            Open {
                start,
                base_offset,
                count: 0,
                last_delta: 0,
                timestamp_ms_max: i64::MIN,
            }
        })
    }

    fn close_when_full(&mut self) {
        let full = |open: &Open| self.bytes.len() - open.start >= HEADER_BYTES + PAYLOAD_BYTES_AIM;
        if self.open.as_ref().is_some_and(full) {
            self.close();
        }
    }

    fn close(&mut self) {
        let Some(open) = self.open.take() else { return };
        let Some((header, payload)) = self.bytes[open.start..].split_first_chunk_mut::<HEADER_BYTES>() else {
            return;
        };
        Header {
            payload_bytes: payload.len() as u32,
            base_offset: open.base_offset,
            count: open.count,
            last_delta: open.last_delta,
            timestamp_ms_max: open.timestamp_ms_max,
            payload_crc: crc32fast::hash(payload),
        }
        .write(header);
    }

    /// The blocks, all closed; what remains is empty.
    pub(super) fn take(&mut self) -> Vec<u8> {
        self.close();
        std::mem::take(&mut self.bytes)
    }
}

impl Open {
    fn note(&mut self, delta: u32, timestamp_ms: i64) {
        self.count += 1;
        self.last_delta = delta;
        self.timestamp_ms_max = self.timestamp_ms_max.max(timestamp_ms);
    }
}

/// Gives the records in `blocks` their offsets from `next_offset` on and returns the one after the last; `None` where
/// `blocks` is not what [`Blocks::take`] made.
pub(super) fn set_offsets(blocks: &mut [u8], mut next_offset: u64) -> Option<u64> {
    let mut at = 0;
    while at < blocks.len() {
        let mut header = Header::read(blocks.get(at..)?)?;
        header.base_offset = next_offset;
        next_offset += u64::from(header.last_delta) + 1;
        header.write(blocks.get_mut(at..)?.first_chunk_mut()?);
        at += header.block_bytes() as usize;
    }
    Some(next_offset)
}

/// Whether a block's payload is what its header says.
pub(super) fn is_intact(header: &Header, payload: &[u8]) -> bool {
    payload.len() == header.payload_bytes as usize && crc32fast::hash(payload) == header.payload_crc
}

/// Appends the records of a block with offsets from `from` on to `records`, their bytes shared with `payload`. `None`
/// where the payload is damaged.
pub(super) fn read_records(
    header: &Header,
    payload: &Bytes,
    from: u64,
    topic: &Arc<str>,
    partition: u32,
    records: &mut Vec<Record>,
) -> Option<()> {
    if !is_intact(header, payload) {
        return None;
    }
    let mut cursor = Cursor::new(payload);
    for _ in 0..header.count {
        let offset = header.base_offset.checked_add(cursor.number()?)?;
        let timestamp_ms = i64::from_le_bytes(cursor.fixed()?);
        let (key, value) = (cursor.optional_range()?, cursor.optional_range()?);
        let mut headers = Vec::new();
        for _ in 0..cursor.number()? {
            let name = cursor.text()?;
            headers.push((name, payload.slice(cursor.bytes_range()?)));
        }
        if offset >= from {
            records.push(Record {
                topic: Arc::clone(topic),
                partition,
                offset,
                key: key.map(|range| payload.slice(range)),
                value: value.map(|range| payload.slice(range)),
                timestamp_ms,
                headers,
            });
        }
    }
    cursor.is_at_end().then_some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(count: u32) -> Vec<u8> {
        let mut blocks = Blocks::default();
        for number in 0..count {
            let value = number.to_string();
            blocks.push(&RecordRef {
                key: (number % 2 == 0).then_some(b"key"),
                value: (number % 3 != 0).then_some(value.as_bytes()),
                timestamp_ms: i64::from(number),
                headers: &[],
            });
        }
        blocks.take()
    }

    fn read(bytes: &[u8], from: u64) -> Option<Vec<Record>> {
        let (mut at, mut records) = (0, Vec::new());
        while at < bytes.len() {
            let header = Header::read(bytes.get(at..)?)?;
            let payload = bytes.get(at + HEADER_BYTES..at + header.block_bytes() as usize)?;
            read_records(
                &header,
                &Bytes::copy_from_slice(payload),
                from,
                &Arc::from("t"),
                3,
                &mut records,
            )?;
            at += header.block_bytes() as usize;
        }
        Some(records)
    }

    #[test]
    fn records_get_their_offsets_over_several_blocks_and_come_back() {
        let mut bytes = made(50_000);
        assert!(bytes.len() > 2 * PAYLOAD_BYTES_AIM);
        assert_eq!(set_offsets(&mut bytes, 1_000), Some(51_000));
        let records = read(&bytes, 0).unwrap();
        assert_eq!(records.len(), 50_000);
        for (record, number) in records.iter().zip(0_u64..) {
            assert_eq!(record.offset, 1_000 + number);
            assert_eq!(record.key.is_some(), number % 2 == 0);
            let value = (number % 3 != 0).then(|| Bytes::from(number.to_string()));
            assert_eq!(record.value, value);
        }
        assert_eq!(read(&bytes, 50_999).unwrap().len(), 1);
    }

    #[test]
    fn kept_records_stay_at_their_offsets() {
        let mut bytes = made(100);
        set_offsets(&mut bytes, 7).unwrap();
        let mut kept: Vec<Record> = read(&bytes, 0).unwrap();
        kept.retain(|record| record.offset % 5 == 0);
        kept.last_mut().unwrap().offset += u64::from(u32::MAX);
        let mut blocks = Blocks::default();
        kept.iter().for_each(|record| blocks.push_kept(record));
        assert_eq!(read(&blocks.take(), 0).unwrap(), kept);
    }

    #[test]
    fn each_flipped_bit_is_noticed() {
        let mut bytes = made(20);
        set_offsets(&mut bytes, 0).unwrap();
        for at in 0..bytes.len() * 8 {
            bytes[at / 8] ^= 1 << (at % 8);
            assert_eq!(read(&bytes, 0), None, "bit {at}");
            bytes[at / 8] ^= 1 << (at % 8);
        }
        assert!(read(&bytes, 0).is_some());
    }
}

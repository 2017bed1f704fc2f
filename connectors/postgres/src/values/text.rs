// SPDX-License-Identifier: Apache-2.0
//! Types whose binary form is text, with at most a version byte before it.

use highwater_core::value::{ColumnDecoder, ValueError, ValueWriter};

pub(super) fn utf8(bytes: &[u8]) -> Result<&str, ValueError> {
    if bytes.is_ascii() {
        // SAFETY: ASCII is UTF-8. Most text is, and to see that takes a fraction of the full check.
        return Ok(unsafe { std::str::from_utf8_unchecked(bytes) });
    }
    std::str::from_utf8(bytes).map_err(|_| ValueError::new("text is not UTF-8; was the database made with SQL_ASCII?"))
}

/// `text`, `varchar`, `char(n)` (padded, as the server has it), `name`, `json`, `xml`, `citext`, an enum's label.
#[derive(Debug)]
pub struct Text;

impl ColumnDecoder for Text {
    fn decode(&self, bytes: &[u8], out: &mut dyn ValueWriter) -> Result<(), ValueError> {
        out.string(utf8(bytes)?);
        Ok(())
    }
}

/// `jsonb`, `ltree`: text after a version byte, which is 1.
#[derive(Debug)]
pub struct VersionedText;

impl ColumnDecoder for VersionedText {
    fn decode(&self, bytes: &[u8], out: &mut dyn ValueWriter) -> Result<(), ValueError> {
        match bytes.split_first() {
            Some((1, text)) => out.string(utf8(text)?),
            _ => return Err(ValueError::new("unknown version of a binary form")),
        }
        Ok(())
    }
}

/// `"char"`: one byte. A byte beyond ASCII is written as the server writes it since version 16: `\377`.
#[derive(Debug)]
pub struct SingleByte;

impl ColumnDecoder for SingleByte {
    fn decode(&self, bytes: &[u8], out: &mut dyn ValueWriter) -> Result<(), ValueError> {
        match bytes {
            [0] => out.string(""),
            [byte @ 1..=0x7F] => out.string(utf8(&[*byte])?),
            [byte] => {
                let digit = |shift: u8| b'0' + (byte >> shift & 7);
                out.string(utf8(&[b'\\', digit(6), digit(3), digit(0)])?);
            }
            _ => return Err(ValueError::new("\"char\" is not 1 byte long")),
        }
        Ok(())
    }
}

/// `bytea`.
#[derive(Debug)]
pub struct Bytea;

impl ColumnDecoder for Bytea {
    fn decode(&self, bytes: &[u8], out: &mut dyn ValueWriter) -> Result<(), ValueError> {
        out.bytes(bytes);
        Ok(())
    }
}

/// `hstore`, as a JSON object of strings and nulls in the server's order.
#[derive(Debug)]
pub struct Hstore;

impl ColumnDecoder for Hstore {
    fn decode(&self, bytes: &[u8], out: &mut dyn ValueWriter) -> Result<(), ValueError> {
        out.string(&hstore_json(bytes).ok_or(ValueError::new("hstore is malformed"))?);
        Ok(())
    }
}

fn hstore_json(bytes: &[u8]) -> Option<String> {
    let mut rest = bytes;
    let count = take_length(&mut rest)??;
    let mut json = String::with_capacity(bytes.len() + 16);
    json.push('{');
    for pair in 0..count {
        if pair > 0 {
            json.push(',');
        }
        push_json_string(&mut json, take_text(&mut rest)??);
        json.push(':');
        match take_text(&mut rest)? {
            Some(text) => push_json_string(&mut json, text),
            None => json.push_str("null"),
        }
    }
    json.push('}');
    rest.is_empty().then_some(json)
}

/// A length, or `None` inside for the -1 that means NULL.
fn take_length(rest: &mut &[u8]) -> Option<Option<usize>> {
    let (length, tail) = rest.split_first_chunk::<4>()?;
    *rest = tail;
    match i32::from_be_bytes(*length) {
        -1 => Some(None),
        length => usize::try_from(length).ok().map(Some),
    }
}

fn take_text<'a>(rest: &mut &'a [u8]) -> Option<Option<&'a str>> {
    let Some(length) = take_length(rest)? else {
        return Some(None);
    };
    let (text, tail) = rest.split_at_checked(length)?;
    *rest = tail;
    std::str::from_utf8(text).ok().map(Some)
}

fn push_json_string(json: &mut String, text: &str) {
    json.push_str(&serde_json::Value::from(text).to_string());
}

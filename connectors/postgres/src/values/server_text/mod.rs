// SPDX-License-Identifier: Apache-2.0
//! Values as the server itself writes them: what ranges and other types without a better form are in events, and every
//! type that `values.as_text` names. Dates are in the style ISO, moments in UTC, bytes in hexadecimal digits, floats in
//! the shortest form.

pub(super) mod geometric;
pub(super) mod nested;
pub(super) mod number;
pub(super) mod search;
pub(super) mod system;
pub(super) mod time;
pub(super) mod vector;

use super::cursor::Cursor;
use highwater_core::value::{ColumnDecoder, ValueError, ValueWriter};
use std::fmt::{Debug, Write};
use std::sync::Arc;

/// Writes values of one type as text.
pub(super) trait ServerText: Send + Sync + Debug {
    /// Appends the text of a binary form; `None` for bytes that are none.
    fn write(&self, bytes: &[u8], out: &mut String) -> Option<()>;
}

impl<F: Fn(&mut Cursor<'_>, &mut String) -> Option<()> + Send + Sync> ServerText for Named<F> {
    fn write(&self, bytes: &[u8], out: &mut String) -> Option<()> {
        let mut cursor = Cursor::new(bytes);
        (self.write)(&mut cursor, out)?;
        cursor.finish()
    }
}

/// A function that writes a type's values, and what they are called.
pub(super) struct Named<F> {
    name: &'static str,
    write: F,
}

impl<F> Debug for Named<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

/// A type whose text a function writes, which takes all of the bytes.
pub(super) fn by<F>(name: &'static str, write: F) -> Arc<dyn ServerText>
where
    F: Fn(&mut Cursor<'_>, &mut String) -> Option<()> + Send + Sync + 'static,
{
    Arc::new(Named { name, write })
}

/// A type whose text is what a decoder writes.
pub(super) fn as_decoded(decoder: impl ColumnDecoder + 'static) -> Arc<dyn ServerText> {
    Arc::new(Decoded(Arc::new(decoder)))
}

#[derive(Debug)]
struct Decoded(Arc<dyn ColumnDecoder>);

impl ServerText for Decoded {
    fn write(&self, bytes: &[u8], out: &mut String) -> Option<()> {
        let mut writer = TextWriter { out, sound: true };
        self.0.decode(bytes, &mut writer).ok()?;
        writer.sound.then_some(())
    }
}

/// Appends a text.
pub(super) fn push(text: &str, out: &mut String) -> Option<()> {
    out.push_str(text);
    Some(())
}

/// Values in events that are the server's text.
#[derive(Debug)]
pub(super) struct AsText(pub(super) Arc<dyn ServerText>);

impl ColumnDecoder for AsText {
    fn decode(&self, bytes: &[u8], out: &mut dyn ValueWriter) -> Result<(), ValueError> {
        let mut text = String::with_capacity(bytes.len() + 16);
        let written = self.0.write(bytes, &mut text);
        written.ok_or(ValueError::new("value is malformed, or its text is not UTF-8"))?;
        out.string(&text);
        Ok(())
    }
}

/// Simple values as text.
struct TextWriter<'a> {
    out: &'a mut String,
    sound: bool,
}

impl TextWriter<'_> {
    fn display(&mut self, value: impl std::fmt::Display) {
        self.sound &= write!(self.out, "{value}").is_ok();
    }
}

impl ValueWriter for TextWriter<'_> {
    fn boolean(&mut self, value: bool) {
        self.out.push(if value { 't' } else { 'f' });
    }
    fn int(&mut self, value: i32) {
        self.display(value);
    }
    fn long(&mut self, value: i64) {
        self.display(value);
    }
    fn float(&mut self, value: f32) {
        number::write_float4(value, self.out);
    }
    fn double(&mut self, value: f64) {
        number::write_float8(value, self.out);
    }
    fn string(&mut self, value: &str) {
        self.out.push_str(value);
    }
    fn bytes(&mut self, value: &[u8]) {
        self.out.push_str("\\x");
        for byte in value {
            self.display(format_args!("{byte:02x}"));
        }
    }
    // Types with these have a text of their own.
    fn null(&mut self) {
        self.sound = false;
    }
    fn decimal(&mut self, _: &[u8]) {
        self.sound = false;
    }
    fn variable_scale_decimal(&mut self, _: i32, _: &[u8]) {
        self.sound = false;
    }
    fn begin(&mut self, _: usize) {
        self.sound = false;
    }
    fn next(&mut self) {
        self.sound = false;
    }
    fn end(&mut self) {
        self.sound = false;
    }
}

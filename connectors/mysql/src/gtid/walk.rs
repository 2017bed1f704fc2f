// SPDX-License-Identifier: Apache-2.0
//! Walking over text and remembering where one is.

use super::GtidError;

/// A part of a text that knows where it begins in the whole.
#[derive(Debug, Clone, Copy)]
pub(super) struct Part<'a> {
    pub(super) text: &'a str,
    offset: usize,
}

impl<'a> Part<'a> {
    pub(super) fn whole(text: &'a str) -> Self {
        Self { text, offset: 0 }.trimmed()
    }

    /// The parts between separators, without the white space around each.
    pub(super) fn split(self, separator: char) -> impl Iterator<Item = Part<'a>> {
        let mut offset = self.offset;
        self.text.split(separator).map(move |text| {
            let part = Part { text, offset }.trimmed();
            offset += text.len() + separator.len_utf8();
            part
        })
    }

    fn trimmed(self) -> Self {
        let text = self.text.trim_start();
        let offset = self.offset + self.text.len() - text.len();
        let text = text.trim_end();
        Self { text, offset }
    }

    /// The part as a number without a sign.
    pub(super) fn number<N: std::str::FromStr>(self, what: &'static str) -> Result<N, GtidError> {
        let digits = self.text.bytes().all(|byte| byte.is_ascii_digit());
        let number = digits.then(|| self.text.parse().ok()).flatten();
        number.ok_or_else(|| self.malformed(what))
    }

    pub(super) fn malformed(self, what: &'static str) -> GtidError {
        GtidError {
            offset: self.offset,
            what,
        }
    }
}

// SPDX-License-Identifier: Apache-2.0
//! Bytes that hold what users stored.

use std::fmt;
use std::ops::Deref;

use bytes::Bytes;

/// A slice of an event with row values or statements in it. Values never reach a log: `Debug` tells how many bytes.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct ValueBytes(Bytes);

impl From<Bytes> for ValueBytes {
    fn from(bytes: Bytes) -> Self {
        Self(bytes)
    }
}

impl Deref for ValueBytes {
    type Target = Bytes;

    fn deref(&self) -> &Bytes {
        &self.0
    }
}

impl fmt::Debug for ValueBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

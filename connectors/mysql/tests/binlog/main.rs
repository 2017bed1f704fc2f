// SPDX-License-Identifier: Apache-2.0
//! What real servers wrote, read: `tests/samples/README.md` says which server and which statements made each file.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod changed_rows;
mod damage;
mod sample;
mod stream;
mod table_shapes;
mod transactions;
mod transcript;
mod values;

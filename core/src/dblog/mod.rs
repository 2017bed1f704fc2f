// SPDX-License-Identifier: Apache-2.0
//! Snapshot plus log, as a state machine: [`input::Input`] in, [`action::Action`] out. No I/O, no clock, no `async`.

pub mod action;
pub mod input;

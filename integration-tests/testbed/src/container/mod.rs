// SPDX-License-Identifier: Apache-2.0
//! The container back end: any Docker-compatible engine, through testcontainers.

pub(crate) mod contained;
pub(crate) mod engine;
pub mod images;
pub mod local_engine;
pub(crate) mod owner;
mod podman;
mod sweep;

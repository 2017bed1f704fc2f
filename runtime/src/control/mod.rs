// SPDX-License-Identifier: Apache-2.0
//! The local socket of a running pipeline: one request a connection, as a line of JSON; answers as lines of JSON.
//!
//! ```text
//!   → {"do":"tail","topic":"shop.public.movies","max":1}
//!   ← {"item":{…}}        none, one or many
//!   ← {"end":{…}}         or {"error":{"message":…,"fix":…,"class":"user"}}
//! ```
//!
//! Only the pipeline's own user may connect: the socket's mode is 0600. A client that goes away ends its request.

mod client;
mod live;
mod request;
mod server;

pub use client::Client;
pub use live::Live;
pub use request::{Answer, Request, Told};
pub use server::Server;

// SPDX-License-Identifier: Apache-2.0
//! A source in memory: the model database behind the traits of a connector, in each of the three ways to reconcile.
//!
//! ```
//! use highwater_testkit::fake::{FakeConnector, FakeServer, FakeWay};
//! use highwater_testkit::model::Write;
//!
//! let server = FakeServer::new(2); // tables public.t0 and public.t1: id, a, big
//! server.write(vec![Write::Put { table: 0, id: 7, big: true }]);
//! let connector = FakeConnector::new(server.clone(), FakeWay::MarksInLog);
//! ```

mod connector;
mod readers;
mod server;

pub use connector::{FakeConnector, FakeSourceBlock};
pub use readers::{FakeChunks, FakeLog, FakeWatermarks};
pub use server::{FakeServer, FakeWay};

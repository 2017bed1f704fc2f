// SPDX-License-Identifier: Apache-2.0
//! What a pipeline is, as people write it: a versioned YAML file, read into types that the command line, the runtime and
//! the control plane share.
//!
//! ```text
//!   text --yaml--> Document (tree with lines) --reader--> Pipeline
//!                                                └── settings of connector, transport and registry stay Documents:
//!                                                    only they know their names
//! ```
//!
//! A mistake is told with its path, its line and the nearest name that would have been right ([`SpecError`]). A text may
//! refer to a secret, `${env:NAME}` or `${file:path}`; it is looked up when the settings are used
//! ([`Document::resolve`]), never printed and never part of a serialized pipeline.

mod document;
mod error;
mod nearest;
mod pipeline;
mod reader;
mod secret;
mod yaml;

pub use document::Document;
pub use error::SpecError;
pub use nearest::nearest;
pub use pipeline::{
    AdminSpec, CheckpointSpec, EmbeddedRegistrySpec, FirstLoad, Format, Pipeline, RegistrySpec, RetrySpec,
    SnapshotMode, SnapshotSpec, SourceSpec, TopicCleanup, TopicsSpec, TransportSpec, VERSION,
};
pub use secret::{Environment, ProcessEnvironment};

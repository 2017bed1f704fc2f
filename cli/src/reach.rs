// SPDX-License-Identifier: Apache-2.0
//! How commands reach a pipeline: over its local socket, or (its topics only) through Kafka.

use std::sync::Arc;

use highwater_core::transport::Transport;
use highwater_core::{Error, ErrorKind, Result};
use highwater_formats::{Format, SchemaRegistry};
use highwater_model::TransportSpec;
use highwater_runtime::control::Client;
use highwater_runtime::{PipelineFile, components};

use crate::args::ReachArgs;

/// The client of the pipeline's socket.
pub fn client(args: &ReachArgs) -> Result<Client> {
    match &args.socket {
        Some(socket) => Ok(Client::new(socket)),
        None => Ok(Client::new(PipelineFile::read(&args.file)?.socket())),
    }
}

/// A pipeline's topics, opened by this process.
pub struct Opened {
    /// The topics.
    pub transport: Arc<dyn Transport>,
    /// Their schemas.
    pub registry: Arc<dyn SchemaRegistry>,
    /// Their format.
    pub format: Format,
    /// First part of their names.
    pub prefix: String,
}

/// Opens the topics without a running pipeline, where that is possible: they lie in Kafka, or no process holds the
/// embedded store. `None`: a running pipeline is to be asked.
pub async fn open(args: &ReachArgs) -> Result<Option<Opened>> {
    if args.socket.is_some() {
        return Ok(None);
    }
    let file = PipelineFile::read(&args.file)?;
    if std::os::unix::net::UnixStream::connect(file.socket()).is_ok() {
        return Ok(None);
    }
    if matches!(file.pipeline.transport, TransportSpec::Discard) {
        return Err(
            Error::new(ErrorKind::Unsuitable, "the transport \"discard\" keeps no records")
                .with_fix("set \"transport\" to embedded or kafka"),
        );
    }
    Ok(Some(Opened {
        transport: components::transport(&file.pipeline, &file.folder).await?,
        registry: components::registry(&file.pipeline, &file.folder).await?,
        format: components::format(&file.pipeline),
        prefix: file.pipeline.prefix().to_owned(),
    }))
}

// SPDX-License-Identifier: Apache-2.0
//! `highwater run FILE`.

use highwater_core::Result;
use highwater_runtime::telemetry::logging::{self, LogFormat};
use highwater_runtime::{PipelineFile, PipelineHost, shutdown};

use crate::args::{LogForm, RunArgs};
use crate::connectors::connectors;

/// Captures until the wish to stop.
pub async fn run(args: RunArgs) -> Result<()> {
    logging::init(match args.log {
        LogForm::Text => LogFormat::Text,
        LogForm::Json => LogFormat::Json,
    });
    let host = PipelineHost::new(PipelineFile::read(&args.file)?, &connectors())?;
    let (sender, shutdown) = shutdown::channel();
    shutdown::on_signals(sender)?;
    host.run(&shutdown).await
}

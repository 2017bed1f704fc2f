// SPDX-License-Identifier: Apache-2.0
//! `highwater renew FILE`.

use highwater_core::Result;
use highwater_runtime::telemetry::logging::{self, LogFormat};
use highwater_runtime::{PipelineFile, PipelineHost};

use crate::args::RenewArgs;
use crate::connectors::connectors;

/// Gives up a position that is lost; the next run makes every table right again.
pub async fn renew(args: RenewArgs) -> Result<()> {
    logging::init(LogFormat::Text);
    let host = PipelineHost::new(PipelineFile::read(&args.file)?, &connectors())?;
    let begun = host.begin_anew(args.force).await?;
    if args.json {
        let told = serde_json::json!({
            "position": begun.position, "tables": begun.tables, "without_key": begun.without_key,
        });
        println!("{told}");
        return Ok(());
    }
    println!("the log begins anew at {}", begun.position);
    for table in &begun.tables {
        println!("{table}: the next run copies it and removes what is gone");
    }
    for table in &begun.without_key {
        println!("{table}: has no key, so what it missed cannot be told; it is captured from here on");
    }
    println!("now run it: highwater run {}", args.file.display());
    Ok(())
}

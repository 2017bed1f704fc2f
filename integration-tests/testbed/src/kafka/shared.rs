// SPDX-License-Identifier: Apache-2.0
//! One broker for all tests of a binary: each takes topic names of its own.

use std::sync::Arc;

use tokio::sync::OnceCell;

use super::{Kafka, KafkaOptions};
use crate::at_exit;
use crate::error::Result;

impl Kafka {
    /// The broker that all tests of the binary share, with default options; it is started by the first caller and
    /// ends with the process. Do not stop it, and give topics, groups and transactional ids unique names.
    pub async fn shared() -> Result<Arc<Self>> {
        static SERVER: OnceCell<Arc<Kafka>> = OnceCell::const_new();
        let server = SERVER
            .get_or_try_init(|| async {
                let server = Arc::new(Kafka::start(KafkaOptions::default()).await?);
                let at_end = Arc::clone(&server);
                at_exit::run(move || at_end.end());
                Ok(server)
            })
            .await?;
        Ok(Arc::clone(server))
    }
}

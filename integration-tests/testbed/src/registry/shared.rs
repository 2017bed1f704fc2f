// SPDX-License-Identifier: Apache-2.0
//! One registry for all tests of a binary: each takes subject names of its own.

use std::sync::Arc;

use tokio::sync::OnceCell;

use super::Registry;
use crate::at_exit;
use crate::error::Result;

impl Registry {
    /// The registry that all tests of the binary share; it is started by the first caller and ends with the process.
    /// Do not stop it, and give subjects unique names.
    pub async fn shared() -> Result<Arc<Self>> {
        static SERVER: OnceCell<Arc<Registry>> = OnceCell::const_new();
        let server = SERVER
            .get_or_try_init(|| async {
                let server = Arc::new(Registry::start().await?);
                let at_end = Arc::clone(&server);
                at_exit::run(move || at_end.end());
                Ok(server)
            })
            .await?;
        Ok(Arc::clone(server))
    }
}

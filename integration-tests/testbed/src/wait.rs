// SPDX-License-Identifier: Apache-2.0
//! Waiting for a condition with a limit, never for a time.

use std::time::{Duration, Instant};

use crate::error::{Error, Result};

/// Time between two looks at a condition.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Looks at `condition` until it gives a value; an error of the condition ends the wait, and so does the `limit`.
///
/// Cancel-safe: it keeps nothing between looks.
pub async fn until<T, F>(limit: Duration, what: &str, mut condition: impl FnMut() -> F) -> Result<T>
where
    F: Future<Output = Result<Option<T>>>,
{
    let end = Instant::now() + limit;
    loop {
        if let Some(value) = condition().await? {
            return Ok(value);
        }
        if Instant::now() >= end {
            return Err(Error::new(format!("{what} did not happen within {limit:?}")));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

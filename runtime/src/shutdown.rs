// SPDX-License-Identifier: Apache-2.0
//! The wish to stop, told once to everyone.

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use highwater_core::{Error, ErrorKind, Result};

/// Exit code after a second signal: 128 + SIGINT, as a shell has it.
const AT_ONCE_EXIT_CODE: i32 = 130;

/// Waits for the wish to stop. Clones hear the same wish.
#[derive(Debug, Clone)]
pub struct Shutdown(watch::Receiver<bool>);

/// Utters the wish.
#[derive(Debug, Clone)]
pub struct ShutdownSender(watch::Sender<bool>);

/// A wish not yet uttered.
pub fn channel() -> (ShutdownSender, Shutdown) {
    let (sender, receiver) = watch::channel(false);
    (ShutdownSender(sender), Shutdown(receiver))
}

impl ShutdownSender {
    /// From now on [`Shutdown::requested`] returns. Idempotent.
    pub fn request(&self) {
        self.0.send_replace(true);
    }
}

impl Shutdown {
    /// Whether it was uttered.
    pub fn is_requested(&self) -> bool {
        *self.0.borrow()
    }

    /// Returns once the wish was uttered; never, when its sender is gone without it. Cancel-safe.
    pub async fn requested(&self) {
        let mut receiver = self.0.clone();
        if receiver.wait_for(|requested| *requested).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// Turns SIGTERM and SIGINT into the wish to stop; the second one ends the process at once, without draining. Must be
/// called inside a tokio runtime.
///
/// # Errors
/// When the system refuses a signal handler.
pub fn on_signals(sender: ShutdownSender) -> Result<()> {
    let refused = |error| Error::new(ErrorKind::Bug, "cannot listen for signals").with_source(error);
    let mut terminate = signal(SignalKind::terminate()).map_err(refused)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(refused)?;
    tokio::spawn(async move {
        let mut first = true;
        loop {
            let name = tokio::select! {
                Some(()) = terminate.recv() => "SIGTERM",
                Some(()) = interrupt.recv() => "SIGINT",
                else => return,
            };
            if first {
                tracing::info!(
                    signal = name,
                    "stopping: what was captured is committed first; a second signal ends at once"
                );
                sender.request();
                first = false;
            } else {
                tracing::warn!(signal = name, "ending at once");
                std::process::exit(AT_ONCE_EXIT_CODE);
            }
        }
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_clone_hears_the_wish_also_after_it_was_uttered() {
        let (sender, shutdown) = channel();
        let early = shutdown.clone();
        let waiting = tokio::spawn(async move { early.requested().await });
        assert!(!shutdown.is_requested());
        sender.request();
        waiting.await.unwrap();
        shutdown.requested().await;
        assert!(shutdown.is_requested());
    }
}

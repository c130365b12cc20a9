//! How a node ends, and how everyone who waits for it learns why.
//!
//! The driver owns the [`Ending`]; whoever waits holds a [`Life`]. When the driver ends, on
//! whichever path, its `Ending` is dropped and every waiter wakes: a future that waits for a node
//! is always resolved.

use tokio::sync::watch;

/// Why a node does not run any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StopReason {
    /// It was shut down, or every handle to it was dropped.
    #[error("the node was shut down")]
    Shutdown,
    /// The store failed to write: nothing would be durable any more, so the node acknowledges
    /// and votes no more in this process.
    #[error("the store failed to write")]
    StoreFailed,
    /// The transport ended by itself.
    #[error("the transport ended")]
    TransportFailed,
    /// The node broke one of its own rules and stopped before it could do harm.
    #[error("the node stopped after a panic; its log says where")]
    Panicked,
}

/// The driver's end of the news of its end.
#[derive(Debug)]
pub(crate) struct Ending {
    reason: watch::Sender<Option<StopReason>>,
}

impl Ending {
    /// Ends the node for this reason; the first reason stays.
    pub(crate) fn end(&self, reason: StopReason) {
        self.reason.send_if_modified(|current| {
            let first = current.is_none();
            if first {
                *current = Some(reason);
            }
            first
        });
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        // The driver ended without a word: only unwinding skips the others.
        self.end(StopReason::Panicked);
    }
}

/// Everyone else's end: tells whether the node runs, and why not.
#[derive(Clone, Debug)]
pub(crate) struct Life {
    reason: watch::Receiver<Option<StopReason>>,
}

impl Life {
    /// A running node's two ends.
    pub(crate) fn new() -> (Ending, Self) {
        let (sender, receiver) = watch::channel(None);
        (Ending { reason: sender }, Self { reason: receiver })
    }

    /// Waits until the node has ended. Cancel-safe.
    pub(crate) async fn ended(&mut self) -> StopReason {
        // An error says that the sender is gone, and then it has set a reason before.
        let _ = self.reason.wait_for(Option::is_some).await;
        self.reason.borrow().unwrap_or(StopReason::Panicked)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_first_reason_stays_and_a_silent_end_is_a_panic() {
        let (ending, mut life) = Life::new();
        let mut other = life.clone();
        ending.end(StopReason::StoreFailed);
        drop(ending);
        assert_eq!(life.ended().await, StopReason::StoreFailed);
        assert_eq!(other.ended().await, StopReason::StoreFailed);

        let (ending, mut life) = Life::new();
        drop(ending);
        assert_eq!(life.ended().await, StopReason::Panicked);
    }
}

//! The stream of a namespace's events.

use tokio::sync::broadcast::{self, error::RecvError};

use super::error::EventsError;
use crate::host::NodeEvent;

/// The events of a namespace from the moment of [`crate::NamespaceHandle::events`] on.
#[derive(Debug)]
pub struct Events {
    receiver: broadcast::Receiver<NodeEvent>,
}

impl Events {
    pub(super) const fn new(receiver: broadcast::Receiver<NodeEvent>) -> Self {
        Self { receiver }
    }

    /// Waits for the next event. Cancel-safe.
    ///
    /// # Errors
    /// [`EventsError::Missed`] if this listener was more than 1,024 events behind (the stream goes
    /// on after that), [`EventsError::Closed`] when there will be no more.
    pub async fn next(&mut self) -> Result<NodeEvent, EventsError> {
        self.receiver.recv().await.map_err(|error| match error {
            RecvError::Lagged(count) => EventsError::Missed { count },
            RecvError::Closed => EventsError::Closed,
        })
    }
}

//! Writes and reads as values that become futures, so that options read like words:
//! `jobs.get("k").stale().await`.

use std::{
    fmt,
    future::{Future, IntoFuture},
    pin::Pin,
    time::Duration,
};

use bytes::Bytes;
use meshraft_consensus::{Index, Position};
use meshraft_service::{
    kv::Revision,
    limits,
    wire::{Level, Operation},
};

use super::{
    error::{ReadError, WriteError},
    handle::{NamespaceHandle, whole_ms},
};

type Pending<T, E> = Pin<Box<dyn Future<Output = Result<T, E>> + Send>>;

/// A command that took effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// Where in the log.
    pub position: Position,
    /// What the state machine answered.
    pub response: Bytes,
}

/// What a query found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// What this node had applied.
    pub index: Index,
    /// What the state machine answered.
    pub response: Bytes,
}

/// A value and when it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// The value.
    pub value: Bytes,
    /// The revision of the command that wrote it.
    pub revision: Revision,
}

/// What a delete did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deleted {
    /// Whether the key was there.
    pub deleted: bool,
    /// The revision of the command.
    pub revision: Revision,
}

/// A write that is not sent yet: `.await` sends it.
///
/// Any member takes it. It is applied exactly once, however often it has to be repeated on its way;
/// an error says whether it may have been. Cancelled, it may take effect or not.
#[must_use = "a write is sent when it is awaited"]
pub struct Write<T> {
    handle: NamespaceHandle,
    payload: Bytes,
    timeout: Option<Duration>,
    decode: fn(Applied) -> Result<T, WriteError>,
}

impl<T> Write<T> {
    pub(super) fn new(
        handle: &NamespaceHandle,
        payload: Bytes,
        decode: fn(Applied) -> Result<T, WriteError>,
    ) -> Self {
        Self { handle: handle.clone(), payload, timeout: None, decode }
    }

    /// How long to try: 1 ms to 60 s, default 5 s.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }
}

impl<T: 'static> IntoFuture for Write<T> {
    type Output = Result<T, WriteError>;
    type IntoFuture = Pending<T, WriteError>;

    fn into_future(self) -> Self::IntoFuture {
        let Self { handle, payload, timeout, decode } = self;
        Box::pin(async move {
            let timeout = limits::request_timeout(timeout.map(whole_ms))?;
            decode(handle.write(payload, timeout).await?)
        })
    }
}

/// A read that is not sent yet: `.await` sends it. Cancel-safe.
#[must_use = "a read is sent when it is awaited"]
pub struct Read<T> {
    handle: NamespaceHandle,
    query: Bytes,
    level: Level,
    timeout: Option<Duration>,
    decode: fn(Answer) -> Result<T, ReadError>,
}

impl<T> Read<T> {
    pub(super) fn new(
        handle: &NamespaceHandle,
        query: Bytes,
        decode: fn(Answer) -> Result<T, ReadError>,
    ) -> Self {
        let level = Level::Linearizable;
        Self { handle: handle.clone(), query, level, timeout: None, decode }
    }

    /// After every write that was acknowledged before, anywhere. The default.
    pub fn linearizable(mut self) -> Self {
        self.level = Level::Linearizable;
        self
    }

    /// The same, as long as the members' clocks run alike: the leader need not ask anybody, if the
    /// namespace allows it ([`super::NamespaceBuilder::lease_drift_permille`]); else it asks.
    pub fn lease(mut self) -> Self {
        self.level = Level::Lease;
        self
    }

    /// Never older than what this handle, or a clone of it, has read or written: it waits until
    /// this node has applied that, and needs nobody else. A node that does not catch up in time
    /// answers [`ServiceError::Behind`](meshraft_service::ServiceError::Behind).
    pub fn session(mut self) -> Self {
        self.level = Level::Session;
        self
    }

    /// What this node has applied; may be old, needs nobody else.
    pub fn stale(mut self) -> Self {
        self.level = Level::Stale;
        self
    }

    /// How long to try: 1 ms to 60 s, default 5 s.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }
}

impl<T: 'static> IntoFuture for Read<T> {
    type Output = Result<T, ReadError>;
    type IntoFuture = Pending<T, ReadError>;

    fn into_future(self) -> Self::IntoFuture {
        let Self { handle, query, level, timeout, decode } = self;
        Box::pin(async move {
            let timeout = limits::request_timeout(timeout.map(whole_ms))?;
            let operation = match level {
                Level::Session => Operation::SessionRead { seen: handle.seen(), query },
                level => Operation::Read { level, query },
            };
            decode(handle.read(operation, timeout).await?)
        })
    }
}

impl<T> fmt::Debug for Write<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Write").field("timeout", &self.timeout).finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for Read<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Read")
            .field("level", &self.level)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

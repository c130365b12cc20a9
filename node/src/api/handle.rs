//! A handle to a namespace: writes, reads, and what can be seen of it.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use meshraft_consensus::{Index, Member, Namespace, NodeId};
use meshraft_service::{
    ServiceError,
    kv::{Found, KeyPage, KvCommand, KvQuery, Revision, Written},
    limits,
    wire::{Operation, Reply, Response, Status},
};
use tokio::{sync::oneshot, time::Instant};

use super::{
    error::{ReadError, ReadyError, StatusError, WriteError},
    events::Events,
    request::{Answer, Applied, Deleted, Pair, Read, Write},
    session::{Permit, Session},
};
use crate::{
    runtime::{
        Running,
        board::Board,
        command::{Call, Command},
    },
    shutdown::StopReason,
};

/// A namespace that a node hosts. A cheap handle: clones share the namespace and the session in
/// which they write and read. The namespace is hosted until [`NamespaceHandle::close`], or until
/// the node ends.
#[derive(Clone, Debug)]
pub struct NamespaceHandle {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    namespace: Namespace,
    running: Running,
    board: Arc<Board>,
    session: Arc<Session>,
}

/// Who takes part in a namespace, as this node knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Members {
    /// Those that vote; both halves of a joint change.
    pub voters: Vec<Member>,
    /// Those that receive the log only.
    pub learners: Vec<Member>,
}

/// Why a call has no response.
pub(super) enum CallError {
    /// It never reached the driver.
    NotSent(StopReason),
    /// The driver ended before it answered.
    Stopped(StopReason),
}

impl NamespaceHandle {
    pub(super) fn new(namespace: Namespace, running: Running, board: Arc<Board>) -> Self {
        let session = Arc::new(Session::default());
        Self { shared: Arc::new(Shared { namespace, running, board, session }) }
    }

    /// Its name.
    pub fn namespace(&self) -> &Namespace {
        &self.shared.namespace
    }

    /// Writes a pair and returns its revision, when a majority has it on disk. A key has 1 to 4096
    /// bytes, a value up to 1 MiB.
    pub fn set(&self, key: impl Into<Bytes>, value: impl Into<Bytes>) -> Write<Revision> {
        let command = KvCommand::Set { key: key.into(), value: value.into() };
        Write::new(self, command.encode(), |applied| match Written::decode(&applied.response)? {
            Written::Set { revision } => Ok(revision),
            _ => Err(WriteError::OtherAnswer),
        })
    }

    /// Removes a pair, if it is there.
    pub fn delete(&self, key: impl Into<Bytes>) -> Write<Deleted> {
        let command = KvCommand::Delete { key: key.into() };
        Write::new(self, command.encode(), |applied| match Written::decode(&applied.response)? {
            Written::Delete { deleted, revision } => Ok(Deleted { deleted, revision }),
            _ => Err(WriteError::OtherAnswer),
        })
    }

    /// Replicates a command of the namespace's own state machine.
    pub fn propose(&self, command: impl Into<Bytes>) -> Write<Applied> {
        Write::new(self, command.into(), Ok)
    }

    /// Reads the value of a key; linearizable unless said otherwise.
    pub fn get(&self, key: impl Into<Bytes>) -> Read<Option<Pair>> {
        let query = KvQuery::Get { key: key.into() };
        Read::new(self, query.encode(), |answer| match Found::decode(&answer.response)? {
            Found::Value(found) => Ok(found.map(|(value, revision)| Pair { value, revision })),
            _ => Err(ReadError::OtherAnswer),
        })
    }

    /// Lists keys that begin with `prefix`, in byte order, from the first above `after`; at most
    /// `limit` (1 to 1000). Linearizable unless said otherwise.
    pub fn keys(
        &self,
        prefix: impl Into<Bytes>,
        after: Option<Bytes>,
        limit: u32,
    ) -> Read<KeyPage> {
        let query = KvQuery::Keys { prefix: prefix.into(), after, limit };
        Read::new(self, query.encode(), |answer| match Found::decode(&answer.response)? {
            Found::Keys(page) => Ok(page),
            _ => Err(ReadError::OtherAnswer),
        })
    }

    /// Asks the namespace's own state machine; linearizable unless said otherwise.
    pub fn query(&self, query: impl Into<Bytes>) -> Read<Answer> {
        Read::new(self, query.into(), Ok)
    }

    /// Waits until every write that was acknowledged before, anywhere, is applied on this node:
    /// a stale read after it sees them all. Within `timeout`, 1 ms to 30 s. Cancel-safe.
    ///
    /// # Errors
    /// A time-out out of bounds (nothing was done), no leader in sight, or a stopped node.
    pub async fn barrier(&self, timeout: Duration) -> Result<(), ReadError> {
        let timeout = limits::barrier_timeout(whole_ms(timeout))?;
        self.read(Operation::Barrier, timeout).await.map(|_| ())
    }

    /// Waits until the cluster serves: it lives, has a leader, and this node has applied a commit
    /// of that leader's own term. The wait is parked with the node's router, which wakes it with
    /// the event. Cancel-safe.
    ///
    /// # Errors
    /// The time passed, the namespace can't serve in this process, or the node has stopped.
    pub async fn ready(&self, timeout: Duration) -> Result<(), ReadyError> {
        /// Only an overloaded router answers before its time; it is left alone for this long.
        const BACK_OFF: Duration = Duration::from_millis(50);
        let longest = Duration::from_millis(limits::TIMEOUT_MS.1.into());
        let deadline = Instant::now() + timeout;
        let mut last = None;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left < Duration::from_millis(1) {
                return Err(ReadyError::Timeout { waited: timeout, last });
            }
            match self.call(Operation::Barrier, left.min(longest), None).await {
                Ok(Ok(_)) => return Ok(()),
                Ok(Err(error)) if is_passing(&error) => last = Some(error),
                Ok(Err(error)) => return Err(ReadyError::Service(error)),
                Err(CallError::NotSent(reason) | CallError::Stopped(reason)) => {
                    return Err(ReadyError::Stopped(reason));
                }
            }
            tokio::time::sleep_until(deadline.min(Instant::now() + BACK_OFF)).await;
        }
    }

    /// The leader, as far as this node knows.
    pub fn leader(&self) -> Option<NodeId> {
        self.shared.board.overview().borrow().leader
    }

    /// Who takes part, as far as this node knows; nobody before the cluster lives.
    pub fn members(&self) -> Members {
        let overview = self.shared.board.overview();
        let overview = overview.borrow();
        Members { voters: overview.voters.clone(), learners: overview.learners.clone() }
    }

    /// This node's view of the namespace: role, term, leader, log, members, what it waits for.
    /// Cancel-safe.
    ///
    /// # Errors
    /// The namespace is closed, or the node has stopped.
    pub async fn status(&self) -> Result<Status, StatusError> {
        let (answer, receiver) = oneshot::channel();
        let namespace = self.shared.namespace.clone();
        let ask = Command::Status { namespace, answer };
        self.shared.running.send(ask).await.map_err(StatusError::Stopped)?;
        match receiver.await {
            Ok(Some(status)) => Ok(status),
            Ok(None) => Err(StatusError::Closed),
            Err(_) => Err(StatusError::Stopped(self.shared.running.ended().await)),
        }
    }

    /// What happens in the namespace: since it was opened for the first call, from now on for later
    /// ones. At most the newest 1,024 events are kept for whoever does not listen.
    pub fn events(&self) -> Events {
        Events::new(self.shared.board.events())
    }

    /// Hosts the namespace no more. Whatever waits in it is answered; its data stays on disk.
    /// Cancelled, it is closed all the same.
    pub async fn close(self) {
        let (done, closed) = oneshot::channel();
        let namespace = self.shared.namespace.clone();
        // Either fails only if the node has ended, which closes its namespaces too.
        let _ = self.shared.running.send(Command::Close { namespace, done }).await;
        let _ = closed.await;
    }

    /// Sends a command once, in the session; repeats it in a new one if the old one is forgotten
    /// and the command surely has no effect.
    pub(super) async fn write(
        &self,
        payload: Bytes,
        timeout: Duration,
    ) -> Result<Applied, WriteError> {
        let deadline = Instant::now() + timeout;
        let unsent = WriteError::Service(ServiceError::Timeout { maybe: false });
        let mut repeated = false;
        loop {
            let turn = tokio::time::timeout_at(deadline, self.shared.session.begin()).await;
            let Ok(permit) = turn else { return Err(unsent) };
            let permit = permit.map_err(WriteError::Randomness)?;
            let left = deadline.saturating_duration_since(Instant::now());
            if left < Duration::from_millis(1) {
                return Err(unsent);
            }
            let operation = Operation::Write {
                session: permit.id,
                sequence: permit.sequence,
                acked_below: permit.acked_below,
                payload: payload.clone(),
            };
            match self.call(operation, left, Some(permit)).await {
                Ok(Ok(Reply::Written { position, response })) => {
                    self.shared.session.see(position.index);
                    return Ok(Applied { position, response });
                }
                Ok(Ok(_)) => return Err(WriteError::OtherAnswer),
                Ok(Err(ServiceError::SessionExpired { maybe: false })) if !repeated => {
                    repeated = true;
                }
                Ok(Err(error)) => return Err(WriteError::Service(error)),
                Err(CallError::NotSent(reason)) => return Err(WriteError::NotSent(reason)),
                Err(CallError::Stopped(reason)) => return Err(WriteError::Stopped(reason)),
            }
        }
    }

    /// The newest entry that this handle or a clone has read or written.
    pub(super) fn seen(&self) -> Index {
        self.shared.session.seen()
    }

    /// Sends a request that has no effect.
    pub(super) async fn read(
        &self,
        operation: Operation,
        timeout: Duration,
    ) -> Result<Answer, ReadError> {
        let response = self.call(operation, timeout, None).await;
        if let Ok(Ok(reply)) = &response {
            self.shared.session.see(reply.seen());
        }
        match response {
            Ok(Ok(Reply::Read { index, response })) => Ok(Answer { index, response }),
            Ok(Ok(Reply::Barrier { index })) => Ok(Answer { index, response: Bytes::new() }),
            Ok(Ok(_)) => Err(ReadError::OtherAnswer),
            Ok(Err(error)) => Err(ReadError::Service(error)),
            Err(CallError::NotSent(reason) | CallError::Stopped(reason)) => {
                Err(ReadError::Stopped(reason))
            }
        }
    }

    pub(super) async fn call(
        &self,
        operation: Operation,
        timeout: Duration,
        permit: Option<Permit>,
    ) -> Result<Response, CallError> {
        let (answer, receiver) = oneshot::channel();
        let namespace = self.shared.namespace.clone();
        let call = Call { namespace, operation, timeout, answer, permit };
        self.shared.running.send(Command::Call(call)).await.map_err(CallError::NotSent)?;
        match receiver.await {
            Ok(response) => Ok(response),
            Err(_) => Err(CallError::Stopped(self.shared.running.ended().await)),
        }
    }
}

/// Whether the same call may succeed later in this process.
const fn is_passing(error: &ServiceError) -> bool {
    matches!(
        error,
        ServiceError::NoLeader
            | ServiceError::Founding
            | ServiceError::Timeout { .. }
            | ServiceError::Overloaded
    )
}

/// The time-out in whole milliseconds, as the checks of bounds take it; rounded up, so that what
/// is not zero stays so.
pub(super) fn whole_ms(timeout: Duration) -> i64 {
    i64::try_from(timeout.as_nanos().div_ceil(1_000_000)).unwrap_or(i64::MAX)
}

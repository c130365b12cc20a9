//! Changes of who takes part, as values that become futures: `jobs.remove(peer).await`.

use std::{
    fmt,
    future::{Future, IntoFuture},
    pin::Pin,
    time::Duration,
};

use meshraft_consensus::{Member, NodeId};
use meshraft_service::{
    NotTransferred, ServiceError, limits,
    wire::{Operation, Reply},
};

use super::handle::{CallError, NamespaceHandle, whole_ms};
use crate::shutdown::StopReason;

/// A change of who takes part that is not asked for yet: `.await` asks. Cancelled, it may take
/// effect or not.
#[must_use = "it is asked for when it is awaited"]
pub struct MembershipChange<T, E> {
    handle: NamespaceHandle,
    operation: Operation,
    timeout: Option<Duration>,
    decode: fn(Reply) -> Result<T, E>,
}

impl<T, E> MembershipChange<T, E> {
    /// How long to try: 1 ms to 60 s, default 5 s.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }
}

impl<T: 'static, E: From<ChangeError> + 'static> IntoFuture for MembershipChange<T, E> {
    type Output = Result<T, E>;
    type IntoFuture = Pin<Box<dyn Future<Output = Result<T, E>> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        let Self { handle, operation, timeout, decode } = self;
        Box::pin(async move {
            let timeout = limits::request_timeout(timeout.map(whole_ms))
                .map_err(|error| E::from(ChangeError::Service(error)))?;
            let error = match handle.call(operation, timeout, None).await {
                Ok(Ok(reply)) => return decode(reply),
                Ok(Err(error)) => ChangeError::Service(error),
                Err(CallError::NotSent(reason)) => ChangeError::NotSent(reason),
                Err(CallError::Stopped(reason)) => ChangeError::Stopped(reason),
            };
            Err(error.into())
        })
    }
}

impl<T, E> fmt::Debug for MembershipChange<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MembershipChange")
            .field("operation", &self.operation)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

impl NamespaceHandle {
    /// Lets this node leave the cluster; done once it is out, durably. The namespace stays hosted:
    /// its data is kept, stale reads go on. It comes back by [`NamespaceHandle::rejoin`], or when
    /// the namespace is opened again.
    ///
    /// The wish is durable: after a time-out the node goes on asking to be removed.
    pub fn leave(&self) -> MembershipChange<(), LeaveError> {
        self.change(Operation::Leave, |reply| match reply {
            Reply::Left => Ok(()),
            _ => Err(LeaveError::Change(ChangeError::OtherAnswer)),
        })
    }

    /// Takes a node out of the cluster, in every incarnation of it; returns who takes part then.
    /// Any member may ask, for itself too. The node keeps its data and stays out until it is told
    /// to come back.
    pub fn remove(&self, node: NodeId) -> MembershipChange<Vec<Member>, RemoveError> {
        self.change(Operation::Remove { node }, |reply| match reply {
            Reply::Removed { members } => Ok(members),
            _ => Err(RemoveError::Change(ChangeError::OtherAnswer)),
        })
    }

    /// Hands leadership over to a voter, or to one that the leader chooses; returns who leads then.
    /// Any member may ask. The leader takes no writes meanwhile, for an election time-out at most;
    /// they wait.
    pub fn transfer(&self, to: Option<NodeId>) -> MembershipChange<NodeId, TransferError> {
        self.change(Operation::Transfer { to }, |reply| match reply {
            Reply::Transferred { leader } => Ok(leader),
            _ => Err(TransferError::Change(ChangeError::OtherAnswer)),
        })
    }

    /// Lets this node, which left or was removed, ask to be admitted again. Done as soon as it
    /// asks; [`NamespaceHandle::ready`] waits until it serves. On a member it does nothing.
    pub fn rejoin(&self) -> MembershipChange<(), RejoinError> {
        self.change(Operation::Rejoin, |reply| match reply {
            Reply::Rejoining => Ok(()),
            _ => Err(RejoinError::Change(ChangeError::OtherAnswer)),
        })
    }

    fn change<T, E>(
        &self,
        operation: Operation,
        decode: fn(Reply) -> Result<T, E>,
    ) -> MembershipChange<T, E> {
        MembershipChange { handle: self.clone(), operation, timeout: None, decode }
    }
}

/// Why any change of who takes part failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChangeError {
    /// The cluster, or this node on its way there, said no or did not answer in time.
    #[error(transparent)]
    Service(ServiceError),
    /// The answer is not one to this request.
    #[error("the answer is to another kind of request")]
    OtherAnswer,
    /// The node had stopped before; surely nothing changed.
    #[error("the node has stopped")]
    NotSent(#[source] StopReason),
    /// The node stopped while the change was under way.
    #[error("the node stopped while the change was under way")]
    Stopped(#[source] StopReason),
}

impl ChangeError {
    /// Whether the change may have taken effect, or still may.
    pub const fn maybe_applied(&self) -> bool {
        match self {
            Self::Service(error) => error.maybe(),
            Self::OtherAnswer | Self::Stopped(_) => true,
            Self::NotSent(_) => false,
        }
    }
}

/// Why a node did not leave.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LeaveError {
    /// It is in no cluster.
    #[error("the node is in no cluster")]
    NotMember,
    /// It is the last voter: its cluster would be gone.
    #[error("the node is the last voter of its cluster")]
    LastVoter,
    /// Anything that may befall every change.
    #[error(transparent)]
    Change(ChangeError),
}

impl LeaveError {
    /// Whether the node may have left, or still may.
    pub const fn maybe_applied(&self) -> bool {
        matches!(self, Self::Change(error) if error.maybe_applied())
    }
}

impl From<ChangeError> for LeaveError {
    fn from(error: ChangeError) -> Self {
        match error {
            ChangeError::Service(ServiceError::NotMember) => Self::NotMember,
            ChangeError::Service(ServiceError::LastVoter) => Self::LastVoter,
            error => Self::Change(error),
        }
    }
}

/// Why a node was not removed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RemoveError {
    /// It is in no incarnation a member.
    #[error("{node} is no member")]
    UnknownMember {
        /// The node.
        node: NodeId,
    },
    /// It is the last voter: the cluster would be gone.
    #[error("the node is the last voter of the cluster")]
    LastVoter,
    /// Too few of the voters that would be left answer: nothing could be committed any more.
    #[error("only {live} of the voters that would be left answer, {needed} are needed")]
    NoLiveMajority {
        /// How many of them answer.
        live: u32,
        /// How many are a majority.
        needed: u32,
    },
    /// Another change was under way until the deadline.
    #[error("another change was in progress until the deadline")]
    ChangeInProgress,
    /// Anything that may befall every change.
    #[error(transparent)]
    Change(ChangeError),
}

impl RemoveError {
    /// Whether the node may have been removed, or still may be.
    pub const fn maybe_applied(&self) -> bool {
        matches!(self, Self::Change(error) if error.maybe_applied())
    }
}

impl From<ChangeError> for RemoveError {
    fn from(error: ChangeError) -> Self {
        match error {
            ChangeError::Service(ServiceError::UnknownMember { node }) => {
                Self::UnknownMember { node }
            }
            ChangeError::Service(ServiceError::LastVoter) => Self::LastVoter,
            ChangeError::Service(ServiceError::NoLiveMajority { live, needed }) => {
                Self::NoLiveMajority { live, needed }
            }
            ChangeError::Service(ServiceError::ChangeInProgress) => Self::ChangeInProgress,
            error => Self::Change(error),
        }
    }
}

/// Why a node does not ask to come back.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RejoinError {
    /// It was never in a cluster.
    #[error("the node was never in a cluster")]
    NotMember,
    /// Anything that may befall every change.
    #[error(transparent)]
    Change(ChangeError),
}

impl RejoinError {
    /// Whether the node may ask all the same.
    pub const fn maybe_applied(&self) -> bool {
        matches!(self, Self::Change(error) if error.maybe_applied())
    }
}

impl From<ChangeError> for RejoinError {
    fn from(error: ChangeError) -> Self {
        match error {
            ChangeError::Service(ServiceError::NotMember) => Self::NotMember,
            error => Self::Change(error),
        }
    }
}

/// Why leadership was not handed over.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TransferError {
    /// The leader says why.
    #[error("leadership was not handed over: {0}")]
    NotTransferred(#[source] NotTransferred),
    /// Anything that may befall every change.
    #[error(transparent)]
    Change(ChangeError),
}

impl TransferError {
    /// Whether leadership may have been handed over, or still may be.
    pub const fn maybe_applied(&self) -> bool {
        match self {
            Self::NotTransferred(why) => ServiceError::NotTransferred(*why).maybe(),
            Self::Change(error) => error.maybe_applied(),
        }
    }
}

impl From<ChangeError> for TransferError {
    fn from(error: ChangeError) -> Self {
        match error {
            ChangeError::Service(ServiceError::NotTransferred(why)) => Self::NotTransferred(why),
            error => Self::Change(error),
        }
    }
}

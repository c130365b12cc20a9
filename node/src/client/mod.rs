//! A client of a namespace: a peer of the mesh that is no member of anything.
//!
//! It connects with an identity of its own, finds a member that answers, and asks it; any member
//! takes any request. Writes carry a session, so that one whose answer was lost is asked again
//! without being applied twice. All policy (whom to ask, when to ask again, when to give up) is
//! [`meshraft_service::client`]'s, a value; here it is joined to the transport.
//!
//! Invariants:
//! 1. Every call ends by its deadline, with an answer or with an error that says whether the call
//!    may have taken effect.
//! 2. Bounds of time and size are checked before anything is sent.
//! 3. What waits is bounded; a caller beyond the bound waits until there is room.

mod driver;
mod error;
mod learning;

use std::time::Duration;

use bytes::Bytes;
use meshraft_consensus::{Index, Member, Namespace, NodeId};
pub use meshraft_service::wire::Level as ReadLevel;
use meshraft_service::{
    BadRequest, ServiceError,
    client::Call,
    kv::{Found, KeyPage, KvCommand, KvQuery, Revision, Written},
    limits,
    wire::{MemberStatus, Reply, Status},
};
use meshraft_transport::{KeyRing, PeerAddress};
use tokio::sync::{mpsc, oneshot};

use self::driver::{Submission, Way};
pub use self::error::{CallError, ConnectError};
use crate::{Applied, Deleted, Pair};

/// Calls that wait for the client's task to look at them.
const SUBMISSIONS_MAX: usize = 1_024;

/// A handle on a namespace from outside. Clones share the connection and the session; the last one
/// closes them.
#[derive(Clone, Debug)]
pub struct Client {
    submissions: mpsc::Sender<Submission>,
    timeout: Duration,
    via: Option<NodeId>,
}

impl Client {
    /// Connects to a namespace through these members. An address is a multiaddr over TCP, which may
    /// end in `/p2p/` and an id, or `host:port`; names are looked up at each dial.
    /// The addresses of the other members are learned, so that the client outlives those it began
    /// with. With an empty key ring the namespace is taken as open.
    ///
    /// Returns at once: a call waits until a member is reached, or says why none is. Must be called
    /// within a tokio runtime, on which the client's task then runs.
    ///
    /// # Errors
    /// No address was given, one can't be dialled, or the transport could not be started.
    pub async fn connect<A: ToString>(
        namespace: Namespace,
        peers: impl IntoIterator<Item = A>,
        keys: KeyRing,
    ) -> Result<Self, ConnectError> {
        Self::start(namespace, texts(peers), keys, true).await
    }

    /// As [`Client::connect`], but asks only the members at these addresses.
    ///
    /// # Errors
    /// No address was given, one can't be dialled, or the transport could not be started.
    pub async fn connect_only<A: ToString>(
        namespace: Namespace,
        peers: impl IntoIterator<Item = A>,
        keys: KeyRing,
    ) -> Result<Self, ConnectError> {
        Self::start(namespace, texts(peers), keys, false).await
    }

    /// Connects to a namespace through the members that announce themselves on the local network,
    /// by multicast DNS. The addresses of the other members are learned.
    ///
    /// Returns at once: a call waits until a member is found, or says why none is. Must be called
    /// within a tokio runtime, on which the client's task then runs.
    ///
    /// # Errors
    /// The transport could not be started.
    pub async fn discover(namespace: Namespace, keys: KeyRing) -> Result<Self, ConnectError> {
        Self::begin(namespace, keys, Way::Discover).await
    }

    async fn start(
        namespace: Namespace,
        peers: Vec<String>,
        keys: KeyRing,
        learns: bool,
    ) -> Result<Self, ConnectError> {
        if peers.is_empty() {
            return Err(ConnectError::NoPeers);
        }
        let peers = PeerAddress::parse_all(peers)?;
        Self::begin(namespace, keys, Way::Through { peers, learns }).await
    }

    async fn begin(namespace: Namespace, keys: KeyRing, way: Way) -> Result<Self, ConnectError> {
        let (submissions, receiver) = mpsc::channel(SUBMISSIONS_MAX);
        driver::start(namespace, keys, way, receiver).await?;
        let timeout = Duration::from_millis(u64::from(limits::TIMEOUT_MS_DEFAULT));
        Ok(Self { submissions, timeout, via: None })
    }

    /// The same client with another time-out: 1 ms to 60 s, 5 s where nothing was said.
    #[must_use]
    pub fn timeout(&self, timeout: Duration) -> Self {
        Self { timeout, ..self.clone() }
    }

    /// The same client, asking only this member.
    #[must_use]
    pub fn via(&self, member: NodeId) -> Self {
        Self { via: Some(member), ..self.clone() }
    }

    /// Remembers one more address of a member, as [`Client::connect`] takes them, and connects to
    /// it.
    ///
    /// # Errors
    /// The address can't be dialled, or the client's task has ended.
    pub async fn add_peer(&self, address: impl ToString) -> Result<(), CallError> {
        let address = address.to_string().parse();
        let address = address.map_err(|error| CallError::Address(Box::new(error)))?;
        let sent = self.submissions.send(Submission::Address(address)).await;
        sent.map_err(|_| CallError::Closed)
    }

    /// Sets a key of 1 to 4096 bytes to a value of up to 1 MiB; returns the write's revision.
    ///
    /// Dropping the future gives up waiting, not the write.
    ///
    /// # Errors
    /// [`CallError::maybe_applied`] says whether the write may have taken effect all the same.
    pub async fn set(
        &self,
        key: impl Into<Bytes>,
        value: impl Into<Bytes>,
    ) -> Result<Revision, CallError> {
        let (key, value) = (key.into(), value.into());
        check_key(&key)?;
        check_length(value.len(), limits::VALUE_BYTES_MAX)?;
        match self.write_kv(&KvCommand::Set { key, value }).await? {
            Written::Set { revision } => Ok(revision),
            _ => Err(CallError::UnexpectedReply { maybe: true }),
        }
    }

    /// Deletes a key.
    ///
    /// Dropping the future gives up waiting, not the delete.
    ///
    /// # Errors
    /// [`CallError::maybe_applied`] says whether the delete may have taken effect all the same.
    pub async fn delete(&self, key: impl Into<Bytes>) -> Result<Deleted, CallError> {
        let key = key.into();
        check_key(&key)?;
        match self.write_kv(&KvCommand::Delete { key }).await? {
            Written::Delete { deleted, revision } => Ok(Deleted { deleted, revision }),
            _ => Err(CallError::UnexpectedReply { maybe: true }),
        }
    }

    /// Reads a key; `None` if it is absent. Cancel-safe, as all reads are.
    ///
    /// # Errors
    /// Says why there was no answer; nothing was changed.
    pub async fn get(
        &self,
        key: impl Into<Bytes>,
        level: ReadLevel,
    ) -> Result<Option<Pair>, CallError> {
        let key = key.into();
        check_key(&key)?;
        match self.query_kv(level, &KvQuery::Get { key }).await? {
            Found::Value(found) => Ok(found.map(|(value, revision)| Pair { value, revision })),
            _ => Err(CallError::UnexpectedReply { maybe: false }),
        }
    }

    /// Lists keys that begin with `prefix`, after `after`, in byte order: at most `limit` of them,
    /// and at most [`limits::KEYS_MAX`].
    ///
    /// # Errors
    /// Says why there was no answer; nothing was changed.
    pub async fn keys(
        &self,
        prefix: impl Into<Bytes>,
        after: Option<Bytes>,
        limit: u32,
        level: ReadLevel,
    ) -> Result<KeyPage, CallError> {
        let query = KvQuery::Keys { prefix: prefix.into(), after, limit };
        match self.query_kv(level, &query).await? {
            Found::Keys(page) => Ok(page),
            _ => Err(CallError::UnexpectedReply { maybe: false }),
        }
    }

    /// Waits until the asked member has applied every write that was acknowledged before; returns
    /// what it has applied at least. `within` is 1 ms to 30 s and takes the place of the time-out.
    ///
    /// # Errors
    /// Says why there was no answer; nothing was changed.
    pub async fn barrier(&self, within: Duration) -> Result<Index, CallError> {
        limits::barrier_timeout(millis(within))?;
        match self.timeout(within).call(Call::Barrier).await? {
            Reply::Barrier { index } => Ok(index),
            _ => Err(CallError::UnexpectedReply { maybe: false }),
        }
    }

    /// What one member says of the namespace: the one of [`Client::via`], else any.
    ///
    /// # Errors
    /// Says why there was no answer.
    pub async fn status(&self) -> Result<Status, CallError> {
        match self.call(Call::Status).await? {
            Reply::Status(status) => Ok(*status),
            _ => Err(CallError::UnexpectedReply { maybe: false }),
        }
    }

    /// Who takes part, as one member knows it.
    ///
    /// # Errors
    /// Says why there was no answer.
    pub async fn members(&self) -> Result<Vec<MemberStatus>, CallError> {
        match self.call(Call::Members).await? {
            Reply::Members(members) => Ok(members),
            _ => Err(CallError::UnexpectedReply { maybe: false }),
        }
    }

    /// Takes a node out of the cluster, in every incarnation of it; returns who takes part then.
    /// Any member takes the request. The node keeps its data, and stays out until it is told to
    /// come back ([`Client::rejoin`]).
    ///
    /// Dropping the future gives up waiting, not the removal.
    ///
    /// # Errors
    /// The node is no member, it is the last voter, or another change was in progress until the
    /// deadline; [`CallError::maybe_applied`] says whether it may have been removed all the same.
    pub async fn remove(&self, node: NodeId) -> Result<Vec<Member>, CallError> {
        match self.call(Call::Remove { node }).await? {
            Reply::Removed { members } => Ok(members),
            _ => Err(CallError::UnexpectedReply { maybe: true }),
        }
    }

    /// Hands leadership over to a voter, or to one that the leader chooses; returns who leads then.
    /// Any member takes the request.
    ///
    /// Dropping the future gives up waiting, not the transfer.
    ///
    /// # Errors
    /// [`ServiceError::NotTransferred`] says why leadership stayed where it was;
    /// [`CallError::maybe_applied`] whether it may have been handed over all the same.
    pub async fn transfer(&self, to: Option<NodeId>) -> Result<NodeId, CallError> {
        match self.call(Call::Transfer { to }).await? {
            Reply::Transferred { leader } => Ok(leader),
            _ => Err(CallError::UnexpectedReply { maybe: true }),
        }
    }

    /// Lets `member` leave its cluster; returns once it is out, durably. It comes back when it is
    /// started again, or told to ([`Client::rejoin`]).
    ///
    /// Dropping the future gives up waiting, not the leave; so does a time-out: the member goes on
    /// asking to be removed until it is.
    ///
    /// # Errors
    /// The member is in no cluster or the last voter of one; [`CallError::maybe_applied`] says
    /// whether it may leave all the same.
    pub async fn leave(&self, member: NodeId) -> Result<(), CallError> {
        match self.via(member).call(Call::Leave).await? {
            Reply::Left => Ok(()),
            _ => Err(CallError::UnexpectedReply { maybe: true }),
        }
    }

    /// Lets a node that left its cluster, or was removed from it, ask to be admitted again. Returns
    /// at once: its status says how far it is.
    ///
    /// # Errors
    /// The node was never in a cluster.
    pub async fn rejoin(&self, node: NodeId) -> Result<(), CallError> {
        match self.via(node).call(Call::Rejoin).await? {
            Reply::Rejoining => Ok(()),
            _ => Err(CallError::UnexpectedReply { maybe: true }),
        }
    }

    /// Proposes a command to a state machine of one's own.
    ///
    /// Dropping the future gives up waiting, not the command.
    ///
    /// # Errors
    /// [`CallError::maybe_applied`] says whether the command may have taken effect all the same.
    pub async fn propose(&self, command: impl Into<Bytes>) -> Result<Applied, CallError> {
        match self.call(Call::Write { payload: command.into() }).await? {
            Reply::Written { position, response } => Ok(Applied { position, response }),
            _ => Err(CallError::UnexpectedReply { maybe: true }),
        }
    }

    /// Asks a query of a state machine of one's own.
    ///
    /// # Errors
    /// Says why there was no answer; nothing was changed.
    pub async fn query(
        &self,
        query: impl Into<Bytes>,
        level: ReadLevel,
    ) -> Result<Bytes, CallError> {
        match self.call(Call::Read { level, query: query.into() }).await? {
            Reply::Read { response, .. } => Ok(response),
            _ => Err(CallError::UnexpectedReply { maybe: false }),
        }
    }

    async fn write_kv(&self, command: &KvCommand) -> Result<Written, CallError> {
        let applied = self.propose(command.encode()).await?;
        Written::decode(&applied.response).map_err(|_| CallError::UnexpectedReply { maybe: true })
    }

    async fn query_kv(&self, level: ReadLevel, query: &KvQuery) -> Result<Found, CallError> {
        let response = self.query(query.encode(), level).await?;
        Found::decode(&response).map_err(|_| CallError::UnexpectedReply { maybe: false })
    }

    async fn call(&self, call: Call) -> Result<Reply, CallError> {
        let timeout = limits::request_timeout(Some(millis(self.timeout)))?;
        let maybe = call.is_write();
        let (answer, answered) = oneshot::channel();
        let submission = Submission::Call { call, timeout, via: self.via, answer };
        self.submissions.send(submission).await.map_err(|_| CallError::Closed)?;
        answered.await.unwrap_or(Err(CallError::Lost { maybe }))
    }
}

fn texts<A: ToString>(addresses: impl IntoIterator<Item = A>) -> Vec<String> {
    addresses.into_iter().map(|address| address.to_string()).collect()
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

fn check_key(key: &[u8]) -> Result<(), CallError> {
    if key.is_empty() {
        let reason = BadRequest::EmptyKey;
        return Err(ServiceError::BadRequest(reason).into());
    }
    check_length(key.len(), limits::KEY_BYTES_MAX)
}

fn check_length(bytes: usize, limit_bytes: usize) -> Result<(), CallError> {
    if bytes > limit_bytes {
        let (bytes, limit_bytes) = (bytes as u64, limit_bytes as u64);
        return Err(ServiceError::TooLarge { bytes, limit_bytes }.into());
    }
    Ok(())
}

//! What the embedding program asks of the driver. Every command is answered, or its answer's
//! channel is dropped with the driver: nobody waits for ever.

use std::{sync::Arc, time::Duration};

use meshraft_consensus::Namespace;
use meshraft_discovery::founding::ForceError;
use meshraft_service::wire::{Operation, Response, Status};
use meshraft_storage::OpenError as StoreOpenError;
use meshraft_transport::{KeyRing, PeerStatus};
use tokio::sync::oneshot;

use super::board::Board;
use crate::{
    api::session::Permit,
    host::{NamespaceOptions, RecordError},
};

/// One command.
pub(crate) enum Command {
    /// Host a namespace.
    Open(Box<Open>),
    /// Stop hosting a namespace; answered when everything that waits in it is answered.
    Close { namespace: Namespace, done: oneshot::Sender<()> },
    /// Do something in a namespace.
    Call(Call),
    /// What the namespace looks like now; `None` if it is not hosted.
    Status { namespace: Namespace, answer: oneshot::Sender<Option<Status>> },
    /// What the transport knows of its peers.
    Peers { answer: oneshot::Sender<Vec<PeerStatus>> },
    /// End in order.
    Shutdown,
}

/// See [`Command::Open`].
pub(crate) struct Open {
    pub(crate) namespace: Namespace,
    pub(crate) options: NamespaceOptions,
    pub(crate) keys: KeyRing,
    pub(crate) answer: oneshot::Sender<Result<Arc<Board>, NotOpened>>,
}

/// Why the driver hosts no namespace.
#[derive(Debug)]
pub(crate) enum NotOpened {
    /// It is hosted already.
    AlreadyOpen,
    /// It was hosted before in this process, and what the store holds of it can't be read again.
    Lost(Option<StoreOpenError>),
    /// It shall be founded by force, and its record forbids that.
    Forced(ForceError),
    /// What the store holds of it can't be read.
    Unreadable(RecordError),
}

/// See [`Command::Call`].
pub(crate) struct Call {
    pub(crate) namespace: Namespace,
    pub(crate) operation: Operation,
    pub(crate) timeout: Duration,
    pub(crate) answer: oneshot::Sender<Response>,
    /// Held until the call is answered, also when its caller waits no more: until then the
    /// router may repeat the command, so that its session must remember it.
    pub(crate) permit: Option<Permit>,
}

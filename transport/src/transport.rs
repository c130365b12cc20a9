//! The façade: what a runtime holds.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use libp2p::Multiaddr;
use meshraft_consensus::{Incarnation, Namespace, NodeId};

use crate::{
    config::TransportConfig,
    error::StartError,
    inbox::{Events, Inbox},
    status::PeerStatus,
    types::{Body, Channel, LocalNamespace, ReplyToken, RequestId, Scope},
};

/// One node's transport. A cheap handle: clones share everything. No method blocks.
#[derive(Clone, Debug)]
pub struct Transport {
    node: NodeId,
    inbox: Arc<Inbox>,
}

impl Transport {
    /// Listens, and starts the task that drives the swarm on the current tokio runtime.
    ///
    /// # Errors
    /// The configuration breaks a rule, or an address can't be listened on. Nothing runs then.
    pub async fn start(config: TransportConfig) -> Result<(Self, Events), StartError> {
        config.check()?;
        let inbox = Inbox::new(config.limits.inbox_bytes_max);
        let transport = Self { node: config.identity.node_id(), inbox: Arc::clone(&inbox) };
        Ok((transport, Events::new(inbox)))
    }

    /// This node's id.
    pub const fn node(&self) -> NodeId {
        self.node
    }

    /// Opens a namespace, or changes its facts: handles that were bound to other facts are closed
    /// on both sides and made anew.
    pub fn open(&self, local: LocalNamespace) {
        let _ = local;
    }

    /// Closes a namespace: its handles go, its requests end.
    pub fn close(&self, namespace: &Namespace) {
        let _ = namespace;
    }

    /// Remembers an address. It is dialled, with a jittered back-off, until its peer is connected,
    /// and again after each loss. A `/p2p/` part counts as `peer`.
    pub fn add_address(&self, peer: Option<NodeId>, address: Multiaddr) {
        let _ = (peer, address);
    }

    /// Sends a message; it may be lost. With `incarnation`, it goes to no other life of the peer.
    pub fn send(
        &self,
        to: NodeId,
        namespace: &Namespace,
        scope: Scope,
        incarnation: Option<Incarnation>,
        channel: Channel,
        body: Body,
    ) {
        let _ = (to, namespace, scope, incarnation, channel, body);
    }

    /// Asks a peer on [`Channel::Command`]; answered by exactly one [`crate::Event::Reply`].
    pub fn request(
        &self,
        id: RequestId,
        to: NodeId,
        namespace: &Namespace,
        scope: Scope,
        payload: Bytes,
        timeout: Duration,
    ) {
        let _ = (id, to, namespace, scope, payload, timeout);
    }

    /// Answers a request.
    pub fn reply(&self, token: ReplyToken, payload: Bytes) {
        let _ = (token, payload);
    }

    /// The connected peers, ordered by id.
    pub fn peers(&self) -> Vec<PeerStatus> {
        Vec::new()
    }

    /// Writes what waits, for at most a second, closes every connection and ends the swarm's task.
    pub async fn shutdown(self) {
        self.inbox.close();
    }
}

//! Our behaviour in a libp2p swarm: it dials, watches connections, and hands streams to ports.
//!
//! It emits no event that anyone must handle, so it can be composed into another program's swarm,
//! and it never blocks. Only Ed25519 peers are let in.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use libp2p::{
    Multiaddr, PeerId,
    core::{ConnectedPoint, Endpoint, transport::PortUse},
    swarm::{
        CloseConnection, ConnectionDenied, ConnectionId, DialError, FromSwarm, NetworkBehaviour,
        NotifyHandler, ToSwarm,
        dial_opts::{DialOpts, PeerCondition},
    },
};
use meshraft_consensus::NodeId;
use tokio::time::{Sleep, sleep_until};

use crate::{
    dialer::{Dial, Dialer, Target},
    event::Event,
    handler::{Handler, Open, Opened},
    hub::Hub,
    identity::{node_id, peer_id},
    orders::Order,
    peer::Connection,
};

/// Live connections to one peer; a simultaneous dial makes two for a moment.
const CONNECTIONS_MAX: usize = 4;

/// Why a connection is turned away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Denied {
    /// No room for more peers.
    #[error("no room for more peers")]
    TooManyPeers,
    /// The peer has enough connections.
    #[error("the peer has enough connections")]
    TooManyConnections,
}

/// The behaviour of a transport.
#[derive(Debug)]
pub struct Behaviour {
    hub: Arc<Hub>,
    dialer: Dialer,
    dials: BTreeMap<ConnectionId, Target>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Behaviour {
    pub(crate) fn new(hub: Arc<Hub>, seed: u64) -> Self {
        let dialer = Dialer::new(hub.me, seed);
        Self { hub, dialer, dials: BTreeMap::new(), timer: None }
    }

    fn admit(&self, peer: PeerId) -> Result<Handler, ConnectionDenied> {
        let node = node_id(peer).map_err(ConnectionDenied::new)?;
        match self.hub.peer(node) {
            Some(peer) if peer.connections() >= CONNECTIONS_MAX => {
                Err(ConnectionDenied::new(Denied::TooManyConnections))
            }
            None if self.hub.peers_len() >= self.hub.limits.peers_max
                && !self.dialer.knows(node) =>
            {
                Err(ConnectionDenied::new(Denied::TooManyPeers))
            }
            _ => Ok(Handler::default()),
        }
    }

    fn established(&mut self, peer: PeerId, id: ConnectionId, endpoint: &ConnectedPoint) {
        // Every connection passed through `admit`.
        let Ok(node) = node_id(peer) else { return };
        let target = self.dials.remove(&id);
        self.dialer.connected(node, target.as_ref());
        let (address, dialled) = match endpoint {
            ConnectedPoint::Dialer { address, .. } => (address.clone(), true),
            ConnectedPoint::Listener { send_back_addr, .. } => (send_back_addr.clone(), false),
        };
        let since = self.hub.now();
        self.hub.connected(node, Connection { id, address, dialled, since });
    }

    fn dial_failed(&mut self, id: ConnectionId, error: &DialError) {
        let Some(target) = self.dials.remove(&id) else { return };
        tracing::debug!(?target, %error, "dial failed");
        let (DialError::WrongPeerId { address, .. } | DialError::LocalPeerId { address }) = error
        else {
            return self.dialer.failed(self.hub.now(), &target, false);
        };
        self.dialer.mistaken(&target, address.clone());
        // A bare address that turns out to be our own is of no use to anyone.
        let own = matches!(error, DialError::LocalPeerId { .. });
        let own = own && matches!(target, Target::Address(_));
        self.dialer.failed(self.hub.now(), &target, own);
    }

    fn obey(&mut self, order: Order) -> Option<ToSwarm<Infallible, Open>> {
        match order {
            Order::Open { peer, port } => Some(ToSwarm::NotifyHandler {
                peer_id: peer_id(peer),
                handler: NotifyHandler::One(port.connection()),
                event: Open { port },
            }),
            Order::Close { peer, connection } => Some(ToSwarm::CloseConnection {
                peer_id: peer_id(peer),
                connection: CloseConnection::One(connection),
            }),
            Order::Address { peer, address } => {
                let hub = &self.hub;
                let connected = |node: NodeId| hub.peer(node).is_some();
                self.dialer.add(hub.now(), peer, address, connected);
                None
            }
            Order::Lost { peer } => {
                self.dialer.disconnected(self.hub.now(), peer);
                None
            }
        }
    }

    fn dial(&mut self, Dial { target, addresses }: Dial) -> DialOpts {
        // A port of its own for each dial: two nodes that dial each other from their listening
        // ports at the same instant would meet in one TCP connection with two initiators.
        let options = match &target {
            Target::Peer(node) => DialOpts::peer_id(peer_id(*node))
                .condition(PeerCondition::Always)
                .addresses(addresses)
                .allocate_new_port()
                .build(),
            Target::Address(address) => {
                DialOpts::unknown_peer_id().address(address.clone()).allocate_new_port().build()
            }
        };
        self.dials.insert(options.connection_id(), target);
        options
    }
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = Handler;
    type ToSwarm = Infallible;

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<Handler, ConnectionDenied> {
        self.admit(peer)
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<Handler, ConnectionDenied> {
        self.admit(peer)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionEstablished(event) => {
                self.established(event.peer_id, event.connection_id, event.endpoint);
            }
            FromSwarm::ConnectionClosed(event) => {
                if let Ok(node) = node_id(event.peer_id) {
                    self.hub.disconnected(node, event.connection_id);
                }
            }
            FromSwarm::DialFailure(event) => self.dial_failed(event.connection_id, event.error),
            FromSwarm::NewListenAddr(event) => {
                let address = event.addr.clone().with_p2p(peer_id(self.hub.me));
                // An address that names another peer can't be one of ours.
                if let Ok(address) = address {
                    self.hub.inbox.notify(Event::Listening(address));
                }
            }
            _ => {}
        }
    }

    fn on_connection_handler_event(&mut self, peer: PeerId, id: ConnectionId, opened: Opened) {
        let Ok(node) = node_id(peer) else { return };
        match opened {
            Opened::Accepted(accepted) => {
                self.hub.accepted(node, id, accepted.channel, accepted.stream);
            }
            Opened::Ready(fresh) => self.hub.opened(node, fresh.port, fresh.stream),
            Opened::Failed(failed) => self.hub.failed(node, &failed.port),
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<Infallible, Open>> {
        self.hub.orders.register(cx.waker());
        while let Some(order) = self.hub.orders.pop() {
            if let Some(action) = self.obey(order) {
                return Poll::Ready(action);
            }
        }
        loop {
            let now = self.hub.now();
            if let Some(dial) = self.dialer.poll(now) {
                let opts = self.dial(dial);
                return Poll::Ready(ToSwarm::Dial { opts });
            }
            let Some(deadline) = self.dialer.deadline() else {
                self.timer = None;
                return Poll::Pending;
            };
            let deadline = self.hub.instant(deadline);
            let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
            if timer.deadline() != deadline {
                timer.as_mut().reset(deadline);
            }
            if timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
        }
    }
}

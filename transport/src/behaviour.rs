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
use meshraft_consensus::{Moment, NodeId};
use tokio::time::{Sleep, sleep_until};

use crate::{
    dial_failure::unreached,
    dialer::{Dial, Dialer, Target},
    event::Event,
    finder::{self, Finder},
    handler::{Handler, Open, Opened},
    handshakes::Handshakes,
    hub::Hub,
    identity::{node_id, peer_id},
    idlers::{self, Idlers},
    lan::{Heard, Lan},
    names::Resolved,
    orders::Order,
    peer::Connection,
    roster::Roster,
};

/// Live connections to one peer; a simultaneous dial makes two for a moment.
const CONNECTIONS_MAX: usize = 4;

/// Why a connection is turned away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Denied {
    /// Too many connections are shaking hands.
    #[error("too many connections are shaking hands")]
    TooManyHandshakes,
    /// No room for more peers.
    #[error("no room for more peers")]
    TooManyPeers,
    /// The peer has enough connections.
    #[error("the peer has enough connections")]
    TooManyConnections,
}

/// What the swarm is to do next.
enum Due {
    Dial(DialOpts),
    /// Nothing until then.
    Wait(Option<Moment>),
}

/// Who wanted a dial.
#[derive(Clone, Debug)]
enum Origin {
    /// The address book.
    Book(Target),
    /// The local network.
    Lan(NodeId),
}

impl Origin {
    /// The peer that was looked for, if it was a certain one.
    const fn sought(&self) -> Option<NodeId> {
        match self {
            Self::Book(Target::Peer(node)) | Self::Lan(node) => Some(*node),
            Self::Book(Target::Address(_)) => None,
        }
    }
}

/// The behaviour of a transport.
#[derive(Debug)]
pub struct Behaviour {
    hub: Arc<Hub>,
    dialer: Dialer,
    finder: Finder,
    lan: Option<Lan>,
    idlers: Idlers,
    /// When one looks for idle peers next.
    look_at: Moment,
    dials: BTreeMap<ConnectionId, Origin>,
    handshakes: Handshakes,
    timer: Option<Pin<Box<Sleep>>>,
    resolved: Resolved,
}

impl Behaviour {
    pub(crate) fn new(hub: Arc<Hub>, seed: u64, lan: Option<Lan>, resolved: Resolved) -> Self {
        Self {
            dialer: Dialer::new(hub.me, seed),
            finder: Finder::new(hub.me, seed.rotate_left(32)),
            lan,
            idlers: Idlers::default(),
            look_at: Moment::ZERO,
            dials: BTreeMap::new(),
            handshakes: Handshakes::new(hub.limits.handshakes_max),
            timer: None,
            resolved,
            hub,
        }
    }

    fn admit(&self, peer: PeerId) -> Result<Handler, ConnectionDenied> {
        let node = node_id(peer).map_err(ConnectionDenied::new)?;
        match self.hub.peer(node) {
            Some(peer) if peer.connections().len() >= CONNECTIONS_MAX => {
                Err(ConnectionDenied::new(Denied::TooManyConnections))
            }
            None if !self.has_room_for(node) => Err(ConnectionDenied::new(Denied::TooManyPeers)),
            _ => Ok(Handler::default()),
        }
    }

    fn has_room_for(&self, node: NodeId) -> bool {
        let (now, count) = (self.hub.now(), self.hub.peers_len());
        let unwelcome = self.is_crowded(count) && self.idlers.was_let_go(now, node);
        self.dialer.knows(node) || (count < self.hub.limits.peers_max && !unwelcome)
    }

    /// Whether three quarters of the table of peers are full.
    fn is_crowded(&self, count: usize) -> bool {
        count >= self.hub.limits.peers_max.div_ceil(4) * 3
    }

    fn established(&mut self, peer: PeerId, id: ConnectionId, endpoint: &ConnectedPoint) {
        // Every connection passed through `admit`.
        let Ok(node) = node_id(peer) else { return };
        match self.dials.remove(&id) {
            Some(Origin::Book(target)) => self.dialer.connected(node, Some(&target)),
            Some(Origin::Lan(_)) | None => self.dialer.connected(node, None),
        }
        self.finder.connected(node);
        let (address, dialled) = match endpoint {
            ConnectedPoint::Dialer { address, .. } => {
                self.hub.with_failures(|failures| failures.reached(peer, Some(address)));
                // What peers are told of a peer is where it is, and no name.
                let resolved = self.resolved.take(peer, address);
                (resolved.unwrap_or_else(|| address.clone()), true)
            }
            ConnectedPoint::Listener { send_back_addr, .. } => {
                self.hub.with_failures(|failures| failures.reached(peer, None));
                (send_back_addr.clone(), false)
            }
        };
        let since = self.hub.now();
        self.hub.connected(node, Connection { id, address, dialled, since });
    }

    fn dial_failed(&mut self, id: ConnectionId, error: &DialError) {
        let Some(origin) = self.dials.remove(&id) else { return };
        tracing::debug!(?origin, %error, "dial failed");
        self.hub.with_failures(|failures| {
            unreached(origin.sought(), error).into_iter().for_each(|one| failures.failed(one));
        });
        let target = match origin {
            Origin::Book(target) => target,
            Origin::Lan(node) => return self.finder.failed(self.hub.now(), node),
        };
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
                self.finder.lost(self.hub.now(), peer);
                None
            }
            Order::Reconsider => {
                self.finder.reconsider(self.hub.now());
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
        self.dials.insert(options.connection_id(), Origin::Book(target));
        options
    }

    fn dial_found(&mut self, node: NodeId, addresses: Vec<Multiaddr>) -> DialOpts {
        let options =
            DialOpts::peer_id(peer_id(node)).addresses(addresses).allocate_new_port().build();
        self.dials.insert(options.connection_id(), Origin::Lan(node));
        options
    }

    /// Takes what the local network announces.
    fn listen_to_lan(&mut self, cx: &mut Context<'_>) {
        let now = self.hub.now();
        let heard = self.lan.as_mut().map(|lan| lan.poll(now, cx)).unwrap_or_default();
        for heard in heard {
            match heard {
                Heard::Announced(peer, address) => {
                    // Only Ed25519 peers can be members.
                    let Ok(node) = node_id(peer) else { continue };
                    let connected = self.hub.peer(node).is_some();
                    self.finder.announced(now, node, address, connected);
                }
                Heard::Expired(peer, address) => {
                    let Ok(node) = node_id(peer) else { continue };
                    self.finder.expired(now, node, &address);
                }
            }
        }
    }

    /// Ends the trials that were passed, and lets go of peers that are of no use to anyone here.
    fn look_at_peers(&mut self, now: Moment) {
        let peers = self.hub.peers();
        for peer in &peers {
            let node = peer.node();
            let given = self.dialer.knows(node) || self.dialer.leads_to(node);
            if (peer.shares() || given)
                && self.finder.passed(node)
                && let Some(address) = peer.dialled_address()
            {
                self.dialer.add(now, Some(node), address, |_| true);
            }
        }
        let crowded = self.is_crowded(peers.len());
        let longest = self.hub.limits.idle_peer_timeout;
        let patience = |node| {
            if self.dialer.knows(node) || self.dialer.leads_to(node) {
                None
            } else if self.finder.on_trial(node) {
                Some(finder::TRIAL.min(longest))
            } else if crowded {
                Some(idlers::PATIENCE_CROWDED.min(longest))
            } else {
                Some(longest)
            }
        };
        let all = peers.iter().map(|peer| (peer.node(), peer.shares()));
        for node in self.idlers.look(now, all, patience) {
            tracing::debug!(peer = %node, "peer let go, it shares nothing");
            self.hub.evict(node);
        }
    }

    /// Does what is due now, and says what is left to do.
    fn work(&mut self, now: Moment) -> Due {
        if self.look_at <= now {
            self.look_at = now.plus(idlers::LOOK);
            self.look_at_peers(now);
        }
        if let Some(dial) = self.dialer.poll(now) {
            return Due::Dial(self.dial(dial));
        }
        // Whoever has nothing open would find nobody that shares it.
        let finds = self.lan.is_some() && !self.hub.with_roster(Roster::is_empty);
        if finds && let Some((node, addresses)) = self.finder.poll(now) {
            return Due::Dial(self.dial_found(node, addresses));
        }
        let look_at = (self.hub.peers_len() > 0).then_some(self.look_at);
        let heard_at = self.lan.as_ref().and_then(Lan::deadline);
        let find_at = self.finder.deadline().filter(|_| finds);
        let deadlines = [self.dialer.deadline(), find_at, heard_at, look_at];
        Due::Wait(deadlines.into_iter().flatten().min())
    }
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = Handler;
    type ToSwarm = Infallible;

    fn handle_pending_inbound_connection(
        &mut self,
        id: ConnectionId,
        _: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        if self.handshakes.begin(id, remote) {
            Ok(())
        } else {
            Err(ConnectionDenied::new(Denied::TooManyHandshakes))
        }
    }

    fn handle_established_inbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<Handler, ConnectionDenied> {
        self.handshakes.end(id);
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
        if let Some(lan) = &mut self.lan {
            lan.on_swarm_event(event);
        }
        match event {
            FromSwarm::ConnectionEstablished(event) => {
                self.established(event.peer_id, event.connection_id, event.endpoint);
            }
            FromSwarm::ConnectionClosed(event) => {
                if let Ok(node) = node_id(event.peer_id) {
                    self.hub.disconnected(node, event.connection_id);
                }
            }
            FromSwarm::ListenFailure(event) => self.handshakes.end(event.connection_id),
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
        self.listen_to_lan(cx);
        loop {
            let deadline = match self.work(self.hub.now()) {
                Due::Dial(opts) => return Poll::Ready(ToSwarm::Dial { opts }),
                Due::Wait(deadline) => deadline,
            };
            let Some(deadline) = deadline else {
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

//! Our behaviour in a libp2p swarm: it dials, watches connections, and hands streams to ports.
//!
//! It emits no event that anyone must handle, so it can be composed into another program's swarm,
//! and it never blocks. Only Ed25519 peers are let in.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    io::{self, ErrorKind},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use libp2p::{
    Multiaddr, PeerId, TransportError,
    core::{
        ConnectedPoint, Endpoint,
        transport::{PortUse, timeout::TransportTimeoutError},
    },
    swarm::{
        CloseConnection, ConnectionDenied, ConnectionId, DialError, FromSwarm, NetworkBehaviour,
        NotifyHandler, ToSwarm,
        dial_opts::{DialOpts, PeerCondition},
    },
};
use meshraft_consensus::{Moment, NodeId};
use tokio::time::{Sleep, sleep_until};

use crate::{
    book::{AddressSource, Book, Dial, DialResult, Established, LOOK, Target},
    dial_failure::unreached,
    event::Event,
    handler::{Handler, Open, Opened},
    handshakes::Handshakes,
    hub::Hub,
    identity::{node_id, peer_id},
    lan::{Heard, Lan},
    names::Resolved,
    orders::Order,
    own::OwnAddresses,
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
    /// The connection was made to prove an address of a connected peer, and has.
    #[error("the address is proven, and the peer is connected already")]
    Probed,
}

/// What the swarm is to do next.
enum Due {
    Dial(DialOpts),
    /// Nothing until then.
    Wait(Option<Moment>),
}

/// The behaviour of a transport.
#[derive(Debug)]
pub struct Behaviour {
    hub: Arc<Hub>,
    book: Book,
    lan: Option<Lan>,
    own: OwnAddresses,
    /// When the peers are looked at next.
    look_at: Moment,
    dials: BTreeMap<ConnectionId, Dial>,
    handshakes: Handshakes,
    timer: Option<Pin<Box<Sleep>>>,
    resolved: Resolved,
}

impl Behaviour {
    pub(crate) fn new(hub: Arc<Hub>, seed: u64, lan: Option<Lan>, resolved: Resolved) -> Self {
        Self {
            book: Book::new(hub.me, seed),
            lan,
            own: OwnAddresses::default(),
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
        let unwelcome = self.is_crowded(count) && self.book.was_let_go(now, node);
        self.book.is_wanted(node) || (count < self.hub.limits.peers_max && !unwelcome)
    }

    /// Whether three quarters of the table of peers are full.
    fn is_crowded(&self, count: usize) -> bool {
        count >= self.hub.limits.peers_max.div_ceil(4) * 3
    }

    fn established(&mut self, peer: PeerId, id: ConnectionId, endpoint: &ConnectedPoint) {
        // Every connection passed through `admit`.
        let Ok(node) = node_id(peer) else { return };
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
        let dial = self.dials.remove(&id);
        let established = Established { peer: node, remote: address.clone(), dialled, dial };
        self.book.connected(since, established);
        self.hub.connected(node, Connection { id, address, dialled, since, settled: false });
    }

    fn dial_failed(&mut self, id: ConnectionId, error: &DialError) {
        let Some(dial) = self.dials.remove(&id) else { return };
        tracing::debug!(target = ?dial.target, %error, "dial failed");
        let sought = match &dial.target {
            Target::Peer(node) => Some(*node),
            Target::Address(_) => None,
        };
        self.hub.with_failures(|failures| {
            unreached(sought, error).into_iter().for_each(|one| failures.failed(one));
        });
        let results = match error {
            DialError::WrongPeerId { obtained, address } => {
                let found = node_id(*obtained).map(|found| DialResult::Mistaken { found });
                vec![(address.clone(), found.unwrap_or(DialResult::Unproven))]
            }
            DialError::LocalPeerId { address } => {
                vec![(address.clone(), DialResult::Mistaken { found: self.hub.me })]
            }
            DialError::Transport(errors) => {
                let result =
                    |(address, error): &(Multiaddr, _)| (address.clone(), result_of(error));
                errors.iter().map(result).collect()
            }
            // This node itself did not want the connection.
            _ => Vec::new(),
        };
        self.book.failed(self.hub.now(), &dial, &results);
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
            Order::Address { peer, address, source } => {
                let taken = self.book.add(self.hub.now(), peer, address.clone(), source);
                if let Err(why) = taken {
                    tracing::warn!(%address, %source, %why, "address ignored");
                }
                None
            }
            Order::Heard { teller, peer, addresses } => {
                for (address, why) in self.book.hear(self.hub.now(), teller, peer, &addresses) {
                    // As often as the teller likes, so it is no news.
                    tracing::debug!(%teller, %peer, %address, %why, "told address ignored");
                }
                None
            }
            Order::Members { namespace, members } => {
                self.book.members(&namespace, members);
                None
            }
            Order::Book { answer } => {
                // Fails only if the asker has gone.
                let _ = answer.send(self.book.entries(self.hub.now()).collect());
                None
            }
            Order::Lost { peer } => {
                // Unless another connection came up meanwhile.
                if self.hub.peer(peer).is_none() {
                    self.book.disconnected(self.hub.now(), peer);
                }
                None
            }
            Order::Reconsider => {
                self.book.reconsider(self.hub.now());
                None
            }
        }
    }

    fn dial(&mut self, dial: Dial) -> DialOpts {
        // A port of its own for each dial: two nodes that dial each other from their listening
        // ports at the same instant would meet in one TCP connection with two initiators.
        let options = match &dial.target {
            Target::Peer(node) => DialOpts::peer_id(peer_id(*node))
                .condition(PeerCondition::Always)
                .addresses(dial.addresses.clone())
                .allocate_new_port()
                .build(),
            Target::Address(address) => {
                DialOpts::unknown_peer_id().address(address.clone()).allocate_new_port().build()
            }
        };
        self.dials.insert(options.connection_id(), dial);
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
                    let source = AddressSource::LocalNetwork;
                    if let Err(why) = self.book.add(now, Some(node), address.clone(), source) {
                        tracing::debug!(peer = %node, %address, %why, "announcement ignored");
                    }
                }
                Heard::Expired(peer, address) => {
                    let Ok(node) = node_id(peer) else { continue };
                    self.book.withdraw(node, &address, AddressSource::LocalNetwork);
                }
            }
        }
    }

    /// Lets go of peers that are of no use to anyone here.
    fn look_at_peers(&mut self, now: Moment) {
        let peers = self.hub.peers();
        let crowded = self.is_crowded(peers.len());
        let longest = self.hub.limits.idle_peer_timeout;
        let shares = peers.iter().map(|peer| (peer.node(), peer.shares()));
        for node in self.book.look(now, shares, crowded, longest) {
            tracing::debug!(peer = %node, "peer let go, it shares nothing");
            self.hub.evict(node);
        }
    }

    /// Tells where peers were reached, when that changed.
    fn tell_proven(&mut self) {
        while let Some(peer) = self.book.poll_changed() {
            let addresses = self.book.proven(peer);
            self.hub.inbox.notify(Event::Proven { peer, addresses });
        }
    }

    /// Does what is due now, and says what is left to do.
    fn work(&mut self, now: Moment) -> Due {
        if self.look_at <= now {
            self.look_at = now.plus(LOOK);
            self.look_at_peers(now);
        }
        self.book.search(self.lan.is_some() && !self.hub.with_roster(Roster::is_empty));
        let dial = self.book.poll(now);
        self.tell_proven();
        if let Some(dial) = dial {
            return Due::Dial(self.dial(dial));
        }
        let look_at = (self.hub.peers_len() > 0).then_some(self.look_at);
        let heard_at = self.lan.as_ref().and_then(Lan::deadline);
        let deadlines = [self.book.deadline(), heard_at, look_at];
        Due::Wait(deadlines.into_iter().flatten().min())
    }
}

/// What a failed dial says of one address.
fn result_of(error: &TransportError<io::Error>) -> DialResult {
    match error {
        TransportError::MultiaddrNotSupported(_) => DialResult::Unreachable,
        TransportError::Other(error) => result_of_io(error).unwrap_or(DialResult::Unproven),
    }
}

/// Looks for the system's own error under the layers of libp2p's. `None` if there is none: then
/// somebody answered and did not speak as a peer does.
fn result_of_io(error: &io::Error) -> Option<DialResult> {
    match error.kind() {
        ErrorKind::ConnectionRefused
        | ErrorKind::HostUnreachable
        | ErrorKind::NetworkUnreachable
        | ErrorKind::NetworkDown
        | ErrorKind::AddrNotAvailable
        | ErrorKind::PermissionDenied => return Some(DialResult::Unreachable),
        ErrorKind::TimedOut => return Some(DialResult::TimedOut),
        _ => {}
    }
    let mut cause: Option<&(dyn std::error::Error + 'static)> =
        error.get_ref().map(|inner| inner as _);
    while let Some(inner) = cause {
        if let Some(TransportTimeoutError::Timeout) =
            inner.downcast_ref::<TransportTimeoutError<io::Error>>()
        {
            return Some(DialResult::TimedOut);
        }
        if let Some(inner) = inner.downcast_ref::<io::Error>() {
            return result_of_io(inner);
        }
        cause = inner.source();
    }
    None
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
        id: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<Handler, ConnectionDenied> {
        let connected = node_id(peer).ok().filter(|node| self.hub.peer(*node).is_some());
        if let Some(node) = connected
            && let Some(dial) = self.dials.remove(&id).filter(Dial::is_probe)
        {
            self.book.probed(self.hub.now(), node, &dial);
            return Err(ConnectionDenied::new(Denied::Probed));
        }
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
            FromSwarm::NewExternalAddrOfPeer(event) => {
                // Told by the peer itself to another behaviour of this swarm.
                if let Ok(teller) = node_id(event.peer_id) {
                    let source = AddressSource::Hearsay { teller };
                    let now = self.hub.now();
                    if let Err(why) = self.book.add(now, Some(teller), event.addr.clone(), source) {
                        tracing::debug!(peer = %teller, address = %event.addr, %why, "ignored");
                    }
                }
            }
            event => {
                if let Some(event) = self.own.note(self.hub.me, &event) {
                    self.hub.inbox.notify(event);
                }
            }
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

//! What the façade, the swarm's task and the streams' tasks share.
//!
//! Locks are taken in this order and never the other way: peers, one peer, refusals, roster, one
//! link, efforts. None is held across an await.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use libp2p::{Stream, swarm::ConnectionId};
use meshraft_consensus::{Moment, Namespace, NodeId};
use tokio::{sync::Notify, time};

use crate::{
    budget::{Account, Budgets},
    config::{Limits, TransportConfig},
    dial_failure::Failures,
    effort::Effort,
    event::Event,
    hello::sha256,
    inbox::{Inbox, Room},
    link::{Inbound, Link, LinkConfig, LinkEvent, Outbound},
    orders::{Order, Orders},
    peer::{Connection, Loss, Peer},
    port::Port,
    refusals::Refusals,
    roster::Roster,
    sign::NodeSignatures,
    types::{Channel, PeerFacts, ReplyToken},
};

/// A second connection to a peer carries nothing before this. One that was only made to prove an
/// address is gone by then.
const SETTLE: Duration = Duration::from_millis(200);
/// After a simultaneous dial, the end that dialled the surplus connection closes it...
const PRUNE_OWN: Duration = Duration::from_secs(1);
/// ... and if it does not, the other one does. An older connection that is dead is found to be so
/// within two stalls, before the newer one is closed in its favour.
const PRUNE_ANY: Duration = Duration::from_secs(5);
const PRUNE_STALLS: u32 = 2;

/// A message on its way to the caller.
#[derive(Debug)]
pub(crate) struct Delivery {
    event: Event,
    bytes: usize,
}

/// The shared middle of a transport.
#[derive(Debug)]
pub(crate) struct Hub {
    pub(crate) me: NodeId,
    stall: Duration,
    pub(crate) limits: Limits,
    budgets: Arc<Budgets>,
    signatures: NodeSignatures,
    /// How much work all peers together may cause; each peer has a part of its own.
    effort: Effort,
    origin: time::Instant,
    seed: [u8; 32],
    numbers: AtomicU64,
    pub(crate) inbox: Arc<Inbox>,
    pub(crate) orders: Orders,
    pub(crate) stop: Notify,
    pub(crate) closing: AtomicBool,
    /// Told whenever a stream or a connection ends.
    pub(crate) ended: Notify,
    pub(crate) refusals: Mutex<Refusals>,
    failures: Mutex<Failures>,
    roster: RwLock<Roster>,
    peers: RwLock<BTreeMap<NodeId, Arc<Peer>>>,
    /// Streams that peers opened to ask, by number: where replies go.
    answering: RwLock<BTreeMap<u64, Arc<Port>>>,
}

impl Hub {
    pub(crate) fn new(config: &TransportConfig, inbox: Arc<Inbox>, seed: [u8; 32]) -> Arc<Self> {
        Arc::new(Self {
            me: config.identity.node_id(),
            stall: config.stall,
            limits: config.limits.clone(),
            budgets: Budgets::new(&config.limits),
            signatures: config.identity.signatures(),
            effort: Effort::default(),
            origin: time::Instant::now(),
            seed,
            numbers: AtomicU64::new(0),
            inbox,
            orders: Orders::default(),
            stop: Notify::new(),
            closing: AtomicBool::new(false),
            ended: Notify::new(),
            refusals: Mutex::default(),
            failures: Mutex::default(),
            roster: RwLock::default(),
            peers: RwLock::default(),
            answering: RwLock::default(),
        })
    }

    /// Where dials failed last.
    pub(crate) fn with_failures<R>(&self, change: impl FnOnce(&mut Failures) -> R) -> R {
        change(&mut self.failures.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn now(&self) -> Moment {
        Moment::ZERO.plus(self.origin.elapsed())
    }

    pub(crate) fn instant(&self, at: Moment) -> time::Instant {
        self.origin + at.since(Moment::ZERO)
    }

    pub(crate) fn with_roster<R>(&self, read: impl FnOnce(&Roster) -> R) -> R {
        read(&self.roster.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn change_roster<R>(&self, change: impl FnOnce(&mut Roster) -> R) -> R {
        change(&mut self.roster.write().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn peer(&self, node: NodeId) -> Option<Arc<Peer>> {
        self.peers.read().unwrap_or_else(PoisonError::into_inner).get(&node).cloned()
    }

    pub(crate) fn peers(&self) -> Vec<Arc<Peer>> {
        self.peers.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    pub(crate) fn peers_len(&self) -> usize {
        self.peers.read().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// A connection is up.
    pub(crate) fn connected(self: &Arc<Self>, node: NodeId, connection: Connection) {
        let (address, dialled) = (connection.address.clone(), connection.dialled);
        let mut peers = self.peers.write().unwrap_or_else(PoisonError::into_inner);
        let known = peers.contains_key(&node);
        let peer = Arc::clone(peers.entry(node).or_insert_with(|| self.new_peer(node)));
        peer.connect(connection);
        drop(peers);
        if known {
            self.prune_later(&peer);
        } else {
            tracing::info!(peer = %node, %address, dialled, "peer connected");
            self.inbox.notify(Event::Connected { peer: node, address, dialled });
        }
        self.open_standing(&peer);
    }

    fn new_peer(&self, node: NodeId) -> Arc<Peer> {
        let account = Account::new(Arc::clone(&self.budgets));
        Peer::new(self.me, node, account, Room::new(&self.limits), self.effort.of_new_peer())
    }

    /// A connection is gone, or is given up.
    pub(crate) fn disconnected(self: &Arc<Self>, node: NodeId, connection: ConnectionId) {
        let mut peers = self.peers.write().unwrap_or_else(PoisonError::into_inner);
        let Some(peer) = peers.get(&node).cloned() else { return };
        let Some(Loss { last, ports }) = peer.disconnect(connection) else { return };
        if last {
            peers.remove(&node);
        }
        drop(peers);
        // A local close does not wake the streams' own reads.
        ports.iter().for_each(|port| self.finish(port));
        if last {
            tracing::info!(peer = %node, "peer disconnected");
            self.inbox.notify(Event::Disconnected { peer: node });
            self.orders.push(Order::Lost { peer: node });
        } else {
            self.open_standing(&peer);
        }
        self.ended.notify_waiters();
    }

    /// The streams that every peer has: one that watches over the path, and a client's requests.
    pub(crate) fn open_standing(self: &Arc<Self>, peer: &Arc<Peer>) {
        self.outbound(peer, Channel::Control);
        if self.with_roster(Roster::has_clients) {
            self.outbound(peer, Channel::Command);
        }
    }

    /// The stream that we opened to a peer on a channel; opened now if there is none.
    pub(crate) fn outbound(&self, peer: &Arc<Peer>, channel: Channel) -> Option<Arc<Port>> {
        if self.closing.load(Ordering::Relaxed) {
            return None;
        }
        let now = self.now();
        peer.outbound(now, channel, |connection| {
            let number = self.number();
            let config = self.link_config(channel, peer, number);
            let link = self.with_roster(|roster| Outbound::new(config, now, roster));
            let port = Port::new(number, channel, connection, Link::Outbound(link));
            self.orders.push(Order::Open { peer: peer.node(), port: Arc::clone(&port) });
            port
        })
    }

    /// The stream of one of our ports is open.
    pub(crate) fn opened(self: &Arc<Self>, node: NodeId, port: Arc<Port>, stream: Stream) {
        match self.peer(node) {
            Some(peer) => self.spawn(peer, port, stream),
            None => self.finish(&port),
        }
    }

    /// The stream of one of our ports can't be opened.
    pub(crate) fn failed(self: &Arc<Self>, node: NodeId, port: &Arc<Port>) {
        let Some(peer) = self.peer(node) else { return self.finish(port) };
        self.end(&peer, port);
        if port.channel() == Channel::Control {
            // Without it nobody watches over the path.
            self.give_up(node, port.connection());
        }
    }

    /// The peer opened a stream.
    pub(crate) fn accepted(
        self: &Arc<Self>,
        node: NodeId,
        connection: ConnectionId,
        channel: Channel,
        stream: Stream,
    ) {
        let Some(peer) = self.peer(node) else { return };
        let number = self.number();
        let config = self.link_config(channel, &peer, number);
        let link = Link::Inbound(Inbound::new(config, self.now()));
        let port = Port::new(number, channel, connection, link);
        if !peer.accept(&port) {
            // As often as the peer likes, so it is no news.
            tracing::debug!(peer = %node, %channel, "stream refused, the peer has too many");
            return;
        }
        if channel.asks() {
            let mut answering = self.answering.write().unwrap_or_else(PoisonError::into_inner);
            answering.insert(number, Arc::clone(&port));
        }
        self.spawn(peer, port, stream);
    }

    fn spawn(self: &Arc<Self>, peer: Arc<Peer>, port: Arc<Port>, stream: Stream) {
        let hub = Arc::clone(self);
        tokio::spawn(async move {
            if let Err(error) = port.run(&hub, &peer, stream).await {
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                let channel = port.channel();
                tracing::debug!(peer = %peer.node(), %channel, %error, cause, "stream ended");
            }
            hub.end(&peer, &port);
        });
    }

    /// A stream ended, or never began: its requests end, and one that we need is opened anew.
    fn end(self: &Arc<Self>, peer: &Arc<Peer>, port: &Arc<Port>) {
        self.finish(port);
        let mut answering = self.answering.write().unwrap_or_else(PoisonError::into_inner);
        answering.remove(&port.number());
        drop(answering);
        if let Some(pause) = peer.ended(self.now(), port) {
            let (hub, peer) = (Arc::clone(self), Arc::clone(peer));
            tokio::spawn(async move {
                time::sleep(pause).await;
                if hub.peer(peer.node()).is_some_and(|current| Arc::ptr_eq(&current, &peer)) {
                    hub.open_standing(&peer);
                }
            });
        }
        self.ended.notify_waiters();
    }

    /// Stops a stream and ends its requests.
    fn finish(&self, port: &Port) {
        port.stop();
        let ((), events) = port.with_link(|link| {
            if let Link::Outbound(outbound) = link {
                outbound.finish();
            }
        });
        for event in events {
            // Whatever else it found out is of no use without the stream.
            if let LinkEvent::Reply { id, result } = event {
                self.inbox.notify(Event::Reply { id, result });
            }
        }
    }

    /// Where the reply to a request goes.
    pub(crate) fn answering(&self, token: ReplyToken) -> Option<Arc<Port>> {
        let answering = self.answering.read().unwrap_or_else(PoisonError::into_inner);
        answering.get(&token.stream()).cloned()
    }

    /// Closes a connection. A dead one may take the kernel minutes: it counts as gone now.
    fn give_up(self: &Arc<Self>, peer: NodeId, connection: ConnectionId) {
        self.orders.push(Order::Close { peer, connection });
        self.disconnected(peer, connection);
    }

    /// Closes every connection to a peer.
    pub(crate) fn evict(self: &Arc<Self>, node: NodeId) {
        let Some(peer) = self.peer(node) else { return };
        for connection in peer.connections() {
            self.give_up(node, connection);
        }
    }

    /// Tells the caller, and the other streams, what a link found out; a message is handed back
    /// for delivery.
    pub(crate) fn settle(
        self: &Arc<Self>,
        peer: &Arc<Peer>,
        port: &Arc<Port>,
        event: LinkEvent,
    ) -> Option<Delivery> {
        let node = peer.node();
        match event {
            LinkEvent::Received { from, body, bytes } => {
                let event = Event::Received { from, channel: port.channel(), body };
                return Some(Delivery { event, bytes });
            }
            LinkEvent::Request { from, handle, request, payload } => {
                let token = ReplyToken::new(port.number(), handle, request);
                let bytes = payload.len();
                let event = Event::Request { from, channel: port.channel(), token, payload };
                return Some(Delivery { event, bytes });
            }
            LinkEvent::Reply { id, result } => self.inbox.notify(Event::Reply { id, result }),
            LinkEvent::Helloed { namespace, facts } => self.hint(peer, &namespace, &facts),
            LinkEvent::Shared { namespace, facts } => {
                let event = Event::Shared {
                    peer: node,
                    namespace: namespace.clone(),
                    facts: facts.clone(),
                };
                if peer.share(&namespace, &facts, || self.inbox.notify(event)) {
                    self.hint(peer, &namespace, &facts);
                }
            }
            LinkEvent::Unshared { namespace } => self.told_gone(peer, namespace),
            LinkEvent::Refused { namespace, why, .. } => self.refused(peer, port, namespace, why),
            LinkEvent::Vouched { member, namespace, cluster, at, cards } => {
                tracing::info!(peer = %node, %namespace, %at, "a peer is heard by its cards");
                let event = Event::Vouched { member, namespace, cluster, at, cards };
                self.inbox.notify(event);
            }
            // The peer refuses our own hello as well, and that names the namespace.
            LinkEvent::Unmatched => tracing::debug!(peer = %node, "no key here makes this tag"),
            LinkEvent::Idle => {
                peer.retire(port);
                port.drain();
            }
            LinkEvent::Stalled => {
                tracing::warn!(peer = %node, stall = ?self.stall, "path stalled");
                self.give_up(node, port.connection());
            }
        }
        None
    }

    pub(crate) fn settle_all(
        self: &Arc<Self>,
        peer: &Arc<Peer>,
        port: &Arc<Port>,
        events: Vec<LinkEvent>,
    ) {
        for event in events {
            // Only a reader's link has messages, and the reader delivers them itself.
            self.settle(peer, port, event);
        }
    }

    /// Hands a message to the caller. Control never waits; every other channel's reader does.
    pub(crate) async fn deliver(&self, peer: &Peer, channel: Channel, delivery: Delivery) {
        match channel {
            Channel::Control => self.inbox.control(delivery.event, delivery.bytes),
            _ => self.inbox.bulk(peer.room(), delivery.event, delivery.bytes).await,
        }
    }

    /// While peers hold more than three quarters of a purse, the one that holds most gives way.
    pub(crate) fn make_room(self: &Arc<Self>) {
        while let Some(purse) = self.budgets.crowded() {
            let peers = self.peers();
            let held = |peer: &&Arc<Peer>| peer.account().held(purse);
            let Some(peer) = peers.iter().max_by_key(held) else { return };
            let gave_way = peer.ports().iter().any(|port| {
                let now = self.now();
                let (gave_way, events) = port.with_link(|link| link.give_way(now, purse));
                self.settle_all(peer, port, events);
                gave_way
            });
            if !gave_way {
                return;
            }
        }
    }

    /// What the peer refused before, it may accept now.
    fn hint(self: &Arc<Self>, peer: &Arc<Peer>, namespace: &Namespace, facts: &PeerFacts) {
        let now = self.now();
        for port in peer.ports() {
            let ((), events) = self.with_roster(|roster| {
                port.with_link(|link| {
                    if let Link::Outbound(outbound) = link {
                        outbound.hint(now, roster, (namespace, facts));
                    }
                })
            });
            self.settle_all(peer, &port, events);
        }
    }

    /// The roster's facts of a namespace changed.
    pub(crate) fn refresh(self: &Arc<Self>, namespace: &Namespace) {
        let now = self.now();
        for peer in self.peers() {
            for port in peer.ports() {
                let ((), events) = self.with_roster(|roster| {
                    port.with_link(|link| link.refresh(now, roster, namespace))
                });
                self.settle_all(&peer, &port, events);
            }
            self.open_standing(&peer);
        }
    }

    fn prune_later(self: &Arc<Self>, peer: &Arc<Peer>) {
        let (hub, peer) = (Arc::clone(self), Arc::clone(peer));
        tokio::spawn(async move {
            time::sleep(SETTLE).await;
            peer.settle();
            hub.open_standing(&peer);
            let stalls = PRUNE_STALLS * hub.stall;
            for (pause, all) in [(PRUNE_OWN.max(stalls), false), (PRUNE_ANY.max(stalls), true)] {
                time::sleep(pause).await;
                for connection in peer.surplus(all) {
                    tracing::debug!(peer = %peer.node(), "surplus connection closed");
                    hub.orders.push(Order::Close { peer: peer.node(), connection });
                }
            }
        });
    }

    fn number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }

    fn link_config(&self, channel: Channel, peer: &Peer, number: u64) -> LinkConfig {
        LinkConfig {
            channel,
            me: self.me,
            peer: peer.node(),
            stall: self.stall,
            limits: self.limits.of(channel),
            signatures: self.signatures.clone(),
            effort: peer.effort().clone(),
            seed: sha256(&[b"meshraft stream", &self.seed, &number.to_be_bytes()]),
            account: Arc::clone(peer.account()),
        }
    }
}

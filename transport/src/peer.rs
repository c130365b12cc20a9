//! What is known of one connected peer: its connections, its streams, what is shared with it.

use std::{
    cmp::Reverse,
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use libp2p::{Multiaddr, swarm::ConnectionId};
use meshraft_consensus::{Moment, Namespace, NodeId};

use crate::{
    budget::Account,
    effort::Effort,
    error::Refusal,
    inbox::Room,
    port::Port,
    status::{PeerNamespace, PeerStatus},
    types::{Channel, PeerFacts},
};

/// Streams that a peer may have opened to us, on all its connections together.
const INBOUND_MAX: usize = 16;
/// A stream that ended is not opened again before this.
const REOPEN_FIRST: Duration = Duration::from_millis(50);
const REOPEN_MAX: Duration = Duration::from_secs(5);
/// A stream that lived so long ended for a reason of its own.
const LIVED: Duration = Duration::from_secs(10);

/// A simultaneous dial makes its two connections well within this time.
const SIMULTANEOUS: Duration = Duration::from_secs(5);

/// One connection.
#[derive(Clone, Debug)]
pub(crate) struct Connection {
    pub(crate) id: ConnectionId,
    pub(crate) address: Multiaddr,
    pub(crate) dialled: bool,
    pub(crate) since: Moment,
    /// Whether it has lasted long enough to carry streams beside an older one.
    pub(crate) settled: bool,
}

/// The stream that we open on one channel.
#[derive(Debug, Default)]
struct Slot {
    port: Option<Arc<Port>>,
    opened: Moment,
    not_before: Moment,
    failures: u32,
}

/// What is known of one namespace towards a peer.
#[derive(Clone, Debug, Default)]
struct Sharing {
    facts: Option<PeerFacts>,
    refused: Option<Refusal>,
}

#[derive(Debug, Default)]
struct State {
    gone: bool,
    connections: Vec<Connection>,
    slots: [Slot; Channel::ALL.len()],
    /// Streams that the peer opened, and those of ours that were replaced and still drain.
    others: Vec<Arc<Port>>,
    sharing: BTreeMap<Namespace, Sharing>,
}

/// What goes with a connection.
#[derive(Debug)]
pub(crate) struct Loss {
    /// It was the last one to this peer.
    pub(crate) last: bool,
    /// The streams on it, also those that were not open yet.
    pub(crate) ports: Vec<Arc<Port>>,
}

/// One peer, from its first connection to the loss of its last.
#[derive(Debug)]
pub(crate) struct Peer {
    node: NodeId,
    /// Whether connections that we dialled are preferred.
    ours_first: bool,
    /// What it holds on all its streams.
    account: Arc<Account>,
    /// Where its messages wait for the caller.
    room: Room,
    /// How much work it may cause, on all its streams together.
    effort: Effort,
    state: Mutex<State>,
}

impl Peer {
    pub(crate) fn new(
        me: NodeId,
        node: NodeId,
        account: Arc<Account>,
        room: Room,
        effort: Effort,
    ) -> Arc<Self> {
        let (ours_first, state) = (me < node, Mutex::default());
        Arc::new(Self { node, ours_first, account, room, effort, state })
    }

    /// Where its messages wait for the caller.
    pub(crate) const fn room(&self) -> &Room {
        &self.room
    }

    /// What it holds on all its streams.
    pub(crate) const fn account(&self) -> &Arc<Account> {
        &self.account
    }

    pub(crate) const fn effort(&self) -> &Effort {
        &self.effort
    }

    pub(crate) const fn node(&self) -> NodeId {
        self.node
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Of the two connections of a simultaneous dial, the one dialled by the smaller node stays; of
    /// any others the oldest, as long as it answers: a second process with the identity of the
    /// peer does not take the place of the first by dialling, and if the peer has really lost the
    /// old connection, the silence on it ends it soon. A new connection carries nothing before it
    /// has settled, unless there is no other.
    fn preferred<'a>(&self, state: &'a State) -> Option<&'a Connection> {
        let oldest = state.connections.iter().min_by_key(|c| (c.since, c.id))?;
        let candidates = state.connections.iter().filter(|connection| {
            connection.id == oldest.id
                || (connection.settled && connection.since.since(oldest.since) <= SIMULTANEOUS)
        });
        candidates.max_by_key(|connection| {
            let age = Reverse((connection.since, connection.id));
            (connection.dialled == self.ours_first, age)
        })
    }

    /// A connection is up.
    pub(crate) fn connect(&self, connection: Connection) {
        self.lock().connections.push(connection);
    }

    /// The connections that there are have lasted a while. Streams on one that is no longer
    /// preferred drain.
    pub(crate) fn settle(&self) {
        let mut state = self.lock();
        state.connections.iter_mut().for_each(|connection| connection.settled = true);
        let keep = self.preferred(&state).map(|connection| connection.id);
        let State { slots, others, .. } = &mut *state;
        for slot in slots {
            if let Some(port) = slot.port.take_if(|port| Some(port.connection()) != keep) {
                others.push(port);
            }
        }
    }

    /// A connection is gone, and its streams with it. `None` if it was gone already.
    pub(crate) fn disconnect(&self, id: ConnectionId) -> Option<Loss> {
        let mut state = self.lock();
        let before = state.connections.len();
        state.connections.retain(|connection| connection.id != id);
        if state.connections.len() == before {
            return None;
        }
        let slots = state.slots.iter_mut();
        let ours = slots.filter_map(|slot| slot.port.take_if(|port| port.connection() == id));
        let mut ports: Vec<_> = ours.collect();
        ports.extend(state.others.extract_if(.., |port| port.connection() == id));
        state.gone = state.connections.is_empty();
        Some(Loss { last: state.gone, ports })
    }

    /// Connections that should not live on: those we dialled, or with `all` also the peer's.
    pub(crate) fn surplus(&self, all: bool) -> Vec<ConnectionId> {
        let state = self.lock();
        let keep = self.preferred(&state).map(|connection| connection.id);
        let surplus = state.connections.iter().filter(|connection| Some(connection.id) != keep);
        surplus.filter(|c| all || c.dialled).map(|connection| connection.id).collect()
    }

    pub(crate) fn connections(&self) -> Vec<ConnectionId> {
        self.lock().connections.iter().map(|connection| connection.id).collect()
    }

    /// Whether it shares a namespace.
    pub(crate) fn shares(&self) -> bool {
        self.lock().sharing.values().any(|sharing| sharing.facts.is_some())
    }

    /// The stream that we opened on `channel`; `open` makes one on the preferred connection.
    pub(crate) fn outbound(
        &self,
        now: Moment,
        channel: Channel,
        open: impl FnOnce(ConnectionId) -> Arc<Port>,
    ) -> Option<Arc<Port>> {
        let mut state = self.lock();
        let connection = self.preferred(&state)?.id;
        let slot = state.slots.get_mut(usize::from(channel.number()))?;
        if slot.port.is_none() && slot.not_before <= now {
            slot.port = Some(open(connection));
            slot.opened = now;
        }
        slot.port.clone()
    }

    /// Takes in a stream that the peer opened, if there is room and its connection lives.
    pub(crate) fn accept(&self, port: &Arc<Port>) -> bool {
        let mut state = self.lock();
        let lives = state.connections.iter().any(|connection| connection.id == port.connection());
        let accepted = lives && state.others.len() < INBOUND_MAX;
        if accepted {
            state.others.push(Arc::clone(port));
        }
        accepted
    }

    /// A stream ended. Says how long to wait before opening it anew, if it is one that we need.
    pub(crate) fn ended(&self, now: Moment, port: &Arc<Port>) -> Option<Duration> {
        let mut state = self.lock();
        state.others.retain(|other| !Arc::ptr_eq(other, port));
        let slot = state.slots.get_mut(usize::from(port.channel().number()))?;
        slot.port.take_if(|other| Arc::ptr_eq(other, port))?;
        if now.since(slot.opened) >= LIVED {
            slot.failures = 0;
        }
        let pause = REOPEN_FIRST.saturating_mul(1 << slot.failures.min(10)).min(REOPEN_MAX);
        slot.failures = slot.failures.saturating_add(1);
        slot.not_before = now.plus(pause);
        (!state.gone).then_some(pause)
    }

    /// A stream of ours is of no more use, and drains. The next one may be opened at once.
    pub(crate) fn retire(&self, port: &Arc<Port>) {
        let State { slots, others, .. } = &mut *self.lock();
        let Some(slot) = slots.get_mut(usize::from(port.channel().number())) else { return };
        if let Some(port) = slot.port.take_if(|other| Arc::ptr_eq(other, port)) {
            slot.failures = 0;
            others.push(port);
        }
    }

    /// Every stream with this peer.
    pub(crate) fn ports(&self) -> Vec<Arc<Port>> {
        let state = self.lock();
        let slots = state.slots.iter().filter_map(|slot| slot.port.clone());
        slots.chain(state.others.iter().cloned()).collect()
    }

    /// The peer shares a namespace. `tell` is called if that is news.
    pub(crate) fn share(
        &self,
        namespace: &Namespace,
        facts: &PeerFacts,
        tell: impl FnOnce(),
    ) -> bool {
        let mut state = self.lock();
        if state.gone {
            return false;
        }
        let sharing = state.sharing.entry(namespace.clone()).or_default();
        sharing.refused = None;
        let news = sharing.facts.as_ref() != Some(facts);
        if news {
            sharing.facts = Some(facts.clone());
            tell();
        }
        news
    }

    /// The peer shares a namespace no longer. `tell` is called if that is news.
    pub(crate) fn unshare(&self, namespace: &Namespace, tell: impl FnOnce()) {
        let mut state = self.lock();
        let sharing = state.sharing.get_mut(namespace);
        if sharing.and_then(|sharing| sharing.facts.take()).is_some() && !state.gone {
            tell();
        }
    }

    /// The same, unless a stream still has a handle. A link may be locked after a peer, never
    /// before it.
    pub(crate) fn unshare_unless_open(&self, namespace: &Namespace, tell: impl FnOnce()) {
        let mut state = self.lock();
        let mut ports =
            state.slots.iter().filter_map(|slot| slot.port.as_ref()).chain(&state.others);
        if ports.any(|port| port.link().shares(namespace)) {
            return;
        }
        let sharing = state.sharing.get_mut(namespace);
        if sharing.and_then(|sharing| sharing.facts.take()).is_some() && !state.gone {
            tell();
        }
    }

    /// Either end refused a hello. `tell` is called if the reason is news.
    pub(crate) fn refuse(&self, namespace: &Namespace, why: &Refusal, tell: impl FnOnce()) {
        let mut state = self.lock();
        if state.gone {
            return;
        }
        let sharing = state.sharing.entry(namespace.clone()).or_default();
        if sharing.refused.replace(why.clone()).as_ref() != Some(why) {
            tell();
        }
    }

    /// This node closed a namespace.
    pub(crate) fn forget(&self, namespace: &Namespace, tell: impl FnOnce()) {
        self.unshare(namespace, tell);
        self.lock().sharing.remove(namespace);
    }

    pub(crate) fn status(&self) -> Option<PeerStatus> {
        let ports = self.ports();
        let state = self.lock();
        let connection = self.preferred(&state)?.clone();
        let namespaces = state.sharing.iter().map(|(namespace, sharing)| PeerNamespace {
            namespace: namespace.clone(),
            facts: sharing.facts.clone(),
            refused: sharing.refused.clone(),
        });
        let namespaces = namespaces.collect();
        let connections = state.connections.len();
        drop(state);
        Some(PeerStatus {
            node: self.node,
            address: connection.address,
            dialled: connection.dialled,
            connections,
            namespaces,
            handles: ports.iter().flat_map(|port| port.link().handles()).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        budget::Budgets,
        config::Limits,
        link::{Link, LinkConfig, Outbound},
        roster::Roster,
        sign::NodeSignatures,
    };

    fn connection(id: usize, dialled: bool, since_ms: u64) -> Connection {
        Connection {
            id: ConnectionId::new_unchecked(id),
            address: Multiaddr::empty(),
            dialled,
            since: Moment::from_millis(since_ms),
            settled: false,
        }
    }

    fn ids(ids: &[usize]) -> Vec<ConnectionId> {
        ids.iter().map(|id| ConnectionId::new_unchecked(*id)).collect()
    }

    fn peer(me: u8, other: u8) -> Arc<Peer> {
        let account = Account::new(Budgets::new(&Limits::default()));
        Peer::new(
            NodeId::new([me; 32]),
            NodeId::new([other; 32]),
            account,
            Room::new(&Limits::default()),
            Effort::default(),
        )
    }

    #[test]
    fn both_ends_of_a_simultaneous_dial_keep_the_same_connection() {
        // Node 1 dialled connection 1, node 2 dialled connection 2; each sees them in its order.
        let [smaller, larger] = [peer(1, 2), peer(2, 1)];
        smaller.connect(connection(1, true, 0));
        smaller.connect(connection(2, false, 10));
        larger.connect(connection(2, true, 0));
        larger.connect(connection(1, false, 10));
        assert_eq!(larger.surplus(true), ids(&[1]), "a new connection has to settle first");
        larger.settle();
        smaller.settle();
        assert_eq!(smaller.surplus(false), ids(&[]), "node 2 closes what it dialled");
        assert_eq!(larger.surplus(false), ids(&[2]));
        assert_eq!(smaller.surplus(true), ids(&[2]));
    }

    #[test]
    fn a_second_process_with_the_peers_identity_does_not_replace_the_first() {
        for dialled in [false, true] {
            for (me, other) in [(1, 2), (2, 1)] {
                let peer = peer(me, other);
                peer.connect(connection(1, dialled, 0));
                peer.settle();
                // The copies take turns to dial.
                for (id, now_ms) in [(2, 60_000), (3, 120_000)] {
                    peer.connect(connection(id, false, now_ms));
                    peer.settle();
                    assert_eq!(peer.surplus(true), ids(&[id]), "the newcomer is closed");
                    assert!(!peer.disconnect(ConnectionId::new_unchecked(id)).unwrap().last);
                }
            }
        }
    }

    #[test]
    fn a_later_connection_takes_over_when_the_older_one_is_dead() {
        let peer = peer(1, 2);
        peer.connect(connection(1, true, 0));
        peer.connect(connection(2, false, 60_000));
        // The pulse of the older one finds that nobody answers.
        let loss = peer.disconnect(ConnectionId::new_unchecked(1)).unwrap();
        assert!(!loss.last);
        assert!(peer.disconnect(ConnectionId::new_unchecked(1)).is_none());
        assert_eq!(peer.surplus(true), ids(&[]));
        assert!(peer.disconnect(ConnectionId::new_unchecked(2)).unwrap().last);
    }

    #[test]
    fn a_retired_stream_drains_beside_the_next_one() {
        let peer = peer(1, 2);
        peer.connect(connection(1, true, 0));
        let now = Moment::from_millis(10);
        let open = |number| {
            move |connection| {
                let config = LinkConfig {
                    channel: Channel::Snapshot,
                    me: NodeId::new([1; 32]),
                    peer: NodeId::new([2; 32]),
                    stall: Duration::from_secs(1),
                    limits: Limits::default(),
                    signatures: NodeSignatures::of_byte(1),
                    effort: Effort::default(),
                    seed: [0; 32],
                    account: Account::new(Budgets::new(&Limits::default())),
                };
                let link = Outbound::new(config, now, &Roster::default());
                Port::new(number, Channel::Snapshot, connection, Link::Outbound(link))
            }
        };
        let first = peer.outbound(now, Channel::Snapshot, open(1)).unwrap();
        peer.retire(&first);
        let next = peer.outbound(now, Channel::Snapshot, open(2)).unwrap();
        assert_eq!(next.number(), 2, "no pause before the next one");
        assert_eq!(peer.ports().len(), 2);
        assert_eq!(peer.ended(now, &first), None, "nobody waits for it to be opened again");
        assert_eq!(peer.ports().len(), 1);
        // One that ends unasked is opened again after a pause.
        assert_eq!(peer.ended(now, &next), Some(REOPEN_FIRST));
        assert!(peer.outbound(now, Channel::Snapshot, open(3)).is_none());
    }

    #[test]
    fn news_are_told_once_and_never_after_the_loss() {
        let peer = peer(1, 2);
        peer.connect(connection(1, true, 0));
        let jobs = Namespace::new("/jobs").unwrap();
        let mut told = 0;
        (0..2).for_each(|_| peer.refuse(&jobs, &Refusal::KeyMismatch, || told += 1));
        (0..2).for_each(|_| peer.refuse(&jobs, &Refusal::UnknownNamespace, || told += 1));
        assert_eq!(told, 2);
        peer.disconnect(ConnectionId::new_unchecked(1));
        peer.refuse(&jobs, &Refusal::KeyMismatch, || told += 1);
        assert_eq!(told, 2);
    }
}

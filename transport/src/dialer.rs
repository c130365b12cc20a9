//! Which address is dialled when: the address book, and a jittered back-off for each entry.
//!
//! The swarm neither redials nor backs off. An entry is dialled at once, then with pauses that
//! double up to [`PAUSE_MAX`]; any connection to its peer, whoever dialled it, resets them, and a
//! loss is followed by a redial at once. A value: time and randomness are arguments.

use std::{collections::BTreeMap, time::Duration};

use libp2p::{Multiaddr, multiaddr::Protocol};
use meshraft_consensus::{Moment, NodeId};

use crate::{dice::Dice, identity::node_id};

const PAUSE_FIRST: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(2);
/// After a loss, both ends would dial at the same instant.
const REDIAL_JITTER: Duration = Duration::from_millis(40);
/// Where a peer's addresses are known too, its own entry goes first.
const SECOND_CHOICE: Duration = Duration::from_secs(1);
const DIALS_MAX: usize = 32;
const ENTRIES_MAX: usize = 4_096;
const ADDRESSES_MAX: usize = 8;

/// Whom an entry is for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Target {
    /// This peer, wherever it is.
    Peer(NodeId),
    /// Whoever is there.
    Address(Multiaddr),
}

/// A dial to make now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Dial {
    pub(crate) target: Target,
    pub(crate) addresses: Vec<Multiaddr>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Phase {
    Waiting { until: Moment },
    Dialling,
    Connected { peer: NodeId },
}

#[derive(Clone, Debug)]
struct Entry {
    addresses: Vec<Multiaddr>,
    /// Who was there last; while that peer is connected, there is nothing to dial.
    last: Option<NodeId>,
    failures: u32,
    phase: Phase,
}

/// The address book.
#[derive(Debug)]
pub(crate) struct Dialer {
    me: NodeId,
    entries: BTreeMap<Target, Entry>,
    dialling: usize,
    dice: Dice,
}

impl Dialer {
    pub(crate) fn new(me: NodeId, seed: u64) -> Self {
        Self { me, entries: BTreeMap::new(), dialling: 0, dice: Dice::new(seed) }
    }

    /// Remembers an address; `connected` says which peers are connected already.
    pub(crate) fn add(
        &mut self,
        now: Moment,
        peer: Option<NodeId>,
        mut address: Multiaddr,
        connected: impl Fn(NodeId) -> bool,
    ) {
        let mut named = None;
        if let Some(Protocol::P2p(id)) = address.iter().last() {
            let Ok(id) = node_id(id) else {
                tracing::warn!(%address, "address ignored, its peer has no Ed25519 key");
                return;
            };
            named = Some(id);
            address.pop();
        }
        let target = match peer.or(named) {
            Some(peer) if peer == self.me => return,
            Some(peer) => Target::Peer(peer),
            None => Target::Address(address.clone()),
        };
        if !self.entries.contains_key(&target) && !self.make_room() {
            tracing::warn!(%address, entries = ENTRIES_MAX, "address ignored, the book is full");
            return;
        }
        let phase = match &target {
            Target::Peer(peer) if connected(*peer) => Phase::Connected { peer: *peer },
            _ => Phase::Waiting { until: now },
        };
        let fresh = Entry { addresses: Vec::new(), last: None, failures: 0, phase };
        let entry = self.entries.entry(target).or_insert(fresh);
        if !entry.addresses.contains(&address) {
            // The newest comes first: it is where the peer was seen last.
            entry.addresses.insert(0, address);
            entry.addresses.truncate(ADDRESSES_MAX);
            if let Phase::Waiting { until } = &mut entry.phase {
                *until = now;
            }
        }
    }

    /// Whether an address of this peer was given.
    pub(crate) fn knows(&self, peer: NodeId) -> bool {
        self.entries.contains_key(&Target::Peer(peer))
    }

    /// Whether this peer was there when an address was dialled that was given without a peer.
    pub(crate) fn leads_to(&self, peer: NodeId) -> bool {
        self.entries.values().any(|entry| entry.last == Some(peer))
    }

    /// The next dial that is due.
    pub(crate) fn poll(&mut self, now: Moment) -> Option<Dial> {
        if self.dialling >= DIALS_MAX {
            return None;
        }
        let due = |entry: &Entry| matches!(entry.phase, Phase::Waiting { until } if until <= now);
        let (target, entry) = self.entries.iter_mut().find(|(_, entry)| due(entry))?;
        entry.phase = Phase::Dialling;
        self.dialling += 1;
        Some(Dial { target: target.clone(), addresses: entry.addresses.clone() })
    }

    /// When the next dial is due.
    pub(crate) fn deadline(&self) -> Option<Moment> {
        if self.dialling >= DIALS_MAX {
            return None;
        }
        let waits = self.entries.values().filter_map(|entry| match entry.phase {
            Phase::Waiting { until } => Some(until),
            Phase::Dialling | Phase::Connected { .. } => None,
        });
        waits.min()
    }

    /// A dial failed. `own` if this node itself answered.
    pub(crate) fn failed(&mut self, now: Moment, target: &Target, own: bool) {
        let random = self.dice.draw();
        self.dialling = self.dialling.saturating_sub(1);
        if own {
            self.entries.remove(target);
            return;
        }
        if let Some(entry) = self.entries.get_mut(target)
            && entry.phase == Phase::Dialling
        {
            let pause = PAUSE_FIRST.saturating_mul(1 << entry.failures.min(10)).min(PAUSE_MAX);
            entry.failures = entry.failures.saturating_add(1);
            let jitter = pause.mul_f64(0.5 * random);
            entry.phase = Phase::Waiting { until: now.plus(pause - jitter) };
        }
    }

    /// A connection to `peer` is up; `target` if it is one that we dialled.
    pub(crate) fn connected(&mut self, peer: NodeId, target: Option<&Target>) {
        if let Some(target) = target {
            self.dialling = self.dialling.saturating_sub(1);
            if let Some(entry) = self.entries.get_mut(target) {
                entry.last = Some(peer);
            }
        }
        for (target, entry) in &mut self.entries {
            if entry.last == Some(peer) || *target == Target::Peer(peer) {
                entry.failures = 0;
                // A dial that is still on its way ends by itself, and is counted when it does.
                entry.phase = Phase::Connected { peer };
            }
        }
    }

    /// Somebody else answered at an address of this target. As long as the dials of one target
    /// race each other, a wrong address that answers faster would keep the right one from winning.
    pub(crate) fn mistaken(&mut self, target: &Target, mut address: Multiaddr) {
        if let Some(Protocol::P2p(_)) = address.iter().last() {
            address.pop();
        }
        if let Some(entry) = self.entries.get_mut(target)
            && entry.addresses.len() > 1
        {
            entry.addresses.retain(|known| *known != address);
        }
    }

    /// The last connection to `peer` is gone.
    pub(crate) fn disconnected(&mut self, now: Moment, peer: NodeId) {
        let known = self.knows(peer);
        let jitter = REDIAL_JITTER.mul_f64(self.dice.draw());
        for (target, entry) in &mut self.entries {
            if entry.phase == (Phase::Connected { peer }) {
                let later = matches!(target, Target::Address(_)) && known;
                let pause = if later { SECOND_CHOICE } else { Duration::ZERO };
                entry.phase = Phase::Waiting { until: now.plus(pause + jitter) };
            }
        }
    }

    /// Makes room for one more entry: whom we never reach goes first.
    fn make_room(&mut self) -> bool {
        if self.entries.len() < ENTRIES_MAX {
            return true;
        }
        let waiting = |entry: &Entry| matches!(entry.phase, Phase::Waiting { .. });
        let entries = self.entries.iter().filter(|(_, entry)| waiting(entry) && entry.failures > 8);
        let worst =
            entries.max_by_key(|(_, entry)| entry.failures).map(|(target, _)| target.clone());
        worst.is_some_and(|target| self.entries.remove(&target).is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(byte: u8) -> NodeId {
        NodeId::new([byte; 32])
    }

    fn address(port: u16) -> Multiaddr {
        format!("/ip4/127.0.0.1/tcp/{port}").parse().unwrap()
    }

    fn at(millis: u64) -> Moment {
        Moment::from_millis(millis)
    }

    fn dialer() -> Dialer {
        Dialer::new(node(0), 7)
    }

    #[test]
    fn failures_back_off_and_a_connection_resets() {
        let mut dialer = dialer();
        dialer.add(at(0), Some(node(1)), address(1), |_| false);
        let mut now = at(0);
        let mut pauses = Vec::new();
        for _ in 0..8 {
            let dial = dialer.poll(now).unwrap();
            assert_eq!(dialer.poll(now), None, "one dial at a time");
            dialer.failed(now, &dial.target, false);
            let next = dialer.deadline().unwrap();
            assert_eq!(dialer.poll(Moment::from_nanos(next.as_nanos() - 1)), None);
            pauses.push(next.since(now).as_millis());
            now = next;
        }
        let bounds = [100, 200, 400, 800, 1600, 2000, 2000, 2000];
        for (pause, bound) in pauses.iter().zip(bounds) {
            assert!((bound / 2..=bound).contains(pause), "{pauses:?}");
        }
        dialer.connected(node(1), None);
        assert_eq!(dialer.deadline(), None);
        dialer.disconnected(now, node(1));
        assert!(dialer.deadline().unwrap().since(now) <= REDIAL_JITTER);
    }

    #[test]
    fn an_address_without_a_peer_is_dialled_until_its_peer_is_connected() {
        let mut dialer = dialer();
        dialer.add(at(0), None, address(1), |_| false);
        let dial = dialer.poll(at(0)).unwrap();
        assert_eq!(dial.target, Target::Address(address(1)));
        dialer.connected(node(1), Some(&dial.target));
        assert_eq!(dialer.deadline(), None);
        dialer.add(at(5), None, address(1), |_| false);
        assert_eq!(dialer.deadline(), None, "added again, it stays connected");
        dialer.disconnected(at(10), node(1));
        let dial = dialer.poll(at(10).plus(REDIAL_JITTER)).unwrap();
        // The peer comes back from elsewhere before this dial gets anywhere.
        dialer.failed(at(60), &dial.target, false);
        dialer.connected(node(1), None);
        assert_eq!(dialer.deadline(), None);
    }

    #[test]
    fn a_peer_part_names_the_target_and_ourselves_are_never_dialled() {
        let mut dialer = dialer();
        let with =
            |port, byte| address(port).with(Protocol::P2p(crate::identity::peer_id(node(byte))));
        dialer.add(at(0), None, with(1, 1), |_| false);
        dialer.add(at(0), None, with(2, 0), |_| false);
        let dial = dialer.poll(at(0)).unwrap();
        let expected = Dial { target: Target::Peer(node(1)), addresses: vec![address(1)] };
        assert_eq!(dial, expected);
        dialer.add(at(0), None, address(3), |_| false);
        let own = dialer.poll(at(0)).unwrap();
        dialer.failed(at(0), &own.target, true);
        assert_eq!(dialer.deadline(), None, "an address of our own is forgotten");
    }

    #[test]
    fn an_address_where_somebody_else_lives_is_forgotten_unless_it_is_the_last() {
        let mut dialer = dialer();
        dialer.add(at(0), Some(node(1)), address(1), |_| false);
        dialer.add(at(0), Some(node(1)), address(2), |_| false);
        let target = Target::Peer(node(1));
        let other = Protocol::P2p(crate::identity::peer_id(node(2)));
        dialer.mistaken(&target, address(2).with(other));
        dialer.mistaken(&target, address(1));
        assert_eq!(dialer.poll(at(0)).unwrap().addresses, [address(1)]);
    }

    #[test]
    fn the_book_is_bounded() {
        let mut dialer = dialer();
        for port in 0..20 {
            dialer.add(at(0), Some(node(1)), address(port), |_| false);
        }
        let addresses = dialer.poll(at(0)).unwrap().addresses;
        assert_eq!(addresses.len(), ADDRESSES_MAX);
        assert_eq!(addresses.first(), Some(&address(19)));
        for peer in 0..ENTRIES_MAX as u64 + 10 {
            let mut key = [1; 32];
            key[..8].copy_from_slice(&peer.to_be_bytes());
            dialer.add(at(0), Some(NodeId::new(key)), address(1), |_| false);
        }
        assert_eq!(dialer.entries.len(), ENTRIES_MAX);
        while dialer.poll(at(0)).is_some() {}
        assert_eq!(dialer.dialling, DIALS_MAX);
    }
}

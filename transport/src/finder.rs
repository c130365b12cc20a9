//! Which of the peers that announce themselves on the local network are dialled, when, and which
//! are left alone.
//!
//! Anything may be announced there: members of our namespaces, other libp2p programs, lies. So an
//! announcement is worth a dial and a short trial, and no more. What is learned by it never
//! touches the address book: only the address of a peer that passed its trial goes there.
//!
//! Invariants:
//! 1. Dials, their rate, connections on trial, peers and addresses remembered are all bounded.
//! 2. Who fails its trial is left alone for [`SHUNNED`]; dials that fail back off up to that long.
//!    Both are remembered although the announcement expires.
//! 3. What is not announced any more is not dialled.
//!
//! A value: time and randomness are arguments.

use std::{collections::BTreeMap, time::Duration};

use libp2p::Multiaddr;
use meshraft_consensus::{Moment, NodeId};

use crate::dice::Dice;

/// How long a found peer may be connected before it must share a namespace.
pub(crate) const TRIAL: Duration = Duration::from_secs(5);
/// How long a peer that shared nothing is left alone; half of it is jitter.
const SHUNNED: Duration = Duration::from_secs(300);
/// Both ends of a pair find each other at about the same time: who is quicker dials.
const FIRST_JITTER: Duration = Duration::from_millis(100);
const PAUSE_FIRST: Duration = Duration::from_secs(1);
const DIALS_MAX: usize = 4;
/// Between two dials.
const PACE: Duration = Duration::from_millis(25);
const TRIALS_MAX: usize = 16;
const PEERS_MAX: usize = 512;
const ADDRESSES_MAX: usize = 8;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Is dialled at this time, or left alone until then.
    Waiting(Moment),
    Dialling,
    OnTrial,
    /// Passed its trial.
    Kept,
}

#[derive(Clone, Debug)]
struct Found {
    /// What is announced now; the newest last.
    addresses: Vec<Multiaddr>,
    failures: u32,
    phase: Phase,
}

/// The peers that were found.
#[derive(Debug)]
pub(crate) struct Finder {
    me: NodeId,
    found: BTreeMap<NodeId, Found>,
    next_dial: Moment,
    dice: Dice,
}

impl Finder {
    pub(crate) fn new(me: NodeId, seed: u64) -> Self {
        Self { me, found: BTreeMap::new(), next_dial: Moment::ZERO, dice: Dice::new(seed) }
    }

    /// A peer announces an address.
    pub(crate) fn announced(
        &mut self,
        now: Moment,
        node: NodeId,
        address: Multiaddr,
        connected: bool,
    ) {
        if node == self.me || (!self.found.contains_key(&node) && !self.make_room()) {
            return;
        }
        let until = now.plus(FIRST_JITTER.mul_f64(self.dice.draw()));
        let phase = if connected { Phase::OnTrial } else { Phase::Waiting(until) };
        let fresh = Found { addresses: Vec::new(), failures: 0, phase };
        let found = self.found.entry(node).or_insert(fresh);
        if !found.addresses.contains(&address) {
            if found.addresses.len() == ADDRESSES_MAX {
                found.addresses.remove(0);
            }
            found.addresses.push(address);
        }
    }

    /// A peer no longer announces an address.
    pub(crate) fn expired(&mut self, now: Moment, node: NodeId, address: &Multiaddr) {
        if let Some(found) = self.found.get_mut(&node) {
            found.addresses.retain(|known| known != address);
        }
        self.forget(now);
    }

    /// Whom to dial now, and where.
    pub(crate) fn poll(&mut self, now: Moment) -> Option<(NodeId, Vec<Multiaddr>)> {
        if self.deadline()? > now {
            return None;
        }
        let (node, _) = self.next()?;
        let found = self.found.get_mut(&node)?;
        found.phase = Phase::Dialling;
        self.next_dial = now.plus(PACE);
        Some((node, found.addresses.clone()))
    }

    /// When the next dial is due.
    pub(crate) fn deadline(&self) -> Option<Moment> {
        let count = |phase| self.found.values().filter(|found| found.phase == phase).count();
        let (dialling, on_trial) = (count(Phase::Dialling), count(Phase::OnTrial));
        if dialling >= DIALS_MAX || dialling + on_trial >= TRIALS_MAX {
            return None;
        }
        Some(self.next()?.1.max(self.next_dial))
    }

    /// Who has waited longest.
    fn next(&self) -> Option<(NodeId, Moment)> {
        let waits = self.found.iter().filter_map(|(node, found)| match found.phase {
            Phase::Waiting(until) if !found.addresses.is_empty() => Some((*node, until)),
            _ => None,
        });
        waits.min_by_key(|(_, until)| *until)
    }

    /// A dial of [`Self::poll`] failed.
    pub(crate) fn failed(&mut self, now: Moment, node: NodeId) {
        let random = self.dice.draw();
        if let Some(found) = self.found.get_mut(&node)
            && found.phase == Phase::Dialling
        {
            let pause = PAUSE_FIRST.saturating_mul(1 << found.failures.min(16)).min(SHUNNED);
            found.failures = found.failures.saturating_add(1);
            found.phase = Phase::Waiting(now.plus(pause.mul_f64(1.0 - 0.5 * random)));
        }
    }

    /// A connection to this peer is up, whoever dialled it.
    pub(crate) fn connected(&mut self, node: NodeId) {
        if let Some(found) = self.found.get_mut(&node)
            && found.phase != Phase::Kept
        {
            found.phase = Phase::OnTrial;
        }
    }

    /// Whether this peer was found, and has not shared anything yet.
    pub(crate) fn on_trial(&self, node: NodeId) -> bool {
        self.found.get(&node).is_some_and(|found| found.phase == Phase::OnTrial)
    }

    /// This peer shares a namespace; `true` if that ended its trial.
    pub(crate) fn passed(&mut self, node: NodeId) -> bool {
        let Some(found) = self.found.get_mut(&node) else { return false };
        let news = found.phase == Phase::OnTrial;
        if news {
            (found.phase, found.failures) = (Phase::Kept, 0);
        }
        news
    }

    /// The last connection to this peer is gone.
    pub(crate) fn lost(&mut self, now: Moment, node: NodeId) {
        let random = self.dice.draw();
        if let Some(found) = self.found.get_mut(&node) {
            found.phase = match found.phase {
                // The address book redials it; the announcement may know better where it is now.
                Phase::Kept => Phase::Waiting(now.plus(PAUSE_FIRST.mul_f64(random))),
                Phase::OnTrial => Phase::Waiting(now.plus(SHUNNED.mul_f64(1.0 - 0.5 * random))),
                phase => phase,
            };
        }
        self.forget(now);
    }

    /// Something was opened here that peers which shared nothing before may share.
    pub(crate) fn reconsider(&mut self, now: Moment) {
        for found in self.found.values_mut() {
            if let Phase::Waiting(until) = &mut found.phase {
                let soon = now.plus(FIRST_JITTER.mul_f64(self.dice.draw()));
                *until = soon.min(*until);
                found.failures = 0;
            }
        }
    }

    /// Drops whom nothing is announced of and nothing needs to be remembered of.
    fn forget(&mut self, now: Moment) {
        let keep = |found: &Found| match found.phase {
            Phase::Waiting(until) => !found.addresses.is_empty() || until > now,
            Phase::Dialling | Phase::OnTrial | Phase::Kept => true,
        };
        self.found.retain(|_, found| keep(found));
    }

    /// Makes room for one more: whom we would leave alone for longest goes first.
    fn make_room(&mut self) -> bool {
        if self.found.len() < PEERS_MAX {
            return true;
        }
        let waits = self.found.iter().filter_map(|(node, found)| match found.phase {
            Phase::Waiting(until) => Some((until, *node)),
            _ => None,
        });
        let last = waits.max();
        last.is_some_and(|(_, node)| self.found.remove(&node).is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(number: u16) -> NodeId {
        let mut bytes = [1; 32];
        bytes[..2].copy_from_slice(&number.to_be_bytes());
        NodeId::new(bytes)
    }

    fn address(port: u16) -> Multiaddr {
        format!("/ip4/10.0.0.1/tcp/{port}").parse().unwrap()
    }

    fn at(millis: u64) -> Moment {
        Moment::from_millis(millis)
    }

    fn finder() -> Finder {
        Finder::new(node(0), 7)
    }

    /// Dials one peer that was announced.
    fn dialled(finder: &mut Finder, number: u16, now: u64) {
        finder.announced(at(now), node(number), address(number), false);
        let dial = finder.poll(at(now + 200));
        assert_eq!(dial, Some((node(number), vec![address(number)])));
    }

    #[test]
    fn who_shares_nothing_is_left_alone_for_minutes() {
        let mut finder = finder();
        dialled(&mut finder, 1, 0);
        finder.connected(node(1));
        assert!(finder.on_trial(node(1)));
        finder.lost(at(6_000), node(1));
        let next = finder.deadline().unwrap().since(at(6_000));
        assert!((SHUNNED / 2..=SHUNNED).contains(&next), "{next:?}");
        // Not even an announcement that expired and came again changes that.
        finder.expired(at(7_000), node(1), &address(1));
        assert_eq!(finder.deadline(), None);
        finder.announced(at(8_000), node(1), address(2), false);
        assert_eq!(finder.deadline().unwrap().since(at(6_000)), next);
        // What is opened here does.
        finder.reconsider(at(9_000));
        assert_eq!(finder.poll(at(9_200)), Some((node(1), vec![address(2)])));
    }

    #[test]
    fn who_passed_its_trial_is_dialled_again_soon() {
        let mut finder = finder();
        dialled(&mut finder, 1, 0);
        assert!(!finder.passed(node(1)), "not connected yet");
        finder.connected(node(1));
        assert!(finder.passed(node(1)));
        assert!(!finder.passed(node(1)), "told once");
        assert!(!finder.on_trial(node(1)));
        assert_eq!(finder.deadline(), None);
        finder.lost(at(60_000), node(1));
        assert!(finder.deadline().unwrap() <= at(61_000));
    }

    #[test]
    fn failed_dials_back_off() {
        let mut finder = finder();
        dialled(&mut finder, 1, 0);
        let mut now = at(200);
        for bound in [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300].map(Duration::from_secs) {
            finder.failed(now, node(1));
            let next = finder.deadline().unwrap();
            assert!((bound / 2..=bound).contains(&next.since(now)), "{:?}", next.since(now));
            assert_eq!(finder.poll(Moment::from_nanos(next.as_nanos() - 1)), None);
            now = next;
            assert!(finder.poll(now).is_some());
        }
    }

    #[test]
    fn an_expired_announcement_is_not_dialled() {
        let mut finder = finder();
        finder.announced(at(0), node(1), address(1), false);
        finder.announced(at(0), node(1), address(2), false);
        finder.expired(at(10), node(1), &address(1));
        assert_eq!(finder.poll(at(200)), Some((node(1), vec![address(2)])));
        finder.expired(at(210), node(1), &address(2));
        finder.failed(at(220), node(1));
        assert_eq!(finder.deadline(), None);
        finder.expired(at(60_000), node(1), &address(2));
        assert!(finder.found.is_empty(), "and is forgotten in the end");
    }

    #[test]
    fn many_announcements_make_few_dials() {
        let mut finder = finder();
        for number in 1..2_000 {
            finder.announced(at(0), node(number), address(number), false);
        }
        assert_eq!(finder.found.len(), PEERS_MAX);
        let mut dials = Vec::new();
        for now in 0..10_000 {
            dials.extend(finder.poll(at(now)).map(|(node, _)| (now, node)));
        }
        assert_eq!(dials.len(), DIALS_MAX);
        for (_, node) in &dials {
            finder.connected(*node);
        }
        let mut on_trial = dials.len();
        for now in 10_000..20_000 {
            if let Some((node, _)) = finder.poll(at(now)) {
                finder.connected(node);
                on_trial += 1;
                dials.push((now, node));
            }
        }
        assert_eq!(on_trial, TRIALS_MAX);
        let paces = dials.windows(2).map(|pair| Duration::from_millis(pair[1].0 - pair[0].0));
        assert!(paces.min().unwrap() >= PACE);
        // One peer that announces everything fills only its own entry.
        for port in 1..100 {
            finder.announced(at(0), dials[0].1, address(port), true);
        }
        assert_eq!(finder.found[&dials[0].1].addresses.len(), ADDRESSES_MAX);
    }

    #[test]
    fn nobody_dials_itself() {
        let mut finder = finder();
        finder.announced(at(0), node(0), address(1), false);
        assert_eq!(finder.deadline(), None);
    }
}

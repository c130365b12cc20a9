//! Which dial is due, and what came of it.

use std::time::Duration;

use libp2p::{Multiaddr, multiaddr::Protocol};
use meshraft_consensus::{Moment, NodeId};

use super::{
    AddressSource, Book, DialResult, Target,
    hearsay::Charge,
    lanes::{Lane, Place},
    presence::{PATIENCE_CROWDED, Present, TRIAL},
    record::Record,
    source::DAY,
};

const PAUSE_FIRST: Duration = Duration::from_millis(100);
/// A target that is wanted, and one that has failed for about a minute.
const PAUSE_WANTED_MAX: Duration = Duration::from_secs(2);
const PAUSE_WANTED_LONG: Duration = Duration::from_secs(10);
const FAILURES_LONG: u32 = 32;
/// A peer that was met at first hand and is no member: its pauses grow fourfold, and after about
/// half an hour of failures it is forgotten.
const KNOWN_FAILURES_MAX: u32 = 8;
const PAUSE_LOCAL_FIRST: Duration = Duration::from_secs(1);
/// How long a peer that shared nothing is left alone; half of it is jitter.
pub(super) const SHUNNED: Duration = Duration::from_secs(300);
/// A connection that ends sooner counts as a dial that failed: two processes with one identity
/// would otherwise chase each other.
const SETTLED: Duration = Duration::from_secs(5);
/// After a loss, both ends would dial at the same instant.
pub(super) const REDIAL_JITTER: Duration = Duration::from_millis(40);
/// Where a peer's addresses are known too, its own entry goes first.
const SECOND_CHOICE: Duration = Duration::from_secs(1);
/// Between two dials at peers of the local network.
pub(super) const PACE: Duration = Duration::from_millis(25);
/// Peers that are connected and have yet to share something, with the dials towards more of them.
pub(super) const TRIALS_MAX: usize = 16;
/// Targets on hearsay that are looked at in one call.
const SCAN_MAX: usize = 64;

/// A dial to make now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dial {
    /// Whom it is for.
    pub target: Target,
    /// Where; each address without a `/p2p/` part.
    pub addresses: Vec<Multiaddr>,
    pub(super) lane: Lane,
    pub(super) ailing: bool,
    pub(super) charge: Option<Charge>,
}

impl Dial {
    /// Whether the dial is to prove an address of a connected peer: its connection is of no other
    /// use.
    pub const fn is_probe(&self) -> bool {
        matches!(self.lane, Lane::Probe)
    }

    /// Whether the dial rests on a peer's word alone.
    pub const fn is_hearsay(&self) -> bool {
        self.lane.is_hearsay()
    }
}

/// A connection that is up.
#[derive(Clone, Debug)]
pub struct Established {
    /// The peer, whose id is proven.
    pub peer: NodeId,
    /// Its end of the connection.
    pub remote: Multiaddr,
    /// Whether this node dialled.
    pub dialled: bool,
    /// The dial of the book that led to it.
    pub dial: Option<Dial>,
}

impl Book {
    /// The next dial that is due.
    pub fn poll(&mut self, now: Moment) -> Option<Dial> {
        self.expire(now);
        Lane::ALL.into_iter().find_map(|lane| match lane {
            Lane::Probe | Lane::Hearsay => self.poll_hearsay(now, lane),
            Lane::Wanted | Lane::Known | Lane::Local => self.poll_firm(now, lane),
        })
    }

    /// When the next dial is due.
    pub fn deadline(&self) -> Option<Moment> {
        let due = Lane::ALL.into_iter().filter_map(|lane| match lane {
            Lane::Local if !self.searching || !self.has_trials() => None,
            Lane::Local => self.lanes.deadline(lane).map(|due| due.max(self.next_local)),
            _ => self.lanes.deadline(lane),
        });
        due.min()
    }

    /// Whether one more peer may be put on trial.
    fn has_trials(&self) -> bool {
        self.presence.on_trial() + self.lanes.busy(Lane::Local) < TRIALS_MAX
    }

    fn poll_firm(&mut self, now: Moment, lane: Lane) -> Option<Dial> {
        let local = self.searching && self.next_local <= now && self.has_trials();
        if lane == Lane::Local && !local {
            return None;
        }
        let (target, ailing) = self.lanes.due(now, lane)?;
        let indexed = self.records.get_mut(&target)?;
        indexed.record.firm.dialling = true;
        let addresses = indexed.record.firm_addresses(now);
        if lane == Lane::Local {
            self.next_local = now.plus(PACE);
        }
        self.lanes.begin(lane, ailing);
        self.reindex(&target);
        Some(Dial { target, addresses, lane, ailing, charge: None })
    }

    fn poll_hearsay(&mut self, now: Moment, lane: Lane) -> Option<Dial> {
        for _ in 0..SCAN_MAX {
            let (target, ailing) = self.lanes.due(now, lane)?;
            let Target::Peer(peer) = target else { return None };
            let indexed = self.records.get_mut(&target)?;
            let record = &mut indexed.record;
            let owner = (lane == Lane::Probe).then_some(peer);
            let mut charges = record
                .hearsay_addresses(owner)
                .filter(|listed| listed.not_before <= now)
                .flat_map(|listed| {
                    let tellers =
                        listed.tellers().filter(|teller| owner.is_none_or(|o| o == *teller));
                    let address = listed.address.clone();
                    tellers.map(move |teller| Charge { peer, teller, address: address.clone() })
                });
            let later = record.hearsay_addresses(owner).map(|listed| listed.not_before);
            let later = later.filter(|at| *at > now).min();
            let mut again = later.unwrap_or(Moment::from_nanos(u64::MAX));
            let permitted = charges.find(|charge| match self.budget.permit(now, charge) {
                Ok(()) => true,
                Err(at) => {
                    again = again.min(at);
                    false
                }
            });
            drop(charges);
            let Some(charge) = permitted else {
                record.hearsay.due = again;
                self.reindex(&target);
                continue;
            };
            record.hearsay.dialling = true;
            self.budget.begin(now, &charge);
            self.lanes.begin(lane, ailing);
            self.reindex(&target);
            let addresses = vec![charge.address.clone()];
            return Some(Dial { target, addresses, lane, ailing, charge: Some(charge) });
        }
        None
    }

    pub(super) fn firm_place(
        &self,
        target: &Target,
        record: &Record,
        wanted: bool,
    ) -> Option<Place> {
        if record.firm.dialling || !record.has_firm() || self.is_present(target, record) {
            return None;
        }
        let lane = match record.source()? {
            _ if wanted => Lane::Wanted,
            AddressSource::Configured | AddressSource::FirstHand => Lane::Known,
            _ => Lane::Local,
        };
        let due = if wanted { record.firm.due } else { record.firm.due.max(record.shunned) };
        Some(Place { lane, ailing: record.firm.failures > 0, due })
    }

    pub(super) fn hearsay_place(
        &self,
        target: &Target,
        record: &Record,
        wanted: bool,
    ) -> Option<Place> {
        let Target::Peer(peer) = target else { return None };
        if record.hearsay.dialling {
            return None;
        }
        let present = self.presence.has(*peer);
        if !present && record.has_firm() && record.firm.failures == 0 {
            return None;
        }
        let owner = present.then_some(*peer);
        let due = record.hearsay_addresses(owner).map(|listed| listed.not_before).min()?;
        let shunned = if wanted || present { Moment::ZERO } else { record.shunned };
        let due = due.max(record.hearsay.due).max(shunned);
        let lane = if present { Lane::Probe } else { Lane::Hearsay };
        Some(Place { lane, ailing: record.hearsay.failures > 0, due })
    }

    fn is_present(&self, target: &Target, record: &Record) -> bool {
        match target {
            Target::Peer(peer) => self.presence.has(*peer),
            Target::Address(_) => record.last.is_some_and(|peer| self.presence.has(peer)),
        }
    }

    /// A dial has ended.
    fn finish(&mut self, dial: &Dial) {
        self.lanes.end(dial.lane, dial.ailing);
        if let Some(indexed) = self.records.get_mut(&dial.target) {
            let record = &mut indexed.record;
            let attempts = if dial.is_hearsay() { &mut record.hearsay } else { &mut record.firm };
            attempts.dialling = false;
        }
    }

    /// A connection is up.
    pub fn connected(&mut self, now: Moment, established: Established) {
        let Established { peer, remote, dialled, dial } = established;
        let remote = without_peer(remote);
        let by_word =
            dial.as_ref().is_some_and(|dial| matches!(dial.lane, Lane::Local | Lane::Hearsay));
        if let Some(dial) = &dial {
            self.finish(dial);
            self.settle_charge(dial, peer);
            if let (Target::Address(address), Some(indexed)) =
                (&dial.target, self.records.get_mut(&dial.target))
            {
                indexed.record.last = Some(peer);
                indexed.record.note(now, address, DialResult::Proved);
            }
        }
        let target = Target::Peer(peer);
        let local = self.records.get(&target).and_then(|known| known.record.source());
        let found = by_word || local == Some(AddressSource::LocalNetwork);
        let fresh = Present {
            remote: remote.clone(),
            dialled: None,
            since: now,
            idle_since: Some(now),
            useful: false,
            found,
        };
        let present = self.presence.peers.entry(peer).or_insert(fresh);
        if dialled {
            present.dialled = Some(remote.clone());
            self.prove(now, peer, &remote);
        }
        self.reindex_all(peer);
        if let Some(dial) = dial {
            self.reindex(&dial.target);
        }
    }

    /// A dial of a connected peer proved an address of it; the connection is closed again.
    pub fn probed(&mut self, now: Moment, peer: NodeId, dial: &Dial) {
        self.finish(dial);
        self.settle_charge(dial, peer);
        if dial.target == Target::Peer(peer) {
            for address in &dial.addresses {
                self.prove(now, peer, address);
            }
        }
        self.reindex(&dial.target);
    }

    fn settle_charge(&mut self, dial: &Dial, peer: NodeId) {
        match &dial.charge {
            Some(charge) if charge.peer == peer => self.budget.proved(charge),
            Some(charge) => self.budget.release(charge),
            None => {}
        }
    }

    /// A peer proved its id at an address that this node dialled.
    fn prove(&mut self, now: Moment, peer: NodeId, address: &Multiaddr) {
        let target = Target::Peer(peer);
        let indexed = self.records.entry(target.clone()).or_default();
        let taken = indexed.record.insert(now, address, AddressSource::FirstHand);
        indexed.record.note(now, address, DialResult::Proved);
        indexed.record.hearsay.failures = 0;
        if taken == Ok(true) {
            self.changed.insert(peer);
        }
        self.reindex(&target);
        self.trim(&target);
    }

    /// The last connection to `peer` is gone.
    pub fn disconnected(&mut self, now: Moment, peer: NodeId) {
        let Some(present) = self.presence.peers.remove(&peer) else { return };
        let lived = now.since(present.since);
        let jitter = REDIAL_JITTER.mul_f64(self.dice.draw());
        let known =
            self.records.get(&Target::Peer(peer)).is_some_and(|known| known.record.has_firm());
        for target in self.targets_of(peer) {
            let shunned = self.jittered(SHUNNED);
            let pause = self.pause(&target);
            let Some(indexed) = self.records.get_mut(&target) else { continue };
            let record = &mut indexed.record;
            let second = known && matches!(target, Target::Address(_));
            let wait = if second { SECOND_CHOICE + jitter } else { jitter };
            if lived >= SETTLED {
                record.firm.failures = 0;
                record.firm.due = now.plus(wait);
            } else {
                record.firm.failures = record.firm.failures.saturating_add(1);
                record.firm.due = now.plus(pause.max(wait));
            }
            record.touched = now;
            // Whoever found that this node shares nothing with it finds the same again.
            if present.found && !present.useful && lived >= TRIAL / 2 {
                record.shunned = now.plus(shunned);
            }
            self.reindex(&target);
        }
        self.trim(&Target::Peer(peer));
    }

    /// A dial failed; what is known of each address that was tried.
    pub fn failed(&mut self, now: Moment, dial: &Dial, results: &[(Multiaddr, DialResult)]) {
        self.finish(dial);
        let mut charge = dial.charge.as_ref();
        for (address, result) in results {
            let address = without_peer(address.clone());
            if let Some(charge) = charge.take_if(|charge| charge.address == address) {
                match result {
                    DialResult::Mistaken { found } => {
                        self.budget.unproven(now, charge, Some(*found));
                    }
                    DialResult::Unproven => self.budget.unproven(now, charge, None),
                    DialResult::TimedOut => self.budget.timed_out(now, charge),
                    DialResult::Unreachable => self.budget.unreachable(now, charge),
                    DialResult::Proved => self.budget.release(charge),
                }
            }
            self.note(now, dial, &address, *result);
        }
        if let Some(charge) = charge {
            self.budget.release(charge);
        }
        let pause = self.pause(&dial.target);
        let pause = self.jittered(pause);
        if let Some(indexed) = self.records.get_mut(&dial.target) {
            let record = &mut indexed.record;
            let attempts = if dial.is_hearsay() { &mut record.hearsay } else { &mut record.firm };
            attempts.failures = attempts.failures.saturating_add(1);
            attempts.due = if dial.is_hearsay() { now } else { now.plus(pause) };
            if dial.lane == Lane::Known
                && attempts.failures >= KNOWN_FAILURES_MAX
                && record.withdraw_all(AddressSource::FirstHand)
                && let Target::Peer(peer) = dial.target
            {
                self.changed.insert(peer);
            }
        }
        self.reindex(&dial.target);
    }

    fn note(&mut self, now: Moment, dial: &Dial, address: &Multiaddr, result: DialResult) {
        let Some(indexed) = self.records.get_mut(&dial.target) else { return };
        indexed.record.note(now, address, result);
        let mistaken = matches!(result, DialResult::Mistaken { .. });
        let lost = match &dial.target {
            // An address that turns out to be this node's own is of no use to anyone.
            Target::Address(_) if result == (DialResult::Mistaken { found: self.me }) => {
                self.configured = self.configured.saturating_sub(1);
                indexed.record.addresses.clear();
                false
            }
            Target::Address(_) => false,
            Target::Peer(_) if mistaken || dial.is_hearsay() && result == DialResult::Unproven => {
                indexed.record.disown(address)
            }
            Target::Peer(_) => false,
        };
        if let Target::Peer(peer) = dial.target
            && lost
        {
            self.changed.insert(peer);
        }
    }

    /// How long to wait after one more failure.
    fn pause(&self, target: &Target) -> Duration {
        let Some(indexed) = self.records.get(target) else { return PAUSE_FIRST };
        let failures = indexed.record.firm.failures;
        let wanted = match target {
            Target::Peer(peer) => self.is_wanted(*peer),
            Target::Address(_) => true,
        };
        let doublings = match indexed.record.source() {
            Some(AddressSource::FirstHand) if !wanted => 2 * failures,
            _ => failures,
        };
        let (first, longest) = match indexed.record.source() {
            _ if wanted && failures >= FAILURES_LONG => (PAUSE_FIRST, PAUSE_WANTED_LONG),
            _ if wanted => (PAUSE_FIRST, PAUSE_WANTED_MAX),
            Some(AddressSource::FirstHand) => (PAUSE_FIRST, DAY),
            _ => (PAUSE_LOCAL_FIRST, SHUNNED),
        };
        first.saturating_mul(1 << doublings.min(16)).min(longest)
    }

    fn jittered(&mut self, pause: Duration) -> Duration {
        pause.mul_f64(1.0 - 0.5 * self.dice.draw())
    }

    /// The entries that lead to a peer.
    fn targets_of(&self, peer: NodeId) -> Vec<Target> {
        let anonymous = self.anonymous().filter(|(_, record)| record.last == Some(peer));
        let anonymous = anonymous.map(|(target, _)| target.clone());
        std::iter::once(Target::Peer(peer)).chain(anonymous).collect()
    }

    fn reindex_all(&mut self, peer: NodeId) {
        for target in self.targets_of(peer) {
            self.reindex(&target);
        }
    }

    /// Whether peers of the local network are dialled at all: a node with nothing open would find
    /// nobody that shares it.
    pub const fn search(&mut self, searching: bool) {
        self.searching = searching;
    }

    /// Something was opened here that peers which shared nothing before may share.
    pub fn reconsider(&mut self, now: Moment) {
        let shunned = |record: &Record| record.shunned > now;
        let waiting = self.records.iter().filter(|(_, indexed)| {
            let local = indexed.places.firm.is_some_and(|place| place.lane == Lane::Local);
            local || shunned(&indexed.record)
        });
        let waiting: Vec<_> = waiting.map(|(target, _)| target.clone()).collect();
        for target in waiting {
            let soon = now.plus(super::FIRST_JITTER.mul_f64(self.dice.draw()));
            if let Some(indexed) = self.records.get_mut(&target) {
                let record = &mut indexed.record;
                record.shunned = Moment::ZERO;
                (record.firm.failures, record.firm.due) = (0, soon.min(record.firm.due));
            }
            self.reindex(&target);
        }
    }

    /// Looks at who shares a namespace, and names the peers to let go: those that nobody asked for
    /// and that have shared nothing for `longest`, for five seconds if they were found or heard of
    /// or if the table of peers is `crowded`.
    pub fn look(
        &mut self,
        now: Moment,
        shares: impl Iterator<Item = (NodeId, bool)>,
        crowded: bool,
        longest: Duration,
    ) -> Vec<NodeId> {
        let mut presence = std::mem::take(&mut self.presence);
        let let_go = presence.look(now, shares, |peer, present| {
            if self.is_wanted(peer) {
                None
            } else if present.found && !present.useful {
                Some(TRIAL.min(longest))
            } else if crowded {
                Some(PATIENCE_CROWDED.min(longest))
            } else {
                Some(longest)
            }
        });
        self.presence = presence;
        for peer in &let_go {
            let shunned = self.jittered(SHUNNED);
            let useless = self.presence.get(*peer).is_some_and(|peer| peer.found && !peer.useful);
            let target = Target::Peer(*peer);
            if let Some(indexed) = self.records.get_mut(&target) {
                indexed.record.shunned = now.plus(shunned);
                if useless && indexed.record.withdraw_all(AddressSource::FirstHand) {
                    self.changed.insert(*peer);
                }
            }
            self.reindex(&target);
        }
        let_go
    }

    /// Whether this peer was let go lately.
    pub fn was_let_go(&self, now: Moment, peer: NodeId) -> bool {
        self.presence.was_let_go(now, peer)
    }
}

fn without_peer(mut address: Multiaddr) -> Multiaddr {
    if let Some(Protocol::P2p(_)) = address.iter().last() {
        address.pop();
    }
    address
}

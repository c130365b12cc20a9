//! The address book: who can be reached where, by whose word, and whom to dial next.
//!
//! Addresses are evidence with a source ([`AddressSource`]). The book keeps them within budgets,
//! decides which dials are due, learns from what came of them, and knows which connected peers are
//! of use. A value: time and randomness are arguments. The transport's swarm moves it.
//!
//! Invariants:
//! 1. Better evidence is never displaced by worse, and what the operator configured by nothing.
//! 2. Addresses, peers, the peers that one teller names, and dials are bounded, per source and in
//!    all ([`Book::len`], [`Book::bytes`]).
//! 3. A member of a cluster keeps its best address as long as it is a member.
//! 4. Hearsay alone is dialled within a small budget, and only a proof makes it more than hearsay.
//! 5. The target that has been due longest is dialled next, whatever its id.

mod dialling;
mod hearsay;
mod index;
mod lanes;
mod presence;
mod reach;
mod record;
mod source;
mod status;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use libp2p::{Multiaddr, multiaddr::Protocol};
use meshraft_consensus::{Moment, Namespace, NodeId};

pub use self::{
    dialling::{Dial, Established},
    record::DialResult,
    source::{AddressRefusal, AddressSource},
    status::BookEntry,
};
use self::{
    hearsay::Budget,
    lanes::{Lanes, Place},
    presence::Presence,
    record::Record,
    source::RANKS,
};
pub(crate) use self::{
    presence::LOOK,
    reach::{holder_of, ip_of},
};
use crate::{dice::Dice, identity::node_id};

/// Configured targets.
const CONFIGURED_MAX: usize = 1_024;
/// Peers met at first hand that are neither members nor connected; the oldest makes room.
const FIRST_HAND_MAX: usize = 1_024;
/// Peers that only the local network names, and peers that only this machine names.
const LOCAL_MAX: usize = 512;
/// Peers that are hearsay alone.
const HEARSAY_MAX: usize = 1_024;
/// Peers that one teller names.
const TELLER_PEERS_MAX: usize = 128;
/// Members of one namespace whose addresses are pinned.
const MEMBERS_MAX: usize = 4_096;
/// Both ends of a pair find each other at about the same time: who is quicker dials.
const FIRST_JITTER: Duration = Duration::from_millis(100);

/// Whom a dial is for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    /// This peer, wherever it is.
    Peer(NodeId),
    /// Any peer that is there.
    Address(Multiaddr),
}

/// One record, and where the indexes list it.
#[derive(Debug, Default)]
struct Indexed {
    record: Record,
    places: Places,
}

/// Where the indexes list a record.
#[derive(Clone, Debug, Default)]
struct Places {
    firm: Option<Place>,
    hearsay: Option<Place>,
    /// Its place among those that make room: by source, those that answer last.
    evictable: Option<(usize, bool, Moment)>,
    expires: Option<Moment>,
    tellers: BTreeSet<NodeId>,
}

/// The address book of one node.
#[derive(Debug)]
pub struct Book {
    me: NodeId,
    records: BTreeMap<Target, Indexed>,
    lanes: Lanes,
    budget: Budget,
    presence: Presence,
    evictable: [BTreeSet<(bool, Moment, Target)>; RANKS],
    expiries: BTreeSet<(Moment, Target)>,
    /// Whom each teller names.
    told: BTreeMap<NodeId, BTreeSet<NodeId>>,
    members: BTreeMap<Namespace, BTreeSet<NodeId>>,
    /// In how many namespaces each node is a member.
    pinned: BTreeMap<NodeId, usize>,
    configured: usize,
    /// Peers whose proven addresses changed.
    changed: BTreeSet<NodeId>,
    /// Before this, no peer of the local network is dialled.
    next_local: Moment,
    searching: bool,
    dice: Dice,
}

impl Book {
    /// The empty book of this node. The seed only spreads dials.
    pub fn new(me: NodeId, seed: u64) -> Self {
        Self {
            me,
            records: BTreeMap::new(),
            lanes: Lanes::default(),
            budget: Budget::default(),
            presence: Presence::default(),
            evictable: Default::default(),
            expiries: BTreeSet::new(),
            told: BTreeMap::new(),
            members: BTreeMap::new(),
            pinned: BTreeMap::new(),
            configured: 0,
            changed: BTreeSet::new(),
            next_local: Moment::ZERO,
            searching: true,
            dice: Dice::new(seed),
        }
    }

    /// Takes an address from a source. A `/p2p/` part counts as `peer`.
    ///
    /// # Errors
    /// Why the address is not taken.
    pub fn add(
        &mut self,
        now: Moment,
        peer: Option<NodeId>,
        mut address: Multiaddr,
        source: AddressSource,
    ) -> Result<(), AddressRefusal> {
        let mut named = None;
        if let Some(Protocol::P2p(id)) = address.iter().last() {
            named = Some(node_id(id).map_err(|_| AddressRefusal::NotEd25519)?);
            address.pop();
        }
        let target = match peer.or(named) {
            Some(peer) if peer == self.me => return Err(AddressRefusal::Ourselves),
            Some(peer) => Target::Peer(peer),
            None if source == AddressSource::Configured => Target::Address(address.clone()),
            None => return Err(AddressRefusal::NoPeer),
        };
        self.check(&address, source)?;
        self.insert(now, &target, &address, source)
    }

    /// Takes all that one peer says of another, or of itself: what it said of that peer before and
    /// does not say now is withdrawn. Returns what is not taken, and why.
    pub fn hear(
        &mut self,
        now: Moment,
        teller: NodeId,
        peer: NodeId,
        addresses: &[Multiaddr],
    ) -> Vec<(Multiaddr, AddressRefusal)> {
        let mut refused = Vec::new();
        if peer == self.me {
            return refused;
        }
        self.withdraw_unsaid(teller, peer, addresses);
        let source = AddressSource::Hearsay { teller };
        for address in addresses.iter().take(source.addresses_max()) {
            if let Err(why) = self.add(now, Some(peer), address.clone(), source) {
                refused.push((address.clone(), why));
            }
        }
        refused
    }

    /// What a peer no longer says is not believed any longer. A peer is the authority on its own
    /// addresses: one that it takes back, or that failed and that it does not name, is forgotten,
    /// however it was learned, unless the operator gave it or it is connected there.
    fn withdraw_unsaid(&mut self, teller: NodeId, peer: NodeId, addresses: &[Multiaddr]) {
        let target = Target::Peer(peer);
        let connected = self.presence.get(peer).and_then(|present| present.dialled.clone());
        let Some(Indexed { record, .. }) = self.records.get_mut(&target) else { return };
        let unsaid = |address: &Multiaddr| !addresses.contains(address);
        let listed: Vec<_> = record.addresses.iter().map(|listed| listed.address.clone()).collect();
        let mut proofs_lost = false;
        for address in listed.iter().filter(|address| unsaid(address)) {
            let source = AddressSource::Hearsay { teller };
            record.withdraw(address, source);
            let owned = |listed: &mut record::Listed| listed.named_by_owner || listed.failures > 0;
            if teller == peer
                && connected.as_ref() != Some(address)
                && record.find(address).is_some_and(owned)
            {
                proofs_lost |= record.disown(address);
            }
        }
        if proofs_lost {
            self.changed.insert(peer);
        }
        self.reindex(&target);
    }

    /// A source no longer names an address.
    pub fn withdraw(&mut self, peer: NodeId, address: &Multiaddr, source: AddressSource) {
        let target = Target::Peer(peer);
        if let Some(Indexed { record, .. }) = self.records.get_mut(&target) {
            record.withdraw(address, source);
            self.reindex(&target);
        }
    }

    /// The members of a cluster, as a whole: each keeps its best address while it is one. The
    /// first 4,096 of a namespace.
    pub fn members(&mut self, namespace: &Namespace, members: BTreeSet<NodeId>) {
        let members: BTreeSet<_> = members.into_iter().take(MEMBERS_MAX).collect();
        let before = if members.is_empty() {
            self.members.remove(namespace).unwrap_or_default()
        } else {
            self.members.insert(namespace.clone(), members.clone()).unwrap_or_default()
        };
        for node in members.difference(&before) {
            *self.pinned.entry(*node).or_default() += 1;
            self.reindex(&Target::Peer(*node));
        }
        for node in before.difference(&members) {
            if let Some(count) = self.pinned.get_mut(node) {
                *count -= 1;
                if *count == 0 {
                    self.pinned.remove(node);
                }
            }
            self.reindex(&Target::Peer(*node));
        }
    }

    fn check(&self, address: &Multiaddr, source: AddressSource) -> Result<(), AddressRefusal> {
        match source {
            AddressSource::Configured | AddressSource::FirstHand => Ok(()),
            AddressSource::LocalNetwork => reach::check_local(address, false),
            AddressSource::LocalMachine => reach::check_local(address, true),
            // What this node itself heard in an earlier life.
            AddressSource::Hearsay { teller } if teller == self.me => {
                reach::check_local(address, true)
            }
            AddressSource::Hearsay { teller } => {
                let told_over = self.presence.get(teller).map(|present| &present.remote);
                reach::check_told(address, told_over)
            }
        }
    }

    fn insert(
        &mut self,
        now: Moment,
        target: &Target,
        address: &Multiaddr,
        source: AddressSource,
    ) -> Result<(), AddressRefusal> {
        if let (AddressSource::Hearsay { teller }, Target::Peer(peer)) = (source, target) {
            let named = self.told.get(&teller);
            let full = named.is_some_and(|named| named.len() >= TELLER_PEERS_MAX);
            if full && named.is_some_and(|named| !named.contains(peer)) {
                return Err(AddressRefusal::Full);
            }
        }
        let is_configured = source == AddressSource::Configured;
        let known = self.records.get(target).is_some_and(|known| is_given(&known.record));
        if is_configured && !known {
            if self.configured >= CONFIGURED_MAX {
                return Err(AddressRefusal::Full);
            }
            self.configured += 1;
        }
        let jitter = FIRST_JITTER.mul_f64(self.dice.draw());
        let indexed = self.records.entry(target.clone()).or_default();
        let taken = indexed.record.insert(now, address, source);
        if let (Some(listed), Target::Peer(peer)) = (indexed.record.find(address), target)
            && source == (AddressSource::Hearsay { teller: *peer })
        {
            listed.named_by_owner = true;
        }
        if taken == Ok(true) && source.is_hearsay() {
            indexed.record.hearsay.due = now;
        } else if taken == Ok(true) {
            let wait = if is_configured { Duration::ZERO } else { jitter };
            indexed.record.firm.due = now.plus(wait);
            if let (AddressSource::FirstHand, Target::Peer(peer)) = (source, target) {
                self.changed.insert(*peer);
            }
        }
        self.reindex(target);
        self.trim(target);
        match taken {
            Ok(_) if self.records.contains_key(target) => Ok(()),
            Ok(_) => Err(AddressRefusal::Full),
            Err(why) => Err(why),
        }
    }

    /// Whether the operator gave an address of this peer, with or without its id.
    fn is_configured(&self, peer: NodeId) -> bool {
        let given = self.records.get(&Target::Peer(peer));
        given.is_some_and(|given| is_given(&given.record))
            || self.anonymous().any(|(_, record)| record.last == Some(peer))
    }

    /// Whether this peer is worth a place whatever the limits say: a member, or one whose address
    /// the operator gave.
    pub fn is_wanted(&self, peer: NodeId) -> bool {
        self.pinned.contains_key(&peer) || self.is_configured(peer)
    }

    fn anonymous(&self) -> impl Iterator<Item = (&Target, &Record)> {
        let from = Target::Address(Multiaddr::empty());
        self.records.range(from..).map(|(target, indexed)| (target, &indexed.record))
    }
}

fn is_given(record: &Record) -> bool {
    record.addresses.iter().any(|listed| listed.has(AddressSource::Configured))
}

fn proven(record: &Record) -> impl Iterator<Item = &record::Listed> {
    record.addresses.iter().filter(|listed| listed.has(AddressSource::FirstHand))
}

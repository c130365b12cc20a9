//! One target of the book: its addresses, the evidence for each, and its two kinds of attempts.

use std::{collections::BTreeMap, time::Duration};

use libp2p::Multiaddr;
use meshraft_consensus::{Moment, NodeId};

use super::source::{AddressRefusal, AddressSource};

/// The most addresses of one target, all sources together.
pub(super) const ADDRESSES_MAX: usize = 16;
/// The most addresses of one dial.
const DIAL_ADDRESSES_MAX: usize = 8;
/// The most peers whose word is kept for one address.
const TELLERS_MAX: usize = 4;
/// How long an address at which another peer answered gives way to the others of its target.
const MISTAKEN: Duration = Duration::from_secs(60);
const HEARSAY_PAUSE_FIRST: Duration = Duration::from_secs(5);
const HEARSAY_PAUSE_MAX: Duration = Duration::from_secs(600);

/// What came of the last dial at an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DialResult {
    /// The peer proved its id there.
    Proved,
    /// The network or the machine refused the connection.
    Unreachable,
    /// Nothing came back in time.
    TimedOut,
    /// Somebody answered and proved no peer id.
    Unproven,
    /// Another peer answered.
    Mistaken {
        /// The peer that answered.
        found: NodeId,
    },
}

/// One address.
#[derive(Clone, Debug)]
pub(super) struct Listed {
    pub(super) address: Multiaddr,
    /// When each source named it last. Invariant: at least one source.
    evidence: BTreeMap<AddressSource, Moment>,
    /// Whether the peer itself has ever named it.
    pub(super) named_by_owner: bool,
    /// Failures in a row.
    pub(super) failures: u32,
    /// Not dialled before.
    pub(super) not_before: Moment,
    pub(super) last: Option<(Moment, DialResult)>,
}

impl Listed {
    fn new(address: Multiaddr) -> Self {
        Self {
            address,
            evidence: BTreeMap::new(),
            named_by_owner: false,
            failures: 0,
            not_before: Moment::ZERO,
            last: None,
        }
    }

    /// The best source.
    pub(super) fn source(&self) -> AddressSource {
        let first = self.evidence.first_key_value();
        *first.expect("an address is dropped with its last source").0
    }

    /// When the best source named it last.
    pub(super) fn since(&self) -> Moment {
        self.evidence.first_key_value().map_or(Moment::ZERO, |(_, since)| *since)
    }

    pub(super) fn has(&self, source: AddressSource) -> bool {
        self.evidence.contains_key(&source)
    }

    pub(super) fn tellers(&self) -> impl Iterator<Item = NodeId> {
        self.evidence.keys().filter_map(|source| match source {
            AddressSource::Hearsay { teller } => Some(*teller),
            _ => None,
        })
    }

    /// When the first of its sources is believed no longer.
    fn expires(&self) -> Option<Moment> {
        let expiries = self.evidence.iter();
        expiries.filter_map(|(source, since)| Some(since.plus(source.time_to_live()?))).min()
    }
}

/// Dials of one kind towards one target: one at a time, with a back-off of their own.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Attempts {
    pub(super) dialling: bool,
    pub(super) due: Moment,
    /// Failures in a row.
    pub(super) failures: u32,
}

/// One target of the book.
#[derive(Clone, Debug, Default)]
pub(super) struct Record {
    pub(super) addresses: Vec<Listed>,
    /// The peer that answered last where the target names none.
    pub(super) last: Option<NodeId>,
    /// Dials at addresses for which there is better evidence than hearsay.
    pub(super) firm: Attempts,
    /// Dials at addresses that are hearsay alone.
    pub(super) hearsay: Attempts,
    /// When there was news of it last: what is oldest makes room first.
    pub(super) touched: Moment,
    /// Left alone until then: it was connected and shared nothing.
    pub(super) shunned: Moment,
}

impl Record {
    pub(super) fn find(&mut self, address: &Multiaddr) -> Option<&mut Listed> {
        self.addresses.iter_mut().find(|listed| listed.address == *address)
    }

    /// The best source of any of its addresses.
    pub(super) fn source(&self) -> Option<AddressSource> {
        self.addresses.iter().map(Listed::source).min()
    }

    /// Takes an address; `true` if it is new from this source.
    ///
    /// # Errors
    /// There is no room that better or equal evidence does not hold.
    pub(super) fn insert(
        &mut self,
        now: Moment,
        address: &Multiaddr,
        source: AddressSource,
    ) -> Result<bool, AddressRefusal> {
        self.touched = now;
        if let Some(listed) = self.find(address) {
            if source.is_hearsay() && !listed.has(source) && listed.tellers().count() >= TELLERS_MAX
            {
                return Err(AddressRefusal::Full);
            }
            return Ok(listed.evidence.insert(source, now).is_none());
        }
        if !self.make_room(source) {
            return Err(AddressRefusal::Full);
        }
        let mut listed = Listed::new(address.clone());
        listed.evidence.insert(source, now);
        self.addresses.push(listed);
        Ok(true)
    }

    /// Makes room for one more address of this source. Evidence gives way to better evidence; of
    /// the same source, an address that failed gives way, so that an address that works is never
    /// pushed out by mere claims. A newer proof replaces the oldest one.
    fn make_room(&mut self, source: AddressSource) -> bool {
        let rank = source.rank();
        let same = |listed: &Listed| listed.source().rank() == rank;
        if self.addresses.iter().filter(|listed| same(listed)).count() >= source.addresses_max() {
            let candidates = self.addresses.iter().enumerate().filter(|(_, listed)| same(listed));
            let victim = match source {
                AddressSource::Configured => None,
                AddressSource::FirstHand => candidates.min_by_key(|(_, listed)| listed.since()),
                _ => candidates
                    .filter(|(_, listed)| listed.failures > 0)
                    .max_by_key(|(_, listed)| listed.failures),
            };
            let Some(index) = victim.map(|(index, _)| index) else { return false };
            self.addresses.remove(index);
        }
        if self.addresses.len() < ADDRESSES_MAX {
            return true;
        }
        let worse = self.addresses.iter().enumerate();
        let worse = worse.filter(|(_, listed)| listed.source().rank() > rank);
        let victim = worse.max_by_key(|(_, listed)| (listed.source().rank(), listed.failures));
        let Some(index) = victim.map(|(index, _)| index) else { return false };
        self.addresses.remove(index);
        true
    }

    /// Takes evidence back; `true` if there was any.
    pub(super) fn withdraw(&mut self, address: &Multiaddr, source: AddressSource) -> bool {
        let Some(listed) = self.find(address) else { return false };
        let withdrawn = listed.evidence.remove(&source).is_some();
        self.addresses.retain(|listed| !listed.evidence.is_empty());
        withdrawn
    }

    /// Takes back all that one source says; `true` if there was any.
    pub(super) fn withdraw_all(&mut self, source: AddressSource) -> bool {
        let mut withdrawn = false;
        for listed in &mut self.addresses {
            withdrawn |= listed.evidence.remove(&source).is_some();
        }
        self.addresses.retain(|listed| !listed.evidence.is_empty());
        withdrawn
    }

    /// Drops every source but the operator's; `true` if anything was dropped.
    pub(super) fn disown(&mut self, address: &Multiaddr) -> bool {
        let Some(listed) = self.find(address) else { return false };
        let before = listed.evidence.len();
        listed.evidence.retain(|source, _| *source == AddressSource::Configured);
        let dropped = listed.evidence.len() < before;
        self.addresses.retain(|listed| !listed.evidence.is_empty());
        dropped
    }

    /// Drops evidence that is too old. A member keeps its best address whatever its age; `renewed`
    /// is the address of a connection that lasts.
    pub(super) fn expire(&mut self, now: Moment, pinned: bool, renewed: Option<&Multiaddr>) {
        if let Some(listed) = renewed.and_then(|address| self.find(address))
            && let Some(since) = listed.evidence.get_mut(&AddressSource::FirstHand)
        {
            *since = now;
        }
        let best = self.addresses.iter().filter_map(|listed| {
            let mut sources = listed.evidence.iter();
            let (source, since) = sources.find(|(source, _)| source.time_to_live().is_some())?;
            Some((source.rank(), core::cmp::Reverse(*since), &listed.address, *source))
        });
        let best = best.min().filter(|_| pinned);
        let keep = best.map(|(_, _, address, source)| (address.clone(), source));
        for listed in &mut self.addresses {
            let kept = keep.as_ref().filter(|(address, _)| *address == listed.address);
            let kept = kept.map(|(_, source)| *source);
            listed.evidence.retain(|source, since| {
                let alive = source.time_to_live().is_none_or(|ttl| now.since(*since) < ttl);
                alive || kept == Some(*source)
            });
        }
        self.addresses.retain(|listed| !listed.evidence.is_empty());
    }

    /// When [`Self::expire`] has something to do next.
    pub(super) fn expires(&self) -> Option<Moment> {
        self.addresses.iter().filter_map(Listed::expires).min()
    }

    /// The addresses for a dial on better evidence than hearsay, the best first. An address at
    /// which another peer answered would win the race against the right one: it is left out for a
    /// while if there are others.
    pub(super) fn firm_addresses(&self, now: Moment) -> Vec<Multiaddr> {
        let firm = self.addresses.iter().filter(|listed| !listed.source().is_hearsay());
        let mut firm: Vec<&Listed> = firm.collect();
        let mistaken = |listed: &Listed| match listed.last {
            Some((at, DialResult::Mistaken { .. })) => now.since(at) < MISTAKEN,
            _ => false,
        };
        if firm.iter().any(|listed| !mistaken(listed)) {
            firm.retain(|listed| !mistaken(listed));
        }
        firm.sort_by_key(|listed| (listed.source().rank(), core::cmp::Reverse(listed.since())));
        firm.iter().take(DIAL_ADDRESSES_MAX).map(|listed| listed.address.clone()).collect()
    }

    pub(super) fn has_firm(&self) -> bool {
        self.addresses.iter().any(|listed| !listed.source().is_hearsay())
    }

    /// The addresses that are hearsay alone and worth a dial; with `owner` only those that the
    /// peer itself names.
    pub(super) fn hearsay_addresses(&self, owner: Option<NodeId>) -> impl Iterator<Item = &Listed> {
        let named = move |listed: &&Listed| {
            owner.is_none_or(|teller| listed.has(AddressSource::Hearsay { teller }))
        };
        let hearsay = self.addresses.iter().filter(|listed| listed.source().is_hearsay());
        hearsay.filter(named)
    }

    /// Notes what came of a dial at one address.
    pub(super) fn note(&mut self, now: Moment, address: &Multiaddr, result: DialResult) {
        let Some(listed) = self.find(address) else { return };
        listed.last = Some((now, result));
        if result == DialResult::Proved {
            (listed.failures, listed.not_before) = (0, Moment::ZERO);
            return;
        }
        let pause = HEARSAY_PAUSE_FIRST.saturating_mul(1 << listed.failures.min(10));
        listed.failures = listed.failures.saturating_add(1);
        listed.not_before = now.plus(pause.min(HEARSAY_PAUSE_MAX));
    }
}

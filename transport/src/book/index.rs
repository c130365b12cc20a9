//! The indexes over the records, and what they are for: what is due, what expires, what makes room.
//!
//! Invariant: the indexes list a record exactly as [`Indexed`] says; every change of a record is
//! followed by [`Book::reindex`].

use meshraft_consensus::{Moment, NodeId};

use super::{
    AddressSource, Book, FIRST_HAND_MAX, HEARSAY_MAX, Indexed, LOCAL_MAX, Places, Target, is_given,
    proven,
    record::{self, Record},
    source::RANKS,
};

impl Book {
    /// Brings the indexes up to date with a record, and drops a record that is of no more use.
    pub(super) fn reindex(&mut self, target: &Target) {
        let Some(Indexed { record, .. }) = self.records.get(target) else { return };
        let busy = record.firm.dialling || record.hearsay.dialling;
        if record.addresses.is_empty() && !busy && record.shunned == Moment::ZERO {
            self.drop_record(target);
            return;
        }
        let places = self.places(target, record, busy);
        let Some(indexed) = self.records.get_mut(target) else { return };
        let old = std::mem::replace(&mut indexed.places, places.clone());
        self.relist(target, old, places);
    }

    /// Where the indexes are to list a record.
    fn places(&self, target: &Target, record: &Record, busy: bool) -> Places {
        let wanted = match target {
            Target::Peer(peer) => {
                self.pinned.contains_key(peer)
                    || is_given(record)
                    || self.anonymous().any(|(_, record)| record.last == Some(*peer))
            }
            Target::Address(_) => true,
        };
        let present = matches!(target, Target::Peer(peer) if self.presence.has(*peer));
        let rank = record.source().map_or(RANKS - 1, AddressSource::rank);
        let healthy = record.firm.failures == 0 && record.hearsay.failures == 0;
        let evictable = !wanted && !present && !busy;
        let shunned = Some(record.shunned).filter(|_| record.addresses.is_empty());
        Places {
            firm: self.firm_place(target, record, wanted),
            hearsay: self.hearsay_place(target, record, wanted),
            evictable: evictable.then_some((rank, healthy, record.touched)),
            expires: shunned.or_else(|| record.expires()),
            tellers: record.addresses.iter().flat_map(record::Listed::tellers).collect(),
        }
    }

    /// Changes what the indexes list of a target.
    fn relist(&mut self, target: &Target, old: Places, new: Places) {
        for (old, new) in [(old.firm, new.firm), (old.hearsay, new.hearsay)] {
            if old != new {
                old.inspect(|place| self.lanes.remove(*place, target));
                new.inspect(|place| self.lanes.insert(*place, target));
            }
        }
        if old.evictable != new.evictable {
            if let Some((rank, healthy, touched)) = old.evictable {
                self.evictable[rank].remove(&(healthy, touched, target.clone()));
            }
            if let Some((rank, healthy, touched)) = new.evictable {
                self.evictable[rank].insert((healthy, touched, target.clone()));
            }
        }
        if old.expires != new.expires {
            if let Some(at) = old.expires {
                self.expiries.remove(&(at, target.clone()));
            }
            self.expiries.extend(new.expires.map(|at| (at, target.clone())));
        }
        let Target::Peer(peer) = target else { return };
        for teller in old.tellers.difference(&new.tellers) {
            if let Some(named) = self.told.get_mut(teller) {
                named.remove(peer);
                if named.is_empty() {
                    self.told.remove(teller);
                }
            }
        }
        for teller in new.tellers.difference(&old.tellers) {
            self.told.entry(*teller).or_default().insert(*peer);
        }
    }

    fn drop_record(&mut self, target: &Target) -> Option<Record> {
        let Indexed { record, places } = self.records.remove(target)?;
        self.relist(target, places, Places::default());
        Some(record)
    }

    /// Keeps the budgets after `newest` was taken in.
    pub(super) fn trim(&mut self, newest: &Target) {
        for (rank, most) in
            [(1, FIRST_HAND_MAX), (2, LOCAL_MAX), (3, LOCAL_MAX), (RANKS - 1, HEARSAY_MAX)]
        {
            while self.evictable[rank].len() > most {
                let victim = match rank {
                    1 => self.oldest(rank),
                    2 | 3 => self.spare(rank, newest),
                    _ => self.least_credible(),
                };
                let Some(victim) = victim else { break };
                self.forget(&victim);
            }
        }
    }

    /// Announcements cost nothing: one more never pushes out another that may be true, only one
    /// that failed.
    fn spare(&self, rank: usize, newest: &Target) -> Option<Target> {
        let listed = &self.evictable[rank];
        let failed = listed.first().filter(|(healthy, ..)| !healthy);
        let place = self.records.get(newest).and_then(|indexed| indexed.places.evictable);
        let newest = place.filter(|(of, ..)| *of == rank).map(|_| newest.clone());
        failed
            .map(|(_, _, target)| target.clone())
            .or(newest)
            .or_else(|| listed.last().map(|(_, _, target)| target.clone()))
    }

    fn oldest(&self, rank: usize) -> Option<Target> {
        let of = |healthy| {
            let from = (healthy, Moment::ZERO, Target::Peer(NodeId::new([0; 32])));
            self.evictable[rank].range(from..).next()
        };
        let ends = [of(false), of(true)].into_iter().flatten();
        ends.min_by_key(|(_, touched, _)| *touched).map(|(_, _, target)| target.clone())
    }

    /// A peer that only the teller with the most such peers names: whoever tells most gives way.
    fn least_credible(&self) -> Option<Target> {
        let listed = &self.evictable[RANKS - 1];
        let mut tellers: Vec<_> = self.told.values().collect();
        tellers.sort_by_key(|named| std::cmp::Reverse(named.len()));
        let hearsay_alone = |peer: &NodeId| {
            let target = Target::Peer(*peer);
            let place = self.records.get(&target)?.places.evictable?;
            let (rank, healthy, touched) = place;
            (rank == RANKS - 1).then_some((healthy, touched, target))
        };
        let victims = tellers.into_iter().find_map(|named| {
            let candidates = named.iter().filter_map(hearsay_alone);
            candidates.min_by_key(|(healthy, touched, _)| (*healthy, *touched))
        });
        victims.or_else(|| listed.first().cloned()).map(|(_, _, target)| target)
    }

    fn forget(&mut self, target: &Target) {
        let Some(record) = self.drop_record(target) else { return };
        if let Target::Peer(peer) = target
            && record.source() == Some(AddressSource::FirstHand)
        {
            self.changed.insert(*peer);
        }
    }

    /// Drops evidence that is too old.
    pub(super) fn expire(&mut self, now: Moment) {
        while let Some((at, target)) = self.expiries.first().cloned()
            && at <= now
        {
            self.expiries.remove(&(at, target.clone()));
            let Some(indexed) = self.records.get_mut(&target) else { continue };
            indexed.places.expires = None;
            let (pinned, renewed) = match &target {
                Target::Peer(peer) => (
                    self.pinned.contains_key(peer),
                    self.presence.get(*peer).and_then(|present| present.dialled.as_ref()),
                ),
                Target::Address(_) => (false, None),
            };
            let before = proven(&indexed.record).count();
            indexed.record.expire(now, pinned, renewed);
            if indexed.record.shunned <= now {
                indexed.record.shunned = Moment::ZERO;
            }
            if let Target::Peer(peer) = target
                && proven(&indexed.record).count() < before
            {
                self.changed.insert(peer);
            }
            self.reindex(&target);
            // What a member keeps beyond its time is looked at again once it is no member.
            let kept = self.records.get_mut(&target);
            if let Some(kept) = kept.filter(|kept| kept.places.expires.is_some_and(|at| at <= now))
            {
                self.expiries.remove(&(kept.places.expires.take().unwrap_or(at), target.clone()));
            }
        }
    }
}

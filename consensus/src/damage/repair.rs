//! What a damaged member does to be whole again: it asks, checks what it is told, and has it
//! written.

use alloc::{collections::BTreeSet, vec::Vec};

use super::Pending;
use crate::{
    core::Core,
    entry::{Entry, EntryKind, SnapshotMeta},
    event::{DropReason, Event},
    identity::Member,
    membership::Configuration,
    message::{Message, RepairRequest, RepairResponse, RepairResult},
    output::Lane,
    snapshot::check_meta,
    types::{Index, IndexRange, Position, Term},
};

impl Core {
    /// It may be time to ask somebody, or somebody else.
    pub(crate) fn repair_due(&mut self) {
        let due = self.damage.as_ref().and_then(|damage| damage.ask_due);
        if due.is_none_or(|due| due > self.now) {
            return;
        }
        let (leader, me, busy) = (self.leader(), self.me, self.is_fetching());
        let mut others: BTreeSet<Member> = self.membership.current().members();
        others.extend(self.reachable_members());
        others.remove(&me);
        let (knobs, now) = (self.config.knobs(), self.now);
        let Some(damage) = &mut self.damage else { return };
        // After some rounds in vain there is no hurry.
        let patience = match damage.turns > 4 * others.len() {
            true => knobs.election,
            false => knobs.heartbeat,
        };
        let turn = damage.turns;
        (damage.turns, damage.ask_due) = (turn.saturating_add(1), Some(now.plus(patience)));
        if busy {
            return;
        }
        if !damage.lost {
            // A read that failed, perhaps.
            self.reread();
        }
        // The leader surely has what is committed, but may not be there.
        let nth = match leader {
            Some(leader) if turn.is_multiple_of(2) => return self.ask_for_repair(leader),
            Some(_) => turn / 2,
            None => turn,
        };
        let asked = nth.checked_rem(others.len()).and_then(|nth| others.iter().nth(nth));
        if let Some(member) = asked {
            self.ask_for_repair(*member);
        }
    }

    pub(super) fn ask_for_repair(&mut self, member: Member) {
        let Some(anchor) = self.anchor() else { return };
        let Some(damage) = &self.damage else { return };
        if damage.pending.is_none() {
            let IndexRange { first, last } = damage.range;
            let (term, commit) = (self.hard.term, self.commit);
            let request = RepairRequest { term, first, last, anchor, commit };
            self.send(member, Lane::Control, Message::RepairRequest(request));
        }
    }

    pub(crate) fn repair_response(&mut self, from: Member, response: RepairResponse) {
        let anchor = self.anchor();
        let Some(damage) = &mut self.damage else { return };
        if anchor != Some(response.anchor) || damage.pending.is_some() {
            // Of something else that was asked for before.
            return;
        }
        let proven = response.commit.min(response.anchor.index);
        match response.result {
            RepairResult::Entries(entries) => {
                // An answer that comes twice.
                if entries.first().is_none_or(|first| first.position.index != damage.range.first) {
                    return;
                }
                if !self.fits(&entries, response.anchor) {
                    return self.drop_message(from, DropReason::Impossible);
                }
                self.take_repair(from, entries);
                self.note_proven(proven);
            }
            RepairResult::Compacted(meta) => {
                self.note_proven(proven);
                self.fetch_for_repair(from, response.term, *meta);
            }
            RepairResult::Passed(meta) => self.fetch_for_repair(from, response.term, *meta),
            RepairResult::Elsewhere => {
                if response.term == self.hard.term && self.leader() == Some(from) {
                    self.retire(self.log.last().index);
                }
            }
        }
    }

    /// Has another member's snapshot fetched, if it helps and none is on its way.
    fn fetch_for_repair(&mut self, from: Member, term: Term, meta: SnapshotMeta) {
        if check_meta(&meta, term).is_err() {
            return self.drop_message(from, DropReason::Malformed);
        }
        let busy = self.is_fetching() || self.snapshots.is_installing();
        if !busy && self.takes_for_repair(meta.position) {
            self.fetch(from, meta);
        }
    }

    fn note_proven(&mut self, proven: Index) {
        if let Some(damage) = &mut self.damage {
            damage.proven = damage.proven.max(proven);
        }
    }

    /// Whether these entries can stand between what is known of the log: without a gap, in terms
    /// that never decrease, all of it readable.
    fn fits(&self, entries: &[Entry], anchor: Position) -> bool {
        let Some(damage) = &self.damage else { return false };
        let before = damage.range.first.previous();
        let Some(term) = self.log.term_at(before) else { return false };
        let mut previous = Position::new(term, before);
        for entry in entries {
            let Position { term, index } = entry.position;
            let follows = index == previous.index.next() && index <= damage.range.last;
            let ordered = previous.term <= term && term <= anchor.term && term.get() > 0;
            let same = index < anchor.index || entry.position == anchor;
            let readable = match entry.kind {
                EntryKind::Configuration => Configuration::decode(&entry.bytes)
                    .is_ok_and(|configuration| !configuration.voters.is_empty()),
                EntryKind::Abandon => index.get() == 1,
                EntryKind::Noop | EntryKind::Command => true,
            };
            if !(follows && ordered && same && readable) {
                return false;
            }
            previous = entry.position;
        }
        true
    }

    /// Has the entries written in place of those that can't be read.
    fn take_repair(&mut self, from: Member, entries: Vec<Entry>) {
        let Some(upto) = entries.last().map(|entry| entry.position.index) else { return };
        self.log.repair(&entries);
        let before = self.membership.index();
        for entry in entries.iter().filter(|entry| entry.kind == EntryKind::Configuration) {
            if let Ok(configuration) = Configuration::decode(&entry.bytes) {
                self.membership.insert(entry.position.index, configuration);
            }
        }
        let write = self.durability.next();
        self.durability.repair(entries);
        if let Some(damage) = &mut self.damage {
            (damage.pending, damage.helper) = (Some(Pending { write, upto }), Some(from));
        }
        let index = self.membership.index();
        if index != before {
            let joint = self.membership.current().is_joint();
            self.observe(Event::ConfigurationChanged { index, joint });
        }
        self.commit_configurations();
        self.check_departed();
    }

    /// A write is durable: perhaps the one that repairs something.
    pub(crate) fn repair_recorded(&mut self) {
        let durability = &self.durability;
        let Some(damage) = &mut self.damage else { return };
        let recorded = |pending: &mut Pending| durability.is_durable(pending.write);
        let Some(Pending { upto, .. }) = damage.pending.take_if(recorded) else { return };
        damage.turns = 0;
        self.narrow(upto);
        self.settle_founding();
    }

    /// Whether a snapshot replaces some of what can't be read: it must be known to be of this log,
    /// and must not take back what the driver is about to apply.
    pub(crate) fn takes_for_repair(&self, position: Position) -> bool {
        let Some(damage) = self.damage.as_ref().filter(|damage| !damage.forgotten) else {
            return false;
        };
        let covered = position.index;
        let known = covered <= self.commit.max(damage.proven) || covered > damage.range.last;
        let idle = covered <= self.apply.applied() || covered > self.apply.handed();
        known && idle && damage.pending.is_none() && covered >= damage.range.first
    }

    /// Puts a fetched snapshot in place of what it covers; and of the state, if that is behind.
    pub(crate) fn repair_by_snapshot(&mut self, from: Member, meta: SnapshotMeta) {
        let (write, upto) = (self.durability.next(), meta.position.index);
        if upto <= self.apply.applied() {
            self.log.compact_to(meta.position);
            self.observe(Event::Compacted { base: upto, covered: upto });
            self.snapshots.adopt(meta.clone());
            self.membership.insert(meta.configuration_index, meta.configuration.clone());
            self.commit_configurations();
            self.durability.record_snapshot(meta);
        } else {
            self.install(meta);
        }
        let last = self.log.last().index;
        if let Some(damage) = &mut self.damage {
            // Up to there nothing is damaged that is left in the log; behind it perhaps nothing.
            damage.lost = false;
            damage.range.first = damage.range.first.max(upto.next());
            damage.range.last = damage.range.last.min(last);
            (damage.pending, damage.helper) = (Some(Pending { write, upto }), Some(from));
        }
    }
}

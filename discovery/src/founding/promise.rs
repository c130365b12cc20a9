//! Proposing a founder set, promising one, refusing one.
//!
//! Invariants:
//! 1. A coordinator writes its own promise before anybody hears of the ballot.
//! 2. A promise is made only while free, above every ballot seen, for at least as many founders as
//!    expected, and without knowledge of a living cluster.
//! 3. A refusal leaves after `seen` covers its ballot durably: it is final.

use core::num::NonZeroU16;
use std::collections::BTreeSet;

use meshraft_consensus::{ClusterId, Member, Moment};

use super::{
    Bound, Doubt, DropReason, Event, Founding, Free, Output, Proof, Stage,
    backoff::retry_at,
    ledger::Groups,
    roster::{Candidate, Choice, choose, choose_late},
};
use crate::{
    ballot::{Ballot, FounderSet},
    record::Record,
    wire::{Message, Refusal},
};

/// How many proposed sets are remembered that have a founder whom this node did not meet.
const UNMET_MAX: usize = 16;

impl Founding {
    /// Proposes a founder set if this node is free, it is its turn and enough candidates answered.
    pub(super) fn try_to_coordinate(&mut self, now: Moment) {
        let Stage::Free(free) = &self.stage else { return };
        let mut free = free.clone();
        if free.not_before.is_some_and(|moment| moment > now) {
            return;
        }
        free.not_before = None;
        let members = match self.config.expect {
            Some(_) => self.founders(now, &mut free),
            None => self.observed_founders(now, &mut free),
        };
        self.stage = Stage::Free(free);
        if let Some(members) = members {
            self.coordinate(now, members);
        }
    }

    /// The founders to propose now, if any; notes in `free` when to look again.
    pub(super) fn founders(&self, now: Moment, free: &mut Free) -> Option<BTreeSet<Member>> {
        let deferred = free.deferred.take();
        if !self.may_found() || self.knows_living() {
            return None;
        }
        let turns = match self.choice(free) {
            Choice::Propose(members) => return Some(members),
            Choice::Wait { .. } => return None,
            Choice::Defer { turns, .. } => turns,
        };
        // The others may be unable to reach enough candidates, or expect more than there will ever
        // be. After a time this node goes ahead; whoever is left out joins.
        let wait = self.config.turn().saturating_mul(turns);
        let turn = match deferred {
            Some((same, turn)) if same == turns => turn,
            _ => now.plus(wait),
        };
        let its_turn = turn <= now;
        free.deferred = Some((turns, if its_turn { now.plus(wait) } else { turn }));
        let me = Candidate::new(self.config.me, self.config.expect);
        match self.config.expect {
            _ if !its_turn => None,
            Some(_) => choose_late(me, self.roster.candidates()),
            None => self.choose_observed_late(me, free),
        }
    }

    /// What this free node should do about founding, its window apart.
    pub(super) fn choice(&self, free: &Free) -> Choice {
        let me = Candidate::new(self.config.me, self.config.expect);
        match self.config.expect {
            Some(_) => choose(me, self.roster.candidates()),
            None => self.choose_observed(me, free),
        }
    }

    pub(super) fn coordinate(&mut self, now: Moment, members: BTreeSet<Member>) {
        let seen = self.record().seen;
        let told = self.roster.counter_max(&seen);
        let Some(counter) = seen.counter.max(told).checked_add(1) else { return };
        let ballot = Ballot { counter, coordinator: self.config.me.node };
        let Ok(founders) = FounderSet::new(ballot, members) else { return };
        let cluster = founders.id(&self.config.namespace);
        let count = founders.members.len();
        self.bind(now, founders);
        self.observe(Event::Coordinating { cluster, founders: count });
    }

    /// Writes the promise; the group starts, and peers hear of it, once that is durable.
    fn bind(&mut self, now: Moment, founders: FounderSet) {
        assert!(self.record().promise.is_none(), "a second promise");
        assert!(self.record().cluster.is_none(), "a promise by a member");
        assert!(self.record().seen < founders.ballot, "a promise below a ballot seen");
        assert!(founders.members.contains(&self.config.me), "a promise for others");
        let record = Record {
            seen: founders.ballot,
            promise: Some(founders.clone()),
            forced: self.config.force,
            ..self.record().clone()
        };
        let groups = Groups { start: Some(founders.clone()), ..Groups::default() };
        let write = self.ledger.write(record, groups);
        self.ledger.emit_durable(Output::StartGroup(founders.clone()));
        let coordinator = founders.ballot.coordinator == self.config.me.node;
        for member in &founders.members {
            if let Some(peer) = self.roster.up.get_mut(&member.node) {
                peer.attempt = 0;
                peer.ask_at = if coordinator { now } else { retry_at(now, self.config.seed, 2, 0) };
            }
        }
        self.stage = Stage::Bound(Bound::new(&self.config, founders, write, now));
    }

    pub(super) fn on_propose(&mut self, now: Moment, from: Member, founders: FounderSet) {
        let cluster = founders.id(&self.config.namespace);
        let members = &founders.members;
        if !members.contains(&from) || !members.contains(&self.config.me) {
            // The author may have met an earlier incarnation of this node: it learns of this one,
            // which proves nothing about the other.
            self.drop_message(from, DropReason::NotAFounder);
            let answer = Message::CanvassAnswer(self.standing());
            return self.ledger.send(from.node, answer);
        }
        let held = self.record().promise.as_ref() == Some(&founders);
        if self.record().cluster == Some(cluster) || held {
            // A member of a cluster never speaks for a promise that it kept: only for its cluster.
            let answer = match &self.stage {
                Stage::Member(_) => Message::CanvassAnswer(self.standing()),
                Stage::Free(_) | Stage::Bound(_) => Message::Promised { cluster },
            };
            self.on_heard(now, cluster, from);
            return self.ledger.send(from.node, answer);
        }
        let ballot = founders.ballot;
        if !ballot.is_within_reach_of(&self.record().seen) {
            return self.drop_message(from, DropReason::BallotOutOfReach { ballot });
        }
        if self.ledger.is_behind() {
            return self.drop_message(from, DropReason::DiskBehind);
        }
        match self.objection(&founders) {
            // Where nobody proves a key a founder may be invented. At first no answer costs a
            // repetition only; then it is said, so that those who hold the set come free of it.
            None if !self.config.keyed && !self.has_met(&founders) => {
                match self.stays_unmet(now, cluster) {
                    true => self.refuse(from, &founders, Refusal::UnknownFounder),
                    false => self.drop_message(from, DropReason::UnknownFounder),
                }
            }
            Some(why) => self.refuse(from, &founders, why),
            None => {
                self.promise(now, founders);
                // Only holders propose a set: this message proves its author's promise, too.
                self.on_heard(now, cluster, from);
            }
        }
    }

    /// Whether every other founder is up and answered in exactly the incarnation that is named.
    fn has_met(&self, founders: &FounderSet) -> bool {
        let mut others = founders.members.iter().filter(|member| **member != self.config.me);
        others.all(|member| {
            let peer = self.roster.up.get(&member.node);
            peer.and_then(|peer| peer.view).is_some_and(|view| view.member == *member)
        })
    }

    /// Whether a founder of this set was not met for a founding time-out, or so many sets have such
    /// a founder that no more of them are remembered.
    fn stays_unmet(&mut self, now: Moment, cluster: ClusterId) -> bool {
        let timeout = self.config.founding_timeout();
        let memory = timeout.saturating_mul(2);
        self.unmet.retain(|_, since| since.plus(memory) > now);
        if self.unmet.len() >= UNMET_MAX && !self.unmet.contains_key(&cluster) {
            return true;
        }
        self.unmet.entry(cluster).or_insert(now).plus(timeout) <= now
    }

    /// Why this node cannot promise a set that it does not hold.
    fn objection(&self, founders: &FounderSet) -> Option<Refusal> {
        match &self.stage {
            Stage::Member(mine) => return Some(Refusal::Member { of: mine.cluster }),
            Stage::Bound(bound) => return Some(Refusal::Bound { to: bound.cluster }),
            Stage::Free(_) => {}
        }
        if founders.ballot <= self.record().seen {
            return Some(Refusal::Stale);
        }
        if !self.may_found() {
            return Some(Refusal::OnlyJoins);
        }
        let too_few = |expect: &NonZeroU16| founders.members.len() < usize::from(expect.get());
        if let Some(expect) = self.config.expect.filter(too_few) {
            return Some(Refusal::TooFew { expect });
        }
        self.knows_living().then_some(Refusal::LivingKnown)
    }

    fn promise(&mut self, now: Moment, founders: FounderSet) {
        let cluster = founders.id(&self.config.namespace);
        let ballot = founders.ballot;
        let others: Vec<_> =
            founders.members.iter().copied().filter(|member| *member != self.config.me).collect();
        self.bind(now, founders);
        self.observe(Event::Promised { cluster, ballot });
        // Everyone who may come to lead the group needs to hear everyone.
        for member in others {
            self.ledger.send(member.node, Message::Promised { cluster });
        }
    }

    fn refuse(&mut self, from: Member, founders: &FounderSet, why: Refusal) {
        let cluster = founders.id(&self.config.namespace);
        let ballot = founders.ballot;
        if self.record().seen < ballot {
            let record = Record { seen: ballot, ..self.record().clone() };
            self.ledger.write(record, Groups::default());
        }
        self.observe(Event::Refused { cluster, ballot, why });
        let standing = self.standing();
        self.ledger.send(from.node, Message::Refused { cluster, why, standing });
    }

    pub(super) fn on_refused(
        &mut self,
        now: Moment,
        from: Member,
        cluster: ClusterId,
        why: Refusal,
    ) {
        let Stage::Bound(bound) = &self.stage else { return };
        // Only a founder's own word counts, of exactly the incarnation that was to promise.
        if bound.cluster != cluster || !bound.founders.members.contains(&from) {
            return;
        }
        self.leave(now, Proof::Refused { by: from, why });
    }

    /// Ends the promise: its founder set is dead. One write clears it and drops its group.
    pub(super) fn leave(&mut self, now: Moment, proof: Proof) {
        let Stage::Bound(bound) = &self.stage else { return };
        let cluster = bound.cluster;
        let others = bound.founders.members.clone();
        // After a shorter time a founder may just not have come to its turn.
        let had_time = bound.since.plus(self.config.founding_timeout()) <= now;
        let silent = others.difference(&bound.heard).copied();
        let silent: Vec<_> = silent.filter(|_| had_time).collect();
        self.stop_group();
        let record = Record { promise: None, forced: false, ..self.record().clone() };
        self.ledger.write(record, Groups { drop: Some(cluster), ..Groups::default() });
        let retry = retry_at(now, self.config.seed, 3, self.failures);
        self.failures = self.failures.saturating_add(1);
        self.stage = Stage::Free(Free::new(now, Some(retry)));
        self.observe(Event::Left { cluster, proof });
        self.blame(now, proof, silent);
        // What the founders said before they promised is out of date, and so is what they think of
        // this node. Whoever has missed the fate learns it from this refusal.
        self.roster.forget_views(&others);
        let standing = self.standing();
        self.roster.ask_all(now);
        for member in others.iter().filter(|member| **member != self.config.me) {
            let refused = Message::Refused { cluster, why: Refusal::Dead, standing };
            self.ledger.send(member.node, refused);
            if let Some(peer) = self.roster.up.get_mut(&member.node) {
                peer.ask_at = retry_at(now, self.config.seed, 4, 0);
            }
        }
    }

    /// Passes over the founders that kept the set from living: for want of their promise, or as
    /// they turned it down once too often. One that is gone, or lost its disk, could not promise.
    fn blame(&mut self, now: Moment, proof: Proof, silent: Vec<Member>) {
        let blamed = match proof {
            Proof::Refused { by, .. } => vec![by],
            Proof::Abandoned | Proof::Unseconded => silent,
        };
        let unit = self.config.founding_timeout();
        for founder in blamed {
            let node = founder.node;
            let view = self.roster.up.get(&node).and_then(|peer| peer.view);
            let gone = view.is_none_or(|view| view.member != founder);
            let turned_down = gone || matches!(proof, Proof::Refused { .. });
            if !turned_down || self.roster.doubts.turned_down(now, node, unit) {
                self.pass_over(now, node, Doubt::NoPromise);
            }
        }
    }

    /// Stops the core of the held founder set, or keeps it from starting.
    pub(super) fn stop_group(&mut self) {
        let Stage::Bound(bound) = &self.stage else { return };
        if self.ledger.is_durable(bound.write) {
            self.ledger.emit(Output::StopGroup(bound.cluster));
        } else {
            self.ledger.retract_promise();
        }
    }
}

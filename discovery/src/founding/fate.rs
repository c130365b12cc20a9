//! The fate of a promised founder set, decided by entry 1 of its own Raft group.
//!
//! A leader with an empty log says `Found` once it has heard every founder, else `Abandon` when the
//! founding time-out has passed, or at once if it has learned of a living cluster meanwhile. Raft
//! makes it one or the other, whoever dies.

use std::collections::BTreeSet;

use meshraft_consensus::{ClusterId, Fate, Member, Moment, Term};

use super::{
    Bound, Event, Founding, FoundingConfig, Led, Membership, Output, Presence, Proof, RecordId,
    Stage,
    backoff::{SLOWEST, retry_at},
    ledger::Groups,
};
use crate::{ballot::FounderSet, record::Record};

impl Bound {
    pub(super) fn new(
        config: &FoundingConfig,
        founders: FounderSet,
        write: RecordId,
        now: Moment,
    ) -> Self {
        Self {
            cluster: founders.id(&config.namespace),
            founders,
            write,
            since: now,
            heard: BTreeSet::from([config.me]),
            campaigned: false,
            led: None,
            leave_at: now.plus(config.founding_timeout()),
            leaving: false,
        }
    }

    fn is_complete(&self) -> bool {
        self.heard.len() == self.founders.members.len()
    }

    fn is_pair(&self) -> bool {
        self.founders.members.len() == 2
    }
}

impl Founding {
    pub(super) fn on_heard(&mut self, now: Moment, cluster: ClusterId, member: Member) {
        let timeout = self.config.founding_timeout();
        let Some(bound) = self.bound_to(cluster) else { return };
        if !bound.founders.members.contains(&member) {
            return;
        }
        (bound.leave_at, bound.leaving) = (now.plus(timeout), false);
        if bound.heard.insert(member)
            && let Some(peer) = self.roster.up.get_mut(&member.node)
        {
            (peer.attempt, peer.ask_at) = (SLOWEST, retry_at(now, self.config.seed, 5, SLOWEST));
        }
    }

    pub(super) fn on_led(&mut self, now: Moment, cluster: ClusterId, term: Term) {
        let abandon_at = now.plus(self.config.founding_timeout());
        let Some(bound) = self.bound_to(cluster) else { return };
        if bound.led.as_ref().is_none_or(|led| led.term < term) {
            bound.leaving = false;
            bound.led = Some(Led { term, abandon_at, answered: false });
        }
    }

    pub(super) fn on_deposed(&mut self, cluster: ClusterId) {
        if let Some(bound) = self.bound_to(cluster) {
            bound.led = None;
        }
    }

    pub(super) fn on_decided(&mut self, now: Moment, cluster: ClusterId, fate: Fate) {
        if self.bound_to(cluster).is_none() {
            return;
        }
        match fate {
            Fate::Abandon => self.leave(now, Proof::Abandoned),
            Fate::Found => {
                let record = Record { cluster: Some(cluster), ..self.record().clone() };
                self.ledger.write(record, Groups::default());
                self.observe(Event::Founded { cluster });
                self.become_member(cluster, Output::Lives { cluster });
            }
        }
    }

    /// The core confirms that it appended nothing and has nothing under way: a pair cannot commit
    /// without this member, so it may leave alone.
    pub(super) fn on_empty(&mut self, now: Moment, cluster: ClusterId) {
        if self.bound_to(cluster).is_some_and(|bound| bound.leaving) {
            self.leave(now, Proof::Unseconded);
        }
    }

    /// Enters a cluster: `arrival` and the announcement leave once the record is durable.
    pub(super) fn become_member(&mut self, cluster: ClusterId, arrival: Output) {
        self.ledger.emit_durable(arrival);
        self.stage = Stage::Member(Membership::of(cluster, Presence::Present));
        self.join = None;
        self.turned_down = None;
        self.living_until = None;
        self.roster.doubts.clear();
        self.announce();
    }

    /// Gives the group what it is waiting for, if it can be given now.
    pub(super) fn settle(&mut self, now: Moment) {
        let timeout = self.config.founding_timeout();
        let living_known = self.knows_living() && !self.is_forced();
        let settled = self.ledger.is_settled();
        let Stage::Bound(bound) = &mut self.stage else { return };
        // On trial the group does not run.
        if !self.ledger.is_durable(bound.write) || self.trial.is_some() {
            return;
        }
        let (cluster, complete) = (bound.cluster, bound.is_complete());
        let coordinator = bound.founders.ballot.coordinator == self.config.me.node;
        if coordinator && complete && bound.led.is_none() && !bound.campaigned {
            bound.campaigned = true;
            self.ledger.emit(Output::Campaign { cluster });
        }
        if let Some(led) = bound.led.as_mut().filter(|led| !led.answered) {
            let fate = match (complete, living_known || led.abandon_at <= now) {
                (true, _) if !living_known => Fate::Found,
                (_, true) => Fate::Abandon,
                (_, false) => return,
            };
            led.answered = true;
            self.ledger.emit(Output::FirstEntry { cluster, fate });
            self.observe(Event::FateProposed { cluster, fate });
        } else if bound.is_pair() && bound.led.is_none() && bound.leave_at <= now && settled {
            // The answer, if any, comes before the core is moved again; the next try is later.
            self.ledger.emit(Output::AskEmpty { cluster });
            (bound.leave_at, bound.leaving) = (now.plus(timeout), true);
        }
    }

    pub(super) fn fate_deadline(&self, bound: &Bound) -> Option<Moment> {
        if !self.ledger.is_durable(bound.write) {
            return None;
        }
        match &bound.led {
            Some(led) => (!led.answered).then_some(led.abandon_at),
            None => (bound.is_pair() && self.ledger.is_settled()).then_some(bound.leave_at),
        }
    }

    fn bound_to(&mut self, cluster: ClusterId) -> Option<&mut Bound> {
        match &mut self.stage {
            Stage::Bound(bound) if bound.cluster == cluster => Some(bound),
            _ => None,
        }
    }
}

//! What a follower does with a snapshot that it is offered: has it fetched, and puts it in place of
//! its log and its state (thesis 5.1).
//!
//! Invariants:
//! 1. A snapshot holds committed entries only, so that it is valid whatever leader there is when it
//!    has arrived; and it is installed only if it is ahead of what is known to be committed here.
//! 2. If the log holds the snapshot's last entry, what follows on it stays; else all of it goes.
//! 3. The answer to the leader, and the order to the driver to replace the state, leave only when
//!    the write that records the snapshot is durable.

use alloc::boxed::Box;

use super::{Fetch, Install};
use crate::{
    core::Core,
    entry::SnapshotMeta,
    error::InstallError,
    event::{DropReason, Event},
    founding::Founding,
    identity::Member,
    membership::Configuration,
    message::{Message, SnapshotOffer, SnapshotResponse},
    output::{Lane, Output},
    role::RoleState,
    types::{Index, Position, Term, WriteId},
};

/// The last slot that a snapshot may cover: a peer that counts wrongly can't use the slots up.
const INDEX_MAX: Index = Index::new(1 << 62);

impl Core {
    pub(crate) fn snapshot_offer(&mut self, from: Member, offer: SnapshotOffer) {
        let position = offer.meta.position;
        if offer.term < self.hard.term {
            return self.answer_stale(from);
        }
        if let Err(reason) = check_meta(&offer.meta, offer.term) {
            return self.drop_message(from, reason);
        }
        if self.founding == Founding::Abandoned {
            return self.drop_message(from, DropReason::Impossible);
        }
        if !self.follow(from, offer.term) {
            return;
        }
        if self.damage.is_some() {
            if self.takes_for_repair(position) && !self.snapshots.is_installing() {
                self.fetch(from, *offer.meta);
            }
            return;
        }
        if position.index <= self.commit {
            return self.answer_covered(from, position);
        }
        // While one is being installed the leader repeats its offer until it is heard.
        if !self.snapshots.is_installing() {
            self.fetch(from, *offer.meta);
        }
    }

    /// Has an offered snapshot fetched, unless it is being fetched already and that goes on.
    pub(crate) fn fetch(&mut self, from: Member, meta: SnapshotMeta) {
        let (now, patience) = (self.now, self.config.knobs().election * 2);
        let goes_on = |fetch: &Fetch| {
            fetch.from == from && fetch.meta == meta && now < fetch.moved.plus(patience)
        };
        if self.snapshots.fetching.as_ref().is_some_and(goes_on) {
            return;
        }
        self.outputs.push_back(Output::FetchSnapshot { from, meta: Box::new(meta.clone()) });
        self.snapshots.fetching = Some(Fetch { from, meta, offset: 0, moved: now });
    }

    /// Whether a snapshot is on its way, and moves.
    pub(crate) fn is_fetching(&self) -> bool {
        let patience = self.config.knobs().election * 2;
        let fetch = self.snapshots.fetching.as_ref();
        fetch.is_some_and(|fetch| self.now < fetch.moved.plus(patience))
    }

    /// Chunks arrived. They are a sign of life of the leader that this member follows, if they left
    /// it as such.
    pub(crate) fn fetch_progress(&mut self, from: Member, current: bool, offset: u64) {
        let now = self.now;
        if let Some(fetch) = &mut self.snapshots.fetching
            && fetch.from == from
            && fetch.offset != offset
        {
            (fetch.offset, fetch.moved) = (offset, now);
        }
        if current && self.leader() == Some(from) {
            self.heard_leader();
        }
    }

    /// The driver has fetched what it was asked for, or could not.
    pub(crate) fn snapshot_fetched(
        &mut self,
        position: Position,
        result: &Result<(), InstallError>,
    ) {
        let asked = |fetch: &mut Fetch| fetch.meta.position == position;
        let Some(fetch) = self.snapshots.fetching.take_if(asked) else { return };
        // A leader's log has everything that is committed, and this is.
        if matches!(self.role, RoleState::Leader(_)) {
            return;
        }
        let (from, meta) = (fetch.from, fetch.meta);
        if result.is_ok() && self.damage.is_some() {
            if self.takes_for_repair(position) {
                self.repair_by_snapshot(from, meta);
            }
        } else if result.is_err() || position.index <= self.commit {
            if self.leader() == Some(from) {
                match result {
                    Ok(()) => self.answer_covered(from, position),
                    Err(_) => self.answer_offer(WriteId::ZERO, from, position, false),
                }
            }
        } else {
            // Also in place of entries of later terms: they were never committed, as whoever
            // committed one would have this one (thesis 3.6.3).
            if !matches!(self.role, RoleState::Follower(_)) {
                self.become_follower(self.hard.term, None);
            }
            self.install(meta);
        }
    }

    /// Puts a fetched snapshot in place of the log that it covers, or of all of it.
    pub(crate) fn install(&mut self, meta: SnapshotMeta) {
        let (covered, committed) = (meta.position.index, self.commit);
        assert!(covered > self.apply.handed(), "only a snapshot that is ahead is installed");
        // What is committed is the same in every log, also where this one can't be read.
        let same = covered <= committed.max(self.proven()) || self.log.holds(meta.position);
        let before = self.membership.index();
        if same {
            self.log.compact_to(meta.position);
            if self.damage.is_some() {
                // It may be among what could not be read.
                self.membership.insert(meta.configuration_index, meta.configuration.clone());
            }
            self.durability.install_within(meta.clone());
            let unwritten = self.unwritten_bytes();
            self.durability.set_unwritten(unwritten);
        } else {
            self.log.replace(meta.position);
            self.durability.install_instead(meta.clone(), committed);
            self.membership.replace((meta.configuration_index, meta.configuration.clone()));
        }
        self.commit = covered.max(committed);
        self.commit_configurations();
        self.founding = Founding::Lives;
        self.apply.interrupt();
        let write = self.durability.next();
        self.snapshots.newest = Some(meta.clone());
        self.snapshots.installing = Some(Install { meta, write, asked: false });
        let index = self.membership.index();
        if index != before {
            let joint = self.membership.current().is_joint();
            self.observe(Event::ConfigurationChanged { index, joint });
        }
        self.check_departed();
    }

    /// A write is durable: if it records a snapshot, the driver may replace its state.
    pub(crate) fn snapshot_recorded(&mut self) {
        let durability = &self.durability;
        let recorded = |install: &&mut Install| durability.is_durable(install.write);
        let Some(install) = self.snapshots.installing.as_mut().filter(recorded) else { return };
        if core::mem::replace(&mut install.asked, true) {
            return;
        }
        let meta = install.meta.clone();
        let position = meta.position;
        self.outputs.push_back(Output::InstallSnapshot(Box::new(meta)));
        if let RoleState::Follower(follower) = &self.role
            && let Some(leader) = follower.leader
        {
            self.answer_offer(WriteId::ZERO, leader, position, true);
        }
    }

    /// The driver has replaced its state. If it could not, it halts: only a restart helps.
    pub(crate) fn snapshot_installed(&mut self, result: Result<SnapshotMeta, InstallError>) {
        let Ok(meta) = result else { return };
        let position = meta.position;
        let asked = |install: &mut Install| install.asked && install.meta.position == position;
        if self.snapshots.installing.take_if(asked).is_some() {
            self.apply.restart(position.index);
            self.observe(Event::SnapshotInstalled { position });
        }
    }

    /// Everything that the snapshot covers is committed here.
    fn answer_covered(&mut self, to: Member, position: Position) {
        if position.index >= self.log.base().index && !self.log.holds(position) {
            return self.drop_message(to, DropReason::CommittedConflict);
        }
        let write = self.durability.write_of(position.index);
        self.answer_offer(write, to, position, true);
    }

    fn answer_offer(&mut self, write: WriteId, to: Member, position: Position, installed: bool) {
        let response = SnapshotResponse { term: self.hard.term, position, installed };
        self.send_after(write, to, Lane::Control, Message::SnapshotResponse(response));
    }
}

/// Checks what every correct member keeps that offers this snapshot in `term`.
pub(crate) fn check_meta(meta: &SnapshotMeta, term: Term) -> Result<(), DropReason> {
    let SnapshotMeta { position, configuration, configuration_index } = meta;
    let placed = position.index > Index::ZERO
        && position.index <= INDEX_MAX
        && position.term > Term::ZERO
        && position.term <= term
        && *configuration_index <= position.index;
    let learner_votes = !configuration.voters.is_disjoint(&configuration.learners);
    let readable = !configuration.voters.is_empty()
        && !learner_votes
        && configuration.members().len() <= Configuration::MEMBERS_MAX;
    if placed && readable { Ok(()) } else { Err(DropReason::Malformed) }
}

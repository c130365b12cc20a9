//! Offers a snapshot to a follower that needs what the log has forgotten, and follows its transfer
//! (thesis 5.1). The follower pulls the file; the core only says which, and how that goes.
//!
//! Invariants:
//! 1. While a snapshot is offered no entries are sent to that follower.
//! 2. A transfer that does not move for two election time-outs is offered again.

use alloc::{boxed::Box, vec::Vec};

use crate::{
    core::Core,
    entry::SnapshotMeta,
    event::DropReason,
    identity::Member,
    message::{Message, SnapshotOffer, SnapshotResponse},
    output::{Lane, Output},
    replication::Mode,
    role::RoleState,
    types::{LoadId, Moment, Term},
};

/// A snapshot on its way to a follower, and what it still needs afterwards.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Transfer {
    pub(crate) meta: SnapshotMeta,
    /// The cost of all entries that had been appended when it was offered.
    pub(crate) appended_bytes: u64,
    /// Whether anything was heard of it since it was last offered.
    heard: bool,
    /// How much of it arrived.
    offset: u64,
    /// When that last grew, or when it was offered.
    moved: Moment,
}

impl Transfer {
    fn begin(meta: SnapshotMeta, appended_bytes: u64, now: Moment) -> Self {
        Self { meta, appended_bytes, heard: false, offset: 0, moved: now }
    }
}

impl Core {
    /// Only a snapshot helps this follower: offers the newest one.
    pub(crate) fn offer_snapshot(&mut self, to: Member) {
        let (now, appended_bytes) = (self.now, self.durability.appended_bytes());
        let newest = self.snapshots.newest.clone();
        let RoleState::Leader(leader) = &mut self.role else { return };
        let Some(progress) = leader.progress.get_mut(&to) else { return };
        let Some(meta) = newest else {
            // No correct follower needs what never was: a heartbeat later it is asked again.
            progress.mode = Mode::Probe { sent: Some(now) };
            return;
        };
        progress.back_to_probe(meta.position.index.next());
        progress.mode = Mode::Snapshot;
        progress.transfer = Some(Transfer::begin(meta, appended_bytes, now));
        self.pin_snapshot(to);
        self.send_offer(to);
    }

    /// The store has compacted what a follower needs.
    pub(crate) fn load_compacted(&mut self, id: LoadId, to: Member) {
        let RoleState::Leader(leader) = &self.role else { return };
        if leader.progress.get(&to).is_some_and(|progress| progress.load == Some(id)) {
            self.offer_snapshot(to);
        }
    }

    /// The heartbeat is due: repeats offers of which nothing was heard, and renews those that do
    /// not move.
    pub(crate) fn repeat_offers(&mut self) {
        let (now, patience) = (self.now, self.config.knobs().election * 2);
        let RoleState::Leader(leader) = &self.role else { return };
        let mut stalled: Vec<Member> = Vec::new();
        let mut unheard: Vec<Member> = Vec::new();
        for (member, progress) in leader.progress.iter() {
            match &progress.transfer {
                Some(transfer) if matches!(progress.mode, Mode::Snapshot) => {
                    if transfer.moved.plus(patience) <= now {
                        stalled.push(*member);
                    } else if !transfer.heard && transfer.moved < now {
                        unheard.push(*member);
                    }
                }
                _ => {}
            }
        }
        stalled.into_iter().for_each(|to| self.offer_again(to));
        unheard.into_iter().for_each(|to| self.send_offer(to));
    }

    /// Offers the same snapshot again, so that the follower goes on where it stopped; or the newest
    /// one, if the log does not follow on that one any more.
    pub(crate) fn offer_again(&mut self, to: Member) {
        let (now, base) = (self.now, self.log.base().index);
        let RoleState::Leader(leader) = &mut self.role else { return };
        let transfer = leader.progress.get_mut(&to).and_then(|one| one.transfer.as_mut());
        match transfer {
            Some(transfer) if transfer.meta.position.index >= base => {
                (transfer.heard, transfer.moved) = (false, now);
                self.pin_snapshot(to);
                self.send_offer(to);
            }
            _ => self.offer_snapshot(to),
        }
    }

    fn transfer_to(&self, to: Member) -> Option<&Transfer> {
        let RoleState::Leader(leader) = &self.role else { return None };
        leader.progress.get(&to)?.transfer.as_ref()
    }

    fn pin_snapshot(&mut self, to: Member) {
        let Some(meta) = self.transfer_to(to).map(|transfer| transfer.meta.clone()) else { return };
        self.outputs.push_back(Output::SendSnapshot { to, meta: Box::new(meta) });
    }

    fn send_offer(&mut self, to: Member) {
        let Some(meta) = self.transfer_to(to).map(|transfer| transfer.meta.clone()) else { return };
        let offer = SnapshotOffer { term: self.hard.term, meta: Box::new(meta) };
        self.send(to, Lane::Control, Message::SnapshotOffer(offer));
    }

    /// Chunks moved, to a follower or from the leader.
    pub(crate) fn snapshot_progress(&mut self, peer: Member, term: Term, offset: u64) {
        let now = self.now;
        let current = term == self.hard.term;
        match &mut self.role {
            RoleState::Leader(leader) if current => {
                let Some(progress) = leader.progress.get_mut(&peer) else { return };
                progress.contact = now;
                if let Some(transfer) = &mut progress.transfer {
                    transfer.heard = true;
                    if transfer.offset != offset {
                        (transfer.offset, transfer.moved) = (offset, now);
                    }
                }
            }
            RoleState::Leader(_) => {}
            RoleState::Follower(_) | RoleState::Candidate(_) => {
                self.fetch_progress(peer, current, offset);
            }
        }
    }

    /// A snapshot was served to its end, or can't be.
    pub(crate) fn snapshot_sent(&mut self, peer: Member, ok: bool) {
        let now = self.now;
        let RoleState::Leader(leader) = &mut self.role else { return };
        let Some(progress) = leader.progress.get_mut(&peer) else { return };
        if !matches!(progress.mode, Mode::Snapshot) {
            return;
        }
        match &mut progress.transfer {
            // It takes its time to be checked and recorded.
            Some(transfer) if ok => (transfer.heard, transfer.moved) = (true, now),
            _ => self.give_up_transfer(peer),
        }
    }

    pub(crate) fn snapshot_response(&mut self, from: Member, response: SnapshotResponse) {
        let (position, now) = (response.position, self.now);
        let (base, last) = (self.log.base().index, self.log.last().index);
        let known = position.index < base || self.log.holds(position);
        let Some(progress) = self.progress_of(from, response.term) else { return };
        if !known {
            return self.drop_message(from, DropReason::Impossible);
        }
        progress.contact = now;
        if progress.amnesiac.is_some() {
            return;
        }
        let sending = matches!(progress.mode, Mode::Snapshot);
        if !response.installed {
            let offered = progress.transfer.as_ref().map(|transfer| transfer.meta.position);
            if sending && offered == Some(position) {
                self.give_up_transfer(from);
            }
            return;
        }
        if sending {
            progress.next = position.index.max(progress.matched).next();
        }
        assert!(position.index <= last, "a slot that is known is in the log");
        self.follower_matched(from, position.index);
    }

    /// The follower did not get what it was offered: finds out anew where it stands, a heartbeat
    /// later, so that what fails at once is not tried in a circle.
    fn give_up_transfer(&mut self, to: Member) {
        let (now, base) = (self.now, self.log.base().index);
        let RoleState::Leader(leader) = &mut self.role else { return };
        let Some(progress) = leader.progress.get_mut(&to) else { return };
        progress.transfer = None;
        progress.back_to_probe(base.next());
        progress.mode = Mode::Probe { sent: Some(now) };
    }
}

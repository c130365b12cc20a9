//! Knows how long a leader may serve reads without asking: as long as a quorum refuses its votes to
//! everybody else (thesis 6.4.1).
//!
//! Invariants:
//! 1. A lease begins when the round was *sent* that a quorum confirmed, and ends an election
//!    time-out later, shortened by what the clocks may drift meanwhile.
//! 2. There is none before an entry of the own term is committed, and none in a term in which
//!    another member was asked to campaign: its votes are not refused.
//! 3. A voter that restarts does not know whom it heard: where leases are allowed it refuses its
//!    vote for an election time-out.
//!
//! It rests on every member's election time-out being the same or longer, on clocks that run
//! evenly within the bound, and on every voter's being set to allow it (3). Whoever can't warrant
//! that leaves it off.

use alloc::collections::VecDeque;
use core::time::Duration;

use crate::{
    core::Core,
    quorum,
    role::{Leader, RoleState},
    types::Moment,
};

/// When rounds were sent: the newest, and one of each quarter of a heartbeat before.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Sent {
    rounds: VecDeque<(u64, Moment)>,
}

impl Sent {
    /// A round was sent. One that follows another closely is as good as that one; one that is older
    /// than `lifetime` proves nothing any more.
    fn push(&mut self, round: u64, now: Moment, spacing: Duration, lifetime: Duration) {
        if self.rounds.back().is_some_and(|(_, at)| now < at.plus(spacing)) {
            return;
        }
        while self.rounds.pop_front_if(|(_, at)| at.plus(lifetime) < now).is_some() {}
        self.rounds.push_back((round, now));
    }

    /// When the newest round up to this one was sent, as far as it is known.
    fn at(&self, round: u64) -> Option<Moment> {
        self.rounds.iter().rev().find(|(number, _)| *number <= round).map(|(_, at)| *at)
    }
}

impl Core {
    /// Numbers the round that is about to be sent, so that its answers tell how old they are.
    pub(crate) fn note_round(&mut self) {
        let (knobs, now) = (self.config.knobs(), self.now);
        let RoleState::Leader(leader) = &mut self.role else { return };
        if knobs.lease_drift_permille.is_none() {
            return;
        }
        let round = leader.reads.next_round();
        leader.sent.push(round, now, knobs.heartbeat / 4, knobs.election);
    }

    /// The newest round that a quorum confirmed.
    pub(crate) fn confirmed_round(&self, leader: &Leader) -> u64 {
        let confirmed = |member: &crate::identity::Member| {
            if *member == self.me {
                return leader.reads.round();
            }
            let counts = leader.progress.get(member).filter(|one| one.amnesiac.is_none());
            counts.map_or(0, |progress| progress.round)
        };
        quorum::agreed(self.membership.current(), confirmed).unwrap_or_default()
    }

    /// Until when this member may serve reads as leader without asking anybody; `None` if it must
    /// ask.
    pub fn lease_until(&self) -> Option<Moment> {
        let RoleState::Leader(leader) = &self.role else { return None };
        let knobs = self.config.knobs();
        let drift = u32::from(knobs.lease_drift_permille?.get());
        let hands_over = leader.handover.is_some() || leader.asked_successor;
        if leader.asleep || !leader.ready || hands_over {
            return None;
        }
        let sent = leader.sent.at(self.confirmed_round(leader))?;
        // The voters' clocks may be as much too fast as its own is too slow.
        Some(sent.plus(knobs.election * 1000_u32.saturating_sub(drift) / 1000))
    }

    /// Whether a read that arrives now may be served at once.
    pub(crate) fn holds_lease(&self) -> bool {
        self.lease_until().is_some_and(|until| self.now < until)
    }
}

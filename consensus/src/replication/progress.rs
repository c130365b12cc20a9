//! What a leader knows of one follower: how far it is, and how to send to it (thesis 3.5, 10.2.1).
//!
//! Invariants:
//! 1. `matched < next`, and `next` is at most one past the leader's last entry.
//! 2. `matched` never decreases, unless the follower is found to have lost what it acknowledged.
//! 3. Unless it is sent a snapshot, `next` is above what is compacted.
//! 4. A conflict counts only if its request was sent since the way of sending last changed: an
//!    answer that comes late never takes anything back.

use core::time::Duration;

use super::inflight::Inflight;
use crate::{
    membership::CatchUp,
    snapshot::Transfer,
    status::FollowerState,
    types::{Index, LoadId, Moment},
};

/// How to send to a follower.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Mode {
    /// One request at a time; when the last one was sent, if it has no answer yet.
    Probe { sent: Option<Moment> },
    /// Requests in a pipeline.
    Replicate,
    /// What it needs is compacted here: only a snapshot helps.
    Snapshot,
}

/// One follower, as its leader sees it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Progress {
    /// Its durable log equals the leader's up to here.
    pub(crate) matched: Index,
    /// The next entry to send.
    pub(crate) next: Index,
    pub(crate) mode: Mode,
    pub(crate) inflight: Inflight,
    /// The last request's number.
    pub(crate) sequence: u64,
    /// Requests up to this one were sent before the way of sending last changed.
    pub(crate) epoch: u64,
    /// What it said it can take in.
    pub(crate) free_bytes: u64,
    /// When it last answered.
    pub(crate) contact: Moment,
    /// The newest round that it confirmed.
    pub(crate) round: u64,
    /// The commit index that it was last told.
    pub(crate) commit_told: Index,
    /// What it had acknowledged when the way of sending last changed.
    pub(crate) epoch_matched: Index,
    /// The snapshot that it is sent, or was sent, while it is behind.
    pub(crate) transfer: Option<Transfer>,
    /// The load that fetches its next entries.
    pub(crate) load: Option<LoadId>,
    /// A learner's rounds of catching up.
    pub(crate) catch_up: Option<CatchUp>,
    /// It lost what it had acknowledged, up to here: it counts for nothing, and is sent nothing,
    /// until it is a new member.
    pub(crate) amnesiac: Option<Index>,
    /// It left with the configuration at this slot, and is told so until this moment.
    pub(crate) departing: Option<(Index, Moment)>,
}

impl Progress {
    /// A follower of which nothing is known but that it may be reached.
    pub(crate) fn probe(next: Index, now: Moment, free_bytes: u64) -> Self {
        Self {
            matched: Index::ZERO,
            next,
            mode: Mode::Probe { sent: None },
            inflight: Inflight::default(),
            sequence: 0,
            epoch: 0,
            free_bytes,
            contact: now,
            round: 0,
            commit_told: Index::ZERO,
            epoch_matched: Index::ZERO,
            transfer: None,
            load: None,
            catch_up: None,
            amnesiac: None,
            departing: None,
        }
    }

    /// Up to where it counts towards a commit.
    pub(crate) const fn counted(&self) -> Index {
        if self.amnesiac.is_some() { Index::ZERO } else { self.matched }
    }

    /// Whether it answered within `election`.
    pub(crate) fn is_active(&self, now: Moment, election: Duration) -> bool {
        now < self.contact.plus(election)
    }

    /// Whether it answered within `election`, as the one that it was.
    pub(crate) fn answers(&self, now: Moment, election: Duration) -> bool {
        self.amnesiac.is_none() && self.is_active(now, election)
    }

    /// How it is sent to, for the status.
    pub(crate) const fn state(&self) -> FollowerState {
        match self.mode {
            Mode::Probe { .. } => FollowerState::Probe,
            Mode::Replicate => FollowerState::Replicate,
            Mode::Snapshot => FollowerState::Snapshot,
        }
    }

    /// Whether anything was sent since the way of sending last changed.
    pub(crate) const fn has_asked(&self) -> bool {
        self.sequence > self.epoch
    }

    /// Numbers the next request.
    pub(crate) const fn number(&mut self) -> u64 {
        self.sequence = self.sequence.saturating_add(1);
        self.sequence
    }

    /// Sends one request at a time again, from `next`, or as near above what matches as it can be.
    pub(crate) fn back_to_probe(&mut self, next: Index) {
        self.next = next.max(self.matched.next());
        self.mode = Mode::Probe { sent: None };
        self.inflight.clear();
        self.epoch = self.sequence;
        self.epoch_matched = self.matched;
        self.load = None;
    }

    /// The follower's log equals the leader's up to `matched`, durably.
    pub(crate) fn advance(&mut self, matched: Index) {
        self.matched = self.matched.max(matched);
        self.inflight.acknowledge(self.matched);
        if self.next <= self.matched {
            self.next = self.matched.next();
            self.load = None;
        }
        let met = self.next == self.matched.next();
        if !matches!(self.mode, Mode::Replicate) && met {
            self.mode = Mode::Replicate;
            self.inflight.clear();
            self.epoch = self.sequence;
        }
    }

    /// The follower ends below what it acknowledged, which was all up to `acknowledged`.
    pub(crate) fn forget(&mut self, acknowledged: Index) {
        self.amnesiac = Some(acknowledged);
        self.matched = Index::ZERO;
        self.transfer = None;
        self.back_to_probe(self.next);
    }

    /// Panics if an invariant is broken, of a log from `base` to `last`.
    pub(crate) fn check(&self, base: Index, last: Index) {
        let snapshot = matches!(self.mode, Mode::Snapshot);
        assert!(snapshot || self.next > base, "what is compacted is never sent");
        assert!(!snapshot || self.transfer.is_some(), "a snapshot that is sent is known");
        assert!(self.matched < self.next, "the next entry is above what matches");
        assert!(self.next <= last.next(), "the next entry is at most one past the last");
        assert!(self.epoch <= self.sequence, "the epoch began with a request");
        self.inflight.check(self.matched);
    }
}

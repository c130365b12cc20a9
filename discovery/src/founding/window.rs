//! Founding without an expected number: who is seen in time founds together.
//!
//! A free node observes for a window. Peers that answered as free candidates before a part of it
//! had passed (by this node's own clock) are its founder candidates, later ones join. When the
//! window ends, the lowest free node that it sees proposes all its candidates, up to the voters'
//! target; the others leave it the time of a founding time-out each, and then go ahead themselves.
//!
//! Without an expected number only overlap is excluded, not a second cluster, so this file errs on
//! the side of waiting:
//! 1. A node does not propose while a peer that is up holds a promise: a cluster may be about to
//!    live there. A promise that its founders can't settle is thus waited for.
//! 2. A node that was given peers, or that has one that is up, gives them [`SILENT_WINDOWS`]
//!    windows to answer before it founds without them. It says for whom it waits.
//! 3. Whoever has a free peer with a lower id, seen in time or not, lets that one go first: two
//!    that met late do not both found alone.

use std::collections::BTreeSet;

use meshraft_consensus::{Member, Moment};

use super::{
    Founding, FoundingConfig, Free,
    roster::{Candidate, Choice, largest_expectation, rank, without_the_greedy},
};
use crate::{ballot::FounderSet, wire::Binding};

/// How many windows peers have to answer that were given to this node, or that are up.
const SILENT_WINDOWS: u32 = 60;

/// Why a node does not found yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Observing {
    /// Its window is open.
    Window { until: Moment },
    /// Peers that it was given, or that are up, have not answered.
    Silence { until: Moment },
    /// A peer that is up holds a promise.
    Promise,
}

impl Observing {
    /// When it is over, if that is a matter of time.
    pub(super) const fn until(self) -> Option<Moment> {
        match self {
            Self::Window { until } | Self::Silence { until } => Some(until),
            Self::Promise => None,
        }
    }
}

impl FoundingConfig {
    fn candidates_until(&self, since: Moment) -> Moment {
        let percent = u32::from(self.threshold_percent.clamp(1, 100));
        since.plus(self.window * percent / 100)
    }
}

impl Founding {
    /// Why this node, which expects no number of founders, does not found yet.
    pub(super) fn observing(&self, free: &Free, now: Moment) -> Option<Observing> {
        let until = free.since.plus(self.config.window);
        if now < until {
            return Some(Observing::Window { until });
        }
        let binding = |peer: &super::roster::Peer| peer.view.map(|view| view.standing.binding);
        let mut up = self.roster.up.values();
        if up.any(|peer| matches!(binding(peer), Some(Binding::Founding { .. }))) {
            return Some(Observing::Promise);
        }
        let until = free.since.plus(self.config.window.saturating_mul(SILENT_WINDOWS));
        (now < until && self.is_met_by_silence()).then_some(Observing::Silence { until })
    }

    /// Whether a peer that is up, or each one that this node was given, has not answered.
    pub(super) fn is_met_by_silence(&self) -> bool {
        let given = self.config.targets > 0 || self.roster.knows_ids();
        let silent = self.roster.up.values().any(|peer| peer.view.is_none());
        silent || given && !self.roster.answered
    }

    /// What a node that expects no number of founders should do, once its window has ended.
    pub(super) fn choose_observed(&self, me: Candidate, free: &Free) -> Choice {
        let rank = rank(me, self.roster.candidates());
        let candidates = self.observed(me, free);
        let need = largest_expectation(&candidates);
        let greedy = usize::from(candidates.len() < need);
        match rank + greedy {
            0 => Choice::Propose(self.pick(me, &candidates)),
            turns => Choice::Defer { turns: u32::try_from(turns).unwrap_or(u32::MAX), need },
        }
    }

    /// The founders, after the others have let their turns pass. Those that come first are asked,
    /// too: they are up and free, and may only see less.
    pub(super) fn choose_observed_late(
        &self,
        me: Candidate,
        free: &Free,
    ) -> Option<BTreeSet<Member>> {
        let candidates = without_the_greedy(me, self.observed(me, free))?;
        Some(self.pick(me, &candidates))
    }

    /// This node and the peers that were seen in time, in order.
    fn observed(&self, me: Candidate, free: &Free) -> Vec<Candidate> {
        let until = self.config.candidates_until(free.since);
        let mut candidates: Vec<_> = self.roster.candidates_by(until).chain([me]).collect();
        candidates.sort_unstable();
        candidates
    }

    /// The lowest of them, up to the voters' target or what one of them expects, and this node.
    fn pick(&self, me: Candidate, candidates: &[Candidate]) -> BTreeSet<Member> {
        let target = self.config.voters_target.max(largest_expectation(candidates));
        let others = target.clamp(1, FounderSet::MEMBERS_MAX) - 1;
        let others = candidates.iter().filter(|other| **other != me).take(others);
        others.chain([&me]).map(|chosen| chosen.member).collect()
    }
}

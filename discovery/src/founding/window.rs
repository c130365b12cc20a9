//! Founding without an expected number: who is seen in time founds together.
//!
//! A free node observes for a window. Peers that answered as free candidates and were up before a
//! part of it had passed (by this node's own clock) are its founder candidates, later ones join.
//! When the window ends, the lowest free node that it sees proposes all its candidates, up to the
//! voters' target; the others leave it a window and a founding time-out each, and then go ahead.
//!
//! Without an expected number only overlap is excluded, not a second cluster: nodes that can't see
//! each other at all found apart, and so may two groups that see each other through one node only,
//! if it comes late to both or is cut off by the target. So this file errs on the side of waiting:
//! 1. A node does not propose while a peer that is up holds a promise: a cluster may be about to
//!    live there. A promise that its founders can't settle is thus waited for; without a key, where
//!    anybody may claim one, for [`SILENT_WINDOWS`] windows.
//! 2. A node that was given peers, or that has one that is up, gives them [`SILENT_WINDOWS`]
//!    windows to answer before it founds without them. It says for whom it waits.
//! 3. A node founds alone only after a whole window without a free peer and without one that holds
//!    a promise. The first one that it sees too late for its window, and the loss of the last one,
//!    begin the window anew.
//! 4. Before it proposes, a node asks all peers once more: what they said may be out of date.
//! 5. Whoever has a free peer with a lower id, seen in time or not, lets that one go first: of
//!    two that see each other too late in different windows not both found.

use core::time::Duration;
use std::collections::BTreeSet;

use meshraft_consensus::{Member, Moment, NodeId};

use super::{
    Founding, FoundingConfig, Free, WaitingCode,
    roster::{Candidate, Choice, largest_expectation, rank, without_the_greedy},
};
use crate::ballot::FounderSet;

/// How many windows peers have to answer that were given to this node, or that are up.
const SILENT_WINDOWS: u32 = 60;

/// Why a node does not found yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Observing {
    /// Its window is open.
    Window { until: Moment },
    /// Peers that it was given, or that are up, have not answered.
    Silence { until: Moment },
    /// A peer that is up holds a promise, which is believed until then.
    Promise { until: Option<Moment> },
}

impl Observing {
    /// When it is over, if that is a matter of time.
    const fn until(self) -> Option<Moment> {
        match self {
            Self::Window { until } | Self::Silence { until } => Some(until),
            Self::Promise { until } => until,
        }
    }
}

impl FoundingConfig {
    /// How long others that come first are left to found. Without an expected number one of them
    /// may have begun to observe only now, and its window has to end well before.
    pub(super) fn turn(&self) -> Duration {
        let window = if self.expect.is_none() { self.window } else { Duration::ZERO };
        self.founding_timeout().saturating_add(window)
    }

    fn candidates_until(&self, since: Moment) -> Moment {
        let percent = u32::from(self.threshold_percent.clamp(1, 100));
        since.plus(self.window * percent / 100)
    }
}

impl Founding {
    /// The founders to propose now, if any; notes in `free` when to look again.
    pub(super) fn observed_founders(
        &mut self,
        now: Moment,
        free: &mut Free,
    ) -> Option<BTreeSet<Member>> {
        let asks_since = free.asks_since.take();
        free.look_at = None;
        self.keep_window(free, now);
        if let Some(observing) = self.observing(free, now) {
            (free.deferred, free.look_at) = (None, observing.until());
            return None;
        }
        let deferred = free.deferred;
        let members = self.founders(now, free)?;
        let since = asks_since.unwrap_or(now);
        let until = since.plus(self.config.founding_timeout());
        if now >= until || self.roster.have_answered(since) {
            return Some(members);
        }
        if asks_since.is_none() {
            self.roster.ask_all(now);
        }
        (free.deferred, free.asks_since, free.look_at) = (deferred, Some(since), Some(until));
        None
    }

    /// Begins the window anew for a node that would found alone although it met somebody: when the
    /// first peer is seen after the threshold, and when the last one is gone.
    fn keep_window(&self, free: &mut Free, now: Moment) {
        let met = self.roster.candidates().next().is_some();
        let in_time = self.config.candidates_until(free.since);
        let in_time = self.roster.candidates_by(in_time).next().is_some();
        let company = met || self.roster.holders().next().is_some();
        if met && !in_time || free.company && !company {
            free.since = now;
        }
        free.company = company;
    }

    /// Why this node, which expects no number of founders, does not found yet.
    fn observing(&self, free: &Free, now: Moment) -> Option<Observing> {
        let until = free.since.plus(self.config.window);
        if now < until {
            return Some(Observing::Window { until });
        }
        let until = free.since.plus(self.config.window.saturating_mul(SILENT_WINDOWS));
        let believed = self.config.keyed || now < until;
        if believed && self.roster.holders().next().is_some() {
            return Some(Observing::Promise { until: (!self.config.keyed).then_some(until) });
        }
        (now < until && self.is_met_by_silence()).then_some(Observing::Silence { until })
    }

    /// The peers whose promise, or whose first answer, this node waits for before it founds.
    pub(super) fn observed_missing(&self) -> Option<(WaitingCode, Vec<NodeId>)> {
        let holders: Vec<_> = self.roster.holders().collect();
        if !holders.is_empty() {
            return Some((WaitingCode::Founders, holders));
        }
        let alone = self.roster.candidates().next().is_none();
        let silence = alone && self.is_met_by_silence();
        silence.then(|| (WaitingCode::Peers, self.roster.silent().collect()))
    }

    /// Whether a peer that is up, or each one that this node was given, has not answered.
    fn is_met_by_silence(&self) -> bool {
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
            turns => {
                let turns = u32::try_from(turns).unwrap_or(u32::MAX);
                Choice::Defer { turns, need: need.max(candidates.len()) }
            }
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

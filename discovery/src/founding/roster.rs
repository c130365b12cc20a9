//! Who is up and how each says it stands; and who of them would found.
//!
//! Invariants:
//! 1. Only a peer that is up and answered itself has a view here: hearsay makes no candidate.
//! 2. Nothing here is durable and no safety rests on it: a wrong view costs a refused attempt.

use core::num::NonZeroU16;
use std::collections::{BTreeMap, BTreeSet};

use meshraft_consensus::{ClusterId, Member, Moment, NodeId};

use super::doubt::Doubts;
use crate::{
    ballot::{Ballot, FounderSet},
    wire::{Binding, Standing},
};

/// The most peers that are asked. One beyond them still gets answers to what it asks.
const UP_MAX: usize = 1024;

/// The most ids that are remembered only to name them when they are missing.
const KNOWN_MAX: usize = 1024;

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Roster {
    pub(super) up: BTreeMap<NodeId, Peer>,
    known: BTreeSet<NodeId>,
    /// Who is passed over.
    pub(super) doubts: Doubts,
    /// Whether a peer ever said how it stands.
    pub(super) answered: bool,
}

/// A peer to which a handle exists.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Peer {
    /// What it answered last.
    pub(super) view: Option<View>,
    /// Since when it is up. A first answer that was slow does not make it a late one.
    up_since: Moment,
    answered_at: Moment,
    /// When to ask it again, and how often it was asked in vain.
    pub(super) ask_at: Moment,
    pub(super) attempt: u32,
    /// It told this node, finally, that its cluster does not admit it.
    pub(super) denied: bool,
}

#[cfg(test)]
impl Peer {
    /// Forgets what only says when something is tried.
    pub(super) fn forget_time(&mut self) {
        (self.ask_at, self.attempt) = (Moment::from_nanos(u64::MAX), 0);
        (self.up_since, self.answered_at) = (Moment::ZERO, Moment::ZERO);
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct View {
    pub(super) member: Member,
    pub(super) standing: Standing,
}

/// A free node that would found, and the least number of founders that it expects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Candidate {
    pub(super) member: Member,
    pub(super) expect: usize,
}

impl Candidate {
    pub(super) fn new(member: Member, expect: Option<NonZeroU16>) -> Self {
        Self { member, expect: expect.map_or(1, |expect| usize::from(expect.get())) }
    }
}

impl Roster {
    pub(super) fn peer_up(&mut self, node: NodeId, now: Moment) {
        if self.up.len() < UP_MAX || self.up.contains_key(&node) {
            let peer = self.up.entry(node).or_insert(Peer {
                view: None,
                up_since: now,
                answered_at: Moment::ZERO,
                ask_at: now,
                attempt: 0,
                denied: false,
            });
            (peer.ask_at, peer.attempt, peer.denied) = (now, 0, false);
        }
    }

    pub(super) fn peer_down(&mut self, node: NodeId) {
        self.up.remove(&node);
    }

    pub(super) fn known(&mut self, node: NodeId) {
        if self.known.len() < KNOWN_MAX {
            self.known.insert(node);
        }
    }

    /// Takes what a peer said about itself; returns whether it is up, and so was taken.
    pub(super) fn saw(&mut self, now: Moment, member: Member, standing: Standing) -> bool {
        let Some(peer) = self.up.get_mut(&member.node) else { return false };
        self.answered = true;
        if peer.view.is_some_and(|view| view.member != member) {
            peer.up_since = now;
        }
        (peer.view, peer.answered_at) = (Some(View { member, standing }), now);
        true
    }

    /// Whether all that have ever answered did so since then.
    pub(super) fn have_answered(&self, since: Moment) -> bool {
        self.up.values().all(|peer| peer.view.is_none() || peer.answered_at >= since)
    }

    /// Lets every peer be asked at once.
    pub(super) fn ask_all(&mut self, now: Moment) {
        for peer in self.up.values_mut() {
            (peer.ask_at, peer.attempt) = (now, 0);
        }
    }

    /// Whether the id of any peer is known.
    pub(super) fn knows_ids(&self) -> bool {
        !self.known.is_empty()
    }

    /// Forgets how these members stand: what they said is out of date.
    pub(super) fn forget_views(&mut self, members: &BTreeSet<Member>) {
        for peer in self.up.values_mut() {
            peer.view = peer.view.filter(|view| !members.contains(&view.member));
        }
    }

    /// The peers that would found.
    pub(super) fn candidates(&self) -> impl Iterator<Item = Candidate> {
        self.candidates_among(self.views())
    }

    /// Those of them that have been up since this moment or longer.
    pub(super) fn candidates_by(&self, moment: Moment) -> impl Iterator<Item = Candidate> {
        let in_time = move |peer: &&Peer| peer.up_since <= moment;
        self.candidates_among(self.up.values().filter(in_time).filter_map(|peer| peer.view))
    }

    fn candidates_among(
        &self,
        views: impl Iterator<Item = View>,
    ) -> impl Iterator<Item = Candidate> {
        views
            .filter(|view| view.standing.binding == Binding::Free)
            .filter(|view| !self.doubts.is_passed_over(view.member.node))
            .map(|view| Candidate::new(view.member, view.standing.expect))
            .filter(|candidate| candidate.expect <= FounderSet::MEMBERS_MAX)
    }

    /// The peers that hold a promise whose fate they do not know.
    pub(super) fn holders(&self) -> impl Iterator<Item = NodeId> {
        let holds = |view: &View| matches!(view.standing.binding, Binding::Founding { .. });
        self.views().filter(holds).map(|view| view.member.node)
    }

    /// The highest counter that a peer told, of those that are within reach of `seen`.
    pub(super) fn counter_max(&self, seen: &Ballot) -> u64 {
        self.views()
            .map(|view| view.standing.seen)
            .filter(|told| told.is_within_reach_of(seen))
            .map(|told| told.counter)
            .max()
            .unwrap_or(0)
    }

    /// The peers that say they live in a cluster, have not denied it and did not say in vain that
    /// this node is admitted, with that cluster.
    pub(super) fn admitters(&self) -> impl Iterator<Item = (NodeId, ClusterId)> {
        let open = self.up.values().filter(|peer| !peer.denied).filter_map(|peer| peer.view);
        let open = open.filter(|view| !self.doubts.is_void_admitter(view.member.node));
        open.filter_map(|view| match view.standing.binding {
            Binding::Living { cluster } => Some((view.member.node, cluster)),
            _ => None,
        })
    }

    /// The peers that are up and passed over.
    pub(super) fn passed_over(&self) -> impl Iterator<Item = NodeId> {
        self.doubts.passed_over().filter(|peer| self.up.contains_key(peer))
    }

    /// The known ids of peers that have not said how they stand.
    pub(super) fn silent(&self) -> impl Iterator<Item = NodeId> {
        let silent = |node: &NodeId| self.up.get(node).is_none_or(|peer| peer.view.is_none());
        let up = self.up.keys().copied().collect::<BTreeSet<_>>();
        self.known.union(&up).copied().filter(silent).collect::<Vec<_>>().into_iter()
    }

    fn views(&self) -> impl Iterator<Item = View> {
        self.up.values().filter_map(|peer| peer.view)
    }
}

/// What a candidate should do about founding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Choice {
    /// Candidates are missing: this many are needed.
    Wait { need: usize },
    /// Others come first, for so many turns: candidates with lower ids, which coordinate before
    /// this one, or some that expect more founders than there are.
    Defer { turns: u32, need: usize },
    /// It coordinates these founders.
    Propose(BTreeSet<Member>),
}

/// Chooses the founders: the coordinator, which is the lowest candidate, and the next lowest,
/// exactly as many as the largest expectation among the candidates.
pub(super) fn choose(me: Candidate, others: impl Iterator<Item = Candidate>) -> Choice {
    let candidates = sorted(me, others);
    let need = largest_expectation(&candidates);
    let rank = u32::try_from(rank(me, candidates.iter().copied())).unwrap_or(u32::MAX);
    if candidates.len() >= need && rank == 0 {
        Choice::Propose(candidates.iter().take(need).map(|chosen| chosen.member).collect())
    } else if candidates.len() >= need {
        Choice::Defer { turns: rank, need }
    } else if without_the_greedy(me, candidates).is_some() {
        Choice::Defer { turns: rank.saturating_add(1), need }
    } else {
        Choice::Wait { need }
    }
}

/// Chooses again after the others have let their turns pass: without the lower candidates, which
/// may be unable to reach enough founders, and without those that expect more than there are.
pub(super) fn choose_late(
    me: Candidate,
    others: impl Iterator<Item = Candidate>,
) -> Option<BTreeSet<Member>> {
    let candidates = sorted(me, others.filter(|other| other.member > me.member));
    let candidates = without_the_greedy(me, candidates)?;
    let need = largest_expectation(&candidates);
    Some(candidates.iter().take(need).map(|chosen| chosen.member).collect())
}

/// How many candidates come before `me`.
pub(super) fn rank(me: Candidate, others: impl Iterator<Item = Candidate>) -> usize {
    others.filter(|other| other.member < me.member).count()
}

fn sorted(me: Candidate, others: impl Iterator<Item = Candidate>) -> Vec<Candidate> {
    let others = others.filter(|other| other.member.node != me.member.node);
    let mut candidates: Vec<_> = others.chain([me]).collect();
    candidates.sort_unstable();
    candidates
}

pub(super) fn largest_expectation(candidates: &[Candidate]) -> usize {
    candidates.iter().map(|candidate| candidate.expect).max().unwrap_or(0)
}

/// The candidates that expect no more than these candidates are; `None` without `me` among them.
pub(super) fn without_the_greedy(
    me: Candidate,
    mut candidates: Vec<Candidate>,
) -> Option<Vec<Candidate>> {
    while largest_expectation(&candidates) > candidates.len() {
        let count = candidates.len();
        candidates.retain(|candidate| candidate.expect <= count);
    }
    candidates.contains(&me).then_some(candidates)
}

#[cfg(test)]
mod tests {
    use meshraft_consensus::Incarnation;

    use super::*;

    fn candidate(node: u8, expect: usize) -> Candidate {
        Candidate {
            member: Member::new(NodeId::new([node; 32]), Incarnation::new([1; 16])),
            expect,
        }
    }

    fn set(nodes: &[u8]) -> BTreeSet<Member> {
        nodes.iter().map(|node| candidate(*node, 1).member).collect()
    }

    #[test]
    fn the_lowest_proposes_as_many_as_the_largest_expectation() {
        let others = || [candidate(4, 3), candidate(2, 2), candidate(3, 2)].into_iter();
        assert_eq!(choose(candidate(1, 2), others()), Choice::Propose(set(&[1, 2, 3])));
        assert_eq!(choose(candidate(5, 2), others()), Choice::Defer { turns: 3, need: 3 });
        let few = || [candidate(1, 3)].into_iter();
        assert_eq!(choose(candidate(2, 3), few()), Choice::Wait { need: 3 });
    }

    #[test]
    fn the_lower_and_the_greedy_are_left_out_after_their_turns() {
        let others = || [candidate(1, 2), candidate(3, 2), candidate(4, 9)].into_iter();
        assert_eq!(choose(candidate(2, 2), others()), Choice::Defer { turns: 2, need: 9 });
        assert_eq!(choose_late(candidate(2, 2), others()), Some(set(&[2, 3])));
        assert_eq!(choose_late(candidate(3, 2), others()), None);
        assert_eq!(choose_late(candidate(4, 9), others()), None);
    }
}

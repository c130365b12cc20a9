//! Decides who leads, from the own core and from hints that other members give with their refusals.
//!
//! Invariants:
//! 1. A hint counts only if its term is newer than what the own core and an earlier hint know, so
//!    that two members with stale hints can't send a request to and fro.
//! 2. A hint never says that this member leads; only its own core does.
//! 3. A hint that proves wrong is dropped whole, so no hint outlives what the core knows for long.

use meshraft_consensus::{NodeId, Term};

/// What is known of the leader.
#[derive(Clone, Debug)]
pub(super) struct Leadership {
    me: NodeId,
    term: Term,
    leader: Option<NodeId>,
    ready: bool,
    hint: Option<(Term, NodeId)>,
}

/// Where a write goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Path {
    /// To the own core, which leads.
    Own,
    /// The own core leads, but has not committed in its own term.
    OwnSoon,
    /// To another member.
    Other(NodeId),
    /// Nowhere, yet.
    Nobody,
}

impl Leadership {
    pub(super) const fn new(me: NodeId) -> Self {
        Self { me, term: Term::ZERO, leader: None, ready: false, hint: None }
    }

    /// Takes what the own core knows; says whether anything may go another way now.
    pub(super) fn learn(
        &mut self,
        leader: Option<NodeId>,
        is_me: bool,
        ready: bool,
        term: Term,
    ) -> bool {
        let before = (self.path(), self.known(), self.core_can_read());
        self.term = term;
        self.leader = if is_me { Some(self.me) } else { leader.filter(|id| *id != self.me) };
        self.ready = is_me && ready;
        self.hint = self.hint.filter(|(hinted, _)| self.is_news(*hinted));
        before != (self.path(), self.known(), self.core_can_read())
    }

    /// Takes a hint of another member; says whether anything may go another way now.
    pub(super) fn hint(&mut self, leader: Option<NodeId>, term: Term) -> bool {
        let Some(leader) = leader.filter(|id| *id != self.me) else { return false };
        let newer = self.is_news(term) && self.hint.is_none_or(|(hinted, _)| term > hinted);
        if newer {
            self.hint = Some((term, leader));
        }
        newer
    }

    /// Takes note that `node` could not be reached, or said that it does not lead.
    pub(super) fn doubt(&mut self, node: NodeId) {
        self.hint = self.hint.filter(|(_, leader)| *leader != node);
    }

    pub(super) fn path(&self) -> Path {
        match self.known().0 {
            None => Path::Nobody,
            Some(leader) if leader != self.me => Path::Other(leader),
            Some(_) if self.ready => Path::Own,
            Some(_) => Path::OwnSoon,
        }
    }

    /// Whether the own core can be asked for an index.
    pub(super) fn core_can_read(&self) -> bool {
        self.leader.is_some_and(|leader| leader != self.me || self.ready)
    }

    /// Who leads, and the term of that knowledge: what to tell who sent a request in vain.
    pub(super) fn known(&self) -> (Option<NodeId>, Term) {
        self.hint.map_or((self.leader, self.term), |(term, leader)| (Some(leader), term))
    }

    fn is_news(&self, term: Term) -> bool {
        term > self.term || (term == self.term && self.leader.is_none())
    }
}

//! Says where this node stands, what it is waiting for, and for whom.

use meshraft_consensus::NodeId;

use super::{Founding, Free, Membership, Presence, Stage, roster::Choice};
use crate::{record::Departure, wire::NotAdmitted};

/// Where a node stands on its way into a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Nothing binds it.
    Free,
    /// It asks a living cluster to admit it.
    Joining,
    /// A promise binds it.
    Founding,
    /// It is in a cluster.
    Member,
    /// It left its cluster.
    Left,
    /// It was removed from its cluster.
    Removed,
}

/// What a node waits for that is in no cluster, or about to leave one, or away from it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Waiting {
    /// The kind of thing that is missing.
    pub code: WaitingCode,
    /// How many there are, this node among them.
    pub have: usize,
    /// How many there must be.
    pub need: usize,
    /// Those of the missing whose ids are known.
    pub missing: Vec<NodeId>,
    /// What a member answered last that did not admit this node.
    pub why: Option<NotAdmitted>,
}

/// The kind of thing that a node waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum WaitingCode {
    /// Free nodes that would found with it.
    Founders,
    /// Promises of the founders of the set that it holds.
    Promise,
    /// The admission to a living cluster.
    Admission,
    /// The group of the founder set, to elect a leader and decide the set's fate.
    Leader,
    /// Peers that this node passes over for a time because they did not do what they said: they
    /// held no founder set that they were proposed, or claimed a cluster that sent nothing.
    PassedOver,
    /// The first answer of the peers that this node was given, before it founds without them.
    Peers,
    /// The cluster, to commit that this node leaves it.
    Departure,
    /// It left, and waits to be told to rejoin, or to be opened again.
    Left,
    /// It was removed, and waits to be told to rejoin.
    Removed,
}

impl WaitingCode {
    /// The word for it in status output.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Founders => "founders",
            Self::Promise => "promise",
            Self::Admission => "admission",
            Self::Leader => "leader",
            Self::PassedOver => "passed_over",
            Self::Peers => "peers",
            Self::Departure => "departure",
            Self::Left => "left",
            Self::Removed => "removed",
        }
    }
}

impl Founding {
    /// Where this node stands.
    pub fn phase(&self) -> Phase {
        match &self.stage {
            Stage::Member(mine) => match (mine.presence, self.record().departed) {
                (Presence::Present | Presence::Leaving { .. }, _) => Phase::Member,
                (Presence::Away { seeks: true, .. }, _) => Phase::Joining,
                (Presence::Away { .. }, Some(Departure::Left)) => Phase::Left,
                (Presence::Away { .. }, _) => Phase::Removed,
            },
            Stage::Bound(_) => Phase::Founding,
            Stage::Free(_) if self.join.is_some() || self.trial.is_some() => Phase::Joining,
            Stage::Free(_) => Phase::Free,
        }
    }

    /// What this node waits for; `None` while it takes part in a cluster.
    pub fn waiting(&self) -> Option<Waiting> {
        match &self.stage {
            Stage::Member(mine) => self.waiting_away(mine),
            Stage::Bound(_) if self.trial.is_some() => Some(self.waiting_for_admission()),
            Stage::Bound(bound) => {
                let founders = &bound.founders.members;
                let missing: Vec<_> =
                    founders.difference(&bound.heard).map(|member| member.node).collect();
                let code =
                    if missing.is_empty() { WaitingCode::Leader } else { WaitingCode::Promise };
                let (have, need) = (bound.heard.len(), founders.len());
                Some(Waiting { code, have, need, missing, why: None })
            }
            Stage::Free(free) if self.may_found() && !self.knows_living() => {
                Some(self.waiting_for_founders(free))
            }
            Stage::Free(_) => Some(self.waiting_for_admission()),
        }
    }

    /// This node is there, a member that admits it is not.
    fn waiting_for_admission(&self) -> Waiting {
        let missing = match (&self.trial, &self.join) {
            (Some(trial), _) => vec![trial.by],
            (None, Some(join)) => vec![join.asked],
            (None, None) => self.roster.silent().collect(),
        };
        let (code, why) = (WaitingCode::Admission, self.turned_down);
        Waiting { code, have: 1, need: 2, missing, why }
    }

    fn waiting_away(&self, mine: &Membership) -> Option<Waiting> {
        let code = match (mine.presence, self.record().departed) {
            (Presence::Present, _) => return None,
            (Presence::Away { seeks: true, .. }, _) => return Some(self.waiting_for_admission()),
            (Presence::Leaving { .. }, _) => WaitingCode::Departure,
            (Presence::Away { .. }, Some(Departure::Left)) => WaitingCode::Left,
            (Presence::Away { .. }, _) => WaitingCode::Removed,
        };
        Some(Waiting { code, have: 1, need: 2, missing: vec![], why: None })
    }

    fn waiting_for_founders(&self, free: &Free) -> Waiting {
        let have = 1 + self.roster.candidates().count();
        if self.config.expect.is_none()
            && let Some((code, missing)) = self.observed_missing()
        {
            return Waiting { code, have, need: have + 1, missing, why: None };
        }
        let need = match self.choice(free) {
            // Who was seen too late is there all the same.
            Choice::Defer { need, .. } if self.config.expect.is_none() => need.max(have),
            Choice::Wait { need } | Choice::Defer { need, .. } => need,
            Choice::Propose(founders) => founders.len(),
        };
        let passed_over: Vec<_> = self.roster.passed_over().collect();
        let (code, missing) = match passed_over.is_empty() {
            true => (WaitingCode::Founders, self.roster.silent().collect()),
            false => (WaitingCode::PassedOver, passed_over),
        };
        Waiting { code, have, need, missing, why: None }
    }
}

//! Says what this node is waiting for, and for whom.

use meshraft_consensus::NodeId;

use super::{
    Founding, Stage,
    roster::{Candidate, Choice, choose},
};

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
}

/// What a node that is in no cluster waits for.
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
}

impl WaitingCode {
    /// The word for it in status output.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Founders => "founders",
            Self::Promise => "promise",
            Self::Admission => "admission",
            Self::Leader => "leader",
        }
    }
}

impl Founding {
    /// Where this node stands.
    pub fn phase(&self) -> Phase {
        match &self.stage {
            Stage::Member(_) => Phase::Member,
            Stage::Bound(_) => Phase::Founding,
            Stage::Free(_) if self.join.is_some() => Phase::Joining,
            Stage::Free(_) => Phase::Free,
        }
    }

    /// What this node waits for; `None` once it is in a cluster.
    pub fn waiting(&self) -> Option<Waiting> {
        match &self.stage {
            Stage::Member(_) => None,
            Stage::Bound(bound) => {
                let founders = &bound.founders.members;
                let missing: Vec<_> =
                    founders.difference(&bound.heard).map(|member| member.node).collect();
                let code =
                    if missing.is_empty() { WaitingCode::Leader } else { WaitingCode::Promise };
                let (have, need) = (bound.heard.len(), founders.len());
                Some(Waiting { code, have, need, missing })
            }
            Stage::Free(_) if self.config.may_found() && !self.knows_living() => {
                Some(self.waiting_for_founders())
            }
            // This node is there, a member that admits it is not.
            Stage::Free(_) => {
                let missing = match &self.join {
                    Some(join) => vec![join.asked],
                    None => self.roster.silent().collect(),
                };
                Some(Waiting { code: WaitingCode::Admission, have: 1, need: 2, missing })
            }
        }
    }

    fn waiting_for_founders(&self) -> Waiting {
        let me = Candidate::new(self.config.me, self.config.expect);
        let have = 1 + self.roster.candidates().count();
        let need = match choose(me, self.roster.candidates()) {
            Choice::Wait { need } | Choice::Defer { need, .. } => need,
            Choice::Propose(founders) => founders.len(),
        };
        let missing = self.roster.silent().collect();
        Waiting { code: WaitingCode::Founders, have, need, missing }
    }
}

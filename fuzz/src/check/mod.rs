//! What must hold in every run, one property a file.
//!
//! | file | property |
//! |---|---|
//! | `election` | one leader a term, one vote a term, terms never go back, over restarts too |
//! | `log` | logs that agree on a position agree on everything before it; what is committed stays |
//! | `durability` | nothing commits before a quorum has it on disk |
//! | `state` | equal commands and answers at equal index; nothing is applied twice; one cluster |
//! | `linearizable` | every key's history of writes and reads has a legal order |
//! | `progress` | after the world healed everything works again |
//!
//! The checks see what nodes hand to their disks, what their cores say of themselves, what their
//! machines apply and what clients hear; they trust none of it.

mod durability;
mod election;
mod linearizable;
mod log;
mod progress;
mod state;

use std::{collections::BTreeMap, fmt};

use meshraft_consensus::{
    ClusterId, Configuration, Index, Member, Namespace, Position, Role, Status, Term,
};
use meshraft_storage::{GroupId, Job};

use self::{election::Elections, log::Logs};
pub use self::{linearizable::Anomaly, progress::Stuck};
pub(crate) use self::{
    linearizable::{Histories, Operation},
    progress::{Convergence, View, check_acknowledged},
    state::{AppliedCommand, States},
};
use crate::world::Seat;

/// A property that does not hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Violation {
    /// Two members lead in one term.
    #[error("{first} and {second} both lead {cluster} in term {term}")]
    TwoLeaders {
        /// The group.
        cluster: ClusterId,
        /// The term.
        term: Term,
        /// Who led first.
        first: Member,
        /// Who leads too.
        second: Member,
    },
    /// A member voted twice in one term, or its term went back.
    #[error("the hard state of {member} went from {from} to {to}")]
    HardState {
        /// The member.
        member: Member,
        /// What it had written.
        from: HardStateText,
        /// What it wrote next.
        to: HardStateText,
    },
    /// Two logs agree on a position and not on what stands there or before.
    #[error("{member} wrote an entry at {position} that differs from another log's")]
    LogMismatch {
        /// The member.
        member: Member,
        /// The position.
        position: Position,
    },
    /// A write does not follow on the log that is there.
    #[error("{member} wrote {position} after {last}")]
    LogGap {
        /// The member.
        member: Member,
        /// What was there.
        last: Position,
        /// What was written.
        position: Position,
    },
    /// A member's commit index went back within one life of its process.
    #[error("the commit index of {member} went back from {from} to {to}")]
    CommitWentBack {
        /// The member.
        member: Member,
        /// Where it was.
        from: Index,
        /// Where it is.
        to: Index,
    },
    /// A member committed something else than another did.
    #[error("{member} holds {found:?} as committed at {index}, others {expected}")]
    CommittedDiffers {
        /// The member.
        member: Member,
        /// The slot.
        index: Index,
        /// What was committed first.
        expected: Position,
        /// What this member has there.
        found: Option<Position>,
    },
    /// A leader committed an entry of an earlier term by counting (thesis 3.6.2).
    #[error("{member} committed {position} by counting, in term {term}")]
    OldTermCommit {
        /// The leader.
        member: Member,
        /// The term that it leads.
        term: Term,
        /// What it committed.
        position: Position,
    },
    /// An entry was committed that no quorum has on disk.
    #[error("{position} of {cluster} is committed by {member} with {durable:?} having it on disk")]
    NotDurable {
        /// The group.
        cluster: ClusterId,
        /// Who committed it.
        member: Member,
        /// The entry.
        position: Position,
        /// Who has it on disk.
        durable: Vec<Member>,
    },
    /// A new leader lacks a committed entry.
    #[error("{leader} leads term {term} without the committed entry {missing}")]
    LeaderIncomplete {
        /// The leader.
        leader: Member,
        /// Its term.
        term: Term,
        /// What it lacks.
        missing: Position,
    },
    /// Two replicas applied different commands, or got different answers, at one index.
    #[error("replicas of {cluster} differ at {index}: {what}")]
    StatesDiffer {
        /// The group.
        cluster: ClusterId,
        /// The index.
        index: Index,
        /// What differs.
        what: &'static str,
    },
    /// A command took effect twice.
    #[error("one command was applied at {first} and again at {second}")]
    AppliedTwice {
        /// First.
        first: Index,
        /// And again.
        second: Index,
    },
    /// Two clusters live in one namespace.
    #[error("{second} lives in {namespace} beside {first}")]
    TwoClusters {
        /// The namespace.
        namespace: Namespace,
        /// The first.
        first: ClusterId,
        /// The other.
        second: ClusterId,
    },
    /// A write that was acknowledged did not take effect where its client was told.
    #[error("value {value} of {namespace} was acknowledged at {revision} and is not there")]
    LostWrite {
        /// Where.
        namespace: Namespace,
        /// What was written.
        value: u64,
        /// Where it was said to be.
        revision: u64,
    },
    /// Two replicas that applied the same are not in the same state.
    #[error("node {node} is in another state of {namespace} than the others")]
    HashesDiffer {
        /// Which node.
        node: usize,
        /// Where.
        namespace: Namespace,
    },
    /// The history that clients saw is not linearizable.
    #[error("the history of a key is wrong: {0}")]
    History(Anomaly),
    /// After healing something does not work.
    #[error("no progress: {0}")]
    Stuck(Stuck),
    /// A node halted although nothing was wrong with its disk.
    #[error("a node halted: {0}")]
    Halted(HaltText),
    /// The world did too much in no time.
    #[error("{steps} events in one simulated second")]
    Spins {
        /// How many.
        steps: u64,
    },
}

impl Violation {
    /// Whether nothing wrong was seen, but also nothing right.
    pub const fn is_liveness(&self) -> bool {
        matches!(self, Self::Stuck(_) | Self::Spins { .. })
    }
}

/// A hard state, to be shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HardStateText(pub(crate) meshraft_consensus::HardState);

impl fmt::Display for HardStateText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.vote {
            Some(vote) => write!(f, "term {} vote {vote}", self.0.term),
            None => write!(f, "term {} without a vote", self.0.term),
        }
    }
}

/// Why a node halted, to be shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HaltText(pub(crate) meshraft::host::HaltReason);

impl fmt::Display for HaltText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

/// Everything that is checked while a world runs.
#[derive(Debug, Default)]
pub(crate) struct Checks {
    elections: Elections,
    logs: Logs,
    pub(crate) states: States,
    pub(crate) histories: Histories,
    seen: BTreeMap<Seat, BTreeMap<ClusterId, Seen>>,
}

/// What a core said of itself when it was last looked at.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    commit: Index,
    /// The term that it led.
    led: Option<Term>,
}

impl Checks {
    /// A node's process starts on what is on its disk.
    pub(crate) fn started(&mut self, seat: Seat) {
        self.logs.started(seat);
        self.seen.remove(&seat);
        self.states.started(seat);
    }

    /// A node's disk is empty now.
    pub(crate) fn wiped(&mut self, seat: Seat) {
        self.logs.wiped(seat);
    }

    /// A node hands a job to its disk.
    pub(crate) fn submitted(&mut self, seat: Seat, job: &Job) -> Result<(), Violation> {
        self.logs.submitted(seat, job, &self.elections)
    }

    /// Jobs of a node are durable.
    pub(crate) fn durable(&mut self, seat: Seat, jobs: &[Job]) {
        self.logs.durable(seat, jobs);
    }

    /// A core of this node ran in a group; asked before its jobs are looked at.
    pub(crate) fn bind(&mut self, seat: Seat, status: &Status) {
        self.logs.bind(seat, status.me, status.cluster);
    }

    /// What a core says of itself after an event.
    pub(crate) fn observe(
        &mut self,
        seat: Seat,
        namespace: &Namespace,
        status: &Status,
    ) -> Result<(), Violation> {
        let Status { me, cluster, role, term, commit, ref configuration, .. } = *status;
        if role == Role::Leader && self.elections.leads(cluster, term, me)? {
            self.logs.leads(cluster, term, me)?;
        }
        let leads = (role == Role::Leader).then_some(term);
        let seen = self.seen.entry(seat).or_default().entry(cluster).or_default();
        let before = std::mem::replace(seen, Seen { commit, led: leads });
        let from = before.commit;
        if commit < from {
            return Err(Violation::CommitWentBack { member: me, from, to: commit });
        }
        if commit > from {
            self.committed(me, cluster, from, commit, configuration)?;
            if leads.is_some() && leads == before.led {
                self.logs.expect_own_term(me, cluster, commit, term)?;
            }
            if from == Index::ZERO && self.logs.is_founded(cluster) {
                self.states.lives(namespace, cluster)?;
            }
        }
        Ok(())
    }

    fn committed(
        &mut self,
        member: Member,
        cluster: ClusterId,
        from: Index,
        commit: Index,
        configuration: &Configuration,
    ) -> Result<(), Violation> {
        let new = self.logs.committed(member, cluster, from, commit)?;
        // Commitment is prefix-closed: the last new entry speaks for the others.
        match new.last() {
            Some(position) => self.logs.expect_durable(member, cluster, *position, configuration),
            None => Ok(()),
        }
    }
}

/// Names a group of one store.
pub(crate) type GroupKey = (Seat, GroupId);

//! What does not hold: one variant a property.

use std::fmt;

use meshraft_consensus::{
    ClusterId, ClusterVersion, DropReason, Index, Member, Namespace, NodeId, Position, Term,
};

use super::{Anomaly, Miscount, Stuck};

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
    /// A node speaks of a promise that it may forget.
    #[error("node {node} says that it holds {cluster}, and may forget it")]
    PromiseForgotten {
        /// The node.
        node: usize,
        /// The cluster that its founders promised.
        cluster: ClusterId,
    },
    /// A cluster lives that some of its founders never promised.
    #[error("{cluster} lives, which {promised} of {founders} founders promised")]
    FoundedEarly {
        /// The cluster.
        cluster: ClusterId,
        /// How many founders it has.
        founders: usize,
        /// How many of them had promised.
        promised: usize,
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
    /// A node recorded a snapshot that stands for something else than what is committed.
    #[error("the snapshot at {position} that {member} recorded {what}")]
    Snapshot {
        /// The member.
        member: Member,
        /// The snapshot.
        position: Position,
        /// What is wrong with it.
        what: &'static str,
    },
    /// The file of a snapshot holds another state than the machines had at that index.
    #[error("a snapshot of {cluster} at {index} holds another {what} than was applied")]
    SnapshotContent {
        /// The group.
        cluster: ClusterId,
        /// What it stands for.
        index: Index,
        /// What differs.
        what: &'static str,
    },
    /// What a member says of its log is in no order: base, snapshot, applied, commit, last.
    #[error("the log of {member} is in disorder: {what}")]
    Disorder {
        /// The member.
        member: Member,
        /// What passes what.
        what: &'static str,
    },
    /// A member acknowledged what its disk, which was never replaced, does not hold.
    #[error("{member} forgot what it had acknowledged")]
    Forgot {
        /// The member.
        member: Member,
    },
    /// A node that was removed takes part again although nobody told it to.
    #[error("node {node} was removed from {namespace} and takes part again after a restart")]
    CameBack {
        /// Which node.
        node: usize,
        /// Where.
        namespace: Namespace,
    },
    /// Two clusters without a common member live in one namespace.
    #[error("{second} lives in {namespace} beside {first}, without a common founder")]
    Split {
        /// The namespace.
        namespace: Namespace,
        /// The first.
        first: ClusterId,
        /// The other.
        second: ClusterId,
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
    /// A message says of its sender what is not so, or not so for good.
    #[error("{member} says {what}")]
    Claim {
        /// Who says it.
        member: Member,
        /// What, and what is wrong with it.
        what: &'static str,
    },
    /// A hostile actor changed what a member holds, or made it say more than that it is unknown.
    #[error("{member} was moved by {stranger}, which is no member")]
    Moved {
        /// The member.
        member: Member,
        /// The actor.
        stranger: Member,
    },
    /// A member would hear a hostile actor.
    #[error("{member} knows {stranger}, which is no member")]
    KnowsStranger {
        /// The member.
        member: Member,
        /// The actor.
        stranger: Member,
    },
    /// A node told others an address that it has only from hearsay.
    #[error("n{node} tells an address of {of} that it can't know")]
    Hearsay {
        /// The node.
        node: usize,
        /// Whose address.
        of: NodeId,
    },
    /// A member counts by another configuration than the newest one in its log.
    #[error("{member} goes by another configuration than the newest one in its log")]
    NotInForce {
        /// The member.
        member: Member,
    },
    /// A configuration was appended that may not follow on the one before, or not yet.
    #[error("the configuration at {position} that {member} appended {what}")]
    Change {
        /// The leader.
        member: Member,
        /// Where it stands.
        position: Position,
        /// What is wrong with it.
        what: &'static str,
    },
    /// A machine was handed something else than the next committed entry that is on its disk.
    #[error("{member} was handed {position} to apply, which {what}")]
    Applied {
        /// The member.
        member: Member,
        /// The entry.
        position: Position,
        /// What is wrong with it.
        what: &'static str,
    },
    /// A promise of a core was broken.
    #[error("{id}: {what}")]
    Promise {
        /// The proposal, change, transfer or read.
        id: u64,
        /// How.
        what: &'static str,
    },
    /// A read was allowed at an index below what was committed when it began.
    #[error("a read was allowed at {index}, when {committed} had been committed")]
    StaleRead {
        /// Where.
        index: Index,
        /// What it must see.
        committed: Index,
    },
    /// An answer is not what was promised.
    #[error("index {index} of {namespace} {what}")]
    WrongRead {
        /// Where.
        namespace: Namespace,
        /// The index that the answer names.
        index: Index,
        /// What is wrong with it.
        what: &'static str,
    },
    /// A session went back, or did not read its own write.
    #[error(
        "client {client} read revision {found} of a key at {at}, and knew of {known}; it had \
         seen {seen}"
    )]
    SessionWentBack {
        /// Whose session it is.
        client: usize,
        /// What it read.
        found: u64,
        /// What it had read or written.
        known: u64,
        /// What the node had applied that answered.
        at: Index,
        /// The newest entry that the session had seen.
        seen: Index,
    },
    /// A counter does not show what was added.
    #[error("exactly once is broken: {0}")]
    Miscount(Miscount),
    /// A node whose disk failed goes on acknowledging.
    #[error("node {node}, whose disk failed, {what}")]
    AfterFailure {
        /// Which node.
        node: usize,
        /// What it did.
        what: &'static str,
    },
    /// A member keeps more of its log than it may.
    #[error("node {node} keeps {kept} entries of {namespace}, of {most} at most")]
    Unbounded {
        /// Which node.
        node: usize,
        /// Where.
        namespace: Namespace,
        /// How many entries its log holds.
        kept: u64,
        /// How many it may.
        most: u64,
    },
    /// A leader changed its log otherwise than by appending.
    #[error("{member} took entries out of its log while it led term {term}")]
    LeaderTruncated {
        /// The leader.
        member: Member,
        /// The term that it leads.
        term: Term,
    },
    /// A member dropped a message that no correct member sends.
    #[error("{member} had to drop a message of {from}: {reason:?}")]
    Dropped {
        /// Who dropped it.
        member: Member,
        /// Who sent it.
        from: Member,
        /// Why.
        reason: DropReason,
    },
    /// A core's state breaks an invariant of its own, or it panicked otherwise.
    #[error("panicked: {0}")]
    Panicked(String),
    /// After healing, cores alone do not work.
    #[error("no progress: {0}")]
    NoProgress(&'static str),
    /// The history that clients saw is not linearizable.
    #[error("the history of a key is wrong: {0}")]
    History(Anomaly),
    /// After healing something does not work.
    #[error("no progress: {0}")]
    Stuck(Stuck),
    /// A node halted although nothing was wrong with its disk.
    #[error("a node halted: {0}")]
    Halted(HaltText),
    /// Another version of commands is in force, or to come into force, than may be.
    #[error("in {cluster}, version {version} at {index} {what}")]
    Version {
        /// Where.
        cluster: ClusterId,
        /// At which entry.
        index: Index,
        /// Which version.
        version: ClusterVersion,
        /// What is wrong with it.
        what: &'static str,
    },
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
        matches!(self, Self::Stuck(_) | Self::NoProgress(_) | Self::Spins { .. })
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

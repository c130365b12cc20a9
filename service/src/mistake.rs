//! Mistakes of a replica planted on purpose, one at a time, to see that the simulator of whole
//! nodes finds them out: in sessions, reads, answers, and in the node around them.
//!
//! Without the feature `mistakes` this module is not there and `plants!` is `false`, so that
//! nothing of them is left in the code. What is right stands beside each, where it is planted.
//!
//! Which one is planted is known by the thread, not by a value: the nodes of a simulation run in
//! one thread, and no constructor of any crate has to hand through what exists for tests alone.

use std::cell::Cell;

/// One planted mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mistake {
    /// A command that was applied already is applied again.
    RepetitionsApply,
    /// A repetition in the same batch as the first copy is applied again.
    BatchRepetitionsApply,
    /// An acknowledgement forgets one result too many, and that it was ever there.
    ResultDroppedEarly,
    /// A snapshot holds the state of the machine, and not that of the sessions.
    SessionsNotInSnapshot,
    /// A command whose proposer lost its leadership is answered as one that never takes effect.
    UnknownIsRejected,
    /// An answer forgets that an earlier copy may have taken effect.
    UncertaintyForgotten,
    /// A read is served as soon as its index is known, applied or not.
    ServedBeforeApplied,
    /// Who believes to lead reads what it has applied, and asks nobody.
    LeaderReadsAtOnce,
    /// A read of a session is served before what the session has seen is applied.
    SessionsReadAnything,
    /// A group that begins anew goes on from the state of the last one.
    StateOutlivesGroup,
    /// A store that went back in time goes on under the old incarnation.
    IncarnationKept,
    /// What is handed to the store counts as stored.
    StoredAtOnce,
    /// A promise to found counts as stored when it is handed to the store.
    PromisedEarly,
    /// A restart forgets a promise to found.
    PromiseForgotten,
    /// A leader takes one founder more for one that promised than it has heard.
    FoundWithoutOne,
    /// Nobody tells a sleeping group that its leader's node is lost.
    LossUntold,
    /// A snapshot does not say which cluster version is in force.
    VersionNotInSnapshot,
    /// The cluster version is raised to what a majority of the voters supports.
    VersionOfMajority,
    /// The cluster version is raised without asking learners.
    VersionWithoutLearners,
    /// A command is proposed whatever version it needs.
    GateOpen,
    /// A node is admitted whatever version it supports.
    TooOldAdmitted,
}

impl Mistake {
    /// Every mistake.
    pub const ALL: [Self; 21] = [
        Self::RepetitionsApply,
        Self::BatchRepetitionsApply,
        Self::ResultDroppedEarly,
        Self::SessionsNotInSnapshot,
        Self::UnknownIsRejected,
        Self::UncertaintyForgotten,
        Self::ServedBeforeApplied,
        Self::LeaderReadsAtOnce,
        Self::SessionsReadAnything,
        Self::StateOutlivesGroup,
        Self::IncarnationKept,
        Self::StoredAtOnce,
        Self::PromisedEarly,
        Self::PromiseForgotten,
        Self::FoundWithoutOne,
        Self::LossUntold,
        Self::VersionNotInSnapshot,
        Self::VersionOfMajority,
        Self::VersionWithoutLearners,
        Self::GateOpen,
        Self::TooOldAdmitted,
    ];

    /// What it is about.
    pub const fn topic(self) -> &'static str {
        match self {
            Self::RepetitionsApply
            | Self::BatchRepetitionsApply
            | Self::ResultDroppedEarly
            | Self::UnknownIsRejected
            | Self::UncertaintyForgotten => "sessions",
            Self::SessionsNotInSnapshot => "snapshots",
            Self::ServedBeforeApplied | Self::LeaderReadsAtOnce | Self::SessionsReadAnything => {
                "reads"
            }
            Self::IncarnationKept | Self::StateOutlivesGroup => "membership",
            Self::StoredAtOnce => "durability",
            Self::PromisedEarly | Self::PromiseForgotten | Self::FoundWithoutOne => "founding",
            Self::LossUntold => "sleep",
            Self::VersionNotInSnapshot
            | Self::VersionOfMajority
            | Self::VersionWithoutLearners
            | Self::GateOpen
            | Self::TooOldAdmitted => "versions",
        }
    }

    /// Whether nothing is ever wrong with it, only nothing goes on.
    pub const fn stalls(self) -> bool {
        matches!(self, Self::LossUntold)
    }
}

thread_local! {
    static PLANTED: Cell<Option<Mistake>> = const { Cell::new(None) };
}

/// A mistake is planted in this thread as long as this lives.
#[derive(Debug)]
#[must_use]
pub struct Plant(());

/// Plants a mistake in everything that this thread runs.
pub fn plant(mistake: Mistake) -> Plant {
    PLANTED.set(Some(mistake));
    Plant(())
}

/// Whether this mistake is planted.
pub fn is_planted(mistake: Mistake) -> bool {
    PLANTED.get() == Some(mistake)
}

impl Drop for Plant {
    fn drop(&mut self) {
        PLANTED.set(None);
    }
}

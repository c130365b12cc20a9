//! Mistakes planted on purpose: a run that has one must be found out, or the checks see nothing.
//!
//! They are of what surrounds a node, so that the nodes of a plan with a mistake are the real ones.

/// One planted mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mistake {
    /// Disks say that a write is durable as soon as they get it.
    LyingDisk,
    /// Disks say nothing of a commit that failed.
    SwallowedFailure,
    /// Disks forget whom a member voted for.
    ForgottenVotes,
    /// Disks forget the last entry of a log when the process dies.
    ForgottenTail,
    /// Disks say that an installed snapshot is durable as soon as they get the write.
    EarlyInstalls,
    /// Disks write, under the name of a snapshot, the state of the one before.
    OldSnapshots,
    /// A lost disk comes back with the old incarnation, and nothing else.
    KeptIncarnation,
    /// Old copies are put back at any moment, and go on as what they were.
    CarelessCopies,
    /// Clients take what any member has for a linearizable read.
    StaleReads,
    /// Sessions take any answer, however old.
    SessionGoesBack,
    /// Clients repeat a write of unknown outcome in a new session.
    NewSessions,
    /// Clients repeat a write of unknown outcome under the next sequence of their session.
    NextSequences,
    /// Clients write different things under one sequence of their session.
    OneSequence,
    /// Clients take a write of unknown outcome for one that never takes effect.
    MaybeIsNo,
}

impl Mistake {
    /// Every mistake.
    pub const ALL: [Self; 14] = [
        Self::LyingDisk,
        Self::SwallowedFailure,
        Self::ForgottenVotes,
        Self::ForgottenTail,
        Self::EarlyInstalls,
        Self::OldSnapshots,
        Self::KeptIncarnation,
        Self::CarelessCopies,
        Self::StaleReads,
        Self::SessionGoesBack,
        Self::NewSessions,
        Self::NextSequences,
        Self::OneSequence,
        Self::MaybeIsNo,
    ];

    /// What it is about.
    pub const fn topic(self) -> &'static str {
        match self {
            Self::LyingDisk
            | Self::SwallowedFailure
            | Self::ForgottenVotes
            | Self::ForgottenTail => "durability",
            Self::EarlyInstalls | Self::OldSnapshots => "snapshots",
            Self::KeptIncarnation | Self::CarelessCopies => "membership",
            Self::StaleReads => "reads",
            Self::SessionGoesBack
            | Self::NewSessions
            | Self::NextSequences
            | Self::OneSequence
            | Self::MaybeIsNo => "sessions",
        }
    }
}

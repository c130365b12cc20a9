//! What a quorum agrees on: pure functions over the voters of a configuration (thesis 4.3).
//!
//! Invariant: in a joint configuration, a majority of both halves is needed.

mod joint;
mod majority;

#[cfg(test)]
mod naive;

pub(crate) use joint::{agreed, outcome};

/// How a vote stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum VoteOutcome {
    /// A quorum said yes.
    Won,
    /// A quorum can no longer say yes.
    Lost,
    /// Too few have answered.
    Open,
}

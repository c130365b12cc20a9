//! What a configuration agrees on, joint or not.

use super::{VoteOutcome, majority};
use crate::{identity::Member, membership::Configuration};

/// The greatest value that a quorum has reached; `None` without voters.
pub(crate) fn agreed<T: Ord + Copy>(
    configuration: &Configuration,
    value: impl Fn(&Member) -> T,
) -> Option<T> {
    let incoming = majority::agreed(&configuration.voters, &value);
    if !configuration.is_joint() {
        return incoming;
    }
    // Ascending order puts `None`, a half without voters, first.
    incoming.min(majority::agreed(&configuration.outgoing, &value))
}

/// How a vote stands.
pub(crate) fn outcome(
    configuration: &Configuration,
    answer: impl Fn(&Member) -> Option<bool>,
) -> VoteOutcome {
    let incoming = majority::outcome(&configuration.voters, &answer);
    if !configuration.is_joint() {
        return incoming;
    }
    match (incoming, majority::outcome(&configuration.outgoing, &answer)) {
        (VoteOutcome::Lost, _) | (_, VoteOutcome::Lost) => VoteOutcome::Lost,
        (VoteOutcome::Won, VoteOutcome::Won) => VoteOutcome::Won,
        _ => VoteOutcome::Open,
    }
}

//! What a majority of one set of voters agrees on.

use alloc::{collections::BTreeSet, vec::Vec};

use super::VoteOutcome;
use crate::identity::Member;

/// The greatest value that a majority has reached; `None` without voters.
pub(super) fn agreed<T: Ord>(voters: &BTreeSet<Member>, value: impl Fn(&Member) -> T) -> Option<T> {
    let mut values: Vec<T> = voters.iter().map(value).collect();
    values.sort_unstable();
    // In ascending order, the value with a majority at or above it: the 2nd of 3, the 2nd of 4.
    let reached = values.len().checked_sub(1)? / 2;
    values.into_iter().nth(reached)
}

/// How a vote stands; without voters nothing can be won.
pub(super) fn outcome(
    voters: &BTreeSet<Member>,
    answer: impl Fn(&Member) -> Option<bool>,
) -> VoteOutcome {
    let needed = voters.len() / 2 + 1;
    let (mut yes, mut open) = (0, 0);
    for voter in voters {
        match answer(voter) {
            Some(true) => yes += 1,
            Some(false) => {}
            None => open += 1,
        }
    }
    if yes >= needed {
        VoteOutcome::Won
    } else if yes + open >= needed {
        VoteOutcome::Open
    } else {
        VoteOutcome::Lost
    }
}

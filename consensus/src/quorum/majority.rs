//! What a majority of one set of voters agrees on.

use alloc::{collections::BTreeSet, vec::Vec};

use super::VoteOutcome;
use crate::identity::Member;

/// So many voters are counted without asking for memory: this happens at every acknowledgement.
const FEW: usize = 8;

/// The greatest value that a majority has reached; `None` without voters.
pub(super) fn agreed<T: Ord + Copy>(
    voters: &BTreeSet<Member>,
    value: impl Fn(&Member) -> T,
) -> Option<T> {
    if voters.len() > FEW {
        return middle(&mut voters.iter().map(value).collect::<Vec<_>>());
    }
    let mut rest = voters.iter();
    let mut values = [value(rest.next()?); FEW];
    for (place, voter) in values.iter_mut().skip(1).zip(rest) {
        *place = value(voter);
    }
    middle(values.get_mut(..voters.len())?)
}

/// In ascending order, the value with a majority at or above it: the 2nd of 3, the 2nd of 4.
fn middle<T: Ord + Copy>(values: &mut [T]) -> Option<T> {
    values.sort_unstable();
    values.get(values.len().checked_sub(1)? / 2).copied()
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

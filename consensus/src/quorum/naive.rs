//! A second, deliberately naive arithmetic of quorums, and all small clusters compared with it.

use alloc::vec::Vec;

use proptest::prelude::*;

use super::{VoteOutcome, agreed, outcome};
use crate::{
    identity::{Incarnation, Member, NodeId},
    membership::Configuration,
};

const MEMBERS: u8 = 5;

fn member(number: u8) -> Member {
    Member::new(NodeId::new([number; 32]), Incarnation::new([number; 16]))
}

fn number(member: &Member) -> usize {
    usize::from(member.node.as_bytes()[0])
}

fn configuration(voters: u16, outgoing: u16) -> Configuration {
    let chosen = |mask: u16| (0..16).filter(move |bit| mask >> bit & 1 == 1).map(member).collect();
    Configuration { voters: chosen(voters), outgoing: chosen(outgoing), learners: [].into() }
}

/// Whether those in `yes` are a quorum, counted by hand.
fn is_quorum(configuration: &Configuration, yes: impl Fn(&Member) -> bool) -> bool {
    let half = |members: &alloc::collections::BTreeSet<Member>| {
        members.iter().filter(|member| yes(member)).count() * 2 > members.len()
    };
    half(&configuration.voters)
        && (configuration.outgoing.is_empty() || half(&configuration.outgoing))
}

fn naive_agreed(configuration: &Configuration, values: &[u64]) -> Option<u64> {
    let value = |member: &Member| values[number(member)];
    let candidates: Vec<u64> = values.to_vec();
    candidates
        .into_iter()
        .filter(|candidate| is_quorum(configuration, |member| value(member) >= *candidate))
        .max()
}

fn naive_outcome(configuration: &Configuration, answers: &[Option<bool>]) -> VoteOutcome {
    let answer = |member: &Member| answers[number(member)];
    if is_quorum(configuration, |member| answer(member) == Some(true)) {
        VoteOutcome::Won
    } else if is_quorum(configuration, |member| answer(member) != Some(false)) {
        VoteOutcome::Open
    } else {
        VoteOutcome::Lost
    }
}

/// Compares every vote of `members` in a configuration; says how many there are.
fn compare_votes(configuration: &Configuration, members: u32) -> u32 {
    let ballots = 3_u32.pow(members);
    for ballot in 0..ballots {
        let answer =
            |voter| [None, Some(true), Some(false)][(ballot / 3_u32.pow(voter) % 3) as usize];
        let answers: Vec<Option<bool>> = (0..members).map(answer).collect();
        let counted = outcome(configuration, |member| answers[number(member)]);
        assert_eq!(counted, naive_outcome(configuration, &answers));
    }
    ballots
}

#[test]
fn every_vote_in_every_small_joint_cluster_is_counted_as_by_hand() {
    let everyone = 1 << MEMBERS;
    let pairs = (1..everyone).flat_map(|v| (0..everyone).map(move |o| (v, o)));
    let cases: u32 = pairs
        .map(|(voters, outgoing)| compare_votes(&configuration(voters, outgoing), MEMBERS.into()))
        .sum();
    assert_eq!(cases, 31 * 32 * 243);
}

#[test]
fn every_vote_of_one_to_seven_voters_is_counted_as_by_hand() {
    for voters in 1..=7 {
        let configuration = configuration((1 << voters) - 1, 0);
        assert_eq!(compare_votes(&configuration, voters), 3_u32.pow(voters));
    }
}

#[test]
fn what_one_to_seven_voters_agree_on_is_counted_by_hand() {
    for voters in 1..=7_u32 {
        let configuration = configuration((1 << voters) - 1, 0);
        for case in 0..4_u64.pow(voters) {
            let values: Vec<u64> = (0..voters).map(|voter| case / 4_u64.pow(voter) % 4).collect();
            let reached = agreed(&configuration, |member| values[number(member)]);
            assert_eq!(reached, naive_agreed(&configuration, &values));
        }
    }
}

#[test]
fn two_quorums_of_any_small_configuration_overlap() {
    let everyone = 1 << MEMBERS;
    for (voters, outgoing) in (1..everyone).flat_map(|v| (0..everyone).map(move |o| (v, o))) {
        let configuration = configuration(voters, outgoing);
        for yes in 0..everyone {
            let said = |mask: u16| move |member: &Member| Some(mask >> number(member) & 1 == 1);
            let one = outcome(&configuration, said(yes));
            let rest = outcome(&configuration, said(!yes));
            assert!(one != VoteOutcome::Won || rest != VoteOutcome::Won);
        }
    }
}

#[test]
fn without_voters_nothing_is_agreed() {
    let nobody = Configuration::default();
    assert_eq!(agreed(&nobody, |_| 7), None);
    assert_eq!(outcome(&nobody, |_| Some(true)), VoteOutcome::Lost);
}

proptest! {
    #[test]
    fn what_is_agreed_is_what_is_counted_by_hand(
        voters in 1_u16.., outgoing in 0_u16.., values in prop::collection::vec(0_u64..9, 16),
    ) {
        let configuration = configuration(voters, outgoing);
        let reached = agreed(&configuration, |member| values[number(member)]);
        prop_assert_eq!(reached, naive_agreed(&configuration, &values));
    }

    #[test]
    fn swapping_the_halves_of_a_joint_configuration_changes_nothing(
        voters in 1_u16.., outgoing in 1_u16.., values in prop::collection::vec(0_u64..9, 16),
    ) {
        let value = |member: &Member| values[number(member)];
        let (one, two) = (configuration(voters, outgoing), configuration(outgoing, voters));
        prop_assert_eq!(agreed(&one, value), agreed(&two, value));
    }
}

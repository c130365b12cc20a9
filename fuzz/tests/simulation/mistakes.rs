//! Does the alarm work: planted mistakes of cores and nodes are found, and shrunk to a few steps.

use meshraft_fuzz::{
    alarm::{Compiled, Planted, Simulator},
    cores::{CorePlan, shrink},
};

/// Mistakes that show themselves once in some hundred seeds; the program looks for all.
const SHY: [&str; 25] = [
    "CommittedBySlot",
    "NumbersBeginAnew",
    "DamagedVotes",
    "RepairedEarly",
    "SoundNotReread",
    "AnchorIgnored",
    "SnapshotOverAnything",
    "SleepsOverAnyLog",
    "SleeperReads",
    "OldVotesCount",
    "OldAcknowledgementsCount",
    "StaleRequestsCount",
    "ForgetfulCount",
    "ConfigurationNotRolledBack",
    "ContradictionKept",
    "LeaseNeverEnds",
    "LeaseFromAnswers",
    "LeaderNotHeard",
    "OwnVoteFree",
    "WordForgotten",
    "StaleRoundsCount",
    "StateOutlivesGroup",
    "IncarnationKept",
    "PromiseForgotten",
    "FoundWithoutOne",
];

#[test]
fn shy_mistakes_exist() {
    let exists = |name: &&&str| Compiled::ALL.iter().any(|mistake| mistake.name == **name);
    let unknown: Vec<&&str> = SHY.iter().filter(|name| !exists(name)).collect();
    assert!(unknown.is_empty(), "no mistakes: {unknown:?}");
}

#[test]
fn mistakes_of_cores_are_found() {
    expect_found(Simulator::Cores, 600);
}

#[test]
fn mistakes_of_nodes_are_found() {
    expect_found(Simulator::Nodes, 100);
}

fn expect_found(simulator: Simulator, seeds_max: u64) {
    let looked_for =
        |mistake: &&Compiled| mistake.simulator == simulator && !SHY.contains(&mistake.name);
    let planted: Vec<Planted> =
        Compiled::ALL.iter().filter(looked_for).map(Planted::Inside).collect();
    assert!(!planted.is_empty(), "the planter's copy has mistakes");
    std::panic::set_hook(Box::new(|_| {}));
    let missed: Vec<Planted> = planted
        .into_iter()
        .filter(|mistake| mistake.find(0, |seeds| seeds < seeds_max).is_none())
        .collect();
    let _ = std::panic::take_hook();
    assert!(missed.is_empty(), "not found: {missed:?}");
}

/// Half of the voters commit an entry: what is left of the run says how that came.
#[test]
fn a_failure_is_shrunk_to_what_matters() {
    let mut named = Compiled::ALL.iter().filter(|mistake| mistake.name == "HalfCommits");
    let mistake = named.next().expect("it is planted");
    let found = Planted::Inside(mistake).find(0, |seeds| seeds < 1000).expect("it is found");
    let _on = mistake.switch_on();
    let shrunk = shrink(&CorePlan::of_seed(found.seed)).expect("it can be replayed");
    assert!(shrunk.len() <= 120 && shrunk.len() < shrunk.before, "{shrunk}");
    assert_eq!(
        std::mem::discriminant(&shrunk.violation),
        std::mem::discriminant(&found.violation),
        "it still fails in the same way"
    );
}

//! Does the alarm work: planted mistakes of cores and nodes are found, and shrunk to a few steps.

use meshraft_consensus::Mistake;
use meshraft_fuzz::{
    alarm::Planted,
    cores::{CorePlan, shrink},
};
use meshraft_service::mistake::Mistake as OfNodes;

/// Mistakes of cores that show themselves once in some hundred seeds; the program looks for all.
const SHY: [Mistake; 21] = [
    Mistake::CommittedBySlot,
    Mistake::NumbersBeginAnew,
    Mistake::DamagedVotes,
    Mistake::RepairedEarly,
    Mistake::SoundNotReread,
    Mistake::AnchorIgnored,
    Mistake::SnapshotOverAnything,
    Mistake::SleepsOverAnyLog,
    Mistake::SleeperReads,
    Mistake::OldVotesCount,
    Mistake::OldAcknowledgementsCount,
    Mistake::StaleRequestsCount,
    Mistake::ForgetfulCount,
    Mistake::ConfigurationNotRolledBack,
    Mistake::ContradictionKept,
    Mistake::LeaseNeverEnds,
    Mistake::LeaseFromAnswers,
    Mistake::LeaderNotHeard,
    Mistake::OwnVoteFree,
    Mistake::WordForgotten,
    Mistake::StaleRoundsCount,
];

/// Mistakes of nodes that do.
const SHY_OF_NODES: [OfNodes; 4] = [
    OfNodes::StateOutlivesGroup,
    OfNodes::IncarnationKept,
    OfNodes::PromiseForgotten,
    OfNodes::FoundWithoutOne,
];

#[test]
fn mistakes_of_cores_are_found() {
    let cores = Mistake::ALL.iter().filter(|mistake| !SHY.contains(mistake));
    expect_found(cores.map(|mistake| Planted::Core(*mistake)), 600);
}

#[test]
fn mistakes_of_nodes_are_found() {
    let nodes = OfNodes::ALL.into_iter().filter(|mistake| !SHY_OF_NODES.contains(mistake));
    expect_found(nodes.map(Planted::Node), 100);
}

fn expect_found(planted: impl Iterator<Item = Planted>, seeds_max: u64) {
    std::panic::set_hook(Box::new(|_| {}));
    let missed: Vec<Planted> =
        planted.filter(|mistake| mistake.find(0, |seeds| seeds < seeds_max).is_none()).collect();
    let _ = std::panic::take_hook();
    assert!(missed.is_empty(), "not found: {missed:?}");
}

/// Half of the voters commit an entry: what is left of the run says how that came.
#[test]
fn a_failure_is_shrunk_to_what_matters() {
    let planted = Planted::Core(Mistake::HalfCommits);
    let found = planted.find(0, |seeds| seeds < 1000).expect("it is found");
    let mut plan = CorePlan::of_seed(found.seed);
    plan.knobs.mistake = Some(Mistake::HalfCommits);
    let shrunk = shrink(&plan).expect("it can be replayed");
    assert!(shrunk.len() <= 120 && shrunk.len() < shrunk.before, "{shrunk}");
    assert_eq!(
        std::mem::discriminant(&shrunk.violation),
        std::mem::discriminant(&found.violation),
        "it still fails in the same way"
    );
}

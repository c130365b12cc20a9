//! Does the alarm work: planted mistakes of cores are found, and shrunk to a few steps.

use meshraft_consensus::Mistake;
use meshraft_fuzz::{
    alarm::Planted,
    cores::{CorePlan, shrink},
};

/// Mistakes that show themselves once in some hundred seeds or less; the program looks for all.
const SHY: [Mistake; 10] = [
    Mistake::VoteForLongerLog,
    Mistake::RepeatedVotesCount,
    Mistake::OldVotesCount,
    Mistake::LeadsOnInHigherTerm,
    Mistake::OldAcknowledgementsCount,
    Mistake::ForgetfulCount,
    Mistake::ConfigurationNotRolledBack,
    Mistake::ContradictionKept,
    Mistake::LeaseNeverEnds,
    Mistake::LeaderNotHeard,
];

#[test]
fn mistakes_of_cores_are_found() {
    std::panic::set_hook(Box::new(|_| {}));
    let mut missed = Vec::new();
    for mistake in Mistake::ALL.iter().filter(|mistake| !SHY.contains(mistake)) {
        let found = Planted::Core(*mistake).find(0, |seeds| seeds < 600);
        if found.is_none() {
            missed.push(mistake);
        }
    }
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

//! Seeds of whole nodes.

use std::time::Duration;

use meshraft_fuzz::{
    Counts, Fault, Faults, Founding, Lie, LieCounts, Mistake, Plan, Rare, StruckCounts,
    faults::percent, shrink_plan, simulate,
};

/// Runs a plan and panics with what replays a failure.
fn expect_clean(plan: &Plan) -> meshraft_fuzz::Report {
    simulate(plan).unwrap_or_else(|failure| {
        panic!(
            "{failure}\nreplay: cargo run -p meshraft-fuzz --bin seeds -- --seed {} --trace",
            plan.seed
        )
    })
}

/// What a hundred seeds need not show, although thousands do.
const SELDOM: [Rare; 5] =
    [Rare::Split, Rare::ConflictReplaced, Rare::Amnesia, Rare::Renewed, Rare::FetchFailed];

#[test]
fn a_hundred_seeds_are_clean() {
    let (mut crashes, mut counts, mut struck) = (0, Counts::default(), StruckCounts::default());
    let mut lies = LieCounts::default();
    for seed in 0..100 {
        let report = expect_clean(&Plan::of_seed(seed));
        crashes += report.crashes;
        counts.add(&report.counts);
        struck.add(&report.struck);
        lies.add(&report.lies);
        assert!(report.simulated >= Plan::WHOLE_MIN, "seed {seed} took {:?}", report.simulated);
    }
    assert!(crashes > 100, "{crashes} crashes in a hundred runs test little");
    for what in Rare::ALL.iter().filter(|what| !SELDOM.contains(what)) {
        assert!(counts.of(*what) > 0, "not one of: {}", what.name());
    }
    for lie in Lie::ALL.iter().filter(|lie| **lie != Lie::Believed) {
        assert!(lies.of(*lie) > 0, "no hostile actor did: {}", lie.name());
    }
    assert_eq!(lies.of(Lie::Believed), 0, "that is measured by a profile of its own");
    // Clocks drift from the beginning.
    for fault in Fault::ALL.iter().filter(|fault| **fault != Fault::Drift) {
        assert!(struck.of(*fault) > 0, "never struck: {}", fault.name());
    }
}

#[test]
fn the_same_seed_is_the_same_run() {
    for seed in [3, 1_000_003, u64::MAX] {
        let plan = Plan::of_seed(seed);
        assert_eq!(expect_clean(&plan), expect_clean(&plan), "seed {seed}");
    }
    let [one, other] = [3, 4].map(|seed| expect_clean(&Plan::of_seed(seed)).trace);
    assert_ne!(one, other, "two seeds are two runs");
}

#[test]
fn founding_survives_crashes_and_loss_from_the_first_moment() {
    let faults = Faults {
        loss: percent(25),
        duplicate: percent(10),
        reorder: percent(20),
        crash: percent(15),
        stall: percent(5),
        partition: percent(5),
        ..Faults::NONE
    };
    for seed in 0..30 {
        let stormy = Duration::from_secs(10);
        expect_clean(&Plan { faults, stormy, ..Plan::of_seed(seed) });
    }
}

/// What a peer is told of others may be lost on a connection that then lasts: it is told again.
#[test]
fn nodes_find_each_other_although_most_words_are_lost() {
    let faults = Faults { loss: percent(70), ..Faults::NONE };
    for seed in 0..30 {
        let stormy = Duration::from_secs(5);
        let (founders, founding, quiet) = (5, Founding::Expect(5), Duration::ZERO);
        let plan = Plan { founders, founding, quiet, faults, stormy, ..Plan::of_seed(seed) };
        expect_clean(&plan);
    }
}

#[test]
fn a_world_without_faults_answers_everything() {
    let plan = Plan {
        founders: 3,
        founding: Founding::Expect(3),
        quiet: Duration::ZERO,
        joiners: 0,
        namespaces: 1,
        clients: 4,
        faults: Faults::NONE,
        ..Plan::of_seed(7)
    };
    let report = expect_clean(&plan);
    assert!(report.commands > 300, "only {} commands", report.commands);
    assert!(report.crashes <= 1, "but for a leader's at the end");
}

/// What is left of a failing run says how it came: a disk that acknowledges too early, and the
/// crash that finds it out.
#[test]
fn a_failure_of_nodes_is_shrunk_to_what_matters() {
    let plans = (0..50).map(|seed| Plan {
        mistake: Some(Mistake::ForgottenTail),
        faults: Faults { crash: percent(6), loss: percent(2), cut: percent(4), ..Faults::NONE },
        stormy: Duration::from_secs(8),
        ..Plan::of_seed(seed)
    });
    let shrunk = plans.into_iter().find_map(|plan| shrink_plan(&plan)).expect("one fails");
    assert!(!shrunk.violation.is_liveness(), "{shrunk}");
    assert!(shrunk.story.len() <= 8 && shrunk.story.len() < shrunk.before, "{shrunk}");
    let crash = shrunk.story.iter().any(|struck| struck.strike.fault == Fault::Crash);
    assert!(crash, "nothing is forgotten without a crash: {shrunk}");
    let again = simulate(&shrunk.plan).expect_err("it replays");
    assert_eq!(*again.violation, shrunk.violation, "{shrunk}");
}

/// A check that never fails proves nothing: each mistake must be found as what it is, an error of
/// safety, within a few seeds.
#[test]
fn planted_mistakes_are_found() {
    for mistake in Mistake::ALL {
        let found = (0..300).find_map(|seed| {
            let plan = Plan { mistake: Some(mistake), ..Plan::of_seed(seed) };
            let failure = std::panic::catch_unwind(|| simulate(&plan)).map_or(None, Result::err)?;
            (!failure.violation.is_liveness()).then_some(failure)
        });
        let found = found.unwrap_or_else(|| panic!("{mistake:?} was not found in 300 seeds"));
        println!("{mistake:?} is found by {found}");
    }
}

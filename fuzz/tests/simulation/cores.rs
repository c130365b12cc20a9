//! Seeds of cores alone.

use std::time::Duration;

use meshraft_fuzz::{
    cores::{CoreCounts, CoreFaults, CorePlan, CoreRare, CoreReport, shrink, simulate_cores},
    faults::percent,
};

/// How many seeds; `SEEDS` asks for more.
fn seeds() -> u64 {
    std::env::var("SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(1000)
}

/// Runs a plan and panics with what replays a failure.
fn expect_clean(plan: &CorePlan) -> CoreReport {
    simulate_cores(plan).unwrap_or_else(|failure| {
        panic!(
            "{failure}\nreplay: cargo run -p meshraft-fuzz --bin seeds -- --profile core --seed {} \
             --trace (or --shrink)",
            plan.seed
        )
    })
}

#[test]
fn a_thousand_seeds_are_clean() {
    let mut counts = CoreCounts::default();
    for seed in 0..seeds() {
        let report = expect_clean(&CorePlan::of_seed(seed));
        assert!(report.simulated >= Duration::from_secs(5));
        counts.add(&report.counts);
    }
    assert_eq!(counts.of(CoreRare::LiedTo), 0, "removed members lie only where that is measured");
    for what in CoreRare::ALL.iter().filter(|what| **what != CoreRare::LiedTo) {
        assert!(counts.of(*what) > 0, "not one of: {}", what.name());
    }
}

#[test]
fn removed_members_lie_where_that_is_measured() {
    let lies = |seed| {
        let plan = CorePlan { lies: true, ..CorePlan::of_seed(seed) };
        simulate_cores(&plan).map_or(0, |report| report.counts.of(CoreRare::LiedTo))
    };
    assert!((0..400).map(lies).sum::<u64>() > 0);
}

#[test]
fn the_same_seed_is_the_same_run() {
    for seed in 0..50 {
        let plan = CorePlan::of_seed(seed);
        assert_eq!(expect_clean(&plan), expect_clean(&plan), "seed {seed}");
    }
    let [one, other] = [3, 4].map(|seed| expect_clean(&CorePlan::of_seed(seed)).trace);
    assert_ne!(one, other, "two seeds are two runs");
}

#[test]
fn a_quiet_cluster_keeps_its_leader() {
    for seed in 0..20 {
        let faults = CoreFaults::NONE;
        let latency_max = Duration::from_millis(4);
        let plan =
            CorePlan { faults, latency_max, founders: 5, joiners: 0, ..CorePlan::of_seed(seed) };
        let report = expect_clean(&plan);
        assert_eq!(report.counts.of(CoreRare::Leader), 1, "seed {seed}");
        assert!(report.committed > 15, "seed {seed}: only {} committed", report.committed);
    }
}

#[test]
fn members_come_and_go_under_crashes_and_cuts() {
    let faults = CoreFaults {
        churn: percent(30),
        crash: percent(15),
        cut: percent(15),
        wipe: percent(2),
        transfer: percent(5),
        batch: percent(30),
        ..CoreFaults::NONE
    };
    let mut counts = CoreCounts::default();
    for seed in 0..100 {
        let plan = CorePlan { faults, founders: 3, joiners: 3, ..CorePlan::of_seed(seed) };
        counts.add(&expect_clean(&plan).counts);
    }
    assert!(counts.of(CoreRare::JointCommit) > 500, "{counts}");
}

#[test]
fn what_does_not_fail_is_not_shrunk() {
    assert!(shrink(&CorePlan::of_seed(1)).is_none());
}

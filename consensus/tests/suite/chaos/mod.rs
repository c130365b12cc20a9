//! Random histories: messages lost, repeated and reordered, links cut, disks stalled, members
//! crashed and restarted, added and removed; then the faults stop and progress is demanded.
//!
//! `SEED=7 cargo test -p meshraft-consensus chaos` replays one history; `SEEDS=1000` runs more.

mod clients;
mod world;

use meshraft_consensus::{Core, Outcome};

use self::world::{Tally, World};

fn run(seed: u64) -> Tally {
    let mut world = World::new(seed);
    for _ in 0..1500 {
        world.step();
    }
    let agreed = world.heal();
    let states: Vec<String> = world
        .cluster
        .nodes
        .values()
        .filter_map(|node| node.core.as_ref())
        .map(crate::text::status)
        .collect();
    assert!(agreed, "no agreement after the faults stopped:\n{}", states.join("\n"));
    // A transfer that was lost is known to be after two election time-outs.
    world.cluster.run_ms(1000);
    world.look();
    world.check_outcomes();
    let abandoned = world.founding && world.cluster.core(1).status().founding;
    if !abandoned {
        assert!(world.clients.reads.len() <= 40, "reads are answered");
    }
    assert!(world.clients.transfers.is_empty(), "each transfer is resolved");
    let resolved = world.clients.resolved.values();
    let committed = resolved.filter(|one| matches!(one, Outcome::Committed(_))).count();
    let terms = world.cluster.nodes.values().map(|node| node.disk.hard.term.get()).max();
    Tally { committed, terms: terms.unwrap_or_default(), ..world.tally }
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

#[test]
fn histories_stay_safe_under_faults_and_converge_after_them() {
    let seeds = match number("SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("SEEDS").unwrap_or(150),
    };
    let mut sum = Tally::default();
    for seed in seeds.clone() {
        let outcome = std::panic::catch_unwind(|| run(seed));
        let one = outcome.unwrap_or_else(|_| panic!("replay with SEED={seed}"));
        sum.committed += one.committed;
        sum.terms += one.terms;
        sum.snapshots += one.snapshots;
        sum.installs += one.installs;
        sum.departures += one.departures;
        sum.readmissions += one.readmissions;
        sum.transfers += one.transfers;
        sum.leases += one.leases;
    }
    println!("{sum:?}");
    let histories = (seeds.end - seeds.start) as usize;
    if histories >= 50 {
        assert!(sum.committed > histories * 10, "few proposals committed: {sum:?}");
        assert!(sum.snapshots > histories, "few snapshots taken: {sum:?}");
        assert!(sum.installs > histories / 2, "few snapshots installed: {sum:?}");
        assert!(sum.departures > histories / 8, "few departures: {sum:?}");
        assert!(sum.leases > histories * 50, "few leases: {sum:?}");
        assert!(sum.transfers > histories / 8, "few transfers: {sum:?}");
        assert!(sum.readmissions > 0, "nobody came back: {sum:?}");
    }
}

#[test]
fn the_same_seed_gives_the_same_state_twice() {
    let state = |seed| {
        let mut world = World::new(seed);
        (0..800).for_each(|_| world.step());
        let cores: Vec<Option<Core>> =
            world.cluster.nodes.into_values().map(|node| node.core).collect();
        cores
    };
    for seed in 0..10 {
        assert_eq!(state(seed), state(seed), "seed {seed}");
    }
}

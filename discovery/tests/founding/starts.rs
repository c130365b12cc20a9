//! How clusters start in the wild: split, staggered, lossy, next to the remains of an old one.

use crate::{
    dice::{Faults, Random},
    world::World,
};

/// Every way to split two to six machines at the start, with the smallest majority expected: never
/// two clusters, and one of all when the split heals.
#[test]
fn no_split_at_the_start_founds_twice() {
    for machines in 2..=6_u16 {
        let expects = vec![machines / 2 + 1; usize::from(machines)];
        for split in 0..1_u64 << (machines - 1) {
            let mut world = World::new(split, &expects);
            let ids = world.ids();
            for (a, left) in ids.iter().enumerate() {
                for (b, right) in ids.iter().enumerate().skip(a + 1) {
                    if (split >> a) & 1 != (split >> b) & 1 {
                        world.cuts.insert((*left, *right));
                    }
                }
            }
            ids.iter().for_each(|id| world.start(*id));
            world.run(10_000, |_| false);
            let side = u16::try_from(split.count_ones()).unwrap();
            let largest = side.max(machines - side);
            let expected = usize::from(largest > machines / 2);
            assert_eq!(world.living().len(), expected, "{machines} machines split as {split:b}");
            world.cuts.clear();
            assert!(world.run(30_000, World::all_members), "{machines} split as {split:b}");
            assert_eq!(world.living().len(), 1, "{machines} machines split as {split:b}");
        }
    }
}

/// Five that expect three, started at random within half a minute, every fifth message lost.
#[test]
fn staggered_starts_under_loss_make_one_cluster() {
    for seed in 0..200 {
        let mut dice = Random(seed ^ 0xd1ce);
        let mut world = World::new(seed, &[3; 5]);
        world.keyed = seed.is_multiple_of(2);
        world.faults = Faults { loss: 20, delay_ms: 20, ..Faults::NONE };
        let mut starts: Vec<_> =
            world.ids().into_iter().map(|id| (dice.below(30_000), id)).collect();
        starts.sort_unstable();
        let mut before = 0;
        for (at, id) in starts {
            world.run(at - before, |_| false);
            world.start(id);
            before = at;
        }
        assert!(world.run(15_000, World::all_members), "seed {seed}: not all are members");
        assert_eq!(world.living().len(), 1, "seed {seed}");
    }
}

/// Two of three lose their disks: the fresh ones neither found anew nor count the survivor in.
#[test]
fn fresh_nodes_next_to_old_state_do_not_found() {
    for seed in 0..50 {
        let mut world = World::new(seed, &[3; 3]);
        world.keyed = seed.is_multiple_of(2);
        let ids = world.ids();
        ids.iter().for_each(|id| world.start(*id));
        assert!(world.run(5_000, World::all_members), "seed {seed}");
        world.wipe(ids[0]);
        world.wipe(ids[1]);
        // They may even meet before they meet the survivor.
        world.cuts.extend([(ids[0], ids[2]), (ids[1], ids[2])]);
        world.start(ids[0]);
        world.start(ids[1]);
        world.run(5_000, |_| false);
        world.cuts.clear();
        world.run(60_000, |_| false);
        assert_eq!(world.living().len(), 1, "seed {seed}: founded next to old state");
        for id in &ids[..2] {
            let record = world.nodes[id].disk.record();
            assert_eq!((record.cluster, record.promise), (None, None), "seed {seed}");
        }
    }
}

/// A restart of all with a cluster on record founds nothing: there is no way to it.
#[test]
fn a_restart_with_state_never_founds() {
    let mut world = World::new(1, &[2; 3]);
    let ids = world.ids();
    ids.iter().for_each(|id| world.start(*id));
    assert!(world.run(5_000, World::all_members));
    world.run(1_000, |_| false);
    for _ in 0..5 {
        ids.iter().for_each(|id| world.crash(*id));
        ids.iter().for_each(|id| world.start(*id));
        assert!(world.run(0, World::all_members), "a member is one at once");
        world.run(3_000, |_| false);
    }
    assert_eq!(world.checks.sets.len(), 1);
    assert_eq!(world.living().len(), 1);
}

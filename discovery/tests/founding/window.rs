//! Founding without an expected number, in every pattern in which machines come up: one cluster.

use meshraft_consensus::NodeId;

use crate::{
    dice::{Faults, Random},
    world::World,
};

/// As in `World::start`.
const WINDOW_MS: u64 = 1000;

/// When each node starts, and from when on each pair of them can meet.
struct Pattern {
    starts: Vec<u64>,
    meets: Vec<(usize, usize, u64)>,
}

/// A world whose first node was given no peer, the others the first one's address.
fn world(seed: u64, nodes: usize) -> World {
    let mut world = World::new(seed, &vec![0; nodes]);
    let mut dice = Random(seed ^ 0x1055);
    world.keyed = seed.is_multiple_of(2);
    world.faults = Faults {
        loss: dice.below(4) * 10,
        duplicate: dice.below(3) * 20,
        late: dice.below(2) * 5,
        delay_ms: [2, 20, 150][dice.below(3) as usize],
        disk_ms: [1, 10, 100][dice.below(3) as usize],
    };
    // Which of them has the lowest id must not matter.
    let first = world.ids()[dice.below(nodes as u64) as usize];
    world.nodes.get_mut(&first).unwrap().targets = 0;
    world
}

/// The nodes, the one without a given peer first.
fn order(world: &World) -> Vec<NodeId> {
    let mut ids = world.ids();
    ids.sort_by_key(|id| world.nodes[id].targets);
    ids
}

/// A pattern by name, for so many nodes, drawn with these dice.
type Named = (&'static str, usize, fn(&mut Random) -> Pattern);

const PATTERNS: [Named; 8] = [
    ("three at once", 3, |_| Pattern { starts: vec![0; 3], meets: vec![] }),
    ("three up to a window apart", 3, |dice| {
        let starts = (0..3).map(|_| dice.below(WINDOW_MS)).collect();
        Pattern { starts, meets: vec![] }
    }),
    ("the third much later", 3, |dice| {
        let third = 12 * WINDOW_MS + dice.below(WINDOW_MS);
        Pattern { starts: vec![0, dice.below(WINDOW_MS), third], meets: vec![] }
    }),
    ("the first two far apart", 3, |dice| {
        let second = 3 * WINDOW_MS + dice.below(9 * WINDOW_MS);
        Pattern { starts: vec![0, second, second + dice.below(WINDOW_MS)], meets: vec![] }
    }),
    ("two that meet at the last moment", 2, |dice| {
        let apart = dice.below(WINDOW_MS / 5);
        let meeting = WINDOW_MS / 2 + dice.below(WINDOW_MS / 2) - apart;
        Pattern { starts: vec![0, apart], meets: vec![(0, 1, meeting)] }
    }),
    // The one whose address the others were given comes last, and they meet through it.
    ("the known one comes last", 3, |dice| {
        let first = 5 * WINDOW_MS + dice.below(30 * WINDOW_MS);
        let meets = vec![(1, 2, first + dice.below(WINDOW_MS))];
        Pattern { starts: vec![first, 0, dice.below(WINDOW_MS)], meets }
    }),
    ("five that were given one address", 5, |dice| through_the_first(5, dice)),
    ("eight that were given one address", 8, |dice| through_the_first(8, dice)),
];

/// All start within a window, and the others meet each other through the first one, so after it is
/// up; sooner or later.
fn through_the_first(nodes: usize, dice: &mut Random) -> Pattern {
    let starts: Vec<_> = (0..nodes).map(|_| dice.below(WINDOW_MS)).collect();
    let pairs = (1..nodes).flat_map(|a| (a + 1..nodes).map(move |b| (a, b)));
    let meets = pairs.map(|(a, b)| {
        let both = starts[0].max(starts[a]).max(starts[b]);
        (a, b, both + 200 + dice.below(3 * WINDOW_MS))
    });
    let meets = meets.collect();
    Pattern { starts, meets }
}

fn ends_in_one_cluster(seed: u64, (name, nodes, pattern): Named) {
    let mut world = world(seed, nodes);
    // Founders that are cut off at the target may leave out the one that connects two groups.
    world.voters_target = nodes;
    let ids = order(&world);
    let pattern = pattern(&mut Random(seed ^ 0xfeed));
    let pair = |a: usize, b: usize| (ids[a].min(ids[b]), ids[a].max(ids[b]));
    let mut steps: Vec<_> =
        pattern.meets.iter().map(|(a, b, at)| (*at, Some(pair(*a, *b)), None)).collect();
    world.cuts.extend(pattern.meets.iter().map(|(a, b, _)| pair(*a, *b)));
    steps.extend(pattern.starts.iter().zip(&ids).map(|(at, id)| (*at, None, Some(*id))));
    steps.sort_unstable();
    let mut before = 0;
    for (at, meet, start) in steps {
        world.run(at - before, |_| false);
        before = at;
        if let Some(pair) = meet {
            world.cuts.remove(&pair);
        }
        start.into_iter().for_each(|id| world.start(id));
    }
    let done = world.run(90 * WINDOW_MS, World::all_members);
    let living = world.living().len();
    assert_eq!((done, living), (true, 1), "{name}: replay with SEED={seed}");
}

/// `SEEDS=n` tries as many seeds, `SEED=n` one: see docs/testing.md.
#[test]
fn every_pattern_of_starts_ends_in_one_cluster() {
    let number = |name| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let seeds = 0..number("SEEDS").unwrap_or(100);
    for seed in number("SEED").map_or(seeds, |seed| seed..seed + 1) {
        PATTERNS.into_iter().for_each(|pattern| ends_in_one_cluster(seed, pattern));
    }
}

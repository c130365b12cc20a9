//! One peer of an open world that says what it likes: what it may say, and what must hold.
//!
//! The liar has one identity and never acts in a group. The honest nodes must found without it, and
//! all of them must come to be in a cluster, within a stated time and wherever its id stands.

use std::collections::{BTreeMap, BTreeSet};

use core::num::NonZeroU16;
use meshraft_consensus::{ClusterId, Incarnation, Index, Member, NodeId};
use meshraft_discovery::{
    Ballot, FounderSet,
    wire::{Binding, Message, NotAdmitted, Refusal, Standing},
};

use crate::{
    dice::{Faults, Random},
    world::World,
};

/// How a liar lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lies {
    /// It is free, whoever asks, and never answers a proposal.
    NeverPromises,
    /// It is free, whoever asks, and refuses every proposal.
    AlwaysRefuses,
    /// It lives in a cluster that nobody knows, and says so to everybody who asks.
    Living,
    /// The same, and it says to all who ask for it that they were admitted.
    Admitting,
    /// Anything, at any time, to anybody.
    Anything,
}

/// What the liar knows when it makes something up.
pub(crate) struct Hearsay<'a> {
    pub(crate) me: Member,
    pub(crate) to: Member,
    pub(crate) members: Vec<Member>,
    pub(crate) sets: Vec<&'a FounderSet>,
}

const INVENTED: ClusterId = ClusterId::new([0xEE; 32]);

fn standing(binding: Binding) -> Message {
    let expect = NonZeroU16::new(3);
    Message::CanvassAnswer(Standing { seen: Ballot::NONE, expect, binding })
}

impl Lies {
    /// What it answers to a message.
    pub(crate) fn answer(
        self,
        dice: &mut Random,
        heard: &Message,
        hearsay: &Hearsay<'_>,
    ) -> Option<Message> {
        let cluster = INVENTED;
        Some(match (self, heard) {
            (Self::Anything, _) => anything(dice, hearsay),
            (Self::AlwaysRefuses, Message::Propose(founders)) => {
                let cluster = founders.id(&crate::world::namespace());
                let standing =
                    Standing { seen: Ballot::NONE, expect: None, binding: Binding::Free };
                Message::Refused { cluster, why: Refusal::Stale, standing }
            }
            (Self::NeverPromises | Self::AlwaysRefuses, Message::Canvass(_)) => {
                standing(Binding::Free)
            }
            (Self::Living | Self::Admitting, Message::Canvass(_)) => {
                standing(Binding::Living { cluster })
            }
            (Self::Living, Message::Join { cluster }) => {
                Message::NotAdmitted { cluster: *cluster, why: NotAdmitted::NoLeader }
            }
            (Self::Admitting, Message::Join { cluster }) => Message::Admitted {
                cluster: *cluster,
                member: hearsay.to,
                index: Index::new(1),
                members: BTreeSet::from([hearsay.me]),
                cards: Vec::new(),
            },
            _ => return None,
        })
    }
}

/// Any message that can be sent, about what there is and about what there is not.
pub(crate) fn anything(dice: &mut Random, hearsay: &Hearsay<'_>) -> Message {
    let named = hearsay.sets.get(dice.below(hearsay.sets.len() as u64 + 1) as usize);
    let cluster = named.map_or(INVENTED, |set| set.id(&crate::world::namespace()));
    let binding = match dice.below(5) {
        0 | 1 => Binding::Free,
        2 => Binding::Joining,
        3 => Binding::Founding { cluster },
        _ => Binding::Living { cluster },
    };
    let counter = dice.below(1 << 20);
    let seen = Ballot { counter, coordinator: hearsay.me.node };
    let expect = NonZeroU16::new([0, 1, 3, 3, 100][dice.below(5) as usize]);
    let standing = Standing { seen, expect, binding };
    match dice.below(10) {
        0 => Message::Canvass(standing),
        1 | 2 => Message::CanvassAnswer(standing),
        3 | 4 => {
            let mut members: BTreeSet<_> = [hearsay.me, hearsay.to].into();
            let others = hearsay.members.iter().filter(|_| dice.percent(40));
            members.extend(others.copied().collect::<Vec<_>>());
            if dice.percent(30) {
                let invented = NodeId::new([0x7F; 32]);
                members.insert(Member::new(invented, Incarnation::new([1; 16])));
            }
            let ballot = Ballot { counter: counter + 1, coordinator: hearsay.me.node };
            FounderSet::new(ballot, members).map_or(standing_of(standing), Message::Propose)
        }
        5 => Message::Promised { cluster },
        6 => Message::Refused { cluster, why: Refusal::Dead, standing },
        7 => Message::Join { cluster },
        8 => Message::Admitted {
            cluster,
            member: hearsay.to,
            index: Index::new(dice.below(1000)),
            members: hearsay.members.iter().copied().collect(),
            cards: Vec::new(),
        },
        _ => {
            let why = [NotAdmitted::NoLeader, NotAdmitted::Denied, NotAdmitted::NotLiving];
            Message::NotAdmitted { cluster, why: why[dice.below(3) as usize] }
        }
    }
}

const fn standing_of(standing: Standing) -> Message {
    Message::CanvassAnswer(standing)
}

/// How many seeds each case of a test runs; `SEEDS=n` for more.
fn seeds(usual: u64) -> u64 {
    std::env::var("SEEDS").map_or(usual, |seeds| seeds.parse().unwrap())
}

/// So many honest nodes that expect three and start a second apart, after the liar.
fn world(seed: u64, lies: Lies, place: usize, honest: usize) -> World {
    let mut world = World::new(seed, &vec![3; honest + 1]);
    world.keyed = false;
    let ids = world.ids();
    world.lie(ids[place], lies);
    world.start(ids[place]);
    for id in ids.iter().filter(|id| **id != ids[place]) {
        world.run(1_000, |_| false);
        world.start(*id);
    }
    world
}

/// How long the slowest of so many seeds took until all honest nodes were in a cluster.
fn slowest(lies: Lies, place: usize, honest: usize, seeds: u64, bound_ms: u64) -> u64 {
    let mut slowest = 0;
    for seed in 0..seeds {
        let mut world = world(seed, lies, place, honest);
        let before = world.now;
        let done = world.run(bound_ms, World::honest_members);
        assert!(done, "{lies:?} at place {place} of {honest}, seed {seed}: {}", world.describe());
        slowest = slowest.max(world.now.since(before).as_millis() as u64);
    }
    slowest
}

/// The five cases in which one that never promises kept founding from happening.
#[test]
fn one_that_never_promises_does_not_stop_founding() {
    for (place, honest) in [(0, 5), (1, 5), (2, 5), (5, 5), (1, 3)] {
        for lies in [Lies::NeverPromises, Lies::AlwaysRefuses] {
            let took = slowest(lies, place, honest, seeds(50), 60_000);
            println!("{lies:?} at {place} of {honest}: within {took} ms");
        }
    }
}

/// A claim to live, and an admission to nowhere, cost a window, ten election time-outs and a round
/// of founding each.
#[test]
fn one_that_claims_to_live_does_not_capture_free_nodes() {
    for (place, honest) in [(0, 3), (1, 3), (3, 3), (0, 5), (5, 5)] {
        for lies in [Lies::Living, Lies::Admitting] {
            let took = slowest(lies, place, honest, seeds(50), 30_000);
            println!("{lies:?} at {place} of {honest}: within {took} ms");
        }
    }
}

/// Whatever one says: nothing unsafe, and all honest nodes are in a cluster within two minutes.
#[test]
fn one_that_says_anything_delays_the_others_by_a_bounded_time() {
    let mut rare = BTreeMap::<_, u64>::new();
    for place in 0..=5 {
        let mut slowest = 0;
        for seed in 0..seeds(200) {
            let mut world = world(seed, Lies::Anything, place, 5);
            let before = world.now;
            let done = world.run(120_000, World::honest_members);
            assert!(done, "place {place}, seed {seed}: {}", world.describe());
            slowest = slowest.max(world.now.since(before).as_millis());
            for (name, times) in &world.checks.rare {
                *rare.entry(*name).or_default() += times;
            }
        }
        println!("anything at {place}: within {slowest} ms");
    }
    println!("{rare:#?}");
    for name in ["on trial", "on trial while bound", "nothing came", "no promise", "joined"] {
        assert!(rare.contains_key(name), "never happened: {name}");
    }
}

/// The same among crashes, cuts and lost messages: safety, and the end of it once faults end.
#[test]
fn one_that_says_anything_among_faults_breaks_nothing() {
    for seed in 0..seeds(300) {
        let mut dice = Random(seed ^ 0x11a2);
        let place = dice.below(6) as usize;
        let mut world = World::new(seed, &[3; 6]);
        world.keyed = false;
        let ids = world.ids();
        world.lie(ids[place], Lies::Anything);
        world.faults = Faults {
            loss: dice.below(4) * 10,
            duplicate: dice.below(3) * 20,
            late: dice.below(3) * 10,
            delay_ms: [2, 20, 200][dice.below(3) as usize],
            disk_ms: [1, 10, 300][dice.below(3) as usize],
        };
        for _ in 0..dice.below(25) + 10 {
            let id = ids[dice.below(6) as usize];
            let other = ids[dice.below(6) as usize];
            match dice.below(10) {
                0..=4 => world.start(id),
                5..=6 => world.crash(id),
                7 => world.cuts.clear(),
                _ if id < other => drop(world.cuts.insert((id, other))),
                _ => {}
            }
            world.run([1, 30, 300, 3000][dice.below(4) as usize], |_| false);
        }
        world.faults = Faults::NONE;
        world.cuts.clear();
        ids.iter().for_each(|id| world.start(*id));
        let done = world.run(180_000, World::honest_members);
        assert!(done, "seed {seed}: {}", world.describe());
    }
}

//! Each preset at the longest round trip that it is for, with jitter and loss: whoever leads goes
//! on leading.

use std::{collections::BTreeMap, time::Duration};

use meshraft_consensus::{ConfigBuilder, Moment, Output};

use crate::{
    cluster::{Cluster, Packet},
    dice::Dice,
};

/// How long the network is watched.
const HOUR: Duration = Duration::from_secs(3600);

/// A network between the members of a cluster that takes its time.
struct Delays {
    dice: Dice,
    one_way: Duration,
    /// By when they arrive, and a number that tells those of one moment apart.
    under_way: BTreeMap<(Moment, u64), Packet>,
    sent: u64,
}

impl Delays {
    /// Takes what was sent: one packet in a hundred is lost, the others take up to a fifth longer
    /// than the shortest.
    fn take(&mut self, cluster: &mut Cluster) {
        while let Some(packet) = cluster.packets.pop_front() {
            self.sent += 1;
            let jitter = self.one_way * (self.dice.below(200) as u32) / 1000;
            if !self.dice.percent(1) {
                let arrives = cluster.now.plus(self.one_way + jitter);
                self.under_way.insert((arrives, self.sent), packet);
            }
        }
    }

    /// Moves to whatever comes next: a packet or a deadline.
    fn step(&mut self, cluster: &mut Cluster) {
        let packet = self.under_way.keys().next().copied();
        let deadline = cluster.next_deadline();
        match (packet, deadline) {
            (Some(key), due) if due.is_none_or(|(due, _)| key.0 <= due) => {
                cluster.now = cluster.now.max(key.0);
                let packet = self.under_way.remove(&key).unwrap();
                cluster.deliver(packet);
            }
            (_, Some((due, me))) => {
                cluster.now = cluster.now.max(due);
                cluster.input(me, meshraft_consensus::Input::Timeout);
            }
            _ => panic!("nothing is ever due"),
        }
        let members: Vec<_> = cluster.nodes.keys().copied().collect();
        members.into_iter().for_each(|me| while cluster.persist(me).is_some() {});
        self.take(cluster);
    }
}

/// How many terms begin in an hour after the first leader was ready.
fn elections(knobs: ConfigBuilder, round_trip: Duration) -> u64 {
    let mut cluster = Cluster::with_knobs(3, knobs);
    let (dice, one_way) = (Dice::new(1), round_trip / 2);
    let mut delays = Delays { dice, one_way, under_way: BTreeMap::new(), sent: 0 };
    let ready = |cluster: &Cluster| (1..=3).any(|number| cluster.core(number).is_ready());
    let term = |cluster: &Cluster| {
        cluster.nodes.values().map(|node| node.disk.hard.term.get()).max().unwrap()
    };
    while !ready(&cluster) {
        delays.step(&mut cluster);
    }
    assert!(cluster.now.as_nanos() < 60_000_000_000, "a leader within a minute");
    let (begun, first) = (cluster.now, term(&cluster));
    while cluster.now.since(begun) < HOUR {
        delays.step(&mut cluster);
        cluster.outputs.clear();
        cluster.trace.clear();
    }
    assert!(delays.sent > 10_000, "hardly anything was said");
    term(&cluster) - first
}

#[test]
fn no_preset_elects_without_need_at_the_round_trip_that_it_is_for() {
    let presets = [
        (ConfigBuilder::local(), 500),
        (ConfigBuilder::lan(), 2_000),
        (ConfigBuilder::region(), 30_000),
        (ConfigBuilder::global(), 300_000),
    ];
    for (knobs, micros) in presets {
        let (election, round_trip) = (knobs.election, Duration::from_micros(micros));
        let elections = elections(knobs, round_trip);
        assert!(elections <= 1, "{elections} elections in an hour with {election:?}");
    }
}

/// The count is worth something: the same network is too slow for times that are not for it.
#[test]
fn times_that_are_too_short_for_the_round_trip_elect_again_and_again() {
    let too_slow = Duration::from_millis(900);
    let mut cluster = Cluster::with_knobs(3, ConfigBuilder::local());
    let (dice, one_way) = (Dice::new(1), too_slow / 2);
    let mut delays = Delays { dice, one_way, under_way: BTreeMap::new(), sent: 0 };
    let mut campaigns = 0;
    while cluster.now < Moment::from_nanos(60_000_000_000) {
        delays.step(&mut cluster);
        let began = |output: &Output| {
            matches!(output, Output::Observe(meshraft_consensus::Event::BecameRole { .. }))
        };
        campaigns += cluster.outputs.drain(..).filter(|(_, output)| began(output)).count();
    }
    assert!(campaigns > 20, "only {campaigns} changes of role");
}

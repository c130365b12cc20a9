//! Random histories: messages lost, repeated and reordered, links cut, disks stalled, members
//! crashed and restarted, added and removed; then the faults stop and progress is demanded.
//!
//! `SEED=7 cargo test -p meshraft-consensus chaos` replays one history; `SEEDS=1000` runs more.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use bytes::Bytes;
use meshraft_consensus::{
    Change, ChangeStep, ConfigBuilder, Core, Event, Fate, Index, Input, LoadError, Member, Outcome,
    Output, ProposalId, ReadId, ReadLevel,
};

use crate::{
    cluster::{Cluster, Disk, member},
    dice::Dice,
};

/// What clients did, and what they must find.
#[derive(Default)]
struct Clients {
    proposed: BTreeMap<u64, Bytes>,
    resolved: BTreeMap<u64, Outcome>,
    /// For each read the newest commit that anybody knew when it began.
    reads: BTreeMap<u64, (Member, Index)>,
    seen_outputs: usize,
}

struct World {
    cluster: Cluster,
    dice: Dice,
    clients: Clients,
    members_max: u8,
    next: u64,
    founding: bool,
    departed: BTreeSet<Member>,
    /// How often the world pauses, in percent of ticks.
    unrest: u64,
    snapshots: usize,
    installs: usize,
    departures: usize,
    readmissions: usize,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let founding = dice.percent(20);
        let voters = 1 + dice.below(5) as u8;
        let knobs = ConfigBuilder {
            promote_learners: dice.percent(70),
            voters_target: [2, 4, usize::MAX][dice.below(3)],
            keep_entries_max: [0, 2, 8][dice.below(3)],
            snapshot_lag_bytes_max: [0, 1000, 10_000][dice.below(3)],
            tail_bytes_max: [200, 4096][dice.below(2)],
            ..ConfigBuilder::simulation()
        };
        let cluster = match founding {
            true => Cluster::founding_with_knobs(voters, knobs),
            false => Cluster::with_knobs(voters, knobs),
        };
        let unrest = [2, 10, 40][dice.below(3)];
        let clients = Clients::default();
        Self {
            cluster,
            dice,
            clients,
            members_max: voters,
            next: 0,
            founding,
            departed: BTreeSet::new(),
            unrest,
            snapshots: 0,
            installs: 0,
            departures: 0,
            readmissions: 0,
        }
    }

    fn someone(&mut self) -> Member {
        let at = self.dice.below(self.cluster.nodes.len());
        *self.cluster.nodes.keys().nth(at).expect("there are members")
    }

    /// A leader more often than not.
    fn target(&mut self) -> Member {
        let leaders = self.cluster.leaders();
        match leaders.len() {
            0 => self.someone(),
            count if self.dice.percent(85) => leaders[self.dice.below(count)],
            _ => self.someone(),
        }
    }

    fn step(&mut self) {
        match self.dice.below(1000) {
            0..375 => self.deliver(),
            375..395 => self.snapshot(),
            395..430 => self.transfer(),
            430..650 => self.persist(),
            650..735 => self.tick(),
            735..850 => self.propose(),
            850..880 => self.read(),
            880..900 => self.change(),
            900..915 => self.cut(),
            915..925 => self.cluster.heal(),
            925..933 => self.crash(),
            933..950 => self.restart(),
            950..960 => self.toggle(),
            960..970 => self.report(),
            _ => self.peer_event(),
        }
        self.look();
    }

    fn deliver(&mut self) {
        let count = self.cluster.packets.len();
        if count == 0 {
            return;
        }
        let at = if self.dice.percent(70) { 0 } else { self.dice.below(count) };
        let Some(packet) = self.cluster.packets.remove(at) else { return };
        if self.dice.percent(4) {
            return;
        }
        if self.dice.percent(4) {
            self.cluster.packets.push_back(packet.clone());
        }
        if self.dice.percent(15) {
            // Several inputs go in before a drain.
            return self.cluster.deliver_only(packet);
        }
        self.cluster.deliver(packet);
    }

    fn persist(&mut self) {
        let me = self.someone();
        if !self.cluster.node(me).stalled {
            for _ in 0..=self.dice.below(3) {
                self.cluster.persist(me);
            }
        }
    }

    fn tick(&mut self) {
        if self.dice.percent(self.unrest) {
            // A pause of the whole world: whoever wakes first acts first.
            let pause = Duration::from_millis(self.dice.below(1500) as u64);
            self.cluster.now = self.cluster.now.plus(pause);
            let me = self.someone();
            return self.cluster.input(me, Input::Timeout);
        }
        if let Some((due, me)) = self.cluster.next_deadline() {
            self.cluster.now = self.cluster.now.max(due);
            self.cluster.input(me, Input::Timeout);
        }
    }

    fn propose(&mut self) {
        let me = self.target();
        if self.cluster.node(me).core.is_none() {
            return;
        }
        let drains = self.dice.percent(60);
        for _ in 0..=self.dice.below(4) {
            self.next += 1;
            let length = if self.dice.percent(3) { 3000 } else { self.dice.below(120) };
            let mut command = self.next.to_be_bytes().to_vec();
            command.resize(8 + length, 0);
            let command = Bytes::from(command);
            self.clients.proposed.insert(self.next, command.clone());
            let id = ProposalId::new(self.next);
            self.cluster.input_only(me, Input::Propose { id, command });
        }
        if drains {
            self.cluster.drain(me);
        }
    }

    fn newest_commit(&self) -> Index {
        let cores = self.cluster.nodes.values().filter_map(|node| node.core.as_ref());
        cores.map(Core::commit).max().unwrap_or_default()
    }

    fn read(&mut self) {
        let me = self.someone();
        if self.cluster.node(me).core.is_none() {
            return;
        }
        self.next += 1;
        self.clients.reads.insert(self.next, (me, self.newest_commit()));
        let id = ReadId::new(self.next);
        self.cluster.input(me, Input::Read { id, level: ReadLevel::Linearizable });
    }

    fn change(&mut self) {
        let leader = self.target();
        let Some(core) = &self.cluster.node(leader).core else { return };
        let configuration = core.configuration().clone();
        let mut steps = Vec::new();
        for _ in 0..=[0, 0, 1, 3][self.dice.below(4)] {
            let at = self.dice.below(usize::from(self.members_max)) as u8 + 1;
            let one = member(at);
            steps.push(match self.dice.below(6) {
                0 | 5 if configuration.voters.len() > 1 => ChangeStep::Remove(one),
                1 | 2 if configuration.learners.contains(&one) => ChangeStep::Promote(one),
                _ if configuration.contains(&one)
                    && self.members_max < 7
                    && self.dice.percent(40) =>
                {
                    self.members_max += 1;
                    let joiner = member(self.members_max);
                    self.cluster.add(joiner, Disk::default());
                    ChangeStep::AddLearner(joiner)
                }
                _ if configuration.contains(&one) => ChangeStep::Remove(one),
                _ => ChangeStep::AddLearner(one),
            });
        }
        self.next += 1;
        let id = ProposalId::new(self.next);
        self.cluster.input(leader, Input::Change { id, change: Change { steps } });
    }

    fn cut(&mut self) {
        let (one, other) = (self.someone(), self.someone());
        self.cluster.cut(one, other);
        if self.dice.percent(50) {
            self.cluster.cut(other, one);
        }
    }

    fn crash(&mut self) {
        let me = self.someone();
        // Some of what was on its way to the disk may have arrived.
        let node = self.cluster.node(me);
        for _ in 0..self.dice.below(node.writes.len() + 1) {
            let Some(write) = node.writes.pop_front() else { break };
            node.disk.write(&write);
        }
        self.forget_reads_of(me);
        self.departed.remove(&me);
        self.cluster.crash(me);
    }

    fn forget_reads_of(&mut self, me: Member) {
        self.clients.reads.retain(|_, (reader, _)| *reader != me);
    }

    fn restart(&mut self) {
        let down = self.cluster.nodes.iter().find(|(_, node)| node.core.is_none());
        if let Some((me, _)) = down {
            let me = *me;
            self.cluster.start(me);
        }
    }

    fn toggle(&mut self) {
        let me = self.someone();
        let node = self.cluster.node(me);
        node.stalled = !node.stalled;
        node.slow_apply = self.dice.percent(30);
        node.slow_transfer = self.dice.percent(20);
        node.load_error = self.dice.percent(20).then_some(LoadError::Failed);
    }

    fn snapshot(&mut self) {
        let me = self.someone();
        let before = self.cluster.node(me).disk.files.len();
        self.cluster.take_snapshot(me);
        self.snapshots += self.cluster.node(me).disk.files.len() - before;
        if self.dice.percent(10) {
            // Files that are kept for others may be lost all the same.
            let node = self.cluster.node(me);
            node.pins.clear();
            node.disk.sweep(&[]);
        }
    }

    fn transfer(&mut self) {
        let Some(me) = self.cluster.transferring() else { return };
        self.cluster.transfer(me);
    }

    fn report(&mut self) {
        let me = self.someone();
        self.cluster.report_applied(me);
        self.cluster.drain(me);
    }

    fn peer_event(&mut self) {
        let (me, peer) = (self.someone(), self.someone());
        match self.dice.below(4) {
            0 => self.cluster.input(me, Input::PeerDown(peer)),
            1 => self.cluster.input(me, Input::PeerUp(peer)),
            2 => self.cluster.input(me, Input::Campaign),
            _ => {
                let fate = if self.dice.percent(90) { Fate::Found } else { Fate::Abandon };
                self.cluster.input(me, Input::FirstEntry(fate));
            }
        }
    }

    /// Checks what the last step told the clients.
    fn look(&mut self) {
        let outputs = &self.cluster.outputs[self.clients.seen_outputs..];
        for (me, output) in outputs {
            match output {
                Output::Resolve { id, outcome } => {
                    let before = self.clients.resolved.insert(id.get(), outcome.clone());
                    assert_eq!(before, None, "{me}: proposal {id} resolved twice");
                }
                Output::ReadReady { id, index } => {
                    let asked = self.clients.reads.remove(&id.get());
                    let (reader, floor) = asked.expect("each read is answered once");
                    assert_eq!(reader, *me);
                    assert!(*index >= floor, "read {id} at {index} misses commit {floor}");
                }
                Output::InstallSnapshot(_) => self.installs += 1,
                Output::Departed { .. } => {
                    assert!(self.departed.insert(*me), "{me} departs once");
                    self.departures += 1;
                }
                Output::Observe(Event::Readmitted { .. }) => {
                    // It need not know that it had departed.
                    self.departed.remove(me);
                    self.readmissions += 1;
                }
                Output::Amnesia { .. } | Output::Observe(Event::Amnesia { .. }) => {
                    panic!("{me}: no store went back in time");
                }
                Output::ReadFailed { id, .. } => {
                    assert!(self.clients.reads.remove(&id.get()).is_some(), "answered once");
                }
                _ => {}
            }
        }
        self.cluster.outputs.clear();
        self.cluster.trace.clear();
        self.clients.seen_outputs = 0;
    }

    /// Stops all faults, and demands a leader and agreement.
    fn heal(&mut self) -> bool {
        self.cluster.heal();
        for node in self.cluster.nodes.values_mut() {
            (node.stalled, node.slow_apply, node.load_error) = (false, false, None);
            node.slow_transfer = false;
        }
        while self.cluster.nodes.values().any(|node| node.core.is_none()) {
            self.restart();
        }
        let everyone: Vec<Member> = self.cluster.nodes.keys().copied().collect();
        for me in &everyone {
            self.cluster.report_applied(*me);
            self.cluster.drain(*me);
        }
        for _ in 0..60 {
            self.cluster.run_ms(500);
            self.look();
            for leader in self.cluster.leaders() {
                self.cluster.input(leader, Input::FirstEntry(Fate::Found));
            }
            if self.agreed() {
                return true;
            }
        }
        false
    }

    /// Whether one leader is ready and all of its configuration have applied the same.
    fn agreed(&mut self) -> bool {
        let [leader] = self.cluster.leaders()[..] else { return false };
        let Some(core) = &self.cluster.node(leader).core else { return false };
        let configuration = core.configuration().clone();
        let ready = core.is_ready() && !configuration.is_joint();
        let applied = self.cluster.node(leader).applied_index();
        ready
            && applied == self.newest_commit()
            && configuration.members().iter().all(|one| {
                self.cluster.nodes.get(one).is_some_and(|node| node.applied_index() == applied)
            })
    }

    fn check_outcomes(&mut self) {
        let history = &self.cluster.history;
        for (id, outcome) in &self.clients.resolved {
            let Some(command) = self.clients.proposed.get(id) else { continue };
            let places: Vec<_> = history.values().filter(|entry| entry.bytes == *command).collect();
            match outcome {
                Outcome::Committed(at) => {
                    assert_eq!(places.len(), 1, "proposal {id} is in the history once");
                    assert_eq!(places[0].position, *at);
                }
                Outcome::Rejected(_) => assert!(places.is_empty(), "{id} was rejected"),
                Outcome::Unknown => assert!(places.len() <= 1, "{id} took effect twice"),
            }
        }
    }
}

/// What happened in a history.
#[derive(Debug, Default)]
struct Tally {
    committed: usize,
    terms: u64,
    snapshots: usize,
    installs: usize,
    departures: usize,
    readmissions: usize,
}

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
    world.check_outcomes();
    let abandoned = world.founding && world.cluster.core(1).status().founding;
    if !abandoned {
        assert!(world.clients.reads.len() <= 40, "reads are answered");
    }
    let resolved = world.clients.resolved.values();
    let committed = resolved.filter(|one| matches!(one, Outcome::Committed(_))).count();
    let terms = world.cluster.nodes.values().map(|node| node.disk.hard.term.get()).max();
    Tally {
        committed,
        terms: terms.unwrap_or_default(),
        snapshots: world.snapshots,
        installs: world.installs,
        departures: world.departures,
        readmissions: world.readmissions,
    }
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
    }
    println!("{sum:?}");
    let histories = (seeds.end - seeds.start) as usize;
    if histories >= 50 {
        assert!(sum.committed > histories * 10, "few proposals committed: {sum:?}");
        assert!(sum.snapshots > histories, "few snapshots taken: {sum:?}");
        assert!(sum.installs > histories / 2, "few snapshots installed: {sum:?}");
        assert!(sum.departures > histories / 8, "few departures: {sum:?}");
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

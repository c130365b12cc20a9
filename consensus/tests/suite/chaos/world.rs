//! A cluster under faults: what may happen next, and what is demanded once they stop.

use std::{collections::BTreeMap, num::NonZeroU16, time::Duration};

use bytes::Bytes;
use meshraft_consensus::{
    Change, ChangeStep, ConfigBuilder, Core, Fate, Index, Input, LoadError, Member, ProposalId,
    ReadId, ReadLevel, Role,
};

use super::clients::Clients;
use crate::{
    cluster::{Cluster, Disk, member},
    dice::Dice,
};

/// What happened in a history.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) committed: usize,
    pub(super) terms: u64,
    pub(super) snapshots: usize,
    pub(super) installs: usize,
    pub(super) departures: usize,
    pub(super) readmissions: usize,
    pub(super) transfers: usize,
    /// Steps at which a leader held a lease.
    pub(super) leases: usize,
}

pub(super) struct World {
    pub(super) cluster: Cluster,
    dice: Dice,
    pub(super) clients: Clients,
    members_max: u8,
    next: u64,
    pub(super) founding: bool,
    pub(super) departed: BTreeMap<Member, Index>,
    /// How often the world pauses, in percent of ticks.
    unrest: u64,
    pub(super) tally: Tally,
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let founding = dice.percent(20);
        let voters = 1 + dice.below(5) as u8;
        let knobs = ConfigBuilder {
            promote_learners: dice.percent(70),
            voters_target: [2, 4, usize::MAX][dice.below(3)],
            keep_entries_max: [0, 2, 8][dice.below(3)],
            snapshot_lag_bytes_max: [0, 1000, 10_000][dice.below(3)],
            quiesce_after: [None, Some(Duration::from_millis(100))][dice.below(2)],
            lease_drift_permille: NonZeroU16::new([0, 100][dice.below(2)]),
            tail_bytes_max: [200, 4096][dice.below(2)],
            ..ConfigBuilder::simulation()
        };
        let cluster = match founding {
            true => Cluster::founding_with_knobs(voters, knobs),
            false => Cluster::with_knobs(voters, knobs),
        };
        let mut cluster = cluster;
        for node in cluster.nodes.values_mut() {
            // From their second start on.
            node.rank = [0, 0, 1, 3][dice.below(4)];
        }
        let unrest = [2, 10, 40][dice.below(3)];
        let clients = Clients::default();
        Self {
            cluster,
            dice,
            clients,
            members_max: voters,
            next: 0,
            founding,
            departed: BTreeMap::new(),
            unrest,
            tally: Tally::default(),
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

    pub(super) fn step(&mut self) {
        match self.dice.below(1000) {
            0..375 => self.deliver(),
            375..395 => self.snapshot(),
            395..420 => self.transfer(),
            420..440 => self.hand_over(),
            440..650 => self.persist(),
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
        self.check_lease();
    }

    /// While a lease lasts nobody else is elected.
    fn check_lease(&mut self) {
        let now = self.cluster.now;
        let running = || self.cluster.nodes.values().filter_map(|node| node.core.as_ref());
        let holds = |core: &&Core| core.lease_until().is_some_and(|until| now < until);
        for holder in running().filter(holds) {
            self.tally.leases += 1;
            let me = holder.me();
            let later = |core: &&Core| core.role() == Role::Leader && core.term() > holder.term();
            let other = running().find(later).map(Core::me);
            assert_eq!(other, None, "{me} holds a lease, and another leads");
        }
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
        let level = [ReadLevel::Linearizable, ReadLevel::Lease][self.dice.below(2)];
        self.cluster.input(me, Input::Read { id, level });
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
                0 if configuration.voters.len() > 1 => ChangeStep::Remove(one),
                5 if configuration.voters.contains(&one) => ChangeStep::Demote(one),
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
        self.clients.forget(me);
        self.departed.remove(&me);
        self.cluster.crash(me);
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
        self.tally.snapshots += self.cluster.node(me).disk.files.len() - before;
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

    fn hand_over(&mut self) {
        let leader = self.target();
        if self.cluster.node(leader).core.is_none() {
            return;
        }
        let to = if self.dice.percent(50) { Some(self.someone()) } else { None };
        self.next += 1;
        self.clients.transfers.insert(self.next, leader);
        let id = ProposalId::new(self.next);
        self.cluster.input(leader, Input::Transfer { id, to });
        // Under load few of them end in time.
        for _ in 0..self.dice.below(60) {
            self.deliver();
            self.persist();
        }
    }

    fn report(&mut self) {
        let me = self.someone();
        self.cluster.report_applied(me);
        self.cluster.drain(me);
    }

    fn peer_event(&mut self) {
        let (me, peer) = (self.someone(), self.someone());
        match self.dice.below(6) {
            4 => self.cluster.input(me, Input::Wake),
            5 => {
                let at = self.cluster.now;
                self.cluster.input(me, Input::LeaderSeen { leader: peer, at });
            }
            0 => self.cluster.input(me, Input::PeerDown(peer)),
            1 => self.cluster.input(me, Input::PeerUp(peer)),
            2 => self.cluster.input(me, Input::Campaign),
            _ => {
                let fate = if self.dice.percent(90) { Fate::Found } else { Fate::Abandon };
                self.cluster.input(me, Input::FirstEntry(fate));
            }
        }
    }

    /// Stops all faults, and demands a leader and agreement.
    pub(super) fn heal(&mut self) -> bool {
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
}

//! A seeded world of nodes that found, with a lossy network, slow disks, crashes and wipes; it
//! checks safety after every step.

mod cores;
mod trial;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use meshraft_consensus::{ClusterId, Fate, Incarnation, Index, Member, Moment, Namespace, NodeId};
use meshraft_discovery::{
    FounderSet, Founding, FoundingConfig, Record,
    founding::{Admission, Input, Output, Phase, RecordId},
    wire::{Message, NotAdmitted},
};

use crate::{
    check::Checks,
    dice::{Faults, Random},
    group,
    liar::Lies,
};
use trial::Trial;

pub(crate) struct Node {
    pub(crate) disk: Disk,
    /// Disks that were replaced by empty ones, and may be mounted again.
    pub(crate) old_disks: Vec<Disk>,
    pub(crate) process: Option<Process>,
    /// Counts starts of the process, so that events of an earlier one are void.
    pub(crate) epoch: u64,
    expect: u16,
    /// How many peers it was given.
    pub(crate) targets: usize,
}

/// What survives a crash.
#[derive(Clone)]
pub(crate) struct Disk {
    pub(crate) me: Member,
    record: Bytes,
    pub(crate) groups: BTreeMap<ClusterId, group::Disk>,
}

impl Disk {
    pub(crate) fn record(&self) -> Record {
        Record::decode(&self.record).unwrap()
    }
}

pub(crate) struct Process {
    pub(crate) founding: Founding,
    writes: VecDeque<(RecordId, Record, Output)>,
    cores: BTreeMap<ClusterId, group::Core>,
    trial: Trial,
    /// The peers' processes to which a handle exists.
    linked: BTreeMap<NodeId, u64>,
}

#[derive(Clone, Debug)]
enum Event {
    Deliver {
        from: Member,
        to: NodeId,
        bytes: Bytes,
    },
    Group {
        from: Member,
        to: Member,
        cluster: ClusterId,
        message: group::Message,
    },
    Written {
        node: NodeId,
        epoch: u64,
    },
    Wake {
        node: NodeId,
        epoch: u64,
    },
    Links {
        node: NodeId,
        epoch: u64,
    },
    Election {
        node: NodeId,
        epoch: u64,
        cluster: ClusterId,
    },
    Heartbeat {
        node: NodeId,
        epoch: u64,
        cluster: ClusterId,
    },
    Admitted {
        node: NodeId,
        epoch: u64,
        member: Member,
    },
    FirstEntry {
        node: NodeId,
        epoch: u64,
        cluster: ClusterId,
    },
    /// The liar says something.
    Lie,
}

pub(crate) struct World {
    pub(crate) now: Moment,
    pub(crate) random: Random,
    pub(crate) faults: Faults,
    pub(crate) nodes: BTreeMap<NodeId, Node>,
    /// Pairs that cannot talk, both ways round.
    pub(crate) cuts: BTreeSet<(NodeId, NodeId)>,
    pub(crate) checks: Checks,
    pub(crate) voters_target: usize,
    /// Whether every node proved the namespace's key.
    pub(crate) keyed: bool,
    liar: Option<(NodeId, Lies)>,
    /// Who was admitted where.
    admissions: BTreeSet<(ClusterId, Member)>,
    queue: BTreeMap<(Moment, u64), Event>,
    events: u64,
    incarnations: u64,
}

pub(crate) fn namespace() -> Namespace {
    Namespace::new("/test").unwrap()
}

fn millis(from: u64) -> Duration {
    Duration::from_millis(from)
}

impl World {
    pub(crate) fn new(seed: u64, expects: &[u16]) -> Self {
        let mut world = Self {
            now: Moment::ZERO,
            random: Random(seed),
            faults: Faults::NONE,
            nodes: BTreeMap::new(),
            cuts: BTreeSet::new(),
            checks: Checks::default(),
            voters_target: 5,
            keyed: true,
            liar: None,
            admissions: BTreeSet::new(),
            queue: BTreeMap::new(),
            events: 0,
            incarnations: 0,
        };
        for (number, expect) in expects.iter().enumerate() {
            let id = NodeId::new([u8::try_from(number).unwrap() + b'a'; 32]);
            let disk = world.empty_disk(id);
            let node = Node {
                disk,
                old_disks: vec![],
                process: None,
                epoch: 0,
                expect: *expect,
                targets: 1,
            };
            world.nodes.insert(id, node);
        }
        world
    }

    pub(crate) fn ids(&self) -> Vec<NodeId> {
        self.nodes.keys().copied().collect()
    }

    pub(crate) fn start(&mut self, id: NodeId) {
        let (namespace, seed) = (namespace(), self.random.next());
        let now = self.now;
        let node = self.nodes.get_mut(&id).unwrap();
        if node.process.is_some() {
            return;
        }
        node.epoch += 1;
        let config = FoundingConfig {
            namespace,
            me: node.disk.me,
            expect: core::num::NonZeroU16::new(node.expect),
            found: true,
            window: millis(1000),
            election_max: millis(600),
            seed,
            targets: node.targets,
            threshold_percent: FoundingConfig::THRESHOLD_PERCENT,
            force: false,
            voters_target: self.voters_target,
            keyed: self.keyed,
        };
        let record = node.disk.record();
        let founding = Founding::new(config, record.clone(), now);
        node.process = Some(Process {
            founding,
            writes: VecDeque::new(),
            cores: BTreeMap::new(),
            trial: Trial::default(),
            linked: BTreeMap::new(),
        });
        // A founder of a living cluster goes on in its group, so that stragglers learn its fate.
        if let Some(founders) = record.promise
            && record.cluster == Some(founders.id(&self::namespace()))
        {
            self.start_core(id, &founders);
        }
        let epoch = self.nodes[&id].epoch;
        self.after(0, 5, Event::Links { node: id, epoch });
        self.drain(id);
    }

    pub(crate) fn crash(&mut self, id: NodeId) {
        self.nodes.get_mut(&id).unwrap().process = None;
    }

    /// Replaces the disk by an empty one.
    pub(crate) fn wipe(&mut self, id: NodeId) {
        self.crash(id);
        self.checks.wipes += 1;
        let empty = self.empty_disk(id);
        let node = self.nodes.get_mut(&id).unwrap();
        let old = std::mem::replace(&mut node.disk, empty);
        node.old_disks.push(old);
    }

    /// Mounts the disk again that was replaced last.
    pub(crate) fn remount(&mut self, id: NodeId) {
        self.crash(id);
        let node = self.nodes.get_mut(&id).unwrap();
        if let Some(old) = node.old_disks.pop() {
            let new = std::mem::replace(&mut node.disk, old);
            node.old_disks.push(new);
        }
    }

    /// Runs for so long, or until `done`; returns whether it is done.
    pub(crate) fn run(&mut self, for_ms: u64, done: impl Fn(&Self) -> bool) -> bool {
        let end = self.now.plus(millis(for_ms));
        while !done(self) {
            match self.queue.first_key_value() {
                Some((&(at, _), _)) if at <= end => {}
                _ => {
                    self.now = end;
                    return done(self);
                }
            }
            let ((at, _), event) = self.queue.pop_first().unwrap();
            self.now = at;
            self.step(event);
        }
        true
    }

    pub(crate) fn all_members(&self) -> bool {
        self.nodes.values().all(|node| {
            node.process.as_ref().is_some_and(|process| process.founding.phase() == Phase::Member)
        })
    }

    /// The clusters that live.
    pub(crate) fn living(&self) -> Vec<ClusterId> {
        let found =
            |(cluster, fate): (&ClusterId, &Fate)| (*fate == Fate::Found).then_some(*cluster);
        self.checks.fates.iter().filter_map(found).collect()
    }

    fn empty_disk(&mut self, id: NodeId) -> Disk {
        self.incarnations += 1;
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.incarnations.to_be_bytes());
        let me = Member::new(id, Incarnation::new(bytes));
        Disk { me, record: Record::default().encode(), groups: BTreeMap::new() }
    }

    fn after(&mut self, least_ms: u64, spread_ms: u64, event: Event) {
        let micros = least_ms * 1000 + self.random.below(spread_ms * 1000 + 1);
        self.at(self.now.plus(Duration::from_micros(micros)), event);
    }

    fn at(&mut self, at: Moment, event: Event) {
        self.events += 1;
        self.queue.insert((at, self.events), event);
    }

    fn is_cut(&self, a: NodeId, b: NodeId) -> bool {
        self.cuts.contains(&(a.min(b), a.max(b)))
    }

    fn running(&mut self, id: NodeId, epoch: u64) -> Option<&mut Process> {
        self.nodes.get_mut(&id).filter(|node| node.epoch == epoch)?.process.as_mut()
    }

    fn step(&mut self, event: Event) {
        let now = self.now;
        match event {
            Event::Deliver { from, to, bytes } => {
                if !self.is_cut(from.node, to) {
                    let message = Message::decode(&bytes).unwrap();
                    if self.is_liar(to) {
                        self.lie_back(from, &message);
                    } else {
                        self.input(to, Input::Receive { from, message });
                    }
                }
            }
            Event::Group { from, to, cluster, message } => {
                self.group_frame(from, to, cluster, message);
            }
            Event::Written { node, epoch } => self.written(node, epoch),
            Event::Wake { node, epoch } => {
                if let Some(process) = self.running(node, epoch)
                    && process.founding.deadline().is_some_and(|deadline| deadline <= now)
                {
                    self.input(node, Input::Timeout);
                }
            }
            Event::Links { node, epoch } => self.update_links(node, epoch),
            Event::Election { node, epoch, cluster } => {
                let wait = 300 + self.random.below(300);
                if self.running(node, epoch).is_some_and(|it| it.cores.contains_key(&cluster)) {
                    self.core(node, cluster, group::Core::election_timeout);
                    self.after(wait, 0, Event::Election { node, epoch, cluster });
                }
            }
            Event::Heartbeat { node, epoch, cluster } => {
                if self.running(node, epoch).is_some_and(|it| it.cores.contains_key(&cluster)) {
                    self.core(node, cluster, group::Core::heartbeat);
                    self.after(50, 0, Event::Heartbeat { node, epoch, cluster });
                }
            }
            Event::Admitted { node, epoch, member } => self.admitted(node, epoch, member),
            Event::FirstEntry { node, epoch, cluster } => self.first_entry(node, epoch, cluster),
            Event::Lie => self.lie_unasked(),
        }
    }

    fn update_links(&mut self, id: NodeId, epoch: u64) {
        let Some(linked) = self.running(id, epoch).map(|process| process.linked.clone()) else {
            return;
        };
        for other in self.ids().into_iter().filter(|other| *other != id) {
            let up = self.nodes[&other].process.is_some() && !self.is_cut(id, other);
            let actual = up.then(|| self.nodes[&other].epoch);
            let before = linked.get(&other).copied();
            if actual == before {
                continue;
            }
            if before.is_some() {
                self.running(id, epoch).unwrap().linked.remove(&other);
                self.input(id, Input::PeerDown(other));
            }
            if let Some(actual) = actual {
                self.running(id, epoch).unwrap().linked.insert(other, actual);
                self.input(id, Input::PeerUp(other));
            }
        }
        self.after(20, 80, Event::Links { node: id, epoch });
    }

    fn written(&mut self, id: NodeId, epoch: u64) {
        let Some(process) = self.running(id, epoch) else { return };
        let Some((write, record, output)) = process.writes.pop_front() else { return };
        let more = !process.writes.is_empty();
        let Output::Persist { start, drop, join, enter, .. } = output else { unreachable!() };
        let node = self.nodes.get_mut(&id).unwrap();
        let before = node.disk.record();
        self.checks.on_record(node.disk.me, &before, &record);
        if !self.keyed && before.cluster.is_none() && record.cluster.is_some() {
            let own = before.promise.map(|founders| founders.id(&namespace()));
            assert!(enter == record.cluster || own == record.cluster, "written on a word");
        }
        node.disk.record = record.encode();
        if let Some(founders) = start {
            node.disk.groups.insert(founders.id(&namespace()), group::Disk::default());
        }
        if let Some(cluster) = join {
            node.disk.groups.insert(cluster, group::Disk::default());
        }
        if let Some(cluster) = drop {
            node.disk.groups.remove(&cluster).expect("a group that was never created is dropped");
        }
        if more {
            let disk_ms = self.faults.disk_ms;
            self.after(0, disk_ms, Event::Written { node: id, epoch });
        }
        self.input(id, Input::Persisted(write));
    }

    fn admitted(&mut self, id: NodeId, epoch: u64, member: Member) {
        if self.running(id, epoch).is_none() {
            return;
        }
        let cluster = self.nodes[&id].disk.record().cluster.unwrap();
        let result = if self.has_quorum(id, cluster) {
            self.admissions.insert((cluster, member));
            let members = self.checks.sets[&cluster].members.iter().copied().collect();
            Ok(Admission { index: Index::new(2), members, cards: Vec::new() })
        } else {
            Err(NotAdmitted::NoLeader)
        };
        self.input(id, Input::AdmissionResolved { member, result });
    }

    fn group_frame(
        &mut self,
        from: Member,
        to: Member,
        cluster: ClusterId,
        message: group::Message,
    ) {
        let node = &self.nodes[&to.node];
        let runs = node.process.as_ref().is_some_and(|it| it.cores.contains_key(&cluster));
        let lost = self.is_cut(from.node, to.node) || self.is_liar(to.node);
        if lost || node.disk.me != to || !runs {
            return;
        }
        self.input(to.node, Input::Heard { cluster, member: from });
        self.core(to.node, cluster, |core, disk, out| core.receive(disk, from, message, out));
    }

    fn input(&mut self, id: NodeId, input: Input) {
        let now = self.now;
        if let Some(process) = self.nodes.get_mut(&id).unwrap().process.as_mut() {
            process.founding.handle(now, input);
            self.drain(id);
        }
    }

    fn drain(&mut self, id: NodeId) {
        loop {
            let node = self.nodes.get_mut(&id).unwrap();
            let epoch = node.epoch;
            let Some(process) = node.process.as_mut() else { return };
            let Some(output) = process.founding.poll() else {
                if let Some(deadline) = process.founding.deadline() {
                    self.at(deadline.max(self.now), Event::Wake { node: id, epoch });
                }
                return;
            };
            self.output(id, epoch, output);
        }
    }

    fn output(&mut self, id: NodeId, epoch: u64, output: Output) {
        let me = self.nodes[&id].disk.me;
        match output {
            Output::Send { .. } if self.is_liar(id) => {}
            Output::Send { to, message } => {
                self.checks.on_send(me, &self.nodes[&id].disk.record(), &message);
                let bytes = message.encode();
                self.transmit(Event::Deliver { from: me, to, bytes });
            }
            Output::Persist { id: write, ref record, .. } => {
                let job = (write, record.clone(), output);
                let process = self.running(id, epoch).unwrap();
                process.writes.push_back(job);
                if process.writes.len() == 1 {
                    let disk_ms = self.faults.disk_ms;
                    self.after(0, disk_ms, Event::Written { node: id, epoch });
                }
            }
            Output::StartGroup(founders) => self.start_core(id, &founders),
            Output::StopGroup(cluster) => self.stop_group(id, epoch, cluster),
            Output::Try { cluster, .. } => self.begin_trial(id, epoch, cluster),
            Output::Admitted { admission, .. } => assert!(!admission.members.is_empty()),
            Output::FirstEntry { cluster, fate } => {
                self.core(id, cluster, |core, disk, out| core.first_entry(disk, fate.into(), out));
            }
            Output::Campaign { cluster } => self.core(id, cluster, group::Core::campaign),
            Output::AskEmpty { cluster } => {
                if self.nodes[&id].disk.groups[&cluster].entry.is_none() {
                    self.input(id, Input::Empty { cluster });
                }
            }
            Output::Lives { cluster }
            | Output::Joined { cluster, .. }
            | Output::Entered { cluster } => {
                if matches!(output, Output::Entered { .. }) {
                    self.entered(id, epoch);
                }
                let record = self.nodes[&id].disk.record();
                assert_eq!(record.cluster, Some(cluster), "acting before it is durable");
                self.checks.acts(me, cluster);
            }
            Output::Admit { member } => {
                self.after(1, 100, Event::Admitted { node: id, epoch, member });
            }
            Output::AskRemoval => {}
            Output::Observe(event) => {
                let holds = self.nodes[&id].disk.record().promise.is_some();
                self.checks.on_event(holds, &event);
            }
        }
    }
}

//! One namespace of a node: its record, its founding and its replica, and what passes between them.
//!
//! Founding decides which group exists; the replica runs it. What a group's core learns of its
//! first entry goes back to founding. Peers that share the namespace tell each other addresses.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use bytes::Bytes;
use meshraft_consensus::{
    ClusterId, Config, Core, Entry, HardState, Incarnation, LoadError, LoadId, Member, Moment,
    Namespace, NodeId, Position, Restored, WriteId,
};
use meshraft_discovery::{
    FounderSet, Record, founding,
    founding::{Founding, FoundingConfig},
    peers::PeerMap,
};
use meshraft_service::{
    Router,
    router::RequestId,
    wire::{Operation, Reply},
};
use meshraft_storage::{GroupId, Job, OpenedGroup, OpenedNamespace};
use meshraft_transport::{PeerFacts, ReplyToken};

use super::{
    HostConfig, NamespaceOptions,
    desk::{Desk, Purpose},
    event::{HaltReason, NodeEvent},
    input::CallId,
    output::Output,
    record::{HostRecord, RecordError, remembered},
};
use crate::replica::{self, Replica};

/// Who asked, and so where the answer goes.
#[derive(Clone, Copy, Debug)]
pub(super) enum Origin {
    /// The embedding program.
    Call(CallId),
    /// A client, or a member that forwards.
    Peer(ReplyToken),
    /// A free node that asks to be admitted.
    Joiner(Member),
}

/// The group that this namespace runs now.
#[derive(Clone, Debug)]
pub(super) struct ActiveGroup {
    pub(super) cluster: ClusterId,
    pub(super) number: GroupId,
    /// Whether its fate is still open.
    pub(super) founding: bool,
    /// The last write that was handed to the store.
    pub(super) submitted: WriteId,
    /// The last write that is durable.
    pub(super) persisted: WriteId,
}

/// Whether the addresses of peers are on their way to the store: one write at a time, however often
/// they change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum PeersWrite {
    #[default]
    Idle,
    Out,
    /// They changed since.
    Again,
}

/// When peers are told everything once more, as any message may be lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Gossip {
    pub(super) due: Moment,
    pub(super) pause: Duration,
}

impl Gossip {
    pub(super) const PAUSE_MIN: Duration = Duration::from_secs(2);
    pub(super) const PAUSE_MAX: Duration = Duration::from_secs(60);

    pub(super) fn soon(now: Moment) -> Self {
        Self { due: now.plus(Self::PAUSE_MIN), pause: Self::PAUSE_MIN }
    }
}

/// One namespace of a node.
pub(super) struct Hosted {
    pub(super) namespace: Namespace,
    pub(super) me: Member,
    pub(super) founding: Founding,
    pub(super) replica: Replica,
    pub(super) active: Option<ActiveGroup>,
    pub(super) peers: PeerMap,
    /// Members of this namespace to which a handle exists.
    pub(super) shared: BTreeMap<NodeId, PeerFacts>,
    pub(super) origins: BTreeMap<RequestId, Origin>,
    groups: BTreeMap<ClusterId, GroupId>,
    /// Groups that the store held when it was opened, until they are started.
    on_disk: BTreeMap<ClusterId, OpenedGroup>,
    /// The founding part of the record that was handed to the store last.
    pub(super) record: Record,
    /// Whether the record exists in the store.
    born: bool,
    core_config: Config,
    told_clusters: Option<BTreeSet<ClusterId>>,
    pub(super) asked_empty: Option<ClusterId>,
    pub(super) peers_write: PeersWrite,
    pub(super) gossip: Gossip,
    pub(super) halted: Option<HaltReason>,
}

/// What a record on disk holds.
pub(super) fn check(found: &OpenedNamespace, node: NodeId) -> Result<(), RecordError> {
    parse(found, node).map(|_| ())
}

fn parse(found: &OpenedNamespace, node: NodeId) -> Result<(HostRecord, Record), RecordError> {
    let record = HostRecord::decode(&found.record)?;
    if record.node != node {
        return Err(RecordError::OtherNode { of: record.node, node });
    }
    let founding = Record::decode(&record.founding).map_err(|_| RecordError::Corrupt)?;
    Ok((record, founding))
}

impl Hosted {
    /// Opens a namespace: goes on from what is on disk, or creates its record.
    pub(super) fn open(
        config: &HostConfig,
        namespace: Namespace,
        options: NamespaceOptions,
        found: Option<OpenedNamespace>,
        now: Moment,
        desk: &mut Desk,
    ) -> Result<Self, RecordError> {
        let parsed = found.as_ref().map(|found| parse(found, config.node)).transpose()?;
        let born = parsed.is_some();
        let mut peers = PeerMap::new(config.node);
        let (incarnation, record) = match parsed {
            None => (draw_incarnation(config, &namespace), Record::default()),
            Some((on_disk, record)) => {
                for (node, address) in on_disk.peers {
                    peers.learn(node, address);
                }
                (on_disk.incarnation, record)
            }
        };
        let me = Member::new(config.node, incarnation);
        let founding = Founding::new(
            FoundingConfig {
                namespace: namespace.clone(),
                me,
                expect: options.expect,
                found: options.found,
                window: options.window,
                threshold_percent: FoundingConfig::THRESHOLD_PERCENT,
                force: false,
                voters_target: FounderSet::MEMBERS_MAX,
                election_max: options.core.knobs().election * 2,
                seed: number_from(config, &namespace, b"founding"),
                targets: options.targets,
            },
            record.clone(),
            now,
        );
        let core_config = seeded(&options.core, number_from(config, &namespace, b"core"));
        let router = Router::new(config.node);
        let mut hosted = Self {
            replica: Replica::new(options.machine, router, now),
            groups: BTreeMap::new(),
            on_disk: BTreeMap::new(),
            active: None,
            shared: BTreeMap::new(),
            origins: BTreeMap::new(),
            told_clusters: None,
            asked_empty: None,
            peers_write: PeersWrite::Idle,
            gossip: Gossip::soon(now),
            halted: None,
            namespace,
            me,
            founding,
            peers,
            record,
            born,
            core_config,
        };
        for node in options.known {
            hosted.founding.handle(now, founding::Input::Known(node));
        }
        hosted.begin(now, found, desk);
        Ok(hosted)
    }

    /// Writes the record of a namespace that is new; else goes on with the group on disk.
    fn begin(&mut self, now: Moment, found: Option<OpenedNamespace>, desk: &mut Desk) {
        let Some(found) = found else {
            self.write_record(Purpose::Birth, None, Vec::new(), desk);
            return;
        };
        for group in found.groups {
            self.groups.insert(group.cluster, group.group);
            self.on_disk.insert(group.cluster, group);
        }
        // The group of a promise is started by founding; a cluster's is known from the record.
        if let Some(cluster) = self.record.cluster {
            self.start_group(now, cluster, None, desk);
        }
        for (peer, address) in remembered(&self.peers, self.me.node) {
            desk.push(Output::AddAddress { peer, address });
        }
    }

    /// Starts a group's core on what the store holds of it.
    fn start(
        &mut self,
        now: Moment,
        group: OpenedGroup,
        set: Option<&FounderSet>,
        desk: &mut Desk,
    ) {
        let cluster = group.cluster;
        let restored = Restored {
            me: self.me,
            cluster,
            founding: set.map(|set| set.members.iter().copied().collect()),
            hard: group.hard,
            snapshot: group.snapshot,
            terms: group.terms,
            configurations: group.configurations,
            last: group.last,
            damage: group.damage,
        };
        let core = Core::new(self.core_config.clone(), restored, now);
        self.active = Some(ActiveGroup {
            cluster,
            number: group.group,
            founding: set.is_some(),
            submitted: WriteId::ZERO,
            persisted: WriteId::ZERO,
        });
        self.replica
            .handle(now, replica::Input::Start { core: Box::new(core), founding: set.is_some() });
        for (node, facts) in &self.shared {
            if let Some(incarnation) =
                facts.incarnation.filter(|_| facts.clusters.contains(&cluster))
            {
                let member = Member::new(*node, incarnation);
                self.replica.handle(now, replica::Input::PeerUp(member));
            }
        }
        if set.is_none() {
            self.event(desk, NodeEvent::Serving { cluster });
        }
    }

    /// Starts a group on what was found on disk, or as one that was created a moment ago.
    pub(super) fn start_group(
        &mut self,
        now: Moment,
        cluster: ClusterId,
        set: Option<&FounderSet>,
        desk: &mut Desk,
    ) {
        let Some(group) = self.groups.get(&cluster).copied() else { return };
        if self.halted.is_some() {
            return;
        }
        let found = self.on_disk.remove(&cluster).unwrap_or_else(|| OpenedGroup {
            group,
            cluster,
            hard: HardState::default(),
            snapshot: None,
            terms: Vec::new(),
            configurations: Vec::new(),
            last: Position::ZERO,
            damage: None,
        });
        self.start(now, found, set, desk);
    }

    pub(super) fn stop(&mut self, now: Moment, cluster: ClusterId) {
        if self.active.as_ref().is_some_and(|active| active.cluster == cluster) {
            self.active = None;
            self.replica.handle(now, replica::Input::Stop);
        }
    }

    pub(super) fn timeout(&mut self, now: Moment, desk: &mut Desk) {
        self.tell_again(now, desk);
        self.founding.handle(now, founding::Input::Timeout);
        self.replica.handle(now, replica::Input::Timeout);
    }

    pub(super) fn deadline(&self) -> Option<Moment> {
        let told_again = (!self.shared.is_empty()).then_some(self.gossip.due);
        let inner = self.founding.deadline().into_iter().chain(self.replica.deadline());
        inner.chain(told_again).min()
    }

    pub(super) fn replica(&self) -> &Replica {
        &self.replica
    }

    /// A job of this namespace is durable.
    pub(super) fn stored(&mut self, now: Moment, purpose: Purpose, desk: &mut Desk) {
        match purpose {
            Purpose::Birth => self.born = true,
            Purpose::Peers => {
                if std::mem::take(&mut self.peers_write) == PeersWrite::Again {
                    self.remember_peers(desk);
                }
            }
            Purpose::Founding(id) => {
                self.founding.handle(now, founding::Input::Persisted(id));
            }
            Purpose::Log(group, write) => {
                if let Some(active) = self.active.as_mut().filter(|it| it.number == group) {
                    active.persisted = write;
                    self.replica.handle(now, replica::Input::Persisted(write));
                }
            }
        }
        self.share(desk);
    }

    pub(super) fn loaded(
        &mut self,
        now: Moment,
        group: GroupId,
        id: LoadId,
        result: Result<Vec<Entry>, LoadError>,
    ) {
        if self.active.as_ref().is_some_and(|active| active.number == group) {
            self.replica.handle(now, replica::Input::Loaded { id, result });
        }
    }

    pub(super) fn store_failed(&mut self, now: Moment) {
        self.replica.handle(now, replica::Input::StoreFailed);
        self.active = None;
        self.halted = Some(HaltReason::StoreFailed);
    }

    pub(super) fn close(&mut self, now: Moment, desk: &mut Desk) {
        self.replica.handle(now, replica::Input::Close);
        self.drain(now, desk);
    }

    /// Hands a request to the router, and remembers who asked.
    pub(super) fn submit(
        &mut self,
        now: Moment,
        origin: Origin,
        hops: u8,
        deadline: Moment,
        operation: Operation,
        desk: &mut Desk,
    ) {
        let id = desk.submission();
        self.origins.insert(id, origin);
        let told = match operation {
            Operation::Status => Reply::Status(Box::new(self.status())),
            Operation::Members => Reply::Members(self.status().members),
            Operation::Addresses => Reply::Addresses(self.member_addresses()),
            operation => {
                let input = replica::Input::Submit { id, hops, deadline, operation };
                return self.replica.handle(now, input);
            }
        };
        self.answer(now, id, Ok(told), desk);
    }

    pub(super) fn event(&self, desk: &mut Desk, event: NodeEvent) {
        desk.push(Output::Event { namespace: self.namespace.clone(), event });
    }

    /// Lets founding and replica say what they want until both want nothing.
    pub(super) fn drain(&mut self, now: Moment, desk: &mut Desk) {
        loop {
            let mut quiet = true;
            while let Some(output) = self.founding.poll() {
                quiet = false;
                self.founding_output(now, output, desk);
            }
            self.replica.drain();
            while let Some(output) = self.replica.poll() {
                quiet = false;
                self.replica_output(now, output, desk);
            }
            quiet &= !self.tell_empty(now);
            if quiet {
                break;
            }
        }
        self.share(desk);
    }

    /// Answers founding's question whether the group's log is empty, after the core was drained.
    fn tell_empty(&mut self, now: Moment) -> bool {
        let Some(cluster) = self.asked_empty.take() else { return false };
        let Some(active) = self.active.as_ref().filter(|active| active.cluster == cluster) else {
            return false;
        };
        let settled = active.submitted == active.persisted;
        // A log that can't be read looks empty, and is not.
        let empty = self
            .replica
            .status()
            .is_some_and(|core| core.last == Position::ZERO && core.damage.is_none());
        if settled && empty {
            self.founding.handle(now, founding::Input::Empty { cluster });
        }
        settled && empty
    }

    /// Tells the transport under which facts this namespace is shared, when they changed. Nothing
    /// is shared before the incarnation is durable.
    fn share(&mut self, desk: &mut Desk) {
        let clusters: BTreeSet<_> = self.active.iter().map(|active| active.cluster).collect();
        if !self.born || self.told_clusters.as_ref() == Some(&clusters) {
            return;
        }
        self.told_clusters = Some(clusters.clone());
        desk.push(Output::Share {
            namespace: self.namespace.clone(),
            incarnation: self.me.incarnation,
            clusters,
        });
    }

    /// Hands the whole record to the store, together with the groups that begin or end with it.
    pub(super) fn write_record(
        &mut self,
        purpose: Purpose,
        create: Option<ClusterId>,
        drop: Vec<ClusterId>,
        desk: &mut Desk,
    ) {
        let create = create.map(|cluster| {
            let group = desk.group();
            self.groups.insert(cluster, group);
            (group, cluster)
        });
        let drop = drop.iter().filter_map(|cluster| self.groups.remove(cluster)).collect();
        let record = HostRecord {
            node: self.me.node,
            incarnation: self.me.incarnation,
            founding: self.record.encode().to_vec(),
            peers: remembered(&self.peers, self.me.node),
        };
        let (namespace, record) = (self.namespace.clone(), Bytes::from(record.encode()));
        desk.store(&self.namespace, purpose, |ticket| Job::Record {
            ticket,
            namespace,
            record,
            create,
            drop,
        });
    }
}

fn seeded(config: &Config, seed: u64) -> Config {
    let mut knobs = config.knobs().clone();
    knobs.seed = seed;
    // The seed is under no rule, so knobs that were valid still are.
    knobs.build().unwrap_or_else(|_| config.clone())
}

/// Bytes drawn from the host's seed for one purpose of one namespace.
fn drawn(config: &HostConfig, namespace: &Namespace, purpose: &[u8]) -> [u8; 32] {
    let mut context = ring::digest::Context::new(&ring::digest::SHA256);
    context.update(&config.seed);
    context.update(config.node.as_bytes());
    context.update(namespace.as_str().as_bytes());
    context.update(purpose);
    let mut bytes = [0; 32];
    bytes.copy_from_slice(context.finish().as_ref());
    bytes
}

/// 128 bits that no other life of this namespace in any store has: the seed is fresh each run.
fn draw_incarnation(config: &HostConfig, namespace: &Namespace) -> Incarnation {
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, ..] =
        drawn(config, namespace, b"incarnation");
    Incarnation::new([a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p])
}

fn number_from(config: &HostConfig, namespace: &Namespace, purpose: &[u8]) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = drawn(config, namespace, purpose);
    u64::from_be_bytes([a, b, c, d, e, f, g, h])
}

//! One namespace of a node: its record, its founding and its replica, and what passes between them.
//!
//! Founding decides which group exists; the replica runs it. What a group's core learns of its
//! first entry goes back to founding. Peers that share the namespace tell each other addresses.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use meshraft_consensus::{
    ClusterId, ClusterVersion, Config, Configuration, Entry, Incarnation, LoadError, LoadId,
    Member, Moment, Namespace, NodeId,
};
use meshraft_discovery::{
    Ballot, FounderSet, Record, founding,
    founding::{Founding, FoundingConfig},
    peers::{Address, Directory},
};
use meshraft_service::{
    Router, ServiceError,
    router::RequestId,
    wire::{Level, Operation, Reply},
};
use meshraft_storage::{GroupId, OpenedGroup, OpenedNamespace};
use meshraft_transport::{PeerFacts, ReplyToken};

use super::{
    HostConfig, NamespaceOptions,
    credentials::{Credentials, named_cluster},
    describe::Describing,
    desk::{Desk, Purpose},
    draw::{Ids, Life, core_of, draw_incarnation, number_from, seeded},
    event::{HaltReason, NodeEvent},
    fenced::FencedGroups,
    groups::ActiveGroup,
    input::CallId,
    keeping::{PeersWrite, parse},
    membership::Leavers,
    output::Output,
    record::{HostRecord, RecordError, SetAside, by_node},
    snapshots::{Traffic, pin_time},
};
use crate::replica::{self, Replica, ReplicaOptions, SnapshotThresholds};

/// Who asked, and so where the answer goes.
#[derive(Clone, Copy, Debug)]
pub(super) enum Origin {
    /// The embedding program.
    Call(CallId),
    /// A client, or a member that forwards.
    Peer(ReplyToken),
    /// A free node that asks to be admitted.
    Joiner(Member),
    /// This node, which wants to leave.
    Leaving,
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

/// The cluster that was shared last, if any, and the version of whom its core knew then; none while
/// the core does not run.
pub(super) type ToldKnown = Option<(ClusterId, Option<u64>)>;

/// One namespace of a node.
pub(super) struct Hosted {
    pub(super) namespace: Namespace,
    pub(super) me: Member,
    /// What belongs to an earlier one is not for this one.
    pub(super) life: Life,
    pub(super) host_config: HostConfig,
    pub(super) founding_config: FoundingConfig,
    pub(super) founding: Founding,
    pub(super) replica: Replica,
    pub(super) active: Option<ActiveGroup>,
    /// The founder set's group that was set aside for a cluster on trial.
    pub(super) aside: Option<ActiveGroup>,
    pub(super) peers: Directory,
    /// What the members were told from last: the configuration, and the promise.
    pub(super) pinned: (Option<Configuration>, Option<Ballot>),
    /// Members of this namespace to which a handle exists.
    pub(super) shared: BTreeMap<NodeId, PeerFacts>,
    pub(super) origins: BTreeMap<RequestId, Origin>,
    pub(super) groups: BTreeMap<ClusterId, GroupId>,
    /// Groups that the store held when it was opened, until they are started.
    pub(super) on_disk: BTreeMap<ClusterId, OpenedGroup>,
    /// Groups in the store that an operator released this node from.
    pub(super) released: Vec<SetAside>,
    /// The founding part of the record that was handed to the store last.
    pub(super) record: Record,
    /// Whether the record exists in the store.
    pub(super) born: bool,
    pub(super) core_config: Config,
    /// Under which cluster this namespace is shared, and which version of whom the core knows was
    /// told with it.
    pub(super) told_known: Option<ToldKnown>,
    pub(super) asked_empty: Option<ClusterId>,
    pub(super) peers_write: PeersWrite,
    /// How this member proves itself, and whom it hears beside the members of its log.
    pub(super) credentials: Credentials,
    /// Logs of incarnations that act no more, and those of them that go with the next write.
    pub(super) fenced: FencedGroups,
    pub(super) dropping: Vec<GroupId>,
    pub(super) gossip: Gossip,
    pub(super) halted: Option<HaltReason>,
    pub(super) traffic: Traffic,
    /// Ids of peers that the operator named.
    pub(super) known: Vec<NodeId>,
    pub(super) leavers: Leavers,
    /// The newest version of commands that this member supports.
    pub(super) supports: ClusterVersion,
    pub(super) describing: Describing,
    /// Members that went while the group slept, which it was not told yet.
    pub(super) untold: BTreeSet<Member>,
}

/// What the record of a namespace holds; of a new one, little.
struct Kept {
    me: Member,
    record: Record,
    credentials: Credentials,
    fenced: FencedGroups,
    released: Vec<SetAside>,
    peers: Directory,
    heard: Vec<(NodeId, Address)>,
}

impl Kept {
    fn of(
        config: &HostConfig,
        namespace: &Namespace,
        draw: impl FnOnce() -> Incarnation,
        parsed: Option<(HostRecord, Record)>,
    ) -> Self {
        let mut peers = Directory::new(config.node);
        let Some((on_disk, record)) = parsed else {
            let me = Member::new(config.node, draw());
            let credentials = Credentials::restore(me, None, Vec::new(), Vec::new());
            let (record, fenced) = (Record::default(), FencedGroups::default());
            let (released, heard) = (Vec::new(), Vec::new());
            return Self { me, record, credentials, fenced, released, peers, heard };
        };
        for (node, addresses) in by_node(on_disk.peers) {
            peers.set_proven(node, addresses);
        }
        let me = Member::new(config.node, on_disk.incarnation);
        let named = named_cluster(&record, namespace);
        let credentials = Credentials::restore(me, named, on_disk.cards, on_disk.vouched);
        let fenced = FencedGroups::restore(on_disk.fenced);
        let (released, heard) = (on_disk.aside, on_disk.heard);
        Self { me, record, credentials, fenced, released, peers, heard }
    }
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
        let life = desk.life();
        let parsed = found.as_ref().map(|found| parse(found, config.node)).transpose()?;
        let born = parsed.is_some();
        let draw = || draw_incarnation(config, &namespace, life);
        let kept = Kept::of(config, &namespace, draw, parsed);
        let Kept { me, record, credentials, fenced, released, peers, heard } = kept;
        let seed = number_from(config, &namespace, life, b"founding");
        let founding_config = founding_config(&namespace, me, &options, seed);
        let founding = Founding::new(founding_config.clone(), record.clone(), now);
        let seed = number_from(config, &namespace, life, b"core");
        let core_config = seeded(&core_of(&options), seed);
        let traffic = Traffic::new(life, Ids::new(config, &namespace, life));
        let snapshots = thresholds(&options);
        let options_of_replica = ReplicaOptions {
            machine: options.machine,
            snapshots,
            pin_time: pin_time(core_config.knobs().election),
            supports: options.supports,
        };
        let mut hosted = Self {
            replica: Replica::new(options_of_replica, Router::new(config.node), now),
            traffic,
            groups: BTreeMap::new(),
            released,
            on_disk: BTreeMap::new(),
            active: None,
            aside: None,
            shared: BTreeMap::new(),
            origins: BTreeMap::new(),
            told_known: None,
            credentials,
            fenced,
            dropping: Vec::new(),
            asked_empty: None,
            peers_write: PeersWrite::Idle,
            gossip: Gossip::soon(now),
            halted: None,
            namespace,
            me,
            life,
            host_config: config.clone(),
            founding_config,
            founding,
            known: options.known,
            leavers: Leavers::default(),
            supports: options.supports,
            describing: Describing::new(),
            untold: BTreeSet::new(),
            peers,
            pinned: (None, None),
            record,
            born,
            core_config,
        };
        for node in hosted.known.clone() {
            hosted.founding.handle(now, founding::Input::Known(node));
        }
        hosted.begin(now, found, heard, desk);
        Ok(hosted)
    }

    pub(super) fn timeout(&mut self, now: Moment, desk: &mut Desk) {
        self.tell_again(now, desk);
        self.founding.handle(now, founding::Input::Timeout);
        self.replica.handle(now, replica::Input::Timeout);
        self.fetch_timeout(now, desk);
    }

    pub(super) fn deadline(&self) -> Option<Moment> {
        // Where nothing happens everybody was told everything often enough.
        let rests = self.gossip.pause == Gossip::PAUSE_MAX && self.replica.is_dormant();
        let told_again = (!self.shared.is_empty() && !rests).then_some(self.gossip.due);
        let inner = self.founding.deadline().into_iter().chain(self.replica.deadline());
        let inner = inner.chain(self.traffic.deadline()).chain(self.leavers.deadline());
        inner.chain(told_again).min()
    }

    pub(super) fn replica(&self) -> &Replica {
        &self.replica
    }

    /// A job of this namespace is durable.
    pub(super) fn stored(&mut self, now: Moment, purpose: Purpose, desk: &mut Desk) {
        match purpose {
            Purpose::Birth => self.birth_stored(now, desk),
            Purpose::Peers => self.peers_stored(desk),
            Purpose::Founding(id) => {
                self.founding.handle(now, founding::Input::Persisted(id));
            }
            Purpose::Log(group, write) => self.log_stored(now, group, write),
            Purpose::Entered { record, group, write } => {
                self.founding.handle(now, founding::Input::Persisted(record));
                self.log_stored(now, group, write);
            }
            Purpose::Orphans => {}
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
        self.end_group();
        self.halted = Some(HaltReason::StoreFailed);
    }

    pub(super) fn close(&mut self, now: Moment, desk: &mut Desk) {
        self.dismiss_leavers(now, desk);
        self.end_descriptions(now, desk);
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
            Operation::Status => Reply::Status(Box::new(self.status().plain())),
            Operation::Describe => return self.describe(now, id, desk),
            Operation::Members => Reply::Members(self.status().members),
            Operation::Addresses => Reply::Addresses(self.member_addresses()),
            Operation::Leave => return self.asked_to_leave(now, id, deadline, desk),
            Operation::Rejoin => return self.asked_to_rejoin(now, id, desk),
            operation if self.is_out(origin) && !is_stale(&operation) => {
                return self.answer(now, id, Err(ServiceError::NotMember), desk);
            }
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
            quiet &= !self.tell_empty(now) && !self.tell_gone(now);
            quiet &= !self.check_known(now, desk);
            if quiet {
                break;
            }
        }
        self.answer_leavers(now, desk);
        self.pin_members(desk);
        self.share(desk);
    }
}

/// Whether a request is content with whatever this node has applied.
const fn is_stale(operation: &Operation) -> bool {
    matches!(operation, Operation::Read { level: Level::Stale, .. })
}

/// When a snapshot is due.
const fn thresholds(options: &NamespaceOptions) -> SnapshotThresholds {
    SnapshotThresholds { bytes: options.snapshot_bytes, entries: options.snapshot_entries }
}

/// How a namespace is founded, in founding's words.
fn founding_config(
    namespace: &Namespace,
    me: Member,
    options: &NamespaceOptions,
    seed: u64,
) -> FoundingConfig {
    FoundingConfig {
        namespace: namespace.clone(),
        me,
        expect: options.expect,
        found: options.found,
        window: options.window,
        threshold_percent: options.threshold_percent,
        force: options.force,
        voters_target: options.voters_target.min(FounderSet::MEMBERS_MAX),
        election_max: options.core.knobs().election * 2,
        seed,
        targets: options.targets,
        keyed: options.keyed,
    }
}

//! Settings of a namespace that a node shall host.

use std::{num::NonZeroU16, path::PathBuf, time::Duration};

use meshraft_consensus::{ClusterVersion, Namespace};
use meshraft_service::{StateMachine, envelope::VERSION_LATEST, kv::Kv};
use meshraft_transport::{KeyRing, NamespaceKey};
use tokio::sync::oneshot;

use super::{
    Node,
    error::OpenError,
    founders::{Founders, FoundersError, Voters},
    handle::NamespaceHandle,
    keys::{Given, OneKey},
};
use crate::{
    config::{Pace, Timing},
    host::NamespaceOptions,
    runtime::command::{Command, NotOpened, Open},
};

/// Settings of a namespace. [`NamespaceBuilder::open`] checks them all before anything is done.
#[must_use = "a namespace is hosted when it is opened"]
pub struct NamespaceBuilder {
    node: Node,
    name: String,
    founders: Founders,
    expects_nobody: bool,
    pace: Pace,
    keys: Given,
    machine: Box<dyn StateMachine>,
    supports: ClusterVersion,
    snapshot_bytes: u64,
    snapshot_entries: u64,
    keep_entries: Option<u64>,
}

impl NamespaceBuilder {
    pub(super) fn new(node: Node, name: String) -> Self {
        let pace = node.pace;
        Self {
            node,
            name,
            founders: Founders::default(),
            expects_nobody: false,
            pace,
            keys: Given::default(),
            machine: Box::new(Kv::new()),
            supports: VERSION_LATEST,
            snapshot_bytes: NamespaceOptions::SNAPSHOT_BYTES,
            snapshot_entries: NamespaceOptions::SNAPSHOT_ENTRIES,
            keep_entries: None,
        }
    }

    /// Found a cluster as soon as this many nodes agree, and never with fewer. Without it the node
    /// founds with whom it has seen when its window ends, be it alone.
    pub fn expect(mut self, founders: u16) -> Self {
        self.founders.expect = NonZeroU16::new(founders);
        self.expects_nobody = founders == 0;
        self
    }

    /// How long to look around before deciding by what was seen; 5 s where nothing is said.
    pub fn window(mut self, window: Duration) -> Self {
        self.founders.window = window;
        self
    }

    /// Within which part of the window a node must be seen to become a founder, above 0 and at most
    /// 1; 0.8 where nothing is said. Later ones join. Counts only without an expected number.
    pub fn threshold(mut self, threshold: f64) -> Self {
        self.founders.threshold = threshold;
        self
    }

    /// Found a cluster alone and at once. Refused where a promise or a cluster is on record; it is
    /// remembered and shown. For a namespace whose other members are gone for good.
    pub fn force_bootstrap(mut self) -> Self {
        self.founders.force_bootstrap = true;
        self
    }

    /// Never found: join a living cluster, or go on where it was.
    pub fn join_only(mut self) -> Self {
        self.founders.join_only = true;
        self
    }

    /// How many members vote, the others being learners; a target of 5, or of the expected number
    /// of founders if that is more, where nothing is said. All members should say the same: the
    /// leader's word counts.
    pub fn voters(mut self, voters: Voters) -> Self {
        self.founders.voters = Some(voters);
        self
    }

    /// All settings of founding at once, instead of those given before.
    pub fn founders(mut self, founders: Founders) -> Self {
        (self.founders, self.expects_nobody) = (founders, false);
        self
    }

    /// How far apart the members are; default is the node's.
    pub fn timing(mut self, timing: Timing) -> Self {
        self.pace = Pace { timing, heartbeat: None, election: None, ..self.pace };
        self
    }

    /// The leader's heartbeat, instead of the preset's. Call it after [`NamespaceBuilder::timing`].
    pub fn heartbeat(mut self, heartbeat: Duration) -> Self {
        self.pace.heartbeat = Some(heartbeat);
        self
    }

    /// The shortest election time-out, instead of the preset's; the longest is twice that. At
    /// least four heartbeats. Call it after [`NamespaceBuilder::timing`].
    pub fn election(mut self, election: Duration) -> Self {
        self.pace.election = Some(election);
        self
    }

    /// How late this node campaigns when no leader is heard: each step from zero, the default, to
    /// six waits half an election time-out longer, so that nodes of a lower rank lead if they can.
    pub fn election_rank(mut self, rank: u8) -> Self {
        self.pace.election_rank = rank;
        self
    }

    /// Lets a leader serve reads of level `lease` without asking anybody, as long as it is sure to
    /// be the only one. The number is a promise: while an election time-out passes, no two members'
    /// clocks drift apart by more than so many thousandths, and none stands still, as that of a
    /// suspended, paused or moved machine does. All members must be given the same, and
    /// the same election time-out; a member that restarts gives no vote for that long. Zero takes
    /// it back, and is the default.
    pub fn lease_drift_permille(mut self, permille: u16) -> Self {
        self.pace.lease_drift_permille = NonZeroU16::new(permille);
        self
    }

    /// After how long without work this namespace sleeps, instead of the node's setting: see
    /// [`super::NodeBuilder::quiesce_after`]. What its leader is told counts.
    pub fn quiesce_after(mut self, idle: impl Into<Option<Duration>>) -> Self {
        self.pace.quiesce_after = Some(idle.into());
        self
    }

    /// A key file of this namespace, instead of the node's keys: 32 raw bytes, or 64 hexadecimal
    /// digits. Several form a ring: the first is used, the others are accepted.
    pub fn key_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.keys.push(OneKey::File(path.into()));
        self
    }

    /// As [`NamespaceBuilder::key_file`], from memory.
    pub fn key(mut self, key: NamespaceKey) -> Self {
        self.keys.push(OneKey::Key(key));
        self
    }

    /// The whole ring of this namespace, instead of what was given before; empty is no key.
    pub fn keys(mut self, keys: KeyRing) -> Self {
        self.keys = Given::Ring(keys);
        self
    }

    /// What commands are applied to, instead of the key-value machine. All members must use the
    /// same: set, get, delete and keys do not work on it, propose and query do.
    pub fn machine(mut self, machine: impl StateMachine + 'static) -> Self {
        self.machine = Box::new(machine);
        self
    }

    /// The newest version of commands that this member supports, instead of what this release does.
    /// Lower, to keep new commands out of a cluster until every node was seen to run well on the
    /// new release; higher, with a [`StateMachine`] of one's own that knows newer commands than it
    /// did ([`StateMachine::needs`]). A version comes into force by itself once every member
    /// supports it, and for good: a member that supports less then halts, and deletes nothing.
    pub fn supports(mut self, version: ClusterVersion) -> Self {
        self.supports = version;
        self
    }

    /// Take a snapshot after this many bytes of commands, 64 MiB if not set; the log is then cut.
    /// While the state is large, only after half of what its newest snapshot has.
    pub fn snapshot_bytes(mut self, bytes: u64) -> Self {
        self.snapshot_bytes = bytes;
        self
    }

    /// Take a snapshot after this many commands, 100,000 if not set; with the same exception.
    pub fn snapshot_entries(mut self, entries: u64) -> Self {
        self.snapshot_entries = entries;
        self
    }

    /// Keep this many commands in the log behind the newest snapshot, 10,000 if not set, as long as
    /// they are in memory: a member that is no further behind needs no snapshot to catch up.
    pub fn keep_entries(mut self, entries: u64) -> Self {
        self.keep_entries = Some(entries);
        self
    }

    /// Hosts the namespace. Returns at once; [`NamespaceHandle::ready`] waits until it serves.
    /// Cancelled, it may be hosted all the same.
    ///
    /// # Errors
    /// Names what is wrong with the settings; nothing was changed then.
    pub async fn open(self) -> Result<NamespaceHandle, OpenError> {
        let Self { node, name, founders, expects_nobody, pace, keys, machine, .. } = self;
        let (snapshot_bytes, snapshot_entries) = (self.snapshot_bytes, self.snapshot_entries);
        let namespace = match Namespace::new(&name) {
            Ok(namespace) => namespace,
            Err(source) => return Err(OpenError::Name { name, source }),
        };
        let nobody = expects_nobody.then_some(FoundersError::ExpectsNobody);
        if let Some(source) = nobody.or_else(|| founders.check().err()) {
            return Err(OpenError::Founders { namespace, source });
        }
        let keep_entries = self.keep_entries;
        let core = match pace.core(keep_entries) {
            Ok(core) => core,
            Err(source) => return Err(OpenError::Timing { namespace, source }),
        };
        let keys = keys.ring()?.unwrap_or_else(|| node.keys.clone());
        let options = NamespaceOptions {
            expect: founders.expect,
            found: !founders.join_only,
            window: founders.window,
            threshold_percent: founders.threshold_percent(),
            force: founders.force_bootstrap,
            voters_target: founders.voters_target(),
            core,
            machine,
            supports: self.supports,
            snapshot_bytes,
            snapshot_entries,
            known: node.known.clone(),
            targets: node.targets,
            keyed: !keys.is_open(),
        };
        let (answer, opened) = oneshot::channel();
        let open = Open { namespace: namespace.clone(), options, keys, answer };
        node.running.send(Command::Open(Box::new(open))).await.map_err(OpenError::Stopped)?;
        match opened.await {
            Ok(Ok(board)) => Ok(NamespaceHandle::new(namespace, node.running, board)),
            Ok(Err(NotOpened::AlreadyOpen)) => Err(OpenError::AlreadyOpen { namespace }),
            Ok(Err(NotOpened::Lost(source))) => Err(OpenError::Lost { namespace, source }),
            Ok(Err(NotOpened::Forced(source))) => Err(OpenError::Forced { namespace, source }),
            Ok(Err(NotOpened::Unreadable(source))) => {
                Err(OpenError::Unreadable { namespace, source })
            }
            Err(_) => Err(OpenError::Stopped(node.ended().await)),
        }
    }
}

impl std::fmt::Debug for NamespaceBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NamespaceBuilder")
            .field("name", &self.name)
            .field("founders", &self.founders)
            .field("pace", &self.pace)
            .finish_non_exhaustive()
    }
}

//! One member of a test's cluster, and what its driver holds.

use std::collections::{BTreeMap, VecDeque};

use meshraft_consensus::{
    Configuration, Core, Entry, Index, LoadError, Member, Position, SnapshotMeta, Write,
};

use crate::{
    disk::{Disk, File},
    transfer::Fetch,
};

/// One member: its core while it runs, its disk, and what its driver holds.
pub(crate) struct Node {
    pub(crate) core: Option<Core>,
    pub(crate) disk: Disk,
    pub(crate) writes: VecDeque<Write>,
    pub(crate) stalled: bool,
    /// What the driver stores of whom the member is to hear.
    pub(crate) vouched: Vec<(Member, Index)>,
    /// What was applied after the snapshot that the state began from.
    pub(crate) applied: Vec<Entry>,
    /// The last entry that the state holds, a digest of it, and the configuration in force there.
    pub(crate) applied_at: Option<Position>,
    pub(crate) state: u64,
    pub(crate) configuration: (Index, Configuration),
    /// Snapshots: the one being fetched, the one to install, those kept for others; whether the
    /// core has given the state up.
    pub(crate) fetch: Option<Fetch>,
    pub(crate) install: Option<SnapshotMeta>,
    pub(crate) pins: BTreeMap<Member, Index>,
    pub(crate) replaced: bool,
    pub(crate) slow_transfer: bool,
    /// Whether the driver goes on when the core says that it is amnesiac.
    pub(crate) stubborn: bool,
    /// Whether the driver leaves applied entries unreported.
    pub(crate) slow_apply: bool,
    /// What the store answers instead of entries.
    pub(crate) load_error: Option<LoadError>,
    pub(crate) backlog_bytes: u64,
    pub(crate) starts: u64,
    /// How late it campaigns.
    pub(crate) rank: u8,
    /// The first entry that its core's log still held.
    pub(crate) first: Index,
}

impl Node {
    pub(crate) fn new(disk: Disk) -> Self {
        Self {
            core: None,
            disk,
            writes: VecDeque::new(),
            stalled: false,
            vouched: Vec::new(),
            applied: Vec::new(),
            applied_at: None,
            state: 0,
            configuration: (Index::ZERO, Configuration::default()),
            fetch: None,
            install: None,
            pins: BTreeMap::new(),
            replaced: false,
            slow_transfer: false,
            stubborn: false,
            slow_apply: false,
            load_error: None,
            backlog_bytes: 0,
            starts: 0,
            rank: 0,
            first: Index::ZERO,
        }
    }

    /// The last slot that the state holds.
    pub(crate) fn applied_index(&self) -> Index {
        self.applied_at.map_or(Index::ZERO, |position| position.index)
    }

    /// The state is that of a snapshot.
    pub(crate) fn begin_at(&mut self, file: &File) {
        let meta = &file.meta;
        (self.applied_at, self.state) = (Some(meta.position), file.state);
        self.configuration = (meta.configuration_index, meta.configuration.clone());
    }

    /// Forgets what a process that died held in memory.
    pub(crate) fn forget(&mut self) {
        (self.fetch, self.install, self.replaced) = (None, None, false);
        self.pins.clear();
        self.applied.clear();
        (self.applied_at, self.state, self.backlog_bytes, self.first) = (None, 0, 0, Index::ZERO);
        let founders = self.disk.founding.clone().unwrap_or_default();
        self.configuration = (Index::ZERO, Configuration::of_voters(founders));
        let Some(meta) = self.disk.snapshot.clone() else { return };
        // A scenario may begin with a record alone; nobody can check that state.
        let file = self.disk.files.get(&meta.position.index).cloned();
        self.begin_at(&file.unwrap_or(File { meta, state: 0 }));
    }
}

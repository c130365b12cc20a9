//! One member: its core while its process runs, its disk, its machine, and what its driver holds.

use std::collections::VecDeque;

use meshraft_consensus::{
    Configuration, Core, Entry, EntryKind, Incarnation, Index, IndexRange, LoadId, Member, Message,
    NodeId, Position, SnapshotMeta,
};
use meshraft_storage::GroupId;

use super::{
    cards::Acquaintances,
    disk::{Disk, File},
    losses::OldCopy,
};
use crate::{
    check::{GroupKey, Violation},
    world::{Seat, clock::LocalClock},
};

/// The member of a seat in one of its lives.
pub(super) fn member(seat: Seat, life: u8) -> Member {
    let number = u8::try_from(seat.0 + 1).unwrap_or(u8::MAX);
    Member::new(NodeId::new([number; 32]), Incarnation::new([life; 16]))
}

/// A snapshot on its way to this member.
#[derive(Clone, Debug)]
pub(super) struct Fetch {
    pub(super) from: Member,
    pub(super) meta: SnapshotMeta,
    pub(super) parts: u64,
}

/// What a machine has applied.
#[derive(Clone, Debug)]
pub(super) struct Machine {
    pub(super) applied: Position,
    pub(super) state: u64,
    pub(super) configuration: (Index, Configuration),
    /// What the last snapshot of it covers.
    pub(super) covered: Index,
}

impl Machine {
    /// The state that a snapshot holds, or the one before the first entry.
    pub(super) fn begin(file: Option<&File>, founders: Configuration) -> Self {
        match file {
            Some(File { meta, state }) => Self {
                applied: meta.position,
                state: *state,
                configuration: (meta.configuration_index, meta.configuration.clone()),
                covered: meta.position.index,
            },
            None => Self {
                applied: Position::ZERO,
                state: 1,
                configuration: (Index::ZERO, founders),
                covered: Index::ZERO,
            },
        }
    }

    pub(super) fn apply(&mut self, entry: &Entry) {
        let Position { term, index } = entry.position;
        let mut state = self.state ^ term.get() ^ index.get() << 32;
        for byte in entry.bytes.iter().take(8) {
            state = (state ^ u64::from(*byte)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        }
        self.state = state.rotate_left(29).max(1);
        self.applied = entry.position;
        if entry.kind == EntryKind::Configuration
            && let Ok(configuration) = Configuration::decode(&entry.bytes)
        {
            self.configuration = (index, configuration);
        }
    }

    pub(super) fn file(&self) -> File {
        let (configuration_index, configuration) = self.configuration.clone();
        let meta = SnapshotMeta { position: self.applied, configuration, configuration_index };
        File { meta, state: self.state }
    }
}

/// A commit that a core made: up to where, and the configuration by which it counted.
#[derive(Clone, Debug)]
pub(super) struct Advance {
    pub(super) to: Index,
    pub(super) configuration: Configuration,
    pub(super) led: bool,
}

/// One member.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) me: Member,
    pub(super) key: GroupKey,
    /// The founders, if it is one of them in its first life.
    pub(super) founding: Option<Vec<Member>>,
    pub(super) clock: LocalClock,
    pub(super) core: Option<Core>,
    pub(super) disk: Disk,
    pub(super) machine: Machine,
    pub(super) peers: Acquaintances,
    pub(super) loads: VecDeque<(LoadId, IndexRange, u64)>,
    pub(super) taking: Option<File>,
    pub(super) fetch: Option<Fetch>,
    pub(super) install: Option<SnapshotMeta>,
    /// The state is void from the write on that records the snapshot that takes its place.
    pub(super) replaced: bool,
    pub(super) gathers: bool,
    /// Whether its core slept when it was last looked at.
    pub(super) sleeps: bool,
    /// What was handed out since the last look.
    pub(super) handed: Vec<Entry>,
    pub(super) advances: Vec<Advance>,
    pub(super) commit: Index,
    pub(super) led: Option<meshraft_consensus::Term>,
    /// By what its core, or the last one, counted.
    pub(super) configuration: Configuration,
    /// Applied and not reported yet.
    pub(super) backlog_bytes: u64,
    /// An older copy of its disk.
    pub(super) copy: Option<OldCopy>,
}

impl Node {
    pub(super) fn new(me: Member, seat: Seat, founding: Option<Vec<Member>>) -> Self {
        let founders = founders_of(founding.as_deref());
        Self {
            me,
            key: (seat, GroupId::FIRST),
            founding,
            clock: LocalClock::new(0, 0),
            core: None,
            disk: Disk::default(),
            machine: Machine::begin(None, founders.clone()),
            peers: Acquaintances::default(),
            loads: VecDeque::new(),
            taking: None,
            fetch: None,
            install: None,
            replaced: false,
            gathers: false,
            sleeps: false,
            handed: Vec::new(),
            advances: Vec::new(),
            commit: Index::ZERO,
            led: None,
            configuration: founders,
            backlog_bytes: 0,
            copy: None,
        }
    }

    /// The founders as a configuration: what is in force before the first entry.
    pub(super) fn founders(&self) -> Configuration {
        founders_of(self.founding.as_deref())
    }

    /// The newest slot at which it knows itself to be a member: by its log, an admission or a card
    /// that its core was told of.
    pub(super) fn listed(&self) -> Option<Index> {
        let vouched = self.disk.wallet.vouched_at(&self.me);
        self.disk.newest_with(&self.me).max(vouched)
    }

    /// A member never departs by a configuration that is older than one that has it.
    pub(super) fn expect_departed(&self, index: Index) -> Result<(), Violation> {
        if self.listed() < Some(index) || self.disk.rots() {
            return Ok(());
        }
        let what = "that it departed before the configuration that has it";
        Err(Violation::Claim { member: self.me, what })
    }

    /// Whether this message leaves: its transport opens handles to members that its core knows. A
    /// refusal needs none.
    pub(super) fn opens(&self, to: &Member, message: &Message) -> bool {
        let opens = |core: &Core| core.known_members().1.contains(to);
        self.knows(to)
            || matches!(message, Message::Dismissed(_))
            || self.core.as_ref().is_some_and(opens)
    }

    /// What only the process held is gone.
    pub(super) fn forget(&mut self) {
        self.core = None;
        self.peers = Acquaintances::default();
        self.machine = Machine::begin(self.disk.recorded(), self.founders());
        self.loads.clear();
        self.handed.clear();
        self.advances.clear();
        (self.taking, self.fetch, self.install) = (None, None, None);
        (self.replaced, self.gathers) = (false, false);
        (self.commit, self.led, self.backlog_bytes) = (Index::ZERO, None, 0);
    }
}

fn founders_of(founding: Option<&[Member]>) -> Configuration {
    Configuration::of_voters(founding.unwrap_or_default().iter().copied())
}

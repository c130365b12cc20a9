//! Three cores in memory, for the benches of the core: disks acknowledge at once and messages
//! arrive at once, so that what is left is the core's own work.

use std::{collections::VecDeque, time::Duration};

use bytes::Bytes;
use meshraft_consensus::{
    ClusterId, ConfigBuilder, Configuration, Core, Entry, EntryKind, HardState, Incarnation, Index,
    Input, Member, Message, Moment, NodeId, Output, Position, ProposalId, ReadId, ReadLevel,
    Restored, Term,
};

/// More entries than a core keeps in memory.
const WARM_ENTRIES: u64 = 200_000;

/// Three cores, of which the first leads, and what is on its way between them.
#[derive(Debug)]
pub struct Cores {
    cores: Vec<Core>,
    members: Vec<Member>,
    way: VecDeque<(usize, usize, Message)>,
    now: Moment,
    proposals: u64,
    applied: u64,
    reads: u64,
    served: u64,
}

impl Cores {
    /// A cluster with a leader.
    ///
    /// # Panics
    /// If no leader can be elected: the cores are wrong then, and no figure of them means anything.
    #[must_use]
    pub fn new() -> Self {
        let member = |number| Member::new(NodeId::new([number; 32]), Incarnation::new([1; 16]));
        let members: Vec<Member> = (1..=3).map(member).collect();
        let configuration = Configuration::of_voters(members.iter().copied());
        let first = Position::new(Term::new(1), Index::new(1));
        let restored = |me: &Member| Restored {
            me: *me,
            cluster: ClusterId::new([7; 32]),
            founding: None,
            hard: HardState { term: first.term, vote: None, commit_hint: Index::ZERO },
            snapshot: None,
            terms: vec![first],
            configurations: vec![(first.index, configuration.clone())],
            last: first,
            damage: None,
        };
        let now = Moment::from_millis(1);
        let config = ConfigBuilder::lan().build().expect("the preset is valid");
        let cores = members.iter().map(|me| Core::new(config.clone(), restored(me), now)).collect();
        let way = VecDeque::new();
        let mut cluster =
            Self { cores, members, way, now, proposals: 0, applied: 0, reads: 0, served: 0 };
        cluster.now = cluster.now.plus(Duration::from_secs(2));
        cluster.handle(0, Input::Campaign);
        cluster.settle();
        assert!(cluster.cores[0].is_ready(), "the first core leads");
        // A log in memory that is as long as it gets: what is measured is no start.
        let command = Bytes::from(vec![7; 100]);
        (0..WARM_ENTRIES / 256).for_each(|_| cluster.commit(&command, 256));
        cluster
    }

    fn handle(&mut self, at: usize, input: Input) {
        self.cores[at].handle(self.now, input);
    }

    /// Does what every core asks until none asks anything.
    fn settle(&mut self) {
        self.drain(0);
        while let Some((from, to, message)) = self.way.pop_front() {
            self.handle(to, Input::Receive { from: self.members[from], message });
            // What arrived together is handled together.
            while let Some((from, _, message)) = self.way.pop_front_if(|(_, next, _)| *next == to) {
                self.handle(to, Input::Receive { from: self.members[from], message });
            }
            self.drain(to);
        }
    }

    fn drain(&mut self, at: usize) {
        while let Some(output) = self.cores[at].poll() {
            match output {
                Output::Send { to, message, .. } => {
                    let [number, ..] = to.node.as_bytes();
                    self.way.push_back((at, usize::from(number - 1), message));
                }
                Output::Persist(write) => self.handle(at, Input::Persisted(write.id)),
                Output::Apply(entries) => self.apply(at, &entries),
                // The first entry is older than the cores: it is only in the log on disk.
                Output::Load { id, range, .. } => {
                    assert_eq!(range.first, Index::new(1), "only the first entry is not in memory");
                    let bytes = Configuration::of_voters(self.members.iter().copied()).encode();
                    let position = Position::new(Term::new(1), Index::new(1));
                    let entry = Entry { position, kind: EntryKind::Configuration, bytes };
                    self.handle(at, Input::Loaded { id, result: Ok(vec![entry]) });
                }
                Output::ReadReady { .. } => self.served += 1,
                _ => {}
            }
        }
    }

    fn apply(&mut self, at: usize, entries: &[Entry]) {
        let Some(last) = entries.last() else { return };
        let index = last.position.index;
        self.applied = if at == 0 { index.get() } else { self.applied };
        self.handle(at, Input::Applied { index, backlog_bytes: 0 });
    }

    /// Commits so many commands that were proposed together, and has them applied by all.
    ///
    /// # Panics
    /// If one of them is not committed.
    pub fn commit(&mut self, command: &Bytes, batch: u64) {
        let before = self.applied;
        self.now = self.now.plus(Duration::from_micros(100));
        for _ in 0..batch {
            self.proposals += 1;
            let id = ProposalId::new(self.proposals);
            self.handle(0, Input::Propose { id, command: command.clone() });
        }
        self.settle();
        assert_eq!(self.applied, before + batch, "all of them are committed");
    }

    /// Serves so many reads that were asked for together, at their leader: one round for all.
    ///
    /// # Panics
    /// If one of them is not served.
    pub fn read(&mut self, batch: u64) {
        let before = self.served;
        self.now = self.now.plus(Duration::from_micros(100));
        for _ in 0..batch {
            self.reads += 1;
            let (id, level) = (ReadId::new(self.reads), ReadLevel::Linearizable);
            self.handle(0, Input::Read { id, level });
        }
        self.settle();
        assert_eq!(self.served, before + batch, "all of them are served");
    }

    /// One heartbeat of the leader, and what its followers answer.
    ///
    /// # Panics
    /// If the leader has none to send.
    pub fn heartbeat(&mut self) {
        let due = self.cores[0].deadline().expect("a leader has a next heartbeat");
        self.now = self.now.max(due);
        self.handle(0, Input::Timeout);
        self.settle();
        assert!(self.cores[0].is_ready(), "it goes on leading");
    }
}

impl Default for Cores {
    fn default() -> Self {
        Self::new()
    }
}

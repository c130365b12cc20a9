//! A cluster of cores with everything around them, moved by one step after the other.
//!
//! Invariants:
//! 1. The same steps lead to the same cluster: nothing here is drawn, and nothing is planned.
//! 2. After every step all that cores did is checked.
//! 3. What should happen next is wanted, not done: whoever moves the cluster says when, and if at
//!    all.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use bytes::Bytes;
use meshraft_consensus::{
    Card, ConfigBuilder, Configuration, Core, Index, Input, LoadError, Member, Message, Moment,
    Namespace, ProposalId, ReadId, ReadLevel, Role, Term,
};
use meshraft_storage::GroupId;

use super::{
    cards::namespace,
    counts::{CoreCounts, CoreRare},
    disk::File,
    hostile::never_members,
    member::{Advance, Machine, Node, member},
    plan::CorePlan,
    step::{Step, Timed, seat_of},
};
use crate::{
    check::{CLUSTER, CoreChecks, Violation},
    world::{Seat, clock::LocalClock},
};

/// What should happen some time after a step.
#[derive(Clone, Debug)]
pub(super) enum Want {
    /// A message is sent.
    Send {
        from: Member,
        to: Member,
        message: Box<Message>,
    },
    /// A disk got something to write, to read, or a snapshot.
    Write(Seat),
    Load(Seat),
    Take(Seat),
    /// A machine applied something.
    Applied(Seat),
    /// A snapshot is to be fetched, or to become the state.
    Part(Seat),
    Install(Seat),
    /// A member forgot what it acknowledged, and has to begin anew.
    Renew(Seat),
    /// Two members that may not know each other meet.
    Meet(Seat, Seat),
    /// A member signed a card for another one.
    Cards {
        from: Seat,
        to: Member,
    },
}

/// The cluster.
#[derive(Debug)]
pub(super) struct Cluster {
    pub(super) now: Moment,
    pub(super) nodes: Vec<Node>,
    pub(super) checks: CoreChecks,
    pub(super) wants: Vec<Want>,
    pub(super) counts: CoreCounts,
    pub(super) steps: u64,
    /// How many bytes each proposed command has beside its number.
    pub(super) proposed: BTreeMap<ProposalId, usize>,
    knobs: ConfigBuilder,
    pub(super) snapshot_entries: u64,
    snapshot_parts: u64,
    /// Who leads in which term, and has yet to notice that a member forgot what it acknowledged.
    pub(super) in_sight: Option<(Member, Term, Member)>,
    pub(super) namespace: Namespace,
    /// The newest slot whose committed configuration has each member that there ever was.
    pub(super) listed: BTreeMap<Member, Index>,
    /// Hostile actors that are in no configuration, ever.
    pub(super) never_members: BTreeSet<Member>,
    /// Members whose disks were lost, with the cards that they held: stolen disks.
    pub(super) stolen: Vec<(Member, Vec<Card>)>,
    /// Whether removed members lie to those that have not learned of their removal.
    pub(super) lies: bool,
}

impl Cluster {
    /// The members of a plan, none of which runs.
    pub(super) fn new(plan: &CorePlan) -> Self {
        let founders: Vec<Member> = (0..plan.founders).map(|seat| member(Seat(seat), 1)).collect();
        let nodes = (0..plan.members()).map(|seat| {
            let founding = (seat < plan.founders).then(|| founders.clone());
            Node::new(member(Seat(seat), 1), Seat(seat), founding)
        });
        let mut cluster = Self {
            now: Moment::ZERO,
            nodes: nodes.collect(),
            checks: CoreChecks::default(),
            wants: Vec::new(),
            counts: CoreCounts::default(),
            steps: 0,
            proposed: BTreeMap::new(),
            knobs: plan.knobs.clone(),
            snapshot_entries: plan.snapshot_entries,
            snapshot_parts: u64::from(plan.snapshot_parts),
            in_sight: None,
            namespace: namespace(),
            listed: BTreeMap::new(),
            never_members: never_members(plan).collect(),
            stolen: Vec::new(),
            lies: plan.lies,
        };
        for node in &cluster.nodes {
            cluster.checks.begin(node.key, node.me);
        }
        cluster
    }

    pub(super) fn node(&self, seat: Seat) -> &Node {
        &self.nodes[seat.0]
    }

    pub(super) fn node_mut(&mut self, seat: Seat) -> &mut Node {
        &mut self.nodes[seat.0]
    }

    pub(super) fn seats(&self) -> impl Iterator<Item = Seat> + use<> {
        (0..self.nodes.len()).map(Seat)
    }

    /// Sets the clock of a seat.
    pub(super) fn set_clock(&mut self, seat: Seat, origin_ns: u64, drift_ppm: i64) {
        self.node_mut(seat).clock = LocalClock::new(origin_ns, drift_ppm);
    }

    /// The clock of a seat leaps ahead.
    fn leap(&mut self, seat: Seat, span: Duration) {
        self.node_mut(seat).clock.leap(span);
        self.counts.note(CoreRare::Leapt);
    }

    /// Whether this core leads.
    pub(super) fn leads(&self, seat: Seat) -> bool {
        self.node(seat).core.as_ref().is_some_and(|core| core.role() == Role::Leader)
    }

    /// When a core wants to be woken, on the world's clock.
    pub(super) fn deadline(&self, seat: Seat) -> Option<Moment> {
        let node = self.node(seat);
        Some(node.clock.world(node.core.as_ref()?.deadline()?))
    }

    /// Does one step.
    pub(super) fn step(&mut self, timed: Timed) -> Result<(), Violation> {
        let Timed { at, step, gathers } = timed;
        self.now = self.now.max(at);
        self.steps += 1;
        let seat = step.seat();
        let input = match step {
            Step::Start { seed, .. } => return self.start(seat, seed),
            Step::Crash { kept, .. } => return self.crash(seat, kept),
            Step::Wipe { .. }
            | Step::Copy { .. }
            | Step::SetBack { .. }
            | Step::LoseTail { .. }
            | Step::Rot { .. }
            | Step::Leap { .. }
            | Step::Cards { .. } => {
                self.beside(&step);
                return Ok(());
            }
            Step::Drain { .. } => return self.drain(seat),
            Step::Meet { one, other } => return self.meet(one, other),
            Step::Attack { from, attack, .. } => return self.attack(seat, from, *attack),
            Step::Written { writes, .. } => return self.written(seat, writes, gathers),
            Step::Part { fails, .. } => return self.part(seat, fails, gathers),
            Step::Deliver { from, to, message }
                if self.node(seat).me == to && !self.is_held_back(from, to) =>
            {
                self.reach(seat, from, &message);
                self.introduce(seat, from, &message);
                Some(Input::Receive { from, message: *message })
            }
            Step::Deliver { .. } => None,
            Step::Timeout { .. } => Some(Input::Timeout),
            Step::Propose { id, bytes, .. } => {
                self.ask(seat, id);
                self.proposed.insert(id, bytes);
                Some(Input::Propose { id, command: command(id, bytes) })
            }
            Step::Change { id, change, .. } => {
                self.ask(seat, id);
                Some(Input::Change { id, change: *change })
            }
            Step::Transfer { id, to, .. } => {
                self.ask(seat, id);
                Some(Input::Transfer { id, to })
            }
            Step::Read { id, level, .. } => {
                self.begin_read(seat, id, level);
                Some(Input::Read { id, level })
            }
            Step::Campaign { .. } => Some(Input::Campaign),
            Step::Peer { peer, up, .. } => Some(self.path(seat, peer, up)),
            Step::Seen { leader, at, .. } => {
                self.counts.note(CoreRare::LeaderSeen);
                Some(Input::LeaderSeen { leader, at: self.node(seat).clock.local(at) })
            }
            Step::Wake { .. } => {
                self.counts.note(CoreRare::SleepDisputed);
                Some(Input::Wake)
            }
            Step::Load { fails, .. } => self.load(seat, fails),
            Step::Applied { .. } => self.applied(seat),
            Step::Taken { .. } => self.taken(seat),
            Step::Installed { .. } => self.installed(seat)?,
        };
        match input {
            Some(input) => self.input(seat, input, gathers),
            None => Ok(()),
        }
    }

    fn ask(&mut self, seat: Seat, id: ProposalId) {
        let node = &self.nodes[seat.0];
        if node.core.is_some() {
            self.checks.asked(node.key, id);
        }
    }

    /// A step that a core does not notice: something happens to a disk or a clock, or cards are
    /// kept.
    fn beside(&mut self, step: &Step) {
        match *step {
            Step::Leap { seat, span } => self.leap(seat, span),
            Step::Cards { from, to } => self.hand_cards(from, to),
            Step::Wipe { seat } => self.wipe(seat),
            Step::Copy { seat } => self.copy(seat),
            Step::SetBack { seat } => self.put_back(seat),
            Step::LoseTail { seat, from } => self.cut_tail(seat, from),
            Step::Rot { seat, index, seen } => self.rot(seat, index, seen),
            _ => {}
        }
    }

    fn begin_read(&mut self, seat: Seat, id: ReadId, level: ReadLevel) {
        let node = &self.nodes[seat.0];
        let Some(core) = &node.core else { return };
        self.checks.read(node.key, id);
        if core.role() == Role::Leader && level == ReadLevel::Linearizable {
            self.checks.rounds.asked(id, node.me, core.term(), self.now);
        }
    }

    /// A message reaches a member.
    fn reach(&mut self, seat: Seat, from: Member, message: &Message) {
        let node = &self.nodes[seat.0];
        if let (Some(core), Message::Heartbeat(heartbeat)) = (&node.core, message)
            && heartbeat.term >= core.term()
        {
            self.checks.rounds.hears(node.me, from, heartbeat);
        }
    }

    fn start(&mut self, seat: Seat, seed: u64) -> Result<(), Violation> {
        let knobs = ConfigBuilder { seed, ..self.knobs.clone() };
        let now = self.now;
        let node = self.node_mut(seat);
        if node.core.is_some() {
            return Ok(());
        }
        node.disk.crash();
        node.forget();
        let config = knobs.build().expect("the knobs of a plan are valid");
        let restored = node.disk.restored(node.me, CLUSTER, node.founding.clone());
        let core = Core::new(config, restored, node.clock.local(now));
        node.commit = Index::ZERO;
        node.configuration = core.configuration().clone();
        if core.commit() > Index::ZERO {
            let (to, configuration) = (core.commit(), core.configuration().clone());
            node.advances.push(Advance { to, configuration, led: false });
        }
        node.core = Some(core);
        let (key, members) = (node.key, node.disk.wallet.vouched());
        self.checks.started(key);
        self.input(seat, Input::Vouch { members }, false)
    }

    fn crash(&mut self, seat: Seat, kept: usize) -> Result<(), Violation> {
        let node = &mut self.nodes[seat.0];
        if node.core.is_none() {
            return Ok(());
        }
        for _ in 0..kept {
            if let Some(write) = node.disk.keep_next() {
                self.checks.durable(node.key, &write)?;
            }
        }
        node.disk.crash();
        node.forget();
        self.checks.crashed(node.key);
        self.counts.note(CoreRare::Crash);
        Ok(())
    }

    fn wipe(&mut self, seat: Seat) {
        let node = &mut self.nodes[seat.0];
        if node.core.is_some() {
            return;
        }
        self.checks.wiped(node.key);
        let life = node.me.incarnation.as_bytes()[0] + 1;
        let (clock, group) = (node.clock, node.key.1.get() + 1);
        self.stolen.push((node.me, node.disk.wallet.cards().to_vec()));
        *node = Node::new(member(seat, life), seat, None);
        (node.clock, node.key.1) = (clock, GroupId::new(group));
        self.checks.begin(node.key, node.me);
        self.counts.note(CoreRare::Wiped);
    }

    fn written(&mut self, seat: Seat, writes: usize, gathers: bool) -> Result<(), Violation> {
        let node = &mut self.nodes[seat.0];
        let mut last = None;
        for _ in 0..writes {
            let Some(write) = node.disk.keep_next() else { break };
            self.checks.durable(node.key, &write)?;
            last = Some(write.id);
        }
        match last {
            Some(id) => self.input(seat, Input::Persisted(id), gathers),
            None => Ok(()),
        }
    }

    fn load(&mut self, seat: Seat, fails: bool) -> Option<Input> {
        let node = self.node_mut(seat);
        let (id, range, bytes_max) = node.loads.pop_front()?;
        let result = match fails {
            true => Err(LoadError::Failed),
            false => node.disk.load(range, bytes_max),
        };
        self.counts.note(if fails { CoreRare::LoadFailed } else { CoreRare::Loaded });
        Some(Input::Loaded { id, result })
    }

    fn applied(&mut self, seat: Seat) -> Option<Input> {
        let node = self.node_mut(seat);
        node.core.as_ref()?;
        node.backlog_bytes = 0;
        Some(Input::Applied { index: node.machine.applied.index, backlog_bytes: 0 })
    }

    fn taken(&mut self, seat: Seat) -> Option<Input> {
        let node = self.node_mut(seat);
        let file = node.taking.take()?;
        let meta = file.meta.clone();
        node.disk.keep_file(file);
        self.counts.note(CoreRare::SnapshotTaken);
        Some(Input::SnapshotTaken(meta))
    }

    fn installed(&mut self, seat: Seat) -> Result<Option<Input>, Violation> {
        let founders = self.node(seat).founders();
        let node = &mut self.nodes[seat.0];
        let Some(meta) = node.install.take() else { return Ok(None) };
        let Some(file) = node.disk.file(meta.position) else { return Ok(None) };
        node.machine = Machine::begin(Some(file), founders);
        (node.replaced, node.taking) = (false, None);
        self.checks.in_state(node.me, meta.position, file.state)?;
        self.counts.note(CoreRare::SnapshotInstalled);
        Ok(Some(Input::SnapshotInstalled(Ok(meta))))
    }

    /// A part of a snapshot arrives, if the member that offered it runs and still has it.
    fn part(&mut self, seat: Seat, fails: bool, gathers: bool) -> Result<(), Violation> {
        let Some(fetch) = self.node(seat).fetch.clone() else { return Ok(()) };
        let (position, me) = (fetch.meta.position, self.node(seat).me);
        let source = seat_of(fetch.from);
        let served = self.node(source).core.as_ref().filter(|core| core.me() == fetch.from);
        let term = served.map(Core::term);
        let file = self.node(source).disk.file(position).cloned();
        let (Some(term), Some(File { state, .. }), false) = (term, file, fails) else {
            self.node_mut(seat).fetch = None;
            self.counts.note(CoreRare::FetchFailed);
            let result = Err(meshraft_consensus::InstallError::Interrupted);
            return self.input(seat, Input::SnapshotFetched { position, result }, gathers);
        };
        let offset = fetch.parts + 1;
        if let Some(fetch) = &mut self.node_mut(seat).fetch {
            fetch.parts = offset;
        }
        let progress = |peer| Input::SnapshotProgress { peer, term, offset };
        self.input(source, progress(me), gathers)?;
        if offset < self.snapshot_parts {
            self.wants.push(Want::Part(seat));
            return self.input(seat, progress(fetch.from), gathers);
        }
        self.input(source, Input::SnapshotSent { peer: me, ok: true }, gathers)?;
        let node = self.node_mut(seat);
        node.fetch = None;
        node.disk.keep_file(File { meta: fetch.meta, state });
        self.input(seat, Input::SnapshotFetched { position, result: Ok(()) }, gathers)
    }

    /// Hands an input to a core, and drains it unless more is to gather.
    pub(super) fn input(
        &mut self,
        seat: Seat,
        input: Input,
        gathers: bool,
    ) -> Result<(), Violation> {
        self.handle(seat, input);
        if gathers {
            self.node_mut(seat).gathers = true;
            return Ok(());
        }
        self.drain(seat)
    }

    pub(super) fn handle(&mut self, seat: Seat, input: Input) {
        let now = self.now;
        let node = self.node_mut(seat);
        let local = node.clock.local(now);
        let Some(core) = &mut node.core else { return };
        let before = core.commit();
        let led = core.role() == Role::Leader;
        core.handle(local, input);
        let commit = core.commit();
        let told: &Configuration = core.configuration();
        let changed = *told != node.configuration;
        if commit > before {
            let configuration = node.configuration.clone();
            node.advances.push(Advance { to: commit, configuration, led });
        }
        if changed {
            node.configuration = told.clone();
        }
    }
}

/// The command of a proposal: its number, and so many bytes more.
pub(super) fn command(id: ProposalId, bytes: usize) -> Bytes {
    let mut command = id.get().to_le_bytes().to_vec();
    command.resize(8 + bytes, 0);
    command.into()
}

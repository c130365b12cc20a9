//! A world: nodes, network, disks, clocks and clients in one thread, driven by one seed.
//!
//! Invariants:
//! 1. Everything that happens is planned on the one clock and drawn from the one seed.
//! 2. A node is touched only by its inputs, and drained before it is looked at.
//! 3. After every event all that a node wrote, applied and says of itself is checked.

pub(crate) mod clock;
mod disk;
mod driver;
mod files;
mod force;
mod hostile;
mod life;
mod losses;
mod network;
mod node;
mod options;
mod recovery;
mod snapshots;
mod storm;
mod versions;
mod watch;

use std::time::Duration;

use meshraft::host::{CallId, SnapshotJob};
use meshraft_consensus::{ClusterVersion, LoadError, Member, Moment, Namespace, NodeId};
use meshraft_service::wire::{Operation, Response};
use meshraft_storage::{GroupId, Ticket};

use self::{
    clock::{Clock, LocalClock},
    disk::Disk,
    force::Force,
    hostile::Hostiles,
    life::Life,
    network::{Network, Wake},
    node::Node,
    storm::Storm,
};
pub use self::{force::Struck as StruckCounts, storm::Struck};
use crate::{
    check::{Checks, Violation},
    counts::{Counts, Rare},
    lies::LieCounts,
    plan::{Founding, Plan},
    random::Random,
    trace::Trace,
    workload::{Step, Workload},
};

/// A node's place in a world.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Seat(pub(crate) usize);

impl Seat {
    /// Its number, from zero.
    pub(crate) const fn number(self) -> usize {
        self.0
    }
}

/// How a run ended well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report {
    /// The digest of everything that happened, in order.
    pub trace: u64,
    /// How many events there were.
    pub events: u64,
    /// How long the run took on the world's clock.
    pub simulated: Duration,
    /// How many operations of clients ended.
    pub operations: usize,
    /// How many commands were applied.
    pub commands: usize,
    /// How often a process crashed.
    pub crashes: u64,
    /// How many kinds of faults there were.
    pub fault_kinds: usize,
    /// How often rare things happened.
    pub counts: Counts,
    /// How often each fault struck.
    pub struck: StruckCounts,
    /// What hostile actors did.
    pub lies: LieCounts,
}

/// How a run ended badly.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("seed {seed} at {at}: {violation}")]
pub struct Failure {
    /// Replays it.
    pub seed: u64,
    /// When, on the world's clock.
    pub at: Moment,
    /// What does not hold.
    #[source]
    pub violation: Box<Violation>,
}

/// Runs a plan from its first moment until everything works again.
///
/// # Errors
/// The first property that does not hold.
pub fn simulate(plan: &Plan) -> Result<Report, Failure> {
    let mut world = World::new(plan.clone());
    match world.run() {
        Ok(()) => {}
        Err(failure) if world.allows(&failure.violation) => world.checks.counts.note(Rare::Split),
        Err(failure) => return Err(failure),
    }
    Ok(world.report())
}

/// What is due at some moment.
#[derive(Debug)]
enum Event {
    /// A process starts.
    Start(Seat),
    /// A process goes on after a pause.
    Resume(Seat),
    /// A host's deadline has come.
    Deadline { seat: Seat, life: u64 },
    /// A node that gathered inputs drains its outputs.
    Drain { seat: Seat, life: u64 },
    /// A disk finished its commit.
    Committed { seat: Seat, life: u64 },
    /// A process hears that its jobs are durable.
    Stored { seat: Seat, life: u64, tickets: Vec<Ticket> },
    /// A disk read entries.
    Loaded { seat: Seat, life: u64, answer: Box<LoadAnswer> },
    /// Bytes of a snapshot are read.
    SnapshotRead { seat: Seat, life: u64, job: Box<SnapshotJob> },
    /// The first job on the snapshots of a group is done.
    SnapshotJob { seat: Seat, life: u64, group: GroupId },
    /// An old copy may take the place of a stopped node's disk.
    SetBack { seat: Seat, tries: u32 },
    /// A closed namespace is opened again.
    Reopen { seat: Seat, life: u64, namespace: Namespace },
    /// A healed world asks again for what is not so yet.
    Nudge,
    /// The quiet time is over.
    Storm,
    /// A client's request reaches its node.
    Called { seat: Seat, life: u64, call: Box<Called> },
    /// The network woke.
    Network(Box<Wake>),
    /// A client's time has come.
    Client(usize),
    /// A moment at which something may go wrong.
    Strike,
    /// A fault of a link is over.
    Mend { from: Seat, to: Seat },
    /// A crash in the middle of a commit.
    Tear { seat: Seat, life: u64 },
    /// A process hears that its disk failed.
    StoreFailed { seat: Seat, life: u64 },
    /// A process ends whose disk failed.
    Ended { seat: Seat, life: u64 },
    /// A full disk has room again.
    Room(Seat),
    /// A stranger is to be what it was.
    Known(Seat),
    /// A hostile actor does something.
    Hostile,
    /// An older release is to be what it was.
    Upgrade { seat: Seat, to: ClusterVersion },
}

#[derive(Debug)]
struct LoadAnswer {
    load: meshraft::host::LoadToken,
    result: Result<Vec<meshraft_consensus::Entry>, LoadError>,
}

#[derive(Debug)]
struct Called {
    number: u64,
    namespace: Namespace,
    operation: Operation,
    timeout: Duration,
}

/// Nodes, network, disks, clocks and clients.
#[derive(Debug)]
pub struct World {
    plan: Plan,
    /// The faults in force; none once the world is healed.
    force: Force,
    storm: Storm,
    struck: StruckCounts,
    /// Until when clients rest.
    idle_until: Moment,
    clock: Clock<Event>,
    network: Network,
    nodes: Vec<Node>,
    namespaces: Vec<Namespace>,
    workload: Workload,
    checks: Checks,
    trace: Trace,
    random: Random,
    life: Life,
    hostiles: Hostiles,
    /// What the node that is drained now answers.
    answers: Vec<(CallId, Response)>,
    /// Whom the node that is drained now found to have forgotten something.
    raised: Vec<(Namespace, Member)>,
    /// How many candidates came back after they had lost their disk.
    candidates_lost: usize,
    crashes: u64,
}

impl World {
    /// A world before its first moment.
    pub fn new(plan: Plan) -> Self {
        let mut random = Random::new(plan.seed);
        let namespaces: Vec<Namespace> = (0..plan.namespaces)
            .map(|number| Namespace::new(&format!("/sim/{number}")).expect("a legal name"))
            .collect();
        let nodes: Vec<Node> = (0..plan.nodes())
            .zip(versions::first_releases(&plan))
            .map(|(number, supports)| {
                let drift = i64::from(plan.faults.drift.per_million());
                let span = 2 * plan.faults.drift.per_million() + 1;
                let drift = i64::try_from(random.below(u64::from(span))).unwrap_or(0) - drift;
                let clock = LocalClock::new(random.below(1_000_000_000_000), drift);
                let founders = if plan.founding == Founding::Forced { 1 } else { plan.founders };
                let id = NodeId::new(random.bytes());
                Node::new(id, clock, Disk::new(plan.mistake), number >= founders, supports)
            })
            .collect();
        let ids: Vec<NodeId> = nodes.iter().map(|node| node.id).collect();
        let network = Network::new(&ids, random.fork(2));
        let workload = Workload::new(&plan, namespaces.clone(), random.fork(3));
        let mut world = Self {
            force: Force::default(),
            storm: Storm::default(),
            struck: StruckCounts::default(),
            idle_until: Moment::ZERO,
            clock: Clock::new(),
            network,
            nodes,
            namespaces,
            workload,
            checks: Checks::default(),
            trace: Trace::new(plan.print),
            random,
            life: Life::default(),
            hostiles: Hostiles::default(),
            answers: Vec::new(),
            raised: Vec::new(),
            candidates_lost: 0,
            crashes: 0,
            plan,
        };
        world.begin();
        world.begin_hostiles();
        world
    }

    /// Nodes start one after the other, joiners later; clients come soon.
    fn begin(&mut self) {
        for seat in (0..self.nodes.len()).map(Seat) {
            let joins = seat.0 >= self.plan.founders;
            let latest = Duration::from_secs(if joins { 8 } else { 2 });
            let wait = self.random.between(Duration::ZERO, latest);
            self.clock.after(wait, Event::Start(seat));
        }
        for client in 0..self.workload.clients() {
            self.clock.after(Duration::from_secs(1), Event::Client(client));
        }
        self.clock.after(self.plan.quiet, Event::Storm);
    }

    /// Runs from the first moment until everything works again.
    ///
    /// # Errors
    /// The first property that does not hold.
    pub fn run(&mut self) -> Result<(), Failure> {
        self.storm()?;
        self.heal().map_err(|violation| self.failure(violation))?;
        self.expect_recovery()
    }

    /// From now on, what goes wrong is told.
    pub(crate) fn tell(&mut self) {
        self.storm.told = Some(Vec::new());
    }

    /// What went wrong since it is told.
    pub(crate) fn story(&mut self) -> Vec<Struck> {
        self.tell_struck();
        self.storm.told.take().unwrap_or_default()
    }

    /// Whether this may be, by what the plan says of founding.
    pub(crate) const fn allows(&self, violation: &Violation) -> bool {
        let by_window = matches!(self.plan.founding, Founding::Window(_));
        by_window && matches!(violation, Violation::Split { .. })
    }

    /// Everything that goes wrong, and the checks after every event.
    ///
    /// # Errors
    /// The first property that does not hold.
    pub fn storm(&mut self) -> Result<(), Failure> {
        self.run_until(Moment::ZERO.plus(self.plan.quiet + self.plan.stormy))
    }

    /// How the run went so far.
    pub fn report(&self) -> Report {
        Report {
            trace: self.trace.digest(),
            events: self.trace.lines(),
            simulated: self.clock.now().since(Moment::ZERO),
            operations: self.checks.histories.count() + self.checks.counters.count(),
            commands: self.checks.states.count(),
            crashes: self.crashes,
            fault_kinds: self.plan.faults.kinds(),
            counts: self.checks.counts,
            struck: self.struck,
            lies: self.hostiles.counts,
        }
    }

    /// More events than this in one simulated second: something turns in circles.
    const STEPS_PER_SECOND_MAX: u64 = 400_000;

    fn run_until(&mut self, end: Moment) -> Result<(), Failure> {
        let (mut steps, mut second) = (0, self.clock.now());
        while let Some(event) = self.clock.next(end) {
            steps += 1;
            if self.clock.now().since(second) > Duration::from_secs(1) {
                (steps, second) = (0, self.clock.now());
            }
            let result = if steps > Self::STEPS_PER_SECOND_MAX {
                Err(Violation::Spins { steps })
            } else {
                self.happen(event)
            };
            result.map_err(|violation| self.failure(violation))?;
        }
        Ok(())
    }

    fn failure(&self, violation: Violation) -> Failure {
        Failure { seed: self.plan.seed, at: self.clock.now(), violation: violation.into() }
    }

    /// Whose event this is; such a one waits while the process stands still.
    fn seat_of(event: &Event) -> Option<Seat> {
        match event {
            Event::Deadline { seat, .. }
            | Event::Drain { seat, .. }
            | Event::Stored { seat, .. }
            | Event::Loaded { seat, .. }
            | Event::SnapshotRead { seat, .. }
            | Event::SnapshotJob { seat, .. }
            | Event::Reopen { seat, .. }
            | Event::StoreFailed { seat, .. }
            | Event::Called { seat, .. } => Some(*seat),
            Event::Network(wake) => match &**wake {
                Wake::Arrive(arrival) => Some(arrival.to),
                _ => None,
            },
            _ => None,
        }
    }

    fn happen(&mut self, event: Event) -> Result<(), Violation> {
        if let Some(seat) = Self::seat_of(&event).filter(|seat| seat.0 < self.nodes.len())
            && self.node(seat).paused_until.is_some()
        {
            self.node_mut(seat).deferred.push(event);
            return Ok(());
        }
        match event {
            Event::Start(seat) => self.start(seat)?,
            Event::Resume(seat) => self.resume(seat),
            Event::Deadline { seat, life } => self.deadline(seat, life)?,
            Event::Drain { seat, life } => self.drain_later(seat, life)?,
            Event::Committed { seat, life } => self.committed(seat, life)?,
            Event::Stored { seat, life, tickets } => self.stored(seat, life, tickets)?,
            Event::Loaded { seat, life, answer } => self.loaded(seat, life, *answer)?,
            Event::SnapshotRead { seat, life, job } => self.snapshot_read(seat, life, *job)?,
            Event::SnapshotJob { seat, life, group } => self.snapshot_job(seat, life, group)?,
            Event::SetBack { seat, tries } => self.set_back(seat, tries)?,
            Event::Reopen { seat, life, namespace } => self.reopen(seat, life, namespace)?,
            Event::Nudge => self.nudge(),
            Event::Storm => self.begin_storm()?,
            Event::Called { seat, life, call } => self.called(seat, life, *call)?,
            Event::Network(wake) => self.network_woke(*wake)?,
            Event::Client(client) => self.client(client),
            Event::Strike => self.strike()?,
            Event::Mend { from, to } => {
                let now = self.clock.now();
                self.network.at(now).mend(from, to);
            }
            Event::Tear { seat, life } => self.tear(seat, life)?,
            Event::StoreFailed { seat, life } => self.store_failed(seat, life)?,
            Event::Ended { seat, life } => self.ended(seat, life)?,
            Event::Room(seat) => self.node_mut(seat).disk.files.full = false,
            Event::Known(seat) => self.known(seat)?,
            Event::Hostile => self.act(),
            Event::Upgrade { seat, to } => self.upgrade(seat, to)?,
        }
        self.plan_network();
        Ok(())
    }

    fn plan_network(&mut self) {
        for (at, wake) in self.network.plans(self.clock.now()) {
            self.clock.at(at, Event::Network(Box::new(wake)));
        }
    }

    fn client(&mut self, client: usize) {
        if self.clock.now() < self.idle_until {
            let wait = self.random.between(Duration::ZERO, Duration::from_millis(20));
            self.clock.at(self.idle_until.plus(wait), Event::Client(client));
            return;
        }
        let alive: Vec<Seat> = self.seats().filter(|seat| self.node(*seat).is_running()).collect();
        match self.workload.wake(client, self.clock.now(), &alive, &self.checks) {
            Step::Call(call) => {
                let (seat, life) = (call.seat, self.node(call.seat).life);
                let called = Called {
                    number: call.number,
                    namespace: call.namespace,
                    operation: call.operation,
                    timeout: call.timeout,
                };
                let call = Box::new(called);
                self.clock.after(Duration::from_micros(10), Event::Called { seat, life, call });
            }
            Step::Wake(wait) => self.clock.after(wait, Event::Client(client)),
            Step::Rest => {}
        }
    }

    fn seats(&self) -> impl Iterator<Item = Seat> + use<> {
        (0..self.nodes.len()).map(Seat)
    }

    fn node(&self, seat: Seat) -> &Node {
        self.nodes.get(seat.0).expect("a seat of this world")
    }

    fn node_mut(&mut self, seat: Seat) -> &mut Node {
        self.nodes.get_mut(seat.0).expect("a seat of this world")
    }
}

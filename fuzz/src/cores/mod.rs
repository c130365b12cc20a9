//! Simulation of cores alone: a few [`meshraft_consensus::Core`]s on a network, disks and clocks of
//! their own, a hundred times as fast as whole nodes.
//!
//! A `cluster` does one `step` after the other and checks what comes of it; it draws nothing. A
//! `CoreWorld` decides, from one seed, which steps it does and when. So what a seed did can be
//! written down as a list of steps, done again, and shrunk.

mod attack;
mod cards;
mod client;
mod cluster;
mod counts;
mod disk;
mod doom;
mod hostile;
mod links;
mod losses;
mod meeting;
mod member;
mod outputs;
mod plan;
mod recovery;
mod rot;
mod shrink;
mod step;
mod storm;
mod watch;

use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash, Hasher},
    panic::{AssertUnwindSafe, catch_unwind},
    time::Duration,
};

use meshraft_consensus::{Member, Moment};

use self::{
    cluster::{Cluster, Want},
    hostile::Hostiles,
    links::{Links, SEATS_MAX},
    step::{Step, Timed, seat_of},
    watch::{Sign, Watched},
};
pub use self::{
    counts::{CoreCounts, CoreRare},
    plan::{CoreFaults, CorePlan, Hostile},
    shrink::{Shrunk, shrink},
};
use crate::{
    check::Violation,
    faults::Rate,
    random::Random,
    world::{Failure, Seat, clock::Clock},
};

/// How a run of cores ended well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CoreReport {
    /// The digest of all cores at the end.
    pub trace: u64,
    /// How many steps there were.
    pub events: u64,
    /// How long the run took on the world's clock.
    pub simulated: Duration,
    /// How many entries were committed.
    pub committed: u64,
    /// How many kinds of faults there were.
    pub fault_kinds: usize,
    /// How often rare things happened.
    pub counts: CoreCounts,
}

/// Runs a plan from its first moment until everything works again.
///
/// # Errors
/// The first property that does not hold; a panic of a core is one, too.
pub fn simulate_cores(plan: &CorePlan) -> Result<CoreReport, Failure> {
    run(CoreWorld::new(plan.clone())).0
}

/// Runs a world to its end.
fn run(mut world: CoreWorld) -> (Result<CoreReport, Failure>, CoreWorld) {
    let result = catch_unwind(AssertUnwindSafe(|| world.run()));
    let result = result.unwrap_or_else(|panic| Err(Violation::Panicked(text(&*panic))));
    let (seed, at) = (world.plan.seed, world.clock.now());
    if world.plan.print && result.is_err() {
        world.print();
    }
    let result = match result {
        Ok(()) => Ok(world.report()),
        Err(violation) => Err(Failure { seed, at, violation: violation.into() }),
    };
    (result, world)
}

/// What a panic says.
pub(crate) fn text(panic: &(dyn std::any::Any + Send)) -> String {
    let literal = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    literal.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default()
}

/// What is due at some moment.
#[derive(Debug)]
enum Due {
    /// A step of the cluster.
    Step(Step),
    /// A core's deadline may have come.
    Deadline(Seat),
    /// The disk has finished a commit of so many writes, in a life of its process.
    Written { seat: Seat, life: u64, writes: usize },
    /// A client does something.
    Client,
    /// A moment at which something may go wrong.
    Strike,
    /// A leader may be cut off.
    Apart,
    /// A disk is copied.
    Copy(Seat),
    /// A process may go back to a copy of its disk that contradicts what it holds.
    Contradict { seat: Seat, tries: u32 },
    /// One of the last entries of a disk rots, or one that members disagree on.
    Rot(Seat),
    /// What a snapshot that is on its way would cover last rots.
    RotUnder(Seat),
    /// A fault of a link is over.
    Mend { from: Seat, to: Seat },
    /// The end of a process is noticed, unless it runs again.
    Lost { seat: Seat, peer: Seat, life: u64 },
    /// A process goes on after a pause.
    Resume(Seat),
    /// A process starts.
    Start(Seat),
    /// A message of long ago arrives.
    Replay(Step),
    /// A stopped process may be set back to an older copy of its disk.
    SetBack { seat: Seat, tries: u32 },
    /// Nodes show that they live to those that sleep, and look for those that do not.
    Beat,
    /// A sign of life arrives.
    Sign(Sign),
    /// Members that can't talk to each other yet try again.
    Greet,
    /// Two members meet.
    Meet { one: Seat, other: Seat },
    /// Cards are handed over, if the process that signed them still runs.
    Cards { from: Seat, to: Member, life: u64 },
    /// A hostile actor does something.
    Hostile,
    /// A healed world asks again for what is not so yet.
    Nudge,
}

/// What a world knows of a seat.
#[derive(Debug, Default)]
struct Plans {
    /// When its core will be woken.
    deadline: Option<Moment>,
    paused: bool,
    deferred: Vec<Step>,
    /// How often its process started.
    life: u64,
    writing: bool,
    /// What its node knows of the leader of its sleeping core.
    watched: Watched,
}

/// A cluster of cores, and all that happens to it.
#[derive(Debug)]
struct CoreWorld {
    plan: CorePlan,
    /// Those in force; none once the world is healed.
    faults: CoreFaults,
    clock: Clock<Due>,
    cluster: Cluster,
    links: Links,
    hostiles: Hostiles,
    /// The cards that processes owe, each with the life of its process.
    owed: BTreeMap<(usize, Member), u64>,
    random: Random,
    plans: [Plans; SEATS_MAX],
    last_id: u64,
    /// Every step so far, if it is asked for.
    record: Option<Vec<Timed>>,
}

impl CoreWorld {
    fn new(plan: CorePlan) -> Self {
        let mut random = Random::new(plan.seed);
        let mut cluster = Cluster::new(&plan);
        for seat in cluster.seats() {
            let drift = i64::from(plan.faults.drift.per_million());
            let drift = random.below(2 * drift as u64 + 1) as i64 - drift;
            let origin = random.below(1_000_000_000_000);
            cluster.set_clock(seat, origin, drift);
        }
        let mut world = Self {
            faults: plan.faults,
            clock: Clock::new(),
            links: Links::new(&plan),
            hostiles: Hostiles::of(&plan),
            owed: BTreeMap::new(),
            cluster,
            random,
            plans: Default::default(),
            last_id: 0,
            record: None,
            plan,
        };
        for seat in world.cluster.seats() {
            let wait = world.random.between(Duration::ZERO, Duration::from_millis(50));
            world.clock.after(wait, Due::Start(seat));
        }
        world.clock.after(Duration::from_millis(60), Due::Client);
        world.clock.after(Duration::from_millis(60), Due::Strike);
        if world.plan.knobs.quiesce_after.is_some() {
            world.clock.after(Duration::from_millis(60), Due::Beat);
        }
        world.clock.after(world.plan.knobs.election, Due::Greet);
        if world.hostiles.are_any() {
            world.clock.after(Duration::from_millis(60), Due::Hostile);
        }
        world
    }

    fn run(&mut self) -> Result<(), Violation> {
        let end = Moment::ZERO.plus(self.plan.stormy);
        while let Some(due) = self.clock.next(end) {
            self.happen(due)?;
        }
        self.recover()
    }

    fn report(&self) -> CoreReport {
        let mut hasher = DefaultHasher::new();
        self.cluster.nodes.iter().for_each(|node| node.core.hash(&mut hasher));
        (self.cluster.steps, self.clock.now()).hash(&mut hasher);
        CoreReport {
            trace: hasher.finish(),
            events: self.cluster.steps,
            simulated: self.clock.now().since(Moment::ZERO),
            committed: self.cluster.checks.committed().get(),
            fault_kinds: self.plan.faults.kinds(),
            counts: self.cluster.counts,
        }
    }

    /// What all cores say of themselves.
    fn print(&self) {
        for node in &self.cluster.nodes {
            match &node.core {
                Some(core) => println!("{:#?}", core.status()),
                None => println!("{} is down", step::name(node.me)),
            }
        }
        println!("open: {:?}", self.cluster.checks.open());
    }

    fn happen(&mut self, due: Due) -> Result<(), Violation> {
        match due {
            Due::Step(step) => self.due_step(step),
            Due::Deadline(seat) => self.deadline(seat),
            Due::Written { seat, life, writes } => {
                let plans = &mut self.plans[seat.0];
                if plans.life != life {
                    return Ok(());
                }
                plans.writing = false;
                self.due_step(Step::Written { seat, writes })?;
                self.begin_write(seat);
                Ok(())
            }
            Due::Client => {
                self.client()?;
                let mut wait = self.random.between(Duration::ZERO, self.plan.client_every * 2);
                if self.plan.knobs.quiesce_after.is_some() && self.random.below(16) == 0 {
                    wait = self.random.between(Duration::ZERO, self.plan.knobs.election * 10);
                }
                self.clock.after(wait, Due::Client);
                Ok(())
            }
            Due::Strike => self.strike(),
            Due::Apart => {
                self.apart();
                Ok(())
            }
            Due::Copy(seat) => self.copy(seat),
            Due::Contradict { seat, tries } => self.contradict(seat, tries),
            Due::Rot(seat) => self.rot(seat, true),
            Due::RotUnder(seat) => self.rot_under(seat),
            Due::Mend { from, to } => {
                self.links.mend(from, to);
                Ok(())
            }
            Due::Lost { peer, life, .. } if self.plans[peer.0].life != life => Ok(()),
            Due::Lost { seat, peer, .. } => {
                let peer = self.cluster.node(peer).me;
                self.due_step(Step::Peer { seat, peer, up: false })
            }
            Due::Resume(seat) => self.resume(seat),
            Due::Start(seat) => self.start(seat),
            Due::Replay(step) => self.step(step, false),
            Due::SetBack { seat, tries } => self.set_back(seat, tries),
            Due::Beat => self.beat(),
            Due::Sign(sign) => self.sign(sign),
            Due::Greet => {
                self.greet();
                Ok(())
            }
            Due::Meet { one, other } => self.meet(one, other),
            Due::Cards { from, to, life } => self.hand_cards(from, to, life),
            Due::Hostile => self.act(),
            Due::Nudge => self.nudge(),
        }
    }

    /// Does a step, unless its process stands still.
    fn due_step(&mut self, step: Step) -> Result<(), Violation> {
        let seat = step.seat();
        if self.plans[seat.0].paused {
            self.plans[seat.0].deferred.push(step);
            return Ok(());
        }
        if let Step::Deliver { from, to, .. } = &step
            && self.links.is_cut(seat_of(*from), seat_of(*to))
        {
            return Ok(());
        }
        let gathers = self.random.hits(self.faults.batch);
        self.step(step, gathers)
    }

    /// Does a step, and plans what comes of it.
    fn step(&mut self, step: Step, gathers: bool) -> Result<(), Violation> {
        let seat = step.seat();
        let at = self.clock.now();
        let gathers = gathers && !matches!(step, Step::Drain { .. } | Step::Start { .. });
        let timed = Timed { at, step, gathers };
        if self.plan.print {
            println!("{timed}");
        }
        if let Some(record) = &mut self.record {
            record.push(timed.clone());
        }
        let gathered = self.cluster.node(seat).gathers;
        self.cluster.step(timed)?;
        if !gathered && self.cluster.node(seat).gathers {
            let wait = self.random.between(Duration::ZERO, Duration::from_micros(800));
            self.clock.after(wait, Due::Step(Step::Drain { seat }));
        }
        self.plan_deadline(seat);
        for want in std::mem::take(&mut self.cluster.wants) {
            self.want(want);
        }
        Ok(())
    }

    fn plan_deadline(&mut self, seat: Seat) {
        let Some(due) = self.cluster.deadline(seat) else { return };
        let due = due.max(self.clock.now());
        let planned = &mut self.plans[seat.0].deadline;
        if planned.is_none_or(|planned| due < planned) {
            *planned = Some(due);
            self.clock.at(due, Due::Deadline(seat));
        }
    }

    fn deadline(&mut self, seat: Seat) -> Result<(), Violation> {
        let now = self.clock.now();
        let plans = &mut self.plans[seat.0];
        if plans.deadline.is_some_and(|planned| planned <= now) {
            plans.deadline = None;
        }
        match self.cluster.deadline(seat) {
            Some(due) if due <= now => self.due_step(Step::Timeout { seat }),
            Some(_) => {
                self.plan_deadline(seat);
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn want(&mut self, want: Want) {
        let now = self.clock.now();
        let quick = Duration::from_micros(50);
        match want {
            Want::Meet(one, other) => self.meet_soon(one, other),
            Want::Cards { from, to } => self.owe_cards(from, to),
            Want::Send { to, .. } if seat_of(to).0 >= self.cluster.nodes.len() => {}
            Want::Send { from, to, message } => {
                self.hostiles.see((from, to), &message);
                let ends = (seat_of(from), seat_of(to));
                let (faults, random) = (&self.faults, &mut self.random);
                let arrivals = self.links.arrivals(now, ends, &message, faults, random);
                if faults.replay > Rate::NEVER {
                    self.links.remember((from, to), &message, random);
                    if let Some(step) = self.links.echo((from, to), &message) {
                        let wait = random.between(Duration::ZERO, self.plan.knobs.heartbeat / 4);
                        self.clock.after(wait, Due::Replay(step));
                    }
                }
                let [first, again] = arrivals;
                if let Some(at) = again {
                    let message = message.clone();
                    self.clock.at(at, Due::Step(Step::Deliver { from, to, message }));
                }
                if let Some(at) = first {
                    self.clock.at(at, Due::Step(Step::Deliver { from, to, message }));
                }
            }
            Want::Write(seat) => {
                self.begin_write(seat);
                if self.random.hits(self.faults.crash_in_write) {
                    self.crash_soon(seat);
                }
            }
            Want::Renew(seat) => self.renew(seat),
            Want::Load(seat) => {
                let fails = self.random.hits(self.faults.read_error);
                let wait = self.random.between(quick, quick * 20);
                self.clock.after(wait, Due::Step(Step::Load { seat, fails }));
            }
            Want::Take(seat) => {
                let wait = self.random.between(quick, self.plan.knobs.election);
                self.clock.after(wait, Due::Step(Step::Taken { seat }));
            }
            Want::Applied(seat) => {
                let slow = self.random.hits(self.faults.slow_apply);
                let longest = if slow { self.plan.knobs.election } else { Duration::ZERO };
                let wait = self.random.between(Duration::ZERO, longest);
                self.clock.after(wait, Due::Step(Step::Applied { seat }));
            }
            Want::Part(seat) => {
                if self.plan.rot > Rate::NEVER && self.random.below(2) == 0 {
                    self.clock.after(quick, Due::RotUnder(seat));
                }
                let fails = self.random.hits(self.faults.fetch_error);
                let wait = self.random.between(quick, self.plan.knobs.heartbeat * 2);
                self.clock.after(wait, Due::Step(Step::Part { seat, fails }));
            }
            Want::Install(seat) => {
                let wait = self.random.between(quick, self.plan.knobs.heartbeat * 2);
                self.clock.after(wait, Due::Step(Step::Installed { seat }));
            }
        }
    }

    /// The disk begins a commit of everything that it was given.
    fn begin_write(&mut self, seat: Seat) {
        let writes = self.cluster.node(seat).disk.waiting();
        let plans = &mut self.plans[seat.0];
        if plans.writing || writes == 0 {
            return;
        }
        plans.writing = true;
        let life = plans.life;
        let mut wait = self.random.between(Duration::from_micros(100), Duration::from_millis(2));
        if self.random.hits(self.faults.stall) {
            wait += self.random.between(Duration::ZERO, self.plan.knobs.election * 2);
        }
        self.clock.after(wait, Due::Written { seat, life, writes });
    }

    /// Some seat.
    fn some(&mut self) -> Seat {
        Seat(self.random.place(self.cluster.nodes.len()))
    }

    /// Some seat, often one that leads: what happens to it matters most.
    fn victim(&mut self) -> Seat {
        let (leads, some) = (self.random.below(2) == 0, self.some());
        if leads { self.some_leader().unwrap_or(some) } else { some }
    }

    /// Some seat that leads.
    fn some_leader(&mut self) -> Option<Seat> {
        let leaders: Vec<Seat> =
            self.cluster.seats().filter(|seat| self.cluster.leads(*seat)).collect();
        let place = self.random.place(leaders.len().max(1));
        leaders.get(place).copied()
    }
}

//! Faults of nodes and links: when they strike, whom, and for how long.
//!
//! Ten times a second each kind of fault may strike, by a stream of its own ([`Strike`]). A plan
//! can name the only strikes that happen: so a failing run is made shorter without changing it.

use std::{fmt::Arguments, time::Duration};

use meshraft_consensus::Moment;

use super::{Event, Seat, World, network::Stranger};
use crate::{
    check::Violation,
    faults::{Fault, Faults, Rate, Strike},
};

/// How often something may go wrong.
pub(super) const STRIKE_EVERY: Duration = Duration::from_millis(100);

/// How long it is rough at first.
const ROUGH_TICKS: u32 = 30;

/// Something that went wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Struck {
    /// When.
    pub at: Moment,
    /// What names it.
    pub strike: Strike,
    /// What happened to whom.
    pub what: String,
}

/// Where a storm is.
#[derive(Debug, Default)]
pub(super) struct Storm {
    /// How many times something may have gone wrong.
    ticks: u32,
    /// What goes wrong just now.
    striking: Option<Strike>,
    /// What went wrong, if that is to be told.
    pub(super) told: Option<Vec<Struck>>,
    /// Whether nothing goes wrong any more.
    pub(super) over: bool,
}

impl World {
    /// From now on things go wrong.
    pub(super) fn begin_storm(&mut self) -> Result<(), Violation> {
        match self.storm.over {
            true => Ok(()),
            false => self.strike(),
        }
    }

    /// A moment at which something may go wrong.
    pub(super) fn strike(&mut self) -> Result<(), Violation> {
        if self.storm.over || self.plan.faults == Faults::NONE {
            return Ok(());
        }
        self.tell_struck();
        self.expect_answers()?;
        let tick = self.storm.ticks;
        self.storm.ticks += 1;
        let mut faults = match self.plan.rough && tick < ROUGH_TICKS {
            true => self.plan.faults.rough(),
            false => self.plan.faults,
        };
        if let Some(only) = &self.plan.only {
            let left_out = |fault: &&Fault| !only.contains(&Strike { tick, fault: **fault });
            for fault in Fault::ALL.iter().filter(left_out) {
                *faults.of_mut(*fault) = Rate::NEVER;
            }
        }
        self.force.set(faults);
        self.network.force.set(faults);
        for fault in faults.there() {
            let strike = Strike { tick, fault };
            let mut random = strike.random(self.plan.seed);
            if random.hits(faults.of(fault)) {
                self.storm.striking = Some(strike);
                std::mem::swap(&mut random, &mut self.random);
                let struck = self.strike_one(fault);
                std::mem::swap(&mut random, &mut self.random);
                self.storm.striking = None;
                struck?;
            }
        }
        self.clock.after(STRIKE_EVERY, Event::Strike);
        Ok(())
    }

    fn strike_one(&mut self, fault: Fault) -> Result<(), Violation> {
        match fault {
            Fault::Cut => self.strike_cut(),
            Fault::Partition => self.strike_partition(None),
            Fault::Bridge => {
                let bridge = self.victim();
                self.strike_partition(Some(bridge));
            }
            Fault::Deaf => self.strike_deaf(),
            Fault::Reset => self.strike_reset(),
            Fault::Pause => self.strike_pause(),
            Fault::Leap => self.strike_leap(),
            Fault::Crash => {
                let seat = self.victim();
                self.strike_crash(seat)?;
            }
            Fault::Blackout => {
                for seat in self.seats() {
                    self.strike_crash(seat)?;
                }
            }
            Fault::IoError => self.strike_io_error(),
            Fault::Full => self.strike_full(),
            Fault::Wipe => self.strike_wipe()?,
            Fault::LostSnapshot => self.strike_lost_snapshot()?,
            Fault::Copy => self.strike_copy(),
            Fault::Rot => self.strike_rot()?,
            Fault::SetBack => self.strike_set_back()?,
            Fault::Stranger => self.strike_stranger()?,
            Fault::Versions => self.strike_versions()?,
            Fault::Leave => self.strike_departure(false),
            Fault::Remove => self.strike_departure(true),
            Fault::ComeBack => self.strike_return(),
            Fault::Transfer => self.strike_transfer(),
            Fault::Reopen => self.strike_reopen()?,
            Fault::Idle => self.strike_idle(),
            // These strike as messages, reads and writes go by.
            Fault::Loss
            | Fault::Duplicate
            | Fault::Delay
            | Fault::Stale
            | Fault::Reorder
            | Fault::SlowApply
            | Fault::Drift
            | Fault::Torn
            | Fault::Stall
            | Fault::ReadError
            | Fault::Batch => {}
        }
        Ok(())
    }

    /// The fault that strikes now did something.
    pub(super) fn struck(&mut self, what: Arguments<'_>) {
        let now = self.clock.now();
        self.trace.note(now, what);
        let Some(strike) = self.storm.striking else { return };
        self.struck.note(strike.fault);
        if let Some(told) = &mut self.storm.told {
            told.push(Struck { at: now, strike, what: what.to_string() });
        }
    }

    /// Takes note of the faults of messages, reads and writes since the last tick.
    pub(super) fn tell_struck(&mut self) {
        let Some(tick) = self.storm.ticks.checked_sub(1) else { return };
        let mut recent = self.force.take();
        recent.add(&self.network.force.take());
        self.struck.add(&recent);
        let Some(told) = &mut self.storm.told else { return };
        let at = self.clock.now();
        for fault in Fault::ALL.iter().copied().filter(|fault| recent.of(*fault) > 0) {
            let what = format!("{} times: {}", recent.of(fault), fault.name());
            told.push(Struck { at, strike: Strike { tick, fault }, what });
        }
    }

    pub(super) fn victim(&mut self) -> Seat {
        Seat(self.random.place(self.nodes.len()))
    }

    /// Two nodes; the same one twice if there is only one, to which nothing happens then.
    fn pair(&mut self) -> (Seat, Seat) {
        let (one, other) = (self.victim(), self.victim());
        if one == other { (one, Seat((one.0 + 1) % self.nodes.len())) } else { (one, other) }
    }

    /// From a moment to several elections.
    pub(super) fn while_it_lasts(&mut self) -> Duration {
        let longest = Duration::from_millis(200 << self.random.below(5));
        self.random.between(Duration::from_millis(20), longest)
    }

    fn cut(&mut self, from: Seat, to: Seat, lasts: Duration) {
        let now = self.clock.now();
        self.trace.note(now, format_args!("cut n{} -> n{}", from.0, to.0));
        self.network.at(now).cut(from, to);
        self.clock.after(lasts, Event::Mend { from, to });
    }

    fn strike_cut(&mut self) {
        let (from, to) = self.pair();
        let (lasts, both) = (self.while_it_lasts(), self.random.below(2) == 0);
        if from == to {
            return;
        }
        let arrow = if both { "<->" } else { "->" };
        self.struck(format_args!("cut n{} {arrow} n{} for {lasts:?}", from.0, to.0));
        self.cut(from, to, lasts);
        if both {
            self.cut(to, from, lasts);
        }
    }

    /// Two halves; a bridge reaches both.
    fn strike_partition(&mut self, bridge: Option<Seat>) {
        let (sides, lasts) = (self.random.next(), self.while_it_lasts());
        let side = |seat: Seat| sides >> (seat.0 % 64) & 1;
        let (one, other): (Vec<Seat>, Vec<Seat>) =
            self.seats().filter(|seat| Some(*seat) != bridge).partition(|seat| side(*seat) == 0);
        if one.is_empty() || other.is_empty() {
            return;
        }
        let numbers = |seats: &[Seat]| seats.iter().map(|seat| seat.0).collect::<Vec<_>>();
        let (left, right) = (numbers(&one), numbers(&other));
        match bridge {
            Some(Seat(it)) => {
                self.struck(format_args!("only n{it} reaches {left:?} and {right:?}, {lasts:?}"));
            }
            None => self.struck(format_args!("{left:?} and {right:?} are apart for {lasts:?}")),
        }
        for from in &one {
            for to in &other {
                self.cut(*from, *to, lasts);
                self.cut(*to, *from, lasts);
            }
        }
    }

    /// One way, for one node.
    fn strike_deaf(&mut self) {
        let (seat, lasts) = (self.victim(), self.while_it_lasts());
        let (deaf, others) = (self.random.below(2) == 0, self.seats());
        let what = if deaf { "hears nobody" } else { "is heard by nobody" };
        self.struck(format_args!("n{} {what} for {lasts:?}", seat.0));
        for other in others.filter(|other| *other != seat) {
            let (from, to) = if deaf { (other, seat) } else { (seat, other) };
            self.cut(from, to, lasts);
        }
    }

    fn strike_reset(&mut self) {
        let (one, other) = self.pair();
        let now = self.clock.now();
        self.struck(format_args!("the connection of n{} and n{} breaks", one.0, other.0));
        self.network.at(now).reset(one, other);
    }

    fn strike_pause(&mut self) {
        let (seat, lasts) = (self.victim(), self.while_it_lasts());
        if self.stand_still(seat, lasts) {
            self.struck(format_args!("n{} pauses for {lasts:?}", seat.0));
        }
    }

    /// A process does nothing for a while. Says whether it did something until now.
    pub(super) fn stand_still(&mut self, seat: Seat, lasts: Duration) -> bool {
        let now = self.clock.now();
        let node = self.node_mut(seat);
        if !node.is_running() || node.paused_until.is_some() {
            return false;
        }
        node.paused_until = Some(now.plus(lasts));
        self.network.at(now).pause(seat, true);
        self.clock.after(lasts, Event::Resume(seat));
        true
    }

    fn strike_leap(&mut self) {
        let seat = self.victim();
        let span = self.random.between(Duration::from_millis(50), Duration::from_secs(3));
        // One clock alone, or all but one.
        let alone = self.random.below(3) > 0;
        let which = if alone { "the clock of" } else { "all clocks but that of" };
        self.struck(format_args!("{which} n{} leaps {span:?}", seat.0));
        for leaping in self.seats().filter(|it| (*it == seat) == alone) {
            self.node_mut(leaping).clock.leap(span);
            self.plan_deadline(leaping);
        }
    }

    pub(super) fn strike_crash(&mut self, seat: Seat) -> Result<(), Violation> {
        let down = self.while_it_lasts();
        if self.node(seat).is_running() {
            self.struck(format_args!("n{} crashes, and is down for {down:?}", seat.0));
            self.crash(seat)?;
            self.clock.after(down, Event::Start(seat));
        }
        Ok(())
    }

    fn strike_io_error(&mut self) {
        let seat = self.victim();
        if self.node(seat).is_running() {
            self.struck(format_args!("the next commit of n{} fails", seat.0));
            self.node_mut(seat).disk.fails_next = true;
        }
    }

    fn strike_full(&mut self) {
        let (seat, lasts) = (self.victim(), self.while_it_lasts());
        self.struck(format_args!("the disk of n{} is full for {lasts:?}", seat.0));
        self.node_mut(seat).disk.files.full = true;
        self.clock.after(lasts, Event::Room(seat));
    }

    /// A node restarts as one that no other talks to, and later as what it was.
    fn strike_stranger(&mut self) -> Result<(), Violation> {
        let (seat, lasts) = (self.victim(), self.while_it_lasts());
        let key = self.random.below(2) == 0;
        let stranger = if key { Stranger::Key } else { Stranger::Release };
        if !self.node(seat).is_running() || self.node(seat).stranger.is_some() {
            return Ok(());
        }
        self.struck(format_args!("n{} restarts as a stranger: {stranger:?}", seat.0));
        self.node_mut(seat).stranger = Some(stranger);
        self.crash(seat)?;
        self.clock.after(Duration::from_millis(50), Event::Start(seat));
        self.clock.after(lasts, Event::Known(seat));
        Ok(())
    }

    /// A stranger restarts as what it was before.
    pub(super) fn known(&mut self, seat: Seat) -> Result<(), Violation> {
        if self.node_mut(seat).stranger.take().is_some() && self.node(seat).is_running() {
            self.trace.note(self.clock.now(), format_args!("n{} is no stranger", seat.0));
            self.crash(seat)?;
            self.clock.after(Duration::from_millis(50), Event::Start(seat));
        }
        Ok(())
    }

    fn strike_idle(&mut self) {
        let lasts = self.random.between(Duration::from_millis(500), Duration::from_secs(4));
        let now = self.clock.now();
        self.struck(format_args!("clients rest for {lasts:?}"));
        self.idle_until = now.plus(lasts);
    }

    /// How long a node is down that went down by itself.
    pub(super) fn downtime(&mut self) -> Duration {
        let down = self.while_it_lasts();
        if self.storm.over { Duration::from_millis(20) } else { down }
    }

    /// Nothing goes wrong any more: links are whole, processes run, clients finish.
    ///
    /// # Errors
    /// What is wrong with what a crash leaves.
    pub(super) fn heal(&mut self) -> Result<(), Violation> {
        let now = self.clock.now();
        self.trace.note(now, format_args!("healed"));
        self.tell_struck();
        self.storm.over = true;
        let batch = if self.plan.only.is_none() { self.plan.faults.batch } else { Rate::NEVER };
        self.force.set(Faults { batch, ..Faults::NONE });
        self.network.force.set(Faults::NONE);
        self.network.at(now).mend_all();
        self.idle_until = now;
        for seat in self.seats() {
            if self.node(seat).paused_until.is_some() {
                self.node_mut(seat).paused_until = Some(now);
                self.clock.at(now, Event::Resume(seat));
            }
            let disk = &mut self.node_mut(seat).disk;
            (disk.fails_next, disk.files.full) = (false, false);
            self.known(seat)?;
            let newest = self.version_at_the_end();
            self.upgrade(seat, newest)?;
            if !self.node(seat).is_running() {
                self.clock.at(now, Event::Start(seat));
            }
        }
        self.plan_network();
        self.settle();
        self.workload.stop();
        Ok(())
    }
}

//! Faults of nodes and links: when they strike, whom, and for how long.

use std::time::Duration;

use super::{Event, Seat, World};
use crate::{check::Violation, faults::Faults};

/// How often something may go wrong.
pub(super) const STRIKE_EVERY: Duration = Duration::from_millis(100);

impl World {
    /// From now on things go wrong.
    pub(super) fn begin_storm(&mut self) {
        self.faults = self.plan.faults.clone();
        self.network.faults = self.faults.clone();
        self.clock.after(STRIKE_EVERY, Event::Strike);
    }

    /// A moment at which something may go wrong.
    pub(super) fn strike(&mut self) -> Result<(), Violation> {
        let faults = self.faults.clone();
        if faults == Faults::NONE {
            return Ok(());
        }
        if self.random.hits(faults.cut) {
            self.strike_cut();
        }
        if self.random.hits(faults.partition) {
            self.strike_partition();
        }
        if self.random.hits(faults.reset) {
            let (one, other) = self.pair();
            let now = self.clock.now();
            self.network.at(now).reset(one, other);
        }
        if self.random.hits(faults.pause) {
            self.strike_pause();
        }
        if self.random.hits(faults.crash) {
            let seat = self.victim();
            self.strike_crash(seat)?;
        }
        if self.random.hits(faults.blackout) {
            for seat in self.seats() {
                self.strike_crash(seat)?;
            }
        }
        if self.random.hits(faults.wipe) {
            self.strike_wipe()?;
        }
        self.strike_lives(&faults)?;
        self.clock.after(STRIKE_EVERY, Event::Strike);
        Ok(())
    }

    /// Old copies, members that come and go, and namespaces that are closed.
    fn strike_lives(&mut self, faults: &Faults) -> Result<(), Violation> {
        if self.random.hits(faults.copy) {
            self.strike_copy();
        }
        if self.random.hits(faults.set_back) {
            self.strike_set_back()?;
        }
        if self.random.hits(faults.leave) {
            self.strike_departure(false);
        }
        if self.random.hits(faults.remove) {
            self.strike_departure(true);
        }
        if self.random.hits(faults.come_back) {
            self.strike_return();
        }
        if self.random.hits(faults.reopen) {
            self.strike_reopen()?;
        }
        Ok(())
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
        self.cut(from, to, lasts);
        if both {
            self.cut(to, from, lasts);
        }
    }

    fn strike_partition(&mut self) {
        let (sides, lasts) = (self.random.next(), self.while_it_lasts());
        let side = |seat: Seat| sides >> (seat.0 % 64) & 1;
        for from in self.seats() {
            for to in self.seats().filter(|to| side(*to) != side(from)) {
                self.cut(from, to, lasts);
            }
        }
    }

    fn strike_pause(&mut self) {
        let (seat, lasts) = (self.victim(), self.while_it_lasts());
        let now = self.clock.now();
        let node = self.node_mut(seat);
        if !node.is_running() || node.paused_until.is_some() {
            return;
        }
        node.paused_until = Some(now.plus(lasts));
        self.trace.note(now, format_args!("n{} pauses", seat.0));
        self.network.at(now).pause(seat, true);
        self.clock.after(lasts, Event::Resume(seat));
    }

    fn strike_crash(&mut self, seat: Seat) -> Result<(), Violation> {
        let down = self.while_it_lasts();
        if self.node(seat).is_running() {
            self.crash(seat)?;
            self.clock.after(down, Event::Start(seat));
        }
        Ok(())
    }

    /// Nothing goes wrong any more: links are whole, processes run, clients finish.
    pub fn heal(&mut self) {
        let now = self.clock.now();
        self.trace.note(now, format_args!("healed"));
        self.faults = Faults { batch: self.faults.batch, ..Faults::NONE };
        self.network.faults = Faults::NONE;
        self.network.at(now).mend_all();
        for seat in self.seats() {
            if self.node(seat).paused_until.is_some() {
                self.node_mut(seat).paused_until = Some(now);
                self.clock.at(now, Event::Resume(seat));
            }
            if !self.node(seat).is_running() {
                self.clock.at(now, Event::Start(seat));
            }
        }
        self.plan_network();
        self.settle();
        self.workload.stop();
    }
}

//! When members meet, and when cards reach their members: on ways that are not cut, late, or once
//! more where that was lost.

use std::time::Duration;

use meshraft_consensus::Member;

use super::{
    CoreWorld, Due,
    step::{Step, seat_of},
};
use crate::{check::Violation, world::Seat};

impl CoreWorld {
    /// Every transport tries those again that it can't talk to yet.
    pub(super) fn greet(&mut self) {
        self.clock.after(self.plan.knobs.election * 2, Due::Greet);
        let count = self.cluster.nodes.len();
        for one in 0..count {
            for other in one + 1..count {
                if self.cluster.would_meet(Seat(one), Seat(other)) {
                    self.meet_soon(Seat(one), Seat(other));
                }
            }
        }
    }

    /// Two members meet a moment later, or do not.
    pub(super) fn meet_soon(&mut self, one: Seat, other: Seat) {
        if self.random.hits(self.faults.loss) {
            return;
        }
        let wait = self.wait();
        self.clock.after(wait, Due::Meet { one, other });
    }

    /// Two members meet, if both ways between them are open.
    pub(super) fn meet(&mut self, one: Seat, other: Seat) -> Result<(), Violation> {
        if !self.is_open(one, other) || !self.cluster.would_meet(one, other) {
            return Ok(());
        }
        self.step(Step::Meet { one, other }, false)?;
        self.plan_deadline(other);
        Ok(())
    }

    /// A process owes cards to a member, until it dies.
    pub(super) fn owe_cards(&mut self, from: Seat, to: Member) {
        let life = self.plans[from.0].life;
        if self.owed.insert((from.0, to), life) != Some(life) {
            let wait = self.wait();
            self.clock.after(wait, Due::Cards { from, to, life });
        }
    }

    /// Cards are handed over, or later.
    pub(super) fn hand_cards(
        &mut self,
        from: Seat,
        to: Member,
        life: u64,
    ) -> Result<(), Violation> {
        if self.owed.get(&(from.0, to)) != Some(&life) {
            return Ok(());
        }
        if self.plans[from.0].life != life || self.cluster.node(seat_of(to)).me != to {
            self.owed.remove(&(from.0, to));
            return Ok(());
        }
        let open = self.is_open(from, seat_of(to)) && self.cluster.may_hand_cards(from, to);
        if !open || self.random.hits(self.faults.loss) {
            self.clock.after(self.plan.knobs.election / 2, Due::Cards { from, to, life });
            return Ok(());
        }
        self.owed.remove(&(from.0, to));
        self.step(Step::Cards { from, to }, false)
    }

    /// How long what is no message of a core is on its way.
    fn wait(&mut self) -> Duration {
        let late = self.random.hits(self.faults.delay);
        let longest = if late { self.plan.knobs.election * 3 } else { self.plan.latency_max };
        self.random.between(Duration::ZERO, longest.max(Duration::from_millis(1)))
    }

    fn is_open(&self, one: Seat, other: Seat) -> bool {
        let paused = self.plans[one.0].paused || self.plans[other.0].paused;
        !paused && !self.links.is_cut(one, other) && !self.links.is_cut(other, one)
    }
}

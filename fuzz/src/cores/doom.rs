//! Leaders that are apart from the others: what they write is doomed, and its traces meet what took
//! its place.

use std::time::Duration;

use meshraft_consensus::ProposalId;

use super::{CoreWorld, Due, losses::TRIES, plan::CoreFaults, step::Step};
use crate::{faults::Rate, world::Seat};

impl CoreWorld {
    /// A leader, with less than half of the others, is apart from the rest, or not heard by them;
    /// often, as soon as it is back, whoever leads then.
    pub(super) fn apart(&mut self) {
        let (faults, leader) = (self.faults, self.some_leader());
        let Some(leader) = leader.filter(|_| faults.minority > Rate::NEVER) else { return };
        let (sides, count) = (self.random.next() & self.random.next(), self.cluster.nodes.len());
        let near = self.cluster.seats().filter(|seat| *seat != leader && sides >> seat.0 & 1 > 0);
        let near = near.take(count.saturating_sub(1) / 2);
        let near: Vec<Seat> = near.chain([leader]).collect();
        let rest = self.cluster.seats().filter(|seat| !near.contains(seat)).collect::<Vec<_>>();
        let (lasts, mute) = (self.while_it_lasts(), self.random.below(2) == 0);
        for (from, to) in rest.iter().flat_map(|to| near.iter().map(move |from| (*from, *to))) {
            self.cut(from, to, lasts);
            if !mute {
                self.cut(to, from, lasts);
            }
        }
        self.doom(leader, lasts);
        if faults.replay > Rate::NEVER {
            self.replay(16, self.plan.knobs.election * 2);
        }
        if self.random.below(2) == 0 {
            self.clock.after(lasts, Due::Apart);
        }
        if self.random.below(3) == 0 {
            self.usurp(&rest, &faults);
        }
    }

    /// Whoever leads apart from the others writes what will never be committed, often a lot of it.
    /// A copy of its disk that is put back later, perhaps at once, or one that rots, holds other
    /// entries than all others.
    fn doom(&mut self, leader: Seat, lasts: Duration) {
        let (faults, soon) = (self.faults, self.random.between(lasts / 2, lasts * 5 / 4));
        let longest = [1, 8, 48][self.random.place(3)];
        for _ in 0..self.random.below(longest) {
            let id = self.next_id();
            let wait = self.random.between(Duration::ZERO, soon.min(self.plan.knobs.election));
            let bytes = self.random.below(self.plan.command_bytes_max.min(16) + 1) as usize;
            let step = Step::Propose { seat: leader, id: ProposalId::new(id), bytes };
            self.clock.after(wait, Due::Step(step));
        }
        if faults.copy > Rate::NEVER && self.random.below(2) == 0 {
            self.clock.after(soon, Due::Copy(leader));
            if faults.set_back > Rate::NEVER {
                self.clock.after(soon, Due::Contradict { seat: leader, tries: TRIES });
            }
        }
        if self.plan.rot > Rate::NEVER && self.random.below(2) == 0 {
            self.clock.after(soon, Due::Rot(leader));
        }
    }

    /// What cut a leader off makes some of the others start anew, and one of them campaigns.
    fn usurp(&mut self, rest: &[Seat], faults: &CoreFaults) {
        let heartbeat = self.plan.knobs.heartbeat;
        for seat in rest {
            let (falls, down) = (self.random.below(3) > 0, self.random.below(8) as u32);
            if falls && faults.crash > Rate::NEVER {
                self.clock.after(Duration::ZERO, Due::Step(Step::Crash { seat: *seat, kept: 0 }));
                self.clock.after(heartbeat / 16 * (down + 1), Due::Start(*seat));
            }
        }
        let place = self.random.place(rest.len().max(1));
        if let Some(seat) = rest.get(place).copied().filter(|_| faults.campaign > Rate::NEVER) {
            self.clock.after(heartbeat, Due::Step(Step::Campaign { seat }));
        }
    }
}

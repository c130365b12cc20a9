//! Faults of processes, links and disks, and changes of members: when they strike, whom, and for
//! how long.

use std::time::Duration;

use meshraft_consensus::{Change, ChangeStep, Member, ProposalId};

use super::{CoreWorld, Due, counts::CoreRare, plan::CoreFaults, step::Step};
use crate::{check::Violation, faults::Rate, world::Seat};

const STRIKE_EVERY: Duration = Duration::from_millis(50);

impl CoreWorld {
    pub(super) fn strike(&mut self) -> Result<(), Violation> {
        let faults = self.faults;
        if faults == CoreFaults::NONE {
            return Ok(());
        }
        self.clock.after(STRIKE_EVERY, Due::Strike);
        self.strike_links(&faults)?;
        if self.random.hits(faults.pause) {
            self.pause();
        }
        if self.random.hits(faults.leap) {
            let (seat, span) = (self.some(), self.plan.knobs.election * 2);
            let span = self.random.between(Duration::ZERO, span);
            self.step(Step::Leap { seat, span }, false)?;
        }
        if self.random.hits(faults.crash) {
            let seat = self.victim();
            self.crash(seat)?;
        }
        if self.random.hits(faults.blackout) {
            self.cluster.seats().try_for_each(|seat| self.crash(seat))?;
        }
        self.strike_disks(&faults)?;
        if self.plan.rot > Rate::NEVER && self.random.hits(self.plan.rot) {
            let (seat, late) = (self.victim(), self.random.below(2) == 0);
            self.rot(seat, late)?;
        }
        self.strike_members(&faults)
    }

    fn strike_links(&mut self, faults: &CoreFaults) -> Result<(), Violation> {
        let (one, other) = (self.victim(), self.some());
        if self.random.hits(faults.cut) && one != other {
            let both = self.random.below(2) == 0;
            let lasts = self.while_it_lasts();
            self.cut(one, other, lasts);
            if both {
                self.cut(other, one, lasts);
            }
        }
        if self.random.hits(faults.partition) {
            let sides = self.random.next();
            self.split(|seat| sides >> seat.0 & 1);
        }
        if self.random.hits(faults.minority) {
            self.apart();
        }
        if self.random.hits(faults.sleeper) {
            self.lose_sleeper();
        }
        if self.random.hits(faults.replay) {
            self.replay(8, self.plan.knobs.heartbeat);
        }
        if self.random.hits(faults.bridge) {
            let sides = self.random.next();
            self.split(|seat| if seat == one { 2 } else { sides >> seat.0 & 1 });
        }
        if self.random.hits(faults.deaf) {
            let (lasts, hears) = (self.while_it_lasts(), self.random.below(2) == 0);
            for peer in self.cluster.seats().filter(|peer| *peer != one) {
                let (from, to) = if hears { (one, peer) } else { (peer, one) };
                self.cut(from, to, lasts);
            }
        }
        if self.random.hits(faults.reset) && one != other {
            let ends = [(one, other), (other, one)];
            for (up, (seat, peer)) in
                [false, true].into_iter().flat_map(|up| ends.map(|it| (up, it)))
            {
                let peer = self.cluster.node(peer).me;
                self.due_step(Step::Peer { seat, peer, up })?;
            }
        }
        Ok(())
    }

    fn strike_members(&mut self, faults: &CoreFaults) -> Result<(), Violation> {
        if self.random.hits(faults.campaign) {
            let seat = self.some();
            self.due_step(Step::Campaign { seat })?;
        }
        let Some(seat) = self.some_leader() else { return Ok(()) };
        if self.plans[seat.0].paused {
            // What is asked for now would be something else when it goes on.
            return Ok(());
        }
        if self.random.hits(faults.transfer) {
            let (id, other) = (ProposalId::new(self.next_id()), self.some());
            let to = Some(self.cluster.node(other).me).filter(|_| self.random.below(3) > 0);
            self.due_step(Step::Transfer { seat, id, to })?;
        }
        if self.random.hits(faults.churn)
            && let Some(change) = self.repair(seat).or_else(|| self.change(seat))
        {
            let id = ProposalId::new(self.next_id());
            self.due_step(Step::Change { seat, id, change: Box::new(change) })?;
        }
        Ok(())
    }

    /// A change that leaves a majority of whole disks, by the configuration of a leader.
    fn change(&mut self, seat: Seat) -> Option<Change> {
        let from = self.cluster.node(seat).configuration.clone();
        let all = self.cluster.sound();
        let lost = from.members().iter().any(|member| !all.contains(member));
        let mut to = from.clone();
        let mut steps = Vec::new();
        let out: Vec<Member> = all.iter().filter(|it| !from.contains(it)).copied().collect();
        for _ in 0..1 + self.random.below(3) {
            let back = self.random.below(3) == 0 && !out.is_empty();
            let pool = if back { &out } else { &all };
            let member = *pool.get(self.random.place(pool.len().max(1)))?;
            let step = if to.is_voter(&member)
                || (to.learners.contains(&member) && self.random.below(2) == 0)
            {
                if lost {
                    continue;
                }
                match self.random.below(3) {
                    0 if to.voters.contains(&member) => ChangeStep::Demote(member),
                    _ => ChangeStep::Remove(member),
                }
            } else if to.learners.contains(&member) {
                if !from.contains(&member) && self.random.below(2) > 0 {
                    // It is refused: nobody votes in the change that adds it.
                    continue;
                }
                ChangeStep::Promote(member)
            } else {
                ChangeStep::AddLearner(member)
            };
            match step {
                ChangeStep::Remove(member) => {
                    to.voters.remove(&member);
                    to.learners.remove(&member);
                }
                ChangeStep::Promote(member) => {
                    to.learners.remove(&member);
                    to.voters.insert(member);
                }
                ChangeStep::Demote(member) => {
                    to.voters.remove(&member);
                    to.learners.insert(member);
                }
                ChangeStep::AddLearner(member) => {
                    to.learners.insert(member);
                }
            }
            steps.push(step);
        }
        let whole = to.voters.iter().filter(|voter| all.contains(voter)).count();
        (whole * 2 > to.voters.len() && !steps.is_empty()).then_some(Change { steps })
    }

    /// From a moment to several elections.
    pub(super) fn while_it_lasts(&mut self) -> Duration {
        let longest = self.plan.knobs.election * (1 << self.random.below(4)) / 2;
        self.random.between(Duration::from_millis(5), longest)
    }

    pub(super) fn cut(&mut self, from: Seat, to: Seat, lasts: Duration) {
        self.links.cut(from, to);
        self.clock.after(lasts, Due::Mend { from, to });
    }

    /// Members on different sides do not hear each other; side 2 is heard by all.
    fn split(&mut self, side: impl Fn(Seat) -> u64) {
        let lasts = self.while_it_lasts();
        for from in self.cluster.seats() {
            for to in self.cluster.seats() {
                let (one, other) = (side(from), side(to));
                if one != other && one < 2 && other < 2 {
                    self.cut(from, to, lasts);
                }
            }
        }
    }

    /// A leader that sleeps is apart from all others for long enough to be lost to them.
    fn lose_sleeper(&mut self) {
        let asleep = |seat: &Seat| self.cluster.leads(*seat) && self.cluster.sleeps(*seat);
        let Some(leader) = self.cluster.seats().find(asleep) else { return };
        let election = self.plan.knobs.election;
        let lasts = self.random.between(election, election * 8);
        for other in self.cluster.seats().filter(|other| *other != leader) {
            self.cut(leader, other, lasts);
            self.cut(other, leader, lasts);
        }
    }

    /// Some messages of the past arrive, soon or a little later; often of a leader that led before.
    pub(super) fn replay(&mut self, count: usize, longest: Duration) {
        let (of_leader, leader) = (self.random.below(2) == 0, self.some_leader());
        let led = leader.and_then(|leader| Some((leader, self.cluster.node(leader).led?)));
        for _ in 0..count {
            let wait = self.random.between(Duration::ZERO, longest);
            let step = self.links.recall(led.filter(|_| of_leader), &mut self.random);
            if let Some(step) = step {
                self.clock.after(wait, Due::Replay(step));
            }
        }
    }

    fn pause(&mut self) {
        let (seat, lasts) = (self.victim(), self.while_it_lasts());
        if !self.plans[seat.0].paused && self.cluster.node(seat).core.is_some() {
            self.plans[seat.0].paused = true;
            self.cluster.counts.note(CoreRare::Paused);
            self.clock.after(lasts, Due::Resume(seat));
        }
    }

    pub(super) fn resume(&mut self, seat: Seat) -> Result<(), Violation> {
        self.plans[seat.0].paused = false;
        let deferred = std::mem::take(&mut self.plans[seat.0].deferred);
        self.plan_deadline(seat);
        deferred.into_iter().try_for_each(|step| self.due_step(step))
    }

    /// A process starts, and finds the paths to its peers.
    pub(super) fn start(&mut self, seat: Seat) -> Result<(), Violation> {
        if self.cluster.node(seat).core.is_some() {
            return Ok(());
        }
        let seed = self.random.next();
        let plans = &mut self.plans[seat.0];
        (plans.deadline, plans.writing) = (None, false);
        plans.life += 1;
        self.step(Step::Start { seat, seed }, false)?;
        let me = self.cluster.node(seat).me;
        for other in self.cluster.seats().filter(|other| *other != seat) {
            if self.cluster.node(other).core.is_none() {
                continue;
            }
            let peer = self.cluster.node(other).me;
            let ends = [
                Step::Peer { seat, peer, up: true },
                Step::Peer { seat: other, peer: me, up: true },
            ];
            for end in ends {
                // What a peer sends may be there before it is known that it can be reached.
                match self.faults.reset > Rate::NEVER && self.random.below(2) == 0 {
                    true => {
                        let heartbeat = self.plan.knobs.heartbeat;
                        let wait = self.random.between(Duration::ZERO, heartbeat);
                        self.clock.after(wait, Due::Step(end));
                    }
                    false => self.due_step(end)?,
                }
            }
        }
        Ok(())
    }

    /// A process crashes, and comes back some time later.
    fn crash(&mut self, seat: Seat) -> Result<(), Violation> {
        if self.cluster.node(seat).core.is_none() {
            return Ok(());
        }
        // Often it is started again at once.
        let (at_once, down) = (self.random.below(2) == 0, self.while_it_lasts());
        let down = if at_once { down.min(self.plan.knobs.heartbeat / 2) } else { down };
        self.clock.after(down, Due::Start(seat));
        self.stop(seat)
    }

    pub(super) fn stop(&mut self, seat: Seat) -> Result<(), Violation> {
        let waiting = self.cluster.node(seat).disk.waiting() as u64;
        let kept = if self.plans[seat.0].writing { self.random.below(waiting + 1) } else { 0 };
        let plans = &mut self.plans[seat.0];
        plans.life += 1;
        plans.paused = false;
        plans.deferred.clear();
        self.step(Step::Crash { seat, kept: kept as usize }, false)?;
        let (life, seen) = (self.plans[seat.0].life, self.random.below(2) == 0);
        for other in self.cluster.seats().filter(|other| seen && *other != seat) {
            let wait = self.random.between(Duration::ZERO, self.plan.knobs.heartbeat);
            self.clock.after(wait, Due::Lost { seat: other, peer: seat, life });
        }
        Ok(())
    }

    /// A process crashes in the middle of a write that was just handed to its disk.
    pub(super) fn crash_soon(&mut self, seat: Seat) {
        let down = self.while_it_lasts();
        let wait = self.random.between(Duration::ZERO, Duration::from_millis(1));
        self.clock.after(wait, Due::Step(Step::Crash { seat, kept: 0 }));
        self.clock.after(wait + down, Due::Start(seat));
    }
}

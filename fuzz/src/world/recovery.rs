//! The end of a run: the healed world must work again, and nothing may be missing in it.

use std::{collections::BTreeSet, time::Duration};

use meshraft_consensus::{Member, Moment, Namespace, Role};

use super::{Event, Failure, Seat, World};
use crate::{
    check::{Stuck, Violation, Wanted, check_acknowledged},
    counts::Rare,
    plan::{Founding, Plan},
};

/// How often the world is asked whether it works again.
const LOOK_EVERY: Duration = Duration::from_millis(100);

impl World {
    /// Runs until everything works again, and then checks what clients saw in the whole run.
    ///
    /// # Errors
    /// What does not work when the time for it is over, or what is missing.
    pub fn expect_recovery(&mut self) -> Result<(), Failure> {
        self.expect_leaders()?;
        self.wait_for(Self::calm)?;
        let namespaces = self.namespaces.clone();
        let inside =
            |seat: &Seat, namespace: &Namespace| self.wanted(*seat, namespace) == Wanted::In;
        let probed: Vec<(Seat, usize)> = self
            .seats()
            .flat_map(|seat| (0..namespaces.len()).map(move |number| (seat, number)))
            .filter(|(seat, number)| inside(seat, &namespaces[*number]))
            .collect();
        let probes = self.workload.probe(probed);
        for probe in probes {
            self.clock.after(Duration::ZERO, Event::Client(probe));
        }
        self.wait_for(Self::calm)?;
        self.expect_failover()?;
        self.run_until(Moment::ZERO.plus(self.plan.whole))?;
        self.calm().map_err(|stuck| self.failure(Violation::Stuck(stuck)))?;
        self.check_end().map_err(|violation| self.failure(violation))?;
        self.count_end();
        Ok(())
    }

    /// Wherever a cluster lives, somebody leads it soon after healing.
    fn expect_leaders(&mut self) -> Result<(), Failure> {
        let lives = |it: &&Namespace| self.checks.states.living(it).is_some();
        let mut missing: BTreeSet<Namespace> =
            self.namespaces.iter().filter(lives).cloned().collect();
        let end = self.clock.now().plus(Plan::LEADER_WITHIN);
        while !missing.is_empty() {
            let look = self.clock.now().plus(LOOK_EVERY);
            self.run_until(look)?;
            missing.retain(|namespace| !self.is_led(namespace));
            // A majority that can't read its logs is repaired first, within the time for all.
            if look >= end {
                missing.retain(|namespace| self.has_whole_majority(namespace));
            }
            if look >= end
                && let Some(namespace) = missing.pop_first()
            {
                return Err(self.failure(Violation::Stuck(Stuck::LateLeader { namespace })));
            }
        }
        Ok(())
    }

    /// Whether a majority of the voters can read its logs, and so may vote.
    fn has_whole_majority(&self, namespace: &Namespace) -> bool {
        let living = self.checks.states.living(namespace);
        let statuses = self.seats().filter_map(|seat| self.status(seat, namespace));
        let members: Vec<_> = statuses.filter(|status| Some(status.cluster) == living).collect();
        let Some(newest) = members.iter().max_by_key(|status| status.last) else { return true };
        let whole = |voter: &Member| {
            members.iter().any(|status| status.me == *voter && status.damage.is_none())
        };
        let halves = [&newest.configuration.voters, &newest.configuration.outgoing];
        let mut halves = halves.into_iter().filter(|half| !half.is_empty());
        halves.all(|half| half.iter().filter(|voter| whole(voter)).count() > half.len() / 2)
    }

    fn is_led(&self, namespace: &Namespace) -> bool {
        self.seats().any(|seat| self.leads(seat, namespace))
    }

    fn leads(&self, seat: Seat, namespace: &Namespace) -> bool {
        let living = self.checks.states.living(namespace);
        let status = self.status(seat, namespace);
        status.is_some_and(|it| Some(it.cluster) == living && it.role == Role::Leader)
    }

    /// Where nothing else is wrong, the node of a leader is lost, perhaps while its group sleeps:
    /// somebody else leads soon, in every namespace that has enough voters, if all others know each
    /// other by then.
    fn expect_failover(&mut self) -> Result<(), Failure> {
        let rests = self.plan.quiesce_after.map_or(Duration::ZERO, |after| after + LOOK_EVERY * 10);
        let rests = self.random.between(Duration::ZERO, rests * 2);
        self.run_until(self.clock.now().plus(rests))?;
        let namespace = self.some_namespace();
        let leader = self.seats().find(|seat| self.leads(*seat, &namespace));
        let Some(seat) = leader.filter(|seat| self.bears_crash(*seat)) else { return Ok(()) };
        self.crash(seat).map_err(|violation| self.failure(violation))?;
        self.expect_leaders()?;
        self.clock.after(Duration::ZERO, Event::Start(seat));
        self.wait_for(Self::calm)
    }

    /// Whether every namespace has a majority of its voters elsewhere, all connected.
    fn bears_crash(&self, seat: Seat) -> bool {
        let others: Vec<Seat> = self.seats().filter(|other| *other != seat).collect();
        let mut pairs = others.iter().flat_map(|one| others.iter().map(move |other| (one, other)));
        let meet = pairs.all(|(one, other)| one == other || self.network.connects(*one, *other));
        meet && self.namespaces.iter().all(|namespace| {
            let leads = self.seats().find(|it| self.leads(*it, namespace));
            let status = leads.and_then(|leader| self.status(leader, namespace));
            status.is_some_and(|status| {
                let down = self.node(seat).id;
                let voters = &status.configuration.voters;
                let left = voters.iter().filter(|voter| voter.node != down).count();
                left * 2 > voters.len() && !status.configuration.is_joint()
            })
        })
    }

    /// Runs until a condition holds, for at most as long as the plan allows.
    fn wait_for(&mut self, holds: impl Fn(&Self) -> Result<(), Stuck>) -> Result<(), Failure> {
        let end = self.clock.now().plus(self.plan.recovery);
        loop {
            let look = self.clock.now().plus(LOOK_EVERY);
            self.run_until(look)?;
            self.expect_answers().map_err(|violation| self.failure(violation))?;
            match holds(self) {
                Ok(()) => return Ok(()),
                Err(stuck) if look >= end => return Err(self.failure(Violation::Stuck(stuck))),
                Err(_) => {}
            }
        }
    }

    /// Every client is done, and every namespace works everywhere.
    fn calm(&self) -> Result<(), Stuck> {
        for namespace in &self.namespaces {
            self.convergence(namespace, false).check()?;
        }
        match self.workload.busy() {
            Some(client) => Err(Stuck::Client { client }),
            None => Ok(()),
        }
    }

    fn check_end(&self) -> Result<(), Violation> {
        for namespace in &self.namespaces {
            self.convergence(namespace, true).check_states()?;
        }
        self.checks.histories.check().map_err(Violation::History)?;
        let shows = |namespace: &Namespace, counter| {
            let living = self.checks.states.living(namespace);
            let end = self.checks.committed_in(namespace);
            living.map_or(0, |cluster| self.checks.states.count_at(cluster, counter, end))
        };
        self.checks.counters.check(shows).map_err(Violation::Miscount)?;
        check_acknowledged(&self.checks.histories, &self.checks.states)
    }

    /// Counts what shows only at the end.
    fn count_end(&mut self) {
        for namespace in &self.namespaces {
            let counts = &mut self.checks.counts;
            counts.note(match self.plan.founding {
                Founding::Expect(_) => Rare::FoundedByCount,
                Founding::Window(_) => Rare::FoundedByWindow,
                Founding::Forced => Rare::FoundedByForce,
            });
            (0..self.plan.joiners).for_each(|_| counts.note(Rare::Joined));
            let first = self.seats().find_map(|seat| self.status(seat, namespace));
            let held_back = first.map_or(0, |status| status.configuration.learners.len());
            (0..held_back).for_each(|_| self.checks.counts.note(Rare::HeldBack));
        }
    }
}

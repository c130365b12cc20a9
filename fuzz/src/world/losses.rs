//! Disks that are lost, and old copies of disks that are put back.
//!
//! Only what the protocols bear happens: [`Checks::bears_loss`] and [`Checks::bears_copy`] say what
//! that is. As many wiped founders come back as candidates as one cluster allows for
//! (`N + w < 2n`); the others come back as nodes that only join.
//!
//! [`Checks::bears_loss`]: crate::check::Checks::bears_loss
//! [`Checks::bears_copy`]: crate::check::Checks::bears_copy

use std::time::Duration;

use meshraft_consensus::{ClusterId, Namespace};

use super::{Event, Seat, World};
use crate::{
    check::{Bearing, Copy, Violation},
    counts::Rare,
    mistake::Mistake,
    plan::Founding,
};

/// How long a crashed node waits for the moment at which its old copy is borne.
const TRIES: u32 = 60;
const TRY_EVERY: Duration = Duration::from_millis(50);

/// A copy of a disk.
#[derive(Debug)]
pub(super) struct OldCopy {
    disk: super::disk::DiskCopy,
    checks: Copy,
}

impl World {
    /// A disk is lost.
    pub(super) fn strike_wipe(&mut self) -> Result<(), Violation> {
        let (seat, down) = (self.victim(), self.while_it_lasts());
        if !self.node(seat).is_running() || !self.bears_loss(seat) {
            return Ok(());
        }
        if !self.node(seat).join_only && !self.may_found_again() {
            let lives = |it: &Namespace| self.checks.states.living(it).is_some();
            if !self.namespaces.iter().all(lives) {
                // Too few would be left to found one.
                return Ok(());
            }
            self.node_mut(seat).join_only = true;
        }
        self.struck(format_args!("n{} loses its disk, and is down for {down:?}", seat.0));
        self.crash(seat)?;
        let kept = self.node_mut(seat).disk.wipe();
        self.node_mut(seat).copy = None;
        self.checks.wiped(seat);
        for job in &kept {
            self.checks.submitted(seat, job)?;
        }
        self.checks.durable(seat, &kept)?;
        self.checks.counts.note(Rare::Wiped);
        self.forget_standing(seat);
        self.clock.after(down, Event::Start(seat));
        Ok(())
    }

    /// Whether one more candidate leaves one cluster possible only.
    fn may_found_again(&mut self) -> bool {
        let Founding::Expect(expect) = self.plan.founding else { return false };
        let bears = self.plan.founders + self.candidates_lost + 1 < 2 * expect;
        self.candidates_lost += usize::from(bears);
        bears
    }

    /// The files are lost that logs go on from, and the states with them.
    pub(super) fn strike_lost_snapshot(&mut self) -> Result<(), Violation> {
        let (seat, down) = (self.victim(), self.while_it_lasts());
        if !self.node(seat).is_running() || !self.bears_loss(seat) {
            return Ok(());
        }
        self.struck(format_args!("n{} crashes without its snapshots", seat.0));
        self.crash(seat)?;
        // A copy from before it was a member would bring its old life back.
        self.node_mut(seat).copy = None;
        for group in self.node_mut(seat).disk.lose_snapshots() {
            self.checks.lost_state((seat, group));
            self.checks.counts.note(Rare::SnapshotsLost);
        }
        self.clock.after(down, Event::Start(seat));
        Ok(())
    }

    /// A disk is copied, if there is no older copy that may still be put back. Now and then it is
    /// made anew all the same, so that copies are of every age.
    pub(super) fn strike_copy(&mut self) {
        let (seat, anew) = (self.victim(), self.random.below(10) == 0);
        if self.rots() || self.node(seat).copy.is_some() && !anew {
            return;
        }
        let disk = self.node(seat).disk.copy();
        let checks = self.checks.copy(seat);
        let useful = self.bears_copy(seat, &checks) != Bearing::Never;
        if useful {
            self.struck(format_args!("the disk of n{} is copied", seat.0));
        }
        self.node_mut(seat).copy = useful.then_some(OldCopy { disk, checks });
    }

    /// An entry rots, often one of the last. Half of the nodes crash with it, and find out when
    /// they start.
    pub(super) fn strike_rot(&mut self) -> Result<(), Violation> {
        let (seat, seen) = (self.victim(), self.random.below(2) == 0);
        let logs = self.node(seat).disk.slots();
        let Some((group, slots)) = logs.get(self.random.place(logs.len().max(1))).copied() else {
            return Ok(());
        };
        let (count, late) =
            (slots.last.next().distance_from(slots.first).max(1), self.random.below(2));
        let back = self.random.below(if late == 0 { count.min(4) } else { count });
        let index = slots.first.plus(count - 1 - back);
        let leaving = |cluster| self.leaving_cluster(cluster);
        if self.checks.bears_rot((seat, group), index, &self.rotten(), &leaving)
            && self.node_mut(seat).disk.rot(group, index, seen)
        {
            self.struck(format_args!("entry {index} of {group} rots on n{}", seat.0));
            if self.random.below(2) == 0 {
                return self.strike_crash(seat);
            }
        }
        Ok(())
    }

    /// Whether anything on any disk can't be read.
    fn rots(&self) -> bool {
        !self.rotten().is_empty()
    }

    /// The nodes whose disks can't be read somewhere.
    fn rotten(&self) -> Vec<Seat> {
        self.seats().filter(|seat| self.node(*seat).disk.rots()).collect()
    }

    /// A node crashes, and soon its old copy may take the place of its disk.
    pub(super) fn strike_set_back(&mut self) -> Result<(), Violation> {
        let (seat, down) = (self.victim(), self.while_it_lasts());
        // Often its leader still knows it when it is back.
        let (soon, at_once) = (Duration::from_millis(40), self.random.below(3) > 0);
        let down = if at_once { down.min(soon) } else { down };
        let ready = |seat: &Seat| self.node(*seat).is_running() && self.node(*seat).copy.is_some();
        let Some(seat) = Some(seat).filter(ready).or_else(|| self.seats().find(ready)) else {
            return Ok(());
        };
        self.struck(format_args!("n{} crashes, to go back to its old disk", seat.0));
        self.crash(seat)?;
        self.clock.after(down, Event::SetBack { seat, tries: TRIES });
        Ok(())
    }

    /// Puts the old copy of a stopped node back, if that is borne now; else the node starts on the
    /// disk that it has, at last.
    pub(super) fn set_back(&mut self, seat: Seat, tries: u32) -> Result<(), Violation> {
        if self.node(seat).is_running() {
            return Ok(());
        }
        let Some(copy) = self.node_mut(seat).copy.take() else { return self.start(seat) };
        let careless = self.plan.mistake == Some(Mistake::CarelessCopies);
        match self.bears_copy(seat, &copy.checks) {
            Bearing::Later if !careless && tries > 0 => {
                self.node_mut(seat).copy = Some(copy);
                self.clock.after(TRY_EVERY, Event::SetBack { seat, tries: tries - 1 });
                return Ok(());
            }
            Bearing::Later if !careless => {}
            Bearing::Never => {}
            Bearing::Now | Bearing::Later => {
                self.trace.note(self.clock.now(), format_args!("n{} is set back", seat.0));
                self.checks.counts.note(Rare::SetBack);
                self.checks.put_back(seat, copy.checks);
                self.node_mut(seat).disk.put_back(copy.disk);
            }
        }
        self.start(seat)
    }

    fn bears_loss(&self, seat: Seat) -> bool {
        let rotten = self.rotten();
        self.checks.bears_loss(seat, &rotten, &|cluster| self.leaving_cluster(cluster))
    }

    fn bears_copy(&self, seat: Seat, copy: &Copy) -> Bearing {
        if self.rots() {
            return Bearing::Later;
        }
        self.checks.bears_copy(seat, copy, &|cluster| self.leaving_cluster(cluster))
    }

    /// Whether a namespace can do without all that are on their way out of it.
    pub(super) fn bears_departures(&self, namespace: &Namespace) -> bool {
        let rotten = self.rotten();
        self.checks.bears_leaving(namespace, &rotten, &|cluster| self.leaving_cluster(cluster))
    }

    fn leaving_cluster(&self, cluster: ClusterId) -> Vec<Seat> {
        let here = |namespace: &&Namespace| self.checks.states.living(namespace) == Some(cluster);
        let namespace = self.namespaces.iter().find(here);
        namespace.map(|namespace| self.leaving(namespace)).unwrap_or_default()
    }
}

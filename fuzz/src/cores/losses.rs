//! Disks that are lost, old copies of disks that are put back, and logs that lose their end.
//!
//! Only what a cluster bears is done to it. A disk may be lost while a majority of whole ones is
//! left in every configuration that may still decide. What a member may forget is told in
//! [`CoreChecks::bears_forgetting`]; where that rests on its leader's noticing, nobody else reaches
//! the leader until it has noticed, or leads no more.
//!
//! [`CoreChecks::bears_forgetting`]: crate::check::CoreChecks::bears_forgetting

use std::{collections::BTreeSet, time::Duration};

use meshraft_consensus::{Change, Configuration, Index, Member};

use super::{
    CoreWorld, Due,
    cluster::Cluster,
    counts::CoreRare,
    disk::Disk,
    plan::CoreFaults,
    step::{Step, seat_of},
};
use crate::{
    check::{Copy, Forgetting, Scene, Violation},
    faults::Rate,
    world::Seat,
};

/// How long a stopped process waits for the moment at which its old copy is borne; and a running
/// one for the moment at which it contradicts what it holds.
pub(super) const TRIES: u32 = 100;
const TRY_EVERY: Duration = Duration::from_millis(10);

/// A copy of a disk.
#[derive(Debug)]
pub(super) struct OldCopy {
    disk: Disk,
    checks: Copy,
}

impl CoreWorld {
    pub(super) fn strike_disks(&mut self, faults: &CoreFaults) -> Result<(), Violation> {
        if self.random.hits(faults.wipe) {
            self.wipe()?;
        }
        if self.random.hits(faults.copy) {
            let seat = self.some();
            if !self.cluster.would_contradict(seat) {
                self.copy(seat)?;
            }
        }
        if self.random.hits(faults.set_back) {
            let (some, down) = (self.some(), self.while_it_lasts());
            let mut seats = self.cluster.seats().skip(some.0).chain(self.cluster.seats());
            let seat = seats.find(|seat| self.cluster.node(*seat).copy.is_some()).unwrap_or(some);
            self.go_back(seat, down)?;
        }
        if self.random.hits(faults.lost_tail) {
            self.lose_tail()?;
        }
        Ok(())
    }

    pub(super) fn copy(&mut self, seat: Seat) -> Result<(), Violation> {
        match self.cluster.rots() || self.faults.copy == Rate::NEVER {
            true => Ok(()),
            false => self.step(Step::Copy { seat }, false),
        }
    }

    /// A disk is lost, if every configuration that may still decide bears that.
    fn wipe(&mut self) -> Result<(), Violation> {
        let seat = self.some();
        if !self.cluster.bears_loss(seat) {
            return Ok(());
        }
        if self.cluster.node(seat).core.is_some() {
            let down = self.while_it_lasts();
            self.clock.after(down, Due::Start(seat));
            self.stop(seat)?;
        }
        self.step(Step::Wipe { seat }, false)
    }

    /// A process goes back to the copy of its disk as soon as that contradicts what the process
    /// has acknowledged since.
    pub(super) fn contradict(&mut self, seat: Seat, tries: u32) -> Result<(), Violation> {
        let runs = self.cluster.node(seat).core.is_some();
        if self.faults.set_back == Rate::NEVER {
            return Ok(());
        } else if runs && self.cluster.would_contradict(seat) {
            return self.go_back(seat, Duration::ZERO);
        } else if tries > 0 {
            self.clock.after(TRY_EVERY, Due::Contradict { seat, tries: tries - 1 });
        }
        Ok(())
    }

    /// A process stops, so that the old copy of its disk may be put back a while later.
    fn go_back(&mut self, seat: Seat, down: Duration) -> Result<(), Violation> {
        let node = self.cluster.node(seat);
        if node.core.is_some() && node.copy.is_some() {
            self.stop(seat)?;
            self.clock.after(down, Due::SetBack { seat, tries: TRIES });
        }
        Ok(())
    }

    /// Puts the old copy of a stopped process back, if that is borne now; else it starts, at last,
    /// on the disk that it has.
    pub(super) fn set_back(&mut self, seat: Seat, tries: u32) -> Result<(), Violation> {
        let node = self.cluster.node(seat);
        if node.core.is_none() && node.copy.is_some() && self.faults.set_back > Rate::NEVER {
            match self.cluster.bears_set_back(seat) {
                Forgetting::Never if tries > 0 => {
                    self.clock.after(TRY_EVERY, Due::SetBack { seat, tries: tries - 1 });
                    return Ok(());
                }
                Forgetting::Never => {}
                Forgetting::Borne | Forgetting::InSight(..) => {
                    self.step(Step::SetBack { seat }, false)?;
                }
            }
        }
        self.start(seat)
    }

    /// A process dies, and starts again at once without the end of its log.
    fn lose_tail(&mut self) -> Result<(), Violation> {
        let (seat, count) = (self.some(), 1 + self.random.below(4));
        let node = self.cluster.node(seat);
        let from = Index::new(node.disk.last().get().saturating_sub(count)).next();
        if node.core.is_none() || self.cluster.bears_lost_tail(seat, from) == Forgetting::Never {
            return Ok(());
        }
        self.stop(seat)?;
        // What was about to be written may be on disk after all.
        self.step(Step::LoseTail { seat, from }, false)?;
        self.start(seat)
    }

    /// A member that forgot what it acknowledged, and knows it, begins anew as another one.
    pub(super) fn renew(&mut self, seat: Seat) {
        let down = self.random.between(Duration::ZERO, self.plan.knobs.election);
        self.clock.after(down, Due::Step(Step::Crash { seat, kept: 0 }));
        self.clock.after(down, Due::Step(Step::Wipe { seat }));
        self.clock.after(down, Due::Start(seat));
    }

    /// What brings members that lost their disk back, now and then.
    pub(super) fn repair(&mut self, leader: Seat) -> Option<Change> {
        let repairs = self.random.below(2) == 0;
        let step = self.cluster.next_repair(leader).filter(|_| repairs)?;
        Some(Change { steps: vec![step] })
    }
}

impl Cluster {
    /// The members whose disks are whole.
    pub(super) fn whole(&self) -> Vec<Member> {
        let members = self.nodes.iter().map(|node| node.me);
        members.filter(|member| !self.checks.is_set_back(*member)).collect()
    }

    /// Those of them that can be read: what rotted may be lost for good.
    pub(super) fn sound(&self) -> Vec<Member> {
        let readable = |member: &Member| !self.node(seat_of(*member)).disk.rots();
        self.whole().into_iter().filter(readable).collect()
    }

    pub(super) fn bears_loss(&self, lost: Seat) -> bool {
        let all = self.sound();
        let whole = |member: &&Member| seat_of(**member) != lost && all.contains(member);
        // A learner may be a voter before it is known that it is lost.
        let bears = |it: &Configuration| {
            let lost = it.learners.iter().filter(|member| !whole(member)).count();
            let majority = |half: &BTreeSet<Member>| {
                half.is_empty() || half.iter().filter(whole).count() * 2 > half.len() + lost
            };
            majority(&it.voters) && majority(&it.outgoing)
        };
        self.nodes.iter().all(|node| bears(&node.configuration))
    }

    /// A disk is copied.
    pub(super) fn copy(&mut self, seat: Seat) {
        let checks = self.checks.copy(seat);
        let node = self.node_mut(seat);
        node.copy = Some(OldCopy { disk: node.disk.copy(), checks });
    }

    /// Whether a member's disk holds something committed where its copy holds something else.
    fn would_contradict(&self, seat: Seat) -> bool {
        let node = self.node(seat);
        let Some(copy) = &node.copy else { return false };
        let at = copy.disk.last().min(self.checks.committed());
        let holds = |disk: &Disk| disk.entry(at).map(|entry| self.checks.is_committed(entry));
        holds(&copy.disk) == Some(false) && holds(&node.disk) == Some(true)
    }

    fn bears_set_back(&self, seat: Seat) -> Forgetting {
        let Some(copy) = &self.node(seat).copy else { return Forgetting::Never };
        self.bears(seat, &copy.checks)
    }

    fn bears_lost_tail(&self, seat: Seat, from: Index) -> Forgetting {
        if !self.node(seat).disk.may_lose(from) {
            return Forgetting::Never;
        }
        self.bears(seat, &self.checks.copy_without(seat, from))
    }

    fn bears(&self, seat: Seat, copy: &Copy) -> Forgetting {
        let cores = || self.nodes.iter().filter_map(|node| node.core.as_ref());
        let leaders = self.seats().filter(|other| *other != seat && self.leads(*other));
        let leaders = leaders.map(|leader| {
            let node = self.node(leader);
            (node.me, node.core.as_ref().map(|core| core.term()).unwrap_or_default())
        });
        let scene = Scene {
            leaders: leaders.collect(),
            whole: self.whole(),
            configurations: self.nodes.iter().map(|node| node.configuration.clone()).collect(),
            committed: cores().map(|core| core.commit()).max().unwrap_or_default(),
        };
        match self.bears_loss(seat) && !self.rots() {
            true => self.checks.bears_forgetting(self.node(seat).key, copy, &scene),
            false => Forgetting::Never,
        }
    }

    /// The copy of a disk takes its place, if that is borne.
    pub(super) fn put_back(&mut self, seat: Seat) {
        let bearing = self.bears_set_back(seat);
        if self.node(seat).core.is_some() || !self.forgets(seat, bearing) {
            return;
        }
        let Some(copy) = self.node_mut(seat).copy.take() else { return };
        self.node_mut(seat).disk = copy.disk;
        self.checks.put_back(seat, copy.checks);
        self.counts.note(CoreRare::SetBack);
    }

    /// A disk loses what its log holds from an index on, if that is borne.
    pub(super) fn cut_tail(&mut self, seat: Seat, from: Index) {
        let bearing = self.bears_lost_tail(seat, from);
        if self.node(seat).core.is_some() || !self.forgets(seat, bearing) {
            return;
        }
        let copy = self.checks.copy_without(seat, from);
        self.node_mut(seat).disk.lose(from);
        self.checks.put_back(seat, copy);
        self.counts.note(CoreRare::TailLost);
    }

    /// Whether a member may forget; if its leader has to notice, nobody else reaches it meanwhile.
    fn forgets(&mut self, seat: Seat, bearing: Forgetting) -> bool {
        match bearing {
            Forgetting::Never => return false,
            Forgetting::Borne => {}
            Forgetting::InSight(leader, term) => {
                self.in_sight = Some((leader, term, self.node(seat).me));
            }
        }
        self.node_mut(seat).forget();
        true
    }

    /// Whether a message must not arrive before its receiver has noticed who forgot.
    pub(super) fn is_held_back(&self, from: Member, to: Member) -> bool {
        let Some((leader, term, forgetful)) = self.in_sight else { return false };
        if to != leader || from == forgetful {
            return false;
        }
        let core = self.node(seat_of(leader)).core.as_ref().filter(|core| core.me() == leader);
        let leads = self.leads(seat_of(leader)) && core.is_some_and(|core| core.term() == term);
        leads && !self.checks.is_forgetful(term, forgetful)
    }
}

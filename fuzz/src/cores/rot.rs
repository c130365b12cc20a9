//! Entries that rot on a disk, as far as a cluster bears that: a majority of whole disks is left in
//! every configuration that may still decide; or all others that may be asked for a vote hold what
//! rots, and the entry after it.
//!
//! In the first case nothing that was acknowledged depends on the disk, whatever rots on it: also
//! the end of the log, with term and vote, or entries that nobody else has. Then the member may
//! find that nobody can tell what it held, and come back as another one. In the second case others
//! can always tell what stood there, so that any number of members may be damaged at once.

use std::time::Duration;

use meshraft_consensus::{AppendResult, Entry, EntryKind, Index, Member, Message, Write};

use super::{
    CoreWorld, Due,
    cluster::{Cluster, Want},
    counts::CoreRare,
    disk::Disk,
    member::Node,
    step::{Step, seat_of},
};
use crate::{check::Violation, faults::Rate, world::Seat};

/// Which of the slots that members disagree on.
#[derive(Clone, Copy, Debug)]
enum Aim {
    Anywhere,
    /// One on which a snapshot of another member ends, which would take its place.
    Snapshot,
    /// One in which another member holds an entry of an earlier term, which would seem to fit.
    Older,
}

impl CoreWorld {
    /// An entry of a disk rots, or a late one, or one that members disagree on; often a start finds
    /// out at once.
    pub(super) fn rot(&mut self, seat: Seat, late: bool) -> Result<(), Violation> {
        let (seen, at_once) = (self.random.below(3) > 0, self.random.below(2) == 0);
        if self.plan.rot == Rate::NEVER {
            return Ok(());
        }
        if self.random.below(2) == 0 && self.rot_across(seat)? {
            return Ok(());
        }
        let slots = self.cluster.node(seat).disk.slots();
        let count = slots.last.next().distance_from(slots.first).max(1);
        let back = self.random.below(if late { count.min(4) } else { count });
        let index = slots.first.plus(count - 1 - back);
        let aimed = self.random.below(2) == 0;
        let index = aimed.then(|| self.aim(seat)).flatten().unwrap_or(index);
        if self.cluster.bears_rot(seat, index, seen) {
            self.step(Step::Rot { seat, index, seen }, false)?;
            if at_once && seen {
                self.start_again(seat)?;
            }
        }
        Ok(())
    }

    /// The slot on which a snapshot ends that is being fetched rots, if more follows on it; and
    /// the process starts again without having installed it.
    pub(super) fn rot_under(&mut self, seat: Seat) -> Result<(), Violation> {
        let node = self.cluster.node(seat);
        let Some(fetch) = node.fetch.as_ref().filter(|_| self.plan.rot > Rate::NEVER) else {
            return Ok(());
        };
        let (index, lost) = (fetch.meta.position.index, node.disk.lost_between());
        let reads = lost.is_none_or(|it| index < it.first || index > it.last);
        let within = index < node.disk.last() && reads;
        if within && self.cluster.bears_rot(seat, index, true) {
            self.step(Step::Rot { seat, index, seen: true }, false)?;
            self.start_again(seat)?;
        }
        Ok(())
    }

    /// Before the world heals what two disks lose may cross: no later start finds it smaller.
    pub(super) fn rot_last(&mut self) -> Result<(), Violation> {
        if self.plan.rot == Rate::NEVER {
            return Ok(());
        }
        for seat in self.cluster.seats() {
            if self.rot_across(seat)? {
                break;
            }
        }
        Ok(())
    }

    /// What two disks lose crosses: one an entry, the other those before and after it. Both find
    /// out as they start. Says whether a cluster bore it.
    fn rot_across(&mut self, seat: Seat) -> Result<bool, Violation> {
        let crossed = self.cluster.may_cross(seat);
        let Some((other, index)) = crossed.get(self.random.place(crossed.len().max(1))).copied()
        else {
            return Ok(false);
        };
        // In this order each finds on the other disk what it needs: itself, and what follows.
        for (seat, index) in [(other, index.previous()), (seat, index), (other, index.next())] {
            if !self.cluster.bears_rot(seat, index, true) {
                return Ok(false);
            }
            self.step(Step::Rot { seat, index, seen: true }, false)?;
        }
        self.start_again(seat)?;
        self.start_again(other)?;
        Ok(true)
    }

    /// A process stops, and soon starts again.
    fn start_again(&mut self, seat: Seat) -> Result<(), Violation> {
        if self.cluster.node(seat).core.is_some() {
            let down = self.random.between(Duration::ZERO, self.plan.knobs.heartbeat);
            self.clock.after(down, Due::Start(seat));
            self.stop(seat)?;
        }
        Ok(())
    }

    /// Some slot in which this disk holds what others do not.
    fn aim(&mut self, seat: Seat) -> Option<Index> {
        let at = [Aim::Anywhere, Aim::Snapshot, Aim::Older][self.random.place(3)];
        let contested = self.cluster.contested(seat, at);
        let place = self.random.place(contested.len().max(1));
        contested.get(place).copied()
    }
}

impl Cluster {
    /// The disks that hold an entry which is committed, and both beside it, though one of the two
    /// does not know yet that it is.
    fn may_cross(&self, seat: Seat) -> Vec<(Seat, Index)> {
        let disk = |seat| &self.node(seat).disk;
        let others = self.seats().filter(|it| *it != seat);
        let crossed = others.map(|other| {
            let known = disk(seat).known_committed().min(disk(other).known_committed());
            (other, known.next())
        });
        let held = |seat: Seat, index: Index| {
            let slots = [index.previous(), index, index.next(), index.plus(2)];
            let sound = |it: &Entry| disk(seat).holds(it.position) && self.checks.is_committed(it);
            slots.iter().all(|it| disk(seat).entry(*it).is_some_and(sound))
        };
        crossed.filter(|(other, index)| held(seat, *index) && held(*other, *index)).collect()
    }

    /// The slots in which a disk holds something else than is committed there, or than another
    /// disk does; of them, if there are any, those that are aimed at.
    fn contested(&self, seat: Seat, aim: Aim) -> Vec<Index> {
        let (disk, committed) = (&self.node(seat).disk, self.checks.committed());
        let others = || self.seats().filter(|it| *it != seat).map(|it| &self.node(it).disk);
        let differs = |entry: &Entry| {
            let index = entry.position.index;
            let other = |it: &Disk| it.entry(index).is_some_and(|it| it.position != entry.position);
            (index <= committed && !self.checks.is_committed(entry)) || others().any(other)
        };
        let range = disk.slots();
        let slots = (range.first.get()..=range.last.get()).filter_map(|it| {
            disk.entry(Index::new(it)).filter(|entry| differs(entry)).map(|it| it.position.index)
        });
        let slots: Vec<Index> = slots.collect();
        let aimed = |index: &Index| match aim {
            Aim::Anywhere => true,
            Aim::Snapshot => others().any(|it| it.recorded_at() == Some(*index)),
            Aim::Older => disk.entry(*index).is_some_and(|mine| {
                let older = |it: &Entry| it.position.term < mine.position.term;
                others().any(|it| it.entry(*index).is_some_and(older))
            }),
        };
        match slots.iter().any(aimed) {
            true => slots.into_iter().filter(aimed).collect(),
            false => slots,
        }
    }

    pub(super) fn rot(&mut self, seat: Seat, index: Index, seen: bool) {
        self.node_mut(seat).disk.rot(index, seen);
        self.counts.note(CoreRare::Rotted);
    }

    /// Whether any disk has something that can't be read.
    pub(super) fn rots(&self) -> bool {
        self.nodes.iter().any(|node| node.disk.rots())
    }

    fn bears_rot(&self, seat: Seat, index: Index, seen: bool) -> bool {
        let disk = &self.node(seat).disk;
        let Some(entry) = disk.entry(index) else { return false };
        if self.bears_loss(seat) {
            return true;
        }
        let seen = seen || entry.kind == EntryKind::Configuration;
        let after = disk.entry(index.next());
        if after.is_none() && seen {
            // Nobody would know how the log ended.
            return false;
        }
        let proofs: Vec<_> =
            [Some(entry), after].into_iter().flatten().map(|it| it.position).collect();
        let known = |node: &Node| proofs.iter().all(|at| node.disk.holds(*at));
        let voters = self.nodes.iter().flat_map(|node| {
            let it = &node.configuration;
            it.voters.iter().chain(&it.outgoing)
        });
        let whole = self.whole();
        let holds = |voter: &Member| whole.contains(voter) && known(self.node(seat_of(*voter)));
        let mut others = voters.filter(|voter| seat_of(**voter) != seat).peekable();
        // It hears none but members: those that it has removed tell it nothing.
        let own = &self.node(seat).configuration;
        let mut heard = own.voters.iter().chain(&own.outgoing);
        let alone = others.peek().is_none() || heard.all(|voter| seat_of(*voter) == seat);
        let committed = proofs.iter().all(|it| it.index <= self.checks.committed());
        // Who is out is told nothing, and could not tell either what it lacks then.
        let members = |seat| self.node(seat).configuration.members();
        let knows = |one, other: Seat| members(one).contains(&self.node(other).me);
        let mut rotten = self.seats().filter(|it| *it != seat && self.node(*it).disk.rots());
        let mutual = rotten.all(|it| knows(it, seat) && knows(seat, it));
        // The own copies are not rotten yet, and what is asked for is durable.
        !alone && committed && mutual && known(self.node(seat)) && others.all(holds)
    }

    /// A member begins anew. That is right only if it can't know what it acknowledged: an old copy
    /// took the place of its disk, or what it lost can't be told by anybody, as it was not
    /// committed.
    pub(super) fn retires(&mut self, seat: Seat) -> Result<(), Violation> {
        let node = self.node(seat);
        let proven = || {
            let lost = node.disk.lost_between()?;
            let anchor = node.disk.entry(lost.last.next()).or(node.disk.entry(lost.last))?;
            Some(self.checks.is_committed(anchor))
        };
        let damaged = node.disk.rots() && (node.disk.ends_lost() || proven() == Some(false));
        if !damaged && !self.checks.is_set_back(node.me) {
            return Err(Violation::Forgot { member: node.me });
        }
        self.counts.note(CoreRare::Renewed);
        self.wants.push(Want::Renew(seat));
        Ok(())
    }
}

impl Node {
    /// A member that knows that its log is damaged neither votes nor acknowledges.
    pub(super) fn expect_whole(&self, message: &Message) -> Result<(), Violation> {
        let claims = match message {
            Message::VoteResponse(it) => it.granted,
            Message::AppendResponse(it) => matches!(it.result, AppendResult::Matched(_)),
            Message::VoteRequest(_) | Message::Heartbeat(_) | Message::AppendRequest(_) => true,
            _ => false,
        };
        if claims && self.disk.is_known_lost(self.machine.applied.index) {
            let what = "what only a member with a whole log may say";
            return Err(Violation::Claim { member: self.me, what });
        }
        Ok(())
    }

    /// A repair brings back exactly what was there; and who can't know what it promised writes
    /// nothing, which its next start could take for the newest.
    pub(super) fn expect_same(&self, write: &Write) -> Result<(), Violation> {
        if self.disk.began_endless() {
            let what = "something for good, though it can't know what it promised";
            return Err(Violation::Claim { member: self.me, what });
        }
        let same = |entry: &Entry| self.disk.entry(entry.position.index) == Some(entry);
        if write.repair().iter().all(same) {
            return Ok(());
        }
        let what = "that its log held what it never did";
        Err(Violation::Claim { member: self.me, what })
    }
}

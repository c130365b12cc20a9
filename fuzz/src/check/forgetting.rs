//! What one member of a run of cores may forget: entries that it acknowledged, and votes.
//!
//! Nobody can know at first that a disk was set back. So a cluster bears it only where nothing
//! rests on that disk alone:
//! - Every other voter has voted in the member's term, or is past it, if its vote is forgotten.
//! - Every other voter holds what is forgotten; or so few have ever had it, their leader counted
//!   in, that it can't be committed, and the only leader learns what happened before it hears
//!   anybody else (see [`Forgetting::InSight`]): an acknowledgement that it has got already must
//!   count no more.
//!
//! From then on the cluster owes everything.

use std::collections::BTreeSet;

use meshraft_consensus::{Configuration, Index, Member, Position, Term};

use super::{
    CLUSTER, Copy, CoreChecks, GroupKey, Violation,
    log::Logs,
    shadow::{EntryDigest, LogCopy},
};
use crate::world::Seat;

/// Whether a cluster bears that a member forgets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Forgetting {
    /// Not now.
    Never,
    /// It does.
    Borne,
    /// It does if this leader of this term notices before it hears anybody else.
    InSight(Member, Term),
}

/// How a cluster stands.
#[derive(Debug)]
pub(crate) struct Scene {
    /// Who else leads, or believes so, with its term.
    pub(crate) leaders: Vec<(Member, Term)>,
    /// The members whose disks are whole.
    pub(crate) whole: Vec<Member>,
    /// The configurations by which anyone may decide.
    pub(crate) configurations: Vec<Configuration>,
    /// The highest commit index that anyone knows of.
    pub(crate) committed: Index,
}

impl CoreChecks {
    /// What a copy of this disk holds.
    pub(crate) fn copy(&self, seat: Seat) -> Copy {
        Copy(self.logs.copy(seat))
    }

    /// What this disk would hold without what stands at an index and behind.
    pub(crate) fn copy_without(&self, seat: Seat, from: Index) -> Copy {
        Copy(self.logs.copy_without(seat, from))
    }

    /// An older copy takes the place of this disk.
    pub(crate) fn put_back(&mut self, seat: Seat, copy: Copy) {
        for (member, _, _) in Logs::of_copy(&copy.0) {
            member.into_iter().for_each(|member| self.elections.set_back(member));
        }
        self.logs.put_back(seat, copy.0);
    }

    /// Whether an older copy took the place of this member's disk.
    pub(crate) fn is_set_back(&self, member: Member) -> bool {
        self.elections.is_set_back(member)
    }

    /// A leader of this term found out that a member forgot what it acknowledged.
    pub(crate) fn forgot(&mut self, term: Term, member: Member) -> Result<(), Violation> {
        if !self.is_set_back(member) {
            return Err(Violation::Forgot { member });
        }
        self.forgetful.entry(term).or_default().insert(member);
        Ok(())
    }

    /// Whether a leader of this term knows that a member forgot what it acknowledged.
    pub(crate) fn is_forgetful(&self, term: Term, member: Member) -> bool {
        self.forgetful.get(&term).is_some_and(|members| members.contains(&member))
    }

    /// Whether a member may go back to a copy of its disk.
    pub(crate) fn bears_forgetting(&self, key: GroupKey, copy: &Copy, scene: &Scene) -> Forgetting {
        let Some((_, new)) = self.shadows(key) else { return Forgetting::Never };
        let mut copies = Logs::of_copy(&copy.0);
        let Some((Some(me), _, old)) = copies.next() else { return Forgetting::Never };
        let lives = self.member(key) == Some(me) && !self.is_set_back(me);
        // A copy from before the first word is the disk of somebody who never was.
        let spoke = old.last().index > Index::ZERO && old.hard.term > Term::ZERO;
        // By what the copy says it must not be able to decide with those who know no better.
        let Some((_, then)) = self.logs.configuration_of(CLUSTER, old.entries()) else {
            return Forgetting::Never;
        };
        let configurations = scene.configurations.iter().chain([then]);
        let halves = configurations.flat_map(|it| [&it.voters, &it.outgoing]);
        let halves: Vec<_> = halves.filter(|half| !half.is_empty()).collect();
        let voters: BTreeSet<Member> = halves.iter().copied().flatten().copied().collect();
        let others: Vec<Member> = voters.into_iter().filter(|voter| *voter != me).collect();
        let alone = halves.iter().any(|half| half.iter().eq([&me]));
        let whole = others.iter().all(|voter| scene.whole.contains(voter));
        if !lives || !spoke || alone || !whole || !self.bears_votes(&others, new, old) {
            return Forgetting::Never;
        }
        let held = |entry: &EntryDigest| {
            others.iter().all(|voter| self.disk_of(*voter).is_some_and(|log| log.has(entry)))
        };
        let mut rare = new.forgotten(old).filter(|entry| !held(entry)).peekable();
        if rare.peek().is_none() {
            return Forgetting::Borne;
        }
        let committed = scene.committed.max(self.committed());
        let unknown = rare.all(|entry| {
            entry.position.index > committed && self.is_of_few(entry.position, &halves, scene)
        });
        match scene.leaders.as_slice() {
            [(leader, term)] if unknown && *term == new.hard.term => {
                Forgetting::InSight(*leader, *term)
            }
            [] if unknown => Forgetting::Borne,
            _ => Forgetting::Never,
        }
    }

    /// Whether no vote that a member forgets can be given a second time for an election.
    fn bears_votes(&self, others: &[Member], new: &LogCopy, old: &LogCopy) -> bool {
        let (then, now) = (old.hard, new.hard);
        if (then.term, then.vote) == (now.term, now.vote) {
            return true;
        }
        others.iter().all(|voter| {
            self.disk_of(*voter).is_some_and(|log| {
                let voted = log.hard.term == now.term && log.hard.vote.is_some();
                voted || log.hard.term > now.term
            })
        })
    }

    /// Whether those who ever had an entry, and who leads, are no majority of any half.
    fn is_of_few(&self, at: Position, halves: &[&BTreeSet<Member>], scene: &Scene) -> bool {
        let leads = |member: &Member| scene.leaders.iter().any(|(leader, _)| leader == member);
        let has = |member: &&Member| leads(member) || self.logs.has_durable(**member, CLUSTER, at);
        halves.iter().all(|half| half.iter().filter(has).count() * 2 <= half.len())
    }

    fn shadows(&self, key: GroupKey) -> Option<(&LogCopy, &LogCopy)> {
        self.logs.shadows(key)
    }

    fn member(&self, key: GroupKey) -> Option<Member> {
        self.logs.member_of(key)
    }

    fn disk_of(&self, member: Member) -> Option<&LogCopy> {
        self.logs.durable_of(member, CLUSTER)
    }
}

impl LogCopy {
    fn has(&self, entry: &EntryDigest) -> bool {
        self.at(entry.position.index) == Some(*entry)
    }

    /// What this log holds, and an older one does not.
    fn forgotten<'a>(&'a self, old: &'a Self) -> impl Iterator<Item = &'a EntryDigest> {
        self.entries().iter().filter(|entry| !old.has(entry))
    }
}

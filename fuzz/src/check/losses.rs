//! Which losses of disks a run may have: those that Raft, and founding, bear.
//!
//! A wiped disk takes a voter away for good, and so does an old copy of a disk once it is noticed:
//! a majority of every configuration that may still decide must be left whole. A disk that is set
//! back forgets entries and votes before anyone can know. No protocol bears that if it happens to
//! the wrong one of a bare majority, so it is done only when all other voters hold what is
//! forgotten and have voted, or are past, where it may vote again. What the cluster then promises
//! is checked in full.

use std::collections::BTreeSet;

use meshraft_consensus::{ClusterId, Configuration, Index, Member, Namespace};

use super::{
    Checks, GroupKey,
    log::{LogCopies, Logs},
    shadow::LogCopy,
};
use crate::world::Seat;

/// What the checks remember of a copied disk.
#[derive(Clone, Debug)]
pub(crate) struct Copy(pub(super) LogCopies);

/// The nodes that may be on their way out of a cluster.
pub(crate) type Leaving<'a> = dyn Fn(ClusterId) -> Vec<Seat> + 'a;

/// Whether something may be done to a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bearing {
    /// Now.
    Now,
    /// Perhaps later.
    Later,
    /// Never again.
    Never,
}

impl Checks {
    /// What a copy of this node's disk holds.
    pub(crate) fn copy(&self, seat: Seat) -> Copy {
        Copy(self.logs.copy(seat))
    }

    /// An old copy takes the place of this node's disk.
    pub(crate) fn put_back(&mut self, seat: Seat, copy: Copy) {
        for (member, _, _) in Logs::of_copy(&copy.0) {
            member.into_iter().for_each(|member| self.elections.set_back(member));
        }
        self.logs.put_back(seat, copy.0);
    }

    /// The state of a group is lost: its member waits for a leader, and begins anew then.
    pub(crate) fn lost_state(&mut self, group: GroupKey) {
        let member = self.logs.member_of(group);
        member.into_iter().for_each(|member| self.elections.set_back(member));
    }

    /// Whether every group of this node can do without its disk for ever, and without others that
    /// are lost. Those that `leave` a group may soon count as little.
    pub(crate) fn bears_loss(&self, seat: Seat, lost: &[Seat], leave: &Leaving<'_>) -> bool {
        let lost = [lost, &[seat]].concat();
        let mut groups = self.logs.of_seat(seat);
        groups.all(|(_, cluster, _)| self.bears_without(&lost, cluster, leave))
    }

    /// Whether the cluster of a namespace can do without those that leave it, and others that are
    /// lost.
    pub(crate) fn bears_leaving(
        &self,
        namespace: &Namespace,
        lost: &[Seat],
        leave: &Leaving<'_>,
    ) -> bool {
        let living = self.states.living(namespace);
        living.is_some_and(|cluster| self.bears_without(lost, cluster, leave))
    }

    /// Whether an entry may rot on this node's disk, where others rot already: if a cluster that
    /// lives can do without all of them, whatever is lost; or if nothing else rots and the entry is
    /// committed, and so is the one after it, and every other voter has both. Then others can
    /// always tell what stood there.
    pub(crate) fn bears_rot(
        &self,
        (seat, group): GroupKey,
        index: Index,
        rotten: &[Seat],
        leave: &Leaving<'_>,
    ) -> bool {
        let key = (seat, group);
        let (Some(cluster), Some(me)) = (self.logs.cluster_of(key), self.logs.member_of(key))
        else {
            return false;
        };
        if self.logs.is_founded(cluster) && self.bears_loss(seat, rotten, leave) {
            return true;
        } else if rotten.iter().any(|other| *other != seat) {
            return false;
        }
        let whole = self.whole(cluster, |_| true);
        let slots = [index, index.next()];
        let committed = |slot: Index| {
            let place = usize::try_from(slot.get()).ok()?.checked_sub(1)?;
            self.logs.all_committed(cluster).get(place).copied()
        };
        let holds = |member: &Member| {
            let log = self.logs.durable_of(*member, cluster).filter(|_| whole.contains(member));
            log.is_some_and(|log| {
                slots.iter().all(|slot| {
                    let entry = committed(*slot);
                    entry.is_some() && log.at(*slot) == entry
                })
            })
        };
        let halves =
            |it: &Configuration| it.voters.union(&it.outgoing).copied().collect::<Vec<_>>();
        let voters: BTreeSet<Member> = self.configurations(cluster, &[]).flat_map(halves).collect();
        voters.iter().any(|voter| *voter != me) && holds(&me) && voters.iter().all(holds)
    }

    fn bears_without(&self, lost: &[Seat], cluster: ClusterId, leave: &Leaving<'_>) -> bool {
        let leaves = leave(cluster);
        let whole = self.whole(cluster, |seat| !lost.contains(&seat) && !leaves.contains(&seat));
        let majority = |half: &BTreeSet<Member>| {
            half.is_empty() || half.intersection(&whole).count() * 2 > half.len()
        };
        // If only those that leave know who votes, they are asked for nothing yet.
        let decide = || self.configurations(cluster, &leaves);
        decide().any(|it| !it.voters.is_empty())
            && decide().all(|it| majority(&it.voters) && majority(&it.outgoing))
    }

    /// The members whose disks are whole, of some nodes.
    fn whole(&self, cluster: ClusterId, of: impl Fn(Seat) -> bool) -> BTreeSet<Member> {
        let members = self.logs.members(cluster).filter(|(seat, _)| of(*seat));
        let members = members.map(|(_, member)| member);
        members.filter(|member| !self.elections.is_set_back(*member)).collect()
    }

    /// The configurations by which members of a cluster may decide; one that leaves decides nothing
    /// by a configuration that the others have left behind.
    fn configurations(
        &self,
        cluster: ClusterId,
        leaves: &[Seat],
    ) -> impl Iterator<Item = &Configuration> {
        let stays = self.seen.iter().filter(|(seat, _)| !leaves.contains(*seat));
        let seen = stays.filter_map(move |(_, groups)| groups.get(&cluster));
        seen.map(|seen| &seen.configuration)
    }

    /// Whether this node's disk may become the old copy.
    pub(crate) fn bears_copy(&self, seat: Seat, copy: &Copy, leave: &Leaving<'_>) -> Bearing {
        let now: Vec<_> = self.logs.of_seat(seat).collect();
        let same = |old: &(Option<Member>, ClusterId, &LogCopy)| {
            now.iter().any(|new| (new.0, new.1) == (old.0, old.1))
        };
        let then: Vec<_> = Logs::of_copy(&copy.0).collect();
        let lives = then.iter().all(|(member, cluster, _)| {
            let set_back = member.is_none_or(|member| self.elections.is_set_back(member));
            !set_back && self.logs.is_founded(*cluster)
        });
        if now.len() != then.len() || !then.iter().all(same) || !lives {
            return Bearing::Never;
        }
        let mut pairs = now.iter().zip(&then);
        let bears = pairs.all(|((_, cluster, new), (_, _, old))| {
            self.bears_without(&[seat], *cluster, leave)
                && self.bears_forgetting(seat, *cluster, new, old)
        });
        if bears { Bearing::Now } else { Bearing::Later }
    }

    /// Whether all others that may vote hold what this node would forget.
    fn bears_forgetting(
        &self,
        seat: Seat,
        cluster: ClusterId,
        new: &LogCopy,
        old: &LogCopy,
    ) -> bool {
        let whole = self.whole(cluster, |at| at != seat);
        let mine = self.logs.members(cluster).find(|(at, _)| *at == seat);
        let old_configuration = self.logs.configuration_at(cluster, old.last().index);
        let configurations =
            self.configurations(cluster, &[]).chain(old_configuration.map(|(_, told)| told));
        let mut voters: BTreeSet<Member> = configurations
            .flat_map(|it| it.voters.union(&it.outgoing).copied().collect::<Vec<_>>())
            .collect();
        let Some((_, me)) = mine else { return false };
        voters.remove(&me);
        // By what the copy says it must not be able to decide alone.
        let alone = old_configuration.is_none_or(|(_, told)| {
            told.is_voter(&me) && told.voters.union(&told.outgoing).all(|voter| *voter == me)
        });
        !alone
            && voters.iter().all(|voter| {
                let log = self.logs.durable_of(*voter, cluster);
                whole.contains(voter) && log.is_some_and(|log| log.outlives(new, old))
            })
    }
}

impl LogCopy {
    /// Whether this log holds every entry that its neighbour forgets by going from `new` back to
    /// `old`, and grants no vote that the neighbour may need for a second one.
    fn outlives(&self, new: &Self, old: &Self) -> bool {
        let forgotten = new.entries().iter().filter(|it| old.at(it.position.index) != Some(**it));
        let holds = forgotten.into_iter().all(|it| self.at(it.position.index) == Some(*it));
        let voted = self.hard.term == new.hard.term && self.hard.vote.is_some();
        holds && (voted || self.hard.term > new.hard.term)
    }
}

//! Log matching, leader completeness, and that what is committed stays (thesis 3.6.3).
//!
//! Every write that a node hands to its disk is applied to two shadows of its log: what the node
//! believes, and what is durable. An entry is known by its position and digest; as each remembers
//! the position before it, two logs that agree on a position agree on everything before.

use std::collections::BTreeMap;

use meshraft_consensus::{
    ClusterId, Entry, EntryKind, HardState, Index, Member, Position, Term, Write,
};
use meshraft_storage::{GroupId, Job};

use super::{GroupKey, Violation, election::Elections};
use crate::{digest::Digest, world::Seat};

/// What stands at a position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EntryDigest {
    pub(crate) position: Position,
    kind: EntryKind,
    bytes: Digest,
}

impl EntryDigest {
    fn of(entry: &Entry) -> Self {
        let Entry { position, kind, ref bytes } = *entry;
        Self { position, kind, bytes: Digest::of(bytes) }
    }
}

/// A log, whole from its first entry.
#[derive(Clone, Debug, Default)]
pub(crate) struct LogCopy {
    pub(crate) entries: Vec<EntryDigest>,
    hard: HardState,
}

impl LogCopy {
    pub(crate) fn last(&self) -> Position {
        self.entries.last().map_or(Position::ZERO, |entry| entry.position)
    }

    pub(crate) fn at(&self, index: Index) -> Option<EntryDigest> {
        let place = usize::try_from(index.get()).ok()?.checked_sub(1)?;
        self.entries.get(place).copied()
    }

    fn write(&mut self, write: &Write) {
        self.hard = write.hard.unwrap_or(self.hard);
        if let Some(from) = write.truncate_from {
            let left = usize::try_from(from.previous().get()).unwrap_or(usize::MAX);
            self.entries.truncate(left);
        }
        self.entries.extend(write.append.iter().map(EntryDigest::of));
    }
}

#[derive(Clone, Debug)]
struct Group {
    cluster: ClusterId,
    /// Whether the group itself is durable.
    born: bool,
    member: Option<Member>,
    believed: LogCopy,
    durable: LogCopy,
}

/// The logs of all nodes, and what is known of their groups.
#[derive(Debug, Default)]
pub(crate) struct Logs {
    groups: BTreeMap<GroupKey, Group>,
    /// Logs whose disk or group is gone: what their members acknowledged was true.
    gone: Vec<Group>,
    /// What stands at a position in any log, and what before it.
    seen: BTreeMap<(ClusterId, Position), (EntryDigest, Position)>,
    committed: BTreeMap<ClusterId, Vec<EntryDigest>>,
}

impl Logs {
    /// A process goes on from its disk.
    pub(crate) fn started(&mut self, seat: Seat) {
        self.groups.retain(|(at, _), group| *at != seat || group.born);
        for (_, group) in self.groups.iter_mut().filter(|((at, _), _)| *at == seat) {
            group.believed = group.durable.clone();
        }
    }

    pub(crate) fn wiped(&mut self, seat: Seat) {
        let lost: Vec<GroupKey> =
            self.groups.keys().copied().filter(|(at, _)| *at == seat).collect();
        self.gone.extend(lost.iter().filter_map(|key| self.groups.remove(key)));
    }

    /// Who runs in a group of this node.
    pub(crate) fn bind(&mut self, seat: Seat, member: Member, cluster: ClusterId) {
        for ((at, _), group) in &mut self.groups {
            if *at == seat && group.cluster == cluster {
                group.member = Some(member);
            }
        }
    }

    pub(crate) fn submitted(
        &mut self,
        seat: Seat,
        job: &Job,
        elections: &Elections,
    ) -> Result<(), Violation> {
        match job {
            // A dropped group writes no more; its log stays until the drop is durable.
            Job::Record { create, .. } => {
                self.create(seat, *create);
                Ok(())
            }
            Job::Log { group, write, .. } => self.written((seat, *group), write, elections),
        }
    }

    fn create(&mut self, seat: Seat, create: Option<(GroupId, ClusterId)>) {
        if let Some((number, cluster)) = create {
            let (believed, durable) = (LogCopy::default(), LogCopy::default());
            let (born, member) = (false, None);
            let group = Group { cluster, born, member, believed, durable };
            self.groups.entry((seat, number)).or_insert(group);
        }
    }

    fn written(
        &mut self,
        key: GroupKey,
        write: &Write,
        elections: &Elections,
    ) -> Result<(), Violation> {
        let Some(group) = self.groups.get_mut(&key) else { return Ok(()) };
        let Some(member) = group.member else { return Ok(()) };
        let from = group.believed.hard;
        group.believed.write(&Write { append: Vec::new(), ..write.clone() });
        elections.votes(member, from, group.believed.hard)?;
        for entry in &write.append {
            let (last, position) = (group.believed.last(), entry.position);
            if position.index != last.index.next() || position.term < last.term {
                return Err(Violation::LogGap { member, last, position });
            }
            let digest = EntryDigest::of(entry);
            let known = self.seen.entry((group.cluster, position)).or_insert((digest, last));
            if *known != (digest, last) {
                return Err(Violation::LogMismatch { member, position });
            }
            group.believed.entries.push(digest);
        }
        Ok(())
    }

    pub(crate) fn durable(&mut self, seat: Seat, jobs: &[Job]) {
        for job in jobs {
            match job {
                Job::Record { create, drop, .. } => {
                    let created = create.map(|(number, _)| (seat, number));
                    if let Some(group) = created.and_then(|key| self.groups.get_mut(&key)) {
                        group.born = true;
                    }
                    let dropped =
                        drop.iter().filter_map(|number| self.groups.remove(&(seat, *number)));
                    self.gone.extend(dropped);
                }
                Job::Log { group, write, .. } => {
                    if let Some(group) = self.groups.get_mut(&(seat, *group)) {
                        group.durable.write(write);
                    }
                }
            }
        }
    }

    fn of(&self, member: Member, cluster: ClusterId) -> Option<&Group> {
        let mut groups = self.groups.values().chain(&self.gone);
        groups.find(|group| group.member == Some(member) && group.cluster == cluster)
    }

    /// The durable log of a member, the disk of which may be gone by now.
    pub(crate) fn durable_of(&self, member: Member, cluster: ClusterId) -> Option<&LogCopy> {
        self.of(member, cluster).map(|group| &group.durable)
    }

    /// A member committed up to `commit`; it must hold what others committed there. Returns what
    /// nobody had committed before.
    pub(crate) fn committed(
        &mut self,
        member: Member,
        cluster: ClusterId,
        from: Index,
        commit: Index,
    ) -> Result<Vec<Position>, Violation> {
        let Some(group) = self.of(member, cluster) else { return Ok(Vec::new()) };
        let (mut new, mut index) = (Vec::new(), from.next());
        let empty = Vec::new();
        let committed = self.committed.get(&cluster).unwrap_or(&empty);
        while index <= commit {
            let mine = group.believed.at(index);
            let place = usize::try_from(index.previous().get()).unwrap_or(usize::MAX);
            match (committed.get(place), mine) {
                (Some(first), Some(mine)) if *first == mine => {}
                (None, Some(mine)) => new.push(mine),
                (first, found) => {
                    let expected = first.map_or(Position::ZERO, |entry| entry.position);
                    let found = found.map(|entry| entry.position);
                    return Err(Violation::CommittedDiffers { member, index, expected, found });
                }
            }
            index = index.next();
        }
        let positions = new.iter().map(|entry| entry.position).collect();
        self.committed.entry(cluster).or_default().extend(new);
        Ok(positions)
    }

    /// A member that leads, and did before, commits with an entry of its own term.
    pub(crate) fn expect_own_term(
        &self,
        member: Member,
        cluster: ClusterId,
        commit: Index,
        term: Term,
    ) -> Result<(), Violation> {
        let entry = self.of(member, cluster).and_then(|group| group.believed.at(commit));
        match entry.map(|entry| entry.position).filter(|position| position.term != term) {
            Some(position) => Err(Violation::OldTermCommit { member, term, position }),
            None => Ok(()),
        }
    }

    /// A new leader holds everything that is committed.
    pub(crate) fn leads(
        &self,
        cluster: ClusterId,
        term: Term,
        leader: Member,
    ) -> Result<(), Violation> {
        let Some(group) = self.of(leader, cluster) else { return Ok(()) };
        let committed = self.committed.get(&cluster).into_iter().flatten();
        for entry in committed.take_while(|entry| entry.position.term < term) {
            if group.believed.at(entry.position.index) != Some(*entry) {
                let missing = entry.position;
                return Err(Violation::LeaderIncomplete { leader, term, missing });
            }
        }
        Ok(())
    }

    /// Whether the group's fate is committed, and is to live.
    pub(crate) fn is_founded(&self, cluster: ClusterId) -> bool {
        let first = self.committed.get(&cluster).and_then(|committed| committed.first());
        first.is_some_and(|first| first.kind == EntryKind::Configuration)
    }
}

//! Log matching, and that what is committed stays (thesis 3.6.3).
//!
//! Every write that a node hands to its disk is applied to two shadows of its log: what the node
//! believes, and what is durable. An entry is known by its position and digest; as each remembers
//! the position before it, two logs that agree on a position agree on everything before.

use std::collections::BTreeMap;

use meshraft_consensus::{
    ClusterId, Configuration, EntryKind, Index, LogAfterSnapshot, Member, Position, SnapshotMeta,
    SnapshotWrite, Term, Write,
};
use meshraft_storage::{GroupId, Job};

use super::{
    GroupKey, Violation,
    completeness::Completeness,
    election::Elections,
    shadow::{EntryDigest, LogCopy, place},
};
use crate::{
    counts::{Counts, Rare},
    world::Seat,
};

/// One log, as its node believes it to be and as it is on disk.
#[derive(Clone, Debug)]
pub(super) struct Group {
    cluster: ClusterId,
    /// Whether the group itself is durable.
    born: bool,
    member: Option<Member>,
    pub(super) believed: LogCopy,
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
    completeness: Completeness,
    /// What each configuration entry says that was ever appended.
    pub(super) configurations: BTreeMap<(ClusterId, Position), Configuration>,
}

/// The durable logs of one node at some moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct LogCopies(BTreeMap<GroupId, Group>);

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

    /// What a copy of this node's disk holds of its logs.
    pub(crate) fn copy(&self, seat: Seat) -> LogCopies {
        let mine = self.groups.iter().filter(|((at, _), group)| *at == seat && group.born);
        LogCopies(mine.map(|((_, number), group)| (*number, group.clone())).collect())
    }

    /// What a copy of this node's disk would hold that lacks what stands at an index and behind.
    pub(crate) fn copy_without(&self, seat: Seat, from: Index) -> LogCopies {
        let mut copy = self.copy(seat);
        for group in copy.0.values_mut() {
            group.durable.cut(from);
        }
        copy
    }

    /// An old copy takes the place of this node's disk.
    pub(super) fn put_back(&mut self, seat: Seat, copy: LogCopies) {
        self.wiped(seat);
        let groups = copy.0.into_iter().map(|(number, group)| ((seat, number), group));
        self.groups.extend(groups);
    }

    /// Who runs in a group of this node: the newest one of the cluster, as older ones are fenced.
    pub(crate) fn bind(&mut self, seat: Seat, member: Member, cluster: ClusterId) {
        let newest = self.key_of(seat, cluster);
        if let Some(group) = newest.and_then(|key| self.groups.get_mut(&key)) {
            group.member = Some(member);
        }
    }

    pub(crate) fn submitted(
        &mut self,
        seat: Seat,
        job: &Job,
        elections: &Elections,
        counts: &mut Counts,
    ) -> Result<(), Violation> {
        match job {
            // A dropped group writes no more; its log stays until the drop is durable.
            Job::Record { create, .. } => {
                self.create(seat, *create);
                Ok(())
            }
            Job::Log { group, write, .. } | Job::Enter { group, write, .. } => {
                let key = (seat, *group);
                self.count(key, write, counts);
                self.written(key, write, elections)
            }
        }
    }

    /// Counts what a write does with a snapshot.
    fn count(&self, key: GroupKey, write: &Write, counts: &mut Counts) {
        let (Some(group), Some(snapshot)) = (self.groups.get(&key), write.snapshot()) else {
            return;
        };
        if let LogAfterSnapshot::KeepFrom(_) = snapshot.log {
            return counts.note(Rare::Compacted);
        }
        let committed = self.committed.get(&group.cluster);
        let differs = |entry: &EntryDigest| {
            let place = place(entry.position.index.previous());
            committed.and_then(|committed| committed.get(place)).is_some_and(|it| it != entry)
        };
        if group.believed.entries().iter().any(differs) {
            counts.note(Rare::ConflictReplaced);
        }
    }

    /// A group begins whose member is known, durably.
    pub(crate) fn begin(&mut self, key: GroupKey, cluster: ClusterId, member: Member) {
        let (believed, durable) = (LogCopy::default(), LogCopy::default());
        let (born, member) = (true, Some(member));
        self.groups.insert(key, Group { cluster, born, member, believed, durable });
    }

    fn create(&mut self, seat: Seat, create: Option<(GroupId, ClusterId)>) {
        if let Some((number, cluster)) = create {
            let (believed, durable) = (LogCopy::default(), LogCopy::default());
            let (born, member) = (false, None);
            let group = Group { cluster, born, member, believed, durable };
            self.groups.entry((seat, number)).or_insert(group);
        }
    }

    /// A write is handed to the disk of a group.
    pub(crate) fn written(
        &mut self,
        key: GroupKey,
        write: &Write,
        elections: &Elections,
    ) -> Result<(), Violation> {
        let Some(group) = self.groups.get_mut(&key) else { return Ok(()) };
        let Some(member) = group.member else { return Ok(()) };
        let committed = self.committed.get(&group.cluster).map(Vec::as_slice).unwrap_or_default();
        if let Some(snapshot) = write.snapshot() {
            let newest = newest_configuration(&self.configurations, group.cluster, committed);
            check_snapshot(&group.believed, snapshot, committed, newest).map_err(|what| {
                Violation::Snapshot { member, position: snapshot.meta.position, what }
            })?;
        }
        let from = group.believed.hard;
        group.believed.prepare(write, committed);
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
            if entry.kind == EntryKind::Configuration
                && let Ok(configuration) = Configuration::decode(&entry.bytes)
            {
                self.configurations.insert((group.cluster, position), configuration);
            }
            group.believed.push(digest);
        }
        Ok(())
    }

    /// Jobs of a node are durable.
    pub(crate) fn durable(
        &mut self,
        seat: Seat,
        jobs: &[Job],
        elections: &mut Elections,
    ) -> Result<(), Violation> {
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
                Job::Log { group, write, .. } | Job::Enter { group, write, .. } => {
                    self.written_durably((seat, *group), write, elections)?;
                }
            }
        }
        Ok(())
    }

    /// A write of a group is durable.
    pub(crate) fn written_durably(
        &mut self,
        key: GroupKey,
        write: &Write,
        elections: &mut Elections,
    ) -> Result<(), Violation> {
        let Some(group) = self.groups.get_mut(&key) else { return Ok(()) };
        let committed = self.committed.get(&group.cluster);
        group.durable.write(write, committed.map(Vec::as_slice).unwrap_or_default());
        match group.member {
            Some(member) => elections.cast(group.cluster, member, group.durable.hard),
            None => Ok(()),
        }
    }

    /// The two shadows of a group's log: what its node believes, and what is durable.
    pub(super) fn shadows(&self, key: GroupKey) -> Option<(&LogCopy, &LogCopy)> {
        self.groups.get(&key).map(|group| (&group.believed, &group.durable))
    }

    /// The group of a node in a cluster: the newest one, as older ones are fenced.
    pub(super) fn key_of(&self, seat: Seat, cluster: ClusterId) -> Option<GroupKey> {
        let mine = self.groups.iter().filter(|((at, _), _)| *at == seat);
        mine.filter(|(_, group)| group.cluster == cluster).map(|(key, _)| *key).next_back()
    }

    /// Whether a group is on its disk.
    pub(super) fn is_born(&self, key: GroupKey) -> bool {
        self.groups.get(&key).is_some_and(|group| group.born)
    }

    /// How many disks had the group of a cluster.
    pub(super) fn promises(&self, cluster: ClusterId) -> usize {
        let groups = self.groups.values().chain(&self.gone);
        groups.filter(|group| group.born && group.cluster == cluster).count()
    }

    /// How many founded a cluster.
    pub(super) fn founders(&self, cluster: ClusterId) -> usize {
        let first = self.configuration_at(cluster, Index::ZERO.next());
        first.map_or(0, |(_, founders)| founders.voters.len())
    }

    /// Whose group this is.
    pub(super) fn member_of(&self, key: GroupKey) -> Option<Member> {
        self.groups.get(&key)?.member
    }

    /// The last entry that is committed in a cluster.
    pub(super) fn committed_up_to(&self, cluster: ClusterId) -> Index {
        Index::new(self.all_committed(cluster).len() as u64)
    }

    /// Everything that is committed in a cluster.
    pub(super) fn all_committed(&self, cluster: ClusterId) -> &[EntryDigest] {
        self.committed.get(&cluster).map(Vec::as_slice).unwrap_or_default()
    }

    /// The newest configuration of a log, and where it stands.
    pub(super) fn configuration_of<'a>(
        &'a self,
        cluster: ClusterId,
        entries: &'a [EntryDigest],
    ) -> Option<(Position, &'a Configuration)> {
        let is_configuration = |entry: &&EntryDigest| entry.kind == EntryKind::Configuration;
        let newest = entries.iter().rev().find(is_configuration)?.position;
        Some((newest, self.configurations.get(&(cluster, newest))?))
    }

    pub(super) fn of(&self, member: Member, cluster: ClusterId) -> Option<&Group> {
        let mut groups = self.groups.values().chain(&self.gone);
        groups.find(|group| group.member == Some(member) && group.cluster == cluster)
    }

    /// Whether a member has an entry on disk, or had it on a disk that is gone by now.
    pub(crate) fn has_durable(&self, member: Member, cluster: ClusterId, at: Position) -> bool {
        let mut groups = self.groups.values().chain(&self.gone);
        groups.any(|group| {
            let entry = group.durable.at(at.index);
            group.member == Some(member)
                && group.cluster == cluster
                && entry.is_some_and(|entry| entry.position == at)
        })
    }

    /// The log that a member of a running or stopped node has on disk now.
    pub(crate) fn durable_of(&self, member: Member, cluster: ClusterId) -> Option<&LogCopy> {
        let mut groups = self.groups.values();
        let group = groups.find(|group| group.member == Some(member) && group.cluster == cluster);
        group.map(|group| &group.durable)
    }

    /// The newest snapshot that a member recorded, durable or not.
    pub(crate) fn snapshot_of(&self, member: Member, cluster: ClusterId) -> Position {
        self.of(member, cluster).map_or(Position::ZERO, |group| group.believed.snapshot())
    }

    /// Whose group this is.
    pub(crate) fn cluster_of(&self, key: GroupKey) -> Option<ClusterId> {
        self.groups.get(&key).map(|group| group.cluster)
    }

    /// Who has a durable log in a cluster, and where.
    pub(crate) fn members(&self, cluster: ClusterId) -> impl Iterator<Item = (Seat, Member)> {
        let groups = self.groups.iter();
        let here = groups.filter(move |(_, group)| group.born && group.cluster == cluster);
        here.filter_map(|((seat, _), group)| Some((*seat, group.member?)))
    }

    /// The durable logs of a node, with whose they are.
    pub(crate) fn of_seat(
        &self,
        seat: Seat,
    ) -> impl Iterator<Item = (Option<Member>, ClusterId, &LogCopy)> {
        let mine = self.groups.iter().filter(move |((at, _), group)| *at == seat && group.born);
        mine.map(|(_, group)| (group.member, group.cluster, &group.durable))
    }

    /// The members of this node whose logs are in a copy.
    pub(crate) fn of_copy(
        copy: &LogCopies,
    ) -> impl Iterator<Item = (Option<Member>, ClusterId, &LogCopy)> {
        copy.0.values().map(|group| (group.member, group.cluster, &group.durable))
    }

    /// The configuration that is committed at an index, and where it stands.
    pub(crate) fn configuration_at(
        &self,
        cluster: ClusterId,
        index: Index,
    ) -> Option<(Index, &Configuration)> {
        let committed = self.committed.get(&cluster)?.get(..place(index))?;
        newest_configuration(&self.configurations, cluster, committed)(index)
    }

    /// A member committed up to `commit`; it must hold what others committed there. Returns what
    /// nobody had committed before.
    pub(crate) fn committed(
        &mut self,
        member: Member,
        cluster: ClusterId,
        from: Index,
        commit: Index,
        term: Term,
    ) -> Result<Vec<Position>, Violation> {
        let Some(group) = self.of(member, cluster) else { return Ok(Vec::new()) };
        let (mut new, mut index) = (Vec::new(), from.next());
        let empty = Vec::new();
        let committed = self.committed.get(&cluster).unwrap_or(&empty);
        while index <= commit {
            let mine = group.believed.at(index);
            match (committed.get(place(index.previous())), mine) {
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
        let committed = self.committed.entry(cluster).or_default();
        committed.extend(new);
        self.completeness.commits(cluster, committed, commit, term)?;
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

    /// A member leads: it holds everything that was committed in earlier terms.
    pub(crate) fn leads(
        &mut self,
        cluster: ClusterId,
        term: Term,
        leader: Member,
    ) -> Result<(), Violation> {
        let mut groups = self.groups.values().chain(&self.gone);
        let mine = |group: &&Group| group.member == Some(leader) && group.cluster == cluster;
        let Some(group) = groups.find(mine) else { return Ok(()) };
        let committed = self.committed.get(&cluster).map(Vec::as_slice).unwrap_or_default();
        self.completeness.leads(cluster, committed, term, leader, &group.believed)
    }

    /// Whether the group's fate is committed, and is to live.
    pub(crate) fn is_founded(&self, cluster: ClusterId) -> bool {
        let first = self.committed.get(&cluster).and_then(|committed| committed.first());
        first.is_some_and(|first| first.kind == EntryKind::Configuration)
    }
}

/// Finds the newest configuration up to an index among what is committed.
fn newest_configuration<'a>(
    configurations: &'a BTreeMap<(ClusterId, Position), Configuration>,
    cluster: ClusterId,
    committed: &'a [EntryDigest],
) -> impl Fn(Index) -> Option<(Index, &'a Configuration)> {
    move |index| {
        let covered = committed.get(..place(index).min(committed.len()))?;
        let is_configuration = |entry: &&EntryDigest| entry.kind == EntryKind::Configuration;
        let newest = covered.iter().rev().find(is_configuration)?.position;
        Some((newest.index, configurations.get(&(cluster, newest))?))
    }
}

/// What is wrong with a snapshot that a node records, if anything is.
fn check_snapshot<'a>(
    log: &LogCopy,
    snapshot: &SnapshotWrite,
    committed: &[EntryDigest],
    configuration: impl Fn(Index) -> Option<(Index, &'a Configuration)>,
) -> Result<(), &'static str> {
    let SnapshotMeta { position, configuration: ref told, configuration_index } = snapshot.meta;
    let covered = committed.get(place(position.index.previous()));
    let Some(covered) = covered.filter(|entry| entry.position == position) else {
        return Err("covers what is not committed");
    };
    if configuration(position.index) != Some((configuration_index, told)) {
        return Err("holds another configuration");
    }
    if let LogAfterSnapshot::KeepFrom(first) = snapshot.log {
        if first > position.index.next() {
            return Err("cuts more than it covers");
        }
        if log.at(position.index).is_some_and(|entry| entry != *covered) {
            return Err("keeps a log that contradicts it");
        }
    }
    Ok(())
}

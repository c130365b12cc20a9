//! The store's contract as a plain value, for the simulator and as the twin that tests compare
//! with: what is committed survives a crash, because it is all there is.
//!
//! It is written for being evidently right, not for speed, and shares no code with the real store.

use std::collections::BTreeMap;

use bytes::Bytes;
use meshraft_consensus::{
    ClusterId, Configuration, Entry, EntryKind, HardState, Index, IndexRange, LoadError,
    LogAfterSnapshot, Namespace, Position, SnapshotMeta, Write,
};

use crate::types::{GroupId, Job, Opened, OpenedGroup, OpenedNamespace};

/// A store in memory. A clone is what a crash at this moment would leave.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemoryStore {
    namespaces: BTreeMap<Namespace, Record>,
    groups: BTreeMap<GroupId, Group>,
    /// How far group numbers were used.
    groups_used: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Record {
    bytes: Bytes,
    groups: Vec<GroupId>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Group {
    cluster: ClusterId,
    hard: HardState,
    snapshot: Option<SnapshotMeta>,
    floor: Index,
    entries: Vec<Entry>,
    /// Slots that can't be read, and whether an open finds out.
    rotten: BTreeMap<Index, bool>,
}

impl MemoryStore {
    /// Makes jobs durable, in order and at once.
    ///
    /// # Panics
    /// If the driver breaks a promise: a gap in a log, a group number used twice, a record that is
    /// too large. The real store fails then.
    pub fn commit(&mut self, jobs: &[Job]) {
        for job in jobs {
            match job {
                Job::Log { group, write, .. } => {
                    if let Some(group) = self.groups.get_mut(group) {
                        group.write(write);
                    }
                }
                Job::Record { namespace, record, create, drop, .. } => {
                    self.record(namespace, record, *create, drop);
                }
                Job::Enter { namespace, record, group, write, .. } => {
                    self.record(namespace, record, None, &[]);
                    if let Some(group) = self.groups.get_mut(group) {
                        group.write(write);
                    }
                }
            }
        }
    }

    /// What an open would find now.
    pub fn opened(&self) -> Opened {
        let namespaces = self.namespaces.iter().map(|(namespace, record)| OpenedNamespace {
            namespace: namespace.clone(),
            record: record.bytes.clone(),
            groups: record.groups.iter().map(|id| self.groups[id].opened(*id)).collect(),
        });
        let next_group = GroupId::new(self.groups_used).next();
        Opened { next_group, namespaces: namespaces.collect() }
    }

    /// What an open would find of one namespace now.
    pub fn reopen(&self, namespace: &Namespace) -> Option<OpenedNamespace> {
        self.opened().namespaces.into_iter().find(|opened| opened.namespace == *namespace)
    }

    /// Reads entries, as [`crate::Store::load`] does.
    ///
    /// # Errors
    /// Says why not even the first entry can be read.
    pub fn load(
        &self,
        group: GroupId,
        range: IndexRange,
        bytes_max: u64,
    ) -> Result<Vec<Entry>, LoadError> {
        let group = self.groups.get(&group).ok_or(LoadError::Truncated)?;
        if range.first > range.last {
            return Ok(Vec::new());
        }
        if range.first <= group.floor {
            return Err(LoadError::Compacted);
        }
        if range.first > group.tail() {
            return Err(LoadError::Truncated);
        }
        let mut cost = 0_u64;
        let mut loaded: Vec<Entry> = Vec::new();
        if group.rotten.contains_key(&range.first) {
            let mut last = range.first;
            while last < range.last && group.rotten.contains_key(&last.next()) {
                last = last.next();
            }
            return Err(LoadError::Damaged(IndexRange { first: range.first, last }));
        }
        for entry in &group.entries {
            if entry.position.index < range.first || entry.position.index > range.last {
                continue;
            }
            if group.rotten.contains_key(&entry.position.index) {
                break;
            }
            cost = cost.saturating_add(entry.cost_bytes());
            if cost > bytes_max && !loaded.is_empty() {
                break;
            }
            loaded.push(entry.clone());
        }
        Ok(loaded)
    }

    /// For simulations: this entry can't be read any more. An open finds out if the damage is to
    /// what says which entries there are, `seen`, and in any case of a configuration; else a load
    /// does. `false` if there is no such entry.
    #[doc(hidden)]
    pub fn rot(&mut self, group: GroupId, index: Index, seen: bool) -> bool {
        let Some(group) = self.groups.get_mut(&group) else { return false };
        let rotten = group.entries.iter().find(|entry| entry.position.index == index);
        if let Some(entry) = rotten {
            let seen = seen || entry.kind == EntryKind::Configuration;
            group.rotten.insert(index, seen);
        }
        rotten.is_some()
    }

    /// For simulations: whether anything can't be read.
    #[doc(hidden)]
    pub fn rots(&self) -> bool {
        self.groups.values().any(|group| !group.rotten.is_empty())
    }

    fn record(
        &mut self,
        namespace: &Namespace,
        record: &Bytes,
        create: Option<(GroupId, ClusterId)>,
        drop: &[GroupId],
    ) {
        assert!(record.len() <= Job::RECORD_BYTES_MAX, "a record is too large");
        let row = self.namespaces.entry(namespace.clone()).or_default();
        row.bytes = record.clone();
        row.groups.retain(|group| !drop.contains(group));
        if let Some((group, _)) = create {
            assert!(group.get() > self.groups_used, "a group number is used twice");
            self.groups_used = group.get();
            row.groups.push(group);
        }
        let namespaces = &self.namespaces;
        self.groups.retain(|id, _| {
            !drop.contains(id) || namespaces.values().any(|row| row.groups.contains(id))
        });
        if let Some((group, cluster)) = create {
            self.groups.insert(group, Group::new(cluster));
        }
    }
}

impl Group {
    fn new(cluster: ClusterId) -> Self {
        let hard = HardState::default();
        Self {
            cluster,
            hard,
            snapshot: None,
            floor: Index::ZERO,
            entries: Vec::new(),
            rotten: BTreeMap::new(),
        }
    }

    fn tail(&self) -> Index {
        self.entries.last().map_or(self.floor, |entry| entry.position.index)
    }

    fn write(&mut self, write: &Write) {
        if let Some(snapshot) = write.snapshot() {
            self.record(&snapshot.meta, snapshot.log);
        }
        for entry in write.repair() {
            let index = entry.position.index;
            assert!(index <= self.tail(), "a write repairs what is not there");
            if let Some(slot) = self.entries.iter_mut().find(|it| it.position.index == index) {
                *slot = entry.clone();
            }
            self.rotten.remove(&index);
        }
        if let Some(from) = write.truncate_from() {
            self.rotten.split_off(&from);
            assert!(from > self.floor, "a write truncates what a snapshot covers");
            self.entries.retain(|entry| entry.position.index < from);
        }
        for entry in &write.append {
            assert_eq!(entry.position.index, self.tail().next(), "a write leaves a gap");
            self.entries.push(entry.clone());
        }
        if let Some(hard) = write.hard {
            self.hard = hard;
        }
    }

    fn record(&mut self, snapshot: &SnapshotMeta, log: LogAfterSnapshot) {
        let covered = snapshot.position.index;
        if self.snapshot.as_ref().is_some_and(|old| covered < old.position.index) {
            return;
        }
        match log {
            LogAfterSnapshot::KeepFrom(first) if covered <= self.tail() => {
                self.floor = self.floor.max(first.previous().min(covered));
                let floor = self.floor;
                self.entries.retain(|entry| entry.position.index > floor);
            }
            _ => {
                self.entries.clear();
                self.floor = covered;
            }
        }
        let floor = self.floor;
        self.rotten.retain(|index, _| *index > floor);
        self.snapshot = Some(snapshot.clone());
    }

    fn damage(&self) -> Option<IndexRange> {
        let mut lost = self.rotten.iter().filter(|(_, seen)| **seen).map(|(index, _)| *index);
        let first = lost.next()?;
        let last = lost.next_back().unwrap_or(first);
        Some(IndexRange { first, last: if last == self.tail() { last.next() } else { last } })
    }

    fn opened(&self, group: GroupId) -> OpenedGroup {
        let mut terms: Vec<Position> = Vec::new();
        let mut configurations = Vec::new();
        let lost = |index: &Index| self.rotten.get(index) == Some(&true);
        let found = || self.entries.iter().filter(|entry| !lost(&entry.position.index));
        for entry in found() {
            let Position { term, index } = entry.position;
            if terms.last().is_none_or(|begin| begin.term != term) {
                // A log's terms reach down to its start, over what is lost too.
                let first = if terms.is_empty() { self.floor.next() } else { index };
                terms.push(Position::new(term, first));
            }
            if entry.kind == EntryKind::Configuration
                && let Ok(configuration) = Configuration::decode(&entry.bytes)
            {
                configurations.push((entry.position.index, configuration));
            }
        }
        let covered = self.snapshot.as_ref().map_or(Position::ZERO, |meta| meta.position);
        OpenedGroup {
            group,
            cluster: self.cluster,
            hard: self.hard,
            snapshot: self.snapshot.clone(),
            terms,
            configurations,
            last: found().last().map_or(covered, |entry| entry.position),
            damage: self.damage(),
        }
    }
}

//! Turns a batch of jobs into one staged transaction, and checks that the driver kept its promises.
//!
//! Jobs of one batch see the effect of those before them, although nothing is published yet: the
//! ends of the logs and the namespaces' rows are kept beside the catalog until then.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use meshraft_consensus::{
    ClusterId, Entry, Index, LogAfterSnapshot, Namespace, SnapshotWrite, Write,
};

use crate::{
    catalog::{Catalog, Step},
    error::WriteError,
    group::Group,
    namespace::{ListedGroup, NamespaceRow},
    row::Base,
    stage::Stage,
    types::{GroupId, Job, Ticket},
};

/// A job on its way to the disk. A write is shared with the readers until it is published.
#[derive(Clone, Debug)]
pub(crate) enum Queued {
    Log {
        ticket: Ticket,
        group: GroupId,
        write: Arc<Write>,
    },
    Record {
        ticket: Ticket,
        namespace: Namespace,
        record: Bytes,
        create: Option<(GroupId, ClusterId)>,
        drop: Vec<GroupId>,
    },
    Enter {
        ticket: Ticket,
        namespace: Namespace,
        record: Bytes,
        group: GroupId,
        write: Arc<Write>,
    },
}

impl From<Job> for Queued {
    fn from(job: Job) -> Self {
        match job {
            Job::Log { ticket, group, write } => {
                Self::Log { ticket, group, write: Arc::new(write) }
            }
            Job::Record { ticket, namespace, record, create, drop } => {
                Self::Record { ticket, namespace, record, create, drop }
            }
            Job::Enter { ticket, namespace, record, group, write } => {
                Self::Enter { ticket, namespace, record, group, write: Arc::new(write) }
            }
        }
    }
}

impl Queued {
    pub(crate) const fn ticket(&self) -> Ticket {
        match self {
            Self::Log { ticket, .. } | Self::Record { ticket, .. } | Self::Enter { ticket, .. } => {
                *ticket
            }
        }
    }

    /// What the job writes to the log of a group, if it does.
    pub(crate) const fn write(&self) -> Option<(GroupId, &Arc<Write>)> {
        match self {
            Self::Log { group, write, .. } | Self::Enter { group, write, .. } => {
                Some((*group, write))
            }
            Self::Record { .. } => None,
        }
    }

    /// The namespace whose record the job replaces, if it does.
    const fn namespace(&self) -> Option<&Namespace> {
        match self {
            Self::Record { namespace, .. } | Self::Enter { namespace, .. } => Some(namespace),
            Self::Log { .. } => None,
        }
    }

    /// What the job adds to a transaction, roughly.
    pub(crate) fn cost_bytes(&self) -> u64 {
        let entries = self.write().into_iter().flat_map(|(_, write)| {
            let entries = write.append.iter().chain(write.repair());
            entries.map(Entry::cost_bytes)
        });
        let record = match self {
            Self::Record { record, .. } | Self::Enter { record, .. } => record.len() as u64,
            Self::Log { .. } => 0,
        };
        entries.sum::<u64>().saturating_add(record)
    }
}

/// Where a group's log begins and ends, as of the jobs looked at so far.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ends {
    pub(crate) floor: Index,
    pub(crate) tail: Index,
    /// What the newest snapshot covers.
    snapshot: Index,
}

impl Ends {
    pub(crate) const ZERO: Self =
        Self { floor: Index::ZERO, tail: Index::ZERO, snapshot: Index::ZERO };

    pub(crate) fn of(group: &Group) -> Self {
        let snapshot = group.base.as_ref().map(|base| base.snapshot.position.index);
        Self { floor: group.floor(), tail: group.tail(), snapshot: snapshot.unwrap_or_default() }
    }

    /// Moves the ends as a snapshot does, and says what becomes of the log.
    pub(crate) fn record(&mut self, write: &SnapshotWrite) -> Recorded {
        let covered = write.meta.position.index;
        if covered < self.snapshot {
            return Recorded::Ignored;
        }
        self.snapshot = covered;
        match write.log {
            LogAfterSnapshot::KeepFrom(first) if covered <= self.tail => {
                self.floor = self.floor.max(first.previous().min(covered));
                Recorded::Kept
            }
            // A log that ends before the snapshot would leave a gap.
            LogAfterSnapshot::KeepFrom(_) | LogAfterSnapshot::Replace => {
                (self.floor, self.tail) = (covered, covered);
                Recorded::Replaced
            }
        }
    }
}

/// What a snapshot does to a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Recorded {
    /// Nothing; a newer one was recorded.
    Ignored,
    /// What follows on it stays.
    Kept,
    /// Nothing stays.
    Replaced,
}

/// What the jobs of a batch need to know, taken from the catalog under the lock.
#[derive(Debug)]
pub(crate) struct Batch {
    /// `None` for a group that does not exist.
    ends: BTreeMap<GroupId, Option<Ends>>,
    namespaces: BTreeMap<Namespace, NamespaceRow>,
    next_group: GroupId,
    created: bool,
}

impl Batch {
    /// Looks up what these jobs are about.
    pub(crate) fn new(catalog: &Catalog, jobs: &[Queued]) -> Self {
        let mut batch = Self {
            ends: BTreeMap::new(),
            namespaces: BTreeMap::new(),
            next_group: catalog.next_group,
            created: false,
        };
        for job in jobs {
            if let Some((group, _)) = job.write() {
                let ends = || catalog.groups.get(&group).map(Ends::of);
                batch.ends.entry(group).or_insert_with(ends);
            }
            if let Some(namespace) = job.namespace() {
                let row = || catalog.namespaces.get(namespace).cloned().unwrap_or_default();
                batch.namespaces.entry(namespace.clone()).or_insert_with(row);
            }
        }
        batch
    }

    /// Stages the jobs in order.
    pub(crate) fn stage(&mut self, jobs: &[Queued], stage: &mut Stage) -> Result<(), WriteError> {
        for job in jobs {
            match job {
                Queued::Log { group, write, .. } => self.log(*group, write, stage)?,
                Queued::Record { namespace, record, create, drop, .. } => {
                    self.record(namespace, record, *create, drop, stage)?;
                }
                Queued::Enter { namespace, record, group, write, .. } => {
                    self.record(namespace, record, None, &[], stage)?;
                    self.log(*group, write, stage)?;
                }
            }
        }
        stage.finish();
        Ok(())
    }

    /// The namespaces whose rows changed.
    pub(crate) fn replaced(&self) -> impl Iterator<Item = (&Namespace, &NamespaceRow)> {
        // Each was looked up because a job replaces it.
        self.namespaces.iter()
    }

    /// The group counter, if it moved.
    pub(crate) fn next_group(&self) -> Option<GroupId> {
        self.created.then_some(self.next_group)
    }

    fn log(&mut self, group: GroupId, write: &Write, stage: &mut Stage) -> Result<(), WriteError> {
        let Some(Some(ends)) = self.ends.get_mut(&group) else { return Ok(()) };
        if let Some(snapshot) = write.snapshot() {
            stage_snapshot(group, ends, snapshot, stage);
        }
        for entry in write.repair() {
            let index = entry.position.index;
            if index > ends.tail {
                return Err(WriteError::Gap { group, expected: ends.tail, found: index });
            }
            check_bytes(entry)?;
            if index > ends.floor {
                stage.repair(group, entry.position, entry.kind, &entry.bytes);
            }
        }
        let before = ends.tail;
        if let Some(from) = write.truncate_from() {
            if from <= ends.floor {
                return Err(WriteError::Gap { group, expected: ends.floor.next(), found: from });
            }
            ends.tail = ends.tail.min(from.previous());
        }
        for entry in &write.append {
            let (expected, found) = (ends.tail.next(), entry.position.index);
            if found != expected {
                return Err(WriteError::Gap { group, expected, found });
            }
            check_bytes(entry)?;
            stage.append(group, entry.position, entry.kind, &entry.bytes);
            ends.tail = found;
        }
        if !write.append.is_empty() || ends.tail != before {
            stage.tail(group, ends.tail);
        }
        if let Some(hard) = write.hard {
            stage.hard(group, hard);
        }
        Ok(())
    }

    fn record(
        &mut self,
        namespace: &Namespace,
        record: &Bytes,
        create: Option<(GroupId, ClusterId)>,
        drop: &[GroupId],
        stage: &mut Stage,
    ) -> Result<(), WriteError> {
        if record.len() > Job::RECORD_BYTES_MAX {
            return Err(WriteError::RecordTooLarge { bytes: record.len() });
        }
        let row = self.namespaces.entry(namespace.clone()).or_default();
        row.record = record.clone();
        row.groups.retain(|listed| {
            let dropped = drop.contains(&listed.group);
            if dropped {
                self.ends.insert(listed.group, None);
            }
            !dropped
        });
        if let Some((group, cluster)) = create {
            if group < self.next_group {
                return Err(WriteError::GroupReused { group, next: self.next_group });
            }
            (self.next_group, self.created) = (group.next(), true);
            row.groups.push(ListedGroup { group, cluster, born: stage.earliest_row() });
            self.ends.insert(group, Some(Ends::ZERO));
        }
        stage.namespace(Step::Namespace { namespace: namespace.clone(), row: row.clone() });
        Ok(())
    }
}

fn check_bytes(entry: &Entry) -> Result<(), WriteError> {
    let bytes = entry.bytes.len();
    u32::try_from(bytes).map_or(Err(WriteError::EntryTooLarge { bytes }), |_| Ok(()))
}

fn stage_snapshot(group: GroupId, ends: &mut Ends, snapshot: &SnapshotWrite, stage: &mut Stage) {
    match ends.record(snapshot) {
        Recorded::Ignored => return,
        Recorded::Kept => {}
        Recorded::Replaced => stage.tail(group, ends.tail),
    }
    stage.base(group, Base { floor: ends.floor, snapshot: snapshot.meta.clone() });
}

//! Decides which version of an entry a reader gets, and reads it beside the writer.
//!
//! What was submitted last wins over what was submitted before it, and that over what is durable; a
//! snapshot that was submitted moves the log's ends at once.
//! References and the snapshot of the file are taken under one lock, so the rows referred to are in
//! the snapshot, whatever the writer removes meanwhile.

use std::{
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use meshraft_consensus::{Entry, Index, IndexRange, LoadError, Position, Write};

use crate::{
    batch::{Ends, Recorded},
    disk::{ReadFault, Snapshot},
    row::{Place, Slot},
    store::{Shared, State},
    types::GroupId,
};

/// An entry as it was found under the lock.
enum Item {
    /// Submitted, not durable yet.
    Pending(Entry),
    /// In the file.
    Stored(Position, Slot),
}

impl Item {
    fn cost_bytes(&self) -> u64 {
        match self {
            Self::Pending(entry) => entry.cost_bytes(),
            Self::Stored(_, slot) => Entry::OVERHEAD_BYTES + u64::from(slot.bytes),
        }
    }
}

struct Plan {
    items: Vec<Item>,
    /// `None` if nothing is to be read from the file.
    snapshot: Option<Snapshot>,
}

/// See [`crate::Store::load`].
pub(crate) fn load(
    shared: &Shared,
    group: GroupId,
    range: IndexRange,
    bytes_max: u64,
) -> Result<Vec<Entry>, LoadError> {
    let plan = plan(&shared.lock(), group, range, bytes_max)?;
    let mut entries = Vec::with_capacity(plan.items.len());
    // A rotten file can make redb panic; the entry that was being read is then damaged.
    let read = catch_unwind(AssertUnwindSafe(|| read(group, &plan, &mut entries)));
    match read.unwrap_or(Err(ReadFault::Damaged)) {
        Ok(()) => Ok(entries),
        Err(_) if !entries.is_empty() => Ok(entries),
        Err(ReadFault::Damaged) => {
            Err(LoadError::Damaged(IndexRange { first: range.first, last: range.first }))
        }
        Err(ReadFault::Failed) => Err(LoadError::Failed),
    }
}

fn plan(
    state: &State,
    group: GroupId,
    range: IndexRange,
    bytes_max: u64,
) -> Result<Plan, LoadError> {
    let pending = Pending::new(state, group);
    let (mut items, mut bytes) = (Vec::new(), 0_u64);
    let mut index = range.first;
    while index <= range.last {
        let item = match locate(state, &pending, group, index, range.last) {
            Ok(item) => item,
            Err(error) if items.is_empty() => return Err(error),
            Err(_) => break,
        };
        bytes = bytes.saturating_add(item.cost_bytes());
        if bytes > bytes_max && !items.is_empty() {
            break;
        }
        items.push(item);
        index = index.next();
    }
    let stored = items.iter().any(|item| matches!(item, Item::Stored(..)));
    let snapshot = match &state.disk {
        Some(disk) if stored => Some(catch_unwind(AssertUnwindSafe(|| disk.snapshot()))),
        _ => None,
    };
    match snapshot {
        None if stored => Err(LoadError::Failed),
        None => Ok(Plan { items, snapshot: None }),
        Some(Ok(Ok(snapshot))) => Ok(Plan { items, snapshot: Some(snapshot) }),
        Some(_) => Err(LoadError::Failed),
    }
}

/// A group's log as of all that was submitted.
struct Pending<'a> {
    ends: Ends,
    writes: &'a VecDeque<Arc<Write>>,
    /// How many of the writes, and with them all that is durable, a snapshot replaced.
    replaced: usize,
}

impl<'a> Pending<'a> {
    fn new(state: &'a State, group: GroupId) -> Self {
        static NONE: VecDeque<Arc<Write>> = VecDeque::new();
        let ends = state.catalog.groups.get(&group).map_or(Ends::ZERO, Ends::of);
        let writes = state.pending.get(&group).unwrap_or(&NONE);
        let mut pending = Self { ends, writes, replaced: 0 };
        for (before, write) in writes.iter().enumerate() {
            let ends = &mut pending.ends;
            if let Some(snapshot) = write.snapshot()
                && ends.record(snapshot) == Recorded::Replaced
            {
                pending.replaced = before;
            }
            if let Some(from) = write.truncate_from() {
                ends.tail = ends.tail.min(from.previous());
            }
            if let Some(last) = write.append.last() {
                ends.tail = last.position.index;
            }
        }
        pending
    }

    /// The newest version of an entry between the ends, if it is not durable yet.
    fn entry(&self, index: Index) -> Option<&'a Entry> {
        self.writes.range(self.replaced..).rev().find_map(|write| {
            entry_of(&write.append, index).or_else(|| entry_of(write.repair(), index))
        })
    }
}

/// The entry at a slot, among entries that are contiguous.
fn entry_of(entries: &[Entry], index: Index) -> Option<&Entry> {
    let before = entries.first()?.position.index.previous();
    let place = usize::try_from(index.distance_from(before)).ok()?;
    entries.get(place.checked_sub(1)?)
}

fn locate(
    state: &State,
    pending: &Pending<'_>,
    id: GroupId,
    index: Index,
    last: Index,
) -> Result<Item, LoadError> {
    if index > pending.ends.tail {
        return Err(LoadError::Truncated);
    }
    if index <= pending.ends.floor {
        return Err(LoadError::Compacted);
    }
    if let Some(entry) = pending.entry(index) {
        return Ok(Item::Pending(entry.clone()));
    }
    let group = state.catalog.groups.get(&id).ok_or(LoadError::Truncated)?;
    if group.is_damaged(index) {
        let mut end = index;
        while end < last && group.is_damaged(end.next()) {
            end = end.next();
        }
        return Err(LoadError::Damaged(IndexRange { first: index, last: end }));
    }
    let slot = group.slot(index).ok_or(LoadError::Truncated)?;
    Ok(Item::Stored(Position::new(group.term_at(index), index), *slot))
}

fn read(group: GroupId, plan: &Plan, entries: &mut Vec<Entry>) -> Result<(), ReadFault> {
    let mut payloads = match &plan.snapshot {
        Some(snapshot) => Some(snapshot.payloads().map_err(|_| ReadFault::Failed)?),
        None => None,
    };
    let inline = plan.items.iter().map(|item| match item {
        Item::Stored(_, Slot { place: Place::Inline { .. }, bytes, .. }) => *bytes as usize,
        _ => 0,
    });
    if let Some(payloads) = &mut payloads {
        payloads.reserve(inline.sum());
    }
    for item in &plan.items {
        entries.push(match (item, &mut payloads) {
            (Item::Pending(entry), _) => entry.clone(),
            (Item::Stored(position, slot), Some(payloads)) => {
                payloads.entry(group, *position, slot)?
            }
            (Item::Stored(..), None) => return Err(ReadFault::Failed),
        });
    }
    Ok(())
}

//! Decides which version of an entry a reader gets, and reads it beside the writer.
//!
//! What was submitted last wins over what was submitted before it, and that over what is durable.
//! References and the snapshot of the file are taken under one lock, so the rows referred to are in
//! the snapshot, whatever the writer removes meanwhile.

use std::panic::{AssertUnwindSafe, catch_unwind};

use meshraft_consensus::{Entry, Index, IndexRange, LoadError, Position};

use crate::{
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
    let (mut items, mut bytes) = (Vec::new(), 0_u64);
    let mut index = range.first;
    while index <= range.last {
        let item = match locate(state, group, index, range.last) {
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

fn locate(state: &State, id: GroupId, index: Index, last: Index) -> Result<Item, LoadError> {
    for write in state.pending.get(&id).into_iter().flatten().rev() {
        if let Some(first) = write.append.first().map(|entry| entry.position.index)
            && index >= first
        {
            let offset = usize::try_from(index.distance_from(first)).unwrap_or(usize::MAX);
            let entry = write.append.get(offset).ok_or(LoadError::Truncated)?;
            return Ok(Item::Pending(entry.clone()));
        }
        if write.truncate_from.is_some_and(|from| index >= from) {
            return Err(LoadError::Truncated);
        }
    }
    let group = state.catalog.groups.get(&id).ok_or(LoadError::Truncated)?;
    if index <= group.floor() {
        return Err(LoadError::Compacted);
    }
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

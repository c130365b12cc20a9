//! Says of one namespace what an open of the store would find, while the store goes on.
//!
//! Invariants:
//! 1. The answer holds all that was submitted before, and all of it is durable.
//! 2. What can't be read counts as lost from then on, as after an open.

use std::{
    collections::BTreeMap,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{MutexGuard, PoisonError},
};

use meshraft_consensus::{Configuration, EntryKind, Index, Namespace, Position};

use crate::{
    catalog::Catalog,
    disk::{ReadFault, Snapshot},
    error::{DamagedPart, OpenError},
    group::slot_cost,
    row::Slot,
    store::{Shared, State},
    types::{GroupId, OpenedNamespace},
};

/// Where a configuration of a log lies.
struct Place {
    group: GroupId,
    position: Position,
    slot: Slot,
}

/// What the configurations of some logs are.
#[derive(Default)]
struct Found {
    sound: BTreeMap<GroupId, Vec<(Index, Configuration)>>,
    lost: Vec<Place>,
}

/// See [`crate::Store::reopen`].
pub(crate) fn reopen(
    shared: &Shared,
    namespace: &Namespace,
) -> Result<Option<OpenedNamespace>, OpenError> {
    let (places, snapshot) = {
        let state = settle(shared)?;
        let disk = state.disk.as_ref().ok_or(OpenError::Closed)?;
        // Under the same lock as the places, so that what they refer to is in it.
        (places(&state.catalog, namespace), catching(|| Ok(disk.snapshot()?))?)
    };
    let found = catching(|| read(&snapshot, places))?;
    let mut state = shared.lock();
    let catalog = &mut state.catalog;
    for Place { group, position, slot } in found.lost {
        let Some(group) = catalog.groups.get_mut(&group) else { continue };
        if group.slot(position.index) == Some(&slot) {
            group.lose(position.index);
            catalog.rows.release(slot.row, slot_cost(&slot));
        }
    }
    Ok(catalog.opened_namespace(namespace, &found.sound))
}

/// Waits until all that is submitted by now is durable.
fn settle(shared: &Shared) -> Result<MutexGuard<'_, State>, OpenError> {
    let mut state = shared.lock();
    let submitted = state.submitted;
    while state.durable < submitted {
        if state.stopped {
            return Err(OpenError::Closed);
        }
        state = shared.settled.wait(state).unwrap_or_else(PoisonError::into_inner);
    }
    if state.stopped { Err(OpenError::Closed) } else { Ok(state) }
}

/// A rotten file can make redb panic; that is a damaged file like any other.
fn catching<T>(read: impl FnOnce() -> Result<T, OpenError>) -> Result<T, OpenError> {
    catch_unwind(AssertUnwindSafe(read)).unwrap_or(Err(OpenError::Damaged(DamagedPart::File)))
}

fn places(catalog: &Catalog, namespace: &Namespace) -> Vec<Place> {
    let listed = catalog.namespaces.get(namespace).map_or(&[][..], |row| &row.groups);
    let groups = listed.iter().filter_map(|one| Some((one.group, catalog.groups.get(&one.group)?)));
    let places = groups.flat_map(|(id, group)| {
        let entries = group.entries().filter(|(index, slot)| {
            slot.kind == EntryKind::Configuration && !group.is_damaged(*index)
        });
        entries.map(move |(index, slot)| {
            let position = Position::new(group.term_at(index), index);
            Place { group: id, position, slot: *slot }
        })
    });
    places.collect()
}

fn read(snapshot: &Snapshot, places: Vec<Place>) -> Result<Found, OpenError> {
    let (mut payloads, mut found) = (snapshot.payloads()?, Found::default());
    for place in places {
        let entry = match payloads.entry(place.group, place.position, &place.slot) {
            Err(ReadFault::Failed) => {
                return Err(OpenError::Io(io::Error::other("a configuration can't be read")));
            }
            entry => entry.ok(),
        };
        match entry.and_then(|entry| Configuration::decode(&entry.bytes).ok()) {
            Some(configuration) => {
                let sound = found.sound.entry(place.group).or_default();
                sound.push((place.position.index, configuration));
            }
            None => found.lost.push(place),
        }
    }
    Ok(found)
}

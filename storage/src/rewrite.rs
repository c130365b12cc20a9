//! Moves what is live out of mostly dead rows, so that an idle group pins nothing but its own.
//!
//! Invariants:
//! 1. Only what is live moves, to a row with a higher key than any that is about the same thing,
//!    so "the last one wins" finds it.
//! 2. A payload is verified before it is copied; a row with a damaged one stays as it is.
//! 3. The work of one commit is bounded.

use std::{
    collections::BTreeSet,
    panic::{AssertUnwindSafe, catch_unwind},
};

use meshraft_consensus::{HardState, Index, Position};
use redb::AccessGuard;

use crate::{
    catalog::Catalog,
    disk::{Disk, Snapshot},
    row::{self, Base, Place, RowKey, Section, Slot},
    stage::{Payload, Stage},
    types::GroupId,
};

/// The most rows that one commit rewrites; less than a quarter of each is copied.
const ROWS_MAX: usize = 4;

/// Something live in a row that shall go.
enum Live {
    Entry { group: GroupId, position: Position, slot: Slot },
    Hard { group: GroupId, hard: HardState },
    Tail { group: GroupId, tail: Index },
    Base { group: GroupId, base: Base },
}

/// The rows to rewrite in the next commit.
pub(crate) fn choose(catalog: &Catalog) -> Vec<RowKey> {
    catalog.rows.sparse().take(ROWS_MAX).collect()
}

/// Stages what is live in these rows, and answers the rows that have to stay. `with` lends the
/// catalog, briefly.
pub(crate) fn carry(
    disk: &Disk,
    rows: &[RowKey],
    stage: &mut Stage,
    with: impl Fn(&mut dyn FnMut(&Catalog)),
) -> Result<Vec<RowKey>, redb::Error> {
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let snapshot = disk.snapshot()?;
    let mut stay = Vec::new();
    for row in rows {
        // A rotten file can make redb panic; such a row stays.
        let read = catch_unwind(AssertUnwindSafe(|| read(&snapshot, *row))).ok().flatten();
        let Some((value, sections)) = read else {
            stay.push(*row);
            continue;
        };
        let mut live = Vec::new();
        with(&mut |catalog| live = filter(catalog, *row, &sections));
        if live.iter().all(|one| is_sound(value.value(), one)) {
            live.into_iter().for_each(|one| put(stage, value.value(), one));
        } else {
            stay.push(*row);
        }
    }
    Ok(stay)
}

type Row = (AccessGuard<'static, &'static [u8]>, Vec<Section>);

fn read(snapshot: &Snapshot, row: RowKey) -> Option<Row> {
    let value = snapshot.row(row).ok()??;
    let sections = row::parse(row, value.value()).ok()?;
    Some((value, sections))
}

/// What of a row is live. State comes from the catalog, once, however often the row has it.
fn filter(catalog: &Catalog, row: RowKey, sections: &[Section]) -> Vec<Live> {
    let mut live = Vec::new();
    let (mut hard, mut tail, mut base) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for section in sections {
        let (Section::Entries { group: id, .. }
        | Section::Hard { group: id, .. }
        | Section::Tail { group: id, .. }
        | Section::Base { group: id, .. }) = section;
        let Some(group) = catalog.groups.get(id) else { continue };
        match section {
            Section::Entries { term, first, slots, .. } => {
                for (offset, slot) in (0..).zip(slots) {
                    let index = first.plus(offset);
                    if group.slot(index) == Some(slot) {
                        let position = Position::new(*term, index);
                        live.push(Live::Entry { group: *id, position, slot: *slot });
                    }
                }
            }
            Section::Hard { .. } if group.hard_row == Some(row) && hard.insert(*id) => {
                live.push(Live::Hard { group: *id, hard: group.hard });
            }
            Section::Tail { .. } if group.tail_row == Some(row) && tail.insert(*id) => {
                live.push(Live::Tail { group: *id, tail: group.tail() });
            }
            Section::Base { .. } if group.base_row == Some(row) && base.insert(*id) => {
                live.extend(group.base.clone().map(|base| Live::Base { group: *id, base }));
            }
            _ => {}
        }
    }
    live
}

fn payload<'a>(value: &'a [u8], slot: &Slot) -> Option<&'a [u8]> {
    match slot.place {
        Place::Inline { offset } => value.get(offset as usize..)?.get(..slot.bytes as usize),
        Place::Own { .. } => None,
    }
}

fn is_sound(value: &[u8], live: &Live) -> bool {
    match live {
        Live::Entry { group, position, slot } => match slot.place {
            Place::Own { .. } => true,
            Place::Inline { .. } => payload(value, slot).is_some_and(|payload| {
                row::entry_checksum(*group, *position, slot.kind, payload) == slot.checksum
            }),
        },
        _ => true,
    }
}

fn put(stage: &mut Stage, value: &[u8], live: Live) {
    match live {
        Live::Entry { group, position, slot } => {
            let payload = match payload(value, &slot) {
                Some(bytes) => Payload::Moved { bytes, checksum: slot.checksum },
                None => Payload::Own(slot),
            };
            stage.carry(group, position, slot.kind, payload);
        }
        Live::Hard { group, hard } => stage.hard(group, hard),
        Live::Tail { group, tail } => stage.tail(group, tail),
        Live::Base { group, base } => stage.base(group, base),
    }
}

//! Decides what a store holds, from the rows alone: the catalog, and what a driver is told.
//!
//! Every directory is read once; payloads are neither decoded nor checked, but for those of
//! configurations. redb's commits are atomic, so a row is there or not: a directory or a
//! configuration that fails its checksum is damage, never the torn end of a write, and nothing is
//! dropped because of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    panic::{AssertUnwindSafe, catch_unwind},
};

use meshraft_consensus::{Configuration, EntryKind, HardState, Index, Position, Term};

use crate::{
    catalog::Catalog,
    disk::{Disk, Snapshot},
    error::{DamagedPart, OpenError},
    group::Group,
    namespace::{NamespaceRow, decode_next_group},
    row::{self, Base, Place, RowError, RowKey, Section, Slot},
    rows::Rows,
    types::{GroupId, Opened},
};

/// More rows than are ever dropped between two that are left.
const NAMELESS_GAP: u64 = 1 << 32;

/// Reads the whole store.
pub(crate) fn rebuild(disk: &Disk) -> Result<(Catalog, Opened), OpenError> {
    // A rotten file can make redb panic; that is a damaged file like any other.
    catch_unwind(AssertUnwindSafe(|| read(disk)))
        .unwrap_or(Err(OpenError::Damaged(DamagedPart::File)))
}

fn read(disk: &Disk) -> Result<(Catalog, Opened), OpenError> {
    let snapshot = disk.snapshot()?;
    let mut catalog = read_namespaces(&snapshot)?;
    let mut scan = Scan::new();
    if !snapshot.rows(|key, value| scan.row(key, value))? || scan.disordered {
        return Err(OpenError::Damaged(DamagedPart::File));
    }
    scan.end();
    if let Some((row, version)) = scan.unknown_version {
        let part = DamagedPart::Row { row: row.get() };
        return Err(OpenError::UnknownVersion { part, version });
    }
    for (id, group) in &mut catalog.groups {
        for (before, groups) in &scan.unreadable {
            if groups.as_ref().is_none_or(|groups| groups.contains(id)) {
                group.set_doubt(*before);
            }
        }
        scan.groups.remove(id).unwrap_or_default().restore(group);
    }
    let configurations = read_configurations(&snapshot, &mut catalog)?;
    if let Some(before) = scan.unreadable.iter().map(|(before, _)| *before).max() {
        tracing::warn!(rows = scan.unreadable.len(), "unreadable rows found");
        catalog.rows.keep_before(before);
    }
    // A group may have been born after rows that are gone: below that key its rows would be taken
    // for somebody else's.
    let born = catalog.groups.values().map(|group| group.born).max();
    catalog.next_row = scan.next.max(snapshot.after_pieces()?).max(born.unwrap_or(RowKey::FIRST));
    count(&mut catalog, scan);
    let opened = catalog.opened(&configurations);
    Ok((catalog, opened))
}

fn read_namespaces(snapshot: &Snapshot) -> Result<Catalog, OpenError> {
    let next_group = match snapshot.next_group()? {
        None => GroupId::FIRST,
        Some(value) => {
            decode_next_group(&value).ok_or(OpenError::Damaged(DamagedPart::NextGroup))?
        }
    };
    let mut catalog = Catalog {
        namespaces: BTreeMap::new(),
        groups: BTreeMap::new(),
        rows: Rows::default(),
        next_group,
        next_row: RowKey::FIRST,
    };
    let rows = snapshot.namespaces()?.ok_or(OpenError::Damaged(DamagedPart::File))?;
    for (name, value) in rows {
        let (namespace, row) = NamespaceRow::decode(&name, &value).map_err(|error| {
            let part = DamagedPart::Namespace { name: String::from_utf8_lossy(&name).into_owned() };
            match error {
                RowError::Damaged => OpenError::Damaged(part),
                RowError::Version(version) => OpenError::UnknownVersion { part, version },
            }
        })?;
        for listed in &row.groups {
            if listed.group >= next_group {
                return Err(OpenError::Damaged(DamagedPart::NextGroup));
            }
            catalog.groups.insert(listed.group, Group::new(listed));
        }
        catalog.namespaces.insert(namespace, row);
    }
    Ok(catalog)
}

/// What the rows say, as far as they were read.
struct Scan {
    groups: BTreeMap<GroupId, Found>,
    /// The length of every row that can be read.
    rows: Vec<(RowKey, u64)>,
    /// For each row that can't be read: a key after its own, and whom it is about, if its trailer
    /// can be read.
    unreadable: Vec<(RowKey, Option<BTreeSet<GroupId>>)>,
    /// How many rows without a key that can be trusted were met since the last sound one.
    nameless: usize,
    /// Whether sound rows lie in another order than that of their keys.
    disordered: bool,
    unknown_version: Option<(RowKey, u8)>,
    /// Every piece that any row refers to.
    pieces: BTreeSet<RowKey>,
    next: RowKey,
}

/// The newest of everything about one group.
#[derive(Default)]
struct Found {
    /// Every version of every entry, in the order of the rows.
    entries: Vec<(Index, Term, Slot)>,
    hard: Option<(RowKey, HardState)>,
    tail: Option<(RowKey, Index)>,
    base: Option<(RowKey, Base)>,
}

impl Scan {
    const fn new() -> Self {
        Self {
            groups: BTreeMap::new(),
            rows: Vec::new(),
            unreadable: Vec::new(),
            nameless: 0,
            disordered: false,
            unknown_version: None,
            pieces: BTreeSet::new(),
            next: RowKey::FIRST,
        }
    }

    fn row(&mut self, key: RowKey, value: &[u8]) {
        match row::parse(key, value) {
            Ok(sections) => {
                self.pass(key);
                self.rows.push((key, value.len() as u64));
                sections.into_iter().for_each(|section| self.section(key, section));
            }
            Err(RowError::Version(version)) => {
                self.pass(key);
                self.unknown_version = Some((key, version));
            }
            Err(RowError::Damaged) => match row::parse_trailer(key, value) {
                Some(groups) => {
                    self.pass(key);
                    self.unreadable.push((key.plus(1), Some(groups)));
                }
                // The key may be what rotted.
                None => self.nameless += 1,
            },
        }
    }

    /// A row whose key is proven by a checksum: rows that were met before have lower keys.
    fn pass(&mut self, key: RowKey) {
        self.disordered |= key < self.next;
        self.bound_unreadable(key);
        self.next = key.plus(1);
    }

    /// A row at the end whose key can't be trusted has one somewhat after those that can.
    fn end(&mut self) {
        if self.nameless > 0 {
            self.next = self.next.plus(NAMELESS_GAP);
            self.bound_unreadable(self.next);
        }
    }

    fn bound_unreadable(&mut self, before: RowKey) {
        self.unreadable.extend((0..self.nameless).map(|_| (before, None)));
        self.nameless = 0;
    }

    fn section(&mut self, row: RowKey, section: Section) {
        match section {
            Section::Entries { group, term, first, slots } => {
                let found = self.groups.entry(group).or_default();
                for (offset, slot) in (0..).zip(slots) {
                    if let Place::Own { .. } = slot.place {
                        self.pieces.extend(slot.pieces());
                    }
                    found.entries.push((first.plus(offset), term, slot));
                }
            }
            Section::Hard { group, hard } => {
                self.groups.entry(group).or_default().hard = Some((row, hard));
            }
            Section::Tail { group, tail } => {
                self.groups.entry(group).or_default().tail = Some((row, tail));
            }
            Section::Base { group, base } => {
                self.groups.entry(group).or_default().base = Some((row, base));
            }
        }
    }
}

impl Found {
    fn restore(self, group: &mut Group) {
        let floor = self.base.as_ref().map_or(Index::ZERO, |(_, base)| base.floor);
        let tail = self.tail.map_or(floor, |(_, tail)| tail.max(floor));
        let mut entries = self.entries;
        // Stable, so that the last version of an entry stays the last; logs are nearly in order.
        entries.sort_by_key(|(index, ..)| *index);
        let mut newest: Vec<(Index, Term, Slot)> = Vec::with_capacity(entries.len());
        for entry in entries {
            match newest.last_mut() {
                Some(last) if last.0 == entry.0 => *last = entry,
                _ => newest.push(entry),
            }
        }
        group.restore(floor, tail, &newest);
        if let Some((row, hard)) = self.hard {
            (group.hard_row, group.hard) = (Some(row), hard);
        }
        group.tail_row = self.tail.map(|(row, _)| row);
        if let Some((row, base)) = self.base {
            (group.base_row, group.base) = (Some(row), Some(base));
        }
    }
}

/// Reads the configurations of every log; one that fails its checksum is lost.
fn read_configurations(
    snapshot: &Snapshot,
    catalog: &mut Catalog,
) -> Result<BTreeMap<GroupId, Vec<(Index, Configuration)>>, OpenError> {
    let mut payloads = snapshot.payloads()?;
    let mut all = BTreeMap::new();
    for (id, group) in &mut catalog.groups {
        let (mut sound, mut lost) = (Vec::new(), Vec::new());
        for (index, slot) in group.entries() {
            if slot.kind != EntryKind::Configuration || group.is_damaged(index) {
                continue;
            }
            let position = Position::new(group.term_at(index), index);
            let entry = payloads.entry(*id, position, slot).ok();
            match entry.and_then(|entry| Configuration::decode(&entry.bytes).ok()) {
                Some(configuration) => sound.push((index, configuration)),
                None => lost.push(index),
            }
        }
        for index in lost {
            group.lose(index);
        }
        all.insert(*id, sound);
    }
    Ok(all)
}

/// Settles which rows and pieces are live.
fn count(catalog: &mut Catalog, scan: Scan) {
    let mut dead_pieces = scan.pieces;
    for group in catalog.groups.values() {
        group.acquire_all(&mut catalog.rows);
        for (_, slot) in group.entries() {
            for piece in slot.pieces() {
                dead_pieces.remove(&piece);
            }
        }
    }
    catalog.rows.add_dead_pieces(dead_pieces);
    scan.rows.into_iter().for_each(|(row, bytes)| catalog.rows.add(row, bytes));
}

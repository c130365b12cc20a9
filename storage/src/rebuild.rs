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
    snapshot.rows(|key, value| scan.row(key, value))?;
    if let Some((row, version)) = scan.unknown_version {
        let part = DamagedPart::Row { row: row.get() };
        return Err(OpenError::UnknownVersion { part, version });
    }
    for (id, group) in &mut catalog.groups {
        scan.groups.remove(id).unwrap_or_default().restore(group);
        for (row, groups) in &scan.unreadable {
            if groups.as_ref().is_none_or(|groups| groups.contains(id)) {
                group.set_doubt(*row);
            }
        }
    }
    let configurations = read_configurations(&snapshot, &mut catalog)?;
    if let Some(row) = scan.unreadable.keys().next_back() {
        catalog.rows.keep_before(*row);
    }
    catalog.next_row = scan.next.max(snapshot.after_pieces()?);
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
    for (name, value) in snapshot.namespaces()? {
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
    /// Rows that can't be read, and whom they are about, if that can be read.
    unreadable: BTreeMap<RowKey, Option<BTreeSet<GroupId>>>,
    unknown_version: Option<(RowKey, u8)>,
    /// Every piece that any row refers to.
    pieces: BTreeSet<RowKey>,
    next: RowKey,
}

/// The newest of everything about one group.
#[derive(Default)]
struct Found {
    entries: BTreeMap<Index, (Term, Slot)>,
    hard: Option<(RowKey, HardState)>,
    tail: Option<(RowKey, Index)>,
    base: Option<(RowKey, Base)>,
}

impl Scan {
    const fn new() -> Self {
        Self {
            groups: BTreeMap::new(),
            rows: Vec::new(),
            unreadable: BTreeMap::new(),
            unknown_version: None,
            pieces: BTreeSet::new(),
            next: RowKey::FIRST,
        }
    }

    fn row(&mut self, key: RowKey, value: &[u8]) {
        self.next = key.plus(1);
        match row::parse(key, value) {
            Ok(sections) => {
                self.rows.push((key, value.len() as u64));
                sections.into_iter().for_each(|section| self.section(key, section));
            }
            Err(RowError::Damaged) => {
                self.unreadable.insert(key, row::parse_trailer(key, value));
            }
            Err(RowError::Version(version)) => self.unknown_version = Some((key, version)),
        }
    }

    fn section(&mut self, row: RowKey, section: Section) {
        match section {
            Section::Entries { group, term, first, slots } => {
                let found = self.groups.entry(group).or_default();
                for (offset, slot) in (0..).zip(slots) {
                    if let Place::Own { .. } = slot.place {
                        self.pieces.extend(slot.pieces());
                    }
                    found.entries.insert(first.plus(offset), (term, slot));
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
        let entries: Vec<(Index, Term, Slot)> = self
            .entries
            .range(floor.next()..)
            .take_while(|(index, _)| **index <= tail)
            .map(|(index, (term, slot))| (*index, *term, *slot))
            .collect();
        group.restore(floor, tail, &entries);
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
        lost.into_iter().for_each(|index| group.lose(index));
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

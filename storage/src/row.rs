//! Decides what the bytes of an inbox row are; `docs/storage-format.md` draws them.
//!
//! A row is a header, a directory, the payloads and a trailer. The directory is a list of sections,
//! each about one group, and carries one checksum together with the row's key. Each entry's payload
//! carries a checksum of its own, over the entry's identity too, so that a payload can't be taken
//! for another's. The trailer names the groups once more, so that a damaged directory casts doubt
//! on those alone.
//!
//! What a reader must do with sections: rows in the order of their keys, sections in their order;
//! for each slot the last entry wins, for hard state, tail and base the last section wins; then
//! slots outside (base, tail] are dead. All integers are big-endian.

use std::collections::BTreeSet;

use bytes::{Buf, BufMut, TryGetError};
use meshraft_consensus::{
    Configuration, EntryKind, HardState, Incarnation, Index, Member, NodeId, Position,
    SnapshotMeta, Term,
};

use crate::types::GroupId;

/// Version of every row that this release writes.
pub(crate) const ROW_VERSION: u8 = 1;
/// Version, three zero bytes, directory length, checksum.
pub(crate) const HEADER_BYTES: usize = 12;
/// Rows are cut here: just below 16 pages of redb, which rounds values up to a power of two.
pub(crate) const ROW_BYTES_MAX: usize = 64 * 1024 - 256;
/// A longer payload gets rows of its own, so that cut rows are at least half full.
pub(crate) const INLINE_BYTES_MAX: usize = 32 * 1024;
/// Payloads with rows of their own are cut into pieces of this length.
pub(crate) const PIECE_BYTES: usize = ROW_BYTES_MAX;

/// Count and checksum of the trailer.
pub(crate) const TRAILER_BYTES: usize = 4 + 4;
/// One group in the trailer.
pub(crate) const TRAILER_GROUP_BYTES: usize = 8;

const KIND_BYTES: usize = 1 + 8;
/// Section kind, group, term, first slot, count.
pub(crate) const ENTRIES_BYTES: usize = KIND_BYTES + 8 + 8 + 4;
/// Kind, length, checksum of one entry.
pub(crate) const RECORD_BYTES: usize = 1 + 4 + 4;
/// The key of the first piece, for a payload with rows of its own.
pub(crate) const OWN_BYTES: usize = 8;
/// Section kind, group, term, commit hint, vote flag, vote.
pub(crate) const HARD_BYTES: usize = KIND_BYTES + 8 + 8 + 1 + 48;
/// Section kind, group, slot.
pub(crate) const TAIL_BYTES: usize = KIND_BYTES + 8;
/// Section kind, group, floor, position, slot and length of the configuration.
pub(crate) const BASE_BYTES: usize = KIND_BYTES + 8 + 16 + 8 + 4;

const SECTION_ENTRIES: u8 = 1;
const SECTION_HARD: u8 = 2;
const SECTION_TAIL: u8 = 3;
const SECTION_BASE: u8 = 4;
const OWN_ROWS: u8 = 0x80;

/// The key of a row of the inbox, or of a piece of a payload; one ascending sequence for both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct RowKey(u64);

impl RowKey {
    pub(crate) const FIRST: Self = Self(1);

    pub(crate) const fn new(number: u64) -> Self {
        Self(number)
    }

    pub(crate) const fn get(self) -> u64 {
        self.0
    }

    /// The key `count` later. Keys are never used up: 2^64 rows outlast any disk.
    pub(crate) const fn plus(self, count: u64) -> Self {
        Self(self.0.saturating_add(count))
    }
}

/// Where one entry lies, and what proves that its payload is what was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Slot {
    /// The row whose directory lists the entry.
    pub(crate) row: RowKey,
    pub(crate) kind: EntryKind,
    /// Length of the payload.
    pub(crate) bytes: u32,
    /// See [`entry_checksum`].
    pub(crate) checksum: u32,
    pub(crate) place: Place,
}

/// Where a payload lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// In the row, from this byte on.
    Inline { offset: u32 },
    /// In pieces with ascending keys from this one on.
    Own { first: RowKey },
}

impl Slot {
    /// The keys of the payload's pieces; none if it lies in the row.
    pub(crate) fn pieces(&self) -> impl Iterator<Item = RowKey> + use<> {
        let (first, count) = match self.place {
            Place::Inline { .. } => (RowKey::FIRST, 0),
            Place::Own { first } => (first, pieces_of(self.bytes as usize)),
        };
        (0..count).map(move |piece| first.plus(piece))
    }
}

/// How many pieces a payload with rows of its own has.
pub(crate) const fn pieces_of(bytes: usize) -> u64 {
    bytes.div_ceil(PIECE_BYTES) as u64
}

/// The newest snapshot of a group and where its log begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Base {
    /// The last slot that was dropped; the log begins after it.
    pub(crate) floor: Index,
    pub(crate) snapshot: SnapshotMeta,
}

/// What a directory says about one group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Section {
    /// Entries of one term, from `first` on.
    Entries { group: GroupId, term: Term, first: Index, slots: Vec<Slot> },
    /// Term, vote and commit hint.
    Hard { group: GroupId, hard: HardState },
    /// The last slot of the log.
    Tail { group: GroupId, tail: Index },
    /// The snapshot and where the log begins.
    Base { group: GroupId, base: Base },
}

/// Why a row can't be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RowError {
    /// Its directory fails the checksum, or is not what its checksum promises.
    Damaged,
    /// It is sound, and of a version that this release does not know.
    Version(u8),
}

impl From<TryGetError> for RowError {
    fn from(_: TryGetError) -> Self {
        Self::Damaged
    }
}

/// The checksum of an entry: its identity and its payload.
pub(crate) fn entry_checksum(
    group: GroupId,
    position: Position,
    kind: EntryKind,
    payload: &[u8],
) -> u32 {
    let mut identity = [0; 25];
    let mut rest = &mut identity[..];
    rest.put_u64(group.get());
    rest.put_u64(position.term.get());
    rest.put_u64(position.index.get());
    rest.put_u8(kind_number(kind));
    crc32c::crc32c_append(crc32c::crc32c(&identity), payload)
}

/// The header of a row.
pub(crate) fn header(key: RowKey, directory: &[u8]) -> [u8; HEADER_BYTES] {
    let length = u32::try_from(directory.len()).unwrap_or(u32::MAX);
    let mut header = [0; HEADER_BYTES];
    header[0] = ROW_VERSION;
    header[4..8].copy_from_slice(&length.to_be_bytes());
    let checksum = directory_checksum(key, &header, directory);
    header[8..].copy_from_slice(&checksum.to_be_bytes());
    header
}

fn directory_checksum(key: RowKey, header: &[u8; HEADER_BYTES], directory: &[u8]) -> u32 {
    let checksum = crc32c::crc32c(&key.get().to_be_bytes());
    crc32c::crc32c_append(crc32c::crc32c_append(checksum, &header[..8]), directory)
}

/// The trailer of a row: the groups that its directory is about.
pub(crate) fn put_trailer(out: &mut Vec<u8>, key: RowKey, groups: &BTreeSet<GroupId>) {
    let start = out.len();
    groups.iter().for_each(|group| out.put_u64(group.get()));
    out.put_u32(u32::try_from(groups.len()).unwrap_or(u32::MAX));
    let checksum = crc32c::crc32c(&key.get().to_be_bytes());
    out.put_u32(crc32c::crc32c_append(checksum, &out[start..]));
}

/// Which groups a row is about, by its trailer alone; `None` if that is damaged too.
pub(crate) fn parse_trailer(key: RowKey, value: &[u8]) -> Option<BTreeSet<GroupId>> {
    let (rest, checksum) = value.split_last_chunk::<4>()?;
    let (_, count) = rest.split_last_chunk::<4>()?;
    let count = u32::from_be_bytes(*count) as usize;
    let bytes = count.checked_mul(TRAILER_GROUP_BYTES)?.checked_add(4)?;
    let mut trailer = rest.get(rest.len().checked_sub(bytes)?..)?;
    let expected = crc32c::crc32c_append(crc32c::crc32c(&key.get().to_be_bytes()), trailer);
    if u32::from_be_bytes(*checksum) != expected {
        return None;
    }
    Some((0..count).map(|_| GroupId::new(trailer.get_u64())).collect())
}

/// Begins a section of entries; answers where its count is to be put by [`set_count`].
pub(crate) fn put_entries(out: &mut Vec<u8>, group: GroupId, term: Term, first: Index) -> usize {
    out.put_u8(SECTION_ENTRIES);
    out.put_u64(group.get());
    out.put_u64(term.get());
    out.put_u64(first.get());
    let count_at = out.len();
    out.put_u32(0);
    count_at
}

/// Closes a section of entries.
pub(crate) fn set_count(out: &mut [u8], count_at: usize, count: u32) {
    out[count_at..count_at + 4].copy_from_slice(&count.to_be_bytes());
}

/// One entry of the section begun last.
pub(crate) fn put_record(out: &mut Vec<u8>, slot: &Slot) {
    let number = kind_number(slot.kind);
    match slot.place {
        Place::Inline { .. } => out.put_u8(number),
        Place::Own { .. } => out.put_u8(number | OWN_ROWS),
    }
    out.put_u32(slot.bytes);
    out.put_u32(slot.checksum);
    if let Place::Own { first } = slot.place {
        out.put_u64(first.get());
    }
}

pub(crate) fn put_hard(out: &mut Vec<u8>, group: GroupId, hard: &HardState) {
    out.put_u8(SECTION_HARD);
    out.put_u64(group.get());
    out.put_u64(hard.term.get());
    out.put_u64(hard.commit_hint.get());
    out.put_u8(u8::from(hard.vote.is_some()));
    if let Some(vote) = &hard.vote {
        out.put_slice(vote.node.as_bytes());
        out.put_slice(vote.incarnation.as_bytes());
    }
}

pub(crate) fn put_tail(out: &mut Vec<u8>, group: GroupId, tail: Index) {
    out.put_u8(SECTION_TAIL);
    out.put_u64(group.get());
    out.put_u64(tail.get());
}

pub(crate) fn put_base(out: &mut Vec<u8>, group: GroupId, base: &Base, configuration: &[u8]) {
    out.put_u8(SECTION_BASE);
    out.put_u64(group.get());
    out.put_u64(base.floor.get());
    out.put_u64(base.snapshot.position.term.get());
    out.put_u64(base.snapshot.position.index.get());
    out.put_u64(base.snapshot.configuration_index.get());
    out.put_u32(u32::try_from(configuration.len()).unwrap_or(u32::MAX));
    out.put_slice(configuration);
}

/// Reads the directory of a row. Payloads are neither decoded nor checked.
pub(crate) fn parse(key: RowKey, value: &[u8]) -> Result<Vec<Section>, RowError> {
    let (header, rest) = value.split_first_chunk::<HEADER_BYTES>().ok_or(RowError::Damaged)?;
    let mut fields = &header[4..];
    let (length, checksum) = (fields.get_u32() as usize, fields.get_u32());
    let mut directory = rest.get(..length).ok_or(RowError::Damaged)?;
    if directory_checksum(key, header, directory) != checksum {
        return Err(RowError::Damaged);
    }
    if header[..4] != [ROW_VERSION, 0, 0, 0] {
        return Err(RowError::Version(header[0]));
    }
    let mut sections = Vec::new();
    let mut payloads = Payloads { next: HEADER_BYTES + length, end: value.len() };
    while directory.has_remaining() {
        sections.push(parse_section(key, &mut directory, &mut payloads)?);
    }
    Ok(sections)
}

/// Walks the payloads in step with the records, so that no offset need be stored.
struct Payloads {
    next: usize,
    end: usize,
}

impl Payloads {
    fn take(&mut self, bytes: u32) -> Result<u32, RowError> {
        let offset = u32::try_from(self.next).map_err(|_| RowError::Damaged)?;
        self.next = self.next.saturating_add(bytes as usize);
        if self.next > self.end { Err(RowError::Damaged) } else { Ok(offset) }
    }
}

fn parse_section(
    key: RowKey,
    input: &mut &[u8],
    payloads: &mut Payloads,
) -> Result<Section, RowError> {
    let kind = input.try_get_u8()?;
    let group = GroupId::new(input.try_get_u64()?);
    match kind {
        SECTION_ENTRIES => {
            let term = Term::new(input.try_get_u64()?);
            let first = Index::new(input.try_get_u64()?);
            let count = input.try_get_u32()? as usize;
            // The count is bounded by what is there before anything is allocated.
            if count > input.remaining() / RECORD_BYTES {
                return Err(RowError::Damaged);
            }
            let slots = (0..count).map(|_| parse_record(key, input, payloads));
            Ok(Section::Entries { group, term, first, slots: slots.collect::<Result<_, _>>()? })
        }
        SECTION_HARD => Ok(Section::Hard { group, hard: parse_hard(input)? }),
        SECTION_TAIL => Ok(Section::Tail { group, tail: Index::new(input.try_get_u64()?) }),
        SECTION_BASE => Ok(Section::Base { group, base: parse_base(input)? }),
        _ => Err(RowError::Damaged),
    }
}

fn parse_record(row: RowKey, input: &mut &[u8], payloads: &mut Payloads) -> Result<Slot, RowError> {
    let number = input.try_get_u8()?;
    let (bytes, checksum) = (input.try_get_u32()?, input.try_get_u32()?);
    let place = if number & OWN_ROWS == 0 {
        Place::Inline { offset: payloads.take(bytes)? }
    } else {
        Place::Own { first: RowKey::new(input.try_get_u64()?) }
    };
    Ok(Slot { row, kind: kind_of(number & !OWN_ROWS)?, bytes, checksum, place })
}

fn parse_hard(input: &mut &[u8]) -> Result<HardState, RowError> {
    let term = Term::new(input.try_get_u64()?);
    let commit_hint = Index::new(input.try_get_u64()?);
    let vote = match input.try_get_u8()? {
        0 => None,
        1 => {
            let (mut node, mut incarnation) = ([0; 32], [0; 16]);
            input.try_copy_to_slice(&mut node)?;
            input.try_copy_to_slice(&mut incarnation)?;
            Some(Member::new(NodeId::new(node), Incarnation::new(incarnation)))
        }
        _ => return Err(RowError::Damaged),
    };
    Ok(HardState { term, vote, commit_hint })
}

fn parse_base(input: &mut &[u8]) -> Result<Base, RowError> {
    let floor = Index::new(input.try_get_u64()?);
    let term = Term::new(input.try_get_u64()?);
    let position = Position::new(term, Index::new(input.try_get_u64()?));
    let configuration_index = Index::new(input.try_get_u64()?);
    let bytes = input.try_get_u32()? as usize;
    let encoded = input.get(..bytes).ok_or(RowError::Damaged)?;
    let configuration = Configuration::decode(encoded).map_err(|_| RowError::Damaged)?;
    input.advance(bytes);
    Ok(Base { floor, snapshot: SnapshotMeta { position, configuration, configuration_index } })
}

const fn kind_number(kind: EntryKind) -> u8 {
    match kind {
        EntryKind::Noop => 0,
        EntryKind::Configuration => 1,
        EntryKind::Abandon => 2,
        EntryKind::Command => 3,
    }
}

const fn kind_of(number: u8) -> Result<EntryKind, RowError> {
    match number {
        0 => Ok(EntryKind::Noop),
        1 => Ok(EntryKind::Configuration),
        2 => Ok(EntryKind::Abandon),
        3 => Ok(EntryKind::Command),
        _ => Err(RowError::Damaged),
    }
}

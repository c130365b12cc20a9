//! Lays rows out for one transaction: a pure value, filled in order, that the disk then writes.
//!
//! Every directory and every payload goes into one buffer each, so staging allocates nothing per
//! entry; both are reused from transaction to transaction. A row is cut when the next piece would
//! take it over [`ROW_BYTES_MAX`]; a single piece that is larger stands alone.

use std::{collections::BTreeSet, ops::Range};

use bytes::Bytes;
use meshraft_consensus::{EntryKind, HardState, Index, Position, Term};

use crate::{
    catalog::Step,
    row::{
        self, BASE_BYTES, Base, ENTRIES_BYTES, HARD_BYTES, HEADER_BYTES, INLINE_BYTES_MAX,
        OWN_BYTES, Place, RECORD_BYTES, ROW_BYTES_MAX, RowKey, Slot, TAIL_BYTES, TRAILER_BYTES,
        TRAILER_GROUP_BYTES,
    },
    types::GroupId,
};

/// One row, as ranges of the stage's buffers.
#[derive(Debug)]
pub(crate) struct StagedRow {
    pub(crate) key: RowKey,
    pub(crate) header: [u8; HEADER_BYTES],
    pub(crate) directory: Range<usize>,
    /// Payloads, then the trailer.
    pub(crate) payloads: Range<usize>,
}

impl StagedRow {
    pub(crate) fn bytes(&self) -> usize {
        HEADER_BYTES + self.directory.len() + self.payloads.len()
    }
}

/// The row that is being filled.
#[derive(Debug)]
struct OpenRow {
    key: RowKey,
    directory: usize,
    payloads: usize,
    slots: usize,
    groups: BTreeSet<GroupId>,
}

/// The section of entries that is being filled.
#[derive(Debug)]
struct Run {
    group: GroupId,
    term: Term,
    first: Index,
    slots: usize,
    count_at: usize,
    way: Way,
}

/// How entries come into a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// At the end of their log.
    Append,
    /// In the place of what can't be read.
    Repair,
    /// Moved from another row.
    Carry,
}

/// An entry whose payload lies where it shall stay, or comes along.
pub(crate) enum Payload<'a> {
    /// A new payload.
    New(&'a Bytes),
    /// One that is moved from another row with this checksum.
    Moved { bytes: &'a [u8], checksum: u32 },
    /// One that has rows of its own already.
    Own(Slot),
}

/// The rows of one transaction, and what they change in the catalog.
#[derive(Debug)]
pub(crate) struct Stage {
    next: RowKey,
    pub(crate) directory: Vec<u8>,
    pub(crate) payloads: Vec<u8>,
    pub(crate) rows: Vec<StagedRow>,
    pub(crate) own: Vec<(RowKey, Bytes)>,
    pub(crate) slots: Vec<Slot>,
    pub(crate) steps: Vec<Step>,
    open: Option<OpenRow>,
    run: Option<Run>,
}

impl Stage {
    pub(crate) const fn new(next: RowKey) -> Self {
        Self {
            next,
            directory: Vec::new(),
            payloads: Vec::new(),
            rows: Vec::new(),
            own: Vec::new(),
            slots: Vec::new(),
            steps: Vec::new(),
            open: None,
            run: None,
        }
    }

    /// Forgets the rows, and keeps the buffers and the keys used.
    pub(crate) fn clear(&mut self) {
        self.directory.clear();
        self.payloads.clear();
        self.rows.clear();
        self.own.clear();
        self.slots.clear();
        self.steps.clear();
        self.open = None;
        self.run = None;
    }

    /// The lowest key of a row that what is staged next can lie in.
    pub(crate) fn earliest_row(&self) -> RowKey {
        self.open.as_ref().map_or(self.next, |open| open.key)
    }

    /// A new entry, after all that was staged of its group before.
    pub(crate) fn append(
        &mut self,
        group: GroupId,
        position: Position,
        kind: EntryKind,
        payload: &Bytes,
    ) {
        self.put(group, position, kind, Payload::New(payload), Way::Append);
    }

    /// An entry in the place of one that can't be read.
    pub(crate) fn repair(
        &mut self,
        group: GroupId,
        position: Position,
        kind: EntryKind,
        payload: &Bytes,
    ) {
        self.put(group, position, kind, Payload::New(payload), Way::Repair);
    }

    /// An entry that is moved here from a row that shall go.
    pub(crate) fn carry(
        &mut self,
        group: GroupId,
        position: Position,
        kind: EntryKind,
        payload: Payload<'_>,
    ) {
        self.put(group, position, kind, payload, Way::Carry);
    }

    fn put(
        &mut self,
        group: GroupId,
        position: Position,
        kind: EntryKind,
        payload: Payload<'_>,
        way: Way,
    ) {
        let slot = self.place(group, position, kind, &payload);
        let inline = match slot.place {
            Place::Inline { .. } => RECORD_BYTES + slot.bytes as usize,
            Place::Own { .. } => RECORD_BYTES + OWN_BYTES,
        };
        let header = if self.continues(group, position, way) { 0 } else { ENTRIES_BYTES };
        let key = self.room(group, header + inline);
        if !self.continues(group, position, way) {
            self.begin_run(group, position, way);
        }
        let offset = self.open.as_ref().map_or(0, |open| self.payloads.len() - open.payloads);
        let mut slot = Slot { row: key, ..slot };
        if let Place::Inline { offset: place } = &mut slot.place {
            // Relative to the payloads until the directory's length is known.
            *place = u32::try_from(offset).expect("a row is shorter than 4 GiB");
            match payload {
                Payload::New(bytes) => self.payloads.extend_from_slice(bytes),
                Payload::Moved { bytes, .. } => self.payloads.extend_from_slice(bytes),
                Payload::Own(_) => {}
            }
        }
        row::put_record(&mut self.directory, &slot);
        self.slots.push(slot);
    }

    /// Decides where a payload goes; new large ones get keys and pieces here.
    fn place(
        &mut self,
        group: GroupId,
        position: Position,
        kind: EntryKind,
        payload: &Payload<'_>,
    ) -> Slot {
        let inline = |length: usize, checksum| Slot {
            row: self.next,
            kind,
            bytes: u32::try_from(length).expect("entries are checked to be below 4 GiB"),
            checksum,
            place: Place::Inline { offset: 0 },
        };
        match payload {
            Payload::Own(slot) => *slot,
            Payload::Moved { bytes, checksum } => inline(bytes.len(), *checksum),
            Payload::New(bytes) => {
                let checksum = row::entry_checksum(group, position, kind, bytes);
                let slot = inline(bytes.len(), checksum);
                if bytes.len() <= INLINE_BYTES_MAX {
                    return slot;
                }
                let slot = Slot { place: Place::Own { first: self.next }, ..slot };
                let mut rest = (*bytes).clone();
                for key in slot.pieces() {
                    let piece = rest.split_to(rest.len().min(row::PIECE_BYTES));
                    self.own.push((key, piece));
                }
                self.next = self.next.plus(row::pieces_of(bytes.len()));
                slot
            }
        }
    }

    pub(crate) fn hard(&mut self, group: GroupId, hard: HardState) {
        self.end_run();
        let row = self.room(group, HARD_BYTES);
        row::put_hard(&mut self.directory, group, &hard);
        self.steps.push(Step::Hard { group, row, hard });
    }

    pub(crate) fn tail(&mut self, group: GroupId, tail: Index) {
        self.end_run();
        let row = self.room(group, TAIL_BYTES);
        row::put_tail(&mut self.directory, group, tail);
        self.steps.push(Step::Tail { group, row, tail });
    }

    pub(crate) fn base(&mut self, group: GroupId, base: Base) {
        self.end_run();
        let configuration = base.snapshot.configuration.encode();
        let row = self.room(group, BASE_BYTES + configuration.len());
        row::put_base(&mut self.directory, group, &base, &configuration);
        self.steps.push(Step::Base { group, row, base });
    }

    /// A change that takes no row of the inbox.
    pub(crate) fn namespace(&mut self, step: Step) {
        self.end_run();
        self.steps.push(step);
    }

    /// Closes the last row.
    pub(crate) fn finish(&mut self) {
        self.end_run();
        let Some(open) = self.open.take() else { return };
        let directory = open.directory..self.directory.len();
        let header = row::header(open.key, &self.directory[directory.clone()]);
        let before = HEADER_BYTES + directory.len();
        let before = u32::try_from(before).expect("a row is shorter than 4 GiB");
        for slot in &mut self.slots[open.slots..] {
            if let Place::Inline { offset } = &mut slot.place {
                *offset += before;
            }
        }
        row::put_trailer(&mut self.payloads, open.key, &open.groups);
        let payloads = open.payloads..self.payloads.len();
        let staged = StagedRow { key: open.key, header, directory, payloads };
        self.steps.push(Step::Row { row: open.key, bytes: staged.bytes() as u64 });
        self.rows.push(staged);
    }

    /// Makes room for `bytes` about `group`, in a new row if the open one would grow too long.
    fn room(&mut self, group: GroupId, bytes: usize) -> RowKey {
        if let Some(open) = &self.open {
            let groups = open.groups.len() + usize::from(!open.groups.contains(&group));
            let used = (self.directory.len() - open.directory)
                + (self.payloads.len() - open.payloads)
                + (HEADER_BYTES + TRAILER_BYTES + groups * TRAILER_GROUP_BYTES);
            if used + bytes > ROW_BYTES_MAX {
                self.finish();
            }
        }
        let open = self.open.get_or_insert_with(|| {
            let key = self.next;
            self.next = key.plus(1);
            OpenRow {
                key,
                directory: self.directory.len(),
                payloads: self.payloads.len(),
                slots: self.slots.len(),
                groups: BTreeSet::new(),
            }
        });
        open.groups.insert(group);
        open.key
    }

    fn continues(&self, group: GroupId, position: Position, way: Way) -> bool {
        self.run.as_ref().is_some_and(|run| {
            let next = run.first.plus((self.slots.len() - run.slots) as u64);
            (run.group, run.term, next, run.way) == (group, position.term, position.index, way)
        })
    }

    fn begin_run(&mut self, group: GroupId, position: Position, way: Way) {
        self.end_run();
        let (term, first) = (position.term, position.index);
        let count_at = row::put_entries(&mut self.directory, group, term, first);
        let slots = self.slots.len();
        self.run = Some(Run { group, term, first, slots, count_at, way });
    }

    fn end_run(&mut self) {
        let Some(run) = self.run.take() else { return };
        let slots = run.slots..self.slots.len();
        let count = u32::try_from(slots.len()).expect("a row holds fewer than 2^32 entries");
        row::set_count(&mut self.directory, run.count_at, count);
        let (group, first) = (run.group, run.first);
        self.steps.push(match run.way {
            Way::Carry => Step::Carry { group, first, slots },
            Way::Append => Step::Append { group, first, term: run.term, slots },
            Way::Repair => Step::Repair { group, first, term: run.term, slots },
        });
    }
}

#[cfg(test)]
mod tests {
    use meshraft_consensus::{Incarnation, Member, NodeId};
    use proptest::prelude::*;

    use super::*;
    use crate::row::{RowError, Section};

    /// The row as it lies in the file.
    fn value(stage: &Stage) -> Vec<u8> {
        let row = &stage.rows[0];
        let directory = &stage.directory[row.directory.clone()];
        [&row.header[..], directory, &stage.payloads[row.payloads.clone()]].concat()
    }

    fn sample() -> Stage {
        let mut stage = Stage::new(RowKey::new(0x0102));
        let group = GroupId::new(7);
        let at = |index| Position::new(Term::new(3), Index::new(index));
        stage.append(group, at(9), EntryKind::Command, &Bytes::from_static(b"payload"));
        stage.append(group, at(10), EntryKind::Noop, &Bytes::new());
        stage.tail(group, Index::new(10));
        let vote = Member::new(NodeId::new([0xaa; 32]), Incarnation::new([0xbb; 16]));
        let (term, commit_hint) = (Term::new(3), Index::new(8));
        stage.hard(group, HardState { term, vote: Some(vote), commit_hint });
        stage.finish();
        stage
    }

    fn hexadecimal(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The bytes are a promise to later releases; `docs/storage-format.md` draws them.
    #[rustfmt::skip]
    #[test]
    fn format_of_a_row_stays() {
        let expected = [
            "01000000", "0000008a", "6caf0d8c", // version, length and checksum of the directory
            "01", "0000000000000007", "0000000000000003", "0000000000000009", "00000002",
            "03", "00000007", "78e68033", // a command of seven bytes
            "00", "00000000", "d3e9b819", // a noop
            "03", "0000000000000007", "000000000000000a", // tail
            "02", "0000000000000007", "0000000000000003", "0000000000000008", "01", // hard state
            &"aa".repeat(32), &"bb".repeat(16), // vote
            "7061796c6f6164", // "payload"
            "0000000000000007", "00000001", "d37bfef5", // trailer
        ];
        assert_eq!(hexadecimal(&value(&sample())), expected.concat());
    }

    #[test]
    fn rows_read_back_as_they_were_staged() {
        let stage = sample();
        let sections = row::parse(RowKey::new(0x0102), &value(&stage)).unwrap();
        let Section::Entries { first, slots, .. } = &sections[0] else { panic!("{sections:?}") };
        assert_eq!((first.get(), slots.as_slice()), (9, &stage.slots[..]));
        assert!(matches!(&sections[1], Section::Tail { tail, .. } if tail.get() == 10));
        assert!(matches!(&sections[2], Section::Hard { hard, .. } if hard.vote.is_some()));
        assert_eq!(sections.len(), 3);
        let groups = row::parse_trailer(RowKey::new(0x0102), &value(&stage)).unwrap();
        assert_eq!(groups, BTreeSet::from([GroupId::new(7)]));
        assert_eq!(row::parse(RowKey::new(0x0103), &value(&stage)), Err(RowError::Damaged));
        assert_eq!(row::parse_trailer(RowKey::new(0x0103), &value(&stage)), None);
    }

    /// A row of another version that is sound is no damage.
    #[test]
    fn newer_rows_are_told_from_damaged_ones() {
        let mut newer = value(&sample());
        newer[0] = 2;
        assert_eq!(row::parse(RowKey::new(0x0102), &newer), Err(RowError::Damaged));
        let length = u32::from_be_bytes(newer[4..8].try_into().unwrap()) as usize;
        let checksum = crc32c::crc32c(&0x0102_u64.to_be_bytes());
        let checksum = crc32c::crc32c_append(checksum, &newer[..8]);
        let checksum = crc32c::crc32c_append(checksum, &newer[12..12 + length]);
        newer[8..12].copy_from_slice(&checksum.to_be_bytes());
        assert_eq!(row::parse(RowKey::new(0x0102), &newer), Err(RowError::Version(2)));
    }

    proptest! {
        /// Whatever lies in the file, and even with a checksum that holds, parsing ends with an
        /// answer.
        #[test]
        fn any_bytes_are_parsed_or_refused(
            directory in prop::collection::vec(any::<u8>(), 0..200),
            kinds in prop::collection::vec((0..200_usize, 0..5_u8), 0..20),
            rest in prop::collection::vec(any::<u8>(), 0..40),
        ) {
            let mut directory = directory;
            for (at, kind) in kinds {
                if let Some(byte) = directory.get_mut(at) {
                    *byte = kind;
                }
            }
            let key = RowKey::new(5);
            let header = row::header(key, &directory);
            let value = [&header[..], &directory, &rest].concat();
            let _ = row::parse(key, &value);
            let _ = row::parse(key, &rest);
            let _ = row::parse_trailer(key, &rest);
        }
    }
}

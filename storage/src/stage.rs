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
    carried: bool,
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
        self.put(group, position, kind, Payload::New(payload), false);
    }

    /// An entry that is moved here from a row that shall go.
    pub(crate) fn carry(
        &mut self,
        group: GroupId,
        position: Position,
        kind: EntryKind,
        payload: Payload<'_>,
    ) {
        self.put(group, position, kind, payload, true);
    }

    fn put(
        &mut self,
        group: GroupId,
        position: Position,
        kind: EntryKind,
        payload: Payload<'_>,
        carried: bool,
    ) {
        let slot = self.place(group, position, kind, &payload);
        let inline = match slot.place {
            Place::Inline { .. } => RECORD_BYTES + slot.bytes as usize,
            Place::Own { .. } => RECORD_BYTES + OWN_BYTES,
        };
        let header = if self.continues(group, position, carried) { 0 } else { ENTRIES_BYTES };
        let key = self.room(group, header + inline);
        if !self.continues(group, position, carried) {
            self.begin_run(group, position, carried);
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

    fn continues(&self, group: GroupId, position: Position, carried: bool) -> bool {
        self.run.as_ref().is_some_and(|run| {
            let next = run.first.plus((self.slots.len() - run.slots) as u64);
            (run.group, run.term, next, run.carried)
                == (group, position.term, position.index, carried)
        })
    }

    fn begin_run(&mut self, group: GroupId, position: Position, carried: bool) {
        self.end_run();
        let (term, first) = (position.term, position.index);
        let count_at = row::put_entries(&mut self.directory, group, term, first);
        let slots = self.slots.len();
        self.run = Some(Run { group, term, first, slots, count_at, carried });
    }

    fn end_run(&mut self) {
        let Some(run) = self.run.take() else { return };
        let slots = run.slots..self.slots.len();
        let count = u32::try_from(slots.len()).expect("a row holds fewer than 2^32 entries");
        row::set_count(&mut self.directory, run.count_at, count);
        let (group, first) = (run.group, run.first);
        self.steps.push(if run.carried {
            Step::Carry { group, first, slots }
        } else {
            Step::Append { group, first, term: run.term, slots }
        });
    }
}

//! One group in memory: its newest state, and where each entry of its log lies.
//!
//! Invariants:
//! 1. `slots` covers the run from after `floor` to the tail without a gap; a slot that can't be
//!    found is `None`, never left out.
//! 2. Every row that something live points to is acquired exactly as often as it is released.

use std::{collections::VecDeque, iter};

use meshraft_consensus::{ClusterId, HardState, Index, IndexRange, Position, Term};

use crate::{
    namespace::ListedGroup,
    row::{
        BASE_BYTES, Base, ENTRIES_BYTES, HARD_BYTES, OWN_BYTES, Place, RECORD_BYTES, RowKey, Slot,
        TAIL_BYTES,
    },
    rows::Rows,
};

/// A group's state and the places of its entries.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) cluster: ClusterId,
    pub(crate) born: RowKey,
    pub(crate) hard: HardState,
    pub(crate) base: Option<Base>,
    pub(crate) hard_row: Option<RowKey>,
    pub(crate) tail_row: Option<RowKey>,
    pub(crate) base_row: Option<RowKey>,
    floor: Index,
    slots: VecDeque<Option<Slot>>,
    terms: Vec<Position>,
    /// Rows that can't be read and may be about this group lie before this one.
    doubt: Option<RowKey>,
}

/// How much of a row an entry keeps alive.
pub(crate) fn slot_cost(slot: &Slot) -> u64 {
    let payload = match slot.place {
        Place::Inline { .. } => slot.bytes as usize,
        Place::Own { .. } => OWN_BYTES,
    };
    (ENTRIES_BYTES + RECORD_BYTES + payload) as u64
}

fn base_cost(base: &Base) -> u64 {
    (BASE_BYTES + base.snapshot.configuration.encode().len()) as u64
}

impl Group {
    pub(crate) fn new(listed: &ListedGroup) -> Self {
        Self {
            cluster: listed.cluster,
            born: listed.born,
            hard: HardState::default(),
            base: None,
            hard_row: None,
            tail_row: None,
            base_row: None,
            floor: Index::ZERO,
            slots: VecDeque::new(),
            terms: Vec::new(),
            doubt: None,
        }
    }

    /// The last slot that was dropped from the front.
    pub(crate) const fn floor(&self) -> Index {
        self.floor
    }

    /// The last slot of the log.
    pub(crate) fn tail(&self) -> Index {
        self.floor.plus(self.slots.len() as u64)
    }

    /// Where the entry at `index` lies; `None` if it is out of range or lost.
    pub(crate) fn slot(&self, index: Index) -> Option<&Slot> {
        self.slots.get(self.offset(index)?)?.as_ref()
    }

    /// Whether the entry at `index` is in range and can't be served, or may be an older version of
    /// itself.
    pub(crate) fn is_damaged(&self, index: Index) -> bool {
        let Some(slot) = self.offset(index).and_then(|offset| self.slots.get(offset)) else {
            return false;
        };
        slot.is_none_or(|slot| self.is_doubtful(Some(slot.row)))
    }

    /// The term of the entry at `index`, which is in range.
    pub(crate) fn term_at(&self, index: Index) -> Term {
        let after = self.terms.partition_point(|begin| begin.index <= index);
        after.checked_sub(1).map_or(Term::ZERO, |at| self.terms[at].term)
    }

    /// Where each term begins.
    pub(crate) fn terms(&self) -> &[Position] {
        &self.terms
    }

    /// The last entry, or the snapshot's position. If the last entry is lost, the last one that is
    /// not.
    pub(crate) fn last(&self) -> Position {
        let lost = self.slots.iter().rev().take_while(|slot| slot.is_none()).count();
        if lost < self.slots.len() {
            let index = self.floor.plus((self.slots.len() - lost) as u64);
            return Position::new(self.term_at(index), index);
        }
        self.base.as_ref().map_or(Position::ZERO, |base| base.snapshot.position)
    }

    /// What is lost or doubtful, as one run. It ends after the log if its end is: the last entry,
    /// or term and vote, may have been newer.
    pub(crate) fn damage(&self) -> Option<IndexRange> {
        let mut damaged = (0..self.slots.len() as u64)
            .map(|offset| self.floor.plus(offset + 1))
            .filter(|index| self.is_damaged(*index));
        let first = damaged.next();
        let last = damaged.next_back().or(first);
        let after = self.tail().next();
        let state = self.is_doubtful(self.hard_row)
            || self.is_doubtful(self.tail_row)
            || self.is_damaged(self.tail());
        match (first, last) {
            (first, _) if state => Some(IndexRange { first: first.unwrap_or(after), last: after }),
            (Some(first), Some(last)) => Some(IndexRange { first, last }),
            _ => None,
        }
    }

    /// What a row says may have been superseded by a later one that can't be read.
    fn is_doubtful(&self, row: Option<RowKey>) -> bool {
        self.doubt.is_some_and(|doubt| row.is_none_or(|row| row < doubt))
    }

    /// A row that can't be read, and lies before this one, may be about this group.
    pub(crate) fn set_doubt(&mut self, before: RowKey) {
        if before > self.born {
            self.doubt = self.doubt.max(Some(before));
        }
    }

    fn offset(&self, index: Index) -> Option<usize> {
        if index <= self.floor {
            return None;
        }
        usize::try_from(index.distance_from(self.floor) - 1).ok()
    }

    /// Appends entries of one term at `first`, which lies at most one after the tail; what was
    /// there goes.
    pub(crate) fn append(&mut self, rows: &mut Rows, first: Index, term: Term, slots: &[Slot]) {
        self.truncate(rows, first.previous());
        assert_eq!(self.tail().next(), first, "entries must follow on the log");
        if self.terms.last().is_none_or(|begin| begin.term != term) && !slots.is_empty() {
            self.terms.push(Position::new(term, first));
        }
        for slot in slots {
            rows.acquire(slot.row, slot_cost(slot));
            self.slots.push_back(Some(*slot));
        }
    }

    /// Moves an entry of the log to another row; its payload's own rows stay.
    pub(crate) fn carry(&mut self, rows: &mut Rows, index: Index, slot: Slot) {
        let at = self.offset(index).expect("a carried entry is in the log");
        let place = self.slots.get_mut(at).expect("a carried entry is in the log");
        rows.acquire(slot.row, slot_cost(&slot));
        if let Some(old) = place.replace(slot) {
            rows.release(old.row, slot_cost(&old));
        }
    }

    /// Puts an entry, of this term, in the place of one that is lost or doubtful.
    pub(crate) fn repair(&mut self, rows: &mut Rows, index: Index, term: Term, slot: Slot) {
        let Some(at) = self.offset(index).filter(|at| *at < self.slots.len()) else { return };
        rows.acquire(slot.row, slot_cost(&slot));
        let old = self.slots[at].replace(slot);
        release(rows, old);
        self.set_term(index, term);
    }

    /// The entry at `index` is of this term, and those after it are of no lower one.
    fn set_term(&mut self, index: Index, term: Term) {
        let next = index.next();
        let after = (next <= self.tail()).then(|| Position::new(self.term_at(next), next));
        let later = self.terms.partition_point(|begin| begin.index <= next);
        let later = self.terms.split_off(later);
        let kept = self.terms.partition_point(|begin| begin.index < index);
        self.terms.truncate(kept);
        let begin = Position::new(term, index);
        for begin in iter::once(begin).chain(after).chain(later) {
            if self.terms.last().is_none_or(|last| last.term < begin.term) {
                self.terms.push(begin);
            }
        }
    }

    /// Drops every entry after `tail`.
    pub(crate) fn truncate(&mut self, rows: &mut Rows, tail: Index) {
        while self.tail() > tail
            && let Some(slot) = self.slots.pop_back()
        {
            release(rows, slot);
        }
        let keep = self.terms.partition_point(|begin| begin.index <= tail);
        self.terms.truncate(keep);
    }

    pub(crate) fn set_hard(&mut self, rows: &mut Rows, row: RowKey, hard: HardState) {
        rows.acquire(row, HARD_BYTES as u64);
        if let Some(old) = self.hard_row.replace(row) {
            rows.release(old, HARD_BYTES as u64);
        }
        self.hard = hard;
    }

    pub(crate) fn set_tail(&mut self, rows: &mut Rows, row: RowKey, tail: Index) {
        rows.acquire(row, TAIL_BYTES as u64);
        if let Some(old) = self.tail_row.replace(row) {
            rows.release(old, TAIL_BYTES as u64);
        }
        self.truncate(rows, tail);
    }

    /// Records a snapshot. A floor after the tail leaves an empty log that goes on after it.
    pub(crate) fn set_base(&mut self, rows: &mut Rows, row: RowKey, base: Base) {
        rows.acquire(row, base_cost(&base));
        if let (Some(old), Some(base)) = (self.base_row.replace(row), &self.base) {
            rows.release(old, base_cost(base));
        }
        while self.floor < base.floor
            && let Some(slot) = self.slots.pop_front()
        {
            release(rows, slot);
            self.floor = self.floor.next();
        }
        self.floor = base.floor.max(self.floor);
        self.cut_terms();
        self.base = Some(base);
    }

    /// The log begins after the floor, and so does the term that holds there.
    fn cut_terms(&mut self) {
        let first = self.floor.next();
        let before = self.terms.partition_point(|begin| begin.index <= first);
        if before > 0 {
            self.terms.drain(..before - 1);
            self.terms[0].index = first;
        }
        if self.slots.is_empty() {
            self.terms.clear();
        }
    }

    /// Gives up everything, because the group is dropped.
    pub(crate) fn clear(&mut self, rows: &mut Rows) {
        self.slots.drain(..).for_each(|slot| release(rows, slot));
        if let Some(row) = self.hard_row.take() {
            rows.release(row, HARD_BYTES as u64);
        }
        if let Some(row) = self.tail_row.take() {
            rows.release(row, TAIL_BYTES as u64);
        }
        if let (Some(row), Some(base)) = (self.base_row.take(), &self.base) {
            rows.release(row, base_cost(base));
        }
    }

    /// Lays the log out as an open found it: `tail` as recorded, `entries` whatever was found.
    pub(crate) fn restore(&mut self, floor: Index, tail: Index, found: &[(Index, Term, Slot)]) {
        assert!(self.slots.is_empty(), "a group is restored once");
        self.floor = floor;
        for (index, term, slot) in found {
            if *index <= floor || *index > tail {
                continue;
            }
            self.skip_to(index.previous());
            if !self.is_doubtful(Some(slot.row)) {
                // What may be an older version of an entry says nothing of its term.
                let below = self.terms.partition_point(|begin| begin.term <= *term);
                self.terms.truncate(below);
            }
            if self.terms.last().is_none_or(|begin| begin.term < *term) {
                // Whatever terms the first slots had, if they are lost: a log's terms reach down to
                // its start, and one that is damaged never counts in an election.
                let begin = if self.terms.is_empty() { floor.next() } else { *index };
                self.terms.push(Position::new(*term, begin));
            }
            self.slots.push_back(Some(*slot));
        }
        self.skip_to(tail);
    }

    /// Marks the slots up to `tail` as lost.
    ///
    /// A tail that a sound row records is not bounded by what is left, so the run is not either; it
    /// is bounded by what was once appended, and each such entry took room on this disk.
    fn skip_to(&mut self, tail: Index) {
        while self.tail() < tail {
            self.slots.push_back(None);
        }
    }

    /// Marks one entry as lost, because it can't be read; answers its slot.
    pub(crate) fn lose(&mut self, index: Index) -> Option<Slot> {
        self.offset(index).and_then(|offset| self.slots.get_mut(offset))?.take()
    }

    /// Every entry that is left, with its slot.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (Index, &Slot)> {
        (1..)
            .zip(&self.slots)
            .filter_map(|(offset, slot)| Some((self.floor.plus(offset), slot.as_ref()?)))
    }

    /// Acquires everything that is live, after a restore.
    pub(crate) fn acquire_all(&self, rows: &mut Rows) {
        for slot in self.slots.iter().flatten() {
            rows.acquire(slot.row, slot_cost(slot));
        }
        if let Some(row) = self.hard_row {
            rows.acquire(row, HARD_BYTES as u64);
        }
        if let Some(row) = self.tail_row {
            rows.acquire(row, TAIL_BYTES as u64);
        }
        if let (Some(row), Some(base)) = (self.base_row, &self.base) {
            rows.acquire(row, base_cost(base));
        }
    }
}

fn release(rows: &mut Rows, slot: Option<Slot>) {
    if let Some(slot) = slot {
        rows.release(slot.row, slot_cost(&slot));
        rows.release_pieces(&slot);
    }
}

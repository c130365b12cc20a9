//! Decides which rows of the inbox are dead, and which are mostly dead and worth rewriting.
//!
//! A row's live share is what its live sections would take if each stood alone, against the row's
//! length. A row that was just rewritten is therefore never worth rewriting again at once.
//!
//! Invariants:
//! 1. A row is dead exactly when nothing in it is live.
//! 2. A dead row is only named for removal after the catalog stopped referring to it, so a reader
//!    that took its references under the same lock as its snapshot always finds the row.

use std::collections::{BTreeMap, BTreeSet};

use crate::row::{RowKey, Slot};

/// A row is rewritten when less than one part in this many of it is live.
const SPARSE_SHARE: u64 = 4;

#[derive(Clone, Copy, Debug, Default)]
struct Use {
    /// Length of the row; 0 until it is known.
    bytes: u64,
    live: u64,
}

impl Use {
    const fn is_sparse(self) -> bool {
        self.live > 0 && self.live * SPARSE_SHARE < self.bytes
    }
}

/// What is live in every row.
#[derive(Debug, Default)]
pub(crate) struct Rows {
    used: BTreeMap<RowKey, Use>,
    sparse: BTreeSet<RowKey>,
    dead: BTreeSet<RowKey>,
    dead_pieces: BTreeSet<RowKey>,
    kept_before: Option<RowKey>,
}

impl Rows {
    /// A row of this length is in the store. What is live in it is acquired before.
    pub(crate) fn add(&mut self, row: RowKey, bytes: u64) {
        self.used.entry(row).or_default().bytes = bytes;
        self.sort(row);
    }

    /// Something in `row` that takes `bytes` is live now.
    pub(crate) fn acquire(&mut self, row: RowKey, bytes: u64) {
        self.used.entry(row).or_default().live += bytes;
        self.dead.remove(&row);
    }

    /// Something in `row` that takes `bytes` is live no more.
    pub(crate) fn release(&mut self, row: RowKey, bytes: u64) {
        let used = self.used.entry(row).or_default();
        assert!(used.live >= bytes, "released more of a row than was live in it");
        used.live -= bytes;
        self.sort(row);
    }

    /// The payload of this slot is referred to no more.
    pub(crate) fn release_pieces(&mut self, slot: &Slot) {
        if !self.is_kept(slot.row) {
            self.dead_pieces.extend(slot.pieces());
        }
    }

    /// Rows before this one, and pieces that they refer to, stay for good: a later row can't be
    /// read, so what looks dead in them may be all that is left of something, and what looks live
    /// may be a stale version that must not pass for the newest.
    pub(crate) fn keep_before(&mut self, row: RowKey) {
        self.kept_before = Some(row);
    }

    /// Pieces that nothing live refers to, found by an open.
    pub(crate) fn add_dead_pieces(&mut self, pieces: BTreeSet<RowKey>) {
        if self.kept_before.is_none() {
            self.dead_pieces = pieces;
        }
    }

    /// Leaves a row alone for good, because it can't be copied.
    pub(crate) fn leave(&mut self, row: RowKey) {
        self.sparse.remove(&row);
    }

    /// Rows worth rewriting, oldest first.
    pub(crate) fn sparse(&self) -> impl Iterator<Item = RowKey> + '_ {
        self.sparse.iter().copied()
    }

    /// Takes up to `max` pieces, and up to `max` rows once no piece is left, out of the books, to
    /// be removed. Pieces go first because only their row tells the next open of them.
    pub(crate) fn take_dead(&mut self, max: usize) -> (Vec<RowKey>, Vec<RowKey>) {
        let pieces = take_first(&mut self.dead_pieces, max);
        let rows_max = if self.dead_pieces.is_empty() { max } else { 0 };
        let rows = take_first(&mut self.dead, rows_max);
        for row in &rows {
            self.used.remove(row);
        }
        (rows, pieces)
    }

    /// How many bytes rows hold, and how many of them are live.
    pub(crate) fn bytes(&self) -> (u64, u64) {
        self.used.values().fold((0, 0), |(all, live), used| (all + used.bytes, live + used.live))
    }

    fn is_kept(&self, row: RowKey) -> bool {
        self.kept_before.is_some_and(|kept| row < kept)
    }

    fn sort(&mut self, row: RowKey) {
        let Some(used) = self.used.get(&row).filter(|_| !self.is_kept(row)) else { return };
        if used.is_sparse() {
            self.sparse.insert(row);
        } else {
            self.sparse.remove(&row);
        }
        // A row whose length is not known yet is still being filled.
        if used.live == 0 && used.bytes > 0 {
            self.dead.insert(row);
        }
    }
}

fn take_first(set: &mut BTreeSet<RowKey>, max: usize) -> Vec<RowKey> {
    let mut taken = Vec::new();
    while taken.len() < max
        && let Some(row) = set.pop_first()
    {
        taken.push(row);
    }
    taken
}

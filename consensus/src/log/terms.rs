//! Knows the term of every slot from the slots where terms begin, so that the core need not read
//! the log (thesis 3.5).
//!
//! Invariants:
//! 1. `starts` is strictly ascending in term and in index.
//! 2. If the log is not empty, its first start is the slot after `base`.
//! 3. `last` is the log's last entry, of the last start's term, or `base` if there is none.

use alloc::vec::Vec;

use crate::types::{Index, Position, Term};

/// The term boundaries of a log that begins after `base`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Terms {
    base: Position,
    starts: Vec<Position>,
    last: Position,
}

impl Terms {
    /// The boundaries of a restored log; those at or before `base` are folded into its successor.
    pub(crate) fn restore(base: Position, boundaries: &[Position], last: Index) -> Self {
        let mut terms = Self { base, starts: Vec::new(), last: base };
        if last <= base.index {
            return terms;
        }
        let first = base.index.next();
        let split = boundaries.partition_point(|start| start.index <= first);
        let (before, after) = boundaries.split_at(split);
        let opening = before.last().copied();
        assert!(opening.is_some(), "the restored terms do not reach down to the start of the log");
        terms.starts.extend(opening.map(|start| Position::new(start.term, first)));
        terms.starts.extend(after);
        terms.end_at(last);
        terms
    }

    /// The position that the log begins after.
    pub(crate) const fn base(&self) -> Position {
        self.base
    }

    /// The last entry, or `base` if there is none.
    pub(crate) const fn last(&self) -> Position {
        self.last
    }

    /// The log ends at this slot, and none of its terms begins after it.
    fn end_at(&mut self, index: Index) {
        self.last = self.starts.last().map_or(self.base, |start| Position::new(start.term, index));
    }

    /// Panics if an invariant is broken.
    pub(crate) fn check(&self) {
        let ascend =
            |one: &Position, next: &Position| one.term < next.term && one.index < next.index;
        assert!(self.starts.is_sorted_by(ascend), "terms begin one after the other");
        let opening = self.starts.first().is_none_or(|it| it.index == self.base.index.next());
        assert!(opening, "the first term begins after the base");
        let newest = self.starts.last().map_or(self.base, |start| {
            assert!(start.index <= self.last.index, "a term begins with an entry");
            Position::new(start.term, self.last.index)
        });
        assert!(self.last == newest, "the last entry is of the newest term");
    }

    /// The term of a slot between `base` and the last one, both included.
    pub(crate) fn term_at(&self, index: Index) -> Option<Term> {
        if index == self.base.index {
            return Some(self.base.term);
        }
        if index < self.base.index || index > self.last.index {
            return None;
        }
        let newest = self.starts.last()?;
        if newest.index <= index {
            // As it is mostly.
            return Some(newest.term);
        }
        let after = self.starts.partition_point(|start| start.index <= index);
        self.starts.get(after.checked_sub(1)?).map(|start| start.term)
    }

    /// Appends the slot after the last one.
    pub(crate) fn push(&mut self, term: Term) {
        assert!(term >= self.last.term, "the terms of a log never decrease");
        let entry = Position::new(term, self.last.index.next());
        if self.starts.is_empty() || term > self.last.term {
            self.starts.push(entry);
        }
        self.last = entry;
    }

    /// Every slot up to `base` is compacted.
    pub(crate) fn compact(&mut self, base: Position) {
        assert!(base.index >= self.base.index, "the base never moves back");
        assert!(base.index <= self.last.index, "what is compacted was in the log");
        *self = Self::restore(base, &self.starts, self.last.index);
    }

    /// The slots from `first` to `last` are all of one term, which may not be known yet: not below
    /// that of the slot before them. What was taken for a lower term behind them is not.
    pub(crate) fn repair(&mut self, first: Position, last: Index) {
        let end = self.last.index;
        assert!(first.index > self.base.index && last <= end, "only slots are repaired");
        let next = self.term_at(last.next()).filter(|_| last < end);
        let later = self.starts.partition_point(|start| start.index <= last.next());
        let later = self.starts.split_off(later);
        let kept = self.starts.partition_point(|start| start.index < first.index);
        self.starts.truncate(kept);
        let next = next.map(|term| Position::new(term, last.next()));
        for start in core::iter::once(first).chain(next).chain(later) {
            if self.starts.last().is_none_or(|before| before.term < start.term) {
                self.starts.push(start);
            }
        }
        self.end_at(end);
    }

    /// Drops every slot from `index` on.
    pub(crate) fn truncate_from(&mut self, index: Index) {
        assert!(index > self.base.index, "a compacted slot is never truncated");
        if index > self.last.index {
            return;
        }
        let kept = self.starts.partition_point(|start| start.index < index);
        self.starts.truncate(kept);
        self.end_at(index.previous());
    }

    /// The last slot at or below `index` whose term is not above `term`; `base` if there is none.
    /// Both sides of a conflict use it, so that a round trip skips a term (thesis 3.5).
    pub(crate) fn last_not_above(&self, index: Index, term: Term) -> Position {
        let index = index.min(self.last.index);
        let after = self.starts.partition_point(|start| start.index <= index && start.term <= term);
        let Some(start) = after.checked_sub(1).and_then(|run| self.starts.get(run)) else {
            return self.base;
        };
        let end = self.starts.get(after).map_or(self.last.index, |next| next.index.previous());
        Position::new(start.term, index.min(end))
    }
}

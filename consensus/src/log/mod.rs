//! The log as the core knows it: where terms begin, and a bounded tail of entries (thesis 3.5).
//!
//! Invariants:
//! 1. The tail ends where the log ends.
//! 2. Slots at or below the base are compacted: they hold no entry and are never truncated.
//! 3. The base never moves back.
//!
//! It never reads the disk: what is not in the tail is asked for by the core.

mod tail;
mod terms;

#[cfg(test)]
mod model;

use alloc::vec::Vec;

use tail::Tail;
use terms::Terms;

use crate::{
    entry::Entry,
    types::{Index, Position, Term},
};

/// The replicated log of one member.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Log {
    terms: Terms,
    tail: Tail,
}

impl Log {
    /// A restored log: it begins after `base`, and none of it is in memory.
    pub(crate) fn restore(base: Position, boundaries: &[Position], last: Position) -> Self {
        let terms = Terms::restore(base, boundaries, last.index);
        let tail = Tail::after(terms.last().index);
        Self { terms, tail }
    }

    /// The position that the log begins after: a snapshot's, or zero.
    pub(crate) const fn base(&self) -> Position {
        self.terms.base()
    }

    /// The last entry, or the base if there is none.
    pub(crate) const fn last(&self) -> Position {
        self.terms.last()
    }

    /// The term of a slot from the base to the last one.
    pub(crate) fn term_at(&self, index: Index) -> Option<Term> {
        self.terms.term_at(index)
    }

    /// Whether the log holds exactly this entry, or begins after it.
    pub(crate) fn holds(&self, position: Position) -> bool {
        self.term_at(position.index) == Some(position.term)
    }

    /// The last entry at or below `index` whose term is not above `term`.
    pub(crate) fn last_not_above(&self, index: Index, term: Term) -> Position {
        self.terms.last_not_above(index, term)
    }

    /// The first slot that is in memory; one past the last if none is.
    pub(crate) const fn first_in_memory(&self) -> Index {
        self.tail.first()
    }

    /// The cost of the entry at `index`, if it is in memory.
    pub(crate) fn cost_at(&self, index: Index) -> Option<u64> {
        self.tail.cost_at(index)
    }

    /// Entries in memory from `first` to `last`, up to a cost, but at least one.
    pub(crate) fn slice(&self, first: Index, last: Index, bytes_max: u64) -> Vec<Entry> {
        self.tail.slice(first, last, bytes_max)
    }

    /// Appends the entry that follows the last one.
    pub(crate) fn append(&mut self, entry: Entry) {
        assert!(
            entry.position.index == self.last().index.next(),
            "an entry is appended directly after the last one"
        );
        self.terms.push(entry.position.term);
        self.tail.push(entry);
    }

    /// Drops every entry from `index` on.
    pub(crate) fn truncate_from(&mut self, index: Index) {
        self.terms.truncate_from(index);
        self.tail.truncate_from(index);
    }

    /// Every entry up to `base` is compacted: a snapshot stands for it.
    pub(crate) fn compact(&mut self, base: Index) {
        let term = self.term_at(base);
        assert!(term.is_some(), "a log is compacted up to an entry that it holds");
        self.compact_to(Position::new(term.unwrap_or(Term::ZERO), base));
    }

    /// Every entry up to `base` is forgotten: a snapshot stands for it, and says of which term its
    /// last entry is.
    pub(crate) fn compact_to(&mut self, base: Position) {
        self.terms.compact(base);
        self.tail.compact(base.index);
    }

    /// Takes over what entries of the log are found to be that could not be read.
    pub(crate) fn repair(&mut self, entries: &[Entry]) {
        for run in entries.chunk_by(|one, next| one.position.term == next.position.term) {
            if let (Some(first), Some(last)) = (run.first(), run.last()) {
                self.terms.repair(first.position, last.position.index);
            }
        }
    }

    /// Drops the whole log: the next entry follows on `base`, for which a snapshot stands.
    pub(crate) fn replace(&mut self, base: Position) {
        *self = Self::restore(base, &[], base);
    }

    /// Forgets the oldest entries in memory once they cost more than `bytes_max`, a short run at a
    /// time, but none above `keep_after`.
    pub(crate) fn evict(&mut self, bytes_max: u64, keep_after: Index) {
        self.tail.evict(bytes_max, keep_after);
    }

    /// Panics if memory and boundaries disagree.
    pub(crate) fn check(&self) {
        self.terms.check();
        let end = self.tail.first().plus(self.tail.len() as u64);
        assert!(end == self.last().index.next(), "the tail ends where the log ends");
        assert!(self.tail.first() > self.base().index, "no compacted entry is in memory");
        let cost: u64 = self
            .slice(self.tail.first(), self.last().index, u64::MAX)
            .iter()
            .inspect(|entry| assert!(self.holds(entry.position), "memory and boundaries differ"))
            .map(Entry::cost_bytes)
            .sum();
        assert!(cost == self.tail.bytes(), "the tail's bytes are counted");
    }
}

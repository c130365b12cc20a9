//! Keeps the newest entries in memory, bounded in bytes; older ones are loaded when asked for.
//!
//! Invariants:
//! 1. Entries are contiguous, and `first` is the slot of the oldest one held, or of the next one to
//!    come if none is.
//! 2. `bytes` is the sum of their costs.

use alloc::{collections::VecDeque, vec, vec::Vec};

use crate::{entry::Entry, types::Index};

/// How small a part of the bound is dropped at a time.
const EVICTED_SHARE: u64 = 1024;
/// What is dropped at a time at most, by cost, however large the bound: too short a run to be a
/// pause.
const EVICTED_BYTES_MAX: u64 = 16 * 1024;

/// The newest entries of a log.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Tail {
    first: Index,
    entries: VecDeque<Entry>,
    bytes: u64,
}

impl Tail {
    /// A tail that holds nothing of a log that ends at `last`.
    pub(crate) const fn after(last: Index) -> Self {
        Self { first: last.next(), entries: VecDeque::new(), bytes: 0 }
    }

    /// The oldest slot held, or the next one to come.
    pub(crate) const fn first(&self) -> Index {
        self.first
    }

    /// The costs of all entries held.
    pub(crate) const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// How many entries are held.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Appends the entry after the newest one.
    pub(crate) fn push(&mut self, entry: Entry) {
        self.bytes = self.bytes.saturating_add(entry.cost_bytes());
        self.entries.push_back(entry);
    }

    /// Drops every entry from `index` on.
    pub(crate) fn truncate_from(&mut self, index: Index) {
        let kept = usize::try_from(index.distance_from(self.first)).unwrap_or(usize::MAX);
        while self.entries.len() > kept {
            if let Some(entry) = self.entries.pop_back() {
                self.bytes = self.bytes.saturating_sub(entry.cost_bytes());
            }
        }
        self.first = self.first.min(index);
    }

    /// Drops the oldest entries once they cost more than `bytes_max`, a run of them at a time, but
    /// none above `keep_after`.
    pub(crate) fn evict(&mut self, bytes_max: u64, keep_after: Index) {
        if self.bytes <= bytes_max {
            return;
        }
        // The oldest have left the processor's caches. One at a time each is waited for; a run,
        // which stands in a row, is fetched ahead.
        let kept = bytes_max - (bytes_max / EVICTED_SHARE).min(EVICTED_BYTES_MAX);
        while self.bytes > kept && self.first <= keep_after {
            let Some(entry) = self.entries.pop_front() else { return };
            self.bytes = self.bytes.saturating_sub(entry.cost_bytes());
            self.first = self.first.next();
        }
    }

    /// Drops every entry up to `base`.
    pub(crate) fn compact(&mut self, base: Index) {
        while self.first <= base {
            let Some(entry) = self.entries.pop_front() else { break };
            self.bytes = self.bytes.saturating_sub(entry.cost_bytes());
            self.first = self.first.next();
        }
        self.first = self.first.max(base.next());
    }

    /// The entries from `first` to `last` that cost at most `bytes_max`, but at least one. Empty if
    /// `first` is not held.
    pub(crate) fn slice(&self, first: Index, last: Index, bytes_max: u64) -> Vec<Entry> {
        let wanted = usize::try_from(last.next().distance_from(first)).unwrap_or(usize::MAX);
        let place = self.place(first);
        if wanted == 1
            && let Some(entry) = self.entries.get(place)
        {
            // As it is mostly, and much faster.
            return vec![entry.clone()];
        }
        let held = self.entries.range(place..);
        let count = match bytes_max {
            u64::MAX => wanted.min(held.len()),
            _ => affordable(held.clone().take(wanted), bytes_max),
        };
        // Counted first, so that the vector is allocated once and at its size.
        let mut slice = Vec::with_capacity(count);
        slice.extend(held.take(count).cloned());
        slice
    }

    /// The cost of the entry at `index`, if it is held.
    pub(crate) fn cost_at(&self, index: Index) -> Option<u64> {
        self.entries.get(self.place(index)).map(Entry::cost_bytes)
    }

    /// Where the entry at `index` stands among those held; past them all if it is not.
    fn place(&self, index: Index) -> usize {
        if index < self.first {
            return self.entries.len();
        }
        let place = usize::try_from(index.distance_from(self.first)).unwrap_or(usize::MAX);
        place.min(self.entries.len())
    }
}

/// How many entries cost at most `bytes_max` together, but one if there is any.
fn affordable<'a>(entries: impl Iterator<Item = &'a Entry>, bytes_max: u64) -> usize {
    let mut bytes = 0_u64;
    let within = entries.enumerate().take_while(|(nth, entry)| {
        bytes = bytes.saturating_add(entry.cost_bytes());
        *nth == 0 || bytes <= bytes_max
    });
    within.count()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::{
        entry::EntryKind,
        types::{Position, Term},
    };

    fn push(tail: &mut Tail, slot: u64) {
        let position = Position::new(Term::new(1), Index::new(slot));
        let bytes = Bytes::from_static(&[7; 96]);
        tail.push(Entry { position, kind: EntryKind::Command, bytes });
    }

    #[test]
    fn the_oldest_go_in_short_runs_and_never_above_what_is_kept() {
        let cost = Entry::OVERHEAD_BYTES + 96;
        let (held, run) = (4 * EVICTED_SHARE, 4);
        let mut tail = Tail::after(Index::ZERO);
        let mut kept = Vec::new();
        for slot in 1..=held + 100 {
            push(&mut tail, slot);
            tail.evict(held * cost, Index::new(slot));
            assert!(tail.bytes() <= held * cost, "the bound holds after every entry");
            kept.push(tail.len() as u64);
        }
        assert_eq!(kept.iter().max(), Some(&held), "nothing goes before it must");
        assert_eq!(kept[held as usize..].iter().min(), Some(&(held - run)), "a run goes, no more");
        let first = tail.first();
        tail.evict(0, first);
        assert_eq!(tail.first(), first.next(), "what must be kept is kept");
    }

    #[test]
    fn a_run_is_short_however_large_the_bound() {
        let cost = Entry::OVERHEAD_BYTES + 96;
        let held = 2 * EVICTED_SHARE * EVICTED_BYTES_MAX / cost;
        let mut tail = Tail::after(Index::ZERO);
        (1..=held + 1).for_each(|slot| push(&mut tail, slot));
        tail.evict(held * cost, Index::new(held + 1));
        assert_eq!(tail.len() as u64, held - EVICTED_BYTES_MAX / cost);
    }
}

//! Keeps the newest entries in memory, bounded in bytes; older ones are loaded when asked for.
//!
//! Invariants:
//! 1. Entries are contiguous, and `first` is the slot of the oldest one held, or of the next one to
//!    come if none is.
//! 2. `bytes` is the sum of their costs.

use alloc::{collections::VecDeque, vec, vec::Vec};

use crate::{entry::Entry, types::Index};

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

    /// Drops the oldest entries until at most `bytes_max` are held, but none above `keep_after`.
    pub(crate) fn evict(&mut self, bytes_max: u64, keep_after: Index) {
        while self.bytes > bytes_max && self.first <= keep_after {
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

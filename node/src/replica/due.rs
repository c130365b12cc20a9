//! Decides when a replica takes a snapshot (thesis 5.1): after enough work, one at a time, and
//! never so often that writing snapshots costs much more than writing the log.
//!
//! Invariants:
//! 1. Nothing is due while a snapshot is being taken.
//! 2. Between two snapshots the log grows by a bounded multiple of what the state needs: the work
//!    that makes one due is at most the thresholds, or half of the newest file if that is more.
//! 3. A snapshot that could not be taken is tried again after as much work as for a first one, so
//!    that a full disk is not made busy as well.

use meshraft_storage::SnapshotError;

/// How much work makes a snapshot due: either is enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotThresholds {
    /// The cost of the entries applied since the newest one, in bytes.
    pub bytes: u64,
    /// How many entries were applied since.
    pub entries: u64,
}

/// What was applied since the newest snapshot.
#[derive(Clone, Debug)]
pub(super) struct Due {
    thresholds: SnapshotThresholds,
    bytes: u64,
    entries: u64,
    /// How long the newest file is, if it was taken in this life.
    newest_bytes: u64,
    taking: bool,
}

impl Due {
    /// The state stands at its newest snapshot, or is empty.
    pub(super) const fn new(thresholds: SnapshotThresholds) -> Self {
        Self { thresholds, bytes: 0, entries: 0, newest_bytes: 0, taking: false }
    }

    /// Entries that cost this much together were applied.
    pub(super) const fn applied(&mut self, entries: u64, bytes: u64) {
        self.entries = self.entries.saturating_add(entries);
        self.bytes = self.bytes.saturating_add(bytes);
    }

    /// Whether a snapshot should be taken now.
    pub(super) const fn is_due(&self) -> bool {
        let enough = self.bytes >= self.thresholds.bytes || self.entries >= self.thresholds.entries;
        enough && self.bytes >= self.newest_bytes / 2 && !self.taking
    }

    /// A snapshot of the present state is being taken; what comes now counts for the next one.
    pub(super) const fn begin(&mut self) {
        self.taking = true;
        (self.bytes, self.entries) = (0, 0);
    }

    /// It is durable, or there is none.
    pub(super) fn ended(&mut self, result: &Result<u64, SnapshotError>) {
        self.taking = false;
        if let Ok(bytes) = result {
            self.newest_bytes = *bytes;
        }
    }

    /// A snapshot of a leader took the place of the state.
    pub(super) const fn installed(&mut self) {
        (self.bytes, self.entries) = (0, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_or_entries_make_one_due_and_only_one_at_a_time() {
        let mut due = Due::new(SnapshotThresholds { bytes: 1000, entries: 10 });
        due.applied(9, 500);
        assert!(!due.is_due());
        due.applied(1, 10);
        assert!(due.is_due(), "enough entries");
        due.begin();
        due.applied(50, 5000);
        assert!(!due.is_due(), "one is being taken");
        due.ended(&Ok(20));
        assert!(due.is_due(), "what came meanwhile counts");
        due.begin();
        due.ended(&Ok(20));
        due.applied(1, 1000);
        assert!(due.is_due(), "enough bytes");
    }

    #[test]
    fn a_large_state_is_written_less_often_and_a_failure_waits_for_more_work() {
        let mut due = Due::new(SnapshotThresholds { bytes: 100, entries: 10 });
        due.applied(10, 100);
        due.begin();
        due.ended(&Ok(10_000));
        due.applied(4000, 4999);
        assert!(!due.is_due(), "the file is far larger than the log");
        due.applied(1, 1);
        assert!(due.is_due());
        due.begin();
        due.ended(&Err(SnapshotError::NoSpace));
        assert!(!due.is_due());
        due.applied(4000, 5000);
        assert!(due.is_due());
    }
}

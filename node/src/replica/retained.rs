//! Decides which snapshots' files of a group stay: the newest that is recorded, the one before it,
//! those on their way to be recorded, and those that followers are being sent.
//!
//! Invariants:
//! 1. The file that a durable record names stays until the record of a newer one is durable.
//! 2. A file that a write on its way to the store names stays, too: a crash may leave that write.
//! 3. So does one that is being written or fetched. It may be there before this list is acted on,
//!    and be heard of only after.
//! 4. A pin ends: with another offer to the same member, or when nothing was served for a while.

use std::{collections::BTreeMap, time::Duration};

use meshraft_consensus::{Member, Moment, Position, Write, WriteId};

/// A file that a follower is being sent.
#[derive(Clone, Copy, Debug)]
struct Pin {
    position: Position,
    until: Moment,
}

/// The snapshots of one group, by position.
#[derive(Clone, Debug)]
pub(super) struct Retained {
    recorded: Option<Position>,
    /// The one recorded before.
    previous: Option<Position>,
    /// What writes on their way to the store will record.
    recording: BTreeMap<WriteId, Position>,
    /// The one that is being taken, and the last one that was: no write may name it yet.
    taking: Option<Position>,
    taken: Option<Position>,
    /// The one that is being fetched, or was last.
    fetched: Option<Position>,
    pins: BTreeMap<Member, Pin>,
    pin_time: Duration,
}

impl Retained {
    /// What a group's record names, and for how long a pin holds after the last sign of life.
    pub(super) const fn new(recorded: Option<Position>, pin_time: Duration) -> Self {
        Self {
            recorded,
            previous: None,
            recording: BTreeMap::new(),
            taking: None,
            taken: None,
            fetched: None,
            pins: BTreeMap::new(),
            pin_time,
        }
    }

    /// The newest snapshot that is recorded.
    pub(super) const fn recorded(&self) -> Option<Position> {
        self.recorded
    }

    /// A file of the own state is being written.
    pub(super) const fn taking(&mut self, position: Position) {
        self.taking = Some(position);
    }

    /// It is durable, or there is none.
    pub(super) const fn taken(&mut self) {
        self.taken = self.taking.take();
    }

    /// A file is being fetched.
    pub(super) const fn fetching(&mut self, position: Position) {
        self.fetched = Some(position);
    }

    /// A write is handed to the store.
    pub(super) fn writing(&mut self, write: &Write) {
        if let Some(snapshot) = write.snapshot() {
            self.recording.insert(write.id, snapshot.meta.position);
        }
    }

    /// Writes up to this one are durable. If one of them records a snapshot, tells what stays.
    pub(super) fn persisted(&mut self, write: WriteId, now: Moment) -> Option<Vec<Position>> {
        let newest = *self.recording.range(..=write).next_back()?.1;
        self.recording.retain(|id, _| *id > write);
        if self.recorded != Some(newest) {
            self.previous = self.recorded.replace(newest);
        }
        self.pins.retain(|_, pin| pin.until > now);
        Some(self.stays())
    }

    /// A follower was offered a snapshot.
    pub(super) fn pin(&mut self, to: Member, position: Position, now: Moment) {
        let until = now.plus(self.pin_time);
        self.pins.insert(to, Pin { position, until });
    }

    /// A follower was served a part of it.
    pub(super) fn served(&mut self, to: Member, now: Moment) {
        if let Some(pin) = self.pins.get_mut(&to) {
            pin.until = now.plus(self.pin_time);
        }
    }

    fn stays(&self) -> Vec<Position> {
        let is_ahead = |position: &Position| Some(*position) > self.recorded;
        let known = [self.recorded, self.previous].into_iter().flatten();
        let mut stays: Vec<_> = known
            .chain(self.recording.values().copied())
            .chain([self.taking, self.taken, self.fetched].into_iter().flatten().filter(is_ahead))
            .chain(self.pins.values().map(|pin| pin.position))
            .collect();
        stays.sort_unstable();
        stays.dedup();
        stays
    }
}

#[cfg(test)]
mod tests {
    use meshraft_consensus::{
        Configuration, Incarnation, Index, LogAfterSnapshot, LogChange, NodeId, SnapshotMeta,
        SnapshotWrite, Term,
    };

    use super::*;

    fn at(index: u64) -> Position {
        Position::new(Term::new(1), Index::new(index))
    }

    fn write(id: u64, snapshot: Option<u64>) -> Write {
        let meta = |index| SnapshotMeta {
            position: at(index),
            configuration: Configuration::default(),
            configuration_index: Index::ZERO,
        };
        let log = LogAfterSnapshot::Replace;
        let change = snapshot.map(|index| {
            let snapshot = Some(SnapshotWrite { meta: meta(index), log });
            Box::new(LogChange { snapshot, ..LogChange::default() })
        });
        Write { id: WriteId::new(id), hard: None, change, append: Vec::new() }
    }

    #[test]
    fn a_file_stays_until_a_newer_one_is_recorded_and_one_more() {
        let mut retained = Retained::new(Some(at(1)), Duration::from_secs(1));
        let now = Moment::ZERO;
        for (id, index) in [(3, 10), (5, 20)] {
            retained.taking(at(index));
            retained.taken();
            retained.writing(&write(id, Some(index)));
        }
        retained.writing(&write(6, None));
        assert_eq!(retained.persisted(WriteId::new(2), now), None, "nothing is recorded yet");
        // The second is on its way: a crash may leave its record.
        assert_eq!(retained.persisted(WriteId::new(4), now), Some(vec![at(1), at(10), at(20)]));
        assert_eq!(retained.persisted(WriteId::new(6), now), Some(vec![at(10), at(20)]));
        assert_eq!(retained.recorded(), Some(at(20)));
        assert_eq!(retained.persisted(WriteId::new(7), now), None);
    }

    /// The list may be acted on when the file is there and not yet heard of.
    #[test]
    fn what_is_being_written_or_fetched_stays() {
        let mut retained = Retained::new(Some(at(1)), Duration::from_secs(1));
        retained.taking(at(10));
        retained.taken();
        retained.writing(&write(1, Some(10)));
        retained.taking(at(20));
        retained.fetching(at(30));
        let stays = retained.persisted(WriteId::new(1), Moment::ZERO);
        assert_eq!(stays, Some(vec![at(1), at(10), at(20), at(30)]));
    }

    #[test]
    fn a_pin_holds_while_it_is_served_and_ends_by_itself() {
        let follower = Member::new(NodeId::new([2; 32]), Incarnation::new([2; 16]));
        let mut retained = Retained::new(Some(at(1)), Duration::from_secs(1));
        retained.pin(follower, at(1), Moment::ZERO);
        let mut record = |id, index, now| {
            retained.writing(&write(id, Some(index)));
            if id < 4 {
                retained.served(follower, now);
            }
            retained.persisted(WriteId::new(id), now)
        };
        let at_ms = Moment::from_millis;
        assert_eq!(record(1, 10, at_ms(500)), Some(vec![at(1), at(10)]));
        assert_eq!(record(2, 20, at_ms(1400)), Some(vec![at(1), at(10), at(20)]));
        assert_eq!(record(4, 30, at_ms(2500)), Some(vec![at(20), at(30)]));
    }
}

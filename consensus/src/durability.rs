//! Numbers the writes, and holds back whatever rests on one until it is durable (thesis 3.8,
//! 10.2.1).
//!
//! Invariants:
//! 1. `durable <= written <= last`: what is durable was written, what was written is in the log.
//! 2. An output that waits for write `w` leaves only after `Persisted(w)`, and not at all if the
//!    term changed meanwhile: what it claims was said in a term that is over.
//! 3. Each stamp names the write that makes the log durable up to a slot. A truncation cuts the
//!    stamps, and what is appended in place gets a newer write, so that the late completion of an
//!    older one vouches for nothing that has been replaced (no ABA).
//! 4. A snapshot that replaces the log cuts the stamps to what was committed before it: of the new
//!    log everything beyond rests on the write that records the snapshot.

use alloc::{boxed::Box, collections::VecDeque, vec::Vec};
use core::time::Duration;

use crate::{
    disk_pace::DiskPace,
    entry::{Entry, SnapshotMeta},
    message::{AppendResult, Message},
    output::Output,
    types::{Index, Moment, WriteId},
};

/// A write that was handed out and not acknowledged.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Stamp {
    id: WriteId,
    last: Index,
    bytes: u64,
    at: Moment,
}

/// Which writes are out, and what waits for them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Durability {
    handed_out: WriteId,
    acknowledged: WriteId,
    hard: WriteId,
    hard_changed: bool,
    /// What the next write does to the log that is stored.
    change: Option<Box<ChangeDue>>,
    written: Index,
    durable: Index,
    stamps: VecDeque<Stamp>,
    unwritten_bytes: u64,
    appended_bytes: u64,
    /// In the order of writes, and of saying.
    waiting: VecDeque<(WriteId, Output)>,
    pace: DiskPace,
}

/// A snapshot that the next write records.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct SnapshotDue {
    pub(crate) meta: SnapshotMeta,
    /// Whether the log that the store holds is void.
    pub(crate) replaces: bool,
}

/// What a write does to the log that is stored.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct ChangeDue {
    /// The snapshot to record.
    pub(crate) snapshot: Option<SnapshotDue>,
    /// Entries in place of what can't be read.
    pub(crate) repair: Vec<Entry>,
    /// From where to truncate.
    pub(crate) truncate_from: Option<Index>,
}

/// What the next write must hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Due {
    /// Its number.
    pub(crate) id: WriteId,
    /// Whether term or vote changed.
    pub(crate) hard: bool,
    /// What becomes of the log that is stored.
    pub(crate) change: Option<Box<ChangeDue>>,
    /// The first slot to append; nothing if it is past the last one.
    pub(crate) append_from: Index,
}

impl Durability {
    /// All of a restored log is durable.
    pub(crate) fn restore(last: Index) -> Self {
        Self {
            handed_out: WriteId::ZERO,
            acknowledged: WriteId::ZERO,
            hard: WriteId::ZERO,
            hard_changed: false,
            change: None,
            written: last,
            durable: last,
            stamps: VecDeque::new(),
            unwritten_bytes: 0,
            appended_bytes: 0,
            waiting: VecDeque::new(),
            pace: DiskPace::default(),
        }
    }

    /// The log is durable up to here.
    pub(crate) const fn durable(&self) -> Index {
        self.durable
    }

    /// The log was handed out to be written up to here.
    pub(crate) const fn written(&self) -> Index {
        self.written
    }

    /// The write that carries the current term and vote.
    pub(crate) const fn hard(&self) -> WriteId {
        self.hard
    }

    /// The last write that was handed out.
    pub(crate) const fn handed_out(&self) -> WriteId {
        self.handed_out
    }

    /// The write that is being gathered.
    pub(crate) const fn next(&self) -> WriteId {
        self.handed_out.next()
    }

    /// The cost of all entries that were appended since the start.
    pub(crate) const fn appended_bytes(&self) -> u64 {
        self.appended_bytes
    }

    /// How long the oldest write that is not durable has been out; zero if there is none.
    pub(crate) fn oldest_age(&self, now: Moment) -> Duration {
        self.stamps.front().map_or(Duration::ZERO, |stamp| now.since(stamp.at))
    }

    /// Whether everything up to the end of the log, at `last`, is durable, and nothing else is to
    /// be written or waits.
    pub(crate) fn is_quiet(&self, last: Index) -> bool {
        self.durable == last && self.stamps.is_empty() && !self.is_gathering(last)
    }

    /// How long writes take.
    pub(crate) const fn pace(&self) -> &DiskPace {
        &self.pace
    }

    /// Whether this write is durable.
    pub(crate) fn is_durable(&self, id: WriteId) -> bool {
        id <= self.acknowledged
    }

    /// The cost of entries that are not durable yet.
    pub(crate) fn pending_bytes(&self) -> u64 {
        self.stamps.iter().fold(self.unwritten_bytes, |sum, stamp| sum.saturating_add(stamp.bytes))
    }

    /// The write after which the log is durable up to `index`.
    pub(crate) fn write_of(&self, index: Index) -> WriteId {
        if index <= self.durable {
            return WriteId::ZERO;
        }
        self.stamps
            .iter()
            .find(|stamp| stamp.last >= index)
            .map_or_else(|| self.handed_out.next(), |stamp| stamp.id)
    }

    /// Term or vote changed. If the term did, nothing that waits is worth saying any more.
    pub(crate) fn change_hard(&mut self, new_term: bool) {
        self.hard_changed = true;
        self.hard = self.handed_out.next();
        if new_term {
            self.waiting.clear();
        }
    }

    /// An entry of this cost was appended.
    pub(crate) const fn append(&mut self, bytes: u64) {
        self.unwritten_bytes = self.unwritten_bytes.saturating_add(bytes);
        self.appended_bytes = self.appended_bytes.saturating_add(bytes);
    }

    /// Every entry from `index` on was dropped; writes that are out vouch for none of them, as
    /// long as the stamps are `cut`.
    pub(crate) fn truncate_from(&mut self, index: Index) {
        let kept = index.previous();
        if index <= self.written {
            let truncate_from = &mut self.change().truncate_from;
            *truncate_from = Some(truncate_from.map_or(index, |from| from.min(index)));
            self.written = kept;
        }
        self.durable = self.durable.min(kept);
        for stamp in &mut self.stamps {
            stamp.last = stamp.last.min(kept);
        }
    }

    /// The next write records a snapshot of this member's own.
    pub(crate) fn record_snapshot(&mut self, meta: SnapshotMeta) {
        self.change().snapshot = Some(SnapshotDue { meta, replaces: false });
    }

    /// The next write records a fetched snapshot, which the log holds the last entry of: what
    /// follows on it stays, what it covers need not be written any more.
    pub(crate) fn install_within(&mut self, meta: SnapshotMeta) {
        let covered = meta.position.index;
        if let Some(change) = &mut self.change {
            change.truncate_from = change.truncate_from.map(|from| from.max(covered.next()));
        }
        self.written = self.written.max(covered);
        self.record_snapshot(meta);
    }

    /// The next write records a fetched snapshot in place of the whole log, of which everything up
    /// to `committed` was the same.
    pub(crate) fn install_instead(&mut self, meta: SnapshotMeta, committed: Index) {
        self.written = meta.position.index;
        self.durable = self.durable.min(committed);
        for stamp in &mut self.stamps {
            stamp.last = stamp.last.min(committed);
        }
        self.unwritten_bytes = 0;
        let snapshot = Some(SnapshotDue { meta, replaces: true });
        *self.change() = ChangeDue { snapshot, ..ChangeDue::default() };
    }

    /// The next write puts these in place of what can't be read.
    pub(crate) fn repair(&mut self, entries: Vec<Entry>) {
        self.change().repair = entries;
    }

    /// Corrects the cost of what is not written yet, after a truncation of it.
    pub(crate) const fn set_unwritten(&mut self, bytes: u64) {
        self.unwritten_bytes = bytes;
    }

    fn is_gathering(&self, last: Index) -> bool {
        self.hard_changed || self.change.is_some() || self.written < last
    }

    fn change(&mut self) -> &mut ChangeDue {
        self.change.get_or_insert_default()
    }

    /// Closes the write being gathered, if there is anything to write; the log ends at `last`.
    pub(crate) fn take(&mut self, last: Index, now: Moment) -> Option<Due> {
        if !self.is_gathering(last) {
            return None;
        }
        self.handed_out = self.handed_out.next();
        let due = Due {
            id: self.handed_out,
            hard: self.hard_changed,
            change: self.change.take(),
            append_from: self.written.next(),
        };
        self.stamps.push_back(Stamp { id: due.id, last, bytes: self.unwritten_bytes, at: now });
        self.hard_changed = false;
        self.written = last;
        self.unwritten_bytes = 0;
        Some(due)
    }

    /// An output waits for a write that is not durable.
    ///
    /// Of equal answers to one member that wait for one write only the newest is kept: a peer that
    /// repeats itself while the disk stalls costs no memory.
    pub(crate) fn hold(&mut self, id: WriteId, output: Output) {
        if self.waiting.back().is_none_or(|(write, _)| *write < id) {
            return self.waiting.push_back((id, output));
        }
        let end = self.waiting.partition_point(|(write, _)| *write <= id);
        let of_write = self.waiting.range_mut(..end).rev().take_while(|(write, _)| *write == id);
        for (_, held) in of_write {
            if replaces(&output, held) {
                *held = output;
                return;
            }
            if matches_less(&output, held) {
                return;
            }
        }
        self.waiting.insert(end, (id, output));
    }

    /// Nothing that waits will be said.
    pub(crate) fn forget_waiting(&mut self) {
        self.waiting.clear();
    }

    /// This write and all before it are durable: [`Self::release`] hands out what waited. `false`
    /// if it is no news.
    pub(crate) fn acknowledge(&mut self, id: WriteId, now: Moment) -> bool {
        if id <= self.acknowledged || id > self.handed_out {
            return false;
        }
        self.acknowledged = id;
        while self.stamps.front().is_some_and(|stamp| stamp.id <= id) {
            if let Some(stamp) = self.stamps.pop_front() {
                self.durable = self.durable.max(stamp.last);
                self.pace.note(now.since(stamp.at));
            }
        }
        true
    }

    /// The next output that waits for nothing any more.
    pub(crate) fn release(&mut self) -> Option<Output> {
        let (write, _) = self.waiting.front()?;
        if !self.is_durable(*write) {
            return None;
        }
        self.waiting.pop_front().map(|(_, output)| output)
    }

    /// Panics if an invariant is broken; the log ends at `last`.
    pub(crate) fn check(&self, last: Index) {
        assert!(self.durable <= self.written, "what is durable was written");
        assert!(self.written <= last, "what was written is in the log");
        assert!(self.acknowledged <= self.handed_out, "only writes that are out are acknowledged");
        assert!(
            self.waiting.iter().all(|(id, _)| *id > self.acknowledged && *id <= self.next()),
            "outputs wait only for writes to come"
        );
        assert!(self.waiting.iter().is_sorted_by_key(|(id, _)| *id), "they wait in order");
    }
}

/// Whether `new` acknowledges less than `old` does, to the same member.
fn matches_less(new: &Output, old: &Output) -> bool {
    let matched = |output: &Output| match output {
        Output::Send { to, message: Message::AppendResponse(response), .. } => {
            match response.result {
                AppendResult::Matched(index) => Some((*to, index)),
                AppendResult::Conflict { .. } => None,
            }
        }
        _ => None,
    };
    let (Some((to, new)), Some((old_to, old))) = (matched(new), matched(old)) else { return false };
    to == old_to && new < old
}

/// Whether `new` says at least what `old` says, to the same member.
fn replaces(new: &Output, old: &Output) -> bool {
    let (Output::Send { to, message, .. }, Output::Send { to: old_to, message: old, .. }) =
        (new, old)
    else {
        return false;
    };
    if to != old_to {
        return false;
    }
    match (message, old) {
        (Message::AppendResponse(new), Message::AppendResponse(old)) => {
            match (new.result, old.result) {
                (AppendResult::Matched(new), AppendResult::Matched(old)) => new >= old,
                (AppendResult::Conflict { .. }, AppendResult::Conflict { .. }) => true,
                _ => false,
            }
        }
        (Message::HeartbeatResponse(_), Message::HeartbeatResponse(_)) => true,
        (Message::VoteResponse(new), Message::VoteResponse(old)) => {
            (new.kind, new.request_term) == (old.kind, old.request_term)
        }
        (Message::VoteRequest(_), Message::VoteRequest(_)) => true,
        (Message::ReadResponse(new), Message::ReadResponse(old)) => new.id == old.id,
        (Message::SnapshotResponse(_), Message::SnapshotResponse(_)) => true,
        (Message::RepairRequest(_), Message::RepairRequest(_)) => true,
        (Message::RepairResponse(_), Message::RepairResponse(_)) => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        identity::{Incarnation, Member, NodeId},
        message::AppendResponse,
        output::Lane,
        types::Term,
    };

    fn matched(index: u64) -> Output {
        let to = Member::new(NodeId::new([1; 32]), Incarnation::new([1; 16]));
        let result = AppendResult::Matched(Index::new(index));
        let message = Message::AppendResponse(AppendResponse {
            term: Term::new(1),
            sequence: index,
            result,
            free_bytes: 0,
        });
        Output::Send { to, lane: Lane::Entries, message }
    }

    #[test]
    fn of_acknowledgements_that_wait_for_one_write_the_greatest_is_kept() {
        let mut durability = Durability::restore(Index::ZERO);
        durability.append(1);
        let write = durability.next();
        assert!(durability.take(Index::new(10), Moment::ZERO).is_some());
        for index in [1, 10, 1, 9, 10, 1, 10] {
            durability.hold(write, matched(index));
        }
        assert_eq!(durability.release(), None);
        assert!(durability.acknowledge(write, Moment::ZERO));
        assert_eq!(durability.release(), Some(matched(10)));
        assert_eq!(durability.release(), None);
    }
}

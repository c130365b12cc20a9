//! Fetches one snapshot's file from another member: asks for parts, appends them in order, and goes
//! on where an earlier attempt stopped.
//!
//! Invariants:
//! 1. Parts are appended in order, one at a time; what was asked for and is not appended is bounded
//!    by the credit of the pace.
//! 2. All parts are of one file: another id starts the fetch anew, from its first byte.
//! 3. A fetch ends: whole and checked, or with a typed error after a bounded number of failures
//!    without progress between them, or of new beginnings.
//!
//! Pure: handle, poll, deadline. What peers say is believed only as far as the file's own checksums
//! go: a wrong part costs an attempt, never the state.

mod pace;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use bytes::Bytes;
use meshraft_consensus::{InstallError, Moment, Position, SnapshotMeta, Term};
use meshraft_storage::{SnapshotError, SnapshotId};

use self::pace::{Departure, Pace};
use super::snapshot_wire::{FetchBody, FetchReply, FetchRequest};

/// After so many failures without progress between them a fetch gives up; its leader is told, and
/// offers what it has by then.
const FAILURES_MAX: u32 = 8;
/// The pause after a first failure; twice as long after each further one.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// The longest that a request may take, however slow the path has shown to be: one that was lost is
/// missed for so long.
const TIMEOUT_MAX: Duration = Duration::from_secs(10);
/// What is asked for at once at first, and the least after failures.
const PART_BYTES_MIN: u32 = 16 * 1024;
/// So many parts must arrive after a failure before larger ones are asked for: what a slow path
/// could not carry in time is still sent, and keeps it busy.
const CAUTION: u32 = 8;

/// Names one request of a fetch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct AskId(u64);

/// One thing that happened.
#[derive(Clone, Debug)]
pub(super) enum Input {
    /// The moment of [`Fetch::deadline`] has come.
    Timeout,
    /// What an earlier attempt left.
    Resumed(Result<Option<(SnapshotId, u64)>, SnapshotError>),
    /// The answer to a request, or that it has none.
    Replied(AskId, Option<FetchReply>),
    /// How far the file is, after an append.
    Appended(Result<u64, SnapshotError>),
    /// Whether the file is whole, sound and durable.
    Finished(Result<(), SnapshotError>),
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Output {
    /// Find out what an earlier attempt left.
    Resume,
    /// Ask for a part.
    Ask {
        /// Echoed in the answer.
        id: AskId,
        /// What to ask.
        request: FetchRequest,
        /// When to give up.
        timeout: Duration,
    },
    /// Append a part.
    Append {
        /// Whose file.
        id: SnapshotId,
        /// How long it is.
        total: u64,
        /// Where the bytes belong.
        offset: u64,
        /// The bytes.
        bytes: Bytes,
    },
    /// Check the file and make it durable.
    Finish,
    /// Bytes arrived.
    Progress {
        /// The term that they left in.
        term: Term,
        /// Where they end.
        offset: u64,
    },
    /// The fetch is over; the last output.
    Done(Result<(), InstallError>),
}

/// What a fetch waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Resuming,
    Fetching,
    Finishing,
    Over,
}

/// A request under way.
#[derive(Clone, Copy, Debug)]
struct Ask {
    offset: u64,
    bytes: u32,
    departure: Departure,
}

/// The fetch of one snapshot.
#[derive(Debug)]
pub(super) struct Fetch {
    meta: SnapshotMeta,
    stage: Stage,
    timeout: Duration,
    /// How many bytes one request asks for.
    chunk_bytes: u32,
    /// Whose file it is, once a part of it is known, and how long it is.
    id: Option<SnapshotId>,
    total: Option<u64>,
    /// Up to where the file is written here.
    written: u64,
    /// Up to where it is written when the append under way is done.
    appending: Option<u64>,
    /// How much one request asks for now: twice as much after each part that arrives in time, half
    /// as much after a failure.
    part_bytes: u32,
    /// How many parts must arrive before it may grow.
    caution: u32,
    /// Up to where it was asked for, but for what must be asked for again.
    asked: u64,
    again: BTreeMap<u64, u32>,
    asks: BTreeMap<AskId, Ask>,
    last_ask: u64,
    /// Parts that wait to be appended.
    arrived: BTreeMap<u64, Bytes>,
    pace: Pace,
    failures: u32,
    restarts: u32,
    paused_until: Option<Moment>,
    outputs: VecDeque<Output>,
}

impl Fetch {
    /// Fetches what `meta` stands for, in parts of `chunk_bytes`. A request may take `timeout` at
    /// first: several round trips.
    pub(super) fn new(meta: SnapshotMeta, chunk_bytes: u32, timeout: Duration) -> Self {
        let chunk_bytes = chunk_bytes.max(1);
        Self {
            meta,
            stage: Stage::Resuming,
            timeout,
            chunk_bytes,
            id: None,
            total: None,
            written: 0,
            appending: None,
            part_bytes: PART_BYTES_MIN.min(chunk_bytes),
            caution: 0,
            asked: 0,
            again: BTreeMap::new(),
            asks: BTreeMap::new(),
            last_ask: 0,
            arrived: BTreeMap::new(),
            pace: Pace::new(chunk_bytes),
            failures: 0,
            restarts: 0,
            paused_until: None,
            outputs: VecDeque::from([Output::Resume]),
        }
    }

    /// What is fetched.
    pub(super) const fn meta(&self) -> &SnapshotMeta {
        &self.meta
    }

    /// Takes one input.
    pub(super) fn handle(&mut self, now: Moment, input: Input) {
        match (input, self.stage) {
            (_, Stage::Over) => {}
            (Input::Timeout, _) => {}
            (Input::Resumed(result), Stage::Resuming) => self.resumed(now, result),
            (Input::Replied(ask, reply), _) => self.replied(now, ask, reply),
            (Input::Appended(result), Stage::Fetching) => self.appended(now, result),
            (Input::Finished(result), Stage::Finishing) => self.finished(result),
            // Answers to what was asked before the fetch began anew.
            (Input::Resumed(_) | Input::Appended(_) | Input::Finished(_), _) => {}
        }
        self.ask(now);
    }

    /// The next output.
    pub(super) fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When [`Input::Timeout`] is due if nothing else happens first. Requests are bounded in time
    /// by whoever sends them.
    pub(super) fn deadline(&self) -> Option<Moment> {
        self.paused_until.filter(|_| self.stage == Stage::Fetching)
    }

    fn resumed(&mut self, now: Moment, result: Result<Option<(SnapshotId, u64)>, SnapshotError>) {
        match result {
            Ok(left) => {
                let (id, written) = left.unzip();
                (self.id, self.written) = (id, written.unwrap_or(0));
                self.asked = self.written;
                self.stage = Stage::Fetching;
            }
            Err(error) => self.broken(now, &error),
        }
    }

    fn replied(&mut self, now: Moment, id: AskId, reply: Option<FetchReply>) {
        let Some(ask) = self.asks.remove(&id) else { return };
        let Some(FetchReply { term, body }) = reply else { return self.lost(now, ask) };
        match body {
            FetchBody::Chunk { id, total, offset, bytes } => {
                if self.fits(ask, id, total, offset, &bytes) {
                    self.pace.arrive(ask.departure, bytes.len() as u64, now);
                    self.grow();
                    (self.id, self.total) = (Some(id), Some(total));
                    self.arrived(ask, bytes, term);
                } else {
                    self.lost(now, ask);
                }
            }
            FetchBody::Busy => self.lost(now, ask),
            FetchBody::OtherId => {
                self.forget();
                self.restarted(now);
            }
            FetchBody::Gone => self.end(Err(InstallError::Interrupted)),
        }
    }

    /// Whether a part is what was asked for. An honest peer sends no other.
    fn fits(&self, ask: Ask, id: SnapshotId, total: u64, offset: u64, bytes: &Bytes) -> bool {
        let end = offset.saturating_add(bytes.len() as u64);
        self.id.is_none_or(|known| known == id)
            && self.total.is_none_or(|known| known == total)
            && offset == ask.offset
            && bytes.len() <= ask.bytes as usize
            && end <= total
            && total > 0
            && (!bytes.is_empty() || offset == total)
    }

    fn arrived(&mut self, ask: Ask, bytes: Bytes, term: Term) {
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let end = ask.offset.saturating_add(u64::from(length));
        self.outputs.push_back(Output::Progress { term, offset: end });
        let total = self.total.unwrap_or(end);
        if length < ask.bytes && end < total {
            self.again.insert(end, ask.bytes - length);
        }
        if length > 0 {
            self.arrived.insert(ask.offset, bytes);
        }
        // A first request knew no end.
        self.asked = self.asked.min(total);
        self.append();
    }

    /// Appends the next part if it is there, or finishes the file.
    fn append(&mut self) {
        let (Some(id), Some(total)) = (self.id, self.total) else { return };
        if self.appending.is_some() || self.stage != Stage::Fetching {
            return;
        }
        if self.written == total {
            self.stage = Stage::Finishing;
            self.outputs.push_back(Output::Finish);
        } else if let Some(bytes) = self.arrived.remove(&self.written) {
            let offset = self.written;
            self.appending = Some(offset.saturating_add(bytes.len() as u64));
            self.outputs.push_back(Output::Append { id, total, offset, bytes });
        }
    }

    fn appended(&mut self, now: Moment, result: Result<u64, SnapshotError>) {
        match result {
            Ok(written) if self.appending == Some(written) => {
                (self.appending, self.failures) = (None, 0);
                self.written = written;
                self.append();
            }
            // Of an append from before the fetch began anew.
            Ok(_) => {}
            Err(_) if self.appending.is_none() => {}
            Err(error) => self.broken(now, &error),
        }
    }

    /// The partial file is not as it should be: begins anew with what is there, unless the disk is
    /// the reason.
    fn broken(&mut self, now: Moment, error: &SnapshotError) {
        if matches!(error, SnapshotError::NoSpace | SnapshotError::Io(_)) {
            return self.end(Err(InstallError::Failed));
        }
        self.forget();
        self.restarted(now);
        if self.stage != Stage::Over {
            self.stage = Stage::Resuming;
            self.outputs.push_back(Output::Resume);
        }
    }

    fn finished(&mut self, result: Result<(), SnapshotError>) {
        self.end(result.map_err(|error| match error {
            SnapshotError::NoSpace | SnapshotError::Io(_) => InstallError::Failed,
            _ => InstallError::Damaged,
        }));
    }

    /// Forgets all that is known of the file.
    fn forget(&mut self) {
        (self.id, self.total) = (None, None);
        (self.written, self.asked, self.appending) = (0, 0, None);
        self.again.clear();
        self.asks.clear();
        self.arrived.clear();
    }

    /// The fetch begins anew.
    fn restarted(&mut self, now: Moment) {
        self.restarts += 1;
        if self.restarts > FAILURES_MAX {
            return self.end(Err(InstallError::Interrupted));
        }
        self.failed(now);
    }

    /// A part arrived in time.
    fn grow(&mut self) {
        if self.caution > 0 {
            self.caution -= 1;
        } else {
            self.part_bytes = self.part_bytes.saturating_mul(2).min(self.chunk_bytes);
        }
    }

    /// A request came to nothing: it is made again.
    fn lost(&mut self, now: Moment, ask: Ask) {
        self.again.insert(ask.offset, ask.bytes);
        self.pace.lose();
        self.failed(now);
    }

    /// What fails together counts as one failure.
    fn failed(&mut self, now: Moment) {
        if self.paused_until.is_some_and(|until| until > now) {
            return;
        }
        self.failures += 1;
        let least = PART_BYTES_MIN.min(self.chunk_bytes);
        (self.part_bytes, self.caution) = ((self.part_bytes / 2).max(least), CAUTION);
        if self.failures > FAILURES_MAX {
            return self.end(Err(InstallError::Interrupted));
        }
        let pause = PAUSE_MIN.saturating_mul(1 << (self.failures - 1)).min(PAUSE_MAX);
        self.paused_until = Some(now.plus(pause));
    }

    fn end(&mut self, result: Result<(), InstallError>) {
        self.forget();
        (self.stage, self.paused_until) = (Stage::Over, None);
        self.outputs.push_back(Output::Done(result));
    }

    /// Asks for as much as the pace allows.
    fn ask(&mut self, now: Moment) {
        if self.paused_until.is_some_and(|until| until > now) || self.stage != Stage::Fetching {
            return;
        }
        self.paused_until = None;
        while let Some((offset, bytes)) = self.next_part() {
            self.last_ask += 1;
            let id = AskId(self.last_ask);
            self.asks.insert(id, Ask { offset, bytes, departure: self.pace.depart(now) });
            let position: Position = self.meta.position;
            let request = FetchRequest { position, id: self.id, offset, bytes_max: bytes };
            let timeout = self.timeout.saturating_mul(1 << self.failures);
            let timeout = timeout.min(TIMEOUT_MAX.max(self.timeout));
            self.outputs.push_back(Output::Ask { id, request, timeout });
        }
    }

    /// The next part to ask for, if there is room for it.
    fn next_part(&mut self) -> Option<(u64, u32)> {
        // The first part tells how long the file is.
        let requests = if self.total.is_some() { self.pace.requests() } else { 1 };
        let waiting = self.arrived.values().map(|bytes| bytes.len() as u64);
        let under_way = self.asks.values().map(|ask| u64::from(ask.bytes));
        let held = waiting.chain(under_way).sum::<u64>();
        // The part that all others wait for is always asked for.
        let room = held + u64::from(self.chunk_bytes) <= self.pace.credit_bytes()
            || self.again.contains_key(&self.written);
        if self.asks.len() >= requests || !room {
            return None;
        }
        let most = self.part_bytes;
        if let Some((offset, bytes)) = self.again.pop_first() {
            if bytes > most {
                self.again.insert(offset + u64::from(most), bytes - most);
            }
            return Some((offset, bytes.min(most)));
        }
        let left = match self.total {
            Some(total) => total.saturating_sub(self.asked),
            None => u64::from(most),
        };
        let bytes = u32::try_from(left).unwrap_or(u32::MAX).min(most);
        if bytes == 0 || (self.total.is_none() && !self.asks.is_empty()) {
            return None;
        }
        let offset = self.asked;
        self.asked += u64::from(bytes);
        Some((offset, bytes))
    }
}

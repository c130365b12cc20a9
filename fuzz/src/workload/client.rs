//! One client, as a value: what it does next, and what it makes of an answer.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use bytes::Bytes;
use meshraft_consensus::{ClusterVersion, Index, Moment, Namespace};
use meshraft_service::{
    Sequence, ServiceError, SessionId,
    kv::{Found, KvQuery, Written},
    wire::{Level, Operation, Reply, Response},
};

use super::{
    adding_bytes, counter_bytes, key_bytes, payload,
    task::{Fresh, Task, draw_task},
    value_number,
};
use crate::{
    check::{Checks, Counted, FoundAt, Operation as Seen, Violation},
    faults::Rate,
    mistake::Mistake,
    plan::Plan,
    random::Random,
    world::Seat,
};

/// How often a write of unknown outcome is repeated before its client gives up on it.
const ATTEMPTS_MAX: u32 = 40;

/// What a client does next.
#[derive(Debug)]
pub(super) enum Next {
    Call { seat: Seat, operation: Operation, timeout: Duration },
    Wait(Duration),
    Rest,
}

/// An operation under way.
#[derive(Clone, Copy, Debug)]
struct Current {
    task: Task,
    invoked: Moment,
    /// What was committed when it began.
    floor: Index,
    attempts: u32,
    /// An earlier copy may have taken effect.
    uncertain: bool,
    /// Whether an answer is awaited.
    asked: bool,
}

/// What became of a command.
enum Outcome<'a> {
    /// It took effect there, and the machine answered.
    Done(Index, &'a [u8]),
    /// It takes no effect.
    Refused,
    /// It may take effect.
    Unknown,
}

/// What a client wants to do.
#[derive(Clone, Debug)]
enum Errand {
    /// Anything, for ever.
    Roam,
    /// One thing after the other. Reads are repeated until they are answered.
    Probe(VecDeque<Task>),
    /// Nothing new.
    Done,
}

/// One client.
#[derive(Debug)]
pub(super) struct Client {
    number: usize,
    namespace: usize,
    pinned: Option<Seat>,
    errand: Errand,
    current: Option<Current>,
    session: SessionId,
    sequence: Sequence,
    /// The newest index that it wrote at, or read.
    seen: Index,
    /// The newest revision of each key that it wrote, or read as a session.
    known: BTreeMap<u64, u64>,
    random: Random,
    /// Of which version its increments are.
    words: ClusterVersion,
    /// A mistake of clients, if one was planted.
    mistake: Option<Mistake>,
}

impl Client {
    /// A client that asks any node, without a session one time in four.
    pub(super) fn roaming(
        number: usize,
        namespace: usize,
        mut random: Random,
        plan: &Plan,
    ) -> Self {
        let sessions = random.below(4) > 0;
        let session = if sessions { draw_session(&mut random) } else { SessionId::NONE };
        let (pinned, errand) = (None, Errand::Roam);
        // What it adds, it adds in the words of one version.
        let later = if plan.faults.versions > Rate::NEVER { number as u16 % 3 } else { 0 };
        let words = ClusterVersion::new(ClusterVersion::BASELINE.get() + later);
        let client = Self::new(number, namespace, pinned, errand, session, random);
        Self { mistake: plan.mistake, words, ..client }
    }

    /// A client that asks one node: to write one key and add to a counter, and to read all.
    pub(super) fn probe(
        number: usize,
        namespace: usize,
        seat: Seat,
        keys: u64,
        mut random: Random,
    ) -> Self {
        let session = draw_session(&mut random);
        let level = Fresh::Linearizable;
        let write = Task::Write { key: random.below(keys), value: 0 };
        let add = Task::Add { counter: random.below(keys) };
        let first = [write, add].into_iter();
        let reads = (0..keys).map(|key| Task::Read { key, level });
        let counts = (0..keys).map(|counter| Task::Count { counter, level });
        let errand = Errand::Probe(first.chain(reads).chain(counts).collect());
        Self::new(number, namespace, Some(seat), errand, session, random)
    }

    const fn new(
        number: usize,
        namespace: usize,
        pinned: Option<Seat>,
        errand: Errand,
        session: SessionId,
        random: Random,
    ) -> Self {
        Self {
            number,
            namespace,
            pinned,
            errand,
            current: None,
            session,
            sequence: Sequence::ZERO,
            seen: Index::ZERO,
            known: BTreeMap::new(),
            random,
            words: ClusterVersion::BASELINE,
            mistake: None,
        }
    }

    pub(super) const fn namespace(&self) -> usize {
        self.namespace
    }

    pub(super) fn stop(&mut self) {
        self.errand = Errand::Done;
    }

    pub(super) fn is_done(&self) -> bool {
        let nothing_new = match &self.errand {
            Errand::Roam => false,
            Errand::Probe(tasks) => tasks.is_empty(),
            Errand::Done => true,
        };
        nothing_new && self.current.is_none()
    }

    /// Whether it has nothing under way, and nothing that somebody waits for.
    pub(super) const fn may_rest(&self) -> bool {
        matches!(self.errand, Errand::Roam) && self.current.is_none()
    }

    /// What to do now, and with what committed.
    pub(super) fn next(
        &mut self,
        (now, committed): (Moment, Index),
        alive: &[Seat],
        keys: u64,
        last_value: &mut u64,
    ) -> Next {
        let seat = match self.pinned {
            Some(seat) => alive.contains(&seat).then_some(seat),
            None if alive.is_empty() => None,
            None => Some(alive[self.random.place(alive.len())]),
        };
        let Some(seat) = seat else { return Next::Wait(Duration::from_millis(50)) };
        if self.current.is_some_and(|current| current.asked) {
            return Next::Rest;
        }
        if self.current.is_none() && !self.begin((now, committed), keys, last_value) {
            return Next::Rest;
        }
        let Some(current) = &mut self.current else { return Next::Rest };
        current.asked = true;
        current.attempts += 1;
        let task = current.task;
        let low = Duration::from_millis(200);
        let timeout = self.random.between(low, Duration::from_secs(3));
        Next::Call { seat, operation: self.operation(task), timeout }
    }

    /// Takes up the next task. Says whether there is one.
    fn begin(
        &mut self,
        (now, committed): (Moment, Index),
        keys: u64,
        last_value: &mut u64,
    ) -> bool {
        let mut task = match &mut self.errand {
            Errand::Roam => draw_task(keys, &mut self.random),
            Errand::Probe(tasks) => match tasks.pop_front() {
                Some(task) => task,
                None => return false,
            },
            Errand::Done => return false,
        };
        if let Task::Write { value, .. } | Task::Stray { value, .. } = &mut task {
            *last_value += 1;
            *value = *last_value;
        }
        if task.is_command() {
            let reused =
                self.mistake == Some(Mistake::OneSequence) && self.sequence == Sequence::FIRST;
            if !self.session.is_none() && !reused {
                self.sequence = self.sequence.next();
            }
        }
        let (attempts, uncertain, asked) = (0, false, false);
        let (invoked, floor) = (now, committed);
        self.current = Some(Current { task, invoked, floor, attempts, uncertain, asked });
        true
    }

    fn operation(&mut self, task: Task) -> Operation {
        let command = |payload| Operation::Write {
            session: self.session,
            sequence: self.sequence,
            acked_below: self.sequence,
            payload,
        };
        match task {
            Task::Write { key, value } => command(payload(key, value)),
            Task::Add { counter } => command(adding_bytes(counter, self.words)),
            Task::Stray { key, value } => Operation::Write {
                session: draw_session(&mut self.random),
                sequence: Sequence::new(2 + self.random.below(5)),
                acked_below: Sequence::FIRST,
                payload: payload(key, value),
            },
            Task::Read { key, level } => {
                self.query(level, KvQuery::Get { key: key_bytes(key) }.encode())
            }
            Task::Count { counter, level } => self.query(level, counter_bytes(counter)),
            Task::Barrier => Operation::Barrier,
        }
    }

    fn query(&self, fresh: Fresh, query: Bytes) -> Operation {
        let level = match fresh {
            _ if self.mistake == Some(Mistake::StaleReads) => Level::Stale,
            Fresh::Session if self.mistake == Some(Mistake::SessionGoesBack) => Level::Stale,
            Fresh::Session => return Operation::SessionRead { seen: self.seen, query },
            Fresh::Stale => Level::Stale,
            Fresh::Lease => Level::Lease,
            Fresh::Linearizable => Level::Linearizable,
        };
        Operation::Read { level, query }
    }

    /// Takes an answer, and says when to go on.
    ///
    /// # Errors
    /// The answer is not what was promised.
    pub(super) fn answered(
        &mut self,
        now: Moment,
        response: &Response,
        namespace: &Namespace,
        checks: &mut Checks,
    ) -> Result<Duration, Violation> {
        let longest = Duration::from_millis(1 << self.random.below(7));
        let think = self.random.between(Duration::ZERO, longest);
        let Some(mut current) = self.current.take() else { return Ok(think) };
        current.asked = false;
        let done = match current.task {
            Task::Write { .. } | Task::Add { .. } => {
                self.commanded(now, &mut current, response, namespace, checks)?
            }
            Task::Stray { key, value } => {
                let at = (current.invoked, now);
                checks.histories.add(namespace, key, at, Seen::Refused { value });
                if let Ok(Reply::Written { position, .. }) = response {
                    let (namespace, index) = (namespace.clone(), position.index);
                    let what = "is a command of a session that nobody opened";
                    return Err(Violation::WrongRead { namespace, index, what });
                }
                true
            }
            Task::Read { .. } | Task::Count { .. } | Task::Barrier => {
                self.read(now, &current, response, namespace, checks)?
            }
        };
        if !done {
            self.current = Some(current);
        }
        Ok(think)
    }

    /// Takes the answer to a command. Says whether that was the last word.
    fn commanded(
        &mut self,
        now: Moment,
        current: &mut Current,
        response: &Response,
        namespace: &Namespace,
        checks: &mut Checks,
    ) -> Result<bool, Violation> {
        let Some(outcome) = self.outcome(current, response) else { return Ok(false) };
        let at = (current.invoked, now);
        if let Outcome::Done(index, _) = outcome {
            checks.wrote(namespace, current.floor, index)?;
            self.seen = self.seen.max(index);
        }
        if let Task::Add { counter } = current.task {
            let what = match outcome {
                Outcome::Done(_, shows) => {
                    value_number(shows).map_or(Counted::Unknown, Counted::Added)
                }
                Outcome::Refused => Counted::Refused,
                Outcome::Unknown => Counted::Unknown,
            };
            checks.counters.add(namespace, counter, at, what);
        }
        if let Task::Write { key, value } = current.task {
            let seen = match outcome {
                Outcome::Done(_, shows) => match Written::decode(shows) {
                    Ok(Written::Set { revision }) => {
                        let revision = revision.get();
                        self.known.insert(key, revision);
                        Seen::Acknowledged { value, revision }
                    }
                    _ => Seen::Unknown { value },
                },
                Outcome::Refused => Seen::Refused { value },
                Outcome::Unknown => Seen::Unknown { value },
            };
            checks.histories.add(namespace, key, at, seen);
        }
        Ok(true)
    }

    /// What an answer to a command means; `None` if it is to be repeated.
    fn outcome<'a>(
        &mut self,
        current: &mut Current,
        response: &'a Response,
    ) -> Option<Outcome<'a>> {
        let error = match response {
            Ok(Reply::Written { position, response }) => {
                return Some(Outcome::Done(position.index, response));
            }
            Ok(_) => return Some(Outcome::Unknown),
            Err(error) => error,
        };
        current.uncertain |= error.maybe() && self.mistake != Some(Mistake::MaybeIsNo);
        let session_lost = matches!(error, ServiceError::SessionExpired { .. });
        let repeat = !self.session.is_none() && !session_lost;
        // A probe has to get through; others take a clear no for an answer.
        let insists = current.uncertain || self.pinned.is_some();
        if repeat && insists && current.attempts < ATTEMPTS_MAX {
            if self.mistake == Some(Mistake::NewSessions) {
                self.session = draw_session(&mut self.random);
                self.sequence = Sequence::FIRST;
            } else if self.mistake == Some(Mistake::NextSequences) {
                self.sequence = self.sequence.next();
            }
            return None;
        }
        if !self.session.is_none() && (session_lost || current.uncertain) {
            self.session = draw_session(&mut self.random);
            self.sequence = Sequence::ZERO;
        } else if !self.session.is_none() && self.sequence == Sequence::FIRST {
            // The session was not opened: its next command has to open it.
            self.sequence = Sequence::ZERO;
        }
        Some(if current.uncertain { Outcome::Unknown } else { Outcome::Refused })
    }

    /// Takes the answer to a read. Says whether it is one, or need not be.
    fn read(
        &mut self,
        now: Moment,
        current: &Current,
        response: &Response,
        namespace: &Namespace,
        checks: &mut Checks,
    ) -> Result<bool, Violation> {
        // A read that failed is begun anew by a probe, and forgotten by everyone else.
        let failed = Ok(self.pinned.is_none());
        let (index, bytes) = match response {
            Ok(Reply::Read { index, response }) => (*index, &response[..]),
            Ok(Reply::Barrier { index }) => (*index, &[][..]),
            _ => return failed,
        };
        let at = (current.invoked, now);
        match current.task {
            Task::Read { key, level } => {
                let Ok(Found::Value(found)) = Found::decode(bytes) else { return failed };
                let found = found.map(|(value, revision)| {
                    // A value without a number was written by nobody, and is found to be a phantom.
                    (value_number(&value).unwrap_or(u64::MAX), revision.get())
                });
                let state = FoundAt::Key(key, found);
                checks.served(namespace, level.promise(), current.floor, index, state)?;
                if level == Fresh::Session {
                    self.goes_on(key, index, found)?;
                }
                let seen = match level {
                    Fresh::Stale | Fresh::Session => Seen::StaleRead { found },
                    Fresh::Lease | Fresh::Linearizable => Seen::Read { found },
                };
                checks.histories.add(namespace, key, at, seen);
            }
            Task::Count { counter, level } => {
                let Some(shows) = value_number(bytes) else { return failed };
                let state = FoundAt::Counter(counter, shows);
                checks.served(namespace, level.promise(), current.floor, index, state)?;
                if matches!(level, Fresh::Lease | Fresh::Linearizable) {
                    checks.counters.add(namespace, counter, at, Counted::Read(shows));
                }
            }
            _ => {
                let (level, state) = (Level::Linearizable, FoundAt::Barrier);
                checks.served(namespace, level, current.floor, index, state)?;
            }
        }
        self.seen = self.seen.max(index);
        Ok(true)
    }

    /// A read of a session: it must hold all that the session knows, of this key and of the log.
    fn goes_on(
        &mut self,
        key: u64,
        index: Index,
        found: Option<(u64, u64)>,
    ) -> Result<(), Violation> {
        let found = found.map_or(0, |(_, revision)| revision);
        let known = self.known.insert(key, found).unwrap_or(0);
        let (client, at, seen) = (self.number, index, self.seen);
        let unseen = at < seen && self.mistake != Some(Mistake::SessionGoesBack);
        if found < known || unseen {
            return Err(Violation::SessionWentBack { client, found, known, at, seen });
        }
        Ok(())
    }
}

fn draw_session(random: &mut Random) -> SessionId {
    SessionId::new(random.bytes())
}

//! One client, as a value: what it does next, and what it makes of an answer.

use std::{collections::VecDeque, time::Duration};

use meshraft_consensus::{Moment, Namespace};
use meshraft_service::{
    Sequence, SessionId,
    kv::{Found, KvQuery, Written},
    wire::{Level, Operation, Reply, Response},
};

use super::{key_bytes, payload, value_number};
use crate::{
    check::{Histories, Operation as Seen},
    mistake::Mistake,
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

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Task {
    Write { key: u64, value: u64 },
    Read { key: u64, level: Level },
}

/// An operation under way.
#[derive(Clone, Copy, Debug)]
struct Current {
    task: Task,
    invoked: Moment,
    attempts: u32,
    /// An earlier copy may have taken effect.
    uncertain: bool,
    /// Whether an answer is awaited.
    asked: bool,
}

/// What a client wants to do.
#[derive(Clone, Debug)]
enum Errand {
    /// Anything, for ever.
    Roam,
    /// These keys: writes the first, reads all. Reads are repeated until they are answered.
    Probe(VecDeque<Task>),
    /// Nothing new.
    Done,
}

/// One client.
#[derive(Debug)]
pub(super) struct Client {
    namespace: usize,
    pinned: Option<Seat>,
    errand: Errand,
    current: Option<Current>,
    session: SessionId,
    sequence: Sequence,
    random: Random,
    /// A mistake of clients, if one was planted.
    mistake: Option<Mistake>,
}

impl Client {
    /// A client that asks any node, without a session one time in four.
    pub(super) fn roaming(namespace: usize, mut random: Random, mistake: Option<Mistake>) -> Self {
        let sessions = random.below(4) > 0;
        let session = if sessions { draw_session(&mut random) } else { SessionId::NONE };
        let (sequence, errand, pinned, current) = (Sequence::ZERO, Errand::Roam, None, None);
        Self { namespace, pinned, errand, current, session, sequence, random, mistake }
    }

    /// A client that asks one node: to write one key, and to read all.
    pub(super) fn probe(namespace: usize, seat: Seat, keys: u64, mut random: Random) -> Self {
        let session = draw_session(&mut random);
        let write = Task::Write { key: random.below(keys), value: 0 };
        let read = |key| Task::Read { key, level: Level::Linearizable };
        let errand = Errand::Probe(std::iter::once(write).chain((0..keys).map(read)).collect());
        let (pinned, current, sequence, mistake) = (Some(seat), None, Sequence::ZERO, None);
        Self { namespace, pinned, errand, current, session, sequence, random, mistake }
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

    /// What to do now.
    pub(super) fn next(
        &mut self,
        now: Moment,
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
        if self.current.is_none() && !self.begin(now, keys, last_value) {
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
    fn begin(&mut self, now: Moment, keys: u64, last_value: &mut u64) -> bool {
        let mut task = match &mut self.errand {
            Errand::Roam => self.draw_task(keys),
            Errand::Probe(tasks) => match tasks.pop_front() {
                Some(task) => task,
                None => return false,
            },
            Errand::Done => return false,
        };
        if let Task::Write { value, .. } = &mut task {
            *last_value += 1;
            *value = *last_value;
            let reused =
                self.mistake == Some(Mistake::OneSequence) && self.sequence == Sequence::FIRST;
            if !self.session.is_none() && !reused {
                self.sequence = self.sequence.next();
            }
        }
        let (attempts, uncertain, asked) = (0, false, false);
        self.current = Some(Current { task, invoked: now, attempts, uncertain, asked });
        true
    }

    fn draw_task(&mut self, keys: u64) -> Task {
        let key = self.random.below(keys);
        match self.random.below(10) {
            0..5 => Task::Write { key, value: 0 },
            5..7 => Task::Read { key, level: Level::Linearizable },
            // No weaker, as the clocks keep what the leases rest on.
            7 => Task::Read { key, level: Level::Lease },
            _ => Task::Read { key, level: Level::Stale },
        }
    }

    fn operation(&self, task: Task) -> Operation {
        match task {
            Task::Write { key, value } => Operation::Write {
                session: self.session,
                sequence: self.sequence,
                acked_below: self.sequence,
                payload: payload(key, value),
            },
            Task::Read { key, level } => {
                let stale = self.mistake == Some(Mistake::StaleReads);
                let level = if stale { Level::Stale } else { level };
                Operation::Read { level, query: KvQuery::Get { key: key_bytes(key) }.encode() }
            }
        }
    }

    /// Takes an answer, and says when to go on.
    pub(super) fn answered(
        &mut self,
        now: Moment,
        response: &Response,
        namespace: &Namespace,
        histories: &mut Histories,
    ) -> Duration {
        let longest = Duration::from_millis(1 << self.random.below(7));
        let think = self.random.between(Duration::ZERO, longest);
        let Some(mut current) = self.current.take() else { return think };
        current.asked = false;
        let (key, seen) = match current.task {
            Task::Write { key, value } => (key, self.wrote(value, &mut current, response)),
            Task::Read { key, level } => (key, read(level, response)),
        };
        match seen {
            Some(seen) => histories.add(namespace, key, current.invoked, now, seen),
            // A read that failed is begun anew by a probe, and forgotten by everyone else.
            None if matches!(current.task, Task::Write { .. }) || self.pinned.is_some() => {
                self.current = Some(current);
            }
            None => {}
        }
        think
    }

    /// What an answer to a write means; `None` if it is to be repeated.
    fn wrote(&mut self, value: u64, current: &mut Current, response: &Response) -> Option<Seen> {
        let error = match response {
            Ok(Reply::Written { response, .. }) => {
                return Some(match Written::decode(response) {
                    Ok(Written::Set { revision }) => {
                        Seen::Acknowledged { value, revision: revision.get() }
                    }
                    _ => Seen::Unknown { value },
                });
            }
            Ok(_) => return Some(Seen::Unknown { value }),
            Err(error) => error,
        };
        current.uncertain |= error.maybe() && self.mistake != Some(Mistake::MaybeIsNo);
        let session_lost = matches!(error, meshraft_service::ServiceError::SessionExpired { .. });
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
        Some(if current.uncertain { Seen::Unknown { value } } else { Seen::Refused { value } })
    }
}

/// What an answer to a read means; `None` if it says nothing.
fn read(level: Level, response: &Response) -> Option<Seen> {
    let Ok(Reply::Read { response, .. }) = response else { return None };
    let Ok(Found::Value(found)) = Found::decode(response) else { return None };
    let found = found.map(|(value, revision)| {
        // A value without a number was written by nobody, and is found to be a phantom.
        (value_number(&value).unwrap_or(u64::MAX), revision.get())
    });
    Some(if level == Level::Stale { Seen::StaleRead { found } } else { Seen::Read { found } })
}

fn draw_session(random: &mut Random) -> SessionId {
    SessionId::new(random.bytes())
}

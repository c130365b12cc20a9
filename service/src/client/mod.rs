//! Decides which member a client asks, and what a lost answer means.
//!
//! The client stays with one member, moves on when that one is lost, and gives every write a place
//! in its session, so that a write whose answer is lost is repeated and still applied once.
//!
//! Invariants:
//! 1. Each call gets exactly one `Done`, at its deadline at the latest.
//! 2. At most one copy of a call is under way; it is never sent to two members at once.
//! 3. A copy of a write always carries the session and sequence of the first one, unless it is
//!    certain that none was applied.
//! 4. A call that names a member is sent to no other.
//! 5. A read at the level of the session is never answered from a state older than any answer
//!    before it.

mod calls;
mod io;
mod pipeline;
mod replies;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use calls::{Calls, Ongoing, Wait};
pub use io::{AttemptId, Call, CallId, Input, Output};
use meshraft_consensus::{Index, Moment, NodeId, Term};
use pipeline::{Grant, Pipeline};

use crate::{
    error::ServiceError,
    limits::{PAYLOAD_BYTES_MAX, travelling_ms},
    session::{Sequence, SessionId},
    wire::{Level, Operation, Request},
};

/// The routing of one client in one namespace.
#[derive(Clone, Debug, Default)]
pub struct Client {
    peers: BTreeSet<NodeId>,
    current: Option<NodeId>,
    leader_term: Term,
    /// The newest entry that an answer told of.
    seen: Index,
    pipeline: Pipeline,
    calls: Calls,
    attempts: BTreeMap<AttemptId, CallId>,
    next_attempt: u64,
    closing: bool,
    outputs: VecDeque<Output>,
}

impl Client {
    /// A client that knows no member yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes note of something. Cannot fail: errors travel in [`Output::Done`].
    ///
    /// # Panics
    /// If a `Call` has the name of one that is under way: the driver's mistake.
    pub fn handle(&mut self, now: Moment, input: Input) {
        match input {
            Input::Timeout => {}
            Input::PeerUp(peer) => {
                self.peers.insert(peer);
                self.resume(now);
            }
            Input::PeerDown(peer) => {
                self.peers.remove(&peer);
            }
            Input::Leader { leader, term } => self.prefer(leader, term),
            Input::Session(session) => {
                if self.pipeline.draw(session) {
                    self.number(now);
                }
            }
            Input::Call { id, deadline, via, call } => {
                self.call(now, id, Ongoing::new(deadline, via, call));
            }
            Input::Replied { attempt, result } => self.replied(now, attempt, result),
            Input::Closing => self.close(),
        }
        self.wake(now);
    }

    /// What to do next. Drain until `None` after every [`Client::handle`].
    pub fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When to send [`Input::Timeout`] if nothing else happens first.
    pub fn deadline(&self) -> Option<Moment> {
        self.calls.deadline()
    }

    fn call(&mut self, now: Moment, id: CallId, ongoing: Ongoing) {
        assert!(self.calls.get(id).is_none(), "call {} is made twice", id.get());
        if let Some(error) = self.refusal(now, &ongoing) {
            self.outputs.push_back(Output::Done { id, response: Err(error) });
            return;
        }
        self.calls.insert(id, ongoing);
        self.dispatch(now, id);
    }

    fn refusal(&self, now: Moment, ongoing: &Ongoing) -> Option<ServiceError> {
        if self.closing {
            return Some(ServiceError::ShuttingDown);
        }
        if ongoing.deadline <= now {
            return Some(ServiceError::Timeout { maybe: false });
        }
        let bytes = match &ongoing.call {
            Call::Write { payload } => payload.len(),
            Call::Read { query, .. } => query.len(),
            _ => 0,
        };
        if bytes > PAYLOAD_BYTES_MAX {
            let (bytes, limit_bytes) = (bytes as u64, PAYLOAD_BYTES_MAX as u64);
            return Some(ServiceError::TooLarge { bytes, limit_bytes });
        }
        (!self.calls.has_room()).then_some(ServiceError::Overloaded)
    }

    /// Sends a call that is not under way, as soon as it has a member and, if a write, a number.
    fn dispatch(&mut self, now: Moment, id: CallId) {
        let Some(ongoing) = self.calls.get(id) else { return };
        if travelling_ms(ongoing.deadline.since(now)).is_none() {
            // Too late to be of use anywhere, and no reason to take a number.
            return self.fail(now, id, ServiceError::Timeout { maybe: false });
        }
        let Some(to) = self.choose(ongoing) else {
            return match ongoing.refused.clone() {
                Some(error) => self.fail(now, id, error),
                None => self.calls.wait(id, Wait::Peer),
            };
        };
        if ongoing.via.is_none() {
            self.current = Some(to);
        }
        if matches!(ongoing.call, Call::Write { .. }) && ongoing.number.is_none() {
            match self.pipeline.grant() {
                Grant::Number(number) => self.calls.set_number(id, Some(number)),
                Grant::Wait => return self.calls.wait(id, Wait::Number),
                Grant::Draw => {
                    self.outputs.push_back(Output::NeedSession);
                    return self.calls.wait(id, Wait::Number);
                }
            }
        }
        self.send(now, id, to);
    }

    fn send(&mut self, now: Moment, id: CallId, to: NodeId) {
        let Some(ongoing) = self.calls.get(id) else { return };
        let timeout = ongoing.deadline.since(now);
        let Some(deadline_ms) = travelling_ms(timeout) else { return };
        let request = Request { deadline_ms, hops: 0, operation: self.operation(ongoing) };
        let attempt = AttemptId::new(self.next_attempt);
        self.next_attempt += 1;
        self.attempts.insert(attempt, id);
        self.calls.sent(id, attempt, to);
        self.outputs.push_back(Output::Send { attempt, to, request, timeout });
    }

    fn operation(&self, ongoing: &Ongoing) -> Operation {
        match &ongoing.call {
            Call::Write { payload } => {
                let (session, sequence, acked_below) = match ongoing.number {
                    None => (SessionId::NONE, Sequence::ZERO, Sequence::ZERO),
                    Some(number) => {
                        (number.session, number.sequence, self.pipeline.acked_below(number))
                    }
                };
                Operation::Write { session, sequence, acked_below, payload: payload.clone() }
            }
            Call::Read { level: Level::Session, query } => {
                Operation::SessionRead { seen: self.seen, query: query.clone() }
            }
            Call::Read { level, query } => Operation::Read { level: *level, query: query.clone() },
            Call::Barrier => Operation::Barrier,
            Call::Status if ongoing.plain => Operation::Status,
            Call::Members if ongoing.plain => Operation::Members,
            Call::Status | Call::Members => Operation::Describe,
            Call::Remove { node } => Operation::Remove { node: *node },
            Call::Transfer { to } => Operation::Transfer { to: *to },
            Call::Leave => Operation::Leave,
            Call::Rejoin => Operation::Rejoin,
        }
    }

    /// The member to ask: the one that the caller names, else the one that was asked last, else the
    /// next that is up.
    fn choose(&self, ongoing: &Ongoing) -> Option<NodeId> {
        let fit = |peer: &NodeId| !ongoing.refused_by.contains(peer) && self.peers.contains(peer);
        match ongoing.via {
            Some(via) => Some(via).filter(fit),
            None => self.current.filter(fit).or_else(|| self.next_peer(fit)),
        }
    }

    /// The first fit member after the current one, in a circle.
    fn next_peer(&self, fit: impl Fn(&NodeId) -> bool) -> Option<NodeId> {
        let later = |peer: &&NodeId| self.current.is_none_or(|current| **peer > current);
        let mut fitting = self.peers.iter().filter(|peer| fit(peer));
        let found = fitting.clone().find(later).or_else(|| fitting.next());
        found.copied()
    }
}

//! Decides, for one namespace of one member, what becomes of each request: any member takes any.
//!
//! A write goes to the own core if it leads, else to the leader that is known; without one it is
//! parked until one appears or its deadline passes. A read asks the own core for an index and is
//! then answered here.
//!
//! Invariants:
//! 1. Each `Submit` gets exactly one `Answer`, at its deadline at the latest.
//! 2. At most one copy of a request is under way from here at any moment.
//! 3. A copy whose outcome is unknown is followed by another only under the same session and
//!    sequence; every later failure of that request then says `maybe`.
//! 4. A request is passed on at most [`HOPS_MAX`] times; only the asked member parks it for want of
//!    a leader, every other one answers with what it knows.
//! 5. Requests and their bytes are bounded, and those that are parked more tightly.

mod forward;
mod io;
mod leadership;
mod read;
mod requests;
mod write;

use std::collections::{BTreeMap, VecDeque};

use meshraft_consensus::{Index, Moment, NodeId};

pub use io::{
    AdmitResult, ForwardId, ForwardLost, Input, Output, ProposeResult, RemoveResult, RequestId,
    TransferResult,
};
use leadership::Leadership;
use requests::{Pending, Requests, Stage};

use crate::{
    error::{Feature, ServiceError},
    limits::{
        HOPS_MAX, PARKED_BYTES_MAX, PARKED_MAX, PAYLOAD_BYTES_MAX, REQUESTS_BYTES_MAX, REQUESTS_MAX,
    },
    wire::{Level, Operation, Response},
};

/// How much a router holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RouterLimits {
    /// Requests in hand.
    pub requests_max: usize,
    /// Bytes of requests in hand.
    pub requests_bytes_max: usize,
    /// Parked requests.
    pub parked_max: usize,
    /// Bytes of parked requests.
    pub parked_bytes_max: usize,
}

impl Default for RouterLimits {
    fn default() -> Self {
        Self {
            requests_max: REQUESTS_MAX,
            requests_bytes_max: REQUESTS_BYTES_MAX,
            parked_max: PARKED_MAX,
            parked_bytes_max: PARKED_BYTES_MAX,
        }
    }
}

/// The router of one namespace.
#[derive(Clone, Debug)]
pub struct Router {
    leadership: Leadership,
    requests: Requests,
    forwards: BTreeMap<ForwardId, RequestId>,
    next_forward: u64,
    applied: Index,
    closing: bool,
    outputs: VecDeque<Output>,
}

impl Router {
    /// A router on the node `me`, which knows of no leader yet.
    pub fn new(me: NodeId) -> Self {
        Self::with_limits(me, RouterLimits::default())
    }

    /// The same with other bounds.
    pub fn with_limits(me: NodeId, limits: RouterLimits) -> Self {
        Self {
            leadership: Leadership::new(me),
            requests: Requests::new(limits),
            forwards: BTreeMap::new(),
            next_forward: 0,
            applied: Index::ZERO,
            closing: false,
            outputs: VecDeque::new(),
        }
    }

    /// Takes note of something. Cannot fail: errors travel in [`Output::Answer`]; an answer to
    /// something that is over already is dropped.
    ///
    /// # Panics
    /// If a `Submit` names a request that is still under way: the driver's mistake.
    pub fn handle(&mut self, now: Moment, input: Input) {
        match input {
            Input::Timeout => {}
            Input::Submit { id, hops, deadline, operation } => {
                self.submit(now, id, Pending::new(hops, deadline, operation));
            }
            Input::Leader { leader, is_me, ready, term } => {
                if self.leadership.learn(leader, is_me, ready, term) {
                    self.release(now);
                }
            }
            Input::Proposed { id, result } => self.proposed(now, id, result),
            Input::ReadIndex { id, result } => self.read_index(now, id, result),
            Input::Applied(index) => self.applied(index),
            Input::Queried { id, result } => self.queried(id, result),
            Input::Replied { forward, result } => self.replied(now, forward, result),
            Input::AdmissionDone { id, result } => self.admission_done(now, id, result),
            Input::RemovalDone { id, result } => self.removal_done(now, id, result),
            Input::TransferDone { id, result } => self.transfer_done(now, id, result),
            Input::Closing => self.close(),
        }
        self.wake(now);
    }

    /// What to do next. Drain until `None` after every [`Router::handle`].
    pub fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When to send [`Input::Timeout`] if nothing else happens first.
    pub fn deadline(&self) -> Option<Moment> {
        self.requests.deadline()
    }

    /// How many requests have no answer yet.
    pub fn pending(&self) -> usize {
        self.requests.len()
    }

    /// How many of them are parked.
    pub fn parked(&self) -> usize {
        self.requests.parked()
    }

    fn submit(&mut self, now: Moment, id: RequestId, pending: Pending) {
        assert!(!self.requests.contains(id), "request {} is submitted twice", id.get());
        let refusal = self.refusal(now, &pending);
        if let Some(error) = refusal {
            self.outputs.push_back(Output::Answer { id, response: Err(error) });
            return;
        }
        self.requests.insert(id, pending);
        self.dispatch(now, id);
    }

    fn refusal(&self, now: Moment, pending: &Pending) -> Option<ServiceError> {
        if self.closing {
            return Some(ServiceError::ShuttingDown);
        }
        if pending.deadline <= now {
            return Some(ServiceError::Timeout { maybe: false });
        }
        let bytes = pending.operation.payload_bytes();
        if bytes > PAYLOAD_BYTES_MAX {
            let (bytes, limit_bytes) = (bytes as u64, PAYLOAD_BYTES_MAX as u64);
            return Some(ServiceError::TooLarge { bytes, limit_bytes });
        }
        match pending.operation {
            // These tell of the member itself: whoever owns it answers them, nothing is routed.
            Operation::Status
            | Operation::Members
            | Operation::Addresses
            | Operation::Leave
            | Operation::Rejoin
            | Operation::Describe => {
                return Some(ServiceError::Unsupported(Feature::Operation));
            }
            _ => {}
        }
        if let Err(error) = pending.operation.check() {
            return Some(error);
        }
        (!self.requests.has_room(bytes)).then_some(ServiceError::Overloaded)
    }

    /// Sends a request that is not under way to where it belongs now.
    fn dispatch(&mut self, now: Moment, id: RequestId) {
        let Some(pending) = self.requests.get(id) else { return };
        match pending.operation {
            Operation::Read { level: Level::Stale, .. } => self.query(id),
            Operation::SessionRead { seen, .. } => self.query_at(id, seen),
            Operation::Write { .. }
            | Operation::Admit { .. }
            | Operation::Remove { .. }
            | Operation::Transfer { .. } => self.dispatch_write(now, id),
            _ => self.dispatch_read(now, id),
        }
    }

    /// Tries everything that is parked again, in the order of arrival.
    fn release(&mut self, now: Moment) {
        for id in self.requests.parked_ids() {
            self.dispatch(now, id);
        }
    }

    /// Lets a request wait for another leader, or for its next attempt.
    fn park(&mut self, now: Moment, id: RequestId) {
        if self.closing {
            self.fail(id, ServiceError::ShuttingDown);
        } else if !self.requests.park(now, id) {
            self.fail(id, ServiceError::Overloaded);
        }
    }

    /// Expires what is due and repeats what is to be tried again.
    fn wake(&mut self, now: Moment) {
        while let Some(id) = self.requests.next_due(now) {
            let Some(pending) = self.requests.get(id) else { continue };
            if pending.deadline <= now {
                let error = pending.expired(self.applied);
                self.fail(id, error);
            } else {
                self.requests.clear_retry(id);
                self.dispatch(now, id);
            }
        }
    }

    /// The first time lets what is under way finish; the second ends that too.
    fn close(&mut self) {
        let ids = if self.closing { self.requests.ids() } else { self.requests.parked_ids() };
        self.closing = true;
        for id in ids {
            let under_way = self.requests.get(id).is_some_and(Pending::may_take_effect);
            self.requests.mark_uncertain(id, under_way);
            self.fail(id, ServiceError::ShuttingDown);
        }
    }

    fn fail(&mut self, id: RequestId, error: ServiceError) {
        let uncertain = self.requests.get(id).is_some_and(|pending| pending.uncertain);
        self.answer(id, Err(error.after(uncertain)));
    }

    fn answer(&mut self, id: RequestId, response: Response) {
        let Some(pending) = self.requests.remove(id) else { return };
        if let Stage::Forwarded { forward, .. } = pending.stage {
            self.forwards.remove(&forward);
        }
        self.outputs.push_back(Output::Answer { id, response });
    }
}

const _: () = assert!(HOPS_MAX >= 1, "a follower must be able to reach its leader");

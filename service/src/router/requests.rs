//! Keeps the requests of a router: what stage each is in, when it wakes, and the bounds.
//!
//! Invariants:
//! 1. `wakes` holds, for each request, its deadline, and its next attempt if it has one.
//! 2. `parked` holds exactly the requests in [`Stage::Parked`], in order of arrival.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use meshraft_consensus::{Index, Moment, NodeId, Term};

use super::{ForwardId, RequestId, RouterLimits};
use crate::{error::ServiceError, wire::Operation};

const RETRY_MIN: Duration = Duration::from_millis(20);
const RETRY_DOUBLINGS_MAX: u32 = 4;

/// What is being done about a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Parked,
    Proposed,
    /// A change of the configuration is with the own core.
    Changing,
    Forwarded {
        forward: ForwardId,
        to: NodeId,
    },
    AskingIndex,
    AwaitingApply(Index),
    Querying,
}

/// One request without an answer.
#[derive(Clone, Debug)]
pub(super) struct Pending {
    pub(super) hops: u8,
    pub(super) deadline: Moment,
    pub(super) operation: Operation,
    pub(super) stage: Stage,
    /// Whether an earlier copy may have taken effect, or still may.
    pub(super) uncertain: bool,
    /// Whether an attempt failed for want of a leader.
    pub(super) leaderless: bool,
    /// Whether the last attempt failed for another change of the configuration.
    pub(super) crowded: bool,
    /// The term of what was known of the leader when the last copy went to it.
    pub(super) attempted: Option<Term>,
    attempts: u32,
    retry_at: Option<Moment>,
    arrival: u64,
}

impl Pending {
    pub(super) const fn new(hops: u8, deadline: Moment, operation: Operation) -> Self {
        Self {
            hops,
            deadline,
            operation,
            stage: Stage::Parked,
            uncertain: false,
            leaderless: false,
            crowded: false,
            attempted: None,
            attempts: 0,
            retry_at: None,
            arrival: 0,
        }
    }

    /// Whether what is under way now may take effect unseen.
    pub(super) const fn may_take_effect(&self) -> bool {
        let handed_on =
            matches!(self.stage, Stage::Proposed | Stage::Changing | Stage::Forwarded { .. });
        handed_on && self.operation.is_write()
    }

    /// What to answer at the deadline.
    pub(super) const fn expired(&self, applied: Index) -> ServiceError {
        match (self.stage, &self.operation) {
            _ if self.may_take_effect() => ServiceError::Timeout { maybe: true },
            (Stage::AwaitingApply(_), Operation::SessionRead { seen, .. }) => {
                ServiceError::Behind { applied, seen: *seen }
            }
            (Stage::Parked, _) if self.crowded => ServiceError::ChangeInProgress,
            (Stage::Parked, _) => ServiceError::NoLeader,
            (Stage::AskingIndex, _) if self.leaderless => ServiceError::NoLeader,
            _ => ServiceError::Timeout { maybe: false },
        }
    }
}

/// All requests of one router.
#[derive(Clone, Debug)]
pub(super) struct Requests {
    limits: RouterLimits,
    table: BTreeMap<RequestId, Pending>,
    parked: BTreeSet<(u64, RequestId)>,
    awaiting: BTreeSet<(Index, RequestId)>,
    wakes: BTreeSet<(Moment, RequestId)>,
    bytes: usize,
    parked_bytes: usize,
    arrivals: u64,
}

impl Requests {
    pub(super) const fn new(limits: RouterLimits) -> Self {
        Self {
            limits,
            table: BTreeMap::new(),
            parked: BTreeSet::new(),
            awaiting: BTreeSet::new(),
            wakes: BTreeSet::new(),
            bytes: 0,
            parked_bytes: 0,
            arrivals: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.table.len()
    }

    pub(super) fn parked(&self) -> usize {
        self.parked.len()
    }

    pub(super) fn contains(&self, id: RequestId) -> bool {
        self.table.contains_key(&id)
    }

    pub(super) fn get(&self, id: RequestId) -> Option<&Pending> {
        self.table.get(&id)
    }

    pub(super) fn ids(&self) -> Vec<RequestId> {
        self.table.keys().copied().collect()
    }

    pub(super) fn parked_ids(&self) -> Vec<RequestId> {
        self.parked.iter().map(|(_, id)| *id).collect()
    }

    pub(super) fn deadline(&self) -> Option<Moment> {
        self.wakes.first().map(|(at, _)| *at)
    }

    /// The next request that is due, each at most until it is dealt with.
    pub(super) fn next_due(&self, now: Moment) -> Option<RequestId> {
        self.wakes.first().filter(|(at, _)| *at <= now).map(|(_, id)| *id)
    }

    pub(super) fn has_room(&self, bytes: usize) -> bool {
        self.table.len() < self.limits.requests_max
            && self.bytes.saturating_add(bytes) <= self.limits.requests_bytes_max
    }

    /// Whether another read may wait for what is to be applied: as few as may be parked.
    pub(super) fn has_room_to_wait(&self) -> bool {
        self.awaiting.len() < self.limits.parked_max
    }

    /// Takes a request in; it is not parked before [`Requests::park`] says so.
    pub(super) fn insert(&mut self, id: RequestId, mut pending: Pending) {
        self.arrivals += 1;
        pending.arrival = self.arrivals;
        self.bytes += pending.operation.payload_bytes();
        self.wakes.insert((pending.deadline, id));
        self.table.insert(id, pending);
    }

    pub(super) fn remove(&mut self, id: RequestId) -> Option<Pending> {
        self.leave_stage(id);
        self.clear_retry(id);
        let pending = self.table.remove(&id)?;
        self.wakes.remove(&(pending.deadline, id));
        self.bytes -= pending.operation.payload_bytes();
        Some(pending)
    }

    /// Moves a request to a stage other than parked.
    pub(super) fn enter(&mut self, id: RequestId, stage: Stage) {
        self.leave_stage(id);
        self.clear_retry(id);
        if let Some(pending) = self.table.get_mut(&id) {
            pending.stage = stage;
            if let Stage::AwaitingApply(index) = stage {
                self.awaiting.insert((index, id));
            }
        }
    }

    /// Parks a request and sets its next attempt, later each time; `false` if there is no room.
    pub(super) fn park(&mut self, now: Moment, id: RequestId) -> bool {
        self.leave_stage(id);
        self.clear_retry(id);
        let Some(pending) = self.table.get_mut(&id) else { return true };
        let bytes = pending.operation.payload_bytes();
        pending.stage = Stage::Parked;
        if pending.attempts > 0 {
            let doublings = (pending.attempts - 1).min(RETRY_DOUBLINGS_MAX);
            let at = now.plus(RETRY_MIN * (1 << doublings));
            pending.retry_at = Some(at);
            self.wakes.insert((at, id));
        }
        let room = self.parked.len() < self.limits.parked_max
            && self.parked_bytes.saturating_add(bytes) <= self.limits.parked_bytes_max;
        self.parked.insert((pending.arrival, id));
        self.parked_bytes += bytes;
        room
    }

    /// Takes note of an attempt that failed.
    pub(super) fn count_attempt(&mut self, id: RequestId) {
        if let Some(pending) = self.table.get_mut(&id) {
            pending.attempts = pending.attempts.saturating_add(1);
        }
    }

    pub(super) fn mark_uncertain(&mut self, id: RequestId, uncertain: bool) {
        if let Some(pending) = self.table.get_mut(&id) {
            pending.uncertain |= uncertain;
        }
    }

    pub(super) fn mark_leaderless(&mut self, id: RequestId) {
        if let Some(pending) = self.table.get_mut(&id) {
            pending.leaderless = true;
        }
    }

    pub(super) fn mark_crowded(&mut self, id: RequestId, crowded: bool) {
        if let Some(pending) = self.table.get_mut(&id) {
            pending.crowded = crowded;
        }
    }

    pub(super) fn mark_attempted(&mut self, id: RequestId, term: Term) {
        if let Some(pending) = self.table.get_mut(&id) {
            pending.attempted = Some(term);
        }
    }

    /// Takes back the next attempt of a request.
    pub(super) fn clear_retry(&mut self, id: RequestId) {
        if let Some(pending) = self.table.get_mut(&id)
            && let Some(at) = pending.retry_at.take()
            && at != pending.deadline
        {
            self.wakes.remove(&(at, id));
        }
    }

    /// The requests that wait for nothing but `applied`, in the order of what they waited for.
    pub(super) fn applied(&self, applied: Index) -> Vec<(Index, RequestId)> {
        self.awaiting.iter().take_while(|(index, _)| *index <= applied).copied().collect()
    }

    fn leave_stage(&mut self, id: RequestId) {
        let Some(pending) = self.table.get(&id) else { return };
        match pending.stage {
            // A request that has just come in is not parked yet.
            Stage::Parked if self.parked.remove(&(pending.arrival, id)) => {
                self.parked_bytes -= pending.operation.payload_bytes();
            }
            Stage::AwaitingApply(index) => {
                self.awaiting.remove(&(index, id));
            }
            _ => {}
        }
    }
}

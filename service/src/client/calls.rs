//! Keeps the calls of a client: what each waits for, when it wakes, and the bound on them.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use meshraft_consensus::{Moment, NodeId};

use super::{AttemptId, Call, CallId, pipeline::Number};
use crate::{error::ServiceError, limits::PARKED_MAX};

const RETRY_MIN: Duration = Duration::from_millis(20);
const RETRY_DOUBLINGS_MAX: u32 = 4;

/// What a call that is not under way waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Wait {
    /// A number in a session. The first, so that those calls stand first among all.
    Number,
    /// A member that can be asked.
    Peer,
}

/// One call without an answer.
#[derive(Clone, Debug)]
pub(super) struct Ongoing {
    pub(super) deadline: Moment,
    pub(super) via: Option<NodeId>,
    pub(super) call: Call,
    pub(super) number: Option<Number>,
    /// The copy that is under way, and to whom.
    pub(super) under_way: Option<(AttemptId, NodeId)>,
    /// Whether an earlier copy may have taken effect, or still may.
    pub(super) uncertain: bool,
    /// Whether to ask in the words of the first version, as the asked member knows no others.
    pub(super) plain: bool,
    pub(super) refused_by: BTreeSet<NodeId>,
    pub(super) refused: Option<ServiceError>,
    wait: Option<Wait>,
    losses: u32,
    retry_at: Option<Moment>,
    arrival: u64,
}

impl Ongoing {
    pub(super) const fn new(deadline: Moment, via: Option<NodeId>, call: Call) -> Self {
        Self {
            deadline,
            via,
            call,
            number: None,
            under_way: None,
            uncertain: false,
            plain: false,
            refused_by: BTreeSet::new(),
            refused: None,
            wait: None,
            losses: 0,
            retry_at: None,
            arrival: 0,
        }
    }

    /// Whether it may have taken effect, or still may.
    pub(super) const fn may_take_effect(&self) -> bool {
        self.uncertain || (self.call.is_write() && self.under_way.is_some())
    }
}

/// All calls of one client, at most [`PARKED_MAX`].
#[derive(Clone, Debug, Default)]
pub(super) struct Calls {
    table: BTreeMap<CallId, Ongoing>,
    waiting: BTreeSet<(Wait, u64, CallId)>,
    wakes: BTreeSet<(Moment, CallId)>,
    arrivals: u64,
}

impl Calls {
    pub(super) fn has_room(&self) -> bool {
        self.table.len() < PARKED_MAX
    }

    pub(super) fn get(&self, id: CallId) -> Option<&Ongoing> {
        self.table.get(&id)
    }

    pub(super) fn ids(&self) -> Vec<CallId> {
        self.table.keys().copied().collect()
    }

    pub(super) fn deadline(&self) -> Option<Moment> {
        self.wakes.first().map(|(at, _)| *at)
    }

    pub(super) fn next_due(&self, now: Moment) -> Option<CallId> {
        self.wakes.first().filter(|(at, _)| *at <= now).map(|(_, id)| *id)
    }

    /// The calls that wait for a member, in the order of arrival.
    pub(super) fn waiting_for_peer(&self) -> Vec<CallId> {
        let all = self.waiting.iter().filter(|(what, ..)| *what == Wait::Peer);
        all.map(|(_, _, id)| *id).collect()
    }

    /// The write that has waited longest for a number.
    pub(super) fn first_unnumbered(&self) -> Option<CallId> {
        let first = self.waiting.first().filter(|(what, ..)| *what == Wait::Number);
        first.map(|(_, _, id)| *id)
    }

    pub(super) fn insert(&mut self, id: CallId, mut ongoing: Ongoing) {
        self.arrivals += 1;
        ongoing.arrival = self.arrivals;
        self.wakes.insert((ongoing.deadline, id));
        self.table.insert(id, ongoing);
    }

    pub(super) fn remove(&mut self, id: CallId) -> Option<Ongoing> {
        self.stop_waiting(id);
        self.clear_retry(id);
        let ongoing = self.table.remove(&id)?;
        self.wakes.remove(&(ongoing.deadline, id));
        Some(ongoing)
    }

    pub(super) fn wait(&mut self, id: CallId, what: Wait) {
        self.stop_waiting(id);
        if let Some(ongoing) = self.table.get_mut(&id) {
            ongoing.wait = Some(what);
            self.waiting.insert((what, ongoing.arrival, id));
        }
    }

    pub(super) fn set_number(&mut self, id: CallId, number: Option<Number>) {
        if let Some(ongoing) = self.table.get_mut(&id) {
            ongoing.number = number;
            ongoing.under_way = None;
        }
    }

    pub(super) fn sent(&mut self, id: CallId, attempt: AttemptId, to: NodeId) {
        self.stop_waiting(id);
        self.clear_retry(id);
        if let Some(ongoing) = self.table.get_mut(&id) {
            ongoing.under_way = Some((attempt, to));
        }
    }

    /// Takes note that a member refuses the caller.
    pub(super) fn refused(&mut self, id: CallId, by: NodeId, error: ServiceError) {
        if let Some(ongoing) = self.table.get_mut(&id) {
            ongoing.under_way = None;
            ongoing.refused_by.insert(by);
            ongoing.refused = Some(error);
        }
    }

    /// Takes note that the asked member does not know the newest words.
    pub(super) fn speak_plainly(&mut self, id: CallId) {
        if let Some(ongoing) = self.table.get_mut(&id) {
            (ongoing.under_way, ongoing.plain) = (None, true);
        }
    }

    /// Takes note that a copy has no answer of use; says whether to send the next one at once.
    pub(super) fn lost(&mut self, now: Moment, id: CallId, delivered_maybe: bool) -> bool {
        let Some(ongoing) = self.table.get_mut(&id) else { return false };
        ongoing.under_way = None;
        ongoing.uncertain |= delivered_maybe && ongoing.call.is_write();
        ongoing.losses = ongoing.losses.saturating_add(1);
        if ongoing.losses == 1 {
            return true;
        }
        let doublings = (ongoing.losses - 2).min(RETRY_DOUBLINGS_MAX);
        let at = now.plus(RETRY_MIN * (1 << doublings));
        ongoing.retry_at = Some(at);
        self.wakes.insert((at, id));
        false
    }

    /// Takes back the next attempt of a call.
    pub(super) fn clear_retry(&mut self, id: CallId) {
        if let Some(ongoing) = self.table.get_mut(&id)
            && let Some(at) = ongoing.retry_at.take()
            && at != ongoing.deadline
        {
            self.wakes.remove(&(at, id));
        }
    }

    fn stop_waiting(&mut self, id: CallId) {
        if let Some(ongoing) = self.table.get_mut(&id)
            && let Some(what) = ongoing.wait.take()
        {
            self.waiting.remove(&(what, ongoing.arrival, id));
        }
    }
}

//! The requests of one handle that were taken, and what goes back to whoever asked.
//!
//! No request is left in silence. One that is taken has room for its reply; one without room is
//! refused at once; a reply that can't go out is replaced by the news of that.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::{
    budget::{Budget, Purse},
    codec::{Packet, Unanswered},
    config::Limits,
    error::ReplyError,
};

/// What a request costs from its arrival until its reply is written; a reply of at most so many
/// bytes costs nothing beside.
const REQUEST_BYTES: usize = 256;
/// Requests that were refused for want of room, and whose askers have not taken that yet. Beyond
/// it the peer asks without reading.
const REFUSED_MAX: usize = 256;

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// It has room for its reply.
    Yes,
    /// It has none, and whoever asked is told.
    Refused,
    /// There is no room even for that: close the handle.
    Flooded,
}

/// The open requests of one handle, and the packets that go back on it.
#[derive(Debug)]
pub(super) struct Replies {
    purse: Purse,
    /// Numbers of requests that are not answered, ascending.
    open: VecDeque<u64>,
    /// Packets to write, with the bytes that each holds of the purse.
    waiting: VecDeque<(Packet, usize)>,
    /// What all requests and packets hold of the purse.
    held: usize,
    /// Packets among `waiting` that no request has room for.
    refused: usize,
}

impl Replies {
    pub(super) const fn new(purse: Purse) -> Self {
        Self { purse, open: VecDeque::new(), waiting: VecDeque::new(), held: 0, refused: 0 }
    }

    /// Takes a request, if there is room for its reply.
    pub(super) fn take(&mut self, id: u64, limits: &Limits, budget: &mut Budget) -> Taken {
        let place = self.open.partition_point(|open| *open < id);
        let known = self.open.get(place) == Some(&id);
        let count = self.open.len() + self.waiting.len() - self.refused;
        if !known
            && count < limits.requests_max
            && budget.bound(self.purse, REQUEST_BYTES).is_none()
        {
            self.open.insert(place, id);
            self.hold(REQUEST_BYTES, budget);
            return Taken::Yes;
        }
        if self.refused >= REFUSED_MAX {
            return Taken::Flooded;
        }
        self.refused += 1;
        self.waiting.push_back((Packet::Unanswered { id, why: Unanswered::Overloaded }, 0));
        Taken::Refused
    }

    /// Queues the answer to a request.
    ///
    /// # Errors
    /// It can't be sent. Unless no such request is open, the news of that is queued instead.
    pub(super) fn answer(
        &mut self,
        id: u64,
        payload: Bytes,
        limits: &Limits,
        budget: &mut Budget,
    ) -> Result<(), ReplyError> {
        let place = self.open.binary_search(&id).map_err(|_| ReplyError::NotOpen)?;
        self.open.remove(place);
        let packet = Packet::Reply { id, payload };
        let bytes = packet.cost_bytes();
        let more = bytes.saturating_sub(REQUEST_BYTES);
        let bytes_max = limits.message_bytes_max;
        let (unsent, why) = if bytes > bytes_max {
            (ReplyError::TooLarge { bytes, bytes_max }, Unanswered::TooLarge)
        } else if let Some(bytes_max) = self.bound(more, limits, budget) {
            (ReplyError::NoRoom { bytes_max }, Unanswered::NoRoom)
        } else {
            self.hold(more, budget);
            self.waiting.push_back((packet, REQUEST_BYTES + more));
            return Ok(());
        };
        self.waiting.push_back((Packet::Unanswered { id, why }, REQUEST_BYTES));
        Err(unsent)
    }

    /// The bound that `more` bytes would pass, if there is one.
    fn bound(&self, more: usize, limits: &Limits, budget: &Budget) -> Option<usize> {
        let waiting = self.held - self.open.len() * REQUEST_BYTES;
        if more > 0 && waiting.saturating_add(more) > limits.queue_bytes_max {
            return Some(limits.queue_bytes_max);
        }
        (more > 0).then(|| budget.bound(self.purse, more)).flatten()
    }

    /// The next packet to write.
    pub(super) fn pop(&mut self, budget: &mut Budget) -> Option<Packet> {
        let (packet, bytes) = self.waiting.pop_front()?;
        if bytes == 0 {
            self.refused -= 1;
        }
        self.held -= bytes;
        budget.give_back(self.purse, bytes);
        Some(packet)
    }

    /// Where all of it is counted.
    pub(super) const fn purse(&self) -> Purse {
        self.purse
    }

    /// What all of it holds.
    pub(super) const fn held(&self) -> usize {
        self.held
    }

    /// Gives back what all of it holds; for a handle that goes.
    pub(super) fn release(&mut self, budget: &mut Budget) {
        budget.give_back(self.purse, self.held);
        *self = Self::new(self.purse);
    }

    fn hold(&mut self, bytes: usize, budget: &mut Budget) {
        self.held += bytes;
        budget.take(self.purse, bytes);
    }
}

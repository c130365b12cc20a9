//! Bounds what is on its way to one follower, in messages and in bytes (thesis 10.2.1).
//!
//! Invariant: `bytes` is the sum over the requests, which are in the order of their last slots.

use alloc::collections::VecDeque;

use crate::types::{Index, Moment};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Sent {
    last: Index,
    bytes: u64,
    at: Moment,
}

/// Requests that were sent and not acknowledged.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Inflight {
    requests: VecDeque<Sent>,
    bytes: u64,
}

impl Inflight {
    /// Whether nothing is on its way.
    pub(crate) fn is_empty(&self) -> bool {
        self.requests.is_empty()
    }

    /// How many more bytes may be sent: all of `free` if nothing is on its way (one larger entry
    /// goes alone), nothing if the other end has no room.
    pub(crate) fn room(&self, messages_max: usize, bytes_max: u64, free: u64) -> u64 {
        if self.requests.len() >= messages_max {
            return 0;
        }
        bytes_max.min(free).saturating_sub(self.bytes)
    }

    /// A request with entries up to `last` was sent.
    pub(crate) fn push(&mut self, last: Index, bytes: u64, at: Moment) {
        self.bytes = self.bytes.saturating_add(bytes);
        self.requests.push_back(Sent { last, bytes, at });
    }

    /// Everything up to `matched` arrived.
    pub(crate) fn acknowledge(&mut self, matched: Index) {
        while let Some(sent) = self.requests.pop_front_if(|sent| sent.last <= matched) {
            self.bytes = self.bytes.saturating_sub(sent.bytes);
        }
    }

    /// Whatever was on its way is given up.
    pub(crate) fn clear(&mut self) {
        self.requests.clear();
        self.bytes = 0;
    }

    /// When the oldest request was sent.
    pub(crate) fn oldest(&self) -> Option<Moment> {
        self.requests.front().map(|sent| sent.at)
    }

    /// Panics if the bytes are miscounted.
    pub(crate) fn check(&self, matched: Index) {
        let bytes: u64 = self.requests.iter().map(|sent| sent.bytes).sum();
        assert!(bytes == self.bytes, "bytes in flight are counted");
        let unmatched = self.requests.iter().all(|sent| sent.last > matched);
        assert!(unmatched, "what is acknowledged is no longer in flight");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_bounded_by_messages_bytes_and_the_other_end() {
        let mut inflight = Inflight::default();
        let at = Moment::ZERO;
        assert_eq!(inflight.room(2, 100, 1000), 100);
        assert_eq!(inflight.room(2, 100, 30), 30, "the other end has less");
        inflight.push(Index::new(1), 60, at);
        assert_eq!(inflight.room(2, 100, 1000), 40);
        inflight.push(Index::new(2), 60, at);
        assert_eq!(inflight.room(2, 1000, 1000), 0, "two messages are on their way");
        assert_eq!(inflight.room(3, 100, 1000), 0);
        inflight.acknowledge(Index::new(1));
        assert_eq!(inflight.room(2, 100, 1000), 40);
        inflight.acknowledge(Index::new(2));
        assert!(inflight.is_empty());
        inflight.check(Index::new(2));
    }
}

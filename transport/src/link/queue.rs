//! What waits to be written in one namespace on one channel, bounded in messages and in bytes.

use std::collections::VecDeque;

use meshraft_consensus::{Incarnation, Moment};

use crate::{codec::Packet, config::Limits, types::Channel};

/// A message that waits.
#[derive(Debug)]
pub(super) struct Queued {
    pub(super) packet: Packet,
    /// The only life of the peer that it is for.
    pub(super) expected: Option<Incarnation>,
    /// When it was queued.
    pub(super) since: Moment,
}

/// The new message found no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct QueueFull;

/// A bounded queue.
#[derive(Debug, Default)]
pub(super) struct Queue {
    waiting: VecDeque<(Queued, usize)>,
    bytes: usize,
}

impl Queue {
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Queues a message. On Control the oldest ones give way; elsewhere a full queue refuses the
    /// new one.
    pub(super) fn push(
        &mut self,
        queued: Queued,
        channel: Channel,
        limits: &Limits,
    ) -> Result<(), QueueFull> {
        let cost = queued.packet.cost_bytes();
        let fits = |queue: &Self| {
            queue.waiting.len() < limits.messages_max
                && queue.bytes.saturating_add(cost) <= limits.queue_bytes_max
        };
        while !fits(self) {
            if channel != Channel::Control || self.pop().is_none() {
                return Err(QueueFull);
            }
        }
        self.bytes += cost;
        self.waiting.push_back((queued, cost));
        Ok(())
    }

    /// The oldest message.
    pub(super) fn pop(&mut self) -> Option<Queued> {
        let (queued, cost) = self.waiting.pop_front()?;
        self.bytes -= cost;
        Some(queued)
    }

    /// Drops every message that has waited since before `moment`.
    pub(super) fn forget_before(&mut self, moment: Moment) {
        while self.waiting.front().is_some_and(|(queued, _)| queued.since < moment) {
            self.pop();
        }
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn queued(byte: u8) -> Queued {
        let packet = Packet::Opaque(Bytes::from(vec![byte; 98]));
        Queued { packet, expected: None, since: Moment::from_millis(byte.into()) }
    }

    fn drain(mut queue: Queue) -> Vec<u8> {
        let first = |queued: Queued| match queued.packet {
            Packet::Opaque(bytes) => bytes[0],
            other => panic!("{other:?}"),
        };
        std::iter::from_fn(|| queue.pop().map(first)).collect()
    }

    #[test]
    fn control_drops_the_oldest_and_others_refuse_the_newest() {
        let by_count = Limits { messages_max: 2, ..Limits::default() };
        let by_bytes = Limits { queue_bytes_max: 250, ..Limits::default() };
        for limits in [by_count, by_bytes] {
            let mut control = Queue::default();
            (0..4).for_each(|byte| {
                control.push(queued(byte), Channel::Control, &limits).unwrap();
            });
            assert_eq!(drain(control), [2, 3]);
            let mut entries = Queue::default();
            let kept = (0..4).map(|byte| entries.push(queued(byte), Channel::Entries, &limits));
            assert_eq!(kept.filter(Result::is_ok).count(), 2);
            assert_eq!(drain(entries), [0, 1]);
        }
    }

    #[test]
    fn old_messages_are_forgotten() {
        let mut queue = Queue::default();
        (0..4).for_each(|byte| {
            queue.push(queued(byte), Channel::Control, &Limits::default()).unwrap();
        });
        queue.forget_before(Moment::from_millis(2));
        assert_eq!(drain(queue), [2, 3]);
    }
}

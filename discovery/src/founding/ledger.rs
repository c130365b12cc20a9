//! The record, its writes, and what waits for them: nothing leaves before it is durable.
//!
//! Invariants:
//! 1. `durable <= written`; equal exactly if the disk holds the record as it is here.
//! 2. What is emitted as durable leaves after every write that was submitted before it.

use std::collections::VecDeque;

use meshraft_consensus::{ClusterId, NodeId};

use super::io::{Output, RecordId};
use crate::{ballot::FounderSet, record::Record, wire::Message};

/// Beyond this many held outputs, messages are lost: every one of them is repeated anyway.
const HELD_MAX: usize = 1024;

/// Beyond this many writes under way, messages that would cause another are dropped.
const WRITES_MAX: u64 = 16;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Ledger {
    record: Record,
    written: RecordId,
    durable: RecordId,
    held: VecDeque<(RecordId, Output)>,
    outputs: VecDeque<Output>,
}

/// What a write does to the namespace's groups.
#[derive(Default)]
pub(super) struct Groups {
    pub(super) start: Option<FounderSet>,
    pub(super) drop: Option<ClusterId>,
    pub(super) join: Option<ClusterId>,
    pub(super) enter: Option<ClusterId>,
}

impl Ledger {
    pub(super) fn new(record: Record) -> Self {
        Self {
            record,
            written: RecordId::RESTORED,
            durable: RecordId::RESTORED,
            held: VecDeque::new(),
            outputs: VecDeque::new(),
        }
    }

    pub(super) fn record(&self) -> &Record {
        &self.record
    }

    pub(super) fn is_durable(&self, id: RecordId) -> bool {
        id <= self.durable
    }

    pub(super) fn is_settled(&self) -> bool {
        self.durable == self.written
    }

    pub(super) fn is_behind(&self) -> bool {
        self.written.get() - self.durable.get() >= WRITES_MAX
    }

    /// Replaces the record and asks for it to be written.
    pub(super) fn write(&mut self, record: Record, groups: Groups) -> RecordId {
        assert!(record.seen >= self.record.seen, "the highest seen ballot falls");
        assert!(self.record.cluster.is_none_or(|held| record.cluster == Some(held)), "moved away");
        let id = self.written.next();
        self.written = id;
        self.record = record.clone();
        let Groups { start, drop, join, enter } = groups;
        self.outputs.push_back(Output::Persist { id, record, start, drop, join, enter });
        id
    }

    /// Hands out an output that rests on no write.
    pub(super) fn emit(&mut self, output: Output) {
        self.outputs.push_back(output);
    }

    /// Hands out an output as soon as everything written so far is durable.
    pub(super) fn emit_durable(&mut self, output: Output) {
        if self.is_settled() {
            return self.outputs.push_back(output);
        }
        // A question that is repeated while the disk is busy gets one answer.
        let repeated = || self.held.iter().any(|(_, held)| *held == output);
        if !matches!(output, Output::Send { .. }) || self.held.len() < HELD_MAX && !repeated() {
            self.held.push_back((self.written, output));
        }
    }

    pub(super) fn send(&mut self, to: NodeId, message: Message) {
        self.emit_durable(Output::Send { to, message });
    }

    /// Takes back what still waits to speak for a promise: it was left before it was durable.
    pub(super) fn retract_promise(&mut self) {
        self.held.retain(|(_, output)| match output {
            Output::StartGroup(_) => false,
            Output::Send { message, .. } => {
                !matches!(message, Message::Promised { .. } | Message::Propose(_))
            }
            _ => true,
        });
    }

    /// Every write up to `id` is durable. An answer to a write never asked for is cut down.
    pub(super) fn persisted(&mut self, id: RecordId) {
        self.durable = self.durable.max(id.min(self.written));
        while let Some((_, output)) =
            self.held.pop_front_if(|(rests_on, _)| *rests_on <= self.durable)
        {
            self.outputs.push_back(output);
        }
    }

    /// Counts writes from the beginning again if none is under way; returns whether it is so.
    #[cfg(test)]
    pub(super) fn forget_numbers(&mut self) -> bool {
        if self.is_settled() {
            (self.written, self.durable) = (RecordId::RESTORED, RecordId::RESTORED);
        }
        self.is_settled()
    }

    pub(super) fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }
}

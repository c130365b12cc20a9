//! Requests without a reply yet: each ends exactly once.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use meshraft_consensus::Moment;

use super::{Key, LinkEvent};
use crate::{
    codec::Unanswered,
    error::{NotReplied, NotSent, Refusal, RequestError},
    types::RequestId,
};

#[derive(Debug)]
struct Pending {
    id: RequestId,
    key: Key,
    deadline: Moment,
    /// Its first byte left: from here on it may have been delivered.
    written: bool,
}

impl Pending {
    fn fail(self, unwritten: RequestError) -> LinkEvent {
        let error = if self.written { RequestError::Lost } else { unwritten };
        LinkEvent::Reply { id: self.id, result: Err(error) }
    }
}

/// The open requests of one stream.
#[derive(Debug, Default)]
pub(super) struct Requests {
    pending: BTreeMap<u64, Pending>,
    deadlines: BTreeSet<(Moment, u64)>,
    counts: BTreeMap<Key, usize>,
    next: u64,
}

impl Requests {
    pub(super) fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    /// Registers a request and numbers it, if the namespace has room for one more.
    pub(super) fn begin(
        &mut self,
        id: RequestId,
        key: Key,
        deadline: Moment,
        count_max: usize,
    ) -> Option<u64> {
        let count = self.counts.entry(key.clone()).or_default();
        if *count >= count_max {
            return None;
        }
        *count += 1;
        let number = self.next;
        self.next = self.next.wrapping_add(1);
        self.deadlines.insert((deadline, number));
        self.pending.insert(number, Pending { id, key, deadline, written: false });
        Some(number)
    }

    /// The request leaves now; `false` if it has ended already.
    pub(super) fn written(&mut self, number: u64) -> bool {
        let pending = self.pending.get_mut(&number);
        pending.map(|pending| pending.written = true).is_some()
    }

    /// A reply of `key`'s handle; `None` if it is late or for another handle's request.
    pub(super) fn reply(&mut self, number: u64, key: &Key, payload: Bytes) -> Option<LinkEvent> {
        self.pending.get(&number).filter(|pending| pending.key == *key && pending.written)?;
        self.end(number).map(|pending| LinkEvent::Reply { id: pending.id, result: Ok(payload) })
    }

    /// The news on `key`'s handle that there will be no reply.
    pub(super) fn unanswered(
        &mut self,
        number: u64,
        key: &Key,
        why: Unanswered,
    ) -> Option<LinkEvent> {
        self.pending.get(&number).filter(|pending| pending.key == *key && pending.written)?;
        let error = match why {
            Unanswered::Overloaded => RequestError::Refused(Refusal::Limit),
            Unanswered::TooLarge => RequestError::NotReplied(NotReplied::TooLarge),
            Unanswered::NoRoom => RequestError::NotReplied(NotReplied::NoRoom),
        };
        self.end(number).map(|pending| LinkEvent::Reply { id: pending.id, result: Err(error) })
    }

    /// Ends one request that could not be sent.
    pub(super) fn fail(&mut self, number: u64, unwritten: RequestError) -> Option<LinkEvent> {
        self.end(number).map(|pending| pending.fail(unwritten))
    }

    /// Ends what is overdue.
    pub(super) fn expire(&mut self, now: Moment, events: &mut impl Extend<LinkEvent>) {
        while let Some(&(deadline, number)) = self.deadlines.first() {
            if deadline > now {
                break;
            }
            events.extend(self.fail(number, RequestError::NotSent(NotSent::Unwritten)));
        }
    }

    /// Ends requests of one namespace and scope: those that left, and with `unwritten` the others.
    pub(super) fn fail_key(
        &mut self,
        key: &Key,
        unwritten: Option<&RequestError>,
        events: &mut impl Extend<LinkEvent>,
    ) {
        if !self.counts.contains_key(key) {
            return;
        }
        let ends =
            |pending: &Pending| pending.key == *key && (pending.written || unwritten.is_some());
        let numbers: Vec<u64> =
            self.pending.iter().filter(|(_, pending)| ends(pending)).map(|(n, _)| *n).collect();
        for number in numbers {
            let error = unwritten.cloned().unwrap_or(RequestError::Lost);
            events.extend(self.fail(number, error));
        }
    }

    /// Ends every request: the stream is gone.
    pub(super) fn fail_all(&mut self, events: &mut impl Extend<LinkEvent>) {
        while let Some((number, _)) = self.pending.first_key_value() {
            let number = *number;
            events.extend(self.fail(number, RequestError::NotSent(NotSent::Unwritten)));
        }
    }

    pub(super) fn deadline(&self) -> Option<Moment> {
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }

    fn end(&mut self, number: u64) -> Option<Pending> {
        let pending = self.pending.remove(&number)?;
        self.deadlines.remove(&(pending.deadline, number));
        if let Some(count) = self.counts.get_mut(&pending.key) {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&pending.key);
            }
        }
        Some(pending)
    }
}

//! Whether what clients saw has a legal order (Herlihy and Wing, 1990), key by key.
//!
//! Every write of a run has a value of its own, and the system says at which revision it took
//! effect. That names one order; the history is linearizable in it if and only if the order never
//! contradicts real time: what was returned before an operation began stands before it. A register
//! that is linearizable in this order is linearizable, so there is nothing to search.

use std::collections::BTreeMap;

use meshraft_consensus::{Moment, Namespace};

/// What is wrong with a history.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Anomaly {
    /// A value was read that nobody wrote to that key.
    #[error("key {key}: value {value} was read and never written")]
    Phantom {
        /// The key.
        key: u64,
        /// The value.
        value: u64,
    },
    /// A write that was refused for good took effect.
    #[error("key {key}: value {value} was read although its write was refused")]
    RefusedWrite {
        /// The key.
        key: u64,
        /// The value.
        value: u64,
    },
    /// One value took effect at two revisions, or two values at one.
    #[error("key {key}: value {value} at revision {revision} contradicts what was seen before")]
    Revision {
        /// The key.
        key: u64,
        /// The value.
        value: u64,
        /// The revision.
        revision: u64,
    },
    /// A value was read before its write began.
    #[error("key {key}: value {value} was read before it was written")]
    FromTheFuture {
        /// The key.
        key: u64,
        /// The value.
        value: u64,
    },
    /// A read is older than what was known before it began.
    #[error("key {key}: a read returned revision {found}, but {known} was known before it began")]
    StaleRead {
        /// The key.
        key: u64,
        /// What it returned; 0 for an absent key.
        found: u64,
        /// What some operation had returned before.
        known: u64,
    },
    /// A write took effect before something that was known before it began.
    #[error("key {key}: a write took effect at {revision}, but {known} was known before it began")]
    WriteInThePast {
        /// The key.
        key: u64,
        /// Where it took effect.
        revision: u64,
        /// What some operation had returned before.
        known: u64,
    },
}

/// A finished operation, or one that is given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    /// A write that took effect at a revision.
    Acknowledged { value: u64, revision: u64 },
    /// A write that took no effect and never will.
    Refused { value: u64 },
    /// A write that may take effect, now or later.
    Unknown { value: u64 },
    /// A linearizable read, with value and revision if the key was there.
    Read { found: Option<(u64, u64)> },
    /// A read that may be old.
    StaleRead { found: Option<(u64, u64)> },
}

#[derive(Clone, Copy, Debug)]
struct Event {
    invoked: Moment,
    returned: Moment,
    operation: Operation,
}

/// What clients saw, by namespace and key.
#[derive(Debug, Default)]
pub(crate) struct Histories {
    keys: BTreeMap<(Namespace, u64), Vec<Event>>,
}

impl Histories {
    pub(crate) fn add(
        &mut self,
        namespace: &Namespace,
        key: u64,
        (invoked, returned): (Moment, Moment),
        operation: Operation,
    ) {
        let history = self.keys.entry((namespace.clone(), key)).or_default();
        history.push(Event { invoked, returned, operation });
    }

    /// Checks every key.
    pub(crate) fn check(&self) -> Result<(), Anomaly> {
        self.keys.iter().try_for_each(|((_, key), events)| check(*key, events))
    }

    /// The writes that were acknowledged, with their revisions.
    pub(crate) fn acknowledged(&self) -> impl Iterator<Item = (&Namespace, u64, u64, u64)> {
        self.keys.iter().flat_map(|((namespace, key), events)| {
            events.iter().filter_map(move |event| match event.operation {
                Operation::Acknowledged { value, revision } => {
                    Some((namespace, *key, value, revision))
                }
                _ => None,
            })
        })
    }

    /// How many operations ended.
    pub(crate) fn count(&self) -> usize {
        self.keys.values().map(Vec::len).sum()
    }
}

/// What is known of one write.
#[derive(Clone, Copy, Debug)]
struct Write {
    invoked: Moment,
    refused: bool,
    revision: Option<u64>,
}

fn check(key: u64, events: &[Event]) -> Result<(), Anomaly> {
    let mut writes = writes(key, events)?;
    for event in events {
        let (Operation::Read { found } | Operation::StaleRead { found }) = event.operation else {
            continue;
        };
        let Some((value, revision)) = found else { continue };
        let write = writes.get_mut(&value).ok_or(Anomaly::Phantom { key, value })?;
        if write.refused {
            return Err(Anomaly::RefusedWrite { key, value });
        }
        if write.invoked > event.returned {
            return Err(Anomaly::FromTheFuture { key, value });
        }
        if *write.revision.get_or_insert(revision) != revision {
            return Err(Anomaly::Revision { key, value, revision });
        }
    }
    distinct(key, &writes)?;
    in_real_time(key, events, &writes)
}

fn writes(key: u64, events: &[Event]) -> Result<BTreeMap<u64, Write>, Anomaly> {
    let mut writes = BTreeMap::new();
    for Event { invoked, operation, .. } in events.iter().copied() {
        let (value, refused, revision) = match operation {
            Operation::Acknowledged { value, revision } => (value, false, Some(revision)),
            Operation::Refused { value } => (value, true, None),
            Operation::Unknown { value } => (value, false, None),
            Operation::Read { .. } | Operation::StaleRead { .. } => continue,
        };
        if writes.insert(value, Write { invoked, refused, revision }).is_some() {
            return Err(Anomaly::Revision { key, value, revision: revision.unwrap_or(0) });
        }
    }
    Ok(writes)
}

fn distinct(key: u64, writes: &BTreeMap<u64, Write>) -> Result<(), Anomaly> {
    let mut at = BTreeMap::new();
    for (value, write) in writes {
        if let Some(revision) = write.revision
            && at.insert(revision, *value).is_some()
        {
            return Err(Anomaly::Revision { key, value: *value, revision });
        }
    }
    Ok(())
}

/// The order of revisions against real time.
fn in_real_time(key: u64, events: &[Event], writes: &BTreeMap<u64, Write>) -> Result<(), Anomaly> {
    let mut returned: Vec<(Moment, u64)> = Vec::new();
    for event in events {
        match event.operation {
            Operation::Acknowledged { revision, .. } => returned.push((event.returned, revision)),
            Operation::Read { found } => {
                returned.push((event.returned, found.map_or(0, |(_, revision)| revision)));
            }
            _ => {}
        }
    }
    returned.sort_unstable();
    let mut newest = 0;
    for (_, revision) in &mut returned {
        newest = newest.max(*revision);
        *revision = newest;
    }
    // The newest revision that some operation had returned before `moment`.
    let known = |moment: Moment| {
        let before = returned.partition_point(|(returned, _)| *returned < moment);
        before.checked_sub(1).and_then(|last| returned.get(last)).map_or(0, |(_, known)| *known)
    };
    for event in events {
        if let Operation::Read { found } = event.operation {
            let (found, known) = (found.map_or(0, |(_, revision)| revision), known(event.invoked));
            if found < known {
                return Err(Anomaly::StaleRead { key, found, known });
            }
        }
    }
    for write in writes.values() {
        let Some(revision) = write.revision else { continue };
        let known = known(write.invoked);
        if revision <= known {
            return Err(Anomaly::WriteInThePast { key, revision, known });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(operations: &[(u64, u64, Operation)]) -> Result<(), Anomaly> {
        let namespace = Namespace::new("/test").unwrap();
        let mut histories = Histories::default();
        for (invoked, returned, operation) in operations {
            let at = Moment::from_millis;
            histories.add(&namespace, 1, (at(*invoked), at(*returned)), *operation);
        }
        histories.check()
    }

    const fn wrote(value: u64, revision: u64) -> Operation {
        Operation::Acknowledged { value, revision }
    }

    const fn read(value: u64, revision: u64) -> Operation {
        Operation::Read { found: Some((value, revision)) }
    }

    #[test]
    fn legal_histories_pass() {
        let unknown = Operation::Unknown { value: 3 };
        let old = Operation::StaleRead { found: Some((1, 5)) };
        // Overlapping operations may take effect in either order.
        assert_eq!(run(&[(0, 9, wrote(1, 5)), (1, 8, wrote(2, 4)), (2, 7, read(2, 4))]), Ok(()));
        assert_eq!(run(&[(0, 1, wrote(1, 5)), (2, 3, wrote(2, 6)), (4, 5, old)]), Ok(()));
        assert_eq!(run(&[(0, 1, unknown), (2, 3, wrote(1, 5)), (4, 5, read(3, 7))]), Ok(()));
    }

    #[test]
    fn every_anomaly_is_seen() {
        let absent = Operation::Read { found: None };
        let refused = Operation::Refused { value: 1 };
        let unknown = Operation::Unknown { value: 3 };
        let cases = [
            run(&[(0, 1, read(1, 5))]),
            run(&[(0, 1, refused), (2, 3, read(1, 5))]),
            run(&[(0, 1, wrote(1, 5)), (2, 3, read(1, 6))]),
            run(&[(0, 1, wrote(1, 5)), (0, 1, wrote(2, 5))]),
            run(&[(0, 1, read(1, 5)), (2, 3, wrote(1, 5))]),
            run(&[(0, 1, wrote(1, 5)), (2, 3, wrote(2, 6)), (4, 5, read(1, 5))]),
            run(&[(0, 1, wrote(1, 5)), (2, 3, absent)]),
            run(&[(0, 1, wrote(1, 5)), (2, 3, wrote(2, 4))]),
            // A write of unknown outcome began after a newer one was acknowledged.
            run(&[(0, 1, wrote(1, 5)), (2, 3, unknown), (2, 9, read(3, 4))]),
        ];
        for (number, case) in cases.iter().enumerate() {
            assert!(case.is_err(), "case {number}");
        }
        // Two reads see two writes in opposite orders.
        let flip = [(0, 9, wrote(1, 5)), (0, 9, wrote(2, 6)), (1, 2, read(2, 6))];
        assert!(run(&flip).is_ok());
        assert!(run(&[flip.as_slice(), &[(3, 4, read(1, 5))]].concat()).is_err());
    }
}

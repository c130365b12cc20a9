//! Exactly once (thesis 6.3): every increment that was asked for took effect once or, if its
//! outcome is not known, once or never; and the history of each counter is linearizable.
//!
//! The machine answers an increment with the value that it made. All increments of a counter are
//! the same bytes, so that nothing but the sessions tells a repeated one from a new one.

use std::collections::BTreeMap;

use meshraft_consensus::{Moment, Namespace};

/// What is wrong with the history of a counter.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Miscount {
    /// Two increments made the same value.
    #[error("counter {counter}: two increments made the value {value}")]
    Twice {
        /// The counter.
        counter: u64,
        /// The value.
        value: u64,
    },
    /// A counter shows more, or less, than was added.
    #[error("counter {counter} is {value}: {known} increments took effect, {unknown} may have")]
    Sum {
        /// The counter.
        counter: u64,
        /// What it shows.
        value: u64,
        /// Increments that were acknowledged.
        known: u64,
        /// Increments of unknown outcome.
        unknown: u64,
    },
    /// An operation shows less than was known before it began.
    #[error("counter {counter}: {value} was returned, but {known} was known before it began")]
    Old {
        /// The counter.
        counter: u64,
        /// What it returned.
        value: u64,
        /// What some operation had returned before.
        known: u64,
    },
    /// An operation shows more than had been asked for when it ended.
    #[error("counter {counter}: {value} was returned after only {begun} increments had begun")]
    FromTheFuture {
        /// The counter.
        counter: u64,
        /// What it returned.
        value: u64,
        /// How many increments had begun.
        begun: u64,
    },
}

/// What became of an operation on a counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Counted {
    /// An increment made this value.
    Added(u64),
    /// An increment that took no effect and never will.
    Refused,
    /// An increment that may take effect, now or later.
    Unknown,
    /// A linearizable read.
    Read(u64),
}

#[derive(Clone, Copy, Debug)]
struct Event {
    invoked: Moment,
    returned: Moment,
    what: Counted,
}

/// What clients saw of counters.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    events: BTreeMap<(Namespace, u64), Vec<Event>>,
}

impl Counters {
    pub(crate) fn add(
        &mut self,
        namespace: &Namespace,
        counter: u64,
        (invoked, returned): (Moment, Moment),
        what: Counted,
    ) {
        let events = self.events.entry((namespace.clone(), counter)).or_default();
        events.push(Event { invoked, returned, what });
    }

    /// Checks every counter; `shows` is what the machines show at the end.
    pub(crate) fn check(&self, shows: impl Fn(&Namespace, u64) -> u64) -> Result<(), Miscount> {
        let mut all = self.events.iter();
        all.try_for_each(|((namespace, counter), events)| {
            check(*counter, events, shows(namespace, *counter))
        })
    }

    /// How many operations ended.
    pub(crate) fn count(&self) -> usize {
        self.events.values().map(Vec::len).sum()
    }
}

fn check(counter: u64, events: &[Event], shows: u64) -> Result<(), Miscount> {
    let mut made = BTreeMap::new();
    let (mut begun, mut returned) = (Vec::new(), Vec::new());
    for event in events {
        match event.what {
            Counted::Added(value) => {
                if made.insert(value, ()).is_some() {
                    return Err(Miscount::Twice { counter, value });
                }
                begun.push(event.invoked);
                returned.push((event.returned, value));
            }
            Counted::Unknown => begun.push(event.invoked),
            Counted::Read(value) => returned.push((event.returned, value)),
            Counted::Refused => {}
        }
    }
    let known = made.len() as u64;
    let unknown = begun.len() as u64 - known;
    if shows < known || shows > known + unknown {
        return Err(Miscount::Sum { counter, value: shows, known, unknown });
    }
    begun.sort_unstable();
    returned.sort_unstable();
    let mut newest = 0;
    for (_, value) in &mut returned {
        newest = newest.max(*value);
        *value = newest;
    }
    in_real_time(counter, events, &begun, &returned)
}

/// `returned` holds, for each moment at which something was returned, the most that was by then.
fn in_real_time(
    counter: u64,
    events: &[Event],
    begun: &[Moment],
    returned: &[(Moment, u64)],
) -> Result<(), Miscount> {
    for event in events {
        let (value, least) = match event.what {
            // It made a value of its own.
            Counted::Added(value) => (value, 1),
            Counted::Read(value) => (value, 0),
            Counted::Unknown | Counted::Refused => continue,
        };
        let before = returned.partition_point(|(at, _)| *at < event.invoked);
        let last = before.checked_sub(1).and_then(|last| returned.get(last));
        let known = last.map_or(0, |(_, known)| *known);
        if value < known + least {
            return Err(Miscount::Old { counter, value, known });
        }
        let begun = begun.partition_point(|at| *at <= event.returned) as u64;
        if value > begun {
            return Err(Miscount::FromTheFuture { counter, value, begun });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(operations: &[(u64, u64, Counted)], shows: u64) -> Result<(), Miscount> {
        let (namespace, at) = (Namespace::new("/test").unwrap(), Moment::from_millis);
        let mut counters = Counters::default();
        for (invoked, returned, what) in operations {
            counters.add(&namespace, 1, (at(*invoked), at(*returned)), *what);
        }
        counters.check(|_, _| shows)
    }

    #[test]
    fn legal_histories_pass() {
        use Counted::{Added, Read, Refused, Unknown};
        assert_eq!(run(&[(0, 9, Added(2)), (1, 8, Added(1)), (9, 9, Read(2))], 2), Ok(()));
        assert_eq!(run(&[(0, 1, Unknown), (2, 3, Added(2)), (4, 5, Read(2))], 2), Ok(()));
        assert_eq!(run(&[(0, 1, Unknown), (2, 3, Added(1)), (4, 5, Refused)], 1), Ok(()));
    }

    #[test]
    fn every_miscount_is_seen() {
        use Counted::{Added, Read, Refused, Unknown};
        let cases = [
            run(&[(0, 1, Added(1)), (2, 3, Added(1))], 2),
            run(&[(0, 1, Added(1))], 2),
            run(&[(0, 1, Added(1)), (2, 3, Unknown)], 3),
            run(&[(0, 1, Added(1)), (2, 3, Refused)], 2),
            run(&[(0, 1, Added(1))], 0),
            run(&[(0, 1, Added(2)), (2, 3, Added(1))], 2),
            run(&[(0, 1, Added(1)), (2, 3, Read(0))], 1),
            run(&[(0, 1, Read(1)), (2, 3, Added(1))], 1),
        ];
        for (number, case) in cases.iter().enumerate() {
            assert!(case.is_err(), "case {number}");
        }
    }
}

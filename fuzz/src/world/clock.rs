//! Time in a simulated world: it jumps to whatever happens next.
//!
//! Invariants:
//! 1. Time never goes back; what is due at one moment happens in the order in which it was planned.
//! 2. A node sees only its own clock, which has an origin and a speed of its own.

use std::{cmp::Reverse, collections::BinaryHeap, time::Duration};

use meshraft_consensus::Moment;

/// What is due when.
#[derive(Debug)]
pub(crate) struct Clock<E> {
    now: Moment,
    planned: BinaryHeap<Reverse<Planned<E>>>,
    count: u64,
}

#[derive(Debug)]
struct Planned<E> {
    at: Moment,
    number: u64,
    event: E,
}

impl<E> PartialEq for Planned<E> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl<E> Eq for Planned<E> {}

impl<E> PartialOrd for Planned<E> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<E> Ord for Planned<E> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

impl<E> Clock<E> {
    pub(crate) const fn new() -> Self {
        Self { now: Moment::ZERO, planned: BinaryHeap::new(), count: 0 }
    }

    pub(crate) const fn now(&self) -> Moment {
        self.now
    }

    /// Plans an event; one in the past is due now.
    pub(crate) fn at(&mut self, at: Moment, event: E) {
        self.count += 1;
        let at = at.max(self.now);
        self.planned.push(Reverse(Planned { at, number: self.count, event }));
    }

    pub(crate) fn after(&mut self, wait: Duration, event: E) {
        self.at(self.now.plus(wait), event);
    }

    /// Jumps to the next event, unless that is after `end`; then to `end`.
    pub(crate) fn next(&mut self, end: Moment) -> Option<E> {
        if self.planned.peek().is_none_or(|Reverse(planned)| planned.at > end) {
            self.now = self.now.max(end);
            return None;
        }
        let Reverse(planned) = self.planned.pop()?;
        self.now = planned.at;
        Some(planned.event)
    }
}

/// The clock that one node sees.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LocalClock {
    origin_ns: u64,
    /// Parts per million by which it runs fast (or slow).
    drift_ppm: i64,
}

impl LocalClock {
    const MILLION: i128 = 1_000_000;

    pub(crate) const fn new(origin_ns: u64, drift_ppm: i64) -> Self {
        Self { origin_ns, drift_ppm }
    }

    /// It leaps ahead.
    pub(crate) fn leap(&mut self, span: Duration) {
        let nanos = u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
        self.origin_ns = self.origin_ns.saturating_add(nanos);
    }

    /// What it shows at a moment of the world.
    pub(crate) fn local(self, world: Moment) -> Moment {
        let speed = Self::MILLION + i128::from(self.drift_ppm);
        let elapsed = i128::from(world.as_nanos()) * speed / Self::MILLION;
        Moment::from_nanos(self.origin_ns.saturating_add(u64::try_from(elapsed).unwrap_or(0)))
    }

    /// The first moment of the world at which it shows `local` or later.
    pub(crate) fn world(self, local: Moment) -> Moment {
        let speed = Self::MILLION + i128::from(self.drift_ppm);
        let elapsed = i128::from(local.as_nanos().saturating_sub(self.origin_ns));
        let nanos = (elapsed * Self::MILLION + speed - 1) / speed;
        Moment::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_due_comes_in_order_and_not_too_early() {
        let mut clock = Clock::new();
        clock.at(Moment::from_millis(5), 'b');
        clock.at(Moment::from_millis(5), 'c');
        clock.at(Moment::from_millis(2), 'a');
        clock.at(Moment::from_millis(9), 'd');
        let end = Moment::from_millis(6);
        let order: Vec<char> = std::iter::from_fn(|| clock.next(end)).collect();
        assert_eq!((order, clock.now()), (vec!['a', 'b', 'c'], end));
    }

    #[test]
    fn a_local_deadline_is_never_woken_early() {
        for drift in [-20_000, -1, 0, 7, 20_000] {
            let clock = LocalClock::new(123_456_789, drift);
            for nanos in [0, 1, 999, 1_000_003, 77_777_777_777] {
                let local = Moment::from_nanos(123_456_789 + nanos);
                let world = clock.world(local);
                assert!(clock.local(world) >= local, "drift {drift}, {nanos} ns");
            }
        }
    }
}

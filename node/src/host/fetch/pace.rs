//! Decides how much of a snapshot may be on its way at once: twice what the path holds.
//!
//! The bandwidth is what arrived while one request was under way, over that time; the delay is the
//! shortest time that a request took. Both are forgotten slowly, as paths change. A loss halves the
//! credit.

use std::time::Duration;

use meshraft_consensus::Moment;

/// The most that is on its way, and so in memory; the least is one chunk.
const CREDIT_BYTES_MAX: u64 = 8 * 1024 * 1024;
/// The most requests at once.
const REQUESTS_MAX: u64 = 8;

/// When a request left, and how much had arrived by then.
#[derive(Clone, Copy, Debug)]
pub(super) struct Departure {
    at: Moment,
    arrived: u64,
}

/// The pace of one transfer.
#[derive(Clone, Debug)]
pub(super) struct Pace {
    chunk_bytes: u64,
    credit: u64,
    arrived: u64,
    bytes_per_second: u64,
    round_trip: Option<Duration>,
}

impl Pace {
    pub(super) fn new(chunk_bytes: u32) -> Self {
        let chunk_bytes = u64::from(chunk_bytes);
        // Two chunks show within one round trip whether the path holds more.
        Self {
            chunk_bytes,
            credit: 2 * chunk_bytes,
            arrived: 0,
            bytes_per_second: 0,
            round_trip: None,
        }
    }

    /// How many bytes may be asked for and not appended.
    pub(super) const fn credit_bytes(&self) -> u64 {
        self.credit
    }

    /// How many requests may be under way.
    pub(super) fn requests(&self) -> usize {
        let requests = (self.credit / self.chunk_bytes).clamp(1, REQUESTS_MAX);
        usize::try_from(requests).unwrap_or(1)
    }

    /// A request leaves.
    pub(super) const fn depart(&self, now: Moment) -> Departure {
        Departure { at: now, arrived: self.arrived }
    }

    /// Its reply arrived, with this many bytes.
    pub(super) fn arrive(&mut self, departure: Departure, bytes: u64, now: Moment) {
        self.arrived = self.arrived.saturating_add(bytes);
        let took = now.since(departure.at).max(Duration::from_micros(1));
        let round_trip = self.round_trip.map_or(took, |known| took.min(known + known / 16));
        self.round_trip = Some(round_trip);
        let delivered = u128::from(self.arrived.saturating_sub(departure.arrived));
        let rate = delivered * 1_000_000_000 / took.as_nanos();
        let rate = u64::try_from(rate).unwrap_or(u64::MAX);
        self.bytes_per_second = rate.max(self.bytes_per_second - self.bytes_per_second / 8);
        let product = u128::from(self.bytes_per_second) * round_trip.as_nanos() / 1_000_000_000;
        let twice = u64::try_from(product * 2).unwrap_or(u64::MAX);
        self.credit = twice.clamp(self.chunk_bytes, CREDIT_BYTES_MAX.max(self.chunk_bytes));
    }

    /// A request had no answer.
    pub(super) fn lose(&mut self) {
        self.credit = (self.credit / 2).max(self.chunk_bytes);
        self.bytes_per_second /= 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHUNK_BYTES: u32 = 256 * 1024;

    /// Asks as much as the pace allows on a path that carries `rate` bytes a second and takes
    /// `delay`, and tells the credit it ends with.
    fn credit_on(rate: u64, delay: Duration) -> u64 {
        let mut pace = Pace::new(CHUNK_BYTES);
        let (mut now, mut free) = (Moment::ZERO, Moment::ZERO);
        let mut under_way = std::collections::VecDeque::new();
        for _ in 0..400 {
            while under_way.len() < pace.requests() {
                // The path carries one chunk after the other.
                let carry = Duration::from_nanos(u64::from(CHUNK_BYTES) * 1_000_000_000 / rate);
                free = free.max(now).plus(carry);
                under_way.push_back((pace.depart(now), free.plus(delay)));
            }
            let (departure, due) = under_way.pop_front().unwrap();
            now = now.max(due);
            pace.arrive(departure, u64::from(CHUNK_BYTES), now);
        }
        pace.credit_bytes()
    }

    #[test]
    fn the_credit_follows_what_the_path_holds() {
        const MIB: u64 = 1024 * 1024;
        let slow = credit_on(MIB, Duration::from_millis(1));
        let long = credit_on(100 * MIB, Duration::from_millis(100));
        assert!(slow <= 3 * u64::from(CHUNK_BYTES), "a slow path holds little: {slow}");
        assert!(long >= REQUESTS_MAX * u64::from(CHUNK_BYTES), "a long one holds much: {long}");
    }

    #[test]
    fn losses_leave_one_request_and_no_less() {
        let mut pace = Pace::new(CHUNK_BYTES);
        (0..10).for_each(|_| pace.lose());
        assert_eq!((pace.requests(), pace.credit_bytes()), (1, u64::from(CHUNK_BYTES)));
    }
}

//! Whether the path to the peer is alive: pings on the opener's control stream.
//!
//! Silence is counted in steps no longer than the interval between two looks at the clock. A node
//! that was itself stopped, or starved of its processor, does not take its own absence for the
//! peer's.

use std::time::Duration;

use meshraft_consensus::Moment;

/// How many times one stall is looked at.
const LOOKS: u32 = 4;

/// What a look at the clock found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Beat {
    /// Nothing to do.
    Quiet,
    /// Send this ping.
    Ping(u64),
    /// The path is dead.
    Stalled,
}

/// The liveness of one path.
#[derive(Clone, Debug)]
pub(super) struct Pulse {
    stall: Duration,
    last_look: Moment,
    silent: Duration,
    number: u64,
    unanswered: bool,
}

impl Pulse {
    pub(super) const fn new(stall: Duration, now: Moment) -> Self {
        Self { stall, last_look: now, silent: Duration::ZERO, number: 0, unanswered: false }
    }

    fn interval(&self) -> Duration {
        self.stall / LOOKS
    }

    pub(super) fn deadline(&self) -> Moment {
        self.last_look.plus(self.interval())
    }

    pub(super) fn look(&mut self, now: Moment) -> Beat {
        if now < self.deadline() {
            return Beat::Quiet;
        }
        let step = now.since(self.last_look).min(self.interval() * 3 / 2);
        self.last_look = now;
        self.silent += step;
        if self.silent >= self.stall {
            return Beat::Stalled;
        }
        if self.unanswered {
            return Beat::Quiet;
        }
        self.number += 1;
        self.unanswered = true;
        Beat::Ping(self.number)
    }

    pub(super) const fn pong(&mut self, number: u64) {
        if self.unanswered && number == self.number {
            self.unanswered = false;
            self.silent = Duration::ZERO;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STALL: Duration = Duration::from_millis(400);

    fn at(millis: u64) -> Moment {
        Moment::from_millis(millis)
    }

    #[test]
    fn an_unanswered_path_stalls_within_its_time() {
        let mut pulse = Pulse::new(STALL, at(0));
        assert_eq!(pulse.look(at(99)), Beat::Quiet);
        assert_eq!(pulse.look(at(100)), Beat::Ping(1));
        pulse.pong(1);
        let beats: Vec<_> = [200, 300, 400, 500].map(|ms| pulse.look(at(ms))).to_vec();
        assert_eq!(beats, [Beat::Ping(2), Beat::Quiet, Beat::Quiet, Beat::Stalled]);
    }

    #[test]
    fn an_answered_path_lives_and_foreign_pongs_count_for_nothing() {
        let mut pulse = Pulse::new(STALL, at(0));
        for number in 1..100 {
            assert_eq!(pulse.look(at(number * 100)), Beat::Ping(number));
            pulse.pong(number);
        }
        assert_eq!(pulse.look(at(10_000)), Beat::Ping(100));
        pulse.pong(7);
        pulse.pong(101);
        let beats = [10_100, 10_200, 10_300].map(|ms| pulse.look(at(ms)));
        assert_eq!(beats.last(), Some(&Beat::Stalled));
    }

    #[test]
    fn an_own_pause_is_no_silence_of_the_peer() {
        let mut pulse = Pulse::new(STALL, at(0));
        assert_eq!(pulse.look(at(100)), Beat::Ping(1));
        assert_eq!(pulse.look(at(60_000)), Beat::Quiet);
        pulse.pong(1);
        assert_eq!(pulse.look(at(60_100)), Beat::Ping(2));
    }
}

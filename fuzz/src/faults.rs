//! What goes wrong in a world: every fault is a named rate.
//!
//! Faults of messages and writes strike each one at its rate; faults of nodes and links are drawn
//! ten times a simulated second for the world as a whole.

use std::{fmt, time::Duration};

use crate::random::Random;

/// How often something happens, of a million times.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rate(u32);

impl Rate {
    /// Always.
    pub const SCALE: u32 = 1_000_000;
    /// Never.
    pub const NEVER: Self = Self(0);

    /// So many times of a million.
    pub const fn of_million(times: u32) -> Self {
        Self(if times > Self::SCALE { Self::SCALE } else { times })
    }

    /// So many times of a million.
    pub const fn per_million(self) -> u32 {
        self.0
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:02}%", self.0 / 10_000, self.0 / 100 % 100)
    }
}

/// So many times of a hundred.
pub const fn percent(times: u32) -> Rate {
    Rate::of_million(times.saturating_mul(Rate::SCALE / 100))
}

/// What goes wrong, and how often.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Faults {
    /// A message, request or reply is lost.
    pub loss: Rate,
    /// A message arrives twice.
    pub duplicate: Rate,
    /// A message is late, by up to `delay_max`: past an election.
    pub delay: Rate,
    /// How late.
    pub delay_max: Duration,
    /// A message overtakes others of its channel.
    pub reorder: Rate,
    /// One direction of one link goes silent for a while.
    pub cut: Rate,
    /// The nodes fall into two halves for a while.
    pub partition: Rate,
    /// A connection breaks and comes back at once.
    pub reset: Rate,
    /// A node stands still for a while, and then goes on as if nothing had been.
    pub pause: Rate,
    /// A node crashes, loses what its disk had not committed, and starts again.
    pub crash: Rate,
    /// Every node crashes in the same moment.
    pub blackout: Rate,
    /// A commit of a disk takes up to `stall_max`.
    pub stall: Rate,
    /// How long.
    pub stall_max: Duration,
    /// A node crashes and comes back with an empty disk and a new incarnation, if a majority of
    /// the disks is left.
    pub wipe: Rate,
    /// A disk is copied.
    pub copy: Rate,
    /// A node crashes and comes back on the old copy of its disk, if all others hold what it
    /// forgets.
    pub set_back: Rate,
    /// A member leaves.
    pub leave: Rate,
    /// A member is removed by another.
    pub remove: Rate,
    /// A member that left or was removed comes back.
    pub come_back: Rate,
    /// A namespace is closed in a running process, and opened again.
    pub reopen: Rate,
    /// Several inputs are handled before a node drains its outputs.
    pub batch: Rate,
    /// How much a clock runs too fast or too slow, at most, in parts per million.
    pub drift_ppm_max: u32,
}

impl Faults {
    /// Nothing goes wrong.
    pub const NONE: Self = Self {
        loss: Rate::NEVER,
        duplicate: Rate::NEVER,
        delay: Rate::NEVER,
        delay_max: Duration::from_millis(1500),
        reorder: Rate::NEVER,
        cut: Rate::NEVER,
        partition: Rate::NEVER,
        reset: Rate::NEVER,
        pause: Rate::NEVER,
        crash: Rate::NEVER,
        blackout: Rate::NEVER,
        stall: Rate::NEVER,
        stall_max: Duration::from_millis(800),
        wipe: Rate::NEVER,
        copy: Rate::NEVER,
        set_back: Rate::NEVER,
        leave: Rate::NEVER,
        remove: Rate::NEVER,
        come_back: Rate::NEVER,
        reopen: Rate::NEVER,
        batch: Rate::NEVER,
        drift_ppm_max: 0,
    };

    /// The faults of one seed: each kind is there or not, at a rate of its own, so that a thousand
    /// seeds see both what one fault does alone and what many do together.
    pub fn draw(random: &mut Random) -> Self {
        if random.below(16) == 0 {
            return Self::NONE;
        }
        let mut rate = |max: Rate| {
            let (there, rate) = (random.below(2) == 0, random.below(u64::from(max.0)));
            if there { Rate(u32::try_from(rate).unwrap_or(max.0)) } else { Rate::NEVER }
        };
        Self {
            loss: rate(percent(20)),
            duplicate: rate(percent(10)),
            delay: rate(percent(5)),
            reorder: rate(percent(20)),
            cut: rate(percent(8)),
            partition: rate(percent(4)),
            reset: rate(percent(8)),
            pause: rate(percent(5)),
            crash: rate(percent(8)),
            blackout: rate(percent(1)),
            stall: rate(percent(3)),
            wipe: rate(percent(2)),
            copy: rate(percent(20)),
            set_back: rate(percent(10)),
            leave: rate(percent(2)),
            remove: rate(percent(2)),
            come_back: rate(percent(10)),
            reopen: rate(percent(4)),
            batch: rate(percent(80)),
            drift_ppm_max: rate(percent(2)).per_million(),
            ..Self::NONE
        }
    }

    /// How many kinds of faults there are in this run.
    pub fn kinds(&self) -> usize {
        let rates = [
            self.loss,
            self.duplicate,
            self.delay,
            self.reorder,
            self.cut,
            self.partition,
            self.reset,
            self.pause,
            self.crash,
            self.blackout,
            self.stall,
            self.wipe,
            self.set_back,
            self.leave,
            self.remove,
            self.reopen,
            self.batch,
            Rate(self.drift_ppm_max),
        ];
        rates.into_iter().filter(|rate| *rate > Rate::NEVER).count()
    }
}

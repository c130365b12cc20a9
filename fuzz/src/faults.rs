//! What goes wrong in a world: every fault is a named rate.
//!
//! Faults of messages, reads and writes strike each one at its rate; faults of nodes and links are
//! drawn ten times a simulated second for the world as a whole. Each kind draws from a stream of
//! its own, ten times a second a new one, so that leaving out one [`Strike`] changes no other draw.

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

macro_rules! faults {
    ($($(#[$doc:meta])* $name:ident $kind:ident: $most:expr,)*) => {
        /// What can go wrong.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Fault {
            $($(#[$doc])* $kind,)*
        }

        impl Fault {
            /// Everything that can go wrong.
            pub const ALL: &'static [Self] = &[$(Self::$kind,)*];

            /// What it is called.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$kind => stringify!($name),)*
                }
            }

            /// How often it happens at most.
            const fn most(self) -> Rate {
                match self {
                    $(Self::$kind => $most,)*
                }
            }
        }

        /// What goes wrong, and how often.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct Faults {
            $($(#[$doc])* pub $name: Rate,)*
        }

        impl Faults {
            /// Nothing goes wrong.
            pub const NONE: Self = Self { $($name: Rate::NEVER,)* };

            /// How often something goes wrong.
            pub const fn of(&self, fault: Fault) -> Rate {
                match fault {
                    $(Fault::$kind => self.$name,)*
                }
            }

            /// How often something goes wrong, to be set.
            pub const fn of_mut(&mut self, fault: Fault) -> &mut Rate {
                match fault {
                    $(Fault::$kind => &mut self.$name,)*
                }
            }
        }
    };
}

faults! {
    /// A message, request or reply is lost.
    loss Loss: percent(20),
    /// A message arrives twice.
    duplicate Duplicate: percent(10),
    /// A message is late, by up to [`Faults::DELAY_MAX`]: past an election.
    delay Delay: percent(5),
    /// A message comes again much later, on whatever connection there is then: after elections,
    /// restarts and renewals of either end.
    stale Stale: percent(2),
    /// A message overtakes others of its channel.
    reorder Reorder: percent(20),
    /// One direction of one link goes silent for a while.
    cut Cut: percent(8),
    /// The nodes fall into two halves for a while.
    partition Partition: percent(4),
    /// One node is the only one that two halves both reach, for a while.
    bridge Bridge: percent(2),
    /// A node hears nobody, or nobody hears it, for a while.
    deaf Deaf: percent(3),
    /// A connection breaks and comes back at once.
    reset Reset: percent(8),
    /// A node stands still for a while, and then goes on as if nothing had been.
    pause Pause: percent(5),
    /// A machine takes long to apply what it was given: its node stands still meanwhile.
    slow_apply SlowApply: percent(2),
    /// The clock of one node leaps ahead, or those of all others. Nobody reads on leases then.
    leap Leap: percent(3),
    /// A clock runs too fast or too slow, by at most this part.
    drift Drift: percent(2),
    /// A node crashes, loses what its disk had not committed, and starts again.
    crash Crash: percent(8),
    /// A node crashes in the middle of a commit, of which a part stays: whole writes, and the
    /// beginning of the next one.
    torn Torn: Rate::of_million(2_000),
    /// Every node crashes in the same moment.
    blackout Blackout: percent(1),
    /// A commit of a disk takes up to [`Faults::STALL_MAX`].
    stall Stall: percent(3),
    /// The next commit of a disk fails, and whether it is durable nobody knows.
    io_error IoError: percent(2),
    /// A disk is full for a while: its commits fail.
    full Full: percent(2),
    /// A read of a log or of a snapshot fails.
    read_error ReadError: percent(10),
    /// A node crashes and comes back with an empty disk and a new incarnation, if a majority of
    /// the disks is left.
    wipe Wipe: percent(2),
    /// A node crashes and its newest snapshots are gone, if a majority can do without it.
    lost_snapshot LostSnapshot: percent(2),
    /// A disk is copied.
    copy Copy: percent(40),
    /// A node crashes and comes back on the old copy of its disk, if all others hold what it
    /// forgets.
    set_back SetBack: percent(20),
    /// A node restarts with the wrong key, or as a release that speaks other versions of the
    /// protocol, and is refused by all others for a while.
    stranger Stranger: percent(1),
    /// A member leaves.
    leave Leave: percent(2),
    /// A member is removed by another.
    remove Remove: percent(2),
    /// A member that left or was removed comes back.
    come_back ComeBack: percent(10),
    /// Leadership is asked to be handed over, through any node.
    transfer Transfer: percent(4),
    /// A namespace is closed in a running process, and opened again.
    reopen Reopen: percent(4),
    /// All clients rest for a while.
    idle Idle: percent(1),
    /// Several inputs are handled before a node drains its outputs.
    batch Batch: percent(80),
    /// An entry rots on a disk, if all others have it.
    rot Rot: percent(10),
    /// Nodes are of different releases: one restarts as a newer release, or for a while as an older
    /// one, which may be too old for the version of commands in force.
    versions Versions: percent(6),
}

impl Faults {
    /// How late a message is at most: three election time-outs.
    pub const DELAY_MAX: Duration = Duration::from_millis(1500);
    /// How much later a message comes again at most.
    pub const STALE_MAX: Duration = Duration::from_secs(8);
    /// How long a commit takes at most.
    pub const STALL_MAX: Duration = Duration::from_millis(800);

    /// The faults of one seed: each kind is there or not, at a rate of its own, so that a thousand
    /// seeds see both what one fault does alone and what many do together.
    pub fn draw(random: &mut Random) -> Self {
        let mut faults = Self::NONE;
        if random.below(16) == 0 {
            return faults;
        }
        let one_in = [2, 2, 3, 6][random.place(4)];
        // What came later is drawn apart, so that the others are what they were before.
        let (mut rot, mut versions) = (random.clone().fork(9), random.clone().fork(10));
        for fault in Fault::ALL {
            let most = fault.most();
            let random = match fault {
                Fault::Rot => &mut rot,
                Fault::Versions => &mut versions,
                _ => &mut *random,
            };
            let (there, times) = (random.below(one_in) == 0, random.below(u64::from(most.0)));
            if there {
                *faults.of_mut(*fault) = Rate(u32::try_from(times).unwrap_or(most.0));
            }
        }
        faults
    }

    /// The same, but what keeps single nodes from hearing, answering or writing strikes much more
    /// often.
    #[must_use]
    pub fn rough(mut self) -> Self {
        let most = percent(40);
        let harder = [
            Fault::Loss,
            Fault::Delay,
            Fault::Cut,
            Fault::Partition,
            Fault::Deaf,
            Fault::Pause,
            Fault::Crash,
            Fault::Stall,
        ];
        for fault in harder {
            let rate = self.of_mut(fault);
            *rate = Rate::of_million(rate.0 * 10).min(most).max(*rate);
        }
        self
    }

    /// How many kinds of faults there are in this run.
    pub fn kinds(&self) -> usize {
        self.there().count()
    }

    /// The kinds of faults that there are in this run.
    pub fn there(&self) -> impl Iterator<Item = Fault> {
        Fault::ALL.iter().copied().filter(|fault| self.of(*fault) > Rate::NEVER)
    }

    /// The same without one kind.
    #[must_use]
    pub const fn without(mut self, fault: Fault) -> Self {
        *self.of_mut(fault) = Rate::NEVER;
        self
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, fault) in self.there().enumerate() {
            let comma = if place == 0 { "" } else { ", " };
            write!(f, "{comma}{} {}", fault.name(), self.of(fault))?;
        }
        Ok(())
    }
}

/// One kind of fault within one tenth of a second of a storm: what can be left out of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Strike {
    /// Which tenth of a second, from 0.
    pub tick: u32,
    /// What goes wrong.
    pub fault: Fault,
}

impl Strike {
    /// The stream from which it draws whether it happens, to whom, and for how long.
    pub(crate) fn random(self, seed: u64) -> Random {
        let label = u64::from(self.tick) << 8 | self.fault as u64;
        Random::new(seed ^ 0x5707_5707_5707_5707).fork(label)
    }
}

impl fmt::Display for Strike {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{} {}", self.tick, self.fault.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_drawn_and_can_be_left_out() {
        let drawn: Vec<Faults> =
            (0..400).map(|seed| Faults::draw(&mut Random::new(seed))).collect();
        for fault in Fault::ALL {
            let with = drawn.iter().find(|faults| faults.of(*fault) > Rate::NEVER);
            let with = with.unwrap_or_else(|| panic!("no seed has {}", fault.name()));
            assert_eq!(with.without(*fault).kinds() + 1, with.kinds(), "{}", fault.name());
        }
        assert!(drawn.contains(&Faults::NONE));
    }

    #[test]
    fn strikes_draw_from_streams_of_their_own() {
        let first = |tick, fault| Strike { tick, fault }.random(7).next();
        assert_eq!(first(3, Fault::Cut), first(3, Fault::Cut));
        assert_ne!(first(3, Fault::Cut), first(4, Fault::Cut));
        assert_ne!(first(3, Fault::Cut), first(3, Fault::Deaf));
    }
}

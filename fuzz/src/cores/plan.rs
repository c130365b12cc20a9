//! What a run of cores alone is like: members, knobs, faults, and how long.

use std::{fmt, num::NonZeroU16, time::Duration};

use meshraft_consensus::ConfigBuilder;

use crate::{
    faults::{Rate, percent},
    random::Random,
};

/// A run of cores before it begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CorePlan {
    /// Seeds everything.
    pub seed: u64,
    /// How many members found the cluster.
    pub founders: usize,
    /// How many are there to join it.
    pub joiners: usize,
    /// The knobs of every core, but for its seed; and a planted mistake, if there is one.
    pub knobs: ConfigBuilder,
    /// After how many applied entries a snapshot is taken.
    pub snapshot_entries: u64,
    /// In how many parts a snapshot is fetched.
    pub snapshot_parts: u32,
    /// A client does something this often.
    pub client_every: Duration,
    /// How many bytes a command has, at most.
    pub command_bytes_max: u64,
    /// The longest way of a message that is not late, until the world heals.
    pub latency_max: Duration,
    /// What goes wrong until the world heals.
    pub faults: CoreFaults,
    /// An entry rots on a disk, if every other disk still has it; drawn twenty times a simulated
    /// second.
    pub rot: Rate,
    /// Who is there that is no member, and wants to be heard.
    pub hostiles: [Option<Hostile>; 2],
    /// Whether removed members lie to those that have not learned of their removal: the limit of
    /// what membership proves, which is measured and not borne.
    pub lies: bool,
    /// How long things go wrong.
    pub stormy: Duration,
    /// Within this time of healing, and what it takes to send somebody the log, everything must
    /// work.
    pub recovery: Duration,
    /// Whether to print every step.
    pub print: bool,
}

/// An actor that is no member, or no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hostile {
    /// A node that never was a member.
    Stranger,
    /// Another incarnation of a member's node.
    OtherLife,
    /// A member that was removed, towards members that have committed the removal.
    Removed,
    /// The same, and it mostly shows the cards that it was given.
    OldCards,
}

impl Hostile {
    /// The hostile actors of a seed: a third of the seeds have one or two.
    fn draw(seed: u64) -> [Option<Self>; 2] {
        let mut random = Random::new(seed).fork(7);
        let mut one = || {
            let all = [Self::Stranger, Self::OtherLife, Self::Removed, Self::OldCards];
            all[random.place(all.len())]
        };
        let both = [one(), one()];
        match random.below(6) {
            0 => both.map(Some),
            1 => [Some(both[0]), None],
            _ => [None; 2],
        }
    }
}

macro_rules! faults {
    ($($(#[$doc:meta])* $name:ident: $most:expr,)*) => {
        /// What goes wrong, as named rates. Those of messages and writes strike each one at its
        /// rate; those of processes and links are drawn twenty times a simulated second.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct CoreFaults {
            $($(#[$doc])* pub $name: Rate,)*
        }

        impl CoreFaults {
            /// Nothing goes wrong.
            pub const NONE: Self = Self { $($name: Rate::NEVER,)* };

            /// The faults of one seed: each kind is there or not, at a rate of its own. Most have
            /// many of them; some have few, at higher rates, so that one is not always undone by
            /// another.
            pub fn draw(random: &mut Random) -> Self {
                let (of, times) = match random.below(32) {
                    0 => return Self::NONE,
                    1..=12 => (5, 2),
                    _ => (2, 1),
                };
                Self {
                    $($name: {
                        let (there, most) = (random.below(of) == 0, $most.per_million() * times);
                        let rate = random.below(u64::from(most) + 1);
                        if there { Rate::of_million(rate as u32) } else { Rate::NEVER }
                    },)*
                }
            }

            /// How many kinds of faults there are.
            pub fn kinds(&self) -> usize {
                self.all().iter().filter(|(_, rate)| *rate > Rate::NEVER).count()
            }

            /// Every fault by its name, with its rate.
            pub fn all(&self) -> Vec<(&'static str, Rate)> {
                vec![$((stringify!($name), self.$name),)*]
            }
        }
    };
}

faults! {
    /// A message is lost.
    loss: percent(20),
    /// A message arrives twice.
    duplicate: percent(10),
    /// A message is late, by up to three election time-outs.
    delay: percent(5),
    /// A message arrives again long after, when much else has happened.
    stale: percent(4),
    /// Messages of long ago arrive once more, on ways that are not cut.
    replay: percent(30),
    /// A message overtakes others.
    reorder: percent(20),
    /// One direction of one link goes silent for a while.
    cut: percent(10),
    /// The members fall into two halves for a while.
    partition: percent(6),
    /// A leader, with few others or with none, is apart from the rest for a while.
    minority: percent(12),
    /// One member is the only one that two halves both reach.
    bridge: percent(2),
    /// A member hears nobody, or nobody hears it.
    deaf: percent(6),
    /// A connection breaks and comes back; and after a start it is known late that there is one.
    reset: percent(10),
    /// A process stands still for a while.
    pause: percent(6),
    /// The clock of a process leaps ahead.
    leap: percent(4),
    /// A clock runs too fast or too slow, by at most this part.
    drift: percent(2),
    /// A process crashes, loses what was not durable, and starts again.
    crash: percent(10),
    /// It does so the moment after a write was handed to its disk.
    crash_in_write: Rate::of_million(4_000),
    /// All processes crash in one moment.
    blackout: percent(1),
    /// A commit of a disk takes up to two election time-outs.
    stall: percent(5),
    /// A read of a disk fails.
    read_error: percent(20),
    /// A machine takes up to an election time-out to apply.
    slow_apply: percent(20),
    /// A fetch of a snapshot fails at some part.
    fetch_error: percent(10),
    /// A disk is lost, if a majority is left; its member comes back as another one.
    wipe: percent(2),
    /// A disk is copied.
    copy: percent(20),
    /// An old copy takes the place of a disk, where a cluster bears it.
    set_back: percent(10),
    /// A disk loses the end of its log, where a cluster bears it.
    lost_tail: percent(20),
    /// Members are added, removed, promoted and exchanged, several in one change.
    churn: percent(15),
    /// Leadership is asked to be handed over.
    transfer: percent(20),
    /// A member is told to campaign.
    campaign: percent(12),
    /// A leader that sleeps is apart from all others for a while.
    sleeper: percent(20),
    /// A sleeping member's node takes a sign of life of another state of the group for one of now.
    old_sign: percent(30),
    /// Several inputs are handled before a core is drained.
    batch: percent(48),
}

impl CorePlan {
    /// The run of a seed.
    pub fn of_seed(seed: u64) -> Self {
        let mut random = Random::new(seed).fork(2);
        let founders = [3, 3, 3, 3, 4, 5, 5, 1, 2, 4][random.place(10)];
        let joiners = [0, 0, 1, 1, 2][random.place(5)].max(3_usize.saturating_sub(founders));
        let heartbeat = [20, 40, 60][random.place(3)];
        let election = heartbeat * [4, 5, 8][random.place(3)];
        let preset = ConfigBuilder::simulation();
        let knobs = ConfigBuilder {
            heartbeat: Duration::from_millis(heartbeat),
            election: Duration::from_millis(election),
            tail_bytes_max: 512 << random.below(4),
            append_bytes_max: 128 << random.below(4),
            inflight_messages_max: 1 + random.place(6),
            inflight_bytes_max: 512 << random.below(4),
            uncommitted_bytes_max: 1024 << random.below(4),
            apply_bytes_max: 512 << random.below(4),
            reads_max: 4 << random.below(4),
            keep_entries_max: random.below(16),
            promote_learners: random.below(4) > 0,
            voters_target: if random.below(4) == 0 { founders } else { usize::MAX },
            ..preset
        };
        let mut faults = CoreFaults::draw(&mut random);
        let mut extra = Random::new(seed).fork(5);
        let leases = extra.below(2) == 0;
        if leases {
            // Leases rest on clocks that run evenly.
            faults.leap = Rate::NEVER;
        }
        let permille = u64::from(faults.drift.per_million()) * 21 / 10_000 + 1;
        let permille = NonZeroU16::new(u16::try_from(permille).unwrap_or(u16::MAX));
        let knobs = ConfigBuilder {
            lease_drift_permille: permille.filter(|_| leases),
            quiesce_after: (extra.below(4) == 0).then(|| knobs.election * 2),
            ..knobs
        };
        let rot = if extra.below(4) == 0 { percent(10) } else { Rate::NEVER };
        let snapshot_entries = if random.below(4) == 0 { 1 << 40 } else { 4 << random.below(4) };
        // Now and then the network is as slow as elections are.
        let most = [1, 1, 4, 4, 20, 20, election / 4, election * 3 / 4][random.place(8)];
        Self {
            seed,
            founders,
            joiners,
            knobs,
            snapshot_entries,
            snapshot_parts: 1 + random.below(4) as u32,
            client_every: Duration::from_millis(2 + random.below(30)),
            command_bytes_max: 1 + random.below(200),
            latency_max: Duration::from_millis(most),
            faults,
            rot,
            hostiles: Hostile::draw(seed),
            lies: false,
            stormy: Duration::from_secs(5),
            recovery: Duration::from_millis(40 * election + 2000),
            print: false,
        }
    }

    /// How many members there are.
    pub const fn members(&self) -> usize {
        self.founders + self.joiners
    }
}

impl fmt::Display for CorePlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (heartbeat, election) = (self.knobs.heartbeat, self.knobs.election);
        write!(f, "{} founders, {} joiners", self.founders, self.joiners)?;
        write!(f, ", heartbeat {heartbeat:?}, election {election:?}, faults:")?;
        let all = self.faults.all();
        let mut there = all.iter().filter(|(_, rate)| *rate > Rate::NEVER);
        there.try_for_each(|(name, rate)| write!(f, " {name} {rate}"))?;
        if self.rot > Rate::NEVER {
            write!(f, " rot {}", self.rot)?;
        }
        let mut hostiles = self.hostiles.iter().flatten();
        hostiles.try_for_each(|hostile| write!(f, " hostile {hostile:?}"))
    }
}

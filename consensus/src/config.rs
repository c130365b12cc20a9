//! The knobs of a core, checked as a whole before a core sees them.

use core::{num::NonZeroU16, time::Duration};

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;

/// Knobs with public fields; [`ConfigBuilder::build`] checks them. Presets are named by
/// environment.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ConfigBuilder {
    /// How often a leader shows that it lives.
    pub heartbeat: Duration,
    /// Election time-outs are drawn from `election..2 × election`.
    pub election: Duration,
    /// Seeds every random choice of this core. To be drawn anew at every start: numbers that must
    /// not repeat those of an earlier run begin from it.
    pub seed: u64,
    /// How late this member campaigns when no leader is heard: each step up waits half an election
    /// time-out longer than the one below. Zero for whoever shall lead if it can; at most
    /// [`Config::ELECTION_RANK_MAX`]. Never a matter of safety, and no vote depends on it.
    pub election_rank: u8,
    /// Entries kept in memory, by cost; older ones are loaded when asked for.
    pub tail_bytes_max: u64,
    /// Entries of one append request, by cost (one larger entry goes alone).
    pub append_bytes_max: u64,
    /// Append requests in flight to one follower.
    pub inflight_messages_max: usize,
    /// Entries in flight to one follower, by cost.
    pub inflight_bytes_max: u64,
    /// Entries appended and not yet committed by a leader, by cost; more is `Overloaded`.
    pub uncommitted_bytes_max: u64,
    /// One command.
    pub command_bytes_max: u64,
    /// Entries handed out by `Apply` and not applied, by cost; more waits in the log.
    pub apply_bytes_max: u64,
    /// Reads that wait at once.
    pub reads_max: usize,
    /// After how long without work a group falls asleep: no heartbeats, no deadlines. `None` never
    /// sleeps. While it sleeps the driver must watch that the node of its leader lives, and say
    /// [`crate::Input::PeerDown`] to its followers when it does not.
    pub quiesce_after: Option<Duration>,
    /// Lets a leader serve reads of [`crate::ReadLevel::Lease`] without asking (thesis 6.4.1). The
    /// number is a promise: while an election time-out passes, no two members' clocks drift apart
    /// by more than so many thousandths, and none of them stands still: not for machines that are
    /// suspended, paused or moved while they run. `None` asks for every read. All members of a
    /// group must have the same here and in `election`.
    pub lease_drift_permille: Option<NonZeroU16>,
    /// Whether a leader promotes learners that have caught up.
    pub promote_learners: bool,
    /// A leader promotes learners while there are fewer voters than this; one that takes the place
    /// of another life of its node it always promotes.
    pub voters_target: usize,
    /// Entries kept in the log behind the newest snapshot, at most: a follower that is no further
    /// behind needs none. No more than what is in memory is kept.
    pub keep_entries_max: u64,
    /// While a follower is sent a snapshot, everything after it is kept, up to this cost: so that
    /// a transfer under load ends.
    pub snapshot_lag_bytes_max: u64,
}

impl ConfigBuilder {
    const fn timed(heartbeat_ms: u64, election_ms: u64) -> Self {
        Self {
            heartbeat: Duration::from_millis(heartbeat_ms),
            election: Duration::from_millis(election_ms),
            seed: 0,
            election_rank: 0,
            tail_bytes_max: 16 * MIB,
            append_bytes_max: 256 * KIB,
            inflight_messages_max: 64,
            inflight_bytes_max: 8 * MIB,
            uncommitted_bytes_max: 32 * MIB,
            command_bytes_max: 9 * MIB,
            apply_bytes_max: 16 * MIB,
            reads_max: 10_000,
            quiesce_after: None,
            lease_drift_permille: None,
            promote_learners: true,
            voters_target: usize::MAX,
            keep_entries_max: 10_000,
            snapshot_lag_bytes_max: 256 * MIB,
        }
    }

    /// One machine: round trips up to 0.5 ms.
    pub const fn local() -> Self {
        Self::timed(30, 300)
    }

    /// One data centre: round trips up to 2 ms.
    pub const fn lan() -> Self {
        Self::timed(50, 500)
    }

    /// One region: round trips up to 30 ms.
    pub const fn region() -> Self {
        Self::timed(100, 1000)
    }

    /// The globe: round trips up to 300 ms.
    pub const fn global() -> Self {
        Self::timed(400, 4000)
    }

    /// Tiny limits, so that a simulation reaches the rare branches.
    pub const fn simulation() -> Self {
        Self {
            tail_bytes_max: 4 * KIB,
            append_bytes_max: 512,
            inflight_messages_max: 4,
            inflight_bytes_max: 2 * KIB,
            uncommitted_bytes_max: 8 * KIB,
            apply_bytes_max: 2 * KIB,
            reads_max: 32,
            keep_entries_max: 8,
            snapshot_lag_bytes_max: 4 * KIB,
            ..Self::timed(50, 500)
        }
    }

    /// Checks the knobs against each other.
    ///
    /// # Errors
    /// Names the fields and the rule that they break.
    pub fn build(self) -> Result<Config, ConfigError> {
        if self.heartbeat.is_zero() {
            return Err(ConfigError::Zero { field: "heartbeat" });
        }
        if self.election < self.heartbeat.saturating_mul(Config::ELECTION_PER_HEARTBEAT_MIN) {
            return Err(ConfigError::ElectionTooShort {
                election: self.election,
                heartbeat: self.heartbeat,
            });
        }
        if self.election > Config::ELECTION_MAX {
            return Err(ConfigError::ElectionTooLong { election: self.election });
        }
        if self.election_rank > Config::ELECTION_RANK_MAX {
            return Err(ConfigError::RankTooHigh { rank: self.election_rank });
        }
        let positive = [
            ("tail_bytes_max", self.tail_bytes_max),
            ("append_bytes_max", self.append_bytes_max),
            ("inflight_messages_max", self.inflight_messages_max as u64),
            ("inflight_bytes_max", self.inflight_bytes_max),
            ("uncommitted_bytes_max", self.uncommitted_bytes_max),
            ("command_bytes_max", self.command_bytes_max),
            ("apply_bytes_max", self.apply_bytes_max),
            ("reads_max", self.reads_max as u64),
            ("voters_target", self.voters_target as u64),
        ];
        match positive.into_iter().find(|(_, value)| *value == 0) {
            Some((field, _)) => Err(ConfigError::Zero { field }),
            None => Ok(Config(self)),
        }
    }
}

/// Checked knobs: [`ConfigBuilder::build`] makes them, nothing changes them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Config(ConfigBuilder);

impl Config {
    /// An election time-out is at least this many heartbeats, so that losing two is no election.
    pub const ELECTION_PER_HEARTBEAT_MIN: u32 = 4;
    /// The highest election rank: a group that has only such members left waits three election
    /// time-outs longer.
    pub const ELECTION_RANK_MAX: u8 = 6;
    /// The longest election time-out: a longer one is a mistake of units.
    pub const ELECTION_MAX: Duration = Duration::from_secs(3600);

    /// The knobs.
    pub const fn knobs(&self) -> &ConfigBuilder {
        &self.0
    }

    /// The knobs as a builder again, to change some.
    pub fn into_builder(self) -> ConfigBuilder {
        self.0
    }
}

/// Which rule the knobs break.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A knob that must not be zero is.
    #[error("{field} must not be zero")]
    Zero {
        /// The knob.
        field: &'static str,
    },
    /// The election time-out is under four heartbeats.
    #[error(
        "an election time-out of {} ms is shorter than 4 heartbeats of {} ms",
        election.as_millis(), heartbeat.as_millis()
    )]
    ElectionTooShort {
        /// The election time-out.
        election: Duration,
        /// The heartbeat.
        heartbeat: Duration,
    },
    /// The election rank is above the highest.
    #[error("an election rank of {rank} is above 6")]
    RankTooHigh {
        /// The rank.
        rank: u8,
    },
    /// The election time-out is over an hour.
    #[error("an election time-out of {} ms is longer than an hour", election.as_millis())]
    ElectionTooLong {
        /// The election time-out.
        election: Duration,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn presets_are_valid_and_contradictions_are_named() {
        for preset in [
            ConfigBuilder::local(),
            ConfigBuilder::lan(),
            ConfigBuilder::region(),
            ConfigBuilder::global(),
            ConfigBuilder::simulation(),
        ] {
            assert!(preset.build().is_ok());
        }
        let heartbeat = Duration::from_millis(100);
        let short = ConfigBuilder {
            heartbeat,
            election: Duration::from_millis(399),
            ..ConfigBuilder::lan()
        };
        assert_eq!(
            short.build(),
            Err(ConfigError::ElectionTooShort { election: Duration::from_millis(399), heartbeat })
        );
        let late = ConfigBuilder { election_rank: 7, ..ConfigBuilder::lan() };
        assert_eq!(late.build(), Err(ConfigError::RankTooHigh { rank: 7 }));
        let zero = ConfigBuilder { reads_max: 0, ..ConfigBuilder::lan() };
        assert_eq!(zero.build(), Err(ConfigError::Zero { field: "reads_max" }));
    }
}

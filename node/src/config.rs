//! Settings of a node and of a namespace: presets by environment, checked as a whole.

use std::{num::NonZeroU16, time::Duration};

use meshraft_consensus::{Config, ConfigBuilder, ConfigError};

/// How far apart the nodes are: presets of heartbeat and election time-out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Timing {
    /// One machine: round trips up to 0.5 ms; heartbeat 30 ms, election 300 to 600 ms.
    Local,
    /// One data centre: round trips up to 2 ms; heartbeat 50 ms, election 500 to 1000 ms.
    #[default]
    Lan,
    /// One region: round trips up to 30 ms; heartbeat 100 ms, election 1 to 2 s.
    Region,
    /// The globe: round trips up to 300 ms; heartbeat 400 ms, election 4 to 8 s.
    Global,
}

impl Timing {
    const fn builder(self) -> ConfigBuilder {
        match self {
            Self::Local => ConfigBuilder::local(),
            Self::Lan => ConfigBuilder::lan(),
            Self::Region => ConfigBuilder::region(),
            Self::Global => ConfigBuilder::global(),
        }
    }
}

/// A preset, and what is set instead of its values.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Pace {
    /// The preset.
    pub(crate) timing: Timing,
    /// The leader's heartbeat.
    pub(crate) heartbeat: Option<Duration>,
    /// The shortest election time-out; the longest is twice that.
    pub(crate) election: Option<Duration>,
    /// How late a member campaigns.
    pub(crate) election_rank: u8,
    /// What clocks may drift while a lease lasts; without it there are no leases.
    pub(crate) lease_drift_permille: Option<NonZeroU16>,
    /// After how long without work a group sleeps, `None` where it never does; unless nothing was
    /// said.
    pub(crate) quiesce_after: Option<Option<Duration>>,
}

impl Pace {
    /// How long a free node observes before it decides, and the least time that a founder set is
    /// given to gather: a tenth of what an operator would wait, and many round trips of any preset.
    pub(crate) const WINDOW: Duration = Duration::from_secs(5);

    /// After how long without work a group sleeps where nothing is said: a namespace that is asked
    /// for something every few seconds never does.
    pub(crate) const QUIESCE_AFTER: Duration = Duration::from_secs(5);

    /// Checks the values against each other; the log keeps `keep_entries` behind a snapshot, or as
    /// many as usual. The core's seed is set later, by the host.
    pub(crate) fn core(&self, keep_entries: Option<u64>) -> Result<Config, ConfigError> {
        let preset = self.timing.builder();
        ConfigBuilder {
            heartbeat: self.heartbeat.unwrap_or(preset.heartbeat),
            election: self.election.unwrap_or(preset.election),
            election_rank: self.election_rank,
            lease_drift_permille: self.lease_drift_permille,
            quiesce_after: self.quiesce_after.unwrap_or(Some(Self::QUIESCE_AFTER)),
            keep_entries_max: keep_entries.unwrap_or(preset.keep_entries_max),
            ..preset
        }
        .build()
    }

    /// After how much silence a path counts as dead: the longest election time-out, so that a path
    /// is replaced about when its peer would be; within what a transport takes.
    pub(crate) fn stall(&self) -> Duration {
        let longest = self.election.unwrap_or(self.timing.builder().election).saturating_mul(2);
        longest.clamp(Duration::from_millis(50), Duration::from_secs(60))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documented_times_are_those_of_the_presets_and_contradictions_are_refused() {
        let lan = Pace::default().core(None).unwrap();
        assert_eq!(lan.knobs().heartbeat, Duration::from_millis(50));
        assert_eq!(lan.knobs().election, Duration::from_millis(500));
        assert_eq!(lan.knobs().quiesce_after, Some(Duration::from_secs(5)));
        let never = Pace { quiesce_after: Some(None), ..Pace::default() };
        assert_eq!(never.core(None).unwrap().knobs().quiesce_after, None);
        assert_eq!(Pace::default().stall(), Duration::from_secs(1));
        let slow = Pace { election: Some(Duration::from_secs(3600)), ..Pace::default() };
        assert_eq!((slow.core(None).is_ok(), slow.stall()), (true, Duration::from_secs(60)));
        let times = [Timing::Local, Timing::Region, Timing::Global].map(|timing| {
            let knobs = Pace { timing, ..Pace::default() }.core(None).unwrap().into_builder();
            (knobs.heartbeat.as_millis(), knobs.election.as_millis())
        });
        assert_eq!(times, [(30, 300), (100, 1000), (400, 4000)]);
        for (timing, heartbeat_ms, election_ms) in [
            (Timing::Local, 30, 300),
            (Timing::Lan, 50, 500),
            (Timing::Region, 100, 1000),
            (Timing::Global, 400, 4000),
        ] {
            let short = Duration::from_millis(4 * heartbeat_ms - 1);
            let long = Duration::from_millis(election_ms / 4 + 1);
            let usual = Pace { timing, ..Pace::default() };
            let said = |pace: Pace| pace.core(None).unwrap_err().to_string();
            let election = said(Pace { election: Some(short), ..usual });
            assert!(election.contains(&format!("{} ms", short.as_millis())), "{election}");
            assert!(election.contains(&format!("heartbeats of {heartbeat_ms} ms")), "{election}");
            let heartbeat = said(Pace { heartbeat: Some(long), ..usual });
            assert!(heartbeat.contains(&format!("heartbeats of {} ms", long.as_millis())));
            let both = Pace { heartbeat: Some(long), election: Some(4 * long), ..usual };
            assert!(both.core(None).is_ok(), "{timing:?}");
        }
    }
}

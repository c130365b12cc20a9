//! Decides with whom a namespace may be founded, and how many of its members vote: the settings,
//! and which of them contradict each other.

use std::{num::NonZeroU16, time::Duration};

use crate::config::Pace;

/// How many members vote. The others receive everything and vote only when a place becomes free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Voters {
    /// Learners are promoted while there are fewer voters than this.
    Target(NonZeroU16),
    /// Every learner that has caught up is promoted.
    All,
}

/// With whom a namespace is founded, where no cluster of it lives yet.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Founders {
    /// Found as soon as this many nodes agree, and never with fewer. Without it a node founds with
    /// whom it has seen when its window ends, be it alone.
    pub expect: Option<NonZeroU16>,
    /// How long to look around before deciding by what was seen: 1 ms to 1 h.
    pub window: Duration,
    /// Within which part of the window a node must be seen to become a founder; later ones join.
    /// Above 0 and at most 1. Counts only without `expect`.
    pub threshold: f64,
    /// Found alone and at once. Refused where a promise or a cluster is on record.
    pub force_bootstrap: bool,
    /// Never found: join a living cluster, or go on where it was.
    pub join_only: bool,
    /// How many members vote; `None` is a target of 5, or of `expect` if that is more.
    pub voters: Option<Voters>,
}

impl Default for Founders {
    fn default() -> Self {
        Self {
            expect: None,
            window: Pace::WINDOW,
            threshold: Self::THRESHOLD,
            force_bootstrap: false,
            join_only: false,
            voters: None,
        }
    }
}

/// Which settings of [`Founders`] contradict each other.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum FoundersError {
    /// A cluster of no founders is expected.
    #[error("expect needs at least 1 founder")]
    ExpectsNobody,
    /// Founding alone was demanded, and other founders are expected.
    #[error("force-bootstrap founds alone, which contradicts expect {expect}")]
    ForcedExpects {
        /// How many are expected.
        expect: NonZeroU16,
    },
    /// Founding was demanded and forbidden.
    #[error("force-bootstrap founds, which contradicts join-only")]
    ForcedJoins,
    /// Founders are expected by a node that may not found.
    #[error("join-only never founds, which contradicts expect {expect}")]
    JoinsExpects {
        /// How many are expected.
        expect: NonZeroU16,
    },
    /// Every founder votes, and fewer shall vote.
    #[error("voters {voters} is less than expect {expect}, and every founder votes")]
    VotersBelowFounders {
        /// How many shall vote.
        voters: NonZeroU16,
        /// How many founders are expected.
        expect: NonZeroU16,
    },
    /// The threshold is no part of the window.
    #[error("threshold {threshold} is not above 0 and at most 1")]
    Threshold {
        /// What was given.
        threshold: f64,
    },
    /// The window is out of its bounds.
    #[error("a window of {} ms is not within 1 ms to 1 h", window.as_millis())]
    Window {
        /// What was given.
        window: Duration,
    },
}

impl Founders {
    /// The usual part of the window.
    pub const THRESHOLD: f64 = 0.8;
    /// How many vote where nothing was said.
    pub const VOTERS: NonZeroU16 = NonZeroU16::new(5).expect("five is not zero");

    const WINDOW_MAX: Duration = Duration::from_secs(3600);

    /// Checks the settings against each other.
    ///
    /// # Errors
    /// Names two that contradict each other, or one that is out of its bounds.
    pub fn check(&self) -> Result<(), FoundersError> {
        if let Some(expect) = self.expect {
            if self.force_bootstrap && expect.get() > 1 {
                return Err(FoundersError::ForcedExpects { expect });
            }
            if self.join_only {
                return Err(FoundersError::JoinsExpects { expect });
            }
            if let Some(Voters::Target(voters)) = self.voters
                && voters < expect
            {
                return Err(FoundersError::VotersBelowFounders { voters, expect });
            }
        }
        if self.force_bootstrap && self.join_only {
            return Err(FoundersError::ForcedJoins);
        }
        if !(self.threshold > 0.0 && self.threshold <= 1.0) {
            return Err(FoundersError::Threshold { threshold: self.threshold });
        }
        let bounds = Duration::from_millis(1)..=Self::WINDOW_MAX;
        if !bounds.contains(&self.window) {
            return Err(FoundersError::Window { window: self.window });
        }
        Ok(())
    }

    /// The threshold in whole percent, 1 to 100: rounded up, so that none becomes zero.
    pub(crate) fn threshold_percent(&self) -> u8 {
        let percent = (self.threshold * 100.0).ceil().clamp(1.0, 100.0);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "clamped to what a byte holds"
        )]
        let percent = percent as u8;
        percent
    }

    /// How many voters there shall be; the largest number stands for all.
    pub(crate) fn voters_target(&self) -> usize {
        match self.voters {
            Some(Voters::All) => usize::MAX,
            Some(Voters::Target(voters)) => voters.get().into(),
            None => {
                self.expect.map_or(Self::VOTERS, |expect| expect.max(Self::VOTERS)).get().into()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn number(number: u16) -> NonZeroU16 {
        NonZeroU16::new(number).unwrap()
    }

    #[test]
    fn contradictions_are_named_and_what_agrees_is_taken() {
        let three = Some(number(3));
        let usual = Founders::default();
        for good in [
            usual,
            Founders { expect: three, ..usual },
            Founders { expect: Some(number(1)), force_bootstrap: true, ..usual },
            Founders { expect: three, voters: Some(Voters::Target(number(3))), ..usual },
            Founders { expect: three, voters: Some(Voters::All), ..usual },
            Founders { threshold: 1.0, window: Duration::from_millis(1), ..usual },
            Founders { join_only: true, voters: Some(Voters::Target(number(1))), ..usual },
        ] {
            assert_eq!(good.check(), Ok(()), "{good:?}");
        }
        let (expect, voters) = (number(3), number(2));
        for (bad, error) in [
            (
                Founders { expect: three, force_bootstrap: true, ..usual },
                FoundersError::ForcedExpects { expect },
            ),
            (
                Founders { join_only: true, force_bootstrap: true, ..usual },
                FoundersError::ForcedJoins,
            ),
            (
                Founders { join_only: true, expect: three, ..usual },
                FoundersError::JoinsExpects { expect },
            ),
            (
                Founders { voters: Some(Voters::Target(voters)), expect: three, ..usual },
                FoundersError::VotersBelowFounders { voters, expect },
            ),
            (Founders { threshold: 0.0, ..usual }, FoundersError::Threshold { threshold: 0.0 }),
            (Founders { threshold: 1.01, ..usual }, FoundersError::Threshold { threshold: 1.01 }),
            (
                Founders { window: Duration::ZERO, ..usual },
                FoundersError::Window { window: Duration::ZERO },
            ),
        ] {
            assert_eq!(bad.check(), Err(error), "{bad:?}");
        }
        assert!(Founders { threshold: f64::NAN, ..usual }.check().is_err());
    }

    #[test]
    fn the_defaults_are_five_voters_and_four_fifths_of_the_window() {
        let usual = Founders::default();
        assert_eq!((usual.voters_target(), usual.threshold_percent()), (5, 80));
        let seven = Founders { expect: Some(number(7)), ..usual };
        assert_eq!(seven.voters_target(), 7);
        let all = Founders { voters: Some(Voters::All), ..usual };
        assert_eq!(all.voters_target(), usize::MAX);
        let [least, most] = [0.0001, 1.0].map(|threshold| Founders { threshold, ..usual });
        assert_eq!((least.threshold_percent(), most.threshold_percent()), (1, 100));
    }
}

//! When a stream that is opened for one task is given back.
//!
//! A snapshot is fetched once in a while: between two of them its stream is closed, so that it
//! holds no window and no task at either end. Every other channel keeps its stream.

use std::time::Duration;

use meshraft_consensus::Moment;

use crate::types::Channel;

/// How long a stream that nothing is asked on is kept.
const IDLE_MAX: Duration = Duration::from_secs(5);

/// When a stream was last of use.
#[derive(Clone, Copy, Debug)]
pub(super) struct Idle {
    since: Moment,
}

impl Idle {
    /// `None` for a channel whose streams stay.
    pub(super) fn new(channel: Channel, now: Moment) -> Option<Self> {
        (channel == Channel::Snapshot).then_some(Self { since: now })
    }

    pub(super) fn touch(&mut self, now: Moment) {
        self.since = self.since.max(now);
    }

    pub(super) fn deadline(self) -> Moment {
        self.since.plus(IDLE_MAX)
    }
}

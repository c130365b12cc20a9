//! What does not belong: nodes that no other talks to, and messages of another time.

use std::time::Duration;

use meshraft_transport::Refusal;

use super::{Arrival, Letter, Network, Wake, What};
use crate::{faults::Faults, world::Seat};

/// Why a node is refused by all others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stranger {
    /// It holds another key.
    Key,
    /// It speaks other versions of the protocol.
    Release,
    /// It has no key where others have one.
    NoKey,
}

impl Stranger {
    const fn refusal(self) -> Refusal {
        match self {
            Self::Key | Self::NoKey => Refusal::KeyMismatch,
            Self::Release => Refusal::Version { oldest: 3, newest: 3 },
        }
    }
}

impl Network {
    /// Plans a copy that comes when what it says may be long past.
    pub(super) fn come_again(&mut self, from: Seat, to: Seat, letter: Letter) {
        let wait = self.random.between(Duration::ZERO, Faults::STALE_MAX);
        let (life, epoch, what) = (Arrival::ANY_LIFE, None, What::Message(letter));
        let arrival = Arrival { to, from, life, epoch, what };
        self.plans.push((self.now.plus(wait), Wake::Arrive(arrival)));
    }

    /// Why two nodes do not talk to each other, if they don't.
    pub(super) fn estranged(&self, one: Seat, other: Seat) -> Option<Refusal> {
        let (one, other) = (self.end(one).stranger, self.end(other).stranger);
        if one == other { None } else { one.or(other).map(Stranger::refusal) }
    }
}

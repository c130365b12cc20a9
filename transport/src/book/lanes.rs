//! Which target is dialled next: a queue for each kind of dial, so that none starves another.
//!
//! Invariants:
//! 1. In each queue the target that has been due longest is next, whatever its id.
//! 2. Each queue has dials of its own; those that failed last time hold at most three quarters of
//!    them, so that targets that answer never wait behind any number of dead ones.

use std::collections::{BTreeMap, BTreeSet};

use meshraft_consensus::Moment;

use super::Target;

/// A kind of dial.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Lane {
    /// Configured targets and members.
    Wanted,
    /// Other peers that were met at first hand.
    Known,
    /// Peers that the local network or this machine names.
    Local,
    /// Connected peers at an address that they name themselves, to prove the address.
    Probe,
    /// Peers that others name.
    Hearsay,
}

impl Lane {
    pub(super) const ALL: [Self; 5] =
        [Self::Wanted, Self::Known, Self::Local, Self::Probe, Self::Hearsay];

    /// The most dials at one time.
    pub(super) const fn dials_max(self) -> usize {
        match self {
            Self::Wanted => 32,
            Self::Known => 16,
            Self::Local => 4,
            Self::Probe | Self::Hearsay => 8,
        }
    }

    const fn ailing_max(self) -> usize {
        self.dials_max() - self.dials_max() / 4
    }

    /// Whether the dial is at an address that is hearsay alone.
    pub(super) const fn is_hearsay(self) -> bool {
        matches!(self, Self::Probe | Self::Hearsay)
    }
}

/// Where a target waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) lane: Lane,
    /// Whether its last dial failed.
    pub(super) ailing: bool,
    pub(super) due: Moment,
}

#[derive(Debug, Default)]
struct Queue {
    healthy: BTreeSet<(Moment, Target)>,
    ailing: BTreeSet<(Moment, Target)>,
    busy: usize,
    busy_ailing: usize,
}

/// All queues.
#[derive(Debug, Default)]
pub(super) struct Lanes {
    queues: BTreeMap<Lane, Queue>,
}

impl Lanes {
    fn queue(&mut self, lane: Lane) -> &mut Queue {
        self.queues.entry(lane).or_default()
    }

    /// A target waits here from now on.
    pub(super) fn insert(&mut self, place: Place, target: &Target) {
        let Place { lane, ailing, due } = place;
        let queue = self.queue(lane);
        let set = if ailing { &mut queue.ailing } else { &mut queue.healthy };
        set.insert((due, target.clone()));
    }

    /// A target waits here no longer.
    pub(super) fn remove(&mut self, place: Place, target: &Target) {
        let Place { lane, ailing, due } = place;
        let queue = self.queue(lane);
        let set = if ailing { &mut queue.ailing } else { &mut queue.healthy };
        set.remove(&(due, target.clone()));
    }

    /// Who has been due longest in a lane that has a dial to spare.
    fn first(&self, lane: Lane) -> Option<(Moment, bool, &Target)> {
        let queue = self.queues.get(&lane)?;
        if queue.busy >= lane.dials_max() {
            return None;
        }
        let healthy = queue.healthy.first().map(|(due, target)| (*due, false, target));
        let ailing = queue.ailing.first().filter(|_| queue.busy_ailing < lane.ailing_max());
        let ailing = ailing.map(|(due, target)| (*due, true, target));
        healthy.into_iter().chain(ailing).min()
    }

    /// The target that has been due longest, and whether its last dial failed.
    pub(super) fn due(&self, now: Moment, lane: Lane) -> Option<(Target, bool)> {
        let (due, ailing, target) = self.first(lane)?;
        (due <= now).then(|| (target.clone(), ailing))
    }

    /// When the next target of a lane is due.
    pub(super) fn deadline(&self, lane: Lane) -> Option<Moment> {
        self.first(lane).map(|(due, ..)| due)
    }

    pub(super) fn begin(&mut self, lane: Lane, ailing: bool) {
        let queue = self.queue(lane);
        queue.busy += 1;
        queue.busy_ailing += usize::from(ailing);
    }

    pub(super) fn end(&mut self, lane: Lane, ailing: bool) {
        let queue = self.queue(lane);
        queue.busy = queue.busy.saturating_sub(1);
        queue.busy_ailing = queue.busy_ailing.saturating_sub(usize::from(ailing));
    }

    pub(super) fn busy(&self, lane: Lane) -> usize {
        self.queues.get(&lane).map_or(0, |queue| queue.busy)
    }
}

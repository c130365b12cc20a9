//! Connections: who can reach whom, who dials when, and what both ends hear of it.

use std::time::Duration;

use super::{Epoch, Network, Wake, What};
use crate::world::Seat;

/// A silent path is noticed after this time; the runtime sets it to an election time-out.
const STALL: Duration = Duration::from_millis(600);
const BACKOFF_MIN: Duration = Duration::from_millis(2);
const BACKOFF_MAX: Duration = Duration::from_millis(400);

/// One pair of nodes.
#[derive(Debug, Default)]
pub(super) struct Link {
    up: Option<Epoch>,
    last: u64,
    dialling: bool,
    failures: u32,
}

const fn pair(one: Seat, other: Seat) -> (Seat, Seat) {
    if one.0 < other.0 { (one, other) } else { (other, one) }
}

impl Network {
    /// The connection between two nodes, if there is one.
    pub(super) fn epoch(&self, one: Seat, other: Seat) -> Option<Epoch> {
        self.links.get(&pair(one, other)).and_then(|link| link.up)
    }

    /// Whether two nodes have a connection.
    pub(crate) fn connects(&self, one: Seat, other: Seat) -> bool {
        self.epoch(one, other).is_some()
    }

    pub(super) fn is_cut(&self, from: Seat, to: Seat) -> bool {
        self.cuts.contains_key(&(from, to))
    }

    /// One direction goes silent.
    pub(crate) fn cut(&mut self, from: Seat, to: Seat) {
        *self.cuts.entry((from, to)).or_default() += 1;
        self.quiet(from, to);
    }

    /// The end of one [`Network::cut`].
    pub(crate) fn mend(&mut self, from: Seat, to: Seat) {
        if let Some(count) = self.cuts.get_mut(&(from, to)) {
            *count -= 1;
            if *count == 0 {
                self.cuts.remove(&(from, to));
                self.redial(from, to);
            }
        }
    }

    /// Every direction is whole again.
    pub(crate) fn mend_all(&mut self) {
        let cut: Vec<_> = std::mem::take(&mut self.cuts).into_keys().collect();
        for (from, to) in cut {
            self.redial(from, to);
        }
    }

    /// A connection breaks without a reason.
    pub(crate) fn reset(&mut self, one: Seat, other: Seat) {
        self.break_link(one, other);
    }

    /// Whether a dial would succeed now.
    fn connectable(&self, one: Seat, other: Seat) -> bool {
        let awake = |seat| self.end(seat).running && !self.end(seat).paused;
        let whole = !self.is_cut(one, other) && !self.is_cut(other, one);
        awake(one) && awake(other) && whole && self.wanted(one, other)
    }

    /// Whether one of two running nodes knows where the other listens.
    fn wanted(&self, one: Seat, other: Seat) -> bool {
        let running = self.end(one).running && self.end(other).running;
        running && (self.end(one).knows.contains(&other) || self.end(other).knows.contains(&one))
    }

    /// Plans a dial if it makes sense and none is under way.
    pub(super) fn redial(&mut self, one: Seat, other: Seat) {
        let (one, other) = pair(one, other);
        if !self.wanted(one, other) {
            return;
        }
        let link = self.links.entry((one, other)).or_default();
        if link.up.is_some() || link.dialling {
            return;
        }
        link.dialling = true;
        let most = (BACKOFF_MIN * (1 << link.failures.min(10))).min(BACKOFF_MAX);
        let wait = self.random.between(most / 2, most);
        self.plans.push((self.now.plus(wait), Wake::Dial(one, other)));
    }

    /// A dial ends.
    pub(crate) fn dialled(&mut self, one: Seat, other: Seat) {
        let connects = self.connectable(one, other);
        let Some(link) = self.links.get_mut(&pair(one, other)) else { return };
        link.dialling = false;
        if !connects {
            link.failures += 1;
            self.redial(one, other);
            return;
        }
        link.failures = 0;
        link.last += 1;
        let epoch = Epoch(link.last);
        link.up = Some(epoch);
        for (seat, peer) in [(one, other), (other, one)] {
            self.end_mut(seat).told.retain(|(told, _)| *told != peer);
            self.end_mut(seat).refusals.retain(|(refused, _), _| *refused != peer);
            self.post(peer, seat, Some(epoch), What::Connected);
            if self.end(seat).knows.contains(&peer) {
                let proven = What::Proven(Self::address(peer));
                self.post(peer, seat, Some(epoch), proven);
            }
        }
        // What is shared is told after the connection; the world keeps the order of two posts.
        let namespaces: Vec<_> = self.end(one).shares.keys().cloned().collect();
        self.now = self.now.plus(Duration::from_millis(1));
        for namespace in namespaces {
            self.tell_facts(one, other, &namespace);
            self.tell_facts(other, one, &namespace);
        }
    }

    /// A link on which nothing may come through any more: it is noticed some time later.
    pub(super) fn quiet(&mut self, one: Seat, other: Seat) {
        if let Some(epoch) = self.epoch(one, other) {
            let (one, other) = pair(one, other);
            let wait = STALL + self.random.between(Duration::ZERO, STALL);
            self.plans.push((self.now.plus(wait), Wake::Stall(one, other, epoch)));
        }
    }

    /// A silent connection is noticed, if it is still silent.
    pub(crate) fn stalled(&mut self, one: Seat, other: Seat, epoch: Epoch) {
        let silent = self.is_cut(one, other)
            || self.is_cut(other, one)
            || self.end(one).paused
            || self.end(other).paused;
        if self.epoch(one, other) == Some(epoch) && silent {
            self.break_link(one, other);
        }
    }

    pub(super) fn break_link(&mut self, one: Seat, other: Seat) {
        let Some(link) = self.links.get_mut(&pair(one, other)) else { return };
        if link.up.take().is_none() {
            return;
        }
        for (seat, peer) in [(one, other), (other, one)] {
            self.post(peer, seat, None, What::Disconnected);
        }
        self.fail_requests(one, other);
        self.redial(one, other);
    }
}

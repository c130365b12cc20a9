//! What hosts do for cores that sleep: a node shows, for its leading core that sleeps, that it
//! lives; the node of a sleeping follower tells its core when that was, and when it is lost.
//!
//! Signs of life travel like messages: late, twice, or not at all. One counts as of the moment at
//! which it arrives, if its receiver sleeps in just the term and log that it names; by the fault
//! `old_sign` also if it sleeps in another one of the same leader, as a host's answer vouches for
//! all groups that did not differ a moment ago. What differs twice in a row wakes both.
//!
//! Safety must hold however late all of that is.

use meshraft_consensus::{Member, Message, Moment, Quiesce, Role, Status};

use super::{
    CoreWorld, Due,
    cluster::Cluster,
    counts::CoreRare,
    step::{Step, seat_of},
};
use crate::{check::Violation, world::Seat};

/// The node of a sleeping leader lives.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sign {
    from: Member,
    to: Seat,
    /// In which term and at which end of its log the core sleeps.
    asleep: Quiesce,
}

/// What a node knows of the leader of its sleeping core.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Watched {
    leader: Option<Member>,
    /// When it was last seen to live, or has been waited for since.
    seen: Moment,
    /// Whether the last sign of life differed.
    differed: bool,
}

impl CoreWorld {
    /// Every node shows once that it lives, and looks whether others do.
    pub(super) fn beat(&mut self) -> Result<(), Violation> {
        self.clock.after(self.plan.knobs.heartbeat, Due::Beat);
        for seat in self.cluster.seats() {
            if self.plans[seat.0].paused {
                continue;
            }
            if let Some((from, asleep)) = self.cluster.sleeping_leader(seat) {
                self.show(seat, from, asleep);
            }
            self.look(seat)?;
        }
        Ok(())
    }

    fn show(&mut self, seat: Seat, from: Member, asleep: Quiesce) {
        let now = self.clock.now();
        for to in self.cluster.seats().filter(|to| *to != seat) {
            let (faults, random) = (&self.faults, &mut self.random);
            let message = Message::Quiesce(asleep);
            let arrivals = self.links.arrivals(now, (seat, to), &message, faults, random);
            for at in arrivals.into_iter().flatten() {
                self.clock.at(at, Due::Sign(Sign { from, to, asleep }));
            }
        }
    }

    /// A sleeping core's leader that was not seen for an election time-out is lost.
    fn look(&mut self, seat: Seat) -> Result<(), Violation> {
        let (now, election) = (self.clock.now(), self.plan.knobs.election);
        let leader = self.cluster.sleeps_under(seat).map(|(leader, _)| leader);
        let watched = &mut self.plans[seat.0].watched;
        if watched.leader != leader {
            *watched = Watched { leader, seen: now, differed: false };
        }
        let Some(peer) = leader.filter(|_| watched.seen.plus(election) <= now) else {
            return Ok(());
        };
        watched.seen = now;
        self.cluster.counts.note(CoreRare::SleeperLost);
        // It is silent, but there is a path.
        self.due_step(Step::Peer { seat, peer, up: false })?;
        self.due_step(Step::Peer { seat, peer, up: true })
    }

    /// A sign of life arrives: the host tells its core, which sleeps on.
    pub(super) fn sign(&mut self, sign: Sign) -> Result<(), Violation> {
        let Sign { from, to, asleep } = sign;
        let now = self.clock.now();
        if self.plans[to.0].paused || self.links.is_cut(seat_of(from), to) {
            return Ok(());
        }
        let believed = self.cluster.sleeps_under(to);
        let agrees = believed == Some((from, asleep));
        let old = believed.is_some_and(|(leader, _)| leader == from)
            && self.random.hits(self.faults.old_sign);
        let watched = &mut self.plans[to.0].watched;
        if agrees || old {
            *watched = Watched { leader: Some(from), seen: now, differed: false };
            return self.due_step(Step::Seen { seat: to, leader: from, at: now });
        }
        if !std::mem::replace(&mut watched.differed, true) {
            return Ok(());
        }
        watched.differed = false;
        let back = self.random.between(self.plan.latency_max / 20, self.plan.latency_max);
        self.clock.after(back, Due::Step(Step::Wake { seat: seat_of(from) }));
        match believed {
            Some((leader, _)) if leader == from => self.due_step(Step::Wake { seat: to }),
            _ => Ok(()),
        }
    }
}

impl Cluster {
    /// Who leads here and sleeps, and how.
    fn sleeping_leader(&self, seat: Seat) -> Option<(Member, Quiesce)> {
        self.sleeper(seat).filter(|status| status.role == Role::Leader).map(by_own_word)
    }

    /// Under whom the follower here sleeps, and how.
    fn sleeps_under(&self, seat: Seat) -> Option<(Member, Quiesce)> {
        self.sleeper(seat).filter(|status| status.role == Role::Follower).and_then(|status| {
            let leader = status.leader?;
            Some((leader, by_own_word(status).1))
        })
    }

    /// Whether the core here sleeps.
    pub(super) fn sleeps(&self, seat: Seat) -> bool {
        self.node(seat).core.as_ref().is_some_and(|core| core.is_dormant())
    }

    fn sleeper(&self, seat: Seat) -> Option<Status> {
        let core = self.node(seat).core.as_ref().filter(|core| core.is_dormant())?;
        Some(core.status())
    }
}

fn by_own_word(status: Status) -> (Member, Quiesce) {
    (status.me, Quiesce { term: status.term, last: status.last })
}

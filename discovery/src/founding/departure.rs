//! Leaving a cluster, being removed from it, and coming back.
//!
//! Invariants:
//! 1. A node that departed keeps its cluster on record: it founds nothing, promises nothing, and
//!    can only return to that cluster, in the same incarnation.
//! 2. The wish to leave is durable before anybody is asked to remove this member. It is forgotten
//!    only by an admission, which the next opening of the store asks for by itself.
//! 3. A node that was removed stays out until it is told to rejoin. One that left and came back is
//!    not taken for removed by the late removal that it had asked for itself.
//!
//! The log has the last word: what is on record here follows what the core says is committed.

use core::time::Duration;

use meshraft_consensus::{ClusterId, Moment};

use super::{Event, Founding, Membership, Output, Stage, backoff::retry_at, ledger::Groups};
use crate::record::{Departure, Record};

/// For how long after a return a removal that was asked for before it may still take effect: longer
/// than any member carries a request.
const ECHO_MAX: Duration = Duration::from_secs(30);

/// How a member stands to its cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Presence {
    /// It takes part.
    Present,
    /// It asks to be removed.
    Leaving { ask_at: Moment, attempt: u32 },
    /// It takes part no more.
    Away {
        /// Whether it asks to be admitted again.
        seeks: bool,
        /// Whether its core said so, in this process.
        told: bool,
    },
}

impl Presence {
    /// How a member stands when its store is opened.
    pub(super) const fn restored(departed: Option<Departure>) -> Self {
        match departed {
            None => Self::Present,
            Some(Departure::Left) => Self::Away { seeks: true, told: false },
            Some(Departure::Removed) => Self::Away { seeks: false, told: false },
        }
    }
}

impl Founding {
    pub(super) fn on_leave(&mut self, now: Moment) {
        let Stage::Member(mine) = &mut self.stage else { return };
        let cluster = mine.cluster;
        let event = match mine.presence {
            // It is out already, and knows no leader that could say so once more: it just does not
            // come back. If an admission is on its way all the same, the core will tell.
            Presence::Away { seeks: true, told: true } => {
                mine.presence = Presence::Away { seeks: false, told: true };
                Event::Departed { cluster, how: Departure::Left }
            }
            Presence::Present | Presence::Away { seeks: true, told: false } => {
                mine.presence = Presence::Leaving { ask_at: now, attempt: 0 };
                mine.echo_until = None;
                Event::Leaving { cluster }
            }
            Presence::Leaving { .. } | Presence::Away { seeks: false, .. } => return,
        };
        self.join = None;
        self.write_departure(Some(Departure::Left));
        self.observe(event);
    }

    pub(super) fn on_departed(&mut self, now: Moment, cluster: ClusterId) {
        let Some(mine) = self.member_of(cluster) else { return };
        let echo = mine.echo_until.is_some_and(|until| now < until);
        let how = match mine.presence {
            Presence::Present if echo => return self.hear_echo(now, cluster),
            Presence::Present => Departure::Removed,
            Presence::Leaving { .. } => Departure::Left,
            Presence::Away { seeks, .. } => {
                mine.presence = Presence::Away { seeks, told: true };
                return;
            }
        };
        mine.presence = Presence::Away { seeks: false, told: true };
        self.write_departure(Some(how));
        self.observe(Event::Departed { cluster, how });
    }

    /// The removal that it asked for when it left, late: it has come back since, and does so again.
    fn hear_echo(&mut self, now: Moment, cluster: ClusterId) {
        if let Stage::Member(mine) = &mut self.stage {
            mine.presence = Presence::Away { seeks: true, told: true };
        }
        self.roster.ask_all(now);
        self.write_departure(Some(Departure::Left));
        self.observe(Event::Departed { cluster, how: Departure::Left });
    }

    /// The last committed configuration that the core knows has this member. If that is out of date
    /// the core will say so.
    pub(super) fn on_returned(&mut self, now: Moment, cluster: ClusterId) {
        let left = self.record().departed == Some(Departure::Left);
        let Some(mine) = self.member_of(cluster) else { return };
        match mine.presence {
            // An admission that was asked for before it left: it still wants to be away.
            Presence::Away { seeks: false, .. } if left => {
                mine.presence = Presence::Leaving { ask_at: now, attempt: 0 };
            }
            Presence::Away { seeks: false, .. } => self.rejoined(now, cluster),
            // This may be out of date: it asks the leader itself now, who knows.
            Presence::Away { seeks: true, .. } => {
                mine.presence = Presence::Away { seeks: true, told: false };
            }
            Presence::Present | Presence::Leaving { .. } => {}
        }
    }

    pub(super) fn on_rejoin(&mut self, now: Moment) {
        let Stage::Member(mine) = &mut self.stage else { return };
        let told = match mine.presence {
            Presence::Present => return,
            Presence::Leaving { .. } => false,
            Presence::Away { told, .. } => told,
        };
        mine.presence = Presence::Away { seeks: true, told };
        self.turned_down = None;
        self.roster.ask_all(now);
        self.roster.up.values_mut().for_each(|peer| peer.denied = false);
    }

    /// The cluster has this member again.
    pub(super) fn rejoined(&mut self, now: Moment, cluster: ClusterId) {
        let left = self.record().departed == Some(Departure::Left);
        // Counted from the first return: what comes after that is somebody else's wish.
        let known = match &self.stage {
            Stage::Member(mine) => mine.echo_until,
            _ => None,
        };
        let echo_until = known.or_else(|| left.then(|| now.plus(ECHO_MAX)));
        let mine = Membership::of(cluster, Presence::Present);
        self.stage = Stage::Member(Membership { echo_until, ..mine });
        self.join = None;
        self.turned_down = None;
        self.write_departure(None);
        self.observe(Event::Rejoined { cluster });
        self.announce();
    }

    /// Brings its own return before the leader, as long as its core does not say that it is out: it
    /// may never have been removed, and be the one that all others need to come back.
    pub(super) fn press_return(&mut self, now: Moment) {
        let again_at = now.plus(self.config.founding_timeout());
        let me = self.config.me;
        let Stage::Member(mine) = &mut self.stage else { return };
        if mine.presence != (Presence::Away { seeks: true, told: false }) {
            return;
        }
        if mine.admissions.get(&me).is_none_or(|again_at| *again_at <= now) {
            mine.admissions.insert(me, again_at);
            self.ledger.emit_durable(Output::Admit { member: me });
        }
    }

    /// Asks to be removed, as often as it is time to and once the wish is durable.
    pub(super) fn press_removal(&mut self, now: Moment) {
        let durable = self.ledger.is_settled();
        let seed = self.config.seed;
        let Stage::Member(mine) = &mut self.stage else { return };
        let Presence::Leaving { ask_at, attempt } = mine.presence else { return };
        if ask_at <= now && durable {
            let ask_at = retry_at(now, seed, 7, attempt);
            mine.presence = Presence::Leaving { ask_at, attempt: attempt.saturating_add(1) };
            self.ledger.emit(Output::AskRemoval);
        }
    }

    pub(super) fn presence_deadline(&self, mine: &Membership) -> Option<Moment> {
        match mine.presence {
            Presence::Leaving { ask_at, .. } => self.ledger.is_settled().then_some(ask_at),
            Presence::Away { seeks: true, told: false } => {
                mine.admissions.get(&self.config.me).copied()
            }
            Presence::Present | Presence::Away { .. } => None,
        }
    }

    fn write_departure(&mut self, departed: Option<Departure>) {
        if self.record().departed != departed {
            let record = Record { departed, ..self.record().clone() };
            self.ledger.write(record, Groups::default());
        }
    }

    fn member_of(&mut self, cluster: ClusterId) -> Option<&mut Membership> {
        match &mut self.stage {
            Stage::Member(mine) if mine.cluster == cluster => Some(mine),
            _ => None,
        }
    }
}

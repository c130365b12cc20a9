//! Hostile actors: nodes that are no members, or no more, and do all that they can to be heard.
//!
//! An actor has a seat of its own, or the identity of a node of the world. It says what it likes
//! ([`words`]), also while the world heals. What it may not say is what its receiver believes by
//! design: in an open namespace that it is free to found, and the admission of a node that has no
//! log; with a key, what holders of the key are trusted with; and what a removed member says to one
//! that has not learned of its removal, unless the plan wants just that.

mod check;
mod words;

use std::time::Duration;

use meshraft_consensus::{ClusterId, Incarnation, Member, Namespace, NodeId};
use meshraft_discovery::wire as founding;
use meshraft_transport::{Body, Channel, Scope};

use super::{
    Event, Seat, World,
    network::{Lie as Letter, Seen, Shares},
    versions::NEWEST,
};
use crate::{
    lies::{Lie, LieCounts},
    plan::Hostile,
    random::Random,
};

/// How often an actor does something, on average.
const ACTS_EVERY: Duration = Duration::from_millis(150);
/// How much a burst holds.
const BURST: u64 = 24;
/// A cluster that nobody founded.
const INVENTED: ClusterId = ClusterId::new([0xEE; 32]);
/// The incarnation that no node begins.
const OTHER_LIFE: Incarnation = Incarnation::new([0xAB; 16]);

/// All hostile actors of a run.
#[derive(Debug)]
pub(super) struct Hostiles {
    actors: Vec<Actor>,
    random: Random,
    pub(super) counts: LieCounts,
}

impl Default for Hostiles {
    fn default() -> Self {
        Self { actors: Vec::new(), random: Random::new(0), counts: LieCounts::default() }
    }
}

#[derive(Clone, Copy, Debug)]
struct Actor {
    kind: Hostile,
    /// Where it is, if it has an identity of its own.
    own: Option<(Seat, NodeId)>,
}

/// As whom an actor speaks, from where, and to whom.
#[derive(Clone, Debug)]
struct Speaker {
    me: Member,
    from: Seat,
    to: Seat,
    /// The receiver, as it says of itself.
    receiver: Member,
    namespace: Namespace,
    cluster: ClusterId,
}

impl World {
    /// Hostile actors take their seats.
    pub(super) fn begin_hostiles(&mut self) {
        let mut random = Random::new(self.plan.seed).fork(15);
        if self.plan.hostiles == [None; 2] {
            return;
        }
        self.network.tap(random.fork(1));
        for kind in self.plan.hostiles.into_iter().flatten() {
            let node = NodeId::new(random.bytes());
            let own = match kind {
                Hostile::Stranger | Hostile::KeyHolder => {
                    let keyless = self.plan.keyed() && kind == Hostile::Stranger;
                    Some((self.network.seat_actor(node, keyless), node))
                }
                Hostile::Removed | Hostile::OtherLife => None,
            };
            self.hostiles.actors.push(Actor { kind, own });
        }
        let wait = random.between(Duration::ZERO, Duration::from_secs(6));
        self.hostiles.random = random;
        self.clock.after(wait, Event::Hostile);
        self.plan_network();
    }

    /// Some hostile actor does something, or a lot.
    pub(super) fn act(&mut self) {
        let random = &mut self.hostiles.random;
        let wait = random.between(Duration::ZERO, ACTS_EVERY * 2);
        let burst = random.below(24) == 0;
        self.clock.after(wait, Event::Hostile);
        if burst {
            self.hostiles.counts.note(Lie::Burst);
        }
        for _ in 0..if burst { BURST } else { 1 } {
            self.attack();
        }
    }

    fn attack(&mut self) {
        let Hostiles { actors, random, .. } = &mut self.hostiles;
        let actor = actors[random.place(actors.len())];
        let namespace = self.namespaces[random.place(self.namespaces.len())].clone();
        let to = Seat(random.place(self.nodes.len()));
        let Some(speaker) = self.speaker(actor, to, namespace) else { return };
        let own = actor.own.is_some();
        if own && self.hostiles.random.below(12) == 0 {
            return self.claim(&speaker);
        }
        let said = match self.hostiles.random.below(16) {
            0..=4 => self.make_up(&speaker),
            5..=7 => self.replay(&speaker, own),
            8 => Some((Scope::Cluster(speaker.cluster), Channel::Peers, self.bundle(&speaker))),
            9..=11 if own => return self.found(&speaker),
            12 => Some((Scope::Free, Channel::Peers, self.poison(&speaker))),
            13..=14 => return self.inquire(&speaker),
            _ => return self.babble(&speaker),
        };
        let Some((scope, channel, body)) = said else { return };
        self.say(&speaker, scope, channel, body, false);
    }

    /// As whom an actor speaks now, and to whom.
    fn speaker(&mut self, actor: Actor, to: Seat, namespace: Namespace) -> Option<Speaker> {
        let shares = self.network.shares(to, &namespace)?;
        let cluster = shares.clusters.first_key_value().map(|(cluster, _)| *cluster);
        let receiver = Member::new(self.node(to).id, shares.incarnation);
        let place = self.hostiles.random.place(self.nodes.len());
        let (me, from) = match (actor.kind, actor.own) {
            (_, Some((seat, node))) => {
                let known = self.network.shares(seat, &namespace);
                let incarnation = known.map_or(OTHER_LIFE, |shares| shares.incarnation);
                (Member::new(node, incarnation), seat)
            }
            (Hostile::Removed, None) => {
                let mut gone = self.seats().collect::<Vec<_>>();
                gone.retain(|seat| self.is_departed(*seat, &namespace));
                let from = *gone.get(place % gone.len().max(1))?;
                let incarnation = self.network.shares(from, &namespace)?.incarnation;
                (Member::new(self.node(from).id, incarnation), from)
            }
            (_, None) => (Member::new(self.node(Seat(place)).id, OTHER_LIFE), Seat(place)),
        };
        let cluster = cluster.unwrap_or(INVENTED);
        (from != to).then_some(Speaker { me, from, to, receiver, namespace, cluster })
    }

    /// A node says that it speaks for the cluster of others, in some incarnation.
    fn claim(&mut self, speaker: &Speaker) {
        let random = &mut self.hostiles.random;
        let incarnation = [OTHER_LIFE, Incarnation::new([0xAC; 16])][random.place(2)];
        let mut clusters = Vec::new();
        if random.below(3) > 0 {
            clusters.push((speaker.cluster, Default::default()));
        }
        self.hostiles.counts.note(Lie::Claimed);
        let clusters = clusters.into_iter().collect();
        let shares = Shares { incarnation, clusters, supports: NEWEST };
        self.network.at(self.clock.now()).share(speaker.from, &speaker.namespace, shares);
    }

    fn say(&mut self, speaker: &Speaker, scope: Scope, channel: Channel, body: Body, asks: bool) {
        let cards = self.cards(speaker);
        let random = &mut self.hostiles.random;
        let late = !asks && scope != Scope::Free && random.below(4) == 0;
        let (namespace, author) = (speaker.namespace.clone(), speaker.me.incarnation);
        let letter = Letter { namespace, scope, author, channel, body, cards, late, asks };
        self.network.at(self.clock.now()).lie(speaker.from, speaker.to, letter);
    }

    /// Something that was on the wire, as the actor's own: back to its sender, or on to others.
    fn replay(&mut self, speaker: &Speaker, own: bool) -> Option<(Scope, Channel, Body)> {
        let reflects = self.hostiles.random.below(2) == 0;
        let seen = self.network.seen(reflects.then_some(speaker.receiver))?;
        let Seen { namespace, scope, channel, body, .. } = seen;
        if namespace != speaker.namespace || (scope == Scope::Free && !own) {
            return None;
        }
        if matches!(body, Body::Consensus(_)) {
            self.hostiles.counts.note(Lie::Replayed);
        }
        Some((scope, channel, body))
    }

    /// What is said of founding.
    fn found(&mut self, speaker: &Speaker) {
        for message in self.founding_lies(speaker) {
            let body = Body::Bytes(message.encode());
            self.say(speaker, Scope::Free, Channel::Control, body, false);
        }
    }
}

/// As what a message of founding is counted.
const fn lie_of_founding(message: &founding::Message) -> Lie {
    match message {
        founding::Message::Canvass(standing) | founding::Message::CanvassAnswer(standing) => {
            match standing.binding {
                founding::Binding::Living { .. } => Lie::Living,
                _ => Lie::Canvass,
            }
        }
        founding::Message::Propose(_) => Lie::Propose,
        founding::Message::Promised { .. } => Lie::Promised,
        founding::Message::Refused { .. } => Lie::Refused,
        founding::Message::Admitted { .. } => Lie::Admitted,
        founding::Message::NotAdmitted { .. } => Lie::NotAdmitted,
        _ => Lie::Request,
    }
}

//! Hostile actors: nodes that are no members, or no more, and do all that they can to be heard.
//!
//! They send messages that they saw on the wire as their own, back to where these came from or on
//! to others, make up every kind of message, show cards of others, forged ones and stale ones, and
//! come in bursts. They go on while the world heals.

use std::time::Duration;

use meshraft_consensus::{Card, Index, Member, Message, Status};

use super::{
    CoreWorld, Due,
    attack::Attack,
    cards::Key,
    links::{Ends, SEATS_MAX},
    member::member,
    plan::{CorePlan, Hostile},
    step::Step,
};
use crate::{
    check::{CLUSTER, Violation},
    lies::Lies,
    random::Random,
    world::Seat,
};

/// How often an actor does something, on average.
const ACTS_EVERY: Duration = Duration::from_millis(100);
/// How much a burst holds.
const BURST: u64 = 16;
/// So many messages of the wire are remembered.
const SEEN_MAX: usize = 64;
/// The incarnation that no honest node begins.
const OTHER_LIFE: u8 = 26;

/// All hostile actors of a run.
#[derive(Debug)]
pub(super) struct Hostiles {
    actors: Vec<Hostile>,
    random: Random,
    /// Some of what was on the wire lately.
    seen: Vec<(Ends, Message)>,
}

impl Hostiles {
    pub(super) fn of(plan: &CorePlan) -> Self {
        let actors = plan.hostiles.into_iter().flatten().collect();
        Self { actors, random: Random::new(plan.seed).fork(8), seen: Vec::new() }
    }

    pub(super) const fn are_any(&self) -> bool {
        !self.actors.is_empty()
    }

    /// A message is on the wire.
    pub(super) fn see(&mut self, ends: Ends, message: &Message) {
        if self.actors.is_empty() || self.random.below(8) > 0 {
            return;
        }
        let place = self.random.place(SEEN_MAX);
        let seen = (ends, message.clone());
        match self.seen.get_mut(place) {
            Some(old) => *old = seen,
            None => self.seen.push(seen),
        }
    }
}

/// The identities that a plan's actors have and no member ever has.
pub(super) fn never_members(plan: &CorePlan) -> impl Iterator<Item = Member> + use<> {
    let (hostiles, members) = (plan.hostiles, plan.members());
    let identities = move |hostile| match hostile {
        Hostile::Stranger => vec![stranger()],
        Hostile::OtherLife => (0..members).map(|seat| member(Seat(seat), OTHER_LIFE)).collect(),
        Hostile::Removed | Hostile::OldCards => Vec::new(),
    };
    hostiles.into_iter().flatten().flat_map(identities)
}

fn stranger() -> Member {
    member(Seat(SEATS_MAX - 1), 1)
}

impl CoreWorld {
    /// Some hostile actor does something, or a lot.
    pub(super) fn act(&mut self) -> Result<(), Violation> {
        let random = &mut self.hostiles.random;
        let wait = random.between(Duration::ZERO, ACTS_EVERY * 2);
        let count = if random.below(16) == 0 { BURST } else { 1 };
        self.clock.after(wait, Due::Hostile);
        for _ in 0..count {
            self.attack()?;
        }
        Ok(())
    }

    fn attack(&mut self) -> Result<(), Violation> {
        let Hostiles { actors, random, .. } = &mut self.hostiles;
        let actor = actors[random.place(actors.len())];
        let seat = Seat(random.place(self.cluster.nodes.len()));
        if self.plans[seat.0].paused {
            return Ok(());
        }
        let Some(from) = self.identity(actor) else { return Ok(()) };
        let Some(status) = self.cluster.node(seat).core.as_ref().map(|core| core.status()) else {
            return Ok(());
        };
        let (kind, shows) = (self.hostiles.random.below(16), actor == Hostile::OldCards);
        let attack = match kind {
            0 => Attack::Path,
            1 => Attack::Sign,
            2..=3 => Attack::Cards(self.cards(from, &status)),
            4..=7 if shows => Attack::Cards(self.cards(from, &status)),
            4..=8 => Attack::Message(match self.seen_before(&status) {
                Some(seen) => seen,
                None => Lies(&mut self.hostiles.random).message(from, &status),
            }),
            _ => Attack::Message(Lies(&mut self.hostiles.random).message(from, &status)),
        };
        if !self.plan.lies && !self.cluster.is_hostile_to(seat, from, &attack) {
            return Ok(());
        }
        self.step(Step::Attack { seat, from, attack: Box::new(attack) }, false)
    }

    /// As whom an actor speaks. A removed member is one that was in a configuration: its node may
    /// still run, or its disk was stolen.
    fn identity(&mut self, actor: Hostile) -> Option<Member> {
        let random = &mut self.hostiles.random;
        match actor {
            Hostile::Stranger => Some(stranger()),
            Hostile::OtherLife => {
                Some(member(Seat(random.place(self.cluster.nodes.len())), OTHER_LIFE))
            }
            Hostile::Removed | Hostile::OldCards => {
                let newest = self.cluster.listed.values().copied().max()?;
                let gone = || self.cluster.listed.iter().filter(|(_, at)| **at < newest);
                let (count, place) = (gone().count(), random.next());
                gone().nth(place as usize % count.max(1)).map(|(member, _)| *member)
            }
        }
    }

    /// A message that was seen: one of the receiver's own, thrown back, or any.
    fn seen_before(&mut self, receiver: &Status) -> Option<Message> {
        let Hostiles { random, seen, .. } = &mut self.hostiles;
        let own = random.below(2) == 0;
        let of = |ends: &Ends| !own || ends.0 == receiver.me;
        let count = seen.iter().filter(|(ends, _)| of(ends)).count();
        let place = random.place(count.max(1));
        seen.iter().filter(|(ends, _)| of(ends)).nth(place).map(|(_, message)| message.clone())
    }

    /// Cards that must not count.
    fn cards(&mut self, from: Member, receiver: &Status) -> Vec<Card> {
        let random = &mut self.hostiles.random;
        let other = self.cluster.nodes[random.place(self.cluster.nodes.len())].me;
        let mut cards = match random.below(4) {
            // Those that were its own once.
            0 => self.cluster.cards_of(from).to_vec(),
            // Those of another member.
            1 => self.cluster.cards_of(other).to_vec(),
            _ => Vec::new(),
        };
        let beyond = receiver.last.index.plus(random.below(8));
        let sign = |key: Member, signer: Member, named: Member, at: Index| {
            let space = &self.cluster.namespace;
            Card::sign(&Key(key.node), space, CLUSTER, (at, named), signer.node)
        };
        match random.below(5) {
            // Signed with its own key in the name of a member, or of another member for itself.
            0 => cards.push(sign(from, other, from, beyond)),
            1 => cards.push(sign(from, from, from, beyond)),
            2 => cards.extend([sign(from, other, other, beyond), sign(from, from, from, beyond)]),
            // A genuine card with another name, or a higher index.
            3 => cards.iter_mut().for_each(|card| card.member = from),
            _ => cards.iter_mut().filter(|card| card.member == from).for_each(|card| {
                card.index = beyond;
            }),
        }
        if cards.is_empty() {
            cards.push(sign(from, other, from, beyond));
        }
        cards.truncate(Card::KEPT_MAX);
        // Of a removed member's own cards those are left that its receiver knows to be old, or that
        // are forged.
        let listed = self.cluster.listed_at(from);
        cards.retain(|card| card.index > listed || card.member != from || card.signer == from.node);
        cards.extend(self.cluster.cards_of(from).iter().filter(|card| card.member == from));
        cards.truncate(Card::KEPT_MAX);
        cards
    }
}

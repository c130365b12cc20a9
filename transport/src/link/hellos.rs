//! When the opener says hello, what its hellos say, and what it does about refusals.

use meshraft_consensus::{Index, Moment, Namespace};

use super::{
    Key, LinkEvent, Outbound, heard,
    outlet::{Bond, Outlet, State},
    sealed::Envelope,
    wire::HELLOS_MAX,
};
use crate::{
    error::{NotSent, Refusal, RequestError},
    hello::{Closing, Greeting, Hello, NamespaceHash, Space, VERSION_NEWEST, VERSION_OLDEST},
    introduction::Introduction,
    roster::Roster,
    types::{LocalNamespace, PeerFacts, Scope},
};

impl Outbound {
    /// The roster's facts of a namespace changed: handles bound to others are closed and asked for
    /// anew, and those whose peer is not a known member any more are closed.
    pub fn refresh(&mut self, now: Moment, roster: &Roster, namespace: &Namespace) {
        let local = roster.get(namespace);
        for key in self.keys(namespace) {
            match local.filter(|local| local.speaks_for(key.1)) {
                Some(local) => {
                    self.rebind(&key, &Bond::of(local, key.1));
                    self.judge_again(now, local, &key);
                }
                None => {
                    let why = if local.is_some() { Closing::Changed } else { Closing::Gone };
                    self.remove(&key, why);
                }
            }
        }
        if let Some(local) = local {
            self.stand(local);
        }
        self.say_hellos(now, roster);
    }

    /// The peer said hello to us in a namespace that is open here, under a key that we hold if it
    /// has one: what it refused before, it may accept now.
    pub fn hint(
        &mut self,
        now: Moment,
        roster: &Roster,
        (namespace, facts): (&Namespace, &PeerFacts),
    ) {
        for key in self.keys(namespace) {
            let Some(outlet) = self.outlets.get_mut(&key) else { continue };
            let cured = match &outlet.state {
                State::Refused { why, .. } => cures(facts, why, key.1),
                State::Asked { .. } => {
                    outlet.hinted = true;
                    false
                }
                _ => false,
            };
            if cured {
                self.retry_anew(&key);
            }
        }
        self.say_hellos(now, roster);
    }

    pub(super) fn say_hellos(&mut self, now: Moment, roster: &Roster) {
        while self.asked.len() < HELLOS_MAX
            && let Some(key) = self.wanting.pop_front()
        {
            let random = self.wire.random();
            let Some(outlet) = self.outlets.get_mut(&key) else { continue };
            let (State::Wanting, Some(local)) = (&outlet.state, roster.get(&key.0)) else {
                continue;
            };
            let bond = Bond::of(local, key.1);
            if outlet.key_at >= bond.keys.len() {
                outlet.key_at = 0;
            }
            let (place, introduction) = (outlet.key_at, introduce(outlet, &bond, local, &key));
            let space = self.space(local, place, random, introduction);
            let hello = Hello { oldest: VERSION_OLDEST, newest: VERSION_NEWEST, random, space };
            // Zero is the number of greetings that answer nothing.
            self.hellos = self.hellos.wrapping_add(1).max(1);
            let message = self.hellos;
            let raw = self.wire.greet(message, &Greeting::Hello(hello));
            if let Some(outlet) = self.outlets.get_mut(&key) {
                outlet.state = State::Asked { message, random, raw, bond };
                outlet.hinted = false;
            }
            self.asked.insert(message, (key, now));
        }
    }

    /// The name of the namespace and the introduction: in clear, or under the key at this place of
    /// the ring.
    fn space(
        &self,
        local: &LocalNamespace,
        place: usize,
        random: [u8; 32],
        introduction: Introduction,
    ) -> Space {
        let namespace = &local.namespace;
        let Some(key) = local.keys.at(place) else {
            return Space::Open { namespace: NamespaceHash::of(namespace), introduction };
        };
        let tag = key.tags.tag(namespace, &self.stream);
        let (channel, stream) = (self.wire.config.channel, &self.stream);
        let envelope = Envelope { channel, stream, namespace, key: &key.secret };
        let versions = (VERSION_OLDEST, VERSION_NEWEST);
        let sealed = envelope.seal_hello(versions, &random, &tag, &introduction);
        Space::Keyed { tag, sealed }
    }

    /// The peer refused a hello or a handle: tries what it has not refused yet, else waits.
    pub(super) fn refused_by_peer(
        &mut self,
        now: Moment,
        roster: &Roster,
        key: &Key,
        why: Refusal,
    ) {
        let outlet = self.outlets.get_mut(key);
        let local = roster.get(&key.0);
        let again = outlet.zip(local).is_some_and(|(outlet, local)| {
            let again = outlet.has_more_to_show(local, key.1, &why);
            if again {
                outlet.state = State::Idle;
            }
            again
        });
        if again {
            self.want(key.clone());
        } else {
            self.refused(now, key, why);
        }
    }

    /// A hello or a handle was refused, by either end.
    pub(super) fn refused(&mut self, now: Moment, key: &Key, why: Refusal) {
        let error = RequestError::Refused(why.clone());
        self.requests.fail_key(key, Some(&error), &mut self.wire.events);
        if let Some(outlet) = self.outlets.get_mut(key)
            && let Some(retry_at) = outlet.refuse(now, why.clone())
        {
            self.retries.insert((retry_at, key.clone()));
        }
        let (namespace, scope) = key.clone();
        self.event(LinkEvent::Refused { namespace, scope, why });
    }

    /// Closes a handle whose peer is not a known member any more.
    fn judge_again(&mut self, now: Moment, local: &LocalNamespace, key: &Key) {
        let Some(outlet) = self.outlets.get(key) else { return };
        let (State::Proving { facts, .. } | State::Open { facts, .. }) = &outlet.state else {
            return;
        };
        let vouched = outlet.vouched.as_ref();
        if let Err(why) = heard::judge_again(&self.wire.config, local, key, facts, vouched) {
            self.close_handle(key, Closing::Refused(why.clone()));
            self.refused(now, key, why);
        }
    }

    /// Closes what was bound to other facts, and says hello anew if that is of use.
    fn rebind(&mut self, key: &Key, bond: &Bond) {
        let Some(outlet) = self.outlets.get_mut(key) else { return };
        let keep = match &outlet.state {
            State::Idle | State::Wanting => true,
            State::Refused { .. } => false,
            _ => outlet.bond() == Some(bond),
        };
        if !keep {
            self.close_handle(key, Closing::Changed);
            self.requests.fail_key(key, None, &mut self.wire.events);
            self.retry_anew(key);
        }
    }

    /// Forgets an outlet that this node may no longer use.
    fn remove(&mut self, key: &Key, why: Closing) {
        self.close_handle(key, why);
        let error = RequestError::NotSent(NotSent::NotOpen);
        self.requests.fail_key(key, Some(&error), &mut self.wire.events);
        self.outlets.remove(key);
    }
}

/// Whether a peer that says this of itself in a hello may accept what it refused before.
fn cures(facts: &PeerFacts, why: &Refusal, scope: Scope) -> bool {
    match why {
        Refusal::UnknownNamespace | Refusal::KeyMismatch => true,
        Refusal::WrongCluster { .. } => {
            scope.cluster().is_some_and(|cluster| facts.clusters.contains(&cluster))
        }
        _ => false,
    }
}

/// What the opener says of itself: with its cards if the peer refused it as a stranger before.
fn introduce(
    outlet: &Outlet,
    bond: &Bond,
    local: &LocalNamespace,
    (_, scope): &Key,
) -> Introduction {
    let scope = scope.cluster();
    let known = scope.and_then(|cluster| local.role.known(cluster));
    let cards = known.zip(outlet.show_above);
    Introduction {
        scope,
        facts: bond.facts.clone(),
        committed: known.map_or(Index::ZERO, |known| known.committed),
        cards: cards.map_or_else(Vec::new, |(known, index)| heard::shown(known, index)),
    }
}

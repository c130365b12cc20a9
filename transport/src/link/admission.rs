//! Which hellos get a handle: the namespace is found, the opener judged, the answer given.
//!
//! To an opener without the key every refusal is the same: whether the namespace is unknown here,
//! or known under another key, or asked for in clear although it has one.

use meshraft_consensus::{Index, Moment};

use super::{
    Inbound, Key, LinkConfig, LinkError, LinkEvent, heard,
    heard::Vouched,
    inbound::{Inlet, SAME_MAX},
    pipe::{Pipe, Seals},
    replies::Replies,
    sealed::Envelope,
};
use crate::{
    budget::Purse,
    error::Refusal,
    hello::{
        Answer, Greeting, Hello, NamespaceHash, Said, Space, VERSION_NEWEST, VERSION_OLDEST,
        namespace_of_version_1,
    },
    introduction::{Facts, Introduction},
    key::KeyId,
    roster::Roster,
    seal::{Direction, Handshake},
    tag::{StreamTags, Tag},
    types::{Channel, LocalNamespace, LocalRole, PeerFacts, Scope, Source},
};

/// A hello whose namespace is open here, under a key that the opener holds if it has one.
struct Found<'a> {
    local: &'a LocalNamespace,
    key: Option<KeyId>,
    introduction: Introduction,
}

impl Found<'_> {
    fn key(&self) -> Key {
        (self.local.namespace.clone(), self.introduction.scope.into())
    }
}

impl Inbound {
    pub(super) fn hello(
        &mut self,
        now: Moment,
        roster: &Roster,
        message: u32,
        hello: &Hello,
        raw: &[u8],
    ) -> Result<(), LinkError> {
        let found = match &hello.space {
            Space::Open { namespace, introduction } => {
                self.find_open(roster, *namespace, introduction)
            }
            Space::Keyed { tag, sealed } => self.find_keyed(now, roster, hello, tag, sealed)?,
        };
        let found = match found {
            Ok(found) => found,
            Err(why) => {
                self.wire.greet(message, &Greeting::Refused(why));
                return Ok(());
            }
        };
        let (namespace, scope) = found.key();
        let facts = PeerFacts::from(&found.introduction.facts);
        self.event(LinkEvent::Helloed { namespace: namespace.clone(), facts });
        match self.judge(now, roster, &found) {
            Ok(vouched) => self.answer(&found, vouched, message, hello, raw),
            Err(why) => {
                self.wire.greet(message, &Greeting::Refused(why.clone()));
                self.event(LinkEvent::Refused { namespace, scope, why });
            }
        }
        Ok(())
    }

    /// Refuses a hello of other versions by name, whatever it is for.
    pub(super) fn refuse_version(&mut self, roster: &Roster, message: u32, raw: &[u8]) {
        let why = Refusal::Version { oldest: VERSION_OLDEST, newest: VERSION_NEWEST };
        self.wire.greet(message, &Greeting::Refused(why.clone()));
        if let Some(local) = namespace_of_version_1(raw).and_then(|hash| roster.find(hash)) {
            let (namespace, scope) = (local.namespace.clone(), Scope::Free);
            self.event(LinkEvent::Refused { namespace, scope, why });
        }
    }

    fn find_open<'a>(
        &mut self,
        roster: &'a Roster,
        namespace: NamespaceHash,
        introduction: &Introduction,
    ) -> Result<Found<'a>, Refusal> {
        let local = roster.find(namespace);
        if let Some(local) = local.filter(|local| local.keys.is_open()) {
            return Ok(Found { local, key: None, introduction: introduction.clone() });
        }
        if let Some(local) = local {
            let (namespace, scope) = (local.namespace.clone(), introduction.scope.into());
            let why = Refusal::KeyMismatch;
            self.event(LinkEvent::Refused { namespace, scope, why });
        }
        // That a node has namespaces with keys is no secret, its own hellos show tags. Which they
        // are is one: the answer does not depend on the name.
        let has_keys = roster.keys_len() > 0;
        Err(if has_keys { Refusal::KeyMismatch } else { Refusal::UnknownNamespace })
    }

    fn find_keyed<'a>(
        &mut self,
        now: Moment,
        roster: &'a Roster,
        hello: &Hello,
        tag: &Tag,
        sealed: &[u8],
    ) -> Result<Result<Found<'a>, Refusal>, LinkError> {
        let stream = self.stream.ok_or(LinkError::Misplaced)?;
        if roster.is_empty() {
            // A node that has just started has nothing to hide, and may open it soon.
            return Ok(Err(Refusal::UnknownNamespace));
        }
        let tags = match self.tags.take().filter(|tags| tags.are_of(roster)) {
            Some(tags) => tags,
            None => {
                let (count, peer) = (roster.keys_len(), self.wire.config.peer);
                let effort = &self.wire.config.effort;
                if count > 0 && !effort.take_tags(now, count, roster.knows(peer)) {
                    return Ok(Err(Refusal::Limit));
                }
                StreamTags::compute(roster, &stream)
            }
        };
        let tags = self.tags.insert(tags);
        let found = tags.find(tag).and_then(|(namespace, id)| {
            let local = roster.get(namespace)?;
            Some((local, id, local.keys.get(id)?))
        });
        let opened = found.map(|(local, id, key)| {
            let (channel, namespace) = (self.wire.config.channel, &local.namespace);
            let envelope = Envelope { channel, stream: &stream, namespace, key };
            let introduction = envelope.open_hello(hello, tag, sealed)?;
            Ok(Found { local, key: Some(id), introduction })
        });
        match opened {
            Some(Err(LinkError::Seal(_))) | None => {
                self.event(LinkEvent::Unmatched);
                Ok(Err(Refusal::KeyMismatch))
            }
            Some(opened) => opened.map(Ok),
        }
    }

    fn judge(
        &self,
        now: Moment,
        roster: &Roster,
        found: &Found<'_>,
    ) -> Result<Option<Vouched>, Refusal> {
        let LocalRole::Member { clusters, .. } = &found.local.role else {
            return Err(Refusal::Client);
        };
        match (&found.introduction.facts, found.introduction.scope) {
            (Facts::Client, None) if self.wire.config.channel == Channel::Command => {}
            (Facts::Client, _) => return Err(Refusal::MembersOnly),
            (Facts::Member { .. }, None) => {}
            (Facts::Member { clusters: theirs, .. }, Some(asked)) => {
                if *theirs != [asked] {
                    return Err(Refusal::Malformed);
                }
                if !clusters.contains_key(&asked) {
                    let speaks_for = clusters.keys().copied().take(LocalRole::CLUSTERS_MAX);
                    return Err(Refusal::WrongCluster { asked, speaks_for: speaks_for.collect() });
                }
            }
        }
        let key = found.key();
        if self.counts.get(&key).is_some_and(|count| *count >= SAME_MAX)
            || self.inlets.len() >= self.wire.config.limits.handles_max
            || self.newest == u32::MAX
        {
            return Err(Refusal::Limit);
        }
        heard::judge(&self.wire.config, now, roster, &key, &found.introduction)
    }

    fn answer(
        &mut self,
        found: &Found<'_>,
        vouched: Option<Vouched>,
        message: u32,
        hello: &Hello,
        raw: &[u8],
    ) {
        self.newest += 1;
        let handle = self.newest;
        let random = self.wire.random();
        let Found { local, key: id, introduction: theirs } = found;
        let own = introduce(local, theirs);
        let told = own.facts.clone();
        let version = VERSION_NEWEST.min(hello.newest);
        let LinkConfig { channel, me, peer, .. } = self.wire.config;
        let key = id.and_then(|id| local.keys.get(id));
        let said = match (key, &self.stream) {
            (Some(key), Some(stream)) => {
                let envelope = Envelope { channel, stream, namespace: &local.namespace, key };
                let randoms = [&hello.random, &random];
                Said::Sealed(envelope.seal_answer((version, handle), randoms, &own))
            }
            _ => Said::Clear(own),
        };
        let answer = Greeting::Answer(Answer { version, handle, random, said });
        let raw_answer = self.wire.greet(message, &answer);
        let seals = key.map(|key| {
            let handshake = Handshake::new(
                channel,
                &local.namespace,
                [peer, me],
                handle,
                [raw, &raw_answer],
                [&hello.random, &random],
            );
            Seals::new(key, &handshake, Direction::Back)
        });
        let source = Source {
            node: peer,
            incarnation: theirs.facts.incarnation(),
            namespace: local.namespace.clone(),
            scope: theirs.scope.into(),
        };
        let assembly = self.assembly(theirs.scope.into());
        self.give(
            handle,
            Inlet {
                source,
                facts: theirs.facts.clone(),
                told,
                key: *id,
                vouched,
                proven: seals.is_none(),
                pipe: Pipe::new(handle, seals, assembly),
                replies: Replies::new(Purse::of_replies(theirs.scope.into())),
                in_turn: false,
            },
        );
    }
}

/// What the acceptor says of itself: with its cards that are news to the opener, if it holds any.
fn introduce(local: &LocalNamespace, theirs: &Introduction) -> Introduction {
    let scope = theirs.scope;
    let facts = Facts::told(&local.role, scope, theirs.facts.is_client());
    let known = scope.and_then(|cluster| local.role.known(cluster));
    Introduction {
        scope,
        facts,
        committed: known.map_or(Index::ZERO, |known| known.committed),
        cards: known.map_or_else(Vec::new, |known| heard::shown(known, theirs.committed)),
    }
}

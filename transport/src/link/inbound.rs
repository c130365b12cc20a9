//! The end that accepted a stream: judges hellos, gives handles, receives, and replies.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use meshraft_consensus::{Moment, Namespace};

use super::{
    Key, LinkConfig, LinkError, LinkEvent,
    pipe::{Pipe, Seals, WRITE_BYTES_MAX},
    replies::Replies,
    wire::Wire,
};
use crate::{
    budget::Purse,
    error::{Refusal, ReplyError},
    fragment::{self, Assembly, Fragment},
    frame::FrameWriter,
    hello::{Answer, Closing, Facts, Greeting, Hello, VERSION_NEWEST, VERSION_OLDEST},
    key::{KeyId, KeyRing},
    roster::Roster,
    seal::{Direction, Handshake},
    status::HandleStatus,
    types::{Channel, LocalNamespace, LocalRole, PeerFacts, Scope, Source},
};

/// Handles of one namespace and scope on one stream: the one in use, and those it replaced while
/// their last messages drain.
const SAME_MAX: usize = 4;

/// A handle that was given.
#[derive(Debug)]
pub(super) struct Inlet {
    pub(super) source: Source,
    /// What the peer said of itself.
    pub(super) facts: Facts,
    /// What this end said of itself.
    pub(super) told: Facts,
    pub(super) key: Option<KeyId>,
    pub(super) pipe: Pipe,
    pub(super) proven: bool,
    pub(super) replies: Replies,
    pub(super) in_turn: bool,
}

impl Inlet {
    /// What it holds of a purse.
    pub(super) fn held(&self, purse: Purse) -> usize {
        let messages = if self.pipe.purse() == purse { self.pipe.held() } else { 0 };
        messages + if self.replies.purse() == purse { self.replies.held() } else { 0 }
    }

    fn key_of_counts(&self) -> Key {
        (self.source.namespace.clone(), self.source.scope)
    }
}

/// The end that accepted a stream.
#[derive(Debug)]
pub struct Inbound {
    pub(super) wire: Wire,
    pub(super) inlets: BTreeMap<u32, Inlet>,
    /// The newest handle; none is given twice.
    pub(super) newest: u32,
    pub(super) turns: VecDeque<u32>,
    /// How many handles each namespace and scope has: what a peer can hold is bounded by what is
    /// open here, whoever it is.
    counts: BTreeMap<Key, usize>,
    /// Until when the opener must have said something.
    silent_until: Option<Moment>,
}

impl Inbound {
    /// The accepting end of a fresh stream.
    pub fn new(config: LinkConfig, now: Moment) -> Self {
        let silent_until = Some(now.plus(config.limits.hello_timeout));
        Self {
            silent_until,
            wire: Wire::new(config),
            inlets: BTreeMap::new(),
            newest: 0,
            turns: VecDeque::new(),
            counts: BTreeMap::new(),
        }
    }

    /// Takes what the stream gave.
    ///
    /// # Errors
    /// The peer broke the protocol: close the stream.
    pub fn receive(&mut self, now: Moment, roster: &Roster, bytes: &[u8]) -> Result<(), LinkError> {
        let mut reader = core::mem::take(&mut self.wire.reader);
        reader.extend(bytes);
        while let Some(mut frame) = reader.next()? {
            while !frame.is_empty() {
                let fragment = fragment::split(&mut frame)?;
                match fragment.header.handle {
                    0 => self.greeting(roster, &fragment)?,
                    handle => self.fragment(now, handle, fragment)?,
                }
            }
        }
        self.wire.reader = reader;
        self.wire.heard(now);
        self.wire.check_flood()
    }

    /// Appends what is to be written now; nothing if `out` stays empty.
    pub fn transmit(&mut self, out: &mut Vec<u8>) {
        let mut writer = FrameWriter::new(out);
        self.wire.write_greetings(&mut writer);
        let bytes_max = self.wire.config.limits.message_bytes_max;
        for _ in 0..self.turns.len() {
            if writer.bytes() >= WRITE_BYTES_MAX {
                break;
            }
            let Some(handle) = self.turns.pop_front() else { break };
            let Some(inlet) = self.inlets.get_mut(&handle) else { continue };
            let (replies, budget) = (&mut inlet.replies, &mut self.wire.budget);
            inlet.in_turn = inlet.pipe.take_turn(&mut writer, || {
                // Too large a reply is refused when it is queued.
                std::iter::from_fn(|| replies.pop(budget))
                    .find_map(|packet| packet.encode(bytes_max).ok())
            });
            if inlet.in_turn {
                self.turns.push_back(handle);
            }
        }
    }

    /// Whether [`Self::transmit`] has anything to write.
    pub fn wants_to_write(&self) -> bool {
        self.wire.has_greetings() || !self.turns.is_empty()
    }

    /// When to call [`Self::tick`] next.
    pub fn deadline(&self) -> Option<Moment> {
        self.silent_until.into_iter().chain(self.wire.look_at()).min()
    }

    /// Does what is due.
    ///
    /// # Errors
    /// The opener has not said anything, or not all of a frame: close the stream.
    pub fn tick(&mut self, now: Moment) -> Result<(), LinkError> {
        if self.silent_until.is_some_and(|until| until <= now) {
            return Err(LinkError::Silent);
        }
        if self.wire.looks(now)? {
            let limits = &self.wire.config.limits;
            let overdue = |(_, inlet): &(&u32, &Inlet)| inlet.pipe.is_overdue(now, limits);
            let overdue = self.inlets.iter().filter(overdue).map(|(handle, _)| *handle);
            for handle in overdue.collect::<Vec<_>>() {
                self.refuse(handle, Refusal::Unfinished);
            }
        }
        Ok(())
    }

    /// The next event.
    pub fn poll(&mut self) -> Option<LinkEvent> {
        self.wire.events.pop_front()
    }

    /// Answers a request.
    ///
    /// # Errors
    /// The reply can't be sent. If the handle still lives and the request is open, whoever asked is
    /// told so instead.
    pub fn reply(&mut self, handle: u32, request: u64, payload: Bytes) -> Result<(), ReplyError> {
        let inlet = self.inlets.get_mut(&handle).filter(|inlet| inlet.proven);
        let inlet = inlet.ok_or(ReplyError::Gone)?;
        let Wire { config, budget, .. } = &mut self.wire;
        let answered = inlet.replies.answer(request, payload, &config.limits, budget);
        if answered != Err(ReplyError::NotOpen) {
            take_turn(&mut self.turns, handle, inlet);
        }
        answered
    }

    /// The roster's facts of a namespace changed: handles bound to others are closed.
    pub fn refresh(&mut self, roster: &Roster, namespace: &Namespace) {
        let local = roster.get(namespace);
        let stale =
            |inlet: &Inlet| inlet.source.namespace == *namespace && !still_bound(inlet, local);
        let handles: Vec<u32> = self
            .inlets
            .iter()
            .filter(|(_, inlet)| stale(inlet))
            .map(|(handle, _)| *handle)
            .collect();
        let why = if local.is_some() { Closing::Changed } else { Closing::Gone };
        for handle in handles {
            self.close(handle, why.clone());
        }
    }

    /// Whether a handle without a cluster is open and proven.
    pub fn shares(&self, namespace: &Namespace) -> bool {
        let key = (namespace.clone(), Scope::Free);
        let of_it = |inlet: &Inlet| {
            let Source { namespace: name, scope, .. } = &inlet.source;
            inlet.proven && name == namespace && *scope == Scope::Free
        };
        self.counts.contains_key(&key) && self.inlets.values().any(of_it)
    }

    /// Every open handle.
    pub fn handles(&self) -> Vec<HandleStatus> {
        let proven = self.inlets.iter().filter(|(_, inlet)| inlet.proven);
        let status = |(handle, inlet): (&u32, &Inlet)| HandleStatus {
            namespace: inlet.source.namespace.clone(),
            channel: self.wire.config.channel,
            scope: inlet.source.scope,
            handle: *handle,
            ours: false,
            sealed: inlet.pipe.is_sealed(),
        };
        proven.map(status).collect()
    }

    fn greeting(&mut self, roster: &Roster, fragment: &Fragment<'_>) -> Result<(), LinkError> {
        let message = fragment.header.message;
        let greeting = Wire::read_greeting(fragment)?;
        self.silent_until = None;
        match greeting {
            Greeting::Hello(hello) => self.hello(roster, message, &hello, fragment.bytes),
            Greeting::Close { handle, why } => self.closed(handle, why),
            Greeting::Ping(number) => {
                self.wire.greet(message, &Greeting::Pong(number));
            }
            Greeting::Answer(_) | Greeting::Refused(_) | Greeting::Pong(_) => {
                return Err(LinkError::Misplaced);
            }
        }
        Ok(())
    }

    fn hello(&mut self, roster: &Roster, message: u32, hello: &Hello, raw: &[u8]) {
        let Some(local) = roster.find(hello.namespace) else {
            self.wire.greet(message, &Greeting::Refused(Refusal::UnknownNamespace));
            return;
        };
        let namespace = local.namespace.clone();
        let verdict = self.judge(local, hello);
        if verdict != Err(Refusal::KeyMismatch) {
            let facts = PeerFacts::from(&hello.facts);
            self.event(LinkEvent::Helloed { namespace: namespace.clone(), facts });
        }
        match verdict {
            Ok(()) => self.answer(local, message, hello, raw),
            Err(why) => {
                self.wire.greet(message, &Greeting::Refused(why.clone()));
                self.event(LinkEvent::Refused { namespace, scope: hello.scope.into(), why });
            }
        }
    }

    fn judge(&self, local: &LocalNamespace, hello: &Hello) -> Result<(), Refusal> {
        if hello.oldest > VERSION_NEWEST || hello.newest < VERSION_OLDEST {
            return Err(Refusal::Version { oldest: VERSION_OLDEST, newest: VERSION_NEWEST });
        }
        if !holds(&local.keys, hello.key) {
            return Err(Refusal::KeyMismatch);
        }
        let LocalRole::Member { clusters, .. } = &local.role else {
            return Err(Refusal::Client);
        };
        match (&hello.facts, hello.scope) {
            (Facts::Client, None) if self.wire.config.channel == Channel::Command => {}
            (Facts::Client, _) => return Err(Refusal::MembersOnly),
            (Facts::Member { .. }, None) => {}
            (Facts::Member { clusters: theirs, .. }, Some(asked)) => {
                if *theirs != [asked] {
                    return Err(Refusal::Malformed);
                }
                if !clusters.contains(&asked) {
                    let speaks_for = clusters.iter().copied().take(LocalRole::CLUSTERS_MAX);
                    return Err(Refusal::WrongCluster { asked, speaks_for: speaks_for.collect() });
                }
            }
        }
        let key = (local.namespace.clone(), hello.scope.into());
        if self.counts.get(&key).is_some_and(|count| *count >= SAME_MAX)
            || self.inlets.len() >= self.wire.config.limits.handles_max
            || self.newest == u32::MAX
        {
            return Err(Refusal::Limit);
        }
        Ok(())
    }

    fn answer(&mut self, local: &LocalNamespace, message: u32, hello: &Hello, raw: &[u8]) {
        self.newest += 1;
        let handle = self.newest;
        let random = self.wire.random();
        let told = Facts::told(&local.role, hello.scope, hello.facts.is_client());
        let version = VERSION_NEWEST.min(hello.newest);
        let answer = Greeting::Answer(Answer { version, handle, random, facts: told.clone() });
        let raw_answer = self.wire.greet(message, &answer);
        let LinkConfig { channel, me, peer, .. } = self.wire.config;
        let seals = hello.key.and_then(|id| local.keys.get(id)).map(|key| {
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
        let mut inlet = Inlet {
            source: Source {
                node: peer,
                incarnation: hello.facts.incarnation(),
                namespace: local.namespace.clone(),
                scope: hello.scope.into(),
            },
            facts: hello.facts.clone(),
            told,
            key: hello.key,
            proven: seals.is_none(),
            pipe: Pipe::new(handle, seals, self.assembly(hello.scope.into())),
            replies: Replies::new(Purse::of_replies(hello.scope.into())),
            in_turn: false,
        };
        if inlet.proven {
            share(&mut self.wire.events, &inlet);
        } else {
            inlet.pipe.prove();
            take_turn(&mut self.turns, handle, &mut inlet);
        }
        *self.counts.entry(inlet.key_of_counts()).or_default() += 1;
        self.inlets.insert(handle, inlet);
    }

    #[cfg(test)]
    pub(super) const fn wire_mut(&mut self) -> &mut Wire {
        &mut self.wire
    }

    /// What joins the messages of a handle of this scope.
    fn assembly(&self, scope: Scope) -> Assembly {
        Assembly::new(Purse::of_messages(scope), self.wire.config.limits.bytes_max(scope))
    }

    /// Bytes of unfinished messages.
    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        self.wire.budget.unfinished()
    }

    /// Takes a handle out of use, and gives back what it holds.
    pub(super) fn remove(&mut self, handle: u32) -> Option<Inlet> {
        let mut inlet = self.inlets.remove(&handle)?;
        inlet.pipe.release(&mut self.wire.budget);
        inlet.replies.release(&mut self.wire.budget);
        let key = inlet.key_of_counts();
        let count = self.counts.get_mut(&key)?;
        *count -= 1;
        if *count == 0 {
            self.counts.remove(&key);
        }
        Some(inlet)
    }

    fn closed(&mut self, handle: u32, why: Closing) {
        // A handle that is gone already was closed by both ends at once.
        let Some(inlet) = self.remove(handle) else { return };
        let Source { namespace, scope, .. } = inlet.source;
        match why {
            Closing::Changed => {}
            Closing::Gone if scope == Scope::Free => {
                self.event(LinkEvent::Unshared { namespace });
            }
            Closing::Gone => {}
            Closing::Refused(why) => self.event(LinkEvent::Refused { namespace, scope, why }),
        }
    }

    fn close(&mut self, handle: u32, why: Closing) {
        if self.remove(handle).is_some() {
            self.wire.greet(0, &Greeting::Close { handle, why });
        }
    }

    pub(super) fn event(&mut self, event: LinkEvent) {
        self.wire.events.push_back(event);
    }
}

/// Queues a handle for its next turn to write.
pub(super) fn take_turn(turns: &mut VecDeque<u32>, handle: u32, inlet: &mut Inlet) {
    if !core::mem::replace(&mut inlet.in_turn, true) {
        turns.push_back(handle);
    }
}

pub(super) fn share(events: &mut VecDeque<LinkEvent>, inlet: &Inlet) {
    if inlet.source.scope == Scope::Free {
        let namespace = inlet.source.namespace.clone();
        events.push_back(LinkEvent::Shared { namespace, facts: PeerFacts::from(&inlet.facts) });
    }
}

fn holds(ring: &KeyRing, key: Option<KeyId>) -> bool {
    match key {
        None => ring.is_open(),
        Some(id) => ring.get(id).is_some(),
    }
}

fn still_bound(inlet: &Inlet, local: Option<&LocalNamespace>) -> bool {
    let Some(local) = local else { return false };
    let scope = inlet.source.scope;
    holds(&local.keys, inlet.key)
        && local.speaks_for(scope)
        && Facts::told(&local.role, scope.cluster(), inlet.facts.is_client()) == inlet.told
}

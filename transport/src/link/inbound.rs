//! The end that accepted a stream: the handles that it gave, what it receives on them, and replies.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use meshraft_consensus::{Moment, Namespace};

use super::{
    Key, LinkConfig, LinkError, LinkEvent,
    heard::{self, Vouched},
    pipe::{Pipe, WRITE_BYTES_MAX},
    replies::Replies,
    wire::Wire,
};
use crate::{
    budget::Purse,
    error::{Refusal, ReplyError},
    fragment::{self, Assembly, Fragment},
    frame::FrameWriter,
    hello::{Closing, Greeting, GreetingError},
    introduction::Facts,
    key::{KeyId, KeyRing},
    roster::Roster,
    status::HandleStatus,
    tag::{StreamNames, StreamTags},
    types::{LocalNamespace, PeerFacts, Scope, Source},
};

/// Handles of one namespace and scope on one stream: the one in use, and those it replaced while
/// their last messages drain.
pub(super) const SAME_MAX: usize = 4;

/// A handle that was given.
#[derive(Debug)]
pub(super) struct Inlet {
    pub(super) source: Source,
    /// What the peer said of itself.
    pub(super) facts: Facts,
    /// What this end said of itself.
    pub(super) told: Facts,
    pub(super) key: Option<KeyId>,
    /// The cards by which the peer is heard, if it is not among the known members.
    pub(super) vouched: Option<Vouched>,
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
    /// What the opener began the stream with.
    pub(super) stream: Option<StreamNames>,
    /// The tags of the keys held here on this stream. Kept while the stream has handles: peers that
    /// hold no key cost no memory.
    pub(super) tags: Option<StreamTags>,
    pub(super) inlets: BTreeMap<u32, Inlet>,
    /// The newest handle; none is given twice.
    pub(super) newest: u32,
    pub(super) turns: VecDeque<u32>,
    /// How many handles each namespace and scope has: what a peer can hold is bounded by what is
    /// open here, whoever it is.
    pub(super) counts: BTreeMap<Key, usize>,
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
            stream: None,
            tags: None,
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
                    0 => self.greeting(now, roster, &fragment)?,
                    handle => self.fragment(now, handle, fragment)?,
                }
            }
        }
        self.wire.reader = reader;
        self.wire.heard(now);
        if self.inlets.is_empty() {
            self.tags = None;
        }
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

    /// The roster's facts of a namespace changed: handles that are bound to others are closed, and
    /// those whose peer is not a known member any more.
    pub fn refresh(&mut self, roster: &Roster, namespace: &Namespace) {
        let local = roster.get(namespace);
        let config = &self.wire.config;
        let of_it = |inlet: &Inlet| inlet.source.namespace == *namespace;
        let stale = |(handle, inlet): (&u32, &Inlet)| {
            of_it(inlet).then(|| Some((*handle, why_stale(config, inlet, local)?)))?
        };
        let stale: Vec<(u32, Closing)> = self.inlets.iter().filter_map(stale).collect();
        for (handle, why) in stale {
            if let (Closing::Refused(why), Some(inlet)) = (&why, self.inlets.get(&handle)) {
                let Source { namespace, scope, .. } = inlet.source.clone();
                self.event(LinkEvent::Refused { namespace, scope, why: why.clone() });
            }
            self.close(handle, why);
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

    fn greeting(
        &mut self,
        now: Moment,
        roster: &Roster,
        fragment: &Fragment<'_>,
    ) -> Result<(), LinkError> {
        let message = fragment.header.message;
        let greeting = match Wire::read_greeting(fragment) {
            Ok(Greeting::Begin(random)) => return self.begin(random),
            Err(GreetingError::Version { .. }) => {
                self.silent_until = None;
                self.refuse_version(roster, message, fragment.bytes);
                return Ok(());
            }
            read => read?,
        };
        self.silent_until = None;
        match greeting {
            Greeting::Hello(hello) => self.hello(now, roster, message, &hello, fragment.bytes)?,
            Greeting::Close { handle, why } => self.closed(handle, why),
            Greeting::Ping(number) => {
                self.wire.greet(message, &Greeting::Pong(number));
            }
            Greeting::Answer(_) | Greeting::Refused(_) | Greeting::Pong(_) | Greeting::Begin(_) => {
                return Err(LinkError::Misplaced);
            }
        }
        Ok(())
    }

    fn begin(&mut self, random: [u8; 32]) -> Result<(), LinkError> {
        if self.stream.is_some() {
            return Err(LinkError::Misplaced);
        }
        let LinkConfig { me, peer, .. } = self.wire.config;
        self.stream = Some(StreamNames { opener: peer, acceptor: me, random });
        Ok(())
    }

    /// Takes a handle into use. A sealed one begins with the proof that this end holds the key.
    pub(super) fn give(&mut self, handle: u32, mut inlet: Inlet) {
        *self.counts.entry(inlet.key_of_counts()).or_default() += 1;
        if inlet.proven {
            tell_open(&mut self.wire, &mut inlet);
        } else {
            inlet.pipe.prove();
            take_turn(&mut self.turns, handle, &mut inlet);
        }
        self.inlets.insert(handle, inlet);
    }

    #[cfg(test)]
    pub(super) const fn wire_mut(&mut self) -> &mut Wire {
        &mut self.wire
    }

    /// What joins the messages of a handle of this scope.
    pub(super) fn assembly(&self, scope: Scope) -> Assembly {
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

/// A handle is open, and proven if it is sealed.
pub(super) fn tell_open(wire: &mut Wire, inlet: &mut Inlet) {
    if inlet.source.scope == Scope::Free {
        let namespace = inlet.source.namespace.clone();
        wire.events
            .push_back(LinkEvent::Shared { namespace, facts: PeerFacts::from(&inlet.facts) });
    }
    let key = inlet.key_of_counts();
    if let (Some(vouched), Some(member)) =
        (&mut inlet.vouched, heard::member(&wire.config, &inlet.facts))
    {
        wire.events.extend(vouched.tell(member, &key));
    }
}

fn holds(ring: &KeyRing, key: Option<KeyId>) -> bool {
    match key {
        None => ring.is_open(),
        Some(id) => ring.get(id).is_some(),
    }
}

/// Why a handle is of no more use under these facts, if it is not.
fn why_stale(
    config: &LinkConfig,
    inlet: &Inlet,
    local: Option<&LocalNamespace>,
) -> Option<Closing> {
    let Some(local) = local else { return Some(Closing::Gone) };
    let key = inlet.key_of_counts();
    let scope = inlet.source.scope;
    let is_bound = holds(&local.keys, inlet.key)
        && local.speaks_for(scope)
        && Facts::told(&local.role, scope.cluster(), inlet.facts.is_client()) == inlet.told;
    if !is_bound {
        return Some(Closing::Changed);
    }
    let judged = heard::judge_again(config, local, &key, &inlet.facts, inlet.vouched.as_ref());
    judged.err().map(Closing::Refused)
}

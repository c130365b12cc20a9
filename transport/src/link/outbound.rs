//! The end that opened a stream: what it sends and asks, and when it says hello.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use bytes::Bytes;
use meshraft_consensus::{Incarnation, Moment, Namespace};

use super::{
    Key, LinkConfig, LinkError, LinkEvent,
    idle::Idle,
    outlet::{Outlet, State, mistake},
    pipe::WRITE_BYTES_MAX,
    pulse::{Beat, Pulse},
    queue::{QueueFull, Queued},
    requests::Requests,
    wire::Wire,
};
use crate::{
    codec::Packet,
    error::{NotSent, Refusal, RequestError},
    frame::FrameWriter,
    hello::{Closing, Greeting},
    roster::Roster,
    status::HandleStatus,
    tag::StreamNames,
    types::{Body, Channel, LocalNamespace, LocalRole, RequestId, Scope},
};

/// A hello that is not answered within this time ends the stream.
const HELLO_TIMEOUT: Duration = Duration::from_secs(10);

/// A message to send.
#[derive(Clone, Debug)]
pub struct Outgoing {
    /// In which namespace.
    pub namespace: Namespace,
    /// Under which binding.
    pub scope: Scope,
    /// The only life of the peer that it is for.
    pub incarnation: Option<Incarnation>,
    /// What it says.
    pub body: Body,
}

/// A request to ask, on [`Channel::Command`] or [`Channel::Snapshot`].
#[derive(Clone, Debug)]
pub struct Question {
    /// The caller's name for it.
    pub id: RequestId,
    /// In which namespace.
    pub namespace: Namespace,
    /// Under which binding.
    pub scope: Scope,
    /// What is asked.
    pub payload: Bytes,
    /// How long to wait for the reply.
    pub timeout: Duration,
}

/// The end that opened a stream.
#[derive(Debug)]
pub struct Outbound {
    pub(super) wire: Wire,
    /// What this end began the stream with.
    pub(super) stream: StreamNames,
    pub(super) outlets: BTreeMap<Key, Outlet>,
    /// Who writes on which handle.
    pub(super) handles: BTreeMap<u32, Key>,
    /// The newest handle that was given; the other end gives none twice.
    pub(super) newest: u32,
    /// Hellos without an answer, by message number.
    pub(super) asked: BTreeMap<u32, (Key, Moment)>,
    pub(super) hellos: u32,
    /// Who says hello as soon as fewer are unanswered.
    pub(super) wanting: VecDeque<Key>,
    pub(super) retries: BTreeSet<(Moment, Key)>,
    turns: VecDeque<Key>,
    pub(super) requests: Requests,
    pub(super) pulse: Option<Pulse>,
    pub(super) idle: Option<Idle>,
    /// The stream is gone, or is about to be closed.
    finished: bool,
}

impl Outbound {
    /// The opening end of a fresh stream. On Control it watches over the path and says hello in
    /// every namespace that this node is a member of; on Command, in those where it is a client.
    pub fn new(config: LinkConfig, now: Moment, roster: &Roster) -> Self {
        let pulse = (config.channel == Channel::Control).then(|| Pulse::new(config.stall, now));
        let idle = Idle::new(config.channel, now);
        let LinkConfig { me, peer, .. } = config;
        let mut wire = Wire::new(config);
        let stream = StreamNames { opener: me, acceptor: peer, random: wire.random() };
        wire.greet(0, &Greeting::Begin(stream.random));
        let mut outbound = Self {
            wire,
            stream,
            outlets: BTreeMap::new(),
            handles: BTreeMap::new(),
            newest: 0,
            asked: BTreeMap::new(),
            hellos: 0,
            wanting: VecDeque::new(),
            retries: BTreeSet::new(),
            turns: VecDeque::new(),
            requests: Requests::default(),
            pulse,
            idle,
            finished: false,
        };
        for local in roster.iter() {
            outbound.stand(local);
        }
        outbound.say_hellos(now, roster);
        outbound
    }

    /// Queues a message.
    ///
    /// # Errors
    /// It will surely not be sent. That it is queued promises nothing.
    pub fn send(
        &mut self,
        now: Moment,
        roster: &Roster,
        outgoing: Outgoing,
    ) -> Result<(), RequestError> {
        let Outgoing { namespace, scope, incarnation, body } = outgoing;
        let packet = match body {
            Body::Consensus(message) => Packet::Consensus(message),
            Body::Bytes(bytes) => Packet::Opaque(bytes),
        };
        let queued = Queued { packet, expected: incarnation, since: now };
        self.enqueue(now, roster, (namespace, scope), queued)
    }

    /// Queues a request; exactly one [`LinkEvent::Reply`] follows.
    pub fn request(&mut self, now: Moment, roster: &Roster, question: Question) {
        let Question { id, namespace, scope, payload, timeout } = question;
        if let Some(idle) = &mut self.idle {
            idle.touch(now);
        }
        let key = (namespace, scope);
        let count_max = self.wire.config.limits.requests_max;
        let number = self.requests.begin(id, key.clone(), now.plus(timeout), count_max);
        let Some(number) = number else {
            let result = Err(RequestError::NotSent(NotSent::QueueFull));
            self.event(LinkEvent::Reply { id, result });
            return;
        };
        let packet = Packet::Request { id: number, payload };
        let queued = Queued { packet, expected: None, since: now };
        if let Err(error) = self.enqueue(now, roster, key, queued) {
            let ended = self.requests.fail(number, error);
            self.wire.events.extend(ended);
        }
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
            let Some(key) = self.turns.pop_front() else { break };
            let Some(outlet) = self.outlets.get_mut(&key) else { continue };
            let Outlet { state: State::Open { pipe, facts, .. }, queue, mistaken, .. } = outlet
            else {
                outlet.in_turn = false;
                continue;
            };
            let (requests, events) = (&mut self.requests, &mut self.wire.events);
            let more = pipe.take_turn(&mut writer, || {
                std::iter::from_fn(|| queue.pop()).find_map(|queued| {
                    let found = facts.incarnation();
                    if let Some(why) = mistake(queued.expected, found, mistaken) {
                        let (namespace, scope) = key.clone();
                        events.extend(why.map(|why| LinkEvent::Refused { namespace, scope, why }));
                        return None;
                    }
                    let live = match &queued.packet {
                        Packet::Request { id, .. } => requests.written(*id),
                        _ => true,
                    };
                    live.then(|| queued.packet.encode(bytes_max).ok()).flatten()
                })
            });
            outlet.in_turn = more;
            if more {
                self.turns.push_back(key);
            }
        }
    }

    /// Whether [`Self::transmit`] has anything to write.
    pub fn wants_to_write(&self) -> bool {
        self.wire.has_greetings() || !self.turns.is_empty()
    }

    /// The next event.
    pub fn poll(&mut self) -> Option<LinkEvent> {
        self.wire.events.pop_front()
    }

    /// When to call [`Self::tick`] next.
    pub fn deadline(&self) -> Option<Moment> {
        let pulse = self.pulse.as_ref().map(Pulse::deadline);
        let asked = self.asked.first_key_value().map(|(_, (_, since))| since.plus(HELLO_TIMEOUT));
        let retry = self.retries.first().map(|(at, _)| *at);
        let (requests, idle) = (self.requests.deadline(), self.idle_deadline());
        let deadlines = [pulse, asked, retry, requests, idle, self.wire.look_at()];
        deadlines.into_iter().flatten().min()
    }

    /// Does what is due.
    ///
    /// # Errors
    /// The peer does not answer, or not all of a frame: close the stream.
    pub fn tick(&mut self, now: Moment, roster: &Roster) -> Result<(), LinkError> {
        self.requests.expire(now, &mut self.wire.events);
        if self.wire.looks(now)? {
            self.close_overdue(now);
        }
        while let Some((at, _)) = self.retries.first()
            && *at <= now
            && let Some((at, key)) = self.retries.pop_first()
        {
            let retry_at = match self.outlets.get(&key).map(|outlet| &outlet.state) {
                Some(State::Refused { retry_at, .. }) => *retry_at,
                _ => None,
            };
            // Another refusal, or none any more, has a time of its own.
            if retry_at == Some(at) {
                self.retry(&key);
            }
        }
        let first = self.asked.first_key_value();
        if first.is_some_and(|(_, (_, since))| since.plus(HELLO_TIMEOUT) <= now) {
            return Err(LinkError::Unanswered);
        }
        match self.pulse.as_mut().map_or(Beat::Quiet, |pulse| pulse.look(now)) {
            Beat::Quiet => {}
            Beat::Ping(number) => {
                self.wire.greet(0, &Greeting::Ping(number));
            }
            Beat::Stalled => {
                self.pulse = None;
                self.event(LinkEvent::Stalled);
            }
        }
        if self.idle_deadline().is_some_and(|deadline| deadline <= now) {
            self.finished = true;
            self.event(LinkEvent::Idle);
            return Ok(());
        }
        self.say_hellos(now, roster);
        Ok(())
    }

    /// When the stream is closed if nothing is asked until then.
    fn idle_deadline(&self) -> Option<Moment> {
        let idle = self.idle.filter(|_| !self.finished && self.requests.is_empty())?;
        Some(idle.deadline())
    }

    /// The stream is gone: every request ends, and later ones fail at once.
    pub fn finish(&mut self) {
        self.finished = true;
        self.requests.fail_all(&mut self.wire.events);
    }

    /// Whether the handle without a cluster is open.
    pub fn shares(&self, namespace: &Namespace) -> bool {
        let outlet = self.outlets.get(&(namespace.clone(), Scope::Free));
        outlet.is_some_and(|outlet| matches!(outlet.state, State::Open { .. }))
    }

    /// Every open handle.
    pub fn handles(&self) -> Vec<HandleStatus> {
        let open = |(key, outlet): (&Key, &Outlet)| {
            let State::Open { pipe, .. } = &outlet.state else { return None };
            Some(HandleStatus {
                namespace: key.0.clone(),
                channel: self.wire.config.channel,
                scope: key.1,
                handle: pipe.handle(),
                ours: true,
                sealed: pipe.is_sealed(),
            })
        };
        self.outlets.iter().filter_map(open).collect()
    }

    /// Writes bytes on a handle as if they were a message.
    #[cfg(test)]
    pub(super) fn write_raw(&mut self, key: &Key, bytes: Vec<u8>) {
        self.outlets.get_mut(key).and_then(Outlet::pipe).expect("an open handle").put(bytes);
        self.take_turn(key.clone());
    }

    pub(super) fn keys(&self, namespace: &Namespace) -> Vec<Key> {
        let from = (namespace.clone(), Scope::Free);
        let keys = self.outlets.range(from..).map(|(key, _)| key);
        keys.take_while(|(name, _)| name == namespace).cloned().collect()
    }

    pub(super) fn stand(&mut self, local: &LocalNamespace) {
        let channel = match local.role {
            LocalRole::Member { .. } => Channel::Control,
            LocalRole::Client => Channel::Command,
        };
        let key = (local.namespace.clone(), Scope::Free);
        if channel == self.wire.config.channel {
            let outlet = self.outlets.entry(key.clone()).or_default();
            outlet.standing = true;
            if matches!(outlet.state, State::Idle) {
                self.want(key);
            }
        }
    }

    fn enqueue(
        &mut self,
        now: Moment,
        roster: &Roster,
        key: Key,
        queued: Queued,
    ) -> Result<(), RequestError> {
        if self.finished {
            return Err(RequestError::NotSent(NotSent::Unwritten));
        }
        let LinkConfig { channel, limits, .. } = &self.wire.config;
        let local = roster.get(&key.0).ok_or(RequestError::NotSent(NotSent::NotOpen))?;
        if !local.speaks_for(key.1) {
            return Err(RequestError::Refused(Refusal::NotOurs));
        }
        let (bytes, bytes_max) = (queued.packet.cost_bytes(), limits.bytes_max(key.1));
        if bytes > bytes_max {
            return Err(RequestError::NotSent(NotSent::TooLarge { bytes, bytes_max }));
        }
        let outlet = self.outlets.entry(key.clone()).or_default();
        if let State::Refused { why, .. } = &outlet.state {
            // A message may wait for the peer to come round; a request's caller knows better.
            if !why.may_pass() || matches!(queued.packet, Packet::Request { .. }) {
                return Err(RequestError::Refused(why.clone()));
            }
        }
        let full = |QueueFull| RequestError::NotSent(NotSent::QueueFull);
        outlet.queue.push(queued, *channel, limits).map_err(full)?;
        match outlet.state {
            State::Idle => {
                self.want(key);
                self.say_hellos(now, roster);
            }
            State::Open { .. } => self.take_turn(key),
            _ => {}
        }
        Ok(())
    }

    /// Queues an outlet for its next turn to write.
    pub(super) fn take_turn(&mut self, key: Key) {
        let outlet = self.outlets.get_mut(&key);
        if outlet.is_some_and(|outlet| !core::mem::replace(&mut outlet.in_turn, true)) {
            self.turns.push_back(key);
        }
    }

    /// The same after the facts changed: what was refused before counts no longer.
    pub(super) fn retry_anew(&mut self, key: &Key) {
        if let Some(outlet) = self.outlets.get_mut(key) {
            outlet.refusals = 0;
        }
        self.retry(key);
    }

    /// Says hello for an outlet that was refused, if a handle is of use to it.
    pub(super) fn retry(&mut self, key: &Key) {
        let Some(outlet) = self.outlets.get_mut(key) else { return };
        outlet.state = State::Idle;
        if outlet.has_use() {
            self.want(key.clone());
        }
    }

    pub(super) fn want(&mut self, key: Key) {
        if let Some(outlet) = self.outlets.get_mut(&key) {
            outlet.state = State::Wanting;
            self.wanting.push_back(key);
        }
    }

    /// Tells the other end that a handle is of no more use, if there is one.
    pub(super) fn close_handle(&mut self, key: &Key, why: Closing) {
        let Some(pipe) = self.outlets.get_mut(key).and_then(Outlet::pipe) else { return };
        let handle = pipe.handle();
        pipe.release(&mut self.wire.budget);
        self.handles.remove(&handle);
        self.wire.greet(0, &Greeting::Close { handle, why });
    }

    pub(super) fn event(&mut self, event: LinkEvent) {
        self.wire.events.push_back(event);
    }
}

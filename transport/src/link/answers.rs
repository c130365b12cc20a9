//! What the opener's end takes back from the other: answers to its hellos, proofs, replies.

use meshraft_consensus::Moment;

use super::{
    Key, LinkConfig, LinkError, LinkEvent, Outbound, fair, heard,
    outlet::{Outlet, State},
    pipe::{Pipe, Seals},
    sealed::Envelope,
    wire::Wire,
};
use crate::{
    budget::Purse,
    codec::Packet,
    error::Refusal,
    fragment::{self, Assembly, Fragment, FragmentError},
    hello::{Answer, Closing, Greeting, Said, VERSION_NEWEST, VERSION_OLDEST},
    introduction::{Facts, Introduction},
    key::NamespaceKey,
    roster::Roster,
    seal::{Direction, Handshake},
    types::{Channel, PeerFacts, Scope},
};

impl Outbound {
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
        if let Some(idle) = &mut self.idle {
            idle.touch(now);
        }
        self.say_hellos(now, roster);
        self.wire.check_flood()
    }

    fn greeting(
        &mut self,
        now: Moment,
        roster: &Roster,
        fragment: &Fragment<'_>,
    ) -> Result<(), LinkError> {
        let message = fragment.header.message;
        match Wire::read_greeting(fragment)? {
            Greeting::Answer(answer) => self.answered(now, roster, message, answer, fragment.bytes),
            Greeting::Refused(why) => {
                let (key, _) = self.asked.remove(&message).ok_or(LinkError::Misplaced)?;
                if self.awaits(&key, message) {
                    self.refused_by_peer(now, roster, &key, why);
                }
                Ok(())
            }
            Greeting::Close { handle, why } => {
                self.closed(now, roster, handle, why);
                Ok(())
            }
            Greeting::Pong(number) => {
                if let Some(pulse) = &mut self.pulse {
                    pulse.pong(number);
                }
                Ok(())
            }
            Greeting::Hello(_) | Greeting::Ping(_) | Greeting::Begin(_) => {
                Err(LinkError::Misplaced)
            }
        }
    }

    /// Whether the outlet still waits for the answer to this very hello.
    fn awaits(&self, key: &Key, hello: u32) -> bool {
        let state = self.outlets.get(key).map(|outlet| &outlet.state);
        matches!(state, Some(State::Asked { message, .. }) if *message == hello)
    }

    fn answered(
        &mut self,
        now: Moment,
        roster: &Roster,
        message: u32,
        answer: Answer,
        raw_answer: &[u8],
    ) -> Result<(), LinkError> {
        let (key, _) = self.asked.remove(&message).ok_or(LinkError::Misplaced)?;
        let Answer { version, handle, .. } = answer;
        let in_range = (VERSION_OLDEST..=VERSION_NEWEST).contains(&version);
        if handle <= self.newest || !in_range {
            return Err(LinkError::Misplaced);
        }
        self.newest = handle;
        if !self.awaits(&key, message) {
            // The facts changed while the answer was on its way.
            self.wire.greet(0, &Greeting::Close { handle, why: Closing::Changed });
            return Ok(());
        }
        let Some(outlet) = self.outlets.get_mut(&key) else { return Ok(()) };
        let State::Asked { random, raw, bond, .. } = core::mem::take(&mut outlet.state) else {
            return Ok(());
        };
        let id = bond.keys.get(outlet.key_at);
        let secret = id.and_then(|id| roster.get(&key.0)?.keys.get(*id));
        if id.is_some() != secret.is_some() {
            // The ring changed, and the refresh that says so is on its way: never go on unsealed.
            self.wire.greet(0, &Greeting::Close { handle, why: Closing::Changed });
            self.want(key);
            return Ok(());
        }
        let introduction = match self.open_answer(&key, secret, &answer, &random) {
            Err(LinkError::Seal(_)) => {
                self.decline(now, &key, handle, Refusal::KeyMismatch);
                return Ok(());
            }
            opened => opened?,
        };
        let vouched = match heard::judge(&self.wire.config, now, roster, &key, &introduction) {
            Ok(vouched) => vouched,
            Err(why) => {
                self.decline(now, &key, handle, why);
                return Ok(());
            }
        };
        let Some(outlet) = self.outlets.get_mut(&key) else { return Ok(()) };
        self.handles.insert(handle, key.clone());
        outlet.vouched = vouched;
        let facts = introduction.facts;
        let assembly = assembly(&self.wire.config, key.1);
        let Some(secret) = secret else {
            outlet.state = State::Open { pipe: Pipe::new(handle, None, assembly), facts, bond };
            self.opened(now, key);
            return Ok(());
        };
        let LinkConfig { channel, me, peer, .. } = self.wire.config;
        let handshake = Handshake::new(
            channel,
            &key.0,
            [me, peer],
            handle,
            [&raw, raw_answer],
            [&random, &answer.random],
        );
        let seals = Seals::new(secret, &handshake, Direction::Forward);
        outlet.state =
            State::Proving { pipe: Pipe::new(handle, Some(seals), assembly), facts, bond };
        Ok(())
    }

    /// What an answer says of its sender: sealed if the hello was, and for the same scope.
    fn open_answer(
        &self,
        key: &Key,
        secret: Option<&NamespaceKey>,
        answer: &Answer,
        random: &[u8; 32],
    ) -> Result<Introduction, LinkError> {
        let introduction = match (&answer.said, secret) {
            (Said::Clear(introduction), None) => introduction.clone(),
            (Said::Sealed(sealed), Some(secret)) => {
                let (channel, stream) = (self.wire.config.channel, &self.stream);
                let envelope = Envelope { channel, stream, namespace: &key.0, key: secret };
                envelope.open_answer(answer, random, sealed)?
            }
            _ => return Err(LinkError::Misplaced),
        };
        if !is_member_of(&introduction, key.1) {
            return Err(LinkError::Misplaced);
        }
        Ok(introduction)
    }

    /// Gives a handle back that this end does not accept.
    fn decline(&mut self, now: Moment, key: &Key, handle: u32, why: Refusal) {
        self.wire.greet(0, &Greeting::Close { handle, why: Closing::Refused(why.clone()) });
        self.refused(now, key, why);
    }

    /// The handle may be used; a sealed one begins with this end's proof.
    fn opened(&mut self, now: Moment, key: Key) {
        let LinkConfig { channel, stall, .. } = self.wire.config;
        let Some(outlet) = self.outlets.get_mut(&key) else { return };
        let State::Open { pipe, facts, .. } = &mut outlet.state else { return };
        outlet.refusals = 0;
        outlet.mistaken = None;
        outlet.show_above = None;
        outlet.shown.clear();
        if channel == Channel::Control {
            let stall_nanos = u64::try_from(stall.as_nanos()).unwrap_or(u64::MAX);
            let oldest = now.as_nanos().saturating_sub(stall_nanos);
            outlet.queue.forget_before(Moment::from_nanos(oldest));
        }
        if pipe.is_sealed() {
            pipe.prove();
        }
        if key.1 == Scope::Free {
            let (namespace, facts) = (key.0.clone(), PeerFacts::from(&*facts));
            self.wire.events.push_back(LinkEvent::Shared { namespace, facts });
        }
        let member = heard::member(&self.wire.config, facts);
        if let (Some(vouched), Some(member)) = (&mut outlet.vouched, member) {
            self.wire.events.extend(vouched.tell(member, &key));
        }
        self.take_turn(key);
    }

    fn closed(&mut self, now: Moment, roster: &Roster, handle: u32, why: Closing) {
        // A handle that is gone already was closed by both ends at once.
        let Some(key) = self.handles.remove(&handle) else { return };
        let Some(outlet) = self.outlets.get_mut(&key) else { return };
        if let Some(pipe) = outlet.pipe() {
            pipe.release(&mut self.wire.budget);
        }
        match why {
            Closing::Changed => {
                outlet.state = State::Idle;
                outlet.key_at = 0;
                let has_use = outlet.has_use();
                self.requests.fail_key(&key, None, &mut self.wire.events);
                if has_use {
                    self.want(key);
                }
            }
            Closing::Gone => {
                if key.1 == Scope::Free {
                    self.event(LinkEvent::Unshared { namespace: key.0.clone() });
                }
                self.refused(now, &key, Refusal::UnknownNamespace);
            }
            Closing::Refused(why) => self.refused_by_peer(now, roster, &key, why),
        }
    }

    fn fragment(
        &mut self,
        now: Moment,
        handle: u32,
        fragment: Fragment<'_>,
    ) -> Result<(), LinkError> {
        let Some(key) = self.handles.get(&handle) else {
            let given = handle <= self.newest;
            return if given { Ok(()) } else { Err(LinkError::UnknownHandle { handle }) };
        };
        let key = key.clone();
        if !fragment.is_whole() {
            self.make_room(now, Purse::of_answers(key.1), fragment.bytes.len());
        }
        let Some(outlet) = self.outlets.get_mut(&key) else { return Ok(()) };
        let Some(pipe) = outlet.pipe() else { return Ok(()) };
        let read = pipe.read(now, fragment, &mut self.wire.budget);
        let proving = matches!(outlet.state, State::Proving { .. });
        let whole = match read {
            Err(LinkError::Seal(_)) if proving => {
                self.refuse(now, &key, Refusal::KeyMismatch);
                return Ok(());
            }
            Err(LinkError::Fragment(FragmentError::OverBudget { .. })) => {
                self.refuse(now, &key, Refusal::Limit);
                return Ok(());
            }
            read => read?,
        };
        let Some(whole) = whole else { return Ok(()) };
        let Ok(packet) = Packet::decode(whole.as_ref()) else {
            self.refuse(now, &key, Refusal::Undecodable);
            return Ok(());
        };
        match (packet, proving) {
            (Packet::Proof, true) => {
                prove(outlet);
                self.opened(now, key);
                Ok(())
            }
            (Packet::Reply { id, payload }, false) if self.wire.config.channel.asks() => {
                // A late reply has no request any more.
                let event = self.requests.reply(id, &key, payload);
                self.wire.events.extend(event);
                Ok(())
            }
            (Packet::Unanswered { id, why }, false) if self.wire.config.channel.asks() => {
                let event = self.requests.unanswered(id, &key, why);
                self.wire.events.extend(event);
                Ok(())
            }
            _ => Err(LinkError::Misplaced),
        }
    }

    /// Closes a handle for what came on it, and tells both ends.
    fn refuse(&mut self, now: Moment, key: &Key, why: Refusal) {
        self.close_handle(key, Closing::Refused(why.clone()));
        self.refused(now, key, why);
    }

    /// Closes handles until there is room for a fragment of a reply, perhaps its own.
    fn make_room(&mut self, now: Moment, purse: Purse, bytes: usize) {
        while self.wire.budget.bound(purse, bytes).is_some() {
            if !self.give_way(now, purse) {
                return;
            }
        }
    }

    /// Closes the handle that holds most of a purse; `false` if none holds any.
    pub(crate) fn give_way(&mut self, now: Moment, purse: Purse) -> bool {
        let holders = self.outlets.iter();
        let holders = holders.map(|(key, outlet)| (key, &key.0, outlet.held(purse)));
        let Some(key) = fair::largest(holders).cloned() else { return false };
        self.refuse(now, &key, Refusal::Limit);
        true
    }

    /// Closes the handles whose messages are unfinished for too long.
    pub(super) fn close_overdue(&mut self, now: Moment) {
        let limits = &self.wire.config.limits;
        let overdue = |(_, outlet): &(&Key, &Outlet)| outlet.is_overdue(now, limits);
        let overdue = self.outlets.iter().filter(overdue).map(|(key, _)| key.clone());
        for key in overdue.collect::<Vec<_>>() {
            self.refuse(now, &key, Refusal::Unfinished);
        }
    }
}

/// What joins what comes back on a handle: replies, or nothing but a proof.
fn assembly(config: &LinkConfig, scope: Scope) -> Assembly {
    let limits = &config.limits;
    let bytes_max = if config.channel.asks() { limits.message_bytes_max } else { 0 };
    Assembly::new(Purse::of_answers(scope), bytes_max)
}

/// The other end has proven that it holds the key.
fn prove(outlet: &mut Outlet) {
    outlet.state = match core::mem::take(&mut outlet.state) {
        State::Proving { pipe, facts, bond } => State::Open { pipe, facts, bond },
        other => other,
    };
}

/// Whether an answer says what a member of this scope says.
fn is_member_of(introduction: &Introduction, scope: Scope) -> bool {
    introduction.scope == scope.cluster()
        && match (&introduction.facts, scope) {
            (Facts::Client, _) => false,
            (Facts::Member { .. }, Scope::Free) => true,
            (Facts::Member { clusters, .. }, Scope::Cluster(cluster)) => *clusters == [cluster],
        }
}

//! Clients: they write values that nobody wrote before, read, retry what may be lost, and remember
//! what they saw.
//!
//! Each has one operation at a time: a write, an increment of a counter, a read at one of the
//! levels, a barrier, or now and then a command of a session that was never opened. With a session
//! it repeats a command under the same sequence until the outcome is known; without one it never
//! repeats.

mod client;
mod task;

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use meshraft_consensus::{ClusterVersion, Moment, Namespace};
use meshraft_service::{
    kv::KvCommand,
    wire::{Operation, Response},
};

use self::client::{Client, Next};
use crate::{
    check::{Checks, Violation},
    digest::Digest,
    plan::Plan,
    random::Random,
    world::Seat,
};

/// A request that a client wants to make of a node.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) number: u64,
    pub(crate) seat: Seat,
    pub(crate) namespace: Namespace,
    pub(crate) operation: Operation,
    pub(crate) timeout: Duration,
}

/// What the world does for a client.
#[derive(Debug)]
pub(crate) enum Step {
    /// Make this request.
    Call(Call),
    /// Wake the client again after this time.
    Wake(Duration),
    /// Nothing: it waits for an answer, or is done.
    Rest,
}

/// A call without an answer.
#[derive(Clone, Copy, Debug)]
struct Open {
    client: usize,
    seat: Seat,
    /// How long it may take, from when the node takes it.
    timeout: Duration,
    /// When its time is over.
    due: Option<Moment>,
}

/// All clients of a world.
#[derive(Debug)]
pub(crate) struct Workload {
    clients: Vec<Client>,
    calls: BTreeMap<u64, Open>,
    last_call: u64,
    last_value: u64,
    namespaces: Vec<Namespace>,
    keys: u64,
    rests: Option<(Duration, Duration)>,
    random: Random,
}

impl Workload {
    pub(crate) fn new(plan: &Plan, namespaces: Vec<Namespace>, mut random: Random) -> Self {
        let roaming = |number: usize| {
            let random = random.fork(number as u64);
            Client::roaming(number, number % namespaces.len(), random, plan)
        };
        let clients = (0..plan.clients).map(roaming).collect();
        let calls = BTreeMap::new();
        let (keys, rests) = (plan.keys, plan.rests);
        Self { clients, calls, last_call: 0, last_value: 0, namespaces, keys, rests, random }
    }

    pub(crate) fn clients(&self) -> usize {
        self.clients.len()
    }

    /// No client begins a new operation; those under way go on.
    pub(crate) fn stop(&mut self) {
        self.clients.iter_mut().for_each(Client::stop);
    }

    /// One client for each node in a namespace, which writes once and then reads every key, at that
    /// node alone. Returns the numbers of the new clients.
    pub(crate) fn probe(&mut self, places: Vec<(Seat, usize)>) -> std::ops::Range<usize> {
        let first = self.clients.len();
        for (seat, namespace) in places {
            let random = self.random.fork(seat.number() as u64);
            let number = self.clients.len();
            self.clients.push(Client::probe(number, namespace, seat, self.keys, random));
        }
        first..self.clients.len()
    }

    /// The first client that still has something to do, once they were stopped.
    pub(crate) fn busy(&self) -> Option<usize> {
        self.clients.iter().position(|client| !client.is_done())
    }

    /// A call that has waited for its answer for longer than its time and `patience`, where
    /// `awake` says since when its node is.
    pub(crate) fn overdue(
        &self,
        now: Moment,
        patience: Duration,
        awake: impl Fn(Seat) -> Option<Moment>,
    ) -> Option<u64> {
        let late = |open: &Open| {
            let due = awake(open.seat).zip(open.due).map(|(since, due)| since.max(due));
            due.is_some_and(|due| due.plus(patience) < now)
        };
        self.calls.iter().find(|(_, open)| late(open)).map(|(number, _)| *number)
    }

    /// A client's time has come. `alive` says which nodes run a process.
    pub(crate) fn wake(
        &mut self,
        number: usize,
        now: Moment,
        alive: &[Seat],
        checks: &Checks,
    ) -> Step {
        let rest = self.rest(now);
        let Some(client) = self.clients.get_mut(number) else { return Step::Rest };
        if let Some(rest) = rest.filter(|_| client.may_rest()) {
            return Step::Wake(rest);
        }
        let namespace = self.namespaces[client.namespace()].clone();
        let committed = checks.committed_in(&namespace);
        match client.next((now, committed), alive, self.keys, &mut self.last_value) {
            Next::Call { seat, operation, timeout } => {
                self.last_call += 1;
                let open = Open { client: number, seat, timeout, due: None };
                self.calls.insert(self.last_call, open);
                Step::Call(Call { number: self.last_call, seat, namespace, operation, timeout })
            }
            Next::Wait(wait) => Step::Wake(wait),
            Next::Rest => Step::Rest,
        }
    }

    /// For how long nothing new is begun now.
    fn rest(&self, now: Moment) -> Option<Duration> {
        let (rest, busy) = self.rests?;
        let nanos = u64::try_from((rest + busy).as_nanos()).unwrap_or(u64::MAX);
        let into = Duration::from_nanos(now.as_nanos() % nanos);
        rest.checked_sub(into).filter(|left| !left.is_zero())
    }

    /// A node takes a call.
    pub(crate) fn taken(&mut self, call: u64, now: Moment) {
        if let Some(open) = self.calls.get_mut(&call) {
            open.due = Some(now.plus(open.timeout));
        }
    }

    /// A node answers a call. Says which client goes on, and when.
    ///
    /// # Errors
    /// The answer is not what was promised, or the second one.
    pub(crate) fn answered(
        &mut self,
        call: u64,
        now: Moment,
        response: &Response,
        checks: &mut Checks,
    ) -> Result<(usize, Duration), Violation> {
        let unasked = Violation::Promise { id: call, what: "was answered twice, or never asked" };
        let Some(Open { client: number, .. }) = self.calls.remove(&call) else {
            return Err(unasked);
        };
        let Some(client) = self.clients.get_mut(number) else { return Err(unasked) };
        let Some(namespace) = self.namespaces.get(client.namespace()) else { return Err(unasked) };
        Ok((number, client.answered(now, response, namespace, checks)?))
    }

    /// A process died: nobody will answer what was asked of it.
    ///
    /// # Errors
    /// None, as that says nothing.
    pub(crate) fn crashed(
        &mut self,
        seat: Seat,
        now: Moment,
        checks: &mut Checks,
    ) -> Result<Vec<(usize, Duration)>, Violation> {
        let lost: Vec<u64> = self
            .calls
            .iter()
            .filter(|(_, open)| open.seat == seat)
            .map(|(call, _)| *call)
            .collect();
        let unknown = Err(meshraft_service::ServiceError::OutcomeUnknown);
        lost.into_iter().map(|call| self.answered(call, now, &unknown, checks)).collect()
    }
}

/// What an increment of a counter begins with, and a query of one: no version of the key-value
/// machine's commands. One that needs a later version begins with a later number.
const COUNTER: u8 = 0xc7;

/// What a machine gets to say what a counter shows, and to add to it where any version is in force.
pub(crate) fn counter_bytes(counter: u64) -> Bytes {
    adding_bytes(counter, ClusterVersion::BASELINE)
}

/// What a machine gets to add to a counter, in the words of a version.
pub(crate) fn adding_bytes(counter: u64, version: ClusterVersion) -> Bytes {
    let later = version.get().saturating_sub(ClusterVersion::BASELINE.get());
    let mut bytes = vec![COUNTER.saturating_add(u8::try_from(later).unwrap_or(u8::MAX))];
    bytes.extend(counter.to_be_bytes());
    bytes.into()
}

/// The counter that bytes name.
pub(crate) fn counter_number(bytes: &[u8]) -> Option<u64> {
    let (first, rest) = bytes.split_first()?;
    let counter = <[u8; 8]>::try_from(rest).ok()?;
    (*first >= COUNTER).then_some(u64::from_be_bytes(counter))
}

/// Which version has to be in force for an increment.
pub(crate) fn needed_version(bytes: &[u8]) -> Option<ClusterVersion> {
    counter_number(bytes)?;
    let later = u16::from(bytes.first()?.checked_sub(COUNTER)?);
    Some(ClusterVersion::new(ClusterVersion::BASELINE.get() + later))
}

/// The bytes of a key.
pub(crate) fn key_bytes(key: u64) -> Bytes {
    format!("key-{key}").into()
}

/// The number in the bytes of a key.
pub(crate) fn key_number(bytes: &[u8]) -> Option<u64> {
    str::from_utf8(bytes).ok()?.strip_prefix("key-")?.parse().ok()
}

/// The bytes of a value: its number, and filling that makes some of them large for the bounds of
/// a simulated core.
fn value_bytes(value: u64) -> Bytes {
    let filling = match Digest::of(&value.to_be_bytes()).get() % 8 {
        0 => 900,
        1 => 200,
        _ => 10,
    };
    let mut bytes = value.to_be_bytes().to_vec();
    bytes.resize(8 + filling, b'.');
    bytes.into()
}

/// The number in the bytes of a value.
pub(crate) fn value_number(bytes: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(*bytes.first_chunk()?))
}

/// What a machine gets for a write; the same for each copy of it, and for no other write.
pub(crate) fn payload(key: u64, value: u64) -> Bytes {
    KvCommand::Set { key: key_bytes(key), value: value_bytes(value) }.encode()
}

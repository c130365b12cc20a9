//! Clients: they write values that nobody wrote before, read, retry what may be lost, and remember
//! what they saw.
//!
//! Each has one operation at a time. With a session it repeats a write under the same sequence
//! until the outcome is known; without one it never repeats.

mod client;

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use meshraft_consensus::{Moment, Namespace};
use meshraft_service::{
    kv::KvCommand,
    wire::{Operation, Response},
};

use self::client::{Client, Next};
use crate::{check::Histories, digest::Digest, plan::Plan, random::Random, world::Seat};

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

/// All clients of a world.
#[derive(Debug)]
pub(crate) struct Workload {
    clients: Vec<Client>,
    calls: BTreeMap<u64, (usize, Seat)>,
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
            Client::roaming(number % namespaces.len(), random, plan.mistake)
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
            self.clients.push(Client::probe(namespace, seat, self.keys, random));
        }
        first..self.clients.len()
    }

    /// The first client that still has something to do, once they were stopped.
    pub(crate) fn busy(&self) -> Option<usize> {
        self.clients.iter().position(|client| !client.is_done())
    }

    /// A client's time has come. `alive` says which nodes run a process.
    pub(crate) fn wake(&mut self, number: usize, now: Moment, alive: &[Seat]) -> Step {
        let rest = self.rest(now);
        let Some(client) = self.clients.get_mut(number) else { return Step::Rest };
        if let Some(rest) = rest.filter(|_| client.may_rest()) {
            return Step::Wake(rest);
        }
        match client.next(now, alive, self.keys, &mut self.last_value) {
            Next::Call { seat, operation, timeout } => {
                self.last_call += 1;
                self.calls.insert(self.last_call, (number, seat));
                let namespace = self.namespaces[client.namespace()].clone();
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

    /// A node answers a call. Says which client goes on, and when.
    pub(crate) fn answered(
        &mut self,
        call: u64,
        now: Moment,
        response: &Response,
        histories: &mut Histories,
    ) -> Option<(usize, Duration)> {
        let (number, _) = self.calls.remove(&call)?;
        let client = self.clients.get_mut(number)?;
        let namespace = self.namespaces.get(client.namespace())?;
        Some((number, client.answered(now, response, namespace, histories)))
    }

    /// A process died: nobody will answer what was asked of it.
    pub(crate) fn crashed(
        &mut self,
        seat: Seat,
        now: Moment,
        histories: &mut Histories,
    ) -> Vec<(usize, Duration)> {
        let lost: Vec<u64> =
            self.calls.iter().filter(|(_, (_, at))| *at == seat).map(|(call, _)| *call).collect();
        let unknown = Err(meshraft_service::ServiceError::OutcomeUnknown);
        lost.into_iter().filter_map(|call| self.answered(call, now, &unknown, histories)).collect()
    }
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

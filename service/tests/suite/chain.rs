//! A client, three routers and one replicated state, over a network that loses, delays and reorders
//! and under leaders that come and go: what a caller is told is true, for ever.
//!
//! Each write's payload is its name. At the end, whatever was still on its way has arrived: a write
//! that was acknowledged was applied once, one with a definite failure never, and none twice.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use meshraft_consensus::{Entry, EntryKind, Index, Moment, Position, RejectReason, Term};
use meshraft_service::{
    Command, QueryError, Replicated, Router, SessionId, SnapshotWriter, StateMachine,
    client::{self, AttemptId, Call, CallId, Client},
    envelope::{Envelope, USER_VERSION, UserCommand},
    router::{self, ForwardId, ForwardLost, ProposeResult, RequestId},
    wire::{Operation, Request, Response},
};
use proptest::prelude::*;

use crate::storm::{Step, node, steps};

/// Keeps the name of every command that it ever applied.
#[derive(Default)]
struct Names(Vec<u8>);

impl StateMachine for Names {
    fn apply(&mut self, commands: &[Command<'_>]) -> Vec<Bytes> {
        self.0.extend(commands.iter().flat_map(|command| command.payload));
        commands.iter().map(|command| Bytes::copy_from_slice(command.payload)).collect()
    }
    fn query(&self, _query: &[u8], _applied: Index) -> Result<Bytes, QueryError> {
        Ok(self.0.clone().into())
    }
    fn snapshot(&self) -> SnapshotWriter {
        Box::new(|_| Ok(()))
    }
    fn restore(&mut self, _snapshot: &mut dyn std::io::Read) -> std::io::Result<()> {
        Ok(())
    }
}

/// Who waits for an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asker {
    Client(AttemptId),
    Member(usize, ForwardId),
}

enum Packet {
    Request { asker: Asker, to: usize, request: Request },
    Reply { asker: Asker, response: Response },
}

struct World {
    now: Moment,
    client: Client,
    routers: Vec<Router>,
    leader: usize,
    term: u64,
    /// Proposals of the leader that are not committed.
    tail: Vec<(RequestId, Bytes)>,
    state: Replicated,
    packets: Vec<Packet>,
    askers: BTreeMap<(usize, RequestId), Asker>,
    /// Copies that have had their answer, or were given up.
    settled: BTreeSet<(usize, u64)>,
    requests: u64,
    calls: u64,
    sessions: u8,
    done: BTreeMap<CallId, Response>,
}

const MEMBERS: usize = 3;

impl World {
    fn new() -> Self {
        let members = 0..MEMBERS;
        let mut world = Self {
            now: Moment::ZERO,
            client: Client::new(),
            routers: members.clone().map(|at| Router::new(node(at as u8))).collect(),
            leader: 0,
            term: 1,
            tail: Vec::new(),
            state: Replicated::new(Box::new(Names::default())),
            packets: Vec::new(),
            askers: BTreeMap::new(),
            settled: BTreeSet::new(),
            requests: 0,
            calls: 0,
            sessions: 0,
            done: BTreeMap::new(),
        };
        for at in members {
            world.client(client::Input::PeerUp(node(at as u8)));
            world.tell(at);
        }
        world
    }

    fn step(&mut self, (kind, choice): Step) {
        match kind {
            0..=2 => self.call(choice),
            3..=7 => self.deliver(choice),
            8..=10 => self.commit(),
            11 => self.lose(choice),
            12 => self.elect(choice),
            13 => self.tell(usize::from(choice) % MEMBERS),
            14 => self.pass(self.now.plus(Duration::from_millis(u64::from(choice % 60)))),
            _ => self.replace_follower(choice),
        }
    }

    fn call(&mut self, choice: u16) {
        let id = CallId::new(self.calls);
        let payload = Bytes::copy_from_slice(&(self.calls as u16).to_be_bytes());
        self.calls += 1;
        let deadline = self.now.plus(Duration::from_millis(20 + u64::from(choice % 500)));
        let call = Call::Write { payload };
        self.client(client::Input::Call { id, deadline, via: None, call });
    }

    fn deliver(&mut self, choice: u16) {
        if self.packets.is_empty() {
            return;
        }
        match self.packets.swap_remove(usize::from(choice) % self.packets.len()) {
            Packet::Request { asker, to, request } => {
                let request = Request::decode(&request.encode()).unwrap();
                let id = RequestId::new(self.requests);
                self.requests += 1;
                self.askers.insert((to, id), asker);
                let deadline = self.now.plus(Duration::from_millis(u64::from(request.deadline_ms)));
                let Request { hops, operation, .. } = request;
                self.router(to, router::Input::Submit { id, hops, deadline, operation });
            }
            Packet::Reply { asker, response } => self.settle(asker, Ok(response)),
        }
    }

    /// Tells the asker of some packet that it is lost. A request may arrive all the same, later.
    fn lose(&mut self, choice: u16) {
        if self.packets.is_empty() {
            return;
        }
        let at = usize::from(choice) % self.packets.len();
        let (asker, gone) = match &self.packets[at] {
            Packet::Request { asker, .. } => (*asker, choice.is_multiple_of(3)),
            Packet::Reply { asker, .. } => (*asker, true),
        };
        let never_sent = gone && matches!(self.packets[at], Packet::Request { .. });
        if gone {
            self.packets.swap_remove(at);
        }
        self.settle(asker, Err(ForwardLost { delivered_maybe: !never_sent }));
    }

    /// Each copy has one outcome; whatever comes after it is dropped, as a transport would.
    fn settle(&mut self, asker: Asker, result: Result<Response, ForwardLost>) {
        match asker {
            Asker::Client(attempt) if self.settled.insert((MEMBERS, attempt.get())) => {
                self.client(client::Input::Replied { attempt, result });
            }
            Asker::Member(at, forward) if self.settled.insert((at, forward.get())) => {
                self.router(at, router::Input::Replied { forward, result });
            }
            _ => {}
        }
    }

    fn commit(&mut self) {
        if self.tail.is_empty() {
            return;
        }
        let (id, bytes) = self.tail.remove(0);
        let (position, response) = self.apply(bytes);
        let result = ProposeResult::Applied { position, response };
        self.router(self.leader, router::Input::Proposed { id, result });
    }

    fn apply(&mut self, bytes: Bytes) -> (Position, Result<Bytes, meshraft_service::ApplyError>) {
        let position = Position::new(Term::new(self.term), self.state.applied().index.next());
        let entry = Entry { position, kind: EntryKind::Command, bytes };
        let applied = self.state.apply(vec![entry]).unwrap().remove(0);
        (applied.effective, applied.response)
    }

    /// Another leader takes over; what the old one had proposed is committed by it, or not.
    fn elect(&mut self, choice: u16) {
        let (old, tail) = (self.leader, core::mem::take(&mut self.tail));
        self.term += 1;
        self.leader = usize::from(choice) % MEMBERS;
        let survivors = usize::from(choice / 3) % (tail.len() + 1);
        let ids: Vec<_> = tail.iter().map(|(id, _)| *id).collect();
        for (_, bytes) in tail.into_iter().take(survivors) {
            let _ = self.apply(bytes);
        }
        for id in ids {
            let result = ProposeResult::Unknown;
            self.router(old, router::Input::Proposed { id, result });
        }
        self.tell(self.leader);
    }

    fn tell(&mut self, at: usize) {
        let (is_me, leader) = (at == self.leader, Some(node(self.leader as u8)));
        let term = Term::new(self.term);
        self.router(at, router::Input::Leader { leader, is_me, ready: is_me, term });
    }

    /// A follower closes, and a new process takes its place at once; what was sent to the old one
    /// is answered by nobody.
    fn replace_follower(&mut self, choice: u16) {
        let at = usize::from(choice) % MEMBERS;
        if at == self.leader || !choice.is_multiple_of(4) {
            return;
        }
        self.router(at, router::Input::Closing);
        self.router(at, router::Input::Closing);
        let old = core::mem::replace(&mut self.routers[at], Router::new(node(at as u8)));
        assert_eq!(old.pending(), 0);
        self.settled.retain(|(member, _)| *member != at);
        let mine = |asker: &Asker| matches!(asker, Asker::Member(member, _) if *member == at);
        self.packets.retain(|packet| match packet {
            Packet::Request { asker, .. } | Packet::Reply { asker, .. } => !mine(asker),
        });
        self.askers.retain(|_, asker| !mine(asker));
    }

    fn pass(&mut self, to: Moment) {
        loop {
            let deadlines = self.routers.iter().map(Router::deadline);
            let next = deadlines.chain([self.client.deadline()]).flatten().min();
            let Some(at) = next.filter(|at| *at <= to) else { break };
            self.now = self.now.max(at);
            for member in 0..MEMBERS {
                self.router(member, router::Input::Timeout);
            }
            self.client(client::Input::Timeout);
        }
        self.now = to;
    }

    fn client(&mut self, input: client::Input) {
        self.client.handle(self.now, input);
        while let Some(output) = self.client.poll() {
            match output {
                client::Output::NeedSession => {
                    self.sessions += 1;
                    let session = SessionId::new([self.sessions; 16]);
                    self.client.handle(self.now, client::Input::Session(session));
                }
                client::Output::Send { attempt, to, request, .. } => {
                    let (asker, to) = (Asker::Client(attempt), usize::from(to.as_bytes()[0]));
                    self.packets.push(Packet::Request { asker, to, request });
                }
                client::Output::Done { id, response } => {
                    assert!(self.done.insert(id, response).is_none(), "{id:?} is done twice");
                }
            }
        }
    }

    fn router(&mut self, at: usize, input: router::Input) {
        self.routers[at].handle(self.now, input);
        while let Some(output) = self.routers[at].poll() {
            match output {
                router::Output::Propose { id, session, sequence, acked_below, payload } => {
                    let (version, log_time_ms) = (USER_VERSION, 0);
                    let user = UserCommand {
                        version,
                        session,
                        sequence,
                        acked_below,
                        log_time_ms,
                        payload,
                    };
                    if at == self.leader {
                        self.tail.push((id, Envelope::User(user).encode()));
                    } else {
                        let reason = RejectReason::NotLeader { leader: None };
                        let result = ProposeResult::Rejected(reason);
                        self.routers[at].handle(self.now, router::Input::Proposed { id, result });
                    }
                }
                router::Output::Forward { forward, to, request, .. } => {
                    let asker = Asker::Member(at, forward);
                    let to = usize::from(to.as_bytes()[0]);
                    assert!(matches!(request.operation, Operation::Write { .. }));
                    self.packets.push(Packet::Request { asker, to, request });
                }
                router::Output::Answer { id, response } => {
                    if let Some(asker) = self.askers.remove(&(at, id)) {
                        self.packets.push(Packet::Reply { asker, response });
                    }
                }
                other => panic!("{other:?} was not asked for"),
            }
        }
    }

    /// Everything that is under way arrives, and every deadline passes.
    fn calm_down(&mut self) {
        for member in 0..MEMBERS {
            self.tell(member);
        }
        for _ in 0..100 {
            while !self.packets.is_empty() || !self.tail.is_empty() {
                self.deliver(0);
                self.commit();
            }
            self.pass(self.now.plus(Duration::from_millis(20)));
        }
    }

    fn check(&self) {
        let mut applied = BTreeMap::new();
        for name in self.state.query(&[]).unwrap().chunks(2) {
            *applied.entry(u16::from_be_bytes([name[0], name[1]])).or_insert(0) += 1;
        }
        assert_eq!(self.done.len() as u64, self.calls, "every call is answered");
        for (id, response) in &self.done {
            let times = applied.get(&(id.get() as u16)).copied().unwrap_or(0);
            match response {
                Ok(_) => assert_eq!(times, 1, "{id:?} was acknowledged"),
                Err(error) if error.maybe() => assert!(times <= 1, "{id:?}: {error}"),
                Err(error) => assert_eq!(times, 0, "{id:?} surely failed: {error}"),
            }
        }
    }
}

proptest! {
    #[test]
    fn what_a_caller_is_told_stays_true(steps in steps()) {
        let mut world = World::new();
        for step in steps {
            world.step(step);
        }
        world.calm_down();
        world.check();
    }
}

#[test]
fn a_quiet_chain_acknowledges_everything() {
    let mut world = World::new();
    for _ in 0..50 {
        world.call(400);
    }
    world.calm_down();
    world.check();
    assert!(world.done.values().all(Result::is_ok));
}

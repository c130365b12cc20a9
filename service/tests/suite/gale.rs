//! A client among members that answer anything: each call is answered once and in time, a write
//! keeps its number, and the first of a session goes alone.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use meshraft_consensus::{Index, Moment, Position, Term};
use meshraft_service::{
    Sequence, SessionId,
    client::{self, AttemptId, Call, CallId, Client},
    router::ForwardLost,
    wire::{Level, Operation, Reply, Response},
};
use proptest::prelude::*;

use crate::storm::{Step, failure, node, steps};

proptest! {
    #[test]
    fn a_client_answers_each_call_once(steps in steps()) {
        let mut gale = Gale::default();
        for step in steps {
            gale.step(step);
        }
        let end = gale.now.plus(core::time::Duration::from_secs(1));
        gale.pass(end);
        prop_assert_eq!(gale.calls.len(), 0);
        prop_assert_eq!(gale.client.deadline(), None);
        prop_assert_eq!(gale.done, gale.next);
    }
}

#[derive(Default)]
struct Called {
    write: bool,
    under_way: Option<AttemptId>,
    /// The number that a copy, of which the outcome is unknown, was sent with.
    uncertain: Option<(SessionId, Sequence)>,
    number: Option<(SessionId, Sequence)>,
    deadline: Moment,
}

/// A client among members that answer anything.
#[derive(Default)]
struct Gale {
    client: Client,
    now: Moment,
    next: u64,
    done: u64,
    sessions: u8,
    calls: BTreeMap<CallId, Called>,
    attempts: BTreeMap<AttemptId, CallId>,
}

impl Gale {
    fn step(&mut self, (kind, choice): Step) {
        let peer = node((choice % 4) as u8);
        match kind {
            0..=4 => {
                let id = CallId::new(self.next);
                self.next += 1;
                let timeout = core::time::Duration::from_millis(1 + u64::from(choice % 400));
                let deadline = self.now.plus(timeout);
                let write = choice % 3 > 0;
                // The payload is the call's name, so that a copy shows whose it is.
                let name = Bytes::copy_from_slice(&id.get().to_be_bytes());
                let call = if write {
                    Call::Write { payload: name }
                } else {
                    Call::Read { level: Level::Linearizable, query: name }
                };
                let via = (choice % 11 == 0).then_some(peer);
                self.calls.insert(id, Called { write, deadline, ..Called::default() });
                self.handle(client::Input::Call { id, deadline, via, call });
            }
            5 => self.handle(client::Input::PeerUp(peer)),
            6 => self.handle(client::Input::PeerDown(peer)),
            7 => {
                let at = self.now.plus(core::time::Duration::from_millis(u64::from(choice % 50)));
                self.pass(at);
            }
            8 => {
                let term = Term::new(u64::from(choice % 9));
                self.handle(client::Input::Leader { leader: peer, term });
            }
            _ => self.resolve(choice),
        }
    }

    fn resolve(&mut self, choice: u16) {
        let count = self.attempts.len().max(1);
        let Some((&attempt, &id)) = self.attempts.iter().nth(usize::from(choice) % count) else {
            return;
        };
        let called = self.calls.get_mut(&id).unwrap();
        let how = choice / 16;
        let position = Position::ZERO;
        let response = Bytes::new();
        let result = match how % 8 {
            0..=3 if called.write => Ok(Ok(Reply::Written { position, response })),
            0..=3 => Ok(Ok(Reply::Read { index: Index::ZERO, response })),
            4 | 5 => Err(ForwardLost { delivered_maybe: how.is_multiple_of(2) }),
            _ => Ok(Err(failure(how / 8, 5))),
        };
        let maybe = match &result {
            Ok(Ok(_)) => false,
            Ok(Err(error)) => error.maybe(),
            Err(lost) => lost.delivered_maybe,
        };
        called.under_way = None;
        if maybe && called.write {
            called.uncertain = called.number;
        }
        self.attempts.remove(&attempt);
        self.handle(client::Input::Replied { attempt, result });
    }

    fn pass(&mut self, to: Moment) {
        let mut rounds = 0;
        while let Some(at) = self.client.deadline().filter(|at| *at <= to) {
            rounds += 1;
            assert!(rounds < 100_000, "the client wakes for nothing");
            self.now = self.now.max(at);
            self.handle(client::Input::Timeout);
        }
        self.now = to;
    }

    fn handle(&mut self, input: client::Input) {
        self.client.handle(self.now, input);
        while let Some(output) = self.client.poll() {
            match output {
                client::Output::NeedSession => {
                    self.sessions += 1;
                    let session = SessionId::new([self.sessions; 16]);
                    self.client.handle(self.now, client::Input::Session(session));
                }
                client::Output::Send { attempt, request, .. } => {
                    self.sent(attempt, &request.operation);
                }
                client::Output::Done { id, response } => self.finished(id, &response),
            }
        }
        for (id, called) in &self.calls {
            assert!(called.deadline > self.now, "{id:?} has no answer at its deadline");
        }
        self.check_pipeline();
    }

    fn sent(&mut self, attempt: AttemptId, operation: &Operation) {
        let (name, number) = match operation {
            Operation::Write { session, sequence, acked_below, payload } => {
                assert!(!session.is_none(), "a client's write has a session");
                assert!(acked_below <= sequence);
                (payload, Some((*session, *sequence)))
            }
            Operation::Read { query, .. } => (query, None),
            other => panic!("{other:?} was not asked for"),
        };
        let id = CallId::new(u64::from_be_bytes(name.as_ref().try_into().unwrap()));
        let called = self.calls.get_mut(&id).expect("a copy of nothing");
        assert!(called.under_way.is_none(), "{id:?} is under way twice");
        assert!(called.uncertain.is_none() || called.uncertain == number, "{id:?} is renumbered");
        called.number = number;
        called.under_way = Some(attempt);
        self.attempts.insert(attempt, id);
    }

    /// The first of a session goes alone, and no number is given twice.
    fn check_pipeline(&self) {
        let numbers: Vec<_> = self.calls.values().filter_map(|called| called.number).collect();
        let distinct: BTreeSet<_> = numbers.iter().collect();
        assert_eq!(numbers.len(), distinct.len(), "two calls share a number");
        for (session, sequence) in &numbers {
            let alone = numbers.iter().filter(|(other, _)| other == session).count() == 1;
            assert!(*sequence != Sequence::FIRST || alone, "the first of a session goes alone");
        }
    }

    fn finished(&mut self, id: CallId, response: &Response) {
        self.done += 1;
        let called = self.calls.remove(&id).expect("answered twice");
        if let Some(attempt) = called.under_way {
            self.attempts.remove(&attempt);
        }
        let Err(error) = response else { return };
        let may_have = called.write && (called.uncertain.is_some() || called.under_way.is_some());
        assert!(error.maybe() || !may_have, "{id:?} may have taken effect, and is told {error:?}");
    }
}

//! A router under arbitrary answers, losses and changes of leader: each request is answered once
//! and in time, never under way twice, and a definite no is the truth.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use meshraft_consensus::{
    ClusterVersion, Incarnation, Index, Member, Moment, NodeId, Position, ReadError, RejectReason,
    Term,
};
use meshraft_service::{
    ApplyError, Router, Sequence, ServiceError, SessionId,
    router::{
        AdmitResult, ForwardId, ForwardLost, Input, Output, ProposeResult, RemoveResult, RequestId,
        TransferResult,
    },
    wire::{Level, Operation, Reply, Response},
};
use proptest::prelude::*;

const ME: u8 = 1;

pub(crate) fn node(number: u8) -> NodeId {
    NodeId::new([number; 32])
}

/// One step: what happens, and a number by which its details are chosen.
pub(crate) type Step = (u8, u16);

pub(crate) fn steps() -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec((0_u8..16, any::<u16>()), 1..200)
}

/// What is under way for one request.
#[derive(Clone, Copy, Debug)]
enum Task {
    Propose,
    Admit,
    Remove,
    Transfer,
    Ask,
    Query,
    Forward(ForwardId),
}

struct Asked {
    operation: Operation,
    deadline: Moment,
    task: Option<Task>,
    uncertain: bool,
}

struct Storm {
    router: Router,
    now: Moment,
    term: u64,
    next: u64,
    asked: BTreeMap<RequestId, Asked>,
    answered: BTreeSet<RequestId>,
}

fn operation(choice: u16, number: u64) -> Operation {
    // The payload is the request's name, so that a copy shows whose it is.
    let payload = Bytes::copy_from_slice(&number.to_be_bytes());
    match choice % 8 {
        0 => Operation::Write {
            session: SessionId::NONE,
            sequence: Sequence::ZERO,
            acked_below: Sequence::ZERO,
            payload,
        },
        1 | 2 => Operation::Write {
            session: SessionId::new([1; 16]),
            sequence: Sequence::new(number + 1),
            acked_below: Sequence::ZERO,
            payload,
        },
        3 => {
            let mut life = [0; 16];
            life[..8].copy_from_slice(&number.to_be_bytes());
            {
                let member = Member::new(node(9), Incarnation::new(life));
                Operation::Admit { member, supports: ClusterVersion::BASELINE }
            }
        }
        4 => {
            let mut name = [0; 32];
            name[..8].copy_from_slice(&number.to_be_bytes());
            Operation::Remove { node: NodeId::new(name) }
        }
        6 => {
            let mut name = [0; 32];
            name[..8].copy_from_slice(&number.to_be_bytes());
            Operation::Transfer { to: Some(NodeId::new(name)) }
        }
        5 => Operation::Barrier,
        _ => Operation::Read { level: Level::Linearizable, query: payload },
    }
}

/// A failure as another member may tell it, and whether the copy may have taken effect.
pub(crate) fn failure(choice: u16, term: u64) -> ServiceError {
    let hinted = choice.is_multiple_of(3).then(|| node(2 + (choice % 3) as u8));
    match choice % 10 {
        0 | 1 => ServiceError::NotLeader {
            leader: hinted,
            term: Term::new(term.saturating_sub(1) + u64::from(choice) % 3),
        },
        2 => ServiceError::NoLeader,
        3 => ServiceError::ShuttingDown,
        4 => ServiceError::OutcomeUnknown,
        5 => ServiceError::Timeout { maybe: choice.is_multiple_of(2) },
        6 => ServiceError::Overloaded,
        7 => ServiceError::SessionExpired { maybe: false },
        8 => ServiceError::UnknownMember { node: node(3) },
        _ => ServiceError::Refused(meshraft_service::Refusal::NotAdmitted),
    }
}

impl Storm {
    fn new() -> Self {
        Self {
            router: Router::new(node(ME)),
            now: Moment::ZERO,
            term: 1,
            next: 0,
            asked: BTreeMap::new(),
            answered: BTreeSet::new(),
        }
    }

    fn step(&mut self, (kind, choice): Step) {
        match kind {
            0..=3 => self.submit(choice),
            4 | 5 => self.lead(choice),
            6 => {
                let at = self.now.plus(core::time::Duration::from_millis(u64::from(choice % 50)));
                self.pass(at);
            }
            7 => self.handle(Input::Applied(Index::new(u64::from(choice % 20)))),
            _ => self.resolve(choice),
        }
    }

    fn submit(&mut self, choice: u16) {
        let id = RequestId::new(self.next);
        let operation = operation(choice, self.next);
        self.next += 1;
        let timeout = core::time::Duration::from_millis(u64::from(choice % 400));
        let deadline = self.now.plus(timeout);
        let asked = Asked { operation: operation.clone(), deadline, task: None, uncertain: false };
        self.asked.insert(id, asked);
        let hops = (choice / 7 % 3) as u8;
        self.handle(Input::Submit { id, hops, deadline, operation });
    }

    fn lead(&mut self, choice: u16) {
        self.term += u64::from(choice % 2);
        let term = Term::new(self.term);
        let input = match choice % 5 {
            0 => Input::Leader { leader: None, is_me: false, ready: false, term },
            1 | 2 => Input::Leader {
                leader: Some(node(ME)),
                is_me: true,
                ready: !choice.is_multiple_of(3),
                term,
            },
            other => {
                Input::Leader { leader: Some(node(other as u8)), is_me: false, ready: false, term }
            }
        };
        self.handle(input);
    }

    /// Ends something that is under way, in one way or another.
    fn resolve(&mut self, choice: u16) {
        let under_way: Vec<(RequestId, Task)> =
            self.asked.iter().filter_map(|(id, asked)| Some((*id, asked.task?))).collect();
        let Some((id, task)) = under_way.get(usize::from(choice) % under_way.len().max(1)) else {
            return;
        };
        let (id, how) = (*id, choice / 16);
        let input = match *task {
            Task::Propose => Input::Proposed { id, result: self.outcome(id, how) },
            Task::Admit => {
                let too_old = || {
                    let (supports, in_force) = (ClusterVersion::new(1), ClusterVersion::new(2));
                    AdmitResult::Refused(ServiceError::TooOld { supports, in_force })
                };
                let result = match how % 4 {
                    3 => too_old(),
                    0 => AdmitResult::Admitted { index: Index::new(1), members: Vec::new() },
                    1 => AdmitResult::Rejected(RejectReason::ChangeInProgress),
                    _ => AdmitResult::Unknown,
                };
                self.note(id, result == AdmitResult::Unknown);
                Input::AdmissionDone { id, result }
            }
            Task::Remove => {
                let result = match how % 5 {
                    0 => RemoveResult::Removed(Vec::new()),
                    1 => RemoveResult::Absent,
                    2 => RemoveResult::Rejected(RejectReason::ChangeInProgress),
                    3 => RemoveResult::Rejected(RejectReason::NoVoters),
                    _ => RemoveResult::Unknown,
                };
                self.note(id, result == RemoveResult::Unknown);
                Input::RemovalDone { id, result }
            }
            Task::Transfer => {
                let result = match how % 5 {
                    0 => TransferResult::Leads(node(3)),
                    1 => TransferResult::Rejected(RejectReason::NoSuccessor),
                    2 => TransferResult::Rejected(RejectReason::TransferInProgress {
                        to: Member::new(node(3), Incarnation::new([3; 16])),
                    }),
                    3 => TransferResult::Rejected(RejectReason::NotLeader { leader: None }),
                    _ => TransferResult::Unknown,
                };
                self.note(id, result == TransferResult::Unknown);
                Input::TransferDone { id, result }
            }
            Task::Ask => {
                let result = match how % 3 {
                    0 => Err(ReadError::NoLeader),
                    1 => Err(ReadError::Unconfirmed),
                    _ => Ok(Index::new(u64::from(how % 20))),
                };
                self.note(id, false);
                Input::ReadIndex { id, result }
            }
            Task::Query => {
                self.note(id, false);
                Input::Queried { id, result: Ok((Index::new(u64::from(how)), Bytes::new())) }
            }
            Task::Forward(forward) => Input::Replied { forward, result: self.reply(id, how) },
        };
        self.handle(input);
    }

    fn outcome(&mut self, id: RequestId, how: u16) -> ProposeResult {
        let position = Position::new(Term::new(self.term), Index::new(7));
        let result = match how % 6 {
            0 => ProposeResult::Applied { position, response: Ok(Bytes::new()) },
            1 => ProposeResult::Applied { position, response: Err(ApplyError::SessionExpired) },
            2 => ProposeResult::Rejected(RejectReason::NotLeader { leader: None }),
            3 => ProposeResult::Rejected(RejectReason::Overloaded {
                pending_bytes: 9,
                limit_bytes: 8,
            }),
            _ => ProposeResult::Unknown,
        };
        self.note(id, result == ProposeResult::Unknown);
        result
    }

    fn reply(&mut self, id: RequestId, how: u16) -> Result<Response, ForwardLost> {
        let asked = &self.asked[&id];
        let position = Position::new(Term::new(self.term), Index::new(7));
        let good = match asked.operation {
            Operation::Admit { .. } => {
                Reply::AdmittedAt { index: Index::new(1), members: Vec::new() }
            }
            Operation::Remove { .. } => Reply::Removed { members: Vec::new() },
            Operation::Transfer { .. } => Reply::Transferred { leader: node(3) },
            _ => Reply::Written { position, response: Bytes::new() },
        };
        let result = match how % 8 {
            0 => Ok(Ok(good)),
            1 => Ok(Ok(Reply::Barrier { index: Index::ZERO })),
            2 | 3 => Err(ForwardLost { delivered_maybe: how.is_multiple_of(2) }),
            _ => Ok(Err(failure(how / 8, self.term))),
        };
        let maybe = match &result {
            Ok(Ok(reply)) => matches!(reply, Reply::Barrier { .. }),
            Ok(Err(error)) => error.maybe(),
            Err(lost) => lost.delivered_maybe,
        };
        self.note(id, maybe);
        result
    }

    /// What was under way for `id` is over; it may have taken effect unseen.
    fn note(&mut self, id: RequestId, maybe: bool) {
        let asked = self.asked.get_mut(&id).unwrap();
        asked.task = None;
        asked.uncertain |= maybe;
    }

    fn pass(&mut self, to: Moment) {
        let mut rounds = 0;
        while let Some(at) = self.router.deadline().filter(|at| *at <= to) {
            rounds += 1;
            assert!(rounds < 100_000, "the router wakes for nothing");
            self.now = self.now.max(at);
            self.handle(Input::Timeout);
        }
        self.now = to;
    }

    fn handle(&mut self, input: Input) {
        self.router.handle(self.now, input);
        while let Some(output) = self.router.poll() {
            match output {
                Output::Propose { id, session, sequence, .. } => {
                    self.start(id, Task::Propose, Some((session, sequence)));
                }
                Output::Admit { id, .. } => self.start(id, Task::Admit, None),
                Output::Remove { id, .. } => self.start(id, Task::Remove, None),
                Output::Transfer { id, .. } => self.start(id, Task::Transfer, None),
                Output::Read { id, .. } => self.start(id, Task::Ask, None),
                Output::Query { id, .. } => self.start(id, Task::Query, None),
                Output::Forward { forward, to, request, timeout } => {
                    let id = self.owner(&request.operation);
                    assert_ne!(to, node(ME), "nobody forwards to itself");
                    assert!(request.hops <= 2);
                    assert!(u128::from(request.deadline_ms) <= timeout.as_millis());
                    self.start(id, Task::Forward(forward), None);
                }
                Output::Answer { id, response } => self.answer(id, &response),
            }
        }
        for (id, asked) in &self.asked {
            assert!(asked.deadline > self.now, "{id:?} has no answer at its deadline");
        }
        assert_eq!(self.router.pending(), self.asked.len());
    }

    /// The request that a copy belongs to.
    fn owner(&self, operation: &Operation) -> RequestId {
        let owner = self.asked.iter().find(|(_, asked)| asked.operation == *operation);
        *owner.expect("a copy of nothing").0
    }

    fn start(&mut self, id: RequestId, task: Task, numbers: Option<(SessionId, Sequence)>) {
        let asked = self.asked.get_mut(&id).expect("work for nobody");
        assert!(asked.task.is_none(), "{id:?} is under way twice");
        if let Operation::Write { session, sequence, .. } = asked.operation {
            assert!(!asked.uncertain || !session.is_none(), "{id:?} is repeated without a session");
            assert!(numbers.is_none_or(|numbers| numbers == (session, sequence)));
        }
        asked.task = Some(task);
    }

    fn answer(&mut self, id: RequestId, response: &Response) {
        assert!(self.answered.insert(id), "{id:?} is answered twice");
        let asked = self.asked.remove(&id).expect("an answer to nobody");
        let Err(error) = response else { return };
        let write = !matches!(asked.operation, Operation::Read { .. } | Operation::Barrier);
        let may_have = write && (asked.uncertain || asked.task.is_some());
        assert!(error.maybe() || !may_have, "{id:?} may have taken effect, and is told {error:?}");
        assert!(write || !error.maybe(), "a read takes no effect: {error:?}");
    }
}

proptest! {
    #[test]
    fn a_router_answers_each_request_once(steps in steps()) {
        let mut storm = Storm::new();
        for step in steps {
            storm.step(step);
        }
        let end = storm.now.plus(core::time::Duration::from_secs(1));
        storm.pass(end);
        prop_assert_eq!(storm.router.pending(), 0);
        prop_assert_eq!(storm.router.deadline(), None);
        prop_assert_eq!(storm.answered.len() as u64, storm.next);
    }

    #[test]
    fn a_closed_router_owes_nothing(steps in steps()) {
        let mut storm = Storm::new();
        for step in steps {
            storm.step(step);
        }
        storm.handle(Input::Closing);
        storm.handle(Input::Closing);
        prop_assert_eq!(storm.router.pending(), 0);
        prop_assert_eq!(storm.router.deadline(), None);
    }
}

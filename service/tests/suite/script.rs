//! What the golden scenarios of router and client share: names, arguments, notation.

use std::{error::Error, fmt::Write as _, str::FromStr};

use bytes::Bytes;
use goldenscript::{ArgumentConsumer, Command};
use meshraft_consensus::{
    ClusterId, ClusterVersion, Incarnation, Index, Member, Moment, Namespace, NodeId, Position,
    Term,
};
use meshraft_service::{
    BadRequest, Feature, Refusal, Sequence, ServiceError, SessionId,
    router::ForwardLost,
    wire::{
        Damaged, Halted, HeldBack, Level, MemberRole, MemberState, MemberStatus, NodeRole,
        NotAdmitted, Operation, Reply, Response, Status, Waiting, WaitingCode,
    },
};

pub(crate) type Failure = Box<dyn Error>;

/// A value that a scenario drives.
pub(crate) trait Driven {
    type Input;
    type Output;
    const TIMEOUT: Self::Input;

    fn handle(&mut self, now: Moment, input: Self::Input);
    fn poll(&mut self) -> Option<Self::Output>;
    fn deadline(&self) -> Option<Moment>;
    fn show(output: &Self::Output) -> String;
}

/// A value and the clock that it is told.
pub(crate) struct Clocked<V> {
    pub(crate) value: V,
    pub(crate) now: Moment,
}

impl<V: Driven> Clocked<V> {
    pub(crate) const fn new(value: V) -> Self {
        Self { value, now: Moment::ZERO }
    }

    /// What comes of one input, a line for each output.
    pub(crate) fn handle(&mut self, input: V::Input) -> String {
        self.value.handle(self.now, input);
        let mut shown = String::new();
        while let Some(output) = self.value.poll() {
            writeln!(shown, "{}", V::show(&output)).unwrap();
        }
        shown
    }

    /// Moves the clock to `to` and fires every deadline on the way, as a driver would.
    pub(crate) fn pass(&mut self, to: Moment) -> String {
        let mut shown = String::new();
        while let Some(at) = self.value.deadline().filter(|at| *at <= to) {
            self.now = at;
            for line in self.handle(V::TIMEOUT).lines() {
                writeln!(shown, "{}ms {line}", at.as_nanos() / 1_000_000).unwrap();
            }
        }
        self.now = to;
        shown
    }
}

/// The arguments of one command.
pub(crate) struct Arguments<'a>(ArgumentConsumer<'a>);

impl<'a> Arguments<'a> {
    pub(crate) fn of(command: &'a Command) -> Self {
        Self(command.consume_args())
    }

    pub(crate) fn word(&mut self) -> Result<&'a str, Failure> {
        self.0.next_pos().ok_or_else(|| "an argument is missing".into())
    }

    pub(crate) fn number(&mut self) -> Result<u64, Failure> {
        Ok(self.word()?.parse()?)
    }

    pub(crate) fn key<T: FromStr<Err: Error + 'static>>(
        &mut self,
        key: &str,
        default: T,
    ) -> Result<T, Failure> {
        self.0.take_key(key).map_or(Ok(default), |value| Ok(value.parse()?))
    }

    pub(crate) fn text(&mut self, key: &str) -> Option<&'a str> {
        self.0.take_key(key)
    }

    pub(crate) fn end(&self) -> Result<(), Failure> {
        self.0.reject_next()
    }
}

/// `n3` is the node of thirty-two 3s.
pub(crate) fn node(name: &str) -> Result<NodeId, Failure> {
    let number = name.strip_prefix('n').ok_or("a node is n1 to n255")?;
    Ok(NodeId::new([number.parse()?; 32]))
}

pub(crate) fn name(node: NodeId) -> String {
    format!("n{}", node.as_bytes()[0])
}

pub(crate) fn member(name: &str) -> Result<Member, Failure> {
    let node = node(name)?;
    Ok(Member::new(node, Incarnation::new([node.as_bytes()[0]; 16])))
}

/// `7@3` is index 7 at term 3.
pub(crate) fn position(text: &str) -> Result<Position, Failure> {
    let (index, term) = text.split_once('@').ok_or("a position is index@term")?;
    Ok(Position::new(Term::new(term.parse()?), Index::new(index.parse()?)))
}

/// `a` is the session of sixteen `a`s.
pub(crate) fn session(name: &str) -> SessionId {
    name.bytes().next().map_or(SessionId::NONE, |byte| SessionId::new([byte; 16]))
}

pub(crate) const fn millis(at: u64) -> Moment {
    Moment::from_millis(at)
}

/// `ok 7@3`, `read 7`, `barrier 7`, `admitted`, an error, `lost` or `not_sent`.
pub(crate) fn result(
    arguments: &mut Arguments<'_>,
) -> Result<Result<Response, ForwardLost>, Failure> {
    let response = Bytes::from_static(b"answer");
    let reply = match arguments.word()? {
        "ok" => Reply::Written { position: position(arguments.word()?)?, response },
        "read" => Reply::Read { index: Index::new(arguments.number()?), response },
        "barrier" => Reply::Barrier { index: Index::new(arguments.number()?) },
        "admitted" => {
            Reply::AdmittedAt { index: Index::new(7), members: vec![member("n1")?, member("n2")?] }
        }
        "removed" => Reply::Removed { members: vec![member("n1")?] },
        "transferred" => Reply::Transferred { leader: node(arguments.word()?)? },
        "left" => Reply::Left,
        "rejoining" => Reply::Rejoining,
        "status" => Reply::Status(Box::new(status())),
        "described" => Reply::Described(Box::new(status())),
        "members" => Reply::Members(status().members),
        "lost" => return Ok(Err(ForwardLost { delivered_maybe: true })),
        "not_sent" => return Ok(Err(ForwardLost { delivered_maybe: false })),
        error => return Ok(Ok(Err(service_error(error, arguments)?))),
    };
    Ok(Ok(Ok(reply)))
}

/// A node of version 1 is not admitted where version 2 is in force.
pub(crate) const fn too_old() -> ServiceError {
    let (supports, in_force) = (ClusterVersion::new(1), ClusterVersion::new(2));
    ServiceError::TooOld { supports, in_force }
}

fn service_error(name: &str, arguments: &mut Arguments<'_>) -> Result<ServiceError, Failure> {
    Ok(match name {
        "no_leader" => ServiceError::NoLeader,
        "not_leader" => {
            let leader = arguments.text("leader").map(node).transpose()?;
            ServiceError::NotLeader { leader, term: Term::new(arguments.key("term", 0)?) }
        }
        "overloaded" => ServiceError::Overloaded,
        "behind" => ServiceError::Behind { applied: Index::new(1), seen: Index::new(2) },
        "shutting_down" => ServiceError::ShuttingDown,
        "outcome_unknown" => ServiceError::OutcomeUnknown,
        "session_expired" => ServiceError::SessionExpired { maybe: false },
        "timeout" => ServiceError::Timeout { maybe: false },
        "timeout_maybe" => ServiceError::Timeout { maybe: true },
        "key_mismatch" => ServiceError::KeyMismatch,
        "refused" => ServiceError::Refused(Refusal::NotAdmitted),
        "bad_request" => ServiceError::BadRequest(BadRequest::Malformed),
        "unknown_operation" => ServiceError::Unsupported(Feature::Operation),
        "unknown_member" => ServiceError::UnknownMember { node: node("n3")? },
        "last_voter" => ServiceError::LastVoter,
        "not_member" => ServiceError::NotMember,
        "too_old" => too_old(),
        _ => return Err(format!("unknown result {name}").into()),
    })
}

pub(crate) fn show_operation(operation: &Operation) -> String {
    match operation {
        Operation::Write { session, sequence, acked_below, payload } => {
            let bytes = payload.len();
            if session.is_none() {
                return format!("write {bytes}B");
            }
            let session = char::from(session.as_bytes()[0]);
            format!("write {bytes}B {session}/{} acked<{}", sequence.get(), acked_below.get())
        }
        Operation::Read { level, .. } => format!("read {level:?}"),
        Operation::SessionRead { seen, .. } => format!("read Session seen={seen}"),
        Operation::Admit { member, .. } => format!("admit {}", name(member.node)),
        Operation::Remove { node } => format!("remove {}", name(*node)),
        Operation::Transfer { to } => format!("transfer {}", to.map_or("-".into(), name)),
        other => format!("{other:?}").to_lowercase(),
    }
}

pub(crate) fn show_response(response: &Response) -> String {
    match response {
        Ok(Reply::Written { position, .. }) => format!("written {position}"),
        Ok(Reply::Read { index, .. }) => format!("read at {index}"),
        Ok(Reply::Barrier { index }) => format!("barrier at {index}"),
        Ok(Reply::AdmittedAt { members, .. }) => format!("admitted, {} members", members.len()),
        Ok(Reply::Transferred { leader }) => format!("{} leads", name(*leader)),
        Ok(Reply::Removed { members }) => format!("removed, {} members", members.len()),
        Ok(Reply::Status(status)) => format!("status snapshot={}", status.snapshot),
        Ok(Reply::Members(members)) => {
            format!("{} members, first held back: {:?}", members.len(), members[0].held_back)
        }
        Ok(other) => format!("{other:?}"),
        Err(ServiceError::NotLeader { leader, term }) => {
            let leader = leader.map_or("none".to_owned(), name);
            format!("error not_leader leader={leader} term={term} maybe=false")
        }
        Err(error) => format!("error {} maybe={}", error.code(), error.maybe()),
    }
}

/// A status whose first member is a learner that is held back.
pub(crate) fn status() -> Status {
    let held = MemberStatus {
        member: Member::new(NodeId::new([4; 32]), Incarnation::new([4; 16])),
        role: MemberRole::Learner,
        matched: Some(Index::new(7)),
        state: Some(MemberState::Replicate),
        held_back: Some(HeldBack::VotersTarget),
        supports: None,
    };
    let member = Member::new(NodeId::new([1; 32]), Incarnation::new([2; 16]));
    let supports = ClusterVersion::new(2);
    let voter = MemberStatus {
        member,
        role: MemberRole::Voter,
        held_back: None,
        supports: Some(supports),
        ..held
    };
    Status {
        namespace: Namespace::new("/jobs/cron").unwrap(),
        cluster: Some(ClusterId::new([3; 32])),
        node: NodeId::new([1; 32]),
        incarnation: Incarnation::new([2; 16]),
        role: NodeRole::Leader,
        term: Term::new(5),
        leader: Some(NodeId::new([1; 32])),
        commit: Index::new(9),
        applied: Index::new(8),
        first: Index::new(1),
        last: Index::new(10),
        members: vec![held, voter],
        waiting: Some(Waiting {
            code: WaitingCode::Admission,
            have: 1,
            need: 2,
            missing: vec![NodeId::new([4; 32])],
            why: Some(NotAdmitted::Busy),
        }),
        snapshot: Index::new(6),
        forced: true,
        halted: Some(Halted::SnapshotUnreadable),
        damaged: Some(Damaged { first: Index::new(3), last: Index::new(4), repairable: true }),
        asleep: true,
        supports,
        in_force: Some(ClusterVersion::BASELINE),
    }
}

/// The operation that a scenario's arguments describe.
pub(crate) fn operation(arguments: &mut Arguments<'_>) -> Result<Operation, Failure> {
    let read = |level| Operation::Read { level, query: Bytes::from_static(b"query") };
    Ok(match arguments.word()? {
        "write" => {
            let session = session(arguments.text("session").unwrap_or_default());
            let first = u64::from(!session.is_none());
            Operation::Write {
                session,
                sequence: Sequence::new(arguments.key("seq", first)?),
                acked_below: Sequence::new(arguments.key("acked", 0)?),
                payload: vec![0; arguments.key("bytes", 10)?].into(),
            }
        }
        "admit" => {
            let (member, supports) = (member(arguments.word()?)?, ClusterVersion::BASELINE);
            Operation::Admit { member, supports }
        }
        "read" => read(Level::Linearizable),
        "stale" => read(Level::Stale),
        "session_read" => {
            let seen = Index::new(arguments.key("seen", 0)?);
            Operation::SessionRead { seen, query: Bytes::from_static(b"query") }
        }
        "unseen_read" => read(Level::Session),
        "lease" => read(Level::Lease),
        "barrier" => Operation::Barrier,
        "status" => Operation::Status,
        "members" => Operation::Members,
        "remove" => Operation::Remove { node: node(arguments.word()?)? },
        "transfer" => Operation::Transfer { to: arguments.word().ok().map(node).transpose()? },
        "leave" => Operation::Leave,
        "rejoin" => Operation::Rejoin,
        "describe" => Operation::Describe,
        other => return Err(format!("unknown operation {other}").into()),
    })
}

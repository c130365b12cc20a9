//! Runs the golden scenarios of the router. `UPDATE_GOLDENFILES=1` rewrites them.
//!
//! The router is that of `n1`. Commands: `limits`, `leader`, `submit`, `proposed`, `index`,
//! `applied`, `queried`, `replied`, `admission`, `removal`, `at` (moves the clock, firing each
//! deadline on the way), `closing`, `pending`.

use std::path::Path;

use bytes::Bytes;
use goldenscript::{Command, Context, Runner};
use meshraft_consensus::{Index, Moment, ReadError, RejectReason, Term};
use meshraft_service::{
    ApplyError, Router, ServiceError,
    router::{
        AdmitResult, ForwardId, Input, Output, ProposeResult, RemoveResult, RequestId,
        RouterLimits, TransferResult,
    },
};

use crate::script::{
    Arguments, Clocked, Driven, Failure, member, millis, name, node, operation, position, result,
    show_operation, show_response, too_old,
};

test_each_file::test_each_path! { in "./service/testdata/router" => scenario }

fn scenario(path: &Path) {
    let router = Router::new(node("n1").unwrap());
    goldenscript::run(&mut Driver::new(router), path).unwrap();
}

type Driver = Clocked<Router>;

impl Driven for Router {
    type Input = Input;
    type Output = Output;
    const TIMEOUT: Input = Input::Timeout;

    fn handle(&mut self, now: Moment, input: Input) {
        Self::handle(self, now, input);
    }

    fn poll(&mut self) -> Option<Output> {
        Self::poll(self)
    }

    fn deadline(&self) -> Option<Moment> {
        Self::deadline(self)
    }

    fn show(output: &Output) -> String {
        show(output)
    }
}

fn show(output: &Output) -> String {
    match output {
        Output::Propose { id, session, sequence, payload, .. } => {
            let bytes = payload.len();
            let session = session.as_bytes()[0];
            match session {
                0 => format!("propose {} {bytes}B", id.get()),
                _ => format!(
                    "propose {} {bytes}B {}/{}",
                    id.get(),
                    char::from(session),
                    sequence.get()
                ),
            }
        }
        Output::Read { id, level } => format!("ask {} {level:?}", id.get()),
        Output::Query { id, .. } => format!("query {}", id.get()),
        Output::Forward { forward, to, request, .. } => format!(
            "forward f{} -> {} hops={} left={}ms {}",
            forward.get(),
            name(*to),
            request.hops,
            request.deadline_ms,
            show_operation(&request.operation)
        ),
        Output::Admit { id, member, .. } => format!("change {} {}", id.get(), name(member.node)),
        Output::Remove { id, node } => format!("take out {} {}", id.get(), name(*node)),
        Output::Transfer { id, to } => {
            format!("hand over {} {}", id.get(), to.map_or("to anybody".into(), name))
        }
        Output::Answer { id, response } => {
            format!("answer {} {}", id.get(), show_response(response))
        }
    }
}

fn rejection(word: &str) -> Result<RejectReason, Failure> {
    Ok(match word {
        "not_leader" => RejectReason::NotLeader { leader: None },
        "not_ready" => RejectReason::NotReady,
        "founding" => RejectReason::Founding,
        "in_progress" => RejectReason::ChangeInProgress,
        "overloaded" => RejectReason::Overloaded { pending_bytes: 9, limit_bytes: 8 },
        "too_large" => RejectReason::TooLarge { bytes: 9, limit_bytes: 8 },
        "no_voters" => RejectReason::NoVoters,
        "handing_over" => RejectReason::TransferInProgress { to: member("n2")? },
        "aborted" => RejectReason::TransferAborted { to: member("n2")? },
        "behind" => RejectReason::Behind { member: member("n2")? },
        "no_successor" => RejectReason::NoSuccessor,
        "no_member" => RejectReason::NoSuchMember { member: member("n2")? },
        other => return Err(format!("unknown rejection {other}").into()),
    })
}

fn proposed(arguments: &mut Arguments<'_>) -> Result<ProposeResult, Failure> {
    Ok(match arguments.word()? {
        "applied" => ProposeResult::Applied {
            position: position(arguments.word()?)?,
            response: Ok(Bytes::from_static(b"answer")),
        },
        "expired" => ProposeResult::Applied {
            position: position(arguments.word()?)?,
            response: Err(ApplyError::SessionExpired),
        },
        "rejected" => ProposeResult::Rejected(rejection(arguments.word()?)?),
        "refused" => ProposeResult::Refused(ServiceError::TooLarge { bytes: 9, limit_bytes: 8 }),
        "unknown" => ProposeResult::Unknown,
        other => return Err(format!("unknown outcome {other}").into()),
    })
}

fn read_index(arguments: &mut Arguments<'_>) -> Result<Result<Index, ReadError>, Failure> {
    Ok(match arguments.word()? {
        "no_leader" => Err(ReadError::NoLeader),
        "unconfirmed" => Err(ReadError::Unconfirmed),
        "overloaded" => Err(ReadError::Overloaded { pending: 9, limit: 8 }),
        index => Ok(Index::new(index.parse()?)),
    })
}

fn admission(arguments: &mut Arguments<'_>) -> Result<AdmitResult, Failure> {
    Ok(match arguments.word()? {
        "admitted" => AdmitResult::Admitted {
            index: Index::new(7),
            members: vec![member("n1")?, member("n2")?],
        },
        "rejected" => AdmitResult::Rejected(rejection(arguments.word()?)?),
        "too_old" => AdmitResult::Refused(too_old()),
        "unknown" => AdmitResult::Unknown,
        other => return Err(format!("unknown admission {other}").into()),
    })
}

fn removal(arguments: &mut Arguments<'_>) -> Result<RemoveResult, Failure> {
    Ok(match arguments.word()? {
        "removed" => RemoveResult::Removed(vec![member("n1")?, member("n2")?]),
        "absent" => RemoveResult::Absent,
        "rejected" => RemoveResult::Rejected(rejection(arguments.word()?)?),
        "unknown" => RemoveResult::Unknown,
        other => return Err(format!("unknown removal {other}").into()),
    })
}

fn handover(arguments: &mut Arguments<'_>) -> Result<TransferResult, Failure> {
    Ok(match arguments.word()? {
        "leads" => TransferResult::Leads(node(arguments.word()?)?),
        "rejected" => TransferResult::Rejected(rejection(arguments.word()?)?),
        "unknown" => TransferResult::Unknown,
        other => return Err(format!("unknown end of a transfer {other}").into()),
    })
}

fn leader(arguments: &mut Arguments<'_>) -> Result<Input, Failure> {
    let (who, term) = (arguments.word()?, Term::new(arguments.key("term", 0)?));
    let ready = arguments.key("ready", true)?;
    Ok(match who {
        "none" => Input::Leader { leader: None, is_me: false, ready: false, term },
        "n1" => Input::Leader { leader: Some(node("n1")?), is_me: true, ready, term },
        other => Input::Leader { leader: Some(node(other)?), is_me: false, ready: false, term },
    })
}

impl Runner for Driver {
    type Command = Command;

    fn run(&mut self, command: &Command, _context: &Context) -> Result<String, Failure> {
        let mut arguments = Arguments::of(command);
        let input = match command.name.as_str() {
            "limits" => {
                let standard = RouterLimits::default();
                let limits = RouterLimits {
                    requests_max: arguments.key("requests", standard.requests_max)?,
                    requests_bytes_max: arguments.key("bytes", standard.requests_bytes_max)?,
                    parked_max: arguments.key("parked", standard.parked_max)?,
                    parked_bytes_max: arguments.key("parked_bytes", standard.parked_bytes_max)?,
                };
                self.value = Router::with_limits(node("n1")?, limits);
                return Ok(String::new());
            }
            "at" => return Ok(self.pass(millis(arguments.number()?))),
            "pending" => {
                let (pending, parked) = (self.value.pending(), self.value.parked());
                let deadline = self.value.deadline().map(|at| at.as_nanos() / 1_000_000);
                return Ok(format!("pending={pending} parked={parked} wakes={deadline:?}"));
            }
            "submit" => {
                let timeout = core::time::Duration::from_millis(arguments.key("timeout", 5000)?);
                Input::Submit {
                    id: RequestId::new(arguments.number()?),
                    hops: arguments.key("hops", 0)?,
                    deadline: self.now.plus(timeout),
                    operation: operation(&mut arguments)?,
                }
            }
            "leader" => leader(&mut arguments)?,
            "proposed" => Input::Proposed {
                id: RequestId::new(arguments.number()?),
                result: proposed(&mut arguments)?,
            },
            "index" => Input::ReadIndex {
                id: RequestId::new(arguments.number()?),
                result: read_index(&mut arguments)?,
            },
            "applied" => Input::Applied(Index::new(arguments.number()?)),
            "queried" => Input::Queried {
                id: RequestId::new(arguments.number()?),
                result: Ok((Index::new(arguments.number()?), Bytes::from_static(b"answer"))),
            },
            "replied" => Input::Replied {
                forward: ForwardId::new(arguments.number()?),
                result: result(&mut arguments)?,
            },
            "admission" => Input::AdmissionDone {
                id: RequestId::new(arguments.number()?),
                result: admission(&mut arguments)?,
            },
            "removal" => Input::RemovalDone {
                id: RequestId::new(arguments.number()?),
                result: removal(&mut arguments)?,
            },
            "transferred" => Input::TransferDone {
                id: RequestId::new(arguments.number()?),
                result: handover(&mut arguments)?,
            },
            "closing" => Input::Closing,
            other => return Err(format!("unknown command {other}").into()),
        };
        arguments.end()?;
        Ok(self.handle(input))
    }
}

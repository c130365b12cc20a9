//! Runs the golden scenarios of the client. `UPDATE_GOLDENFILES=1` rewrites them.
//!
//! Commands: `up`, `down`, `leader`, `session`, `call`, `calls` (many at once), `replied`, `at`
//! (moves the clock, firing each deadline on the way), `closing`.

use std::path::Path;

use goldenscript::{Command, Context, Runner};
use meshraft_consensus::{Moment, Term};
use meshraft_service::{
    client::{AttemptId, Call, CallId, Client, Input, Output},
    wire::{Level, Operation},
};

use crate::script::{
    Arguments, Clocked, Driven, Failure, millis, name, node, operation, result, session,
    show_operation, show_response,
};

test_each_file::test_each_path! { in "./service/testdata/client" => scenario }

fn scenario(path: &Path) {
    goldenscript::run(&mut Driver::new(Client::new()), path).unwrap();
}

type Driver = Clocked<Client>;

impl Driven for Client {
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

impl Driver {
    fn call(&mut self, id: u64, arguments: &mut Arguments<'_>) -> Result<String, Failure> {
        let timeout = core::time::Duration::from_millis(arguments.key("timeout", 5000)?);
        let via = arguments.text("via").map(node).transpose()?;
        let call = match operation(arguments)? {
            Operation::Write { payload, .. } => Call::Write { payload },
            Operation::Read { level, query } => Call::Read { level, query },
            Operation::SessionRead { query, .. } => Call::Read { level: Level::Session, query },
            Operation::Barrier => Call::Barrier,
            Operation::Status => Call::Status,
            Operation::Members => Call::Members,
            Operation::Remove { node } => Call::Remove { node },
            Operation::Transfer { to } => Call::Transfer { to },
            Operation::Leave => Call::Leave,
            Operation::Rejoin => Call::Rejoin,
            other => return Err(format!("{other:?} is no call").into()),
        };
        let deadline = self.now.plus(timeout);
        Ok(self.handle(Input::Call { id: CallId::new(id), deadline, via, call }))
    }
}

fn show(output: &Output) -> String {
    match output {
        Output::NeedSession => "need a session".to_owned(),
        Output::Send { attempt, to, request, .. } => format!(
            "send a{} -> {} left={}ms {}",
            attempt.get(),
            name(*to),
            request.deadline_ms,
            show_operation(&request.operation)
        ),
        Output::Done { id, response } => format!("done {} {}", id.get(), show_response(response)),
    }
}

impl Runner for Driver {
    type Command = Command;

    fn run(&mut self, command: &Command, _context: &Context) -> Result<String, Failure> {
        let mut arguments = Arguments::of(command);
        let input = match command.name.as_str() {
            "at" => return Ok(self.pass(millis(arguments.number()?))),
            "call" => {
                let id = arguments.number()?;
                return self.call(id, &mut arguments);
            }
            "calls" => {
                let (first, last) = (arguments.number()?, arguments.number()?);
                let mut shown = String::new();
                for id in first..=last {
                    shown = self.call(id, &mut Arguments::of(&write_command(command)))?;
                }
                return Ok(format!("the last of them:\n{shown}"));
            }
            "up" => Input::PeerUp(node(arguments.word()?)?),
            "down" => Input::PeerDown(node(arguments.word()?)?),
            "leader" => Input::Leader {
                leader: node(arguments.word()?)?,
                term: Term::new(arguments.key("term", 0)?),
            },
            "session" => Input::Session(session(arguments.word()?)),
            "replied" => Input::Replied {
                attempt: AttemptId::new(arguments.number()?),
                result: result(&mut arguments)?,
            },
            "closing" => Input::Closing,
            other => return Err(format!("unknown command {other}").into()),
        };
        arguments.end()?;
        Ok(self.handle(input))
    }
}

/// The same command with the operation as its only argument.
fn write_command(command: &Command) -> Command {
    let mut one = command.clone();
    one.args = vec![goldenscript::Argument::Positional("write".to_owned())];
    one
}

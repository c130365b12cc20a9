//! `meshraft pipe`: a namespace as JSON lines, for programs in any language.
//!
//! Requests run side by side, those that touch the same key in the order of their lines. What is
//! in flight is bounded: beyond that no further line is read, so that a writer who is too fast
//! waits at its end of the pipe. When the input ends, everything that was read is answered first.

mod line;
mod lines;
mod order;

use std::{collections::BTreeMap, io, process::ExitCode};

use libp2p::PeerId;
use meshraft::{CallError, Client};
use meshraft_consensus::NodeId;
use meshraft_transport::identity::node_id;
use serde_json::Value;
use tokio::{
    io::{AsyncWriteExt, BufReader, Stdin, Stdout},
    task::JoinSet,
    time::Instant,
};

use self::{
    line::Line,
    lines::{Next, next_line},
    order::{Access, Order, Ticket},
};
use super::{
    DONE, FAILED, Global, PipeArgs,
    answer::{Answer, ask, failure_object, refusal_object},
    connect::{self, Reach},
    json::Object,
    request::{Operation, Request, RequestError},
};

/// Requests that are not answered yet.
const IN_FLIGHT_MAX: usize = 1_024;
/// The longest line: the largest value as escaped text, and room for the rest.
const LINE_BYTES_MAX: usize = 8 << 20;

/// Runs until the input ends; 0 then, whatever single requests were answered.
pub(crate) fn run(args: &PipeArgs, global: &Global) -> ExitCode {
    connect::with_client(&args.target, global, Reach::All, async |client| {
        let pipe = Pipe::new(client);
        match pipe.run().await {
            Ok(()) => ExitCode::from(DONE),
            // The reader of our answers is gone, so there is nobody to tell more to.
            Err(_) => ExitCode::from(FAILED),
        }
    })
}

struct Pipe {
    client: Client,
    input: BufReader<Stdin>,
    output: Stdout,
    order: Order,
    /// Requests whose turn has not come.
    waiting: BTreeMap<Ticket, Job>,
    running: JoinSet<(Ticket, String)>,
}

/// One request, and what it needs to run.
struct Job {
    id: Value,
    request: Request,
    deadline: Instant,
}

impl Pipe {
    fn new(client: Client) -> Self {
        Self {
            client,
            input: BufReader::new(tokio::io::stdin()),
            output: tokio::io::stdout(),
            order: Order::default(),
            waiting: BTreeMap::new(),
            running: JoinSet::new(),
        }
    }

    /// Reads, runs and answers until the input has ended and everything is answered.
    async fn run(mut self) -> io::Result<()> {
        let mut line = Vec::new();
        let mut open = true;
        while open || !self.running.is_empty() {
            let room = self.running.len() + self.waiting.len() < IN_FLIGHT_MAX;
            tokio::select! {
                Some(done) = self.running.join_next(), if !self.running.is_empty() => {
                    let (ticket, answer) = done.map_err(io::Error::other)?;
                    self.answered(ticket, answer).await?;
                }
                next = next_line(&mut self.input, &mut line, LINE_BYTES_MAX), if open && room => {
                    match next? {
                        Next::Line => self.take(Line::parse(&line)).await?,
                        Next::TooLong => {
                            let error = RequestError::LineTooLong { bytes_max: LINE_BYTES_MAX };
                            self.take(Line::refused(error)).await?;
                        }
                        Next::End => open = false,
                    }
                    line.clear();
                }
            }
        }
        self.output.flush().await
    }

    /// Starts a request, or puts it behind those that it has to wait for.
    async fn take(&mut self, line: Line) -> io::Result<()> {
        let request = match line.request {
            Ok(request) => request,
            Err(error) => {
                let object = Object::new().with("id", &line.id).and(refusal_object(&error));
                self.write(object.line()).await?;
                return self.output.flush().await;
            }
        };
        let (ticket, ready) = self.order.admit(access(&request.operation));
        let deadline = Instant::now() + request.timeout;
        let job = Job { id: line.id, request, deadline };
        if ready {
            self.start(ticket, job);
        } else {
            self.waiting.insert(ticket, job);
        }
        Ok(())
    }

    fn start(&mut self, ticket: Ticket, job: Job) {
        let client = self.client.clone();
        self.running.spawn(async move { (ticket, job.run(&client).await) });
    }

    /// Writes an answer and starts those who waited for it. Everything else that is ready is
    /// written along, so that a busy pipe flushes once for many answers.
    async fn answered(&mut self, ticket: Ticket, answer: String) -> io::Result<()> {
        let mut next = Some((ticket, answer));
        while let Some((ticket, answer)) = next {
            for ready in self.order.finish(ticket) {
                if let Some(job) = self.waiting.remove(&ready) {
                    self.start(ready, job);
                }
            }
            self.write(answer).await?;
            next = self.running.try_join_next().transpose().map_err(io::Error::other)?;
        }
        self.output.flush().await
    }

    async fn write(&mut self, mut line: String) -> io::Result<()> {
        line.push('\n');
        self.output.write_all(line.as_bytes()).await
    }
}

impl Job {
    async fn run(self, client: &Client) -> String {
        let object = Object::new().with("id", &self.id);
        match self.answer(client).await {
            Ok(answer) => object.with("ok", true).and(answer.object()),
            Err(Failure::Call(error)) => object.and(failure_object(&error)),
            Err(Failure::Request(error)) => object.and(refusal_object(&error)),
        }
        .line()
    }

    async fn answer(self, client: &Client) -> Result<Answer, Failure> {
        let Request { operation, timeout, via } = self.request;
        let client = match via {
            None => client.clone(),
            Some(via) => {
                if let Some(address) = via.address {
                    client.add_peer(address).await.map_err(Failure::Call)?;
                }
                client.via(member(via.peer).map_err(Failure::Request)?)
            }
        };
        // Time spent behind other requests of the same key counts. What is left is at least a
        // millisecond, so that the answer is about the mesh and not about the time-out's bounds.
        let left = self.deadline.saturating_duration_since(Instant::now());
        let left = left.clamp(std::time::Duration::from_millis(1), timeout);
        ask(&client, operation, left).await.map_err(Failure::Call)
    }
}

enum Failure {
    Call(CallError),
    Request(RequestError),
}

fn member(peer: PeerId) -> Result<NodeId, RequestError> {
    let expected = "the id of a peer with an Ed25519 key";
    node_id(peer).map_err(|_| RequestError::WrongType { field: "via", expected })
}

fn access(operation: &Operation) -> Access {
    match operation {
        Operation::Set { key, .. } | Operation::Delete { key } => Access::Write(key.clone()),
        Operation::Get { key, .. } => Access::Read(key.clone()),
        Operation::Keys { .. } => Access::Scan,
        Operation::Status
        | Operation::Members
        | Operation::Barrier
        | Operation::Remove { .. }
        | Operation::Transfer { .. }
        | Operation::Leave { .. }
        | Operation::Join { .. } => Access::None,
    }
}

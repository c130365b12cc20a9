//! Joins the routing of a client, a value, to the transport and the clock: one task.
//!
//! It decides nothing about requests. What it adds is what the value can't know: whether any member
//! was ever reached, and why those that were reached refused to talk; and [`Learning`].

use std::{collections::BTreeMap, pin::pin, time::Duration};

use bytes::Bytes;
use meshraft_consensus::{Moment, Namespace, NodeId};
use meshraft_service::{
    Refusal as ServiceRefusal, ServiceError, SessionId,
    client::{AttemptId, Call, CallId, Client as Routing, Input, Output},
    router::ForwardLost,
    wire::{self, Reply, Response},
};
use meshraft_transport::{
    AddressSource, Channel, Event, Events, KeyRing, LocalNamespace, LocalRole, PeerAddress,
    Refusal, RequestError, RequestId, Scope, Transport, TransportConfig, identity::Identity,
};
use tokio::{
    sync::{mpsc, oneshot},
    time::sleep_until,
};

use super::{CallError, ConnectError, learning::Learning};
use crate::clock::Clock;

/// Events and calls that are looked at between two drains of the routing.
const BATCH_MAX: usize = 256;

/// Addresses that an error names.
const TRIED_MAX: usize = 16;

/// What a handle asks of the task.
pub(super) enum Submission {
    /// Ask a member.
    Call {
        /// What for.
        call: Call,
        /// How long the caller waits.
        timeout: Duration,
        /// The only member that may be asked.
        via: Option<NodeId>,
        /// Where the answer goes.
        answer: oneshot::Sender<Result<Reply, CallError>>,
    },
    /// Remember an address of a member.
    Address(PeerAddress),
}

/// How a client finds members.
#[derive(Debug)]
pub(super) enum Way {
    /// By addresses.
    Through {
        /// Those that it begins with.
        peers: Vec<PeerAddress>,
        /// Whether it learns more.
        learns: bool,
    },
    /// On the local network.
    Discover,
}

/// Starts the transport, and the task on the current runtime; it ends with its last handle.
pub(super) async fn start(
    namespace: Namespace,
    keys: KeyRing,
    way: Way,
    submissions: mpsc::Receiver<Submission>,
) -> Result<(), ConnectError> {
    let identity = Identity::ephemeral().map_err(ConnectError::Identity)?;
    let mut config = TransportConfig::new(identity, Vec::new());
    let (peers, learns, discovers) = match way {
        Way::Through { peers, learns } => (peers, learns, false),
        Way::Discover => (Vec::new(), true, true),
    };
    config.mdns = discovers;
    let (transport, events) = Transport::start(config).await.map_err(ConnectError::Transport)?;
    transport.open(LocalNamespace { namespace: namespace.clone(), keys, role: LocalRole::Client });
    let mut driver = Driver {
        transport,
        namespace,
        clock: Clock::start(),
        routing: Routing::new(),
        waiting: BTreeMap::new(),
        next_call: 0,
        answered: false,
        refused: None,
        learning: Learning::new(learns),
        discovers,
    };
    for address in peers {
        driver.add_address(address);
    }
    tokio::spawn(driver.run(events, submissions));
    Ok(())
}

struct Driver {
    transport: Transport,
    namespace: Namespace,
    clock: Clock,
    routing: Routing,
    waiting: BTreeMap<CallId, Waiting>,
    next_call: u64,
    /// Whether a member ever answered.
    answered: bool,
    /// Why the last member that refused to talk did so.
    refused: Option<Refusal>,
    learning: Learning,
    /// Whether strangers may be connected too: only those that share the namespace are asked.
    discovers: bool,
}

/// A caller.
struct Waiting {
    timeout: Duration,
    answer: oneshot::Sender<Result<Reply, CallError>>,
}

impl Driver {
    async fn run(mut self, mut events: Events, mut submissions: mpsc::Receiver<Submission>) {
        let mut timer = pin!(sleep_until(self.clock.instant(Moment::ZERO)));
        let mut armed = None;
        loop {
            let deadlines = [self.routing.deadline(), self.learning.deadline()];
            let deadline = deadlines.into_iter().flatten().min();
            if deadline != armed
                && let Some(deadline) = deadline
            {
                timer.as_mut().reset(self.clock.instant(deadline));
            }
            armed = deadline;
            tokio::select! {
                event = events.recv() => match event {
                    Some(event) => self.event(event),
                    None => return,
                },
                submission = submissions.recv() => match submission {
                    Some(submission) => self.submission(submission),
                    None => break,
                },
                () = &mut timer, if armed.is_some() => {
                    // Armed anew even for the same deadline: the timer may fire a little early.
                    armed = None;
                    self.input(Input::Timeout);
                }
            }
            for _ in 0..BATCH_MAX {
                if let Some(event) = events.try_recv() {
                    self.event(event);
                } else if let Ok(submission) = submissions.try_recv() {
                    self.submission(submission);
                } else {
                    break;
                }
            }
            if self.drain().is_err() {
                return;
            }
        }
        self.input(Input::Closing);
        if self.drain().is_ok() {
            self.transport.shutdown().await;
        }
    }

    fn input(&mut self, input: Input) {
        self.routing.handle(self.clock.now(), input);
    }

    fn event(&mut self, event: Event) {
        match event {
            Event::Connected { peer, .. } if !self.discovers => self.up(peer),
            Event::Shared { peer, .. } if self.discovers => self.up(peer),
            Event::Refused { why, .. } if self.discovers && why != Refusal::UnknownNamespace => {
                self.refused = Some(why);
            }
            Event::Disconnected { peer } => {
                self.learning.down(self.clock.now(), peer);
                self.input(Input::PeerDown(peer));
            }
            Event::Reply { id, result } if Learning::is_own(id) => {
                let addresses = result.map(|payload| self.learning.learned(&payload));
                for address in addresses.unwrap_or_default() {
                    self.transport.add_address(None, address, AddressSource::Configured);
                }
            }
            Event::Reply { id, result } => {
                let attempt = AttemptId::new(id.get());
                let result = self.reply(result);
                self.input(Input::Replied { attempt, result });
            }
            // A client shares nothing and is asked nothing.
            _ => {}
        }
    }

    fn up(&mut self, peer: NodeId) {
        self.learning.up(self.clock.now(), peer);
        self.input(Input::PeerUp(peer));
    }

    /// What a reply means to the routing.
    fn reply(&mut self, result: Result<Bytes, RequestError>) -> Result<Response, ForwardLost> {
        match result {
            Ok(payload) => {
                self.answered = true;
                // Bytes that are no response leave open what became of the request.
                wire::decode_response(&payload).map_err(|_| ForwardLost { delivered_maybe: true })
            }
            Err(RequestError::Refused(refusal)) => {
                self.refused = Some(refusal.clone());
                definite(&refusal).map(Err).ok_or(ForwardLost { delivered_maybe: false })
            }
            Err(RequestError::NotSent(_)) => Err(ForwardLost { delivered_maybe: false }),
            Err(_) => Err(ForwardLost { delivered_maybe: true }),
        }
    }

    fn submission(&mut self, submission: Submission) {
        match submission {
            Submission::Address(address) => self.add_address(address),
            Submission::Call { call, timeout, via, answer } => {
                let id = CallId::new(self.next_call);
                self.next_call += 1;
                self.waiting.insert(id, Waiting { timeout, answer });
                let deadline = self.clock.now().plus(timeout);
                self.input(Input::Call { id, deadline, via, call });
            }
        }
    }

    fn add_address(&mut self, address: PeerAddress) {
        if self.learning.take(&address) {
            self.transport.add_address(None, address, AddressSource::Configured);
        }
    }

    /// Does what the routing asks for.
    ///
    /// # Errors
    /// The operating system gave no randomness: there can be no session.
    fn drain(&mut self) -> Result<(), getrandom::Error> {
        if let Some((id, to, request)) = self.learning.due(self.clock.now()) {
            let payload = request.encode();
            self.ask(id, to, payload, Learning::TIMEOUT);
        }
        while let Some(output) = self.routing.poll() {
            match output {
                Output::NeedSession => {
                    let mut bytes = [0; 16];
                    getrandom::fill(&mut bytes)?;
                    self.input(Input::Session(SessionId::new(bytes)));
                }
                Output::Send { attempt, to, request, timeout } => {
                    let (id, payload) = (RequestId::new(attempt.get()), request.encode());
                    self.ask(id, to, payload, timeout);
                }
                Output::Done { id, response } => self.done(id, response),
            }
        }
        Ok(())
    }

    fn ask(&self, id: RequestId, to: NodeId, payload: Bytes, timeout: Duration) {
        let (scope, channel) = (Scope::Free, Channel::Command);
        self.transport.request(id, to, &self.namespace, scope, channel, payload, timeout);
    }

    fn done(&mut self, id: CallId, response: Response) {
        let Some(Waiting { timeout, answer }) = self.waiting.remove(&id) else { return };
        let result = response.map_err(|error| match error {
            ServiceError::Timeout { maybe: false } if !self.answered => self.unreached(timeout),
            error => CallError::Service(error),
        });
        // A caller that no longer waits does not want to know.
        let _ = answer.send(result);
    }

    /// Why a call timed out although no member ever answered.
    fn unreached(&self, waited: Duration) -> CallError {
        match &self.refused {
            Some(refusal) => CallError::Refused(refusal.clone()),
            // Where somebody is connected, the others are not why nobody answered.
            None if !self.transport.peers().is_empty() => {
                CallError::NotReached { waited, tried: Vec::new() }
            }
            None => {
                let mut tried = self.transport.unreached();
                tried.truncate(TRIED_MAX);
                CallError::NotReached { waited, tried }
            }
        }
    }
}

/// What a refusal says to a caller, if the same member will not say otherwise later.
fn definite(refusal: &Refusal) -> Option<ServiceError> {
    match refusal {
        Refusal::KeyMismatch => Some(ServiceError::KeyMismatch),
        Refusal::Version { .. } => Some(ServiceError::Refused(ServiceRefusal::Version)),
        Refusal::MembersOnly | Refusal::Client => {
            Some(ServiceError::Refused(ServiceRefusal::NotAdmitted))
        }
        _ => None,
    }
}

//! What all namespaces of a node share: outputs, and the numbers that name things.

use std::collections::{BTreeMap, VecDeque};

use meshraft_consensus::{Namespace, WriteId};
use meshraft_discovery::founding::RecordId;
use meshraft_discovery::peers::Address;
use meshraft_service::router::{ForwardId, RequestId as Submission};
use meshraft_storage::{GroupId, Job, Ticket};
use meshraft_transport::RequestId;

use super::{fetch::AskId, output::Output};

/// What became durable with a ticket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// The record of a namespace that was new to the store.
    Birth,
    /// A step of founding.
    Founding(RecordId),
    /// Addresses of peers: nothing waits for them.
    Peers,
    /// A write of a group's core.
    Log(GroupId, WriteId),
}

/// What a request to a peer is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// A request that the namespace's router passed on.
    Forward(ForwardId),
    /// A part of a snapshot's file.
    Part {
        /// Which fetch of the namespace.
        fetch: u64,
        /// The fetch's own name for it.
        ask: AskId,
    },
}

/// The outputs and counters of a node.
#[derive(Debug)]
pub(super) struct Desk {
    pub(super) outputs: VecDeque<Output>,
    /// Where this node listens.
    pub(super) listening: Vec<Address>,
    tickets: BTreeMap<Ticket, (Namespace, Purpose)>,
    requests: BTreeMap<RequestId, (Namespace, Asked)>,
    last_ticket: u64,
    last_request: u64,
    last_submission: u64,
    last_life: u64,
    next_group: GroupId,
}

impl Desk {
    pub(super) fn new(next_group: GroupId) -> Self {
        Self {
            outputs: VecDeque::new(),
            listening: Vec::new(),
            tickets: BTreeMap::new(),
            requests: BTreeMap::new(),
            last_ticket: 0,
            last_request: 0,
            last_submission: 0,
            last_life: 0,
            next_group,
        }
    }

    pub(super) fn push(&mut self, output: Output) {
        self.outputs.push_back(output);
    }

    /// Hands a job to the store and remembers what it is for.
    pub(super) fn store(
        &mut self,
        namespace: &Namespace,
        purpose: Purpose,
        job: impl FnOnce(Ticket) -> Job,
    ) {
        self.last_ticket += 1;
        let ticket = Ticket::new(self.last_ticket);
        self.tickets.insert(ticket, (namespace.clone(), purpose));
        self.push(Output::Store(job(ticket)));
    }

    /// What a ticket was for; once.
    pub(super) fn stored(&mut self, ticket: Ticket) -> Option<(Namespace, Purpose)> {
        self.tickets.remove(&ticket)
    }

    /// A number for a request to a peer.
    pub(super) fn request(&mut self, namespace: &Namespace, asked: Asked) -> RequestId {
        self.last_request += 1;
        let id = RequestId::new(self.last_request);
        self.requests.insert(id, (namespace.clone(), asked));
        id
    }

    /// Whose request this was; once.
    pub(super) fn replied(&mut self, id: RequestId) -> Option<(Namespace, Asked)> {
        self.requests.remove(&id)
    }

    /// A number for a request to a namespace's router.
    pub(super) fn submission(&mut self) -> Submission {
        self.last_submission += 1;
        Submission::new(self.last_submission)
    }

    /// A number for an opening of a namespace.
    pub(super) fn life(&mut self) -> u64 {
        self.last_life += 1;
        self.last_life
    }

    /// A number for a new group.
    pub(super) fn group(&mut self) -> GroupId {
        let group = self.next_group;
        self.next_group = group.next();
        group
    }
}

//! What all namespaces of a node share: outputs, and the numbers that name things.

use std::collections::{BTreeMap, VecDeque};

use meshraft_consensus::{Namespace, WriteId};
use meshraft_discovery::founding::RecordId;
use meshraft_discovery::peers::Address;
use meshraft_service::router::{ForwardId, RequestId as Submission};
use meshraft_storage::{GroupId, Job, Ticket};
use meshraft_transport::RequestId;

use super::{
    draw::Life,
    fetch::AskId,
    output::Output,
    snapshot_io::{SnapshotJob, SnapshotWork},
};

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
    /// The record that names the cluster, with the first write of its core that holds an entry.
    Entered {
        /// The step of founding.
        record: RecordId,
        /// The group.
        group: GroupId,
        /// The write.
        write: WriteId,
    },
    /// Groups of trials that a crash interrupted are gone: nothing waits for it.
    Orphans,
}

/// What a request to a peer is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// A request that the namespace's router passed on.
    Forward(ForwardId),
    /// The removal of this node, which another member is to bring before the leader.
    Removal,
    /// What the leader knows of this learner, for whom that is asked.
    Description(Submission),
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
    tickets: BTreeMap<Ticket, (Namespace, Life, Purpose)>,
    requests: BTreeMap<RequestId, (Namespace, Asked)>,
    /// Groups that end with a record that is on its way to the store.
    ending: BTreeMap<Ticket, Vec<GroupId>>,
    last_life: Life,
    last_ticket: u64,
    last_request: u64,
    last_submission: u64,
    next_group: GroupId,
}

impl Desk {
    pub(super) fn new(next_group: GroupId) -> Self {
        Self {
            outputs: VecDeque::new(),
            listening: Vec::new(),
            tickets: BTreeMap::new(),
            requests: BTreeMap::new(),
            ending: BTreeMap::new(),
            last_life: Life::default(),
            last_ticket: 0,
            last_request: 0,
            last_submission: 0,
            next_group,
        }
    }

    pub(super) fn push(&mut self, output: Output) {
        self.outputs.push_back(output);
    }

    /// A new life for a namespace.
    pub(super) fn life(&mut self) -> Life {
        self.last_life = self.last_life.next();
        self.last_life
    }

    /// Hands a job to the store and remembers what it is for, and in which life of the namespace.
    pub(super) fn store(
        &mut self,
        namespace: &Namespace,
        life: Life,
        purpose: Purpose,
        job: impl FnOnce(Ticket) -> Job,
    ) {
        self.last_ticket += 1;
        let ticket = Ticket::new(self.last_ticket);
        self.tickets.insert(ticket, (namespace.clone(), life, purpose));
        let job = job(ticket);
        if let Job::Record { drop, .. } = &job
            && !drop.is_empty()
        {
            self.ending.insert(ticket, drop.clone());
        }
        self.push(Output::Store(job));
    }

    /// What a ticket was for; once. Now that it is durable that groups ended, their files can go.
    pub(super) fn stored(&mut self, ticket: Ticket) -> Option<(Namespace, Life, Purpose)> {
        let (namespace, life, purpose) = self.tickets.remove(&ticket)?;
        for group in self.ending.remove(&ticket).unwrap_or_default() {
            let (namespace, life, work) = (namespace.clone(), life.get(), SnapshotWork::Drop);
            self.push(Output::Snapshot(SnapshotJob { namespace, group, life, work }));
        }
        Some((namespace, life, purpose))
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

    /// A namespace is closed: what its router asked peers is nobody's any more. Its numbers begin
    /// anew when it is opened again.
    pub(super) fn forget_requests(&mut self, of: &Namespace) {
        self.requests.retain(|_, (namespace, _)| namespace != of);
    }

    /// A number for a request to a namespace's router.
    pub(super) fn submission(&mut self) -> Submission {
        self.last_submission += 1;
        Submission::new(self.last_submission)
    }

    /// A number for a new group.
    pub(super) fn group(&mut self) -> GroupId {
        let group = self.next_group;
        self.next_group = group.next();
        group
    }
}

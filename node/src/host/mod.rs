//! All of a node as a value: every namespace with its founding and its replica.
//!
//! `handle`, `poll`, `deadline`; nothing else moves it. The runtime turns its outputs into tasks,
//! files and streams; the simulator drives the same value on a simulated network, disk and clock.
//!
//! Invariants:
//! 1. An incarnation is durable before any peer hears of it.
//! 2. A namespace's record and the groups that begin or end with it are written in one job.
//! 3. A message is delivered to a group only if its handle was bound to that group's cluster.

mod card_pool;
mod credentials;
mod deadlines;
mod describe;
mod desk;
mod draw;
mod event;
mod fenced;
mod fetch;
mod groups;
mod hosted;
mod input;
mod keeping;
#[cfg(test)]
mod life_tests;
mod membership;
mod network;
mod output;
mod outputs;
pub(crate) mod record;
mod renewal;
mod serving;
#[cfg(test)]
mod signing_tests;
mod sleep;
#[cfg(test)]
mod sleep_tests;
mod snapshot_io;
mod snapshot_store;
#[cfg(test)]
mod snapshot_tests;
mod snapshot_wire;
mod snapshots;
mod status;
#[cfg(test)]
mod tests;
mod trial;
#[cfg(test)]
mod trial_tests;
mod vigil;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use meshraft_consensus::{Moment, Namespace, NodeId, Signatures};
use meshraft_discovery::{
    founding::{ForceError, Founding},
    peers::Address,
};
use meshraft_service::{
    ServiceError,
    wire::{Operation, Status},
};
use meshraft_storage::{Opened, OpenedNamespace};

use self::{
    deadlines::Deadlines,
    desk::Desk,
    hosted::{Hosted, Origin},
    vigil::Vigil,
};
pub use self::{
    event::{HaltReason, NodeEvent, SleepEvent, SnapshotEvent},
    input::{CallId, Input, NamespaceOptions, NetworkInput},
    output::{LoadToken, Output},
    record::RecordError,
    snapshot_io::{Done, RestoreFailure, SnapshotDone, SnapshotJob, SnapshotWork},
    snapshot_store::SnapshotStore,
};

/// What a host needs to know of its node.
#[derive(Clone)]
pub struct HostConfig {
    /// The node.
    pub node: NodeId,
    /// Seeds every random choice; from the operating system, or from a simulation's seed. Two runs
    /// of one node must not share it: incarnations are drawn from it.
    pub seed: [u8; 32],
    /// Signs cards with the node's identity, and verifies those of others.
    pub signatures: Arc<dyn Signatures + Send + Sync>,
}

impl std::fmt::Debug for HostConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HostConfig").field("node", &self.node).finish_non_exhaustive()
    }
}

/// All of a node but its sockets, disk and clock.
pub struct Host {
    config: HostConfig,
    namespaces: BTreeMap<Namespace, Hosted>,
    /// What the store held when it was opened, until the namespace is.
    found_on_disk: BTreeMap<Namespace, OpenedNamespace>,
    closed: BTreeSet<Namespace>,
    /// Where peers were reached at first hand; bounded by the address book.
    proven: BTreeMap<NodeId, Vec<Address>>,
    dirty: BTreeSet<Namespace>,
    deadlines: Deadlines,
    /// Watches over the groups that sleep.
    vigil: Vigil,
    desk: Desk,
    now: Moment,
    store_failed: bool,
}

impl Host {
    /// A node that hosts nothing yet, on a store that held `opened`.
    pub fn new(config: HostConfig, opened: Opened, now: Moment) -> Self {
        let found_on_disk =
            opened.namespaces.into_iter().map(|found| (found.namespace.clone(), found)).collect();
        Self {
            vigil: Vigil::new(config.seed),
            config,
            namespaces: BTreeMap::new(),
            found_on_disk,
            closed: BTreeSet::new(),
            proven: BTreeMap::new(),
            dirty: BTreeSet::new(),
            deadlines: Deadlines::default(),
            desk: Desk::new(opened.next_group),
            now,
            store_failed: false,
        }
    }

    /// Takes one input. Handle several before a drain: what they ask is done together.
    pub fn handle(&mut self, now: Moment, input: Input) {
        self.now = self.now.max(now);
        match input {
            Input::Timeout => self.timeout(),
            Input::Open { namespace, options, found } => {
                self.open(namespace, options, found.map(|found| *found));
            }
            Input::Close { namespace } => self.close(&namespace),
            Input::HandOver => self.hand_over(),
            Input::Listening(addresses) => self.listening(addresses),
            Input::Network(input) => self.network(input),
            Input::Stored(tickets) => {
                for ticket in tickets {
                    if let Some((namespace, life, purpose)) = self.desk.stored(ticket) {
                        self.with(&namespace, |hosted, desk, now| {
                            if hosted.life == life {
                                hosted.stored(now, purpose, desk);
                            }
                        });
                    }
                }
            }
            Input::StoreFailed => self.store_failed(),
            Input::Loaded { load, result } => {
                self.with(&load.namespace, |hosted, _, now| {
                    if hosted.life.get() == load.life {
                        hosted.loaded(now, load.group, load.id, result);
                    }
                });
            }
            Input::Snapshot(done) => {
                let namespace = done.namespace.clone();
                self.with(&namespace, |hosted, desk, now| hosted.snapshot_done(now, done, desk));
            }
            Input::Call { id, namespace, operation, timeout } => {
                self.call(id, &namespace, operation, timeout);
            }
        }
    }

    /// The next output; namespaces that were touched say what they want first.
    pub fn poll(&mut self) -> Option<Output> {
        loop {
            if let Some(output) = self.desk.outputs.pop_front() {
                return Some(output);
            }
            let namespace = self.dirty.pop_first()?;
            if let Some(hosted) = self.namespaces.get_mut(&namespace) {
                hosted.drain(self.now, &mut self.desk);
                self.deadlines.set(&namespace, hosted.deadline());
            }
            self.note_dormant(&namespace);
        }
    }

    /// When [`Input::Timeout`] is due if nothing else happens first. Ask after a drain.
    pub fn deadline(&self) -> Option<Moment> {
        self.deadlines.first().into_iter().chain(self.vigil.deadline()).min()
    }

    /// Whether leadership of any namespace is on its way, from here, to somebody who is not known
    /// to lead yet. Ask after a drain; after [`Input::HandOver`] that lasts two election time-outs
    /// at most.
    pub fn is_handing_over(&self) -> bool {
        self.namespaces.values().any(|hosted| hosted.replica().is_handing_over())
    }

    /// A namespace as this node sees it; `None` if it does not host it.
    pub fn status(&self, namespace: &Namespace) -> Option<Status> {
        self.namespaces.get(namespace).map(Hosted::status)
    }

    /// The replica of a namespace, for checks that look inside.
    pub fn replica(&self, namespace: &Namespace) -> Option<&crate::replica::Replica> {
        self.namespaces.get(namespace).map(Hosted::replica)
    }

    /// Whether the store can hold this namespace's record in this build.
    ///
    /// # Errors
    /// Says what is wrong with the record that is there.
    pub fn check(&self, namespace: &Namespace) -> Result<(), RecordError> {
        self.found_on_disk
            .get(namespace)
            .map_or(Ok(()), |found| keeping::check(found, self.config.node))
    }

    /// Whether a namespace may be founded alone by order ([`NamespaceOptions::force`]); `found` as
    /// in [`Input::Open`].
    ///
    /// # Errors
    /// Says what on record forbids it: the namespace is not to be opened so.
    pub fn check_force(
        &self,
        namespace: &Namespace,
        found: Option<&OpenedNamespace>,
    ) -> Result<(), ForceError> {
        let found = found.or_else(|| self.found_on_disk.get(namespace));
        match found.map(|found| keeping::parse(found, self.config.node)) {
            Some(Ok((_, record))) => Founding::check_force(&record),
            // What can't be read is not opened at all.
            Some(Err(_)) | None => Ok(()),
        }
    }

    fn with(&mut self, namespace: &Namespace, act: impl FnOnce(&mut Hosted, &mut Desk, Moment)) {
        if let Some(hosted) = self.namespaces.get_mut(namespace) {
            if let Some((leader, at)) = self.vigil.vouches(namespace) {
                // Before anything that may wake it.
                hosted.replica.handle(self.now, crate::replica::Input::LeaderSeen { leader, at });
            }
            act(hosted, &mut self.desk, self.now);
            if !self.dirty.contains(namespace) {
                self.dirty.insert(namespace.clone());
            }
        }
    }

    fn timeout(&mut self) {
        while let Some(namespace) = self.deadlines.pop_due(self.now) {
            self.with(&namespace, |hosted, desk, now| hosted.timeout(now, desk));
        }
        self.watch();
    }

    fn open(
        &mut self,
        namespace: Namespace,
        options: NamespaceOptions,
        found: Option<OpenedNamespace>,
    ) {
        // A namespace that was closed is on disk as this process left it, not as it was opened.
        // Going on without what is there now would draw a second incarnation.
        let lost = found.is_none() && self.closed.contains(&namespace);
        if self.store_failed || lost || self.namespaces.contains_key(&namespace) {
            return;
        }
        let found = found.or_else(|| self.found_on_disk.get(&namespace).cloned());
        let opened =
            Hosted::open(&self.config, namespace.clone(), options, found, self.now, &mut self.desk);
        match opened {
            Ok(mut hosted) => {
                let listening = self.desk.listening.clone();
                hosted.listening(&listening, &mut self.desk);
                self.found_on_disk.remove(&namespace);
                self.closed.remove(&namespace);
                self.namespaces.insert(namespace.clone(), hosted);
                self.dirty.insert(namespace);
            }
            Err(error) => {
                let event = NodeEvent::Unreadable(error);
                self.desk.push(Output::Event { namespace, event });
            }
        }
    }

    fn close(&mut self, namespace: &Namespace) {
        if let Some(mut hosted) = self.namespaces.remove(namespace) {
            hosted.close(self.now, &mut self.desk);
            self.deadlines.set(namespace, None);
            self.note_dormant(namespace);
            self.desk.forget_requests(namespace);
            self.closed.insert(namespace.clone());
            self.desk.push(Output::Unshare { namespace: namespace.clone() });
        }
    }

    fn hand_over(&mut self) {
        let namespaces: Vec<_> = self.namespaces.keys().cloned().collect();
        for namespace in &namespaces {
            self.with(namespace, |hosted, _, now| {
                hosted.replica.handle(now, crate::replica::Input::HandOver);
            });
        }
    }

    fn listening(&mut self, addresses: Vec<Address>) {
        let namespaces: Vec<_> = self.namespaces.keys().cloned().collect();
        for namespace in &namespaces {
            self.with(namespace, |hosted, desk, _| hosted.listening(&addresses, desk));
        }
        self.desk.listening = addresses;
    }

    fn store_failed(&mut self) {
        self.store_failed = true;
        let namespaces: Vec<_> = self.namespaces.keys().cloned().collect();
        for namespace in &namespaces {
            self.with(namespace, |hosted, _, now| hosted.store_failed(now));
        }
    }

    fn call(
        &mut self,
        id: CallId,
        namespace: &Namespace,
        operation: Operation,
        timeout: std::time::Duration,
    ) {
        if self.namespaces.contains_key(namespace) {
            self.with(namespace, |hosted, desk, now| {
                let deadline = now.plus(timeout);
                hosted.submit(now, Origin::Call(id), 0, deadline, operation, desk);
            });
        } else {
            let response = Err(ServiceError::ShuttingDown);
            self.desk.push(Output::Answer { id, response });
        }
    }
}

impl std::fmt::Debug for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Host")
            .field("node", &self.config.node)
            .field("namespaces", &self.namespaces.keys().collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}

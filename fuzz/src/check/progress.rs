//! After the world healed, everything works again, within a bounded time.
//!
//! Every node serves the one cluster of its namespace, one of them leads and has committed in its
//! own term, every node is a voter, all have applied the same, and a client of each node writes
//! and reads. Every write that was ever acknowledged is where it was said to be.

use std::collections::BTreeSet;

use meshraft_consensus::{ClusterId, Index, Member, Namespace, Status};

use super::{Histories, States, Violation};
use crate::{digest::Digest, workload, world::Seat};

/// What does not work.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Stuck {
    /// A node is in no group of a namespace, or in a dead one.
    #[error("node {node} is in no living cluster of {namespace}")]
    NoCluster {
        /// Which node.
        node: usize,
        /// Where.
        namespace: Namespace,
    },
    /// Nobody leads, or the leader has committed nothing in its term.
    #[error("{namespace} has no leader that is ready")]
    NoLeader {
        /// Where.
        namespace: Namespace,
    },
    /// A node is no voter, or the configuration is still joint.
    #[error("{missing} of the nodes are not voters of {namespace}")]
    NotVoters {
        /// Where.
        namespace: Namespace,
        /// How many.
        missing: usize,
    },
    /// A node has not applied what is committed.
    #[error("node {node} applied {namespace} up to {applied}, {commit} is committed")]
    Behind {
        /// Which node.
        node: usize,
        /// Where.
        namespace: Namespace,
        /// What it applied.
        applied: Index,
        /// What is committed.
        commit: Index,
    },
    /// A client gets no answer.
    #[error("client {client} waits")]
    Client {
        /// Which client.
        client: usize,
    },
}

/// What one node says of one namespace.
#[derive(Clone, Debug)]
pub(crate) struct View {
    pub(crate) seat: Seat,
    pub(crate) status: Option<Status>,
    pub(crate) applied: Index,
    pub(crate) hash: Option<u64>,
}

/// What all nodes say of one namespace.
#[derive(Debug)]
pub(crate) struct Convergence<'a> {
    pub(crate) namespace: &'a Namespace,
    pub(crate) living: Option<ClusterId>,
    pub(crate) views: Vec<View>,
}

impl Convergence<'_> {
    /// Whether this namespace works everywhere.
    pub(crate) fn check(&self) -> Result<(), Stuck> {
        let statuses: Vec<&Status> = self
            .views
            .iter()
            .map(|view| {
                let here = |status: &&Status| Some(status.cluster) == self.living;
                let (node, namespace) = (view.seat.number(), self.namespace.clone());
                view.status.as_ref().filter(here).ok_or(Stuck::NoCluster { node, namespace })
            })
            .collect::<Result<_, _>>()?;
        let namespace = || self.namespace.clone();
        let leader = statuses.iter().filter(|status| status.ready).max_by_key(|s| s.term);
        let leader = leader.ok_or_else(|| Stuck::NoLeader { namespace: namespace() })?;
        let nodes: BTreeSet<Member> = statuses.iter().map(|status| status.me).collect();
        let voters = &leader.configuration.voters;
        let missing = nodes.symmetric_difference(voters).count();
        if missing > 0 || leader.configuration.is_joint() {
            return Err(Stuck::NotVoters { namespace: namespace(), missing });
        }
        let commit = leader.commit;
        match self.views.iter().find(|view| view.applied != commit) {
            None => Ok(()),
            Some(view) => {
                let (node, applied) = (view.seat.number(), view.applied);
                Err(Stuck::Behind { node, namespace: namespace(), applied, commit })
            }
        }
    }

    /// Whether all are in the same state; asked once they have applied the same.
    pub(crate) fn check_states(&self) -> Result<(), Violation> {
        let first = self.views.first().and_then(|view| view.hash);
        match self.views.iter().find(|view| view.hash != first) {
            None => Ok(()),
            Some(view) => {
                let (node, namespace) = (view.seat.number(), self.namespace.clone());
                Err(Violation::HashesDiffer { node, namespace })
            }
        }
    }
}

/// Every write that was acknowledged took effect where its client was told.
pub(crate) fn check_acknowledged(histories: &Histories, states: &States) -> Result<(), Violation> {
    for (namespace, key, value, revision) in histories.acknowledged() {
        let payload = Digest::of(&workload::payload(key, value));
        let effect = states.living(namespace).and_then(|cluster| states.effect(cluster, payload));
        if effect != Some(Index::new(revision)) {
            let namespace = namespace.clone();
            return Err(Violation::LostWrite { namespace, value, revision });
        }
    }
    Ok(())
}

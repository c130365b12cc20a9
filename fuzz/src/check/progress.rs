//! After the world healed, everything works again, within a bounded time.
//!
//! Every node that should be a member serves the one cluster of its namespace, in its newest
//! incarnation and no other; the voters are as many as there should be. One of them leads and has
//! committed in its own term, all have applied the same, none keeps more of its log than it may,
//! and a client of each writes and reads. Every node that should be out is out and knows it. Every
//! write that was ever acknowledged is where it was said to be.

use std::collections::BTreeSet;

use meshraft_consensus::{ClusterId, ClusterVersion, Index, Member, Namespace, Status};

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
    /// Nobody led within ten election time-outs of healing.
    #[error("{namespace} had no leader soon after healing")]
    LateLeader {
        /// Where.
        namespace: Namespace,
    },
    /// Others are members than should be, or the configuration is still joint.
    #[error("{missing} nodes too few or too many are members of {namespace}")]
    NotMembers {
        /// Where.
        namespace: Namespace,
        /// How many.
        missing: usize,
    },
    /// There are fewer voters than there should be.
    #[error("{namespace} has {voters} voters")]
    NotVoters {
        /// Where.
        namespace: Namespace,
        /// How many.
        voters: usize,
    },
    /// A node takes part that should be out.
    #[error("node {node} is still in {namespace}")]
    StillIn {
        /// Which node.
        node: usize,
        /// Where.
        namespace: Namespace,
    },
    /// A member keeps more entries than it may.
    #[error("node {node} keeps {kept} entries of {namespace}")]
    Keeps {
        /// Which node.
        node: usize,
        /// Where.
        namespace: Namespace,
        /// How many.
        kept: u64,
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
    /// Not what all members support is in force.
    #[error("at node {node}, version {in_force} is in force in {namespace}")]
    Version {
        /// Which node.
        node: usize,
        /// Where.
        namespace: Namespace,
        /// What is in force.
        in_force: ClusterVersion,
    },
    /// A client gets no answer.
    #[error("client {client} waits")]
    Client {
        /// Which client.
        client: usize,
    },
}

/// What a node should be in a namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// A member.
    In,
    /// None.
    Out,
}

/// What one node says of one namespace.
#[derive(Clone, Debug)]
pub(crate) struct View {
    pub(crate) seat: Seat,
    pub(crate) wanted: Wanted,
    /// Whether it knows that it left or was removed.
    pub(crate) departed: bool,
    pub(crate) status: Option<Status>,
    pub(crate) applied: Index,
    pub(crate) in_force: ClusterVersion,
    pub(crate) hash: Option<u64>,
}

/// What all nodes say of one namespace.
#[derive(Debug)]
pub(crate) struct Convergence<'a> {
    pub(crate) namespace: &'a Namespace,
    pub(crate) living: Option<ClusterId>,
    /// How many voters there should be, if there are as many members.
    pub(crate) voters_target: usize,
    /// How many entries a member may keep.
    pub(crate) kept_max: u64,
    /// What all members support.
    pub(crate) in_force: ClusterVersion,
    pub(crate) views: Vec<View>,
}

impl Convergence<'_> {
    /// Whether this namespace works everywhere.
    pub(crate) fn check(&self) -> Result<(), Stuck> {
        let statuses = self.members()?;
        let namespace = || self.namespace.clone();
        let leader = statuses.iter().filter(|status| status.ready).max_by_key(|s| s.term);
        let leader = leader.ok_or_else(|| Stuck::NoLeader { namespace: namespace() })?;
        let nodes: BTreeSet<Member> = statuses.iter().map(|status| status.me).collect();
        let configuration = &leader.configuration;
        let missing = nodes.symmetric_difference(&configuration.members()).count();
        if missing > 0 || configuration.is_joint() {
            return Err(Stuck::NotMembers { namespace: namespace(), missing });
        }
        let voters = configuration.voters.len();
        if voters < self.voters_target.min(nodes.len()) {
            return Err(Stuck::NotVoters { namespace: namespace(), voters });
        }
        let commit = leader.commit;
        for view in self.inside() {
            let node = view.seat.number();
            if view.applied != commit {
                let applied = view.applied;
                return Err(Stuck::Behind { node, namespace: namespace(), applied, commit });
            }
            if view.in_force != self.in_force {
                let in_force = view.in_force;
                return Err(Stuck::Version { node, namespace: namespace(), in_force });
            }
            let status = view.status.as_ref();
            let kept = status.map_or(0, |it| it.last.index.get() + 1 - it.first.get());
            if kept > self.kept_max {
                return Err(Stuck::Keeps { node, namespace: namespace(), kept });
            }
        }
        Ok(())
    }

    fn inside(&self) -> impl Iterator<Item = &View> {
        self.views.iter().filter(|view| view.wanted == Wanted::In)
    }

    /// What those that should be members say, unless one is none or another one is.
    fn members(&self) -> Result<Vec<&Status>, Stuck> {
        let still = self.views.iter().find(|it| it.wanted == Wanted::Out && !it.departed);
        if let Some(view) = still {
            let (node, namespace) = (view.seat.number(), self.namespace.clone());
            return Err(Stuck::StillIn { node, namespace });
        }
        self.inside()
            .map(|view| {
                let here = |status: &&Status| Some(status.cluster) == self.living;
                let (node, namespace) = (view.seat.number(), self.namespace.clone());
                let status = view.status.as_ref().filter(here).filter(|_| !view.departed);
                status.ok_or(Stuck::NoCluster { node, namespace })
            })
            .collect()
    }

    /// Whether all are in the same state; asked once they have applied the same.
    pub(crate) fn check_states(&self) -> Result<(), Violation> {
        let first = self.inside().next().and_then(|view| view.hash);
        match self.inside().find(|view| view.hash != first) {
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

//! Events into log lines: constant messages in lower case, everything variable a field.
//!
//! Levels: error = a person must act; warn = a promise slipped; info = role, membership, founding;
//! debug = connections and single messages.

use meshraft_consensus::{DropReason, Event as CoreEvent, Namespace, NodeId};
use meshraft_discovery::founding::Event as FoundingEvent;
use meshraft_transport::{Event as TransportEvent, PeerRole, Refusal, identity::peer_id};
use tracing::{debug, error, info, warn};

use crate::host::{NodeEvent, SleepEvent, SnapshotEvent};

/// Logs what happened in a namespace.
pub(crate) fn node(node: NodeId, namespace: &Namespace, event: &NodeEvent) {
    match event {
        NodeEvent::Leader { leader: Some(leader), term } => {
            info!(%node, %namespace, leader = %peer_id(*leader), %term, "leader known");
        }
        NodeEvent::Leader { leader: None, term } => info!(%node, %namespace, %term, "leader lost"),
        NodeEvent::Serving { cluster } => info!(%node, %namespace, %cluster, "cluster served"),
        NodeEvent::Members { voters, learners } => {
            let (voters, learners) = (voters.len(), learners.len());
            info!(%node, %namespace, voters, learners, "members changed");
        }
        NodeEvent::Forced { cluster } => {
            warn!(%node, %namespace, %cluster, "cluster was founded by force");
        }
        NodeEvent::Amnesia { lost, renewed, acknowledged } => {
            let index = acknowledged;
            warn!(%node, %namespace, %lost, %renewed, %index, "store went back in time");
        }
        NodeEvent::Refused { peer, why } => refused(node, *peer, namespace, why),
        NodeEvent::Vouched { member, at } => {
            let peer = peer_id(member.node);
            info!(%node, %namespace, %peer, index = %at, "member known by cards");
        }
        NodeEvent::Version { in_force } => {
            info!(%node, %namespace, %in_force, "cluster version raised");
        }
        NodeEvent::Unreadable(error) => {
            error!(%node, %namespace, %error, "namespace record unreadable");
        }
        NodeEvent::Halted { reason } => error!(%node, %namespace, ?reason, "replica halted"),
        NodeEvent::Snapshot(event) => snapshot(node, namespace, event),
        NodeEvent::Sleep(event) => sleep(node, namespace, event),
        NodeEvent::Core(event) => core(node, namespace, event),
        NodeEvent::Founding(event) => founding(node, namespace, event),
    }
}

fn sleep(node: NodeId, namespace: &Namespace, event: &SleepEvent) {
    match event {
        SleepEvent::FellAsleep => debug!(%node, %namespace, "group fell asleep"),
        SleepEvent::LeaderLost { leader } => {
            info!(%node, %namespace, leader = %peer_id(*leader), "sleeping leader lost");
        }
        SleepEvent::Disagreed { peer } => {
            debug!(%node, %namespace, peer = %peer_id(*peer), "sleeping group woken by a peer");
        }
    }
}

fn snapshot(node: NodeId, namespace: &Namespace, event: &SnapshotEvent) {
    match event {
        SnapshotEvent::Taken { at, bytes } => {
            info!(%node, %namespace, %at, bytes, "snapshot taken");
        }
        SnapshotEvent::NotTaken { at, error } => {
            error!(%node, %namespace, %at, %error, "snapshot not taken");
        }
        SnapshotEvent::Fetching { from, at } => {
            info!(%node, %namespace, peer = %peer_id(*from), %at, "snapshot fetch begun");
        }
        SnapshotEvent::Fetched { at } => info!(%node, %namespace, %at, "snapshot fetched"),
        SnapshotEvent::NotFetched { at, why } => {
            warn!(%node, %namespace, %at, error = %why, "snapshot not fetched");
        }
        SnapshotEvent::Sent { to, at } => {
            info!(%node, %namespace, peer = %peer_id(*to), %at, "snapshot sent");
        }
        SnapshotEvent::Installed { at } => info!(%node, %namespace, %at, "snapshot installed"),
        SnapshotEvent::Lost { at, why } => {
            error!(%node, %namespace, %at, %why, "snapshot lost: to be replaced by the others'");
        }
    }
}

fn core(node: NodeId, namespace: &Namespace, event: &CoreEvent) {
    match event {
        CoreEvent::BecameRole { role, term } => {
            info!(%node, %namespace, ?role, %term, "role changed");
        }
        CoreEvent::LeaderReady { term } => info!(%node, %namespace, %term, "leader ready"),
        CoreEvent::ConfigurationChanged { index, joint } => {
            info!(%node, %namespace, %index, joint, "configuration in force");
        }
        CoreEvent::ConfigurationRolledBack { index } => {
            warn!(%node, %namespace, %index, "configuration rolled back");
        }
        CoreEvent::LearnerCaughtUp { member } => {
            info!(%node, %namespace, %member, "learner caught up");
        }
        CoreEvent::Truncated { from, last } => {
            info!(%node, %namespace, index = %from, at = %last, "conflicting tail truncated");
        }
        CoreEvent::QuorumLost { term } => warn!(%node, %namespace, %term, "quorum lost"),
        CoreEvent::DiskStalled { term, elapsed } => {
            let elapsed_ms = elapsed.as_millis();
            warn!(%node, %namespace, %term, elapsed_ms, "disk stalled, leadership given up");
        }
        CoreEvent::HandingOver { to, term } => {
            info!(%node, %namespace, %term, peer = %peer_id(to.node), "leadership handed over");
        }
        CoreEvent::Damaged { range } => {
            let (first, last) = (range.first, range.last);
            error!(%node, %namespace, %first, %last, "log damaged");
        }
        CoreEvent::Repaired { range } => {
            let (first, last) = (range.first, range.last);
            warn!(%node, %namespace, %first, %last, "log repaired");
        }
        CoreEvent::Dropped { from, reason } => match reason {
            DropReason::SecondLeader | DropReason::CommittedConflict => {
                error!(%node, %namespace, peer = %from, ?reason, "message refused");
            }
            DropReason::Malformed | DropReason::Impossible => {
                warn!(%node, %namespace, peer = %from, ?reason, "message dropped");
            }
            _ => debug!(%node, %namespace, peer = %from, ?reason, "message dropped"),
        },
        // `NodeEvent::Leader` tells of the leader; the rest is for those who follow each step.
        _ => debug!(%node, %namespace, ?event, "core observed"),
    }
}

fn founding(node: NodeId, namespace: &Namespace, event: &FoundingEvent) {
    match event {
        FoundingEvent::Coordinating { cluster, founders } => {
            info!(%node, %namespace, %cluster, founders, "founder set proposed");
        }
        FoundingEvent::Promised { cluster, ballot } => {
            let counter = ballot.counter;
            info!(%node, %namespace, %cluster, counter, "founder set promised");
        }
        FoundingEvent::Left { cluster, proof } => {
            info!(%node, %namespace, %cluster, ?proof, "founder set left");
        }
        FoundingEvent::FateProposed { cluster, fate } => {
            info!(%node, %namespace, %cluster, ?fate, "fate proposed");
        }
        FoundingEvent::Founded { cluster } => {
            info!(%node, %namespace, %cluster, "cluster founded");
        }
        FoundingEvent::Joining { cluster, by } => {
            info!(%node, %namespace, %cluster, peer = %peer_id(*by), "admission asked for");
        }
        FoundingEvent::Leaving { cluster } => {
            info!(%node, %namespace, %cluster, "leaving asked for");
        }
        FoundingEvent::Departed { cluster, how } => {
            info!(%node, %namespace, %cluster, ?how, "cluster departed from");
        }
        FoundingEvent::Rejoined { cluster } => {
            info!(%node, %namespace, %cluster, "cluster rejoined");
        }
        FoundingEvent::OnTrial { cluster, by } => {
            info!(%node, %namespace, %cluster, peer = %peer_id(*by), "cluster tried");
        }
        FoundingEvent::PassedOver { peer, why, .. } => {
            let why = why.as_str();
            warn!(%node, %namespace, peer = %peer_id(*peer), why, "peer passed over");
        }
        FoundingEvent::Joined { cluster } => info!(%node, %namespace, %cluster, "cluster joined"),
        FoundingEvent::NotAdmitted { cluster, by, .. } => {
            info!(%node, %namespace, %cluster, peer = %peer_id(*by), ?event, "not admitted");
        }
        _ => debug!(%node, %namespace, ?event, "founding observed"),
    }
}

/// Logs what happened between this node and its peers.
pub(crate) fn transport(node: NodeId, event: &TransportEvent) {
    match event {
        TransportEvent::Listening(address) => info!(%node, %address, "listening"),
        TransportEvent::ListeningEnded(address) => info!(%node, %address, "listening ended"),
        TransportEvent::Connected { peer, address, dialled } => {
            debug!(%node, peer = %peer_id(*peer), %address, dialled, "peer connected");
        }
        TransportEvent::Disconnected { peer } => {
            debug!(%node, peer = %peer_id(*peer), "peer disconnected");
        }
        TransportEvent::Shared { peer, namespace, facts } => {
            let (peer, client) = (peer_id(*peer), facts.role == PeerRole::Client);
            debug!(%node, %peer, %namespace, client, "namespace shared");
        }
        TransportEvent::Unshared { peer, namespace } => {
            debug!(%node, peer = %peer_id(*peer), %namespace, "namespace shared no more");
        }
        // Refusals come back from the host, as events of their namespace.
        _ => {}
    }
}

fn refused(node: NodeId, peer: NodeId, namespace: &Namespace, why: &Refusal) {
    let peer = peer_id(peer);
    match why {
        Refusal::KeyMismatch
        | Refusal::Version { .. }
        | Refusal::Malformed
        | Refusal::Undecodable => {
            warn!(%node, %peer, %namespace, error = %why, "hello refused");
        }
        _ => debug!(%node, %peer, %namespace, error = %why, "hello refused"),
    }
}

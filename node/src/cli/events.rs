//! The JSON lines that `serve` prints: one for each change that an operator or a tool acts on.

use meshraft::{
    HaltReason, Member, Namespace, NodeEvent, NodeId, Position, SnapshotEvent, identity::peer_id,
};
use meshraft_consensus::{Event as CoreEvent, Role};
use meshraft_discovery::{Departure, founding::Event as FoundingEvent, wire::NotAdmitted};
use meshraft_transport::Refusal;
use serde_json::{Value, json};

/// The line of an event; `None` for what concerns only a log.
pub(crate) fn line(namespace: &Namespace, event: &NodeEvent) -> Option<Value> {
    let namespace = namespace.as_str();
    Some(match event {
        NodeEvent::Leader { leader, term } => json!({
            "event": "leader", "namespace": namespace,
            "leader": leader.map(name), "term": term.get(),
        }),
        NodeEvent::Serving { cluster } => json!({
            "event": "state", "namespace": namespace,
            "state": "serving", "cluster_id": cluster.to_string(),
        }),
        NodeEvent::Members { voters, learners } => json!({
            "event": "member", "namespace": namespace,
            "voters": names(voters), "learners": names(learners),
        }),
        NodeEvent::Forced { cluster } => json!({
            "event": "state", "namespace": namespace,
            "state": "forced", "cluster_id": cluster.to_string(),
        }),
        NodeEvent::Version { in_force } => json!({
            "event": "version", "namespace": namespace, "in_force": in_force.get(),
        }),
        NodeEvent::Amnesia { lost, renewed, acknowledged } => json!({
            "event": "amnesia", "namespace": namespace,
            "lost": lost.to_string(), "incarnation": renewed.to_string(),
            "acknowledged": acknowledged.get(),
        }),
        NodeEvent::Refused { peer, why } => json!({
            "event": "refused", "namespace": namespace,
            "peer": name(*peer), "error": refusal(why), "message": why.to_string(),
        }),
        NodeEvent::Vouched { member, at } => json!({
            "event": "vouched", "namespace": namespace,
            "peer": name(member.node), "incarnation": member.incarnation.to_string(),
            "index": at.get(),
        }),
        NodeEvent::Unreadable(error) => json!({
            "event": "state", "namespace": namespace,
            "state": "unreadable", "message": error.to_string(),
        }),
        NodeEvent::Halted { reason } => halted(namespace, *reason),
        NodeEvent::Snapshot(event) => return snapshot(namespace, event),
        NodeEvent::Core(event) => return core(namespace, event),
        NodeEvent::Founding(event) => return founding(namespace, event),
        _ => return None,
    })
}

fn halted(namespace: &str, reason: HaltReason) -> Value {
    let mut line = json!({
        "event": "state", "namespace": namespace, "state": "halted", "reason": halt(reason),
    });
    if let HaltReason::ClusterVersion { needed, supports } = reason {
        (line["needed"], line["supports"]) = (json!(needed.get()), json!(supports.get()));
    }
    line
}

fn snapshot(namespace: &str, event: &SnapshotEvent) -> Option<Value> {
    let step = |step: &str, at: &Position| {
        json!({
            "event": "snapshot", "namespace": namespace,
            "step": step, "index": at.index.get(), "term": at.term.get(),
        })
    };
    let with = |mut line: Value, field: &str, value: Value| {
        line[field] = value;
        Some(line)
    };
    match event {
        SnapshotEvent::Taken { at, bytes } => with(step("taken", at), "bytes", json!(bytes)),
        SnapshotEvent::NotTaken { at, error } => {
            with(step("not_taken", at), "message", json!(error.to_string()))
        }
        SnapshotEvent::Fetching { from, at } => {
            with(step("fetching", at), "peer", json!(name(*from)))
        }
        SnapshotEvent::Fetched { at } => Some(step("fetched", at)),
        SnapshotEvent::NotFetched { at, why } => {
            with(step("not_fetched", at), "message", json!(why.to_string()))
        }
        SnapshotEvent::Sent { to, at } => with(step("sent", at), "peer", json!(name(*to))),
        SnapshotEvent::Installed { at } => Some(step("installed", at)),
        SnapshotEvent::Lost { at, why } => {
            with(step("lost", at), "message", json!(why.to_string()))
        }
        _ => None,
    }
}

fn core(namespace: &str, event: &CoreEvent) -> Option<Value> {
    Some(match event {
        CoreEvent::BecameRole { role, term } => json!({
            "event": "role", "namespace": namespace, "role": role_name(*role), "term": term.get(),
        }),
        CoreEvent::LeaderReady { term } => json!({
            "event": "ready", "namespace": namespace, "term": term.get(),
        }),
        CoreEvent::QuorumLost { term } => json!({
            "event": "quorum_lost", "namespace": namespace, "term": term.get(),
        }),
        CoreEvent::DiskStalled { term, elapsed } => json!({
            "event": "disk_stalled", "namespace": namespace, "term": term.get(),
            "elapsed_ms": u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX),
        }),
        CoreEvent::HandingOver { to, term } => json!({
            "event": "handing_over", "namespace": namespace, "term": term.get(),
            "peer": name(to.node),
        }),
        CoreEvent::Damaged { range } => json!({
            "event": "damage", "namespace": namespace,
            "first": range.first.get(), "last": range.last.get(),
        }),
        CoreEvent::Repaired { range } => json!({
            "event": "repaired", "namespace": namespace,
            "first": range.first.get(), "last": range.last.get(),
        }),
        _ => return None,
    })
}

fn founding(namespace: &str, event: &FoundingEvent) -> Option<Value> {
    let step = |step: &str, cluster: &meshraft::ClusterId| {
        json!({
            "event": "founding", "namespace": namespace,
            "step": step, "cluster_id": cluster.to_string(),
        })
    };
    let state = |state: &str, cluster: &meshraft::ClusterId| {
        json!({
            "event": "state", "namespace": namespace,
            "state": state, "cluster_id": cluster.to_string(),
        })
    };
    Some(match event {
        FoundingEvent::Leaving { cluster } => state("leaving", cluster),
        FoundingEvent::Departed { cluster, how: Departure::Left } => state("left", cluster),
        FoundingEvent::Departed { cluster, how: Departure::Removed } => state("removed", cluster),
        FoundingEvent::Rejoined { cluster } => state("rejoined", cluster),
        FoundingEvent::Coordinating { cluster, .. } => step("proposed", cluster),
        FoundingEvent::Promised { cluster, .. } => step("promised", cluster),
        FoundingEvent::Left { cluster, .. } => step("left", cluster),
        FoundingEvent::Founded { cluster } => step("founded", cluster),
        FoundingEvent::Joining { cluster, .. } => step("joining", cluster),
        FoundingEvent::OnTrial { cluster, by } => {
            let mut line = step("on_trial", cluster);
            line["peer"] = json!(name(*by));
            line
        }
        FoundingEvent::PassedOver { peer, why, .. } => json!({
            "event": "founding", "namespace": namespace,
            "step": "passed_over", "peer": name(*peer), "why": why.as_str(),
        }),
        FoundingEvent::Joined { cluster } => step("joined", cluster),
        FoundingEvent::NotAdmitted { cluster, why, .. } => {
            let mut line = step("not_admitted", cluster);
            if let NotAdmitted::TooOld { supports, in_force } = why {
                (line["supports"], line["in_force"]) =
                    (json!(supports.get()), json!(in_force.get()));
            }
            line
        }
        _ => return None,
    })
}

fn name(node: NodeId) -> String {
    peer_id(node).to_string()
}

fn names(members: &[Member]) -> Vec<String> {
    members.iter().map(|member| name(member.node)).collect()
}

const fn role_name(role: Role) -> &'static str {
    match role {
        Role::Learner => "learner",
        Role::Follower => "follower",
        Role::PreCandidate | Role::Candidate => "candidate",
        Role::Leader => "leader",
    }
}

const fn halt(reason: HaltReason) -> &'static str {
    match reason {
        HaltReason::UnknownCommand => "unknown_command",
        HaltReason::UnknownConfiguration => "unknown_configuration",
        HaltReason::WrongResponses { .. } => "wrong_responses",
        HaltReason::Panicked => "panicked",
        HaltReason::StoreFailed => "store_failed",
        HaltReason::SnapshotUnreadable { .. } => "snapshot_unreadable",
        HaltReason::MachineNotReset => "machine_not_reset",
        HaltReason::TooOftenFenced => "too_often_fenced",
        HaltReason::ClusterVersion { .. } => "cluster_version",
        _ => "other",
    }
}

const fn refusal(why: &Refusal) -> &'static str {
    match why {
        Refusal::UnknownNamespace => "unknown_namespace",
        Refusal::KeyMismatch => "key_mismatch",
        Refusal::WrongCluster { .. } => "wrong_cluster",
        Refusal::WrongIncarnation { .. } => "wrong_incarnation",
        Refusal::Version { .. } => "version",
        Refusal::Undecodable => "undecodable",
        Refusal::Unfinished => "unfinished",
        Refusal::Limit => "limit",
        Refusal::NotAMember { .. } => "not_a_member",
        Refusal::UnknownMember { .. } => "unknown_member",
        _ => "refused",
    }
}

#[cfg(test)]
mod tests {
    use meshraft::Term;

    use super::*;

    #[test]
    fn lines_name_peers_as_libp2p_does() {
        let namespace = Namespace::new("/jobs").unwrap();
        let leader = NodeId::new([7; 32]);
        let event = NodeEvent::Leader { leader: Some(leader), term: Term::new(3) };
        let line = line(&namespace, &event).unwrap();
        assert_eq!(line["event"], "leader");
        assert_eq!(line["leader"], peer_id(leader).to_string());
        assert!(line["leader"].as_str().unwrap().starts_with("12D3"));
        assert_eq!(line["term"], 3);
    }

    #[test]
    fn lines_tell_each_step_of_a_snapshot() {
        let namespace = Namespace::new("/jobs").unwrap();
        let at = Position::new(Term::new(2), meshraft::Index::new(40));
        let peer = NodeId::new([7; 32]);
        let steps = [
            (SnapshotEvent::Taken { at, bytes: 5 }, "taken", "bytes", json!(5)),
            (SnapshotEvent::Fetching { from: peer, at }, "fetching", "peer", json!(name(peer))),
            (SnapshotEvent::Installed { at }, "installed", "index", json!(40)),
        ];
        for (event, step, field, value) in steps {
            let line = line(&namespace, &NodeEvent::Snapshot(event)).unwrap();
            assert_eq!((&line["event"], &line["step"]), (&json!("snapshot"), &json!(step)));
            assert_eq!((&line["index"], &line["term"]), (&json!(40), &json!(2)));
            assert_eq!(line[field], value);
        }
    }
}

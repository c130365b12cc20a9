//! What a request answers, as JSON for programs and as text for people (DESIGN section 8).

use std::{fmt::Write, time::Duration};

use meshraft::{CallError, Client, Deleted, Pair};
use meshraft_consensus::{ClusterVersion, Index, Member, NodeId};
use meshraft_service::{
    kv::{KeyPage, Revision},
    wire::{
        Damaged, Halted, HeldBack, Level, MemberRole, MemberState, MemberStatus, NodeRole,
        NotAdmitted, Status, Waiting, WaitingCode,
    },
};
use meshraft_transport::identity::peer_id;
use serde_json::{Map, Value as Json, json};

use super::{
    json::{self, Object},
    request::{Operation, RequestError},
};

/// What a request answers if it does not fail.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    /// To a set.
    Set(Revision),
    /// To a get.
    Got(Option<Pair>),
    /// To a delete.
    Deleted(Deleted),
    /// To a listing.
    Keys(KeyPage),
    /// To a request for status.
    Status(Box<Status>),
    /// To a request for members.
    Members(Vec<MemberStatus>),
    /// To a barrier.
    Barrier(Index),
    /// To a removal: who takes part then.
    Removed(Vec<Member>),
    /// To a transfer: who leads then.
    Transferred(NodeId),
    /// To a leave.
    Left,
    /// To a wish to come back.
    Rejoining,
}

/// Asks; the client says whom, `timeout` how long.
pub(crate) async fn ask(
    client: &Client,
    operation: Operation,
    timeout: Duration,
) -> Result<Answer, CallError> {
    let client = client.timeout(timeout);
    match operation {
        Operation::Set { key, value } => client.set(key, value).await.map(Answer::Set),
        Operation::Get { key, level } => client.get(key, level).await.map(Answer::Got),
        Operation::Delete { key } => client.delete(key).await.map(Answer::Deleted),
        Operation::Keys { prefix, limit, after, level } => {
            client.keys(prefix, after, limit, level).await.map(Answer::Keys)
        }
        Operation::Status => client.status().await.map(|status| Answer::Status(Box::new(status))),
        Operation::Members => client.members().await.map(Answer::Members),
        Operation::Barrier => client.barrier(timeout).await.map(Answer::Barrier),
        Operation::Remove { node } => client.remove(node).await.map(Answer::Removed),
        Operation::Transfer { to } => client.transfer(to).await.map(Answer::Transferred),
        Operation::Leave { node } => client.leave(node).await.map(|()| Answer::Left),
        Operation::Join { node } => client.rejoin(node).await.map(|()| Answer::Rejoining),
    }
}

impl Answer {
    /// The fields of the answer, without `id` and `ok`.
    pub(crate) fn object(&self) -> Object {
        let object = Object::new();
        match self {
            Self::Set(revision) => object.with("revision", revision.get()),
            Self::Got(None) => object.with("found", false).with("value", ()).with("revision", ()),
            Self::Got(Some(Pair { value, revision })) => {
                let object = object.with("found", true).with_bytes("value", value);
                object.with("revision", revision.get())
            }
            Self::Deleted(Deleted { deleted, revision }) => {
                object.with("deleted", deleted).with("revision", revision.get())
            }
            Self::Keys(page) => {
                let keys: Vec<_> = page.keys.iter().map(|key| json::key(key)).collect();
                object.with("keys", keys).with("more", page.more)
            }
            Self::Status(status) => status_object(status),
            Self::Members(members) => object.with("members", members_json(members)),
            Self::Barrier(index) => object.with("index", index.get()),
            Self::Removed(members) => {
                let names: Vec<_> = members.iter().map(|member| peer(member.node)).collect();
                object.with("members", names)
            }
            Self::Transferred(leader) => object.with("leader", peer(*leader)),
            Self::Left => object.with("state", "left"),
            Self::Rejoining => object.with("state", "joining"),
        }
    }

    /// Whether the key that was asked for is absent.
    pub(crate) const fn is_absent(&self) -> bool {
        matches!(self, Self::Got(None) | Self::Deleted(Deleted { deleted: false, .. }))
    }

    /// What a person reads on standard output; bytes as they are.
    pub(crate) fn text(&self) -> Vec<u8> {
        match self {
            Self::Set(revision) | Self::Deleted(Deleted { deleted: true, revision }) => {
                format!("revision {}\n", revision.get()).into()
            }
            Self::Got(None) | Self::Deleted(_) => Vec::new(),
            Self::Got(Some(found)) => [&found.value, b"\n".as_slice()].concat(),
            Self::Keys(page) => page
                .keys
                .iter()
                .flat_map(|key| [key, b"\n".as_slice()])
                .flatten()
                .copied()
                .collect(),
            Self::Status(status) => status_text(status).into(),
            Self::Members(members) => members_text(members).into(),
            Self::Barrier(index) => format!("index {index}\n").into(),
            Self::Removed(members) => members
                .iter()
                .flat_map(|member| format!("{:<12} {}\n", "member", peer(member.node)).into_bytes())
                .collect(),
            Self::Transferred(leader) => format!("{:<12} {}\n", "leader", peer(*leader)).into(),
            Self::Left => "left\n".into(),
            Self::Rejoining => "joining\n".into(),
        }
    }
}

/// The fields of a refusal, without `id`.
pub(crate) fn refusal_object(error: &RequestError) -> Object {
    failed(error.code(), false, error)
}

/// The fields of a failure, without `id`.
pub(crate) fn failure_object(error: &CallError) -> Object {
    failed(error.code(), error.maybe_applied(), error)
}

fn failed(code: &str, maybe: bool, message: &impl ToString) -> Object {
    let object = Object::new().with("ok", false).with("error", code).with("maybe", maybe);
    object.with("message", message.to_string())
}

fn status_object(status: &Status) -> Object {
    Object::new()
        .with("namespace", status.namespace.as_str())
        .with("cluster_id", status.cluster.map(|cluster| cluster.to_string()))
        .with("peer", peer(status.node))
        .with("incarnation", status.incarnation.to_string())
        .with("role", role(status.role))
        .with("term", status.term.get())
        .with("leader", status.leader.map(peer))
        .with("commit", status.commit.get())
        .with("applied", status.applied.get())
        .with("last", status.last.get())
        .with("first", status.first.get())
        .with("members", members_json(&status.members))
        .with("failure_tolerance", status.failure_tolerance())
        .with("waiting", status.waiting.as_ref().map(waiting_json))
        .with("snapshot", status.snapshot.get())
        .with("forced", status.forced)
        .with("halted", status.halted.map(halted))
        .with("asleep", status.asleep)
        .with("version", version_json(status))
        .with("damaged", status.damaged.map(damaged_json))
}

/// The version of commands in force, the newest that the telling member supports, and who does not
/// let that come into force.
fn version_json(status: &Status) -> Json {
    let held_back_by: Vec<_> = status.held_back_by().map(|it| peer(it.member.node)).collect();
    json!({
        "in_force": status.in_force.map(ClusterVersion::get),
        "supports": status.supports.get(),
        "held_back_by": held_back_by,
    })
}

fn damaged_json(damaged: Damaged) -> Json {
    json!({
        "first": damaged.first.get(),
        "last": damaged.last.get(),
        "repairable": damaged.repairable,
    })
}

fn members_json(members: &[MemberStatus]) -> Vec<Json> {
    members
        .iter()
        .map(|member| {
            json!({
                "peer": peer(member.member.node),
                "incarnation": member.member.incarnation.to_string(),
                "role": member_role(member.role),
                "match": member.matched.map(Index::get),
                "state": member.state.map(member_state),
                "held_back": member.held_back.map(held_back),
                "supports": member.supports.map(ClusterVersion::get),
            })
        })
        .collect()
}

fn waiting_json(waiting: &Waiting) -> Json {
    let missing: Vec<_> = waiting.missing.iter().map(|&node| peer(node)).collect();
    let mut object = Map::new();
    object.insert("code".into(), waiting_code(waiting.code).into());
    object.insert("have".into(), waiting.have.into());
    object.insert("need".into(), waiting.need.into());
    object.insert("missing".into(), missing.into());
    object.insert("why".into(), waiting.why.map(not_admitted).into());
    if let Some(NotAdmitted::TooOld { supports, in_force }) = waiting.why {
        object.insert("supports".into(), supports.get().into());
        object.insert("in_force".into(), in_force.get().into());
    }
    object.into()
}

fn status_text(status: &Status) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: String| {
        // Writing to a string can't fail.
        let _ = writeln!(text, "{name:<12} {value}");
    };
    let or_none = |value: Option<String>| value.unwrap_or_else(|| "none".into());
    line("namespace", status.namespace.to_string());
    line("cluster", or_none(status.cluster.map(|cluster| cluster.to_string())));
    if status.forced {
        line("founded", "alone, by force".into());
    }
    line("peer", peer(status.node));
    let asleep = if status.asleep { ", asleep" } else { "" };
    line("role", format!("{}{asleep}", role(status.role)));
    line("leader", or_none(status.leader.map(peer)));
    line("term", status.term.to_string());
    let (first, last) = (status.first, status.last);
    let (commit, applied) = (status.commit, status.applied);
    line("log", format!("{first} to {last}, committed {commit}, applied {applied}"));
    if status.snapshot > Index::ZERO {
        line("snapshot", format!("up to {}", status.snapshot));
    }
    if let Some(more) = status.failure_tolerance() {
        line("may fail", format!("{more} more of the voters"));
    }
    if let Some(why) = status.halted {
        line("halted", format!("{}; a new start tries again", halted(why)));
    }
    if let Some(in_force) = status.in_force {
        line("version", version_text(status, in_force));
    }
    for member in status.held_back_by() {
        let told = member.supports.map_or("did not tell".into(), |it| format!("supports {it}"));
        line("  held back", format!("by {}, which {told}", peer(member.member.node)));
    }
    if let Some(Damaged { first, last, repairable }) = status.damaged {
        let how = match repairable {
            true => "asks the other members for them, and neither votes nor leads until then",
            false => "its end is unknown; comes back as a new member once it hears a leader",
        };
        line("damaged", format!("entries {first} to {last}; {how}"));
    }
    if let Some(waiting) = &status.waiting {
        line("waiting for", waiting_text(status));
        for node in &waiting.missing {
            line("  missing", peer(*node));
        }
    }
    text + &members_text(&status.members)
}

fn version_text(status: &Status, in_force: ClusterVersion) -> String {
    match status.supports {
        supports if supports == in_force => in_force.to_string(),
        supports => format!("{in_force}, supports {supports}"),
    }
}

/// What a node waits for, on one line; empty if it waits for nothing.
pub(crate) fn waiting_text(status: &Status) -> String {
    let Some(Waiting { code, have, need, why, .. }) = &status.waiting else {
        return String::new();
    };
    let mut text = match code {
        WaitingCode::Left => "left; `join` or a new start brings it back".into(),
        WaitingCode::Removed => "removed; `join` brings it back".into(),
        WaitingCode::Departure => "departure: the cluster has yet to take it out".into(),
        WaitingCode::PassedOver => format!(
            "founders: has {have}, needs {need}; passes those over that did not do what they said"
        ),
        code => format!("{}: has {have}, needs {need}", waiting_code(*code)),
    };
    if let Some(why) = why {
        let _ = write!(text, " (last answer: {})", not_admitted(*why));
        if let NotAdmitted::TooOld { supports, in_force } = why {
            let _ = write!(text, ": supports {supports}, and {in_force} is in force");
        }
    }
    text
}

fn members_text(members: &[MemberStatus]) -> String {
    let mut text = String::new();
    for member in members {
        let role = member_role(member.role);
        let _ = write!(text, "{role:<12} {}", peer(member.member.node));
        if let Some(state) = member.state {
            let _ = write!(text, "  {}", member_state(state));
        }
        if let Some(matched) = member.matched {
            let _ = write!(text, "  match {matched}");
        }
        if let Some(why) = member.held_back {
            let _ = write!(text, "  held back: {}", held_back(why));
        }
        text.push('\n');
    }
    text
}

fn peer(node: NodeId) -> String {
    peer_id(node).to_string()
}

/// The word for a role.
pub(crate) const fn role(role: NodeRole) -> &'static str {
    match role {
        NodeRole::Free => "free",
        NodeRole::Founding => "founding",
        NodeRole::Joining => "joining",
        NodeRole::Follower => "follower",
        NodeRole::Candidate => "candidate",
        NodeRole::Leader => "leader",
        NodeRole::Learner => "learner",
        NodeRole::Stopped => "stopped",
        NodeRole::Left => "left",
        NodeRole::Removed => "removed",
        _ => "unknown",
    }
}

const fn member_role(role: MemberRole) -> &'static str {
    match role {
        MemberRole::Voter => "voter",
        MemberRole::Outgoing => "outgoing",
        MemberRole::Learner => "learner",
        _ => "unknown",
    }
}

const fn member_state(state: MemberState) -> &'static str {
    match state {
        MemberState::Leader => "leader",
        MemberState::Probe => "probe",
        MemberState::Replicate => "replicate",
        MemberState::Snapshot => "snapshot",
        MemberState::Unreachable => "unreachable",
        _ => "unknown",
    }
}

const fn halted(why: Halted) -> &'static str {
    match why {
        Halted::UnknownCommand => "unknown_command",
        Halted::UnknownConfiguration => "unknown_configuration",
        Halted::WrongResponses => "wrong_responses",
        Halted::Panicked => "panicked",
        Halted::StoreFailed => "store_failed",
        Halted::SnapshotUnreadable => "snapshot_unreadable",
        Halted::MachineNotReset => "machine_not_reset",
        Halted::ClusterVersion => "cluster_version",
        Halted::TooOftenFenced => "too_often_fenced",
        _ => "other",
    }
}

const fn held_back(why: HeldBack) -> &'static str {
    match why {
        HeldBack::CatchingUp => "catching_up",
        HeldBack::VotersTarget => "voters_target",
        HeldBack::Unreachable => "unreachable",
        HeldBack::NotWanted => "not_wanted",
        _ => "unknown",
    }
}

const fn not_admitted(why: NotAdmitted) -> &'static str {
    match why {
        NotAdmitted::NotLiving => "not_living",
        NotAdmitted::OtherCluster => "other_cluster",
        NotAdmitted::NoLeader => "no_leader",
        NotAdmitted::Busy => "busy",
        NotAdmitted::Denied => "denied",
        NotAdmitted::Departed => "departed",
        NotAdmitted::TooOld { .. } => "too_old",
        _ => "unknown",
    }
}

const fn waiting_code(code: WaitingCode) -> &'static str {
    match code {
        WaitingCode::Founders => "founders",
        WaitingCode::Promise => "promise",
        WaitingCode::Admission => "admission",
        WaitingCode::Leader => "leader",
        WaitingCode::Peers => "peers",
        WaitingCode::Departure => "departure",
        WaitingCode::Left => "left",
        WaitingCode::Removed => "removed",
        WaitingCode::PassedOver => "passed_over",
        _ => "unknown",
    }
}

/// The level of a read on the command line.
pub(crate) const fn level(stale: bool) -> Level {
    if stale { Level::Stale } else { Level::Linearizable }
}

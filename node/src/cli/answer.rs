//! What a request answers, as JSON for programs and as text for people (DESIGN section 8).

use std::{fmt::Write, time::Duration};

use meshraft::{CallError, Client, Deleted, Pair};
use meshraft_consensus::{Index, NodeId};
use meshraft_service::{
    kv::{KeyPage, Revision},
    wire::{Level, MemberRole, MemberState, MemberStatus, NodeRole, Status, Waiting, WaitingCode},
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
        .with("waiting", status.waiting.as_ref().map(waiting_json))
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
    line("peer", peer(status.node));
    line("role", role(status.role).into());
    line("leader", or_none(status.leader.map(peer)));
    line("term", status.term.to_string());
    let (first, last) = (status.first, status.last);
    let (commit, applied) = (status.commit, status.applied);
    line("log", format!("{first} to {last}, committed {commit}, applied {applied}"));
    if let Some(Waiting { code, have, need, missing }) = &status.waiting {
        line("waiting for", format!("{}: has {have}, needs {need}", waiting_code(*code)));
        for node in missing {
            line("  missing", peer(*node));
        }
    }
    text + &members_text(&status.members)
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
        text.push('\n');
    }
    text
}

fn peer(node: NodeId) -> String {
    peer_id(node).to_string()
}

const fn role(role: NodeRole) -> &'static str {
    match role {
        NodeRole::Free => "free",
        NodeRole::Founding => "founding",
        NodeRole::Joining => "joining",
        NodeRole::Follower => "follower",
        NodeRole::Candidate => "candidate",
        NodeRole::Leader => "leader",
        NodeRole::Learner => "learner",
        NodeRole::Stopped => "stopped",
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

const fn waiting_code(code: WaitingCode) -> &'static str {
    match code {
        WaitingCode::Founders => "founders",
        WaitingCode::Promise => "promise",
        WaitingCode::Admission => "admission",
        WaitingCode::Leader => "leader",
        _ => "unknown",
    }
}

/// The level of a read on the command line.
pub(crate) const fn level(stale: bool) -> Level {
    if stale { Level::Stale } else { Level::Linearizable }
}

//! Reads positions, entries and messages from the text of a golden scenario.

use std::error::Error;

use bytes::Bytes;
use meshraft_consensus::{
    Amnesia, AppendRequest, AppendResponse, AppendResult, Committed, Configuration, Dismissed,
    Entry, EntryKind, Heartbeat, HeartbeatResponse, Index, Member, Message, Position, Quiesce,
    ReadResponse, RepairRequest, RepairResponse, RepairResult, SnapshotMeta, SnapshotOffer,
    SnapshotResponse, Term, TimeoutNow, VoteKind, VoteRequest, VoteResponse,
};

use crate::cluster::member;

type Fallible<T> = Result<T, Box<dyn Error>>;

pub(crate) fn term(text: &str) -> Fallible<Term> {
    Ok(Term::new(number(text)?))
}

pub(crate) fn index(text: &str) -> Fallible<Index> {
    Ok(Index::new(number(text)?))
}

/// A number, or `max`.
fn number(text: &str) -> Fallible<u64> {
    if text == "max" { Ok(u64::MAX) } else { Ok(text.parse()?) }
}

/// `3`, or `3..5` with both ends.
pub(crate) fn slots(text: &str) -> Fallible<Vec<Index>> {
    let (first, last) = text.split_once("..").unwrap_or((text, text));
    Ok((number(first)?..=number(last)?).map(Index::new).collect())
}

/// `7@3`: index at term.
pub(crate) fn position(text: &str) -> Fallible<Position> {
    let (at, of) = text.split_once('@').ok_or("a position is index@term")?;
    Ok(Position::new(term(of)?, index(at)?))
}

/// `2@1,3@1:noop`; commands unless said.
pub(crate) fn entries(text: &str) -> Fallible<Vec<Entry>> {
    let one = |text: &str| {
        let (at, kind) = text.split_once(':').unwrap_or((text, "command"));
        // `3@2:{4.5}` is the configuration of these voters.
        let voters = kind.strip_prefix('{').and_then(|voters| voters.strip_suffix('}'));
        if let Some(voters) = voters {
            let voters = voters.split('.').map(|name| Ok(member(name.parse()?)));
            let bytes = Configuration::of_voters(voters.collect::<Fallible<Vec<_>>>()?).encode();
            return Ok(Entry { position: position(at)?, kind: EntryKind::Configuration, bytes });
        }
        let kind = match kind {
            "noop" => EntryKind::Noop,
            "abandon" => EntryKind::Abandon,
            "configuration" => EntryKind::Configuration,
            _ => EntryKind::Command,
        };
        let bytes = match kind {
            EntryKind::Command => Bytes::copy_from_slice(at.as_bytes()),
            _ => Bytes::new(),
        };
        Ok(Entry { position: position(at)?, kind, bytes })
    };
    text.split(',').filter(|text| !text.is_empty()).map(one).collect()
}

/// `commit=2@1`, or `commit=2` for an entry of the message's own term.
fn committed(term: Term, text: Option<&str>) -> Fallible<Position> {
    match text {
        None => Ok(Position::ZERO),
        Some(text) if text.contains('@') => position(text),
        Some(text) => Ok(Position::new(term, index(text)?)),
    }
}

/// A message of this kind, its fields by key; those left out are zero.
pub(crate) fn message<'a>(kind: &str, key: impl Fn(&str) -> Option<&'a str>) -> Fallible<Message> {
    let count = |name: &str| key(name).map_or(Ok(0), number);
    let place = |name: &str| key(name).map_or(Ok(Position::ZERO), position);
    let term = Term::new(count("term")?);
    let request_term = Term::new(count("for")?);
    let commit = key("commit").filter(|text| !text.contains('@')).map_or(Ok(Index::ZERO), index)?;
    let free_bytes = key("free").map_or(Ok(u64::MAX), number)?;
    let sequence = count("sequence")?;
    let vote =
        |kind, granted| Message::VoteResponse(VoteResponse { term, request_term, kind, granted });
    let ask = |kind| Ok::<_, Box<dyn Error>>(VoteRequest { term, kind, last: place("last")? });
    Ok(match kind {
        "append" => Message::AppendRequest(AppendRequest {
            term,
            sequence,
            previous: place("prev")?,
            commit,
            entries: entries(key("entries").unwrap_or_default())?,
        }),
        "append-ok" | "append-conflict" => {
            let result = match kind {
                "append-ok" => AppendResult::Matched(Index::new(count("matched")?)),
                _ => AppendResult::Conflict { hint: place("hint")?, last: place("last")? },
            };
            Message::AppendResponse(AppendResponse { term, sequence, result, free_bytes })
        }
        "heartbeat" => Message::Heartbeat(Heartbeat {
            term,
            commit: committed(term, key("commit"))?,
            round: count("round")?,
        }),
        "committed" => {
            Message::Committed(Committed { term, commit: committed(term, key("commit"))? })
        }
        "heartbeat-ok" => {
            let round = count("round")?;
            Message::HeartbeatResponse(HeartbeatResponse { term, round, free_bytes })
        }
        "prevote" => Message::VoteRequest(ask(VoteKind::Pre)?),
        "vote" => Message::VoteRequest(ask(VoteKind::Campaign)?),
        "transfer-vote" => Message::VoteRequest(ask(VoteKind::Transfer)?),
        "prevote-yes" => vote(VoteKind::Pre, true),
        "prevote-no" => vote(VoteKind::Pre, false),
        "vote-yes" => vote(VoteKind::Campaign, true),
        "vote-no" => vote(VoteKind::Campaign, false),
        "timeout-now" => Message::TimeoutNow(TimeoutNow { term }),
        "quiesce" => Message::Quiesce(Quiesce { term, last: place("last")? }),
        "snapshot-offer" => {
            Message::SnapshotOffer(SnapshotOffer { term, meta: Box::new(meta(key)?) })
        }
        "snapshot-ok" | "snapshot-no" => Message::SnapshotResponse(SnapshotResponse {
            term,
            position: place("at")?,
            installed: kind == "snapshot-ok",
        }),
        "amnesia" => {
            let acknowledged = Index::new(count("acknowledged")?);
            Message::Amnesia(Amnesia { term, acknowledged })
        }
        "dismissed" => Message::Dismissed(Dismissed { term, index: Index::new(count("index")?) }),
        "repair" | "repair-answer" => repair(kind, key)?,
        "read-response" => Message::ReadResponse(ReadResponse {
            term,
            id: count("id")?,
            index: key("index").map(index).transpose()?,
        }),
        other => return Err(format!("unknown message {other}").into()),
    })
}

/// `repair first=3 last=4 before=5@2`, or its answer with entries, if there are any.
fn repair<'a>(kind: &str, key: impl Fn(&str) -> Option<&'a str>) -> Fallible<Message> {
    let count = |name: &str| key(name).map_or(Ok(0), number);
    let (term, anchor) =
        (Term::new(count("term")?), key("before").map_or(Ok(Position::ZERO), position)?);
    if kind == "repair" {
        let (first, last) = (Index::new(count("first")?), Index::new(count("last")?));
        let commit = Index::new(key("commit").map_or(Ok(0), number)?);
        let request = RepairRequest { term, first, last, anchor, commit };
        return Ok(Message::RepairRequest(request));
    }
    let result = match key("entries") {
        Some(text) => RepairResult::Entries(entries(text)?),
        None => RepairResult::Elsewhere,
    };
    let commit = Index::new(count("commit")?);
    Ok(Message::RepairResponse(RepairResponse { term, anchor, commit, result }))
}

/// What a snapshot stands for: `at=5@2 voters=1,2,3 since=1`.
pub(crate) fn meta<'a>(key: impl Fn(&str) -> Option<&'a str>) -> Fallible<SnapshotMeta> {
    let voters = key("voters").unwrap_or_default().split(',').filter(|name| !name.is_empty());
    let voters = voters.map(|name| Ok(member(name.parse()?))).collect::<Fallible<Vec<Member>>>()?;
    Ok(SnapshotMeta {
        position: position(key("at").ok_or("a position is missing")?)?,
        configuration: Configuration::of_voters(voters),
        configuration_index: key("since").map_or(Ok(Index::ZERO), index)?,
    })
}

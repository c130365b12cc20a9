//! One thing that happens in a cluster of cores, as it can be written down and done again.
//!
//! Invariant: a step may be tried at any time. What it is about may be gone, or not there yet; then
//! nothing happens. So any part of a list of steps is a list of steps.

use std::{fmt, time::Duration};

use meshraft_consensus::{
    AppendResult, Change, ChangeStep, Index, Member, Message, Moment, ProposalId, ReadId,
    ReadLevel, VoteKind,
};

use super::attack::Attack;
use crate::world::Seat;

/// What happens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// A process starts on its disk, with a core of this seed.
    Start { seat: Seat, seed: u64 },
    /// A process dies; of the writes that are out, the first few are on disk all the same.
    Crash { seat: Seat, kept: usize },
    /// A disk is lost while its process is dead; who comes back is somebody else.
    Wipe { seat: Seat },
    /// A disk is copied.
    Copy { seat: Seat },
    /// The copy takes the place of the disk of a dead process.
    SetBack { seat: Seat },
    /// The disk of a dead process loses its log from an index on.
    LoseTail { seat: Seat, from: Index },
    /// An entry on a disk can't be read any more; a start finds out if it is `seen`, else a load.
    Rot { seat: Seat, index: Index, seen: bool },
    /// A core's deadline has come.
    Timeout { seat: Seat },
    /// A message arrives.
    Deliver { from: Member, to: Member, message: Box<Message> },
    /// The first few writes of a disk are durable.
    Written { seat: Seat, writes: usize },
    /// Two members that may not know each other meet.
    Meet { one: Seat, other: Seat },
    /// A member is handed the card that another one signed for it.
    Cards { from: Seat, to: Member },
    /// A hostile actor does something to a member.
    Attack { seat: Seat, from: Member, attack: Box<Attack> },
    /// A clock leaps ahead.
    Leap { seat: Seat, span: Duration },
    /// What gathered is drained.
    Drain { seat: Seat },
    /// A client proposes.
    Propose { seat: Seat, id: ProposalId, bytes: usize },
    /// A client reads.
    Read { seat: Seat, id: ReadId, level: ReadLevel },
    /// A change of members is asked for.
    Change { seat: Seat, id: ProposalId, change: Box<Change> },
    /// Leadership is asked to be handed over.
    Transfer { seat: Seat, id: ProposalId, to: Option<Member> },
    /// A member is told to campaign.
    Campaign { seat: Seat },
    /// A path to a peer is there, or gone.
    Peer { seat: Seat, peer: Member, up: bool },
    /// The node of a sleeping member's leader was seen to live, some time ago.
    Seen { seat: Seat, leader: Member, at: Moment },
    /// Members disagree on whether their group sleeps.
    Wake { seat: Seat },
    /// The disk answers the first of the loads that were asked for, or fails.
    Load { seat: Seat, fails: bool },
    /// The machine says how far it is.
    Applied { seat: Seat },
    /// The snapshot that is being taken is durable.
    Taken { seat: Seat },
    /// A part of the snapshot that is being fetched is there, or will never be.
    Part { seat: Seat, fails: bool },
    /// The fetched snapshot is the state.
    Installed { seat: Seat },
}

/// A step at a moment of the world's clock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Timed {
    pub(crate) at: Moment,
    pub(crate) step: Step,
    /// Whether the outputs wait for the next step of the same process.
    pub(crate) gathers: bool,
}

impl Step {
    /// Whose process it happens to.
    pub(crate) fn seat(&self) -> Seat {
        match self {
            Self::Start { seat, .. }
            | Self::Crash { seat, .. }
            | Self::Wipe { seat }
            | Self::Copy { seat }
            | Self::SetBack { seat }
            | Self::LoseTail { seat, .. }
            | Self::Rot { seat, .. }
            | Self::Timeout { seat }
            | Self::Written { seat, .. }
            | Self::Drain { seat }
            | Self::Leap { seat, .. }
            | Self::Propose { seat, .. }
            | Self::Read { seat, .. }
            | Self::Change { seat, .. }
            | Self::Transfer { seat, .. }
            | Self::Campaign { seat }
            | Self::Peer { seat, .. }
            | Self::Seen { seat, .. }
            | Self::Wake { seat }
            | Self::Load { seat, .. }
            | Self::Applied { seat }
            | Self::Taken { seat }
            | Self::Part { seat, .. }
            | Self::Installed { seat } => *seat,
            Self::Meet { one, .. } => *one,
            Self::Attack { seat, .. } => *seat,
            Self::Deliver { to, .. } | Self::Cards { to, .. } => seat_of(*to),
        }
    }
}

/// The seat of a member: the first byte of its key.
pub(crate) fn seat_of(member: Member) -> Seat {
    Seat(usize::from(member.node.as_bytes()[0]).saturating_sub(1))
}

/// What a member is called: `n2`, and `n2b` in its second life.
pub(crate) fn name(member: Member) -> String {
    let life = member.incarnation.as_bytes()[0];
    let letter = if life <= 1 { String::new() } else { char::from(b'a' + life - 1).to_string() };
    format!("n{}{letter}", seat_of(member).0 + 1)
}

impl fmt::Display for Timed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let then = if self.gathers { "  (gathers)" } else { "" };
        write!(f, "{:>12}  {}{then}", self.at.to_string(), self.step)
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let node = format!("n{}", self.seat().0 + 1);
        match self {
            Self::Start { .. } => write!(f, "start {node}"),
            Self::Crash { kept: 0, .. } => write!(f, "crash {node}"),
            Self::Crash { kept, .. } => write!(f, "crash {node} after {kept} of its writes"),
            Self::Wipe { .. } => write!(f, "wipe {node}"),
            Self::Copy { .. } => write!(f, "copy {node}"),
            Self::SetBack { .. } => write!(f, "set back {node}"),
            Self::LoseTail { from, .. } => write!(f, "{node} loses its log from {from} on"),
            Self::Rot { index, .. } => write!(f, "rot {node} {index}"),
            Self::Timeout { .. } => write!(f, "timeout {node}"),
            Self::Deliver { from, to, message } => {
                write!(f, "deliver {} -> {} {}", name(*from), name(*to), Said(message))
            }
            Self::Written { writes, .. } => write!(f, "persisted {node} {writes} writes"),
            Self::Meet { other, .. } => write!(f, "{node} meets n{}", other.0 + 1),
            Self::Cards { from, to } => write!(f, "cards n{} -> {}", from.0 + 1, name(*to)),
            Self::Attack { from, attack, .. } => match &**attack {
                Attack::Message(message) => {
                    write!(f, "attack {} -> {node} {}", name(*from), Said(message))
                }
                other => write!(f, "attack {} -> {node} {other:?}", name(*from)),
            },
            Self::Leap { span, .. } => write!(f, "{node}'s clock leaps {span:?}"),
            Self::Drain { .. } => write!(f, "drain {node}"),
            Self::Propose { id, .. } => write!(f, "propose {node} p{id}"),
            Self::Read { id, level: ReadLevel::Lease, .. } => {
                write!(f, "read {node} r{id} on its lease")
            }
            Self::Read { id, .. } => write!(f, "read {node} r{id}"),
            Self::Change { id, change, .. } => {
                write!(f, "change {node} p{id}")?;
                change.steps.iter().try_for_each(|step| match step {
                    ChangeStep::AddLearner(member) => write!(f, " +{}", name(*member)),
                    ChangeStep::Promote(member) => write!(f, " ^{}", name(*member)),
                    ChangeStep::Demote(member) => write!(f, " v{}", name(*member)),
                    ChangeStep::Remove(member) => write!(f, " -{}", name(*member)),
                })
            }
            Self::Transfer { id, to, .. } => {
                write!(f, "transfer {node} p{id} to {}", to.map_or("any".into(), name))
            }
            Self::Campaign { .. } => write!(f, "campaign {node}"),
            Self::Peer { peer, up: true, .. } => write!(f, "path {node} to {}", name(*peer)),
            Self::Peer { peer, .. } => write!(f, "no path {node} to {}", name(*peer)),
            Self::Seen { leader, at, .. } => {
                write!(f, "{node} knows that {} lived at {at}", name(*leader))
            }
            Self::Wake { .. } => write!(f, "wake {node}"),
            Self::Load { fails, .. } => write!(f, "load {node}{}", failure(*fails)),
            Self::Applied { .. } => write!(f, "applied {node}"),
            Self::Taken { .. } => write!(f, "snapshot {node}"),
            Self::Part { fails, .. } => write!(f, "fetch {node}{}", failure(*fails)),
            Self::Installed { .. } => write!(f, "install {node}"),
        }
    }
}

const fn failure(fails: bool) -> &'static str {
    if fails { " fails" } else { "" }
}

/// A message in the words of the golden scenarios.
struct Said<'a>(&'a Message);

impl fmt::Display for Said<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Message::AppendRequest(it) => {
                write!(f, "append t{} #{} after {}", it.term, it.sequence, it.previous)?;
                it.entries.iter().try_for_each(|entry| write!(f, " [{}]", entry.position))?;
                write!(f, " commit {}", it.commit)
            }
            Message::AppendResponse(it) => match it.result {
                AppendResult::Matched(index) => {
                    write!(f, "appended t{} #{} to {index}", it.term, it.sequence)
                }
                AppendResult::Conflict { hint, last } => {
                    write!(f, "conflict t{} #{} hint {hint} last {last}", it.term, it.sequence)
                }
            },
            Message::Heartbeat(it) => {
                write!(f, "heartbeat t{} round {} commit {}", it.term, it.round, it.commit)
            }
            Message::Committed(it) => write!(f, "committed t{} {}", it.term, it.commit),
            Message::HeartbeatResponse(it) => write!(f, "heard t{} round {}", it.term, it.round),
            Message::VoteRequest(it) => {
                write!(f, "{} t{} last {}", votes(it.kind), it.term, it.last)
            }
            Message::VoteResponse(it) => {
                let answer = if it.granted { "granted" } else { "refused" };
                write!(f, "{} t{} {answer} at t{}", votes(it.kind), it.request_term, it.term)
            }
            Message::ReadRequest(it) => write!(f, "read t{} {}", it.term, it.id),
            Message::ReadResponse(it) => match it.index {
                Some(index) => write!(f, "read t{} {} at {index}", it.term, it.id),
                None => write!(f, "read t{} {} refused", it.term, it.id),
            },
            Message::SnapshotOffer(it) => write!(f, "offer t{} {}", it.term, it.meta.position),
            Message::SnapshotResponse(it) => {
                let answer = if it.installed { "installed" } else { "failed" };
                write!(f, "snapshot t{} {} {answer}", it.term, it.position)
            }
            other => write!(f, "{other:?}"),
        }
    }
}

const fn votes(kind: VoteKind) -> &'static str {
    match kind {
        VoteKind::Pre => "pre-vote",
        VoteKind::Campaign => "vote",
        VoteKind::Transfer => "vote-by-transfer",
    }
}

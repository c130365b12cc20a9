//! Terse text for outputs and states, as golden scenarios show them.

use std::fmt::Write as _;

use meshraft_consensus::{
    AppendResult, Configuration, Core, Entry, EntryKind, Event, LogAfterSnapshot, Member, Message,
    Output, ReadError, RejectReason, RepairResult, Role, SnapshotMeta, VoteKind, Write,
};

/// `n1`, and `n1b` for its second life.
pub(crate) fn name(member: Member) -> String {
    let (node, life) = (member.node.as_bytes()[0], member.incarnation.as_bytes()[0]);
    let second = if node == life { "" } else { "b" };
    format!("n{node}{second}")
}

/// The positions of entries, and what is special about them.
pub(crate) fn entries(entries: &[Entry]) -> String {
    let one = |entry: &Entry| match entry.kind {
        EntryKind::Command => entry.position.to_string(),
        EntryKind::Noop => format!("{}:noop", entry.position),
        EntryKind::Abandon => format!("{}:abandon", entry.position),
        EntryKind::Configuration => format!(
            "{}:{}",
            entry.position,
            Configuration::decode(&entry.bytes)
                .map_or("unreadable".into(), |it| configuration(&it))
        ),
    };
    format!("[{}]", entries.iter().map(one).collect::<Vec<_>>().join(" "))
}

/// `{1,2}`, `{1,2}<-{1,2,3}` while joint, `+{4}` for learners.
pub(crate) fn configuration(configuration: &Configuration) -> String {
    let set = |members: &std::collections::BTreeSet<Member>| {
        let names: Vec<String> = members.iter().map(|it| name(*it)[1..].to_owned()).collect();
        format!("{{{}}}", names.join(","))
    };
    let mut text = set(&configuration.voters);
    if configuration.is_joint() {
        let _ = write!(text, "<-{}", set(&configuration.outgoing));
    }
    if !configuration.learners.is_empty() {
        let _ = write!(text, "+{}", set(&configuration.learners));
    }
    text
}

/// `5@2:{1,2}`: what a snapshot covers, and the configuration there.
fn snapshot(meta: &SnapshotMeta) -> String {
    format!("{}:{}", meta.position, configuration(&meta.configuration))
}

fn message(message: &Message) -> String {
    match message {
        Message::AppendRequest(it) => format!(
            "append t{} #{} prev={} commit={} {}",
            it.term,
            it.sequence,
            it.previous,
            it.commit,
            entries(&it.entries)
        ),
        Message::AppendResponse(it) => match it.result {
            AppendResult::Matched(index) => {
                format!("append-ok t{} #{} matched={index}", it.term, it.sequence)
            }
            AppendResult::Conflict { hint, last } => {
                format!("append-conflict t{} #{} hint={hint} last={last}", it.term, it.sequence)
            }
        },
        Message::Heartbeat(it) => {
            format!("heartbeat t{} commit={} round={}", it.term, it.commit.index, it.round)
        }
        Message::HeartbeatResponse(it) => format!("heartbeat-ok t{} round={}", it.term, it.round),
        Message::VoteRequest(it) => format!("{} t{} last={}", vote(it.kind), it.term, it.last),
        Message::VoteResponse(it) => format!(
            "{}-{} t{} for t{}",
            vote(it.kind),
            if it.granted { "yes" } else { "no" },
            it.term,
            it.request_term
        ),
        Message::ReadRequest(_) => "read-request".into(),
        Message::LeaseRequest(_) => "lease-request".into(),
        Message::ReadResponse(it) => match it.index {
            Some(index) => format!("read-response t{} index={index}", it.term),
            None => format!("read-response t{} none", it.term),
        },
        Message::SnapshotOffer(it) => {
            format!("snapshot-offer t{} {}", it.term, snapshot(&it.meta))
        }
        Message::SnapshotResponse(it) => {
            let answer = if it.installed { "ok" } else { "no" };
            format!("snapshot-{answer} t{} {}", it.term, it.position)
        }
        Message::Amnesia(it) => format!("amnesia t{} acknowledged={}", it.term, it.acknowledged),
        Message::Dismissed(it) => format!("dismissed t{} index={}", it.term, it.index),
        Message::Committed(it) => format!("committed t{} {}", it.term, it.commit.index),
        Message::RepairRequest(it) => {
            format!("repair t{} {}..={} before {}", it.term, it.first, it.last, it.anchor)
        }
        Message::RepairResponse(it) => format!(
            "repair-answer t{} commit={} before {} {}",
            it.term,
            it.commit,
            it.anchor,
            match &it.result {
                RepairResult::Entries(it) => entries(it),
                RepairResult::Compacted(it) => format!("compacted by {}", snapshot(it)),
                RepairResult::Passed(it) => format!("passed by {}", snapshot(it)),
                RepairResult::Elsewhere => "elsewhere".into(),
            }
        ),
        Message::Quiesce(it) => format!("quiesce t{} last={}", it.term, it.last),
        Message::TimeoutNow(it) => format!("timeout-now t{}", it.term),
    }
}

const fn vote(kind: VoteKind) -> &'static str {
    match kind {
        VoteKind::Pre => "prevote",
        VoteKind::Campaign => "vote",
        VoteKind::Transfer => "transfer-vote",
    }
}

fn write(write: &Write) -> String {
    let mut text = write.id.to_string();
    if let Some(hard) = write.hard {
        let vote = hard.vote.map_or("none".into(), name);
        let _ = write!(text, " term={} vote={vote}", hard.term);
    }
    if let Some(it) = write.snapshot() {
        let _ = match it.log {
            LogAfterSnapshot::KeepFrom(first) => {
                write!(text, " snapshot={} keep={first}", snapshot(&it.meta))
            }
            LogAfterSnapshot::Replace => write!(text, " snapshot={} replace", snapshot(&it.meta)),
        };
    }
    if !write.repair().is_empty() {
        let _ = write!(text, " repair {}", entries(write.repair()));
    }
    if let Some(from) = write.truncate_from() {
        let _ = write!(text, " truncate={from}");
    }
    if !write.append.is_empty() {
        let _ = write!(text, " {}", entries(&write.append));
    }
    text
}

/// One line for an output; nothing for those that every scenario has too many of.
pub(crate) fn output(me: Member, output: &Output) -> Option<String> {
    let me = name(me);
    Some(match output {
        Output::Send { to, message: it, .. } => format!("{me} -> {} {}", name(*to), message(it)),
        Output::Persist(it) => format!("{me} persist {}", write(it)),
        Output::Apply(it) => format!("{me} apply {}", entries(it)),
        Output::Load { range, .. } => format!("{me} load {}..={}", range.first, range.last),
        Output::Resolve { id, outcome } => match outcome {
            meshraft_consensus::Outcome::Committed(at) => format!("{me} resolve {id} ok {at}"),
            meshraft_consensus::Outcome::Rejected(reason) => {
                format!("{me} resolve {id} rejected: {}", reject(reason))
            }
            meshraft_consensus::Outcome::Transferred { leader, term } => {
                format!("{me} resolve {id} {} leads t{term}", name(*leader))
            }
            meshraft_consensus::Outcome::Unknown => format!("{me} resolve {id} unknown"),
        },
        Output::ReadReady { id, index } => format!("{me} read {id} at {index}"),
        Output::ReadFailed { id, error } => format!("{me} read {id} failed: {}", failed(error)),
        Output::NeedFirstEntry { term } => format!("{me} needs the first entry of term {term}"),
        Output::SendSnapshot { to, meta } => {
            format!("{me} pins snapshot {} for {}", meta.position, name(*to))
        }
        Output::FetchSnapshot { from, meta } => {
            format!("{me} fetches snapshot {} from {}", meta.position, name(*from))
        }
        Output::InstallSnapshot(meta) => format!("{me} installs snapshot {}", meta.position),
        Output::Amnesia { acknowledged } => format!("{me} is amnesiac, it had {acknowledged}"),
        Output::Departed { index } => format!("{me} departed at {index}"),
        Output::Observe(it) => return event(&me, it),
    })
}

fn reject(reason: &RejectReason) -> String {
    match reason {
        RejectReason::AlreadyDone { member } => format!("{} is so already", name(*member)),
        RejectReason::NoSuchMember { member } => format!("no {} for this step", name(*member)),
        RejectReason::NotLeader { leader: Some(leader) } => {
            format!("not the leader, n{} is", leader.as_bytes()[0])
        }
        RejectReason::TransferInProgress { to } => format!("handing over to {}", name(*to)),
        RejectReason::TransferAborted { to } => format!("not handed over to {}", name(*to)),
        RejectReason::Behind { member } => format!("{} is behind", name(*member)),
        other => other.to_string(),
    }
}

fn failed(error: &ReadError) -> String {
    error.to_string()
}

fn event(me: &str, event: &Event) -> Option<String> {
    Some(match event {
        Event::BecameRole { role, term } => format!("{me} became {} t{term}", role_name(*role)),
        Event::Dropped { from, reason } => format!("{me} dropped {reason:?} of {}", name(*from)),
        Event::Truncated { from, last } => format!("{me} truncated {from}..={}", last.index),
        Event::ConfigurationRolledBack { index } => format!("{me} configuration back to {index}"),
        Event::LearnerCaughtUp { member } => format!("{me} saw {} caught up", name(*member)),
        Event::QuorumLost { term } => format!("{me} lost its quorum in t{term}"),
        Event::Amnesia { member, acknowledged, .. } => {
            format!("{me} found {} without {acknowledged}, which it acknowledged", name(*member))
        }
        Event::DiskStalled { term, elapsed } => {
            format!("{me} stalled for {} ms in t{term}", elapsed.as_millis())
        }
        Event::HandingOver { to, term } => format!("{me} hands over to {} t{term}", name(*to)),
        Event::Readmitted { index } => format!("{me} readmitted at {index}"),
        Event::Compacted { base, .. } => format!("{me} compacted to {base}"),
        Event::SnapshotInstalled { position } => format!("{me} installed snapshot {position}"),
        Event::Damaged { range } => format!("{me} damaged {}..={}", range.first, range.last),
        Event::Repaired { range } => format!("{me} repaired {}..={}", range.first, range.last),
        Event::LeaderReady { term } => format!("{me} ready t{term}"),
        _ => return None,
    })
}

const fn role_name(role: Role) -> &'static str {
    match role {
        Role::Learner => "learner",
        Role::Follower => "follower",
        Role::PreCandidate => "pre-candidate",
        Role::Candidate => "candidate",
        Role::Leader => "leader",
    }
}

/// One line for the state of a core.
pub(crate) fn status(core: &Core) -> String {
    let status = core.status();
    let leader = status.leader.map_or("none".into(), name);
    let mut text = format!(
        "{} {}({leader}) term={} last={} commit={} applied={} {}",
        name(status.me),
        role_name(status.role),
        status.term,
        status.last,
        status.commit,
        status.applied,
        configuration(&status.configuration)
    );
    if status.asleep {
        text.push_str(" asleep");
    }
    if let Some(range) = status.damage {
        let _ = write!(text, " damaged {}..={}", range.first, range.last);
    }
    if status.departed {
        text.push_str(" departed");
    }
    for follower in &status.followers {
        let state = format!("{:?}", follower.state).to_lowercase();
        let _ = write!(text, " {}:{state}@{}", name(follower.member), follower.matched);
        if let Some(reason) = follower.held_back {
            let _ = write!(text, "({reason:?})");
        }
        if let Some(acknowledged) = follower.amnesiac {
            let _ = write!(text, "(lost {acknowledged})");
        }
    }
    text
}

/// One line for a packet on its way.
pub(crate) fn packet(packet: &crate::cluster::Packet) -> String {
    format!("{} -> {} {}", name(packet.from), name(packet.to), message(&packet.message))
}

//! One test a rule of Ongaro's dissertation, named for the rule; the section is in its doc line.

use meshraft_consensus::{
    AppendResult, Change, ChangeStep, Heartbeat, Index, Input, Member, Message, Moment, Outcome,
    Output, Position, ProposalId, ReadId, ReadLevel, Role, Term, VoteKind, VoteRequest,
};

use crate::{
    basics::propose,
    cluster::{Cluster, Disk, member},
};

fn receive(cluster: &mut Cluster, to: u8, from: u8, message: Message) {
    cluster.input(member(to), Input::Receive { from: member(from), message });
}

fn heartbeat(term: u64) -> Message {
    Message::Heartbeat(Heartbeat { term: Term::new(term), commit: Position::ZERO, round: 0 })
}

fn vote(term: u64, last: Position) -> Message {
    Message::VoteRequest(VoteRequest { term: Term::new(term), kind: VoteKind::Campaign, last })
}

fn at(index: u64, term: u64) -> Position {
    Position::new(Term::new(term), Index::new(index))
}

/// Messages that were sent, newest last.
fn sent(cluster: &Cluster) -> impl DoubleEndedIterator<Item = (Member, Member, &Message)> {
    cluster.outputs.iter().filter_map(|(from, output)| match output {
        Output::Send { to, message, .. } => Some((*from, *to, message)),
        _ => None,
    })
}

fn outcome(cluster: &Cluster, id: u64) -> Option<&Outcome> {
    cluster.outputs.iter().find_map(|(_, output)| match output {
        Output::Resolve { id: resolved, outcome } if resolved.get() == id => Some(outcome),
        _ => None,
    })
}

/// 3.3: a message of an older term is refused, and its sender learns the current one.
#[test]
fn a_stale_leader_is_told_the_term() {
    let mut cluster = Cluster::new(3);
    cluster.make_leader(1);
    receive(&mut cluster, 2, 3, heartbeat(1));
    let answer = sent(&cluster).next_back();
    assert!(matches!(answer, Some((_, to, Message::HeartbeatResponse(response)))
        if to == member(3) && response.term == Term::new(2)));
    assert_eq!(cluster.core(2).leader(), Some(member(1)));
}

/// 3.3: whoever learns of a higher term becomes a follower in it.
#[test]
fn a_higher_term_ends_every_role() {
    let mut leading = Cluster::new(3);
    leading.make_leader(1);
    let mut campaigning = Cluster::new(3);
    campaigning.input(member(1), Input::Campaign);
    for cluster in [&mut leading, &mut campaigning] {
        receive(cluster, 1, 2, heartbeat(9));
        assert_eq!(cluster.core(1).role(), Role::Follower);
        assert_eq!(cluster.core(1).term(), Term::new(9));
        assert_eq!(cluster.core(1).leader(), Some(member(2)));
    }
}

/// 3.4: a follower campaigns when it has heard nobody for an election time-out, drawn at random
/// from one to two of them.
#[test]
fn election_timeouts_are_random_within_their_bounds() {
    let election = Cluster::new(1).knobs.election;
    let (mut least, mut most) = (Moment::from_nanos(u64::MAX), Moment::ZERO);
    for seed in 0..200 {
        let mut cluster = Cluster::new(3);
        cluster.crash(member(1));
        cluster.node(member(1)).starts = seed;
        cluster.start(member(1));
        let due = cluster.core(1).deadline().unwrap();
        (least, most) = (least.min(due), most.max(due));
    }
    assert!(least >= Moment::ZERO.plus(election) && most < Moment::ZERO.plus(election * 2));
    assert!(most.since(least) > election * 3 / 4, "they are spread: {least} to {most}");
}

/// 3.4: a leader's sign of life resets the time-out.
#[test]
fn heartbeats_keep_followers_from_campaigning() {
    let mut cluster = Cluster::new(3);
    cluster.make_leader(1);
    cluster.run_ms(60_000);
    assert_eq!(cluster.leaders(), [member(1)]);
    assert_eq!(cluster.core(2).term(), Term::new(2));
}

/// 3.4: a candidate that hears the leader of its term becomes its follower.
#[test]
fn a_candidate_yields_to_the_leader_of_its_term() {
    let mut cluster = Cluster::new(3);
    cluster.input(member(1), Input::Campaign);
    for _ in 0..2 {
        let packet = cluster.packets.pop_front().unwrap();
        cluster.deliver(packet);
    }
    let answer = cluster.packets.pop_front().unwrap();
    cluster.deliver(answer);
    assert_eq!(cluster.core(1).role(), Role::Candidate);
    let term = cluster.core(1).term().get();
    receive(&mut cluster, 1, 3, heartbeat(term));
    assert_eq!(cluster.core(1).role(), Role::Follower);
    assert_eq!(cluster.core(1).term().get(), term);
}

/// 3.4: a split vote ends with a time-out, and a later election succeeds.
#[test]
fn split_votes_are_resolved() {
    let mut cluster = Cluster::new(4);
    for number in 1..=4 {
        cluster.input(member(number), Input::Campaign);
    }
    cluster.elect();
}

/// 3.4: a vote is given once a term, to the first who asks, also across a restart (3.8).
#[test]
fn a_vote_survives_a_restart() {
    let mut cluster = Cluster::new(3);
    receive(&mut cluster, 1, 2, vote(2, at(1, 1)));
    cluster.persist(member(1));
    cluster.crash(member(1));
    cluster.start(member(1));
    receive(&mut cluster, 1, 3, vote(2, at(9, 1)));
    let answer = sent(&cluster).next_back();
    assert!(matches!(answer, Some((_, _, Message::VoteResponse(response))) if !response.granted));
    receive(&mut cluster, 1, 2, vote(2, at(1, 1)));
    let answer = sent(&cluster).next_back();
    assert!(matches!(answer, Some((_, _, Message::VoteResponse(response))) if response.granted));
}

/// 3.5: a leader commits an entry that a majority has, and followers apply it in order.
#[test]
fn a_majority_commits_and_everyone_applies_in_order() {
    let mut cluster = Cluster::new(5);
    cluster.make_leader(1);
    cluster.isolate(5);
    cluster.isolate(4);
    for id in 0..10 {
        propose(&mut cluster, member(1), id, &id.to_string());
    }
    cluster.settle();
    assert!((0..10).all(|id| matches!(outcome(&cluster, id), Some(Outcome::Committed(_)))));
    for number in 1..=3 {
        let applied = &cluster.node(member(number)).applied;
        let commands: Vec<&[u8]> = applied[2..].iter().map(|entry| &entry.bytes[..]).collect();
        let expected: Vec<String> = (0..10).map(|id| id.to_string()).collect();
        assert!(commands.iter().zip(&expected).all(|(one, other)| *one == other.as_bytes()));
    }
    assert_eq!(cluster.node(member(5)).applied.len(), 2);
}

/// 3.5: a follower takes entries only directly after one that it has.
#[test]
fn a_follower_refuses_entries_after_one_it_lacks() {
    let mut cluster = Cluster::new(3);
    cluster.make_leader(1);
    let request = meshraft_consensus::AppendRequest {
        term: Term::new(2),
        sequence: 50,
        previous: at(7, 2),
        commit: Index::new(7),
        entries: Vec::new(),
    };
    receive(&mut cluster, 2, 1, Message::AppendRequest(request));
    let answer = sent(&cluster).next_back();
    assert!(matches!(answer, Some((_, _, Message::AppendResponse(response)))
        if matches!(response.result, AppendResult::Conflict { last, .. } if last == at(2, 2))));
    assert_eq!(cluster.core(2).commit(), Index::new(2), "nor is anything committed by it");
}

/// 3.5: what conflicts with the leader's log is replaced.
#[test]
fn conflicting_entries_are_replaced() {
    let mut cluster = Cluster::new(3);
    cluster.make_leader(1);
    cluster.isolate(1);
    propose(&mut cluster, member(1), 1, "lost");
    cluster.settle();
    cluster.run_ms(3000);
    cluster.heal();
    cluster.run_ms(500);
    let leader = cluster.leaders()[0];
    let kept = cluster.node(leader).disk.entries.clone();
    assert_eq!(cluster.node(member(1)).disk.entries, kept);
    assert_eq!(outcome(&cluster, 1), Some(&Outcome::Unknown));
}

/// 3.6.1: a candidate whose log is behind gets no vote.
#[test]
fn a_log_that_is_behind_gets_no_vote() {
    for (last, granted) in [(at(2, 2), true), (at(3, 2), true), (at(1, 3), true)]
        .into_iter()
        .chain([(at(1, 2), false), (at(9, 1), false)])
    {
        let mut cluster = Cluster::new(3);
        cluster.make_leader(2);
        cluster.now = cluster.now.plus(cluster.knobs.election);
        receive(&mut cluster, 1, 3, vote(3, last));
        cluster.settle();
        let answer = sent(&cluster).find_map(|(_, _, message)| match message {
            Message::VoteResponse(response) if response.request_term.get() == 3 => Some(response),
            _ => None,
        });
        assert_eq!(answer.unwrap().granted, granted, "last={last}");
    }
}

/// 3.6.2: a new leader's first entry is a no-op of its own term; with it everything before commits.
#[test]
fn a_new_leader_commits_a_no_op() {
    let mut cluster = Cluster::new(3);
    let leader = cluster.elect();
    let core = cluster.nodes[&leader].core.as_ref().unwrap();
    assert_eq!(core.status().last.term, core.term());
    assert_eq!(core.commit(), core.status().last.index);
}

/// 3.8: nothing that was acknowledged is lost when everybody crashes.
#[test]
fn acknowledged_entries_survive_every_crash() {
    let mut cluster = Cluster::new(3);
    cluster.make_leader(1);
    for id in 0..50 {
        propose(&mut cluster, member(1), id, &id.to_string());
        if id % 7 == 0 {
            cluster.settle();
        }
    }
    let acknowledged = (0..50).filter(|id| outcome(&cluster, *id).is_some()).count();
    for number in 1..=3 {
        cluster.crash(member(number));
    }
    cluster.packets.clear();
    for number in 1..=3 {
        cluster.start(member(number));
    }
    let leader = cluster.elect();
    let applied = &cluster.node(leader).applied;
    let commands = applied.iter().filter(|entry| !entry.bytes.is_empty()).count();
    assert!(acknowledged > 40 && commands > acknowledged, "{commands} of {acknowledged}");
}

/// 4.1: a configuration is in force on every member as soon as it is in its log.
#[test]
fn a_configuration_is_in_force_on_append() {
    let mut cluster = Cluster::new(3);
    cluster.make_leader(1);
    (1..=3).for_each(|number| cluster.node(member(number)).stalled = true);
    cluster.add(member(4), Disk::default());
    let change = Change { steps: vec![ChangeStep::AddLearner(member(4))] };
    cluster.input(member(1), Input::Change { id: ProposalId::new(1), change });
    cluster.settle();
    assert_eq!(outcome(&cluster, 1), None, "nothing is durable, so nothing is committed");
    assert!((1..=3).all(|number| cluster.core(number).configuration().contains(&member(4))));
}

/// 4.2.3: a member that was cut off and comes back does not depose a leader that is heard.
#[test]
fn a_returning_member_disturbs_no_leader() {
    let mut cluster = Cluster::new(3);
    cluster.make_leader(1);
    cluster.isolate(3);
    cluster.run_ms(20_000);
    cluster.heal();
    cluster.run_ms(20_000);
    assert_eq!(cluster.leaders(), [member(1)]);
    assert_eq!(cluster.core(1).term(), Term::new(2), "pre-votes raise no term (9.6)");
}

/// 4.3: in a joint configuration both halves must agree, to commit and to elect.
#[test]
fn a_joint_configuration_needs_both_majorities() {
    let mut cluster = Cluster::new(3);
    cluster.make_leader(1);
    for number in 4..=6 {
        cluster.add(member(number), Disk::default());
    }
    // Learners that are isolated catch up with nothing: nobody promotes them yet.
    (4..=6).for_each(|number| cluster.isolate(number));
    let steps = (4..=6).map(|one| ChangeStep::AddLearner(member(one))).collect();
    cluster.input(member(1), Input::Change { id: ProposalId::new(1), change: Change { steps } });
    cluster.settle();
    assert_eq!(cluster.core(1).commit(), Index::new(3));
    let steps = (4..=6)
        .map(|one| ChangeStep::Promote(member(one)))
        .chain((2..=3).map(|one| ChangeStep::Remove(member(one))))
        .collect();
    cluster.input(member(1), Input::Change { id: ProposalId::new(2), change: Change { steps } });
    cluster.settle();
    assert!(cluster.core(1).configuration().is_joint());
    assert_eq!(cluster.core(1).commit(), Index::new(3), "a majority of the old half is not enough");
    cluster.heal();
    cluster.run_ms(1000);
    assert!(matches!(outcome(&cluster, 2), Some(Outcome::Committed(_))));
    assert_eq!(cluster.core(5).configuration().voters.len(), 4);
    assert!(!cluster.core(5).configuration().is_joint());
}

/// 6.2: a leader that hears no quorum for an election time-out steps down, and says so.
#[test]
fn a_leader_without_a_quorum_steps_down() {
    let mut cluster = Cluster::new(3);
    cluster.make_leader(1);
    cluster.isolate(1);
    propose(&mut cluster, member(1), 1, "x");
    let knobs = cluster.knobs.clone();
    cluster.run_ms((knobs.election + knobs.heartbeat).as_millis() as u64);
    assert_ne!(cluster.core(1).role(), Role::Leader);
    assert_eq!(outcome(&cluster, 1), Some(&Outcome::Unknown));
}

/// 6.4: a read waits for a round of heartbeats that began after it, and is not served by a leader
/// that has been replaced.
#[test]
fn a_deposed_leader_serves_no_read() {
    let mut cluster = Cluster::new(3);
    cluster.make_leader(1);
    cluster.isolate(1);
    let id = ReadId::new(1);
    cluster.now = cluster.now.plus(cluster.knobs.election);
    cluster.input(member(2), Input::Campaign);
    cluster.settle();
    propose(&mut cluster, member(2), 1, "newer");
    cluster.settle();
    assert!(matches!(outcome(&cluster, 1), Some(Outcome::Committed(_))));
    assert_eq!(cluster.core(1).role(), Role::Leader, "it does not know yet");
    cluster.input(member(1), Input::Read { id, level: ReadLevel::Linearizable });
    cluster.heal();
    cluster.run_ms(200);
    let answers: Vec<&Output> =
        cluster.outputs.iter().filter(|(me, _)| *me == member(1)).map(|(_, it)| it).collect();
    assert!(answers.iter().any(|it| matches!(it, Output::ReadFailed { .. })));
    assert!(!answers.iter().any(|it| matches!(it, Output::ReadReady { .. })));
}

/// 9.6: a pre-vote changes no durable state.
#[test]
fn a_pre_vote_writes_nothing() {
    let mut cluster = Cluster::new(3);
    let last = at(9, 1);
    let kind = VoteKind::Pre;
    let request = Message::VoteRequest(VoteRequest { term: Term::new(2), kind, last });
    receive(&mut cluster, 1, 2, request);
    assert!(matches!(sent(&cluster).next_back(),
        Some((_, _, Message::VoteResponse(response))) if response.granted));
    assert!(cluster.node(member(1)).writes.is_empty());
    assert_eq!(cluster.core(1).term(), Term::new(1));
}

/// 10.2.1: the leader sends entries before they are on its own disk, and may commit them first.
#[test]
fn followers_may_commit_before_the_leaders_disk() {
    let mut cluster = Cluster::new(3);
    cluster.make_leader(1);
    cluster.node(member(1)).stalled = true;
    propose(&mut cluster, member(1), 1, "x");
    cluster.settle();
    assert!(matches!(outcome(&cluster, 1), Some(Outcome::Committed(_))));
    assert!(cluster.node(member(1)).applied.iter().all(|entry| entry.bytes != "x"));
}

/// 10.2.2: requests are pipelined; a second leaves before the first is answered.
#[test]
fn requests_are_pipelined() {
    let mut cluster = Cluster::new(3);
    cluster.make_leader(1);
    cluster.outputs.clear();
    for id in 0..5 {
        propose(&mut cluster, member(1), id, "x");
    }
    let requests = sent(&cluster).filter(|(_, _, it)| matches!(it, Message::AppendRequest(_)));
    assert_eq!(requests.count(), 10, "five to each follower, and no answer yet");
}

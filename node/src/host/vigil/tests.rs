//! Watches of two nodes, as values.

use meshraft_consensus::{Incarnation, Index};

use super::*;

const HEARTBEAT: Duration = Duration::from_millis(50);
const ELECTION: Duration = Duration::from_millis(500);
const LEADER: u8 = 1;
const FOLLOWER: u8 = 2;

fn member(number: u8) -> Member {
    Member::new(NodeId::new([number; 32]), Incarnation::new([number; 16]))
}

fn namespace(number: usize) -> Namespace {
    Namespace::new(&format!("/jobs/{number}")).unwrap()
}

/// A group led by the first node, as one of its two members sees it; `last` is its last entry.
fn group(number: usize, me: u8, last: u64) -> Sleeper {
    let followers = [member(FOLLOWER)].into();
    let id: [u8; 8] = (number as u64).to_be_bytes();
    let mut cluster = [0; 32];
    cluster[..8].copy_from_slice(&id);
    Sleeper {
        cluster: ClusterId::new(cluster),
        me: member(me),
        leader: member(LEADER),
        followers: if me == LEADER { followers } else { BTreeSet::new() },
        term: Term::new(1),
        last: Position::new(Term::new(1), Index::new(last)),
        heartbeat: HEARTBEAT,
        election: ELECTION,
    }
}

fn at(millis: u64) -> Moment {
    Moment::from_millis(millis)
}

/// A node on which these groups fell asleep at the first moment.
fn vigil(me: u8, groups: std::ops::Range<usize>) -> Vigil {
    let mut vigil = Vigil::new([me; 32]);
    for number in groups {
        assert!(vigil.note(at(0), &namespace(number), Some(group(number, me, 5))));
    }
    vigil
}

/// The beat that is due, as it comes out of its bytes.
fn beat(leader: &mut Vigil, now: Moment) -> Frame {
    match &leader.timeout(now)[..] {
        [Action::Beat { to, frame }] => {
            assert_eq!(*to, member(FOLLOWER).node);
            Frame::decode(&frame.encode()).unwrap()
        }
        other => panic!("one beat is due: {other:?}"),
    }
}

/// One beat and all that follows from it: what each side is to do.
fn round(leader: &mut Vigil, follower: &mut Vigil, now: Moment) -> (Vec<Action>, Vec<Action>) {
    let (mut here, mut there) = (Vec::new(), Vec::new());
    let beat = beat(leader, now);
    let (mut view, actions) = follower.received(now, member(LEADER).node, beat);
    there.extend(actions);
    while let Some(frame) = view.take() {
        let (checked, actions) = leader.received(now, member(FOLLOWER).node, frame);
        here.extend(actions);
        if let Some(frame) = checked {
            let (answer, actions) = follower.received(now, member(LEADER).node, frame);
            there.extend(actions);
            view = answer;
        }
    }
    (here, there)
}

fn wake(number: usize, peer: u8) -> Action {
    Action::Wake { namespace: namespace(number), peer: member(peer).node }
}

#[test]
fn a_thousand_groups_take_one_beat_and_one_deadline() {
    let (mut leader, mut follower) = (vigil(LEADER, 0..1000), vigil(FOLLOWER, 0..1000));
    for step in 1..=1200_u64 {
        let now = at(step * 50);
        assert_eq!(leader.deadline(), Some(now), "a heartbeat of the groups apart");
        assert_eq!(round(&mut leader, &mut follower, now), (Vec::new(), Vec::new()));
        assert_eq!(follower.deadline(), Some(now.plus(ELECTION)));
        assert_eq!(follower.vouches(&namespace(7)), Some((member(LEADER), now)));
    }
    for number in 0..1000 {
        leader.note(at(60_000), &namespace(number), None);
        follower.note(at(60_000), &namespace(number), None);
    }
    assert_eq!((leader.deadline(), follower.deadline()), (None, None), "nothing sleeps");
    assert!(leader.peers.is_empty() && follower.peers.is_empty());
    assert!(leader.heartbeats.is_empty());
}

#[test]
fn a_lost_leader_is_told_to_one_group_after_the_other_in_an_order_of_the_node() {
    let count = 1000;
    let orders = [3, 4].map(|seed| {
        let mut follower = vigil(FOLLOWER, 0..count);
        follower.seed = [seed; 32];
        let mut told = Vec::new();
        while let Some(now) = follower.deadline() {
            let lost: Vec<_> = follower.timeout(now);
            assert!(lost.len() <= 3, "not in one instant: {}", lost.len());
            for action in lost {
                let Action::Lost { namespace, leader } = action else { panic!("{action:?}") };
                assert_eq!(leader, member(LEADER));
                follower.note(now, &namespace, None);
                told.push((now, namespace));
            }
        }
        let first = told.first().map(|(now, _)| *now);
        assert_eq!(first, Some(at(0).plus(ELECTION)), "the first as soon as it is lost");
        assert!(told.iter().all(|(now, _)| *now <= at(0).plus(ELECTION * 2)), "within a bound");
        let order: Vec<_> = told.into_iter().map(|(_, namespace)| namespace).collect();
        assert_eq!(order.iter().collect::<BTreeSet<_>>().len(), count, "each once");
        order
    });
    assert_ne!(orders[0], orders[1], "two nodes wake them in different orders");
}

#[test]
fn a_single_group_waits_for_an_election_time_out_and_no_more() {
    let mut follower = vigil(FOLLOWER, 0..1);
    assert_eq!(follower.timeout(at(499)), []);
    let lost = Action::Lost { namespace: namespace(0), leader: member(LEADER) };
    assert_eq!(follower.timeout(at(500)), std::slice::from_ref(&lost));
    // One that sleeps on all the same is told again, and no sooner; nobody was heard meanwhile.
    assert_eq!(follower.vouches(&namespace(0)), Some((member(LEADER), at(0))));
    assert_eq!(follower.timeout(at(999)), []);
    assert_eq!(follower.timeout(at(1000)), [lost]);
}

#[test]
fn a_beat_that_comes_in_time_ends_the_waking_of_the_others() {
    let (mut leader, mut follower) = (vigil(LEADER, 0..100), vigil(FOLLOWER, 0..100));
    let lost = follower.timeout(at(520));
    assert!((1..50).contains(&lost.len()), "{}", lost.len());
    for action in &lost {
        let Action::Lost { namespace, .. } = action else { panic!("{action:?}") };
        follower.note(at(520), namespace, None);
        leader.note(at(520), namespace, None);
    }
    assert_eq!(round(&mut leader, &mut follower, at(521)), (Vec::new(), Vec::new()));
    assert_eq!(follower.timeout(at(1020)), []);
}

#[test]
fn who_missed_that_it_may_sleep_wakes_its_leader() {
    let (mut leader, mut follower) = (vigil(LEADER, 0..3), vigil(FOLLOWER, 0..2));
    assert_eq!(round(&mut leader, &mut follower, at(50)), (Vec::new(), Vec::new()), "once");
    assert_eq!(follower.vouches(&namespace(0)), Some((member(LEADER), at(50))), "vouched for");
    let twice = (vec![wake(2, FOLLOWER)], Vec::new());
    assert_eq!(round(&mut leader, &mut follower, at(100)), twice);
}

#[test]
fn who_knows_of_no_sleeping_group_wakes_its_leader() {
    let (mut leader, mut follower) = (vigil(LEADER, 0..1), Vigil::new([2; 32]));
    assert_eq!(round(&mut leader, &mut follower, at(50)), (Vec::new(), Vec::new()));
    let twice = (vec![wake(0, FOLLOWER)], Vec::new());
    assert_eq!(round(&mut leader, &mut follower, at(100)), twice);
}

#[test]
fn what_its_leader_forgot_wakes_the_follower() {
    let (mut leader, mut follower) = (vigil(LEADER, 0..2), vigil(FOLLOWER, 0..3));
    assert_eq!(round(&mut leader, &mut follower, at(50)), (Vec::new(), Vec::new()), "once");
    let twice = (Vec::new(), vec![wake(2, LEADER)]);
    assert_eq!(round(&mut leader, &mut follower, at(100)), twice);
}

#[test]
fn another_log_or_term_is_another_group() {
    let (mut leader, mut follower) = (vigil(LEADER, 0..2), vigil(FOLLOWER, 0..2));
    follower.note(at(0), &namespace(1), Some(group(1, FOLLOWER, 6)));
    round(&mut leader, &mut follower, at(50));
    let both = (vec![wake(1, FOLLOWER)], vec![wake(1, LEADER)]);
    assert_eq!(round(&mut leader, &mut follower, at(100)), both);
}

#[test]
fn a_difference_that_passes_wakes_nobody() {
    let (mut leader, mut follower) = (vigil(LEADER, 0..3), vigil(FOLLOWER, 0..2));
    round(&mut leader, &mut follower, at(50));
    // The message that the group falls asleep was a little late; another one wakes meanwhile.
    follower.note(at(60), &namespace(2), Some(group(2, FOLLOWER, 5)));
    follower.note(at(90), &namespace(1), None);
    assert_eq!(round(&mut leader, &mut follower, at(100)), (Vec::new(), Vec::new()));
    leader.note(at(110), &namespace(1), None);
    assert_eq!(round(&mut leader, &mut follower, at(150)), (Vec::new(), Vec::new()));
    // What was seen long ago is forgotten.
    follower.note(at(9_000), &namespace(2), None);
    for step in 4..200 {
        beat(&mut leader, at(step * 50));
    }
    assert_eq!(round(&mut leader, &mut follower, at(10_000)), (Vec::new(), Vec::new()));
}

#[test]
fn the_same_view_twice_is_one_look() {
    let (mut leader, mut follower) = (vigil(LEADER, 0..1), Vigil::new([2; 32]));
    let beat = beat(&mut leader, at(50));
    for _ in 0..3 {
        let (view, _) = follower.received(at(50), member(LEADER).node, beat.clone());
        let (_, actions) = leader.received(at(51), member(FOLLOWER).node, view.unwrap());
        assert_eq!(actions, []);
    }
}

#[test]
fn a_leader_that_beats_and_never_answers_is_lost() {
    let (mut leader, mut follower) = (vigil(LEADER, 0..1), vigil(FOLLOWER, 0..2));
    for step in 1..10 {
        let now = at(step * 50);
        let beat = beat(&mut leader, now);
        let (view, _) = follower.received(now, member(LEADER).node, beat);
        assert!(view.is_some(), "it differs");
        assert_eq!(follower.timeout(now), []);
    }
    assert_eq!(follower.timeout(at(501)).len(), 2);
}

#[test]
fn more_groups_than_a_frame_names_are_shown_in_turn() {
    let count = wire::GROUPS_MAX + 10;
    let (mut leader, mut follower) = (vigil(LEADER, 0..count), vigil(FOLLOWER, 0..count));
    leader.note(at(0), &namespace(3), None);
    let mut woken = Vec::new();
    for step in 1..=4 {
        let (here, there) = round(&mut leader, &mut follower, at(step * 50));
        assert_eq!(here, [], "what is beyond a view differs in nothing");
        woken.extend(there);
    }
    assert_eq!(woken, [wake(3, LEADER)]);
}

#[test]
fn a_beat_goes_on_a_handle_of_its_groups_and_no_more_are_tried_than_a_few() {
    let mut leader = vigil(LEADER, 0..100);
    let mut tried = BTreeSet::new();
    for step in 1..=20 {
        beat(&mut leader, at(step * 50));
        let paths: Vec<_> = leader.paths(member(FOLLOWER).node).collect();
        assert!(paths.len() <= PATHS_MAX && !paths.is_empty());
        tried.extend(paths.into_iter().map(|(namespace, _)| namespace.clone()));
        leader.no_path(member(FOLLOWER).node);
    }
    assert_eq!(tried.len(), 100, "each of them some time");
    assert_eq!(leader.paths(member(9).node).count(), 0);
}

//! Idle groups through whole nodes: they fall asleep, cost next to nothing, and wake when they are
//! asked for something or their leader is lost.

mod world;

use std::time::Duration;

use meshraft_service::wire::Reply;

use self::world::{Counts, IDLE, World, member, namespace, write};
use super::SleepEvent;

const BEAT: Duration = Duration::from_millis(50);
const ELECTION: Duration = Duration::from_millis(500);

/// A world in which every group sleeps.
fn asleep(count: usize, seed: u8) -> World {
    let mut world = World::new(count, seed, Some(IDLE));
    world.until("sleep", World::all_dormant);
    world
}

fn written(world: &World, call: u64) -> bool {
    matches!(world.answers.get(&call), Some((_, Ok(Reply::Written { .. }))))
}

#[test]
fn a_thousand_sleeping_namespaces_cost_what_one_does() {
    let mut world = asleep(1000, 1);
    // Until everybody was told all addresses often enough.
    world.run(Duration::from_secs(120));
    assert!(world.all_dormant());
    world.counts = Counts::default();
    let minutes = Duration::from_secs(600);
    world.run(minutes);
    assert!(world.all_dormant());
    let Counts { consensus, watch, others, timeouts, .. } = world.counts;
    let beats = usize::try_from(minutes.as_millis() / BEAT.as_millis()).unwrap();
    // Each of three nodes leads some, and speaks to two others.
    assert_eq!((consensus, others), (0, 0), "nothing is said for a namespace");
    assert!(watch <= beats * 6 && watch > beats * 5, "{watch} frames in {beats} beats");
    assert!(timeouts <= beats * 3, "{timeouts} deadlines");
    assert!(world.events.iter().all(|(.., event)| *event == SleepEvent::FellAsleep));
}

#[test]
fn a_hundred_idle_namespaces_say_a_fraction_of_what_they_would_awake() {
    let [awake, asleep] = [None, Some(IDLE)].map(|quiesce_after| {
        let mut world = World::new(100, 3, quiesce_after);
        world.run(Duration::from_secs(60));
        world.counts = Counts::default();
        world.run(Duration::from_secs(60));
        let Counts { consensus, watch, others, .. } = world.counts;
        (consensus + watch + others) / 60
    });
    println!("100 namespaces on 3 nodes: {awake} messages a second awake, {asleep} asleep");
    assert!(asleep * 50 < awake);
}

#[test]
fn the_first_write_wakes_one_group_and_no_other() {
    let mut world = asleep(5, 2);
    let leader = world.leader(3).unwrap();
    let call = world.call((leader + 1) % 3, 3, write());
    world.until("a write", |world| written(world, call));
    for seat in 0..3 {
        assert_eq!(world.asleep(seat), 4, "at {seat}");
    }
    assert_eq!(world.leader(3), Some(leader));
    world.until("sleep", World::all_dormant);
}

/// How long a namespace is without a leader after its node dies.
fn outage(sleeps: bool, noticed: bool, seed: u8) -> Duration {
    let mut world = World::new(1, seed, sleeps.then_some(IDLE));
    world.run(Duration::from_secs(5));
    assert_eq!(world.all_dormant(), sleeps);
    let leader = world.leader(0).unwrap();
    world.kill(leader, noticed);
    world.until("a leader", |world| world.leader(0).is_some_and(|it| it != leader))
}

#[test]
fn the_death_of_a_leaders_node_is_noticed_as_soon_as_awake() {
    for noticed in [true, false] {
        let mean = |sleeps| {
            let outages = (0..40).map(|seed| outage(sleeps, noticed, seed));
            let sum: Duration = outages.inspect(|it| assert!(*it < ELECTION * 4, "{it:?}")).sum();
            sum / 40
        };
        let (awake, asleep) = (mean(false), mean(true));
        println!("noticed {noticed}: awake {awake:?}, asleep {asleep:?}");
        assert!(asleep <= awake + BEAT, "awake {awake:?}, asleep {asleep:?}");
    }
}

#[test]
fn a_thousand_groups_of_a_lost_node_do_not_campaign_in_one_instant() {
    let mut world = asleep(1000, 4);
    let lost = 0;
    let led = (0..1000).filter(|number| world.leader(*number) == Some(lost)).count();
    assert!(led > 200, "it leads its share: {led}");
    world.kill(lost, true);
    world.counts = Counts::default();
    let mut most = 0;
    for _ in 0..3000 {
        let before = world.counts.prevotes;
        world.run(Duration::from_millis(1));
        most = most.max(world.counts.prevotes - before);
    }
    assert!((0..1000).all(|number| world.leader(number).is_some_and(|it| it != lost)));
    assert!(most < led / 10, "{most} of {led} groups in one millisecond");
    for seat in 1..3 {
        assert!(world.asleep(seat) <= 1000 - led, "no group sleeps that lacks a member");
        assert!(world.asleep(seat) > 0, "those of the others were not disturbed");
    }
}

#[test]
fn a_connection_that_is_back_in_time_wakes_nobody() {
    let mut world = asleep(9, 5);
    world.counts = Counts::default();
    world.events.clear();
    for step in 0..20 {
        world.part(step % 3, (step + 1) % 3);
        world.run(ELECTION - BEAT * 3);
        world.rejoin(step % 3, (step + 1) % 3);
        world.run(BEAT * 2);
    }
    assert!(world.all_dormant(), "{:?}", world.events);
    assert_eq!((world.counts.consensus, world.events.len()), (0, 0));
}

#[test]
fn a_leader_that_stays_away_is_told_of_once_and_met_again() {
    let mut world = asleep(1, 6);
    let leader = world.leader(0).unwrap();
    let (one, other) = ((leader + 1) % 3, (leader + 2) % 3);
    world.events.clear();
    for peer in [one, other] {
        world.part(leader, peer);
    }
    world.until("another leader", |world| {
        [one, other].iter().any(|seat| {
            let status = world.status(*seat, 0).unwrap();
            status.leader == Some(member(*seat).node)
        })
    });
    assert_eq!(world.status(leader, 0).unwrap().leader, Some(member(leader).node), "it sleeps on");
    assert!(world.status(leader, 0).unwrap().asleep);
    let lost = |world: &World| {
        let lost = SleepEvent::LeaderLost { leader: member(leader).node };
        world.events.iter().filter(|(.., event)| *event == lost).count()
    };
    assert!((1..=2).contains(&lost(&world)), "{:?}", world.events);
    for peer in [one, other] {
        world.rejoin(leader, peer);
    }
    world.until("one leader", |world| {
        let leaders: Vec<_> = (0..3).map(|seat| world.status(seat, 0).unwrap().leader).collect();
        leaders.iter().all(|it| *it == leaders[0] && *it != Some(member(leader).node))
    });
    world.until("sleep", World::all_dormant);
}

#[test]
fn who_missed_that_it_may_sleep_ends_the_sleep_of_the_others() {
    let mut world = asleep(2, 7);
    let leader = world.leader(0).unwrap();
    world.loses_quiesce = true;
    let call = world.call(leader, 0, write());
    world.until("a write", |world| written(world, call));
    world.events.clear();
    world.until("a leader that sleeps", |world| world.status(leader, 0).unwrap().asleep);
    assert!((0..3).all(|seat| world.asleep(seat) == 1 + usize::from(seat == leader)));
    world.loses_quiesce = false;
    world.until("its waking", |world| !world.status(leader, 0).unwrap().asleep);
    let disagreed = |event: &SleepEvent| matches!(event, SleepEvent::Disagreed { .. });
    assert!(world.events.iter().any(|(_, seat, _, event)| *seat == leader && disagreed(event)));
    world.until("sleep", World::all_dormant);
    assert_eq!(world.leader(0), Some(leader), "nobody had to campaign");
}

#[test]
fn a_leader_that_is_one_no_more_wakes_its_followers() {
    let mut world = asleep(8, 8);
    let leader = world.leader(0).unwrap();
    let others: Vec<_> = (1..8).filter(|number| world.leader(*number) == Some(leader)).collect();
    assert!(!others.is_empty(), "it leads others, and goes on to beat for them");
    world.close(leader, 0);
    let before = world.now;
    world.until("another leader", |world| world.leader(0).is_some_and(|it| it != leader));
    assert!(world.now.since(before) < ELECTION * 3);
    for number in others {
        assert_eq!(world.leader(number), Some(leader), "nothing changed for {number}");
    }
    let woken = world
        .events
        .iter()
        .filter(|(.., name, event)| *name == namespace(0) && *event != SleepEvent::FellAsleep);
    assert!(woken.count() > 0);
}

//! Snapshots through whole nodes: taken, recorded, offered, fetched, installed, restored.

mod world;

use std::time::Duration;

use meshraft_consensus::Index;
use meshraft_service::{
    ServiceError,
    kv::Found,
    wire::{Level, NodeRole},
};

use self::world::{SNAPSHOT_ENTRIES, World, member};
use super::{NodeEvent, RestoreFailure, SnapshotEvent};

fn started() -> World {
    let mut world = World::new();
    (0..3).for_each(|seat| world.start(seat));
    world
}

/// Writes enough for several snapshots through a node.
fn fill(world: &mut World, seat: usize, from: u64, count: u64) {
    for number in from..from + count {
        world.set(seat, &format!("k{:03}", number % 50), &format!("v{number}"));
    }
}

fn seen(world: &World, seat: usize, event: impl Fn(&SnapshotEvent) -> bool) -> bool {
    let is = |it: &NodeEvent| matches!(it, NodeEvent::Snapshot(snapshot) if event(snapshot));
    world.seats[seat].events.iter().any(is)
}

fn installed(world: &World, seat: usize) -> bool {
    seen(world, seat, |event| matches!(event, SnapshotEvent::Installed { .. }))
}

fn alike(world: &World) -> bool {
    let hashes: Vec<_> = (0..3).map(|seat| world.hash(seat)).collect();
    hashes[0].is_some() && hashes.iter().all(|hash| *hash == hashes[0])
}

/// A leader that is up, and a follower that was down while much was written and the log was cut.
fn with_a_laggard() -> (World, usize, usize) {
    let mut world = started();
    let leader = world.leader();
    let laggard = (leader + 1) % 3;
    fill(&mut world, leader, 0, 5);
    world.crash(laggard);
    fill(&mut world, leader, 5, 5 * SNAPSHOT_ENTRIES);
    let leader = world.leader();
    assert!(
        world.status(leader).first
            > world.seats[laggard].store.opened().namespaces[0].groups[0].last.index,
        "the log still reaches down to the laggard"
    );
    (world, leader, laggard)
}

#[test]
fn every_node_takes_snapshots_and_cuts_its_log() {
    let mut world = started();
    let leader = world.leader();
    fill(&mut world, leader, 0, 3 * SNAPSHOT_ENTRIES);
    world.until("all are alike", alike);
    for seat in 0..3 {
        let status = world.status(seat);
        assert!(status.snapshot > Index::new(2 * SNAPSHOT_ENTRIES), "{status:?}");
        assert_eq!(status.first, status.snapshot.next(), "nothing is kept behind it here");
        assert!(seen(&world, seat, |event| matches!(event, SnapshotEvent::Taken { .. })));
    }
}

#[test]
fn a_restart_goes_on_from_the_snapshot_and_what_follows() {
    let mut world = started();
    let leader = world.leader();
    fill(&mut world, leader, 0, 3 * SNAPSHOT_ENTRIES + 5);
    world.until("all are alike", alike);
    let before = world.hash(leader).unwrap();
    (0..3).for_each(|seat| world.crash(seat));
    (0..3).for_each(|seat| world.start(seat));
    world.leader();
    world.until("all are alike", |world| alike(world) && world.hash(0) > Some(before));
    let call = world.get(0, "k003", Level::Linearizable);
    world.until("an answer", |world| world.read(call).is_some());
    let Ok(Found::Value(Some((value, _)))) = Found::decode(&world.read(call).unwrap().unwrap())
    else {
        panic!("the pair is there")
    };
    assert_eq!(value, "v53");
}

#[test]
fn a_follower_whose_entries_are_gone_comes_back_by_a_snapshot() {
    let (mut world, leader, laggard) = with_a_laggard();
    world.start(laggard);
    world.until("all are alike", alike);
    assert!(installed(&world, laggard));
    assert!(seen(&world, leader, |event| matches!(event, SnapshotEvent::Sent { .. })));
    // It takes part as before.
    let follower = (0..3).find(|seat| ![leader, laggard].contains(seat)).unwrap();
    world.crash(follower);
    fill(&mut world, leader, 200, 3);
    assert!(world.status(laggard).snapshot > Index::ZERO);
    // And what it installed is what it restarts from.
    world.crash(laggard);
    world.start(laggard);
    world.start(follower);
    fill(&mut world, leader, 210, 3);
    world.until("all are alike", alike);
}

#[test]
fn reads_wait_for_the_snapshot_or_are_told_to_try_again() {
    let (mut world, _, laggard) = with_a_laggard();
    world.seats[laggard].holds = true;
    world.start(laggard);
    world.until("the state is away", |world| !world.seats[laggard].held.is_empty());
    let stale = world.get(laggard, "k001", Level::Stale);
    let fresh = world.get(laggard, "k001", Level::Linearizable);
    world.run(Duration::from_secs(1));
    assert_eq!(world.read(stale), Some(Err(ServiceError::Overloaded)), "no half of a state");
    assert_eq!(world.read(fresh), None, "it waits");
    world.release(laggard);
    world.until("an answer", |world| world.read(fresh).is_some());
    let Ok(Found::Value(Some((value, _)))) = Found::decode(&world.read(fresh).unwrap().unwrap())
    else {
        panic!("the pair is there")
    };
    assert_eq!(value, "v101");
}

#[test]
fn a_crash_during_the_installation_ends_in_the_snapshot() {
    let (mut world, _, laggard) = with_a_laggard();
    world.seats[laggard].holds = true;
    world.start(laggard);
    world.until("the state is away", |world| !world.seats[laggard].held.is_empty());
    world.crash(laggard);
    world.seats[laggard].holds = false;
    world.start(laggard);
    world.until("all are alike", alike);
    let fetched = world.seats[laggard]
        .events
        .iter()
        .filter(|event| matches!(event, NodeEvent::Snapshot(SnapshotEvent::Fetching { .. })));
    assert_eq!(fetched.count(), 1, "what was recorded is not fetched again");
}

/// Its state is nowhere but with the others: it answers nothing, deletes nothing, and is done with
/// this life when it hears a leader.
#[test]
fn who_lost_its_recorded_snapshot_waits_for_a_leader_and_begins_anew() {
    let mut world = started();
    let leader = world.leader();
    fill(&mut world, leader, 0, 2 * SNAPSHOT_ENTRIES);
    world.until("all are alike", alike);
    let group = world.seats[0].store.opened().namespaces[0].groups[0].clone();
    let at = group.snapshot.unwrap().position;
    (0..3).for_each(|seat| world.crash(seat));
    world.seats[0].files.rot(group.group, at, 300);
    world.start(0);
    let lost = |world: &World| {
        seen(world, 0, |event| {
            matches!(event, SnapshotEvent::Lost { at: told, why: RestoreFailure::Damaged(_) }
                if *told == at)
        })
    };
    world.until("it says so", lost);
    let stale = world.get(0, "k001", Level::Stale);
    world.run(Duration::from_secs(20));
    assert_eq!(world.read(stale), Some(Err(ServiceError::Overloaded)));
    let status = world.status(0);
    assert_eq!((status.role, status.halted), (NodeRole::Follower, None));
    assert_eq!(status.damaged.map(|damaged| damaged.repairable), Some(false));
    assert!(world.seats[0].files.read(group.group, at, None, 0, 1).is_ok(), "the file is there");

    (1..3).for_each(|seat| world.start(seat));
    let renewed = |world: &World| {
        let is = |event: &NodeEvent| matches!(event, NodeEvent::Amnesia { .. });
        world.seats[0].events.iter().any(is)
    };
    world.until("it begins anew", renewed);
    world.until("all are alike", alike);
}

#[test]
fn strangers_to_the_cluster_are_served_nothing() {
    let mut world = started();
    let leader = world.leader();
    fill(&mut world, leader, 0, 2 * SNAPSHOT_ENTRIES);
    let group = world.seats[leader].store.opened().namespaces[0].groups[0].clone();
    let position = group.snapshot.unwrap().position;
    let request =
        super::snapshot_wire::FetchRequest { position, id: None, offset: 0, bytes_max: 10 };
    let incarnation = member(2).incarnation;
    let cluster = meshraft_transport::Scope::Cluster(group.cluster);
    let free = meshraft_transport::Scope::Free;
    for (incarnation, scope, served) in [
        (Some(incarnation), cluster, true),
        (None, cluster, false),
        (Some(incarnation), free, false),
    ] {
        let body = world.ask(leader, incarnation, scope, request.encode());
        let chunk = matches!(body, super::snapshot_wire::FetchBody::Chunk { .. });
        assert_eq!(chunk, served, "{incarnation:?} {scope:?}: {body:?}");
    }
    let body = world.ask(leader, Some(incarnation), cluster, vec![9, 9].into());
    assert_eq!(body, super::snapshot_wire::FetchBody::Gone);
}

/// The machine of a namespace that was closed meanwhile is not the one that was opened then.
#[test]
fn a_state_that_comes_back_after_its_namespace_was_closed_is_nobodys() {
    let (mut world, _, laggard) = with_a_laggard();
    world.seats[laggard].holds = true;
    world.start(laggard);
    world.until("the state is away", |world| !world.seats[laggard].held.is_empty());
    world.reopen(laggard);
    world.until("another state is away", |world| world.seats[laggard].held.len() == 2);
    let late = world.seats[laggard].held.remove(0);
    world.hand(laggard, late);
    world.run(Duration::from_millis(100));
    assert_eq!(world.hash(laggard), None, "its own state is not there yet");
    world.release(laggard);
    world.until("all are alike", alike);
}

/// A cluster with a state of many blocks, and a follower without it.
fn with_a_large_state() -> (World, usize) {
    let mut world = started();
    let leader = world.leader();
    let laggard = (leader + 1) % 3;
    world.crash(laggard);
    for number in 0..3 * SNAPSHOT_ENTRIES {
        world.set(leader, &format!("k{number:03}"), &"v".repeat(4000));
    }
    world.until("a snapshot", |world| world.status(leader).snapshot > Index::new(40));
    (world, laggard)
}

#[test]
fn a_fetch_that_was_interrupted_goes_on_where_it_stopped() {
    let (mut world, laggard) = with_a_large_state();
    world.serves_bytes = 150_000;
    world.start(laggard);
    world.until("most of it", |world| world.seats[laggard].appended_bytes >= 150_000);
    world.crash(laggard);
    world.seats[laggard].resumed.clear();
    world.serves_bytes = usize::MAX;
    world.start(laggard);
    world.until("all are alike", alike);
    assert!(installed(&world, laggard));
    let resumed = world.seats[laggard].resumed[0];
    assert!(resumed > 0, "what was there is fetched again");
}

#[test]
fn a_fetch_goes_on_whatever_is_lost() {
    let (mut world, laggard) = with_a_large_state();
    world.loses = true;
    world.start(laggard);
    world.until("all are alike", alike);
    assert!(installed(&world, laggard));
}

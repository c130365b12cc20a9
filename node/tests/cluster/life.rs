//! The life of a member: it leaves and returns, is removed and stays out, loses its disk, votes or
//! waits for a place.

use std::{fs, num::NonZeroU16, path::Path, time::Duration};

use meshraft::{
    HeldBack, LeaveError, MemberRole, MemberStatus, NodeEvent, NodeId, NodeRole, OpenError,
    RejoinError, RemoveError, Status, Voters, WaitingCode,
};

use crate::support::{Cluster, NAMESPACE, PATIENCE, local};

/// A minute is what a request may take at most.
const LONG: Duration = Duration::from_secs(60);

fn entry(status: &Status, node: NodeId) -> Option<&MemberStatus> {
    status.members.iter().find(|member| member.member.node == node)
}

fn votes(status: &Status, node: NodeId) -> bool {
    entry(status, node).is_some_and(|member| member.role == MemberRole::Voter)
}

/// Neither joint nor with learners, and exactly this many voters.
fn settled(status: &Status, voters: usize) -> bool {
    status.members.len() == voters
        && status.members.iter().all(|member| member.role == MemberRole::Voter)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_leaves_and_returns() {
    let mut cluster = Cluster::ready(3).await;
    let leader = cluster.leader();
    let (leaver, other) = ((leader + 1) % 3, (leader + 2) % 3);
    let id = cluster.node(leaver).id();
    cluster.jobs(leader).set("before", "1").await.unwrap();

    cluster.jobs(leaver).leave().timeout(LONG).await.unwrap();
    let status = cluster.jobs(leaver).status().await.unwrap();
    assert_eq!(status.role, NodeRole::Left, "{status:#?}");
    assert_eq!(status.waiting.map(|waiting| waiting.code), Some(WaitingCode::Left));
    cluster.until(leader, "two voters", |status| settled(status, 2)).await;
    // Asked again, it has left already; the others go on.
    cluster.jobs(leaver).leave().await.unwrap();
    cluster.jobs(other).set("meanwhile", "2").await.unwrap();

    cluster.jobs(leaver).rejoin().await.unwrap();
    cluster.jobs(leaver).ready(PATIENCE).await.unwrap();
    cluster.until(leader, "three voters", |status| settled(status, 3)).await;
    assert!(votes(&cluster.jobs(leader).status().await.unwrap(), id));
    for (key, value) in [("before", "1"), ("meanwhile", "2")] {
        let found = cluster.jobs(leaver).get(key).stale().await.unwrap().unwrap();
        assert_eq!(found.value, value, "{key}");
    }

    // One that left comes back by itself when it is started again.
    cluster.jobs(leaver).leave().timeout(LONG).await.unwrap();
    cluster.stop_member(leaver).await;
    cluster.start_member(leaver).await;
    cluster.jobs(leaver).ready(PATIENCE).await.unwrap();
    cluster.until(leader, "three voters again", |status| settled(status, 3)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_leaves_its_own_cluster() {
    let cluster = Cluster::ready(3).await;
    let leader = cluster.leader();
    let other = (leader + 1) % 3;
    cluster.jobs(leader).set("before", "1").await.unwrap();
    cluster.jobs(leader).leave().timeout(LONG).await.unwrap();
    let role = cluster.jobs(leader).status().await.unwrap().role;
    assert_eq!(role, NodeRole::Left);
    cluster.jobs(other).set("after", "2").timeout(LONG).await.unwrap();
    cluster.until(other, "two voters", |status| settled(status, 2)).await;
    assert_ne!(cluster.jobs(other).leader(), Some(cluster.node(leader).id()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_node_stays_out_until_it_is_told_to_come_back() {
    let mut cluster = Cluster::ready(3).await;
    let leader = cluster.leader();
    let (removed, other) = ((leader + 1) % 3, (leader + 2) % 3);
    let id = cluster.node(removed).id();
    let members = cluster.jobs(other).remove(id).timeout(LONG).await.unwrap();
    assert_eq!(members.len(), 2);
    cluster.until(removed, "to know it", |status| status.role == NodeRole::Removed).await;
    let error = cluster.jobs(other).remove(id).await.unwrap_err();
    assert_eq!(error, RemoveError::UnknownMember { node: id });

    cluster.stop_member(removed).await;
    cluster.start_member(removed).await;
    // The others answer, and nothing brings it back: it is a learner of nobody.
    cluster.until(removed, "to know it still", |status| status.role == NodeRole::Removed).await;
    cluster.jobs(leader).set("while it is out", "1").await.unwrap();
    let status = cluster.jobs(removed).status().await.unwrap();
    assert_eq!(status.role, NodeRole::Removed);
    assert!(entry(&cluster.jobs(leader).status().await.unwrap(), id).is_none());

    cluster.jobs(removed).rejoin().await.unwrap();
    cluster.jobs(removed).ready(PATIENCE).await.unwrap();
    cluster.until(leader, "three voters", |status| settled(status, 3)).await;
    // On a member it does nothing.
    cluster.jobs(removed).rejoin().await.unwrap();
    assert!(votes(&cluster.jobs(leader).status().await.unwrap(), id));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_tells_how_many_may_fail_and_keeps_a_majority_that_lives() {
    let mut cluster = Cluster::ready(3).await;
    let leader = cluster.leader();
    cluster
        .until(leader, "room for a failure", |status| status.failure_tolerance() == Some(1))
        .await;
    let [dead, alive] = [(leader + 1) % 3, (leader + 2) % 3];
    assert_eq!(cluster.jobs(alive).status().await.unwrap().failure_tolerance(), None);
    let (dead_id, alive_id) = (cluster.node(dead).id(), cluster.node(alive).id());
    cluster.stop_member(dead).await;
    cluster.until(leader, "no room left", |status| status.failure_tolerance() == Some(0)).await;

    let refused = RemoveError::NoLiveMajority { live: 1, needed: 2 };
    assert_eq!(cluster.jobs(leader).remove(alive_id).await, Err(refused));
    cluster.jobs(leader).set("k", "v").await.unwrap();
    cluster.jobs(leader).remove(dead_id).await.unwrap();
    cluster.jobs(leader).remove(alive_id).await.unwrap();
    cluster.until(leader, "one voter", |status| settled(status, 1)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_t_be_left_is_not_left() {
    let mut cluster = Cluster::ready(1).await;
    assert_eq!(cluster.jobs(0).leave().await, Err(LeaveError::LastVoter));
    let id = cluster.node(0).id();
    assert_eq!(cluster.jobs(0).remove(id).await, Err(RemoveError::LastVoter));
    let stranger = NodeId::new([7; 32]);
    let unknown = RemoveError::UnknownMember { node: stranger };
    assert_eq!(cluster.jobs(0).remove(stranger).await, Err(unknown));
    cluster.jobs(0).set("k", "v").await.unwrap();

    let free = cluster.node(0).namespace("/free").expect(3).open().await.unwrap();
    assert_eq!(free.leave().await, Err(LeaveError::NotMember));
    assert_eq!(free.rejoin().await, Err(RejoinError::NotMember));
    let soon = Duration::from_millis(200);
    assert!(!free.remove(id).timeout(soon).await.unwrap_err().maybe_applied());
    cluster.stop_member(0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wiped_member_replaces_its_old_self_while_the_cluster_idles() {
    let mut cluster = Cluster::ready(3).await;
    let leader = cluster.leader();
    let wiped = (leader + 1) % 3;
    let id = cluster.node(wiped).id();
    cluster.jobs(leader).set("kept", "yes").await.unwrap();
    let before = cluster.jobs(wiped).status().await.unwrap().incarnation;
    cluster.stop_member(wiped).await;
    for file in fs::read_dir(cluster.folder_of(wiped)).unwrap() {
        let path = file.unwrap().path();
        if path.is_dir() {
            fs::remove_dir_all(path).unwrap();
        } else if path.file_name() != Some("identity".as_ref()) {
            fs::remove_file(path).unwrap();
        }
    }

    cluster.start_member(wiped).await;
    assert_eq!(cluster.node(wiped).id(), id, "the identity is the same");
    cluster.jobs(wiped).ready(PATIENCE).await.unwrap();
    let replaced = |status: &Status| {
        let lives: Vec<_> = status.members.iter().filter(|it| it.member.node == id).collect();
        settled(status, 3) && lives.len() == 1 && lives[0].member.incarnation != before
    };
    cluster.until(leader, "the new life in the old one's place", replaced).await;
    let found = cluster.jobs(wiped).get("kept").await.unwrap().unwrap();
    assert_eq!(found.value, "yes");
}

#[tokio::test(flavor = "multi_thread")]
async fn three_of_four_vote_and_the_fourth_takes_a_place_that_becomes_free() {
    let three = Voters::Target(NonZeroU16::new(3).unwrap());
    let mut cluster = Cluster::empty(3);
    for at in 0..3 {
        cluster.start_as(at, |jobs| jobs.expect(3).voters(three)).await;
    }
    for at in 0..3 {
        cluster.jobs(at).ready(PATIENCE).await.unwrap();
    }
    cluster.start_as(3, |jobs| jobs.join_only().voters(three)).await;
    cluster.jobs(3).ready(PATIENCE).await.unwrap();
    let leader = cluster.leader();
    let fourth = cluster.node(3).id();
    let held = |status: &Status| {
        entry(status, fourth).is_some_and(|it| it.held_back == Some(HeldBack::VotersTarget))
    };
    let status = cluster.until(leader, "the fourth to be held back", held).await;
    assert_eq!(entry(&status, fourth).unwrap().role, MemberRole::Learner);
    assert_eq!(status.members.iter().filter(|it| it.role == MemberRole::Voter).count(), 3);

    let leaver = (leader + 1) % 3;
    cluster.jobs(leaver).leave().timeout(LONG).await.unwrap();
    let takes = |status: &Status| settled(status, 3) && votes(status, fourth);
    cluster.until(leader, "the fourth to vote", takes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forced_bootstrap_is_remembered_and_not_repeated() {
    let mut cluster = Cluster::empty(1);
    cluster.start_as(0, |jobs| jobs.force_bootstrap()).await;
    cluster.jobs(0).ready(PATIENCE).await.unwrap();
    assert!(cluster.jobs(0).status().await.unwrap().forced);
    let mut events = cluster.jobs(0).events();
    let told = async { while !matches!(events.next().await.unwrap(), NodeEvent::Forced { .. }) {} };
    tokio::time::timeout(PATIENCE, told).await.expect("it is told");
    cluster.stop_member(0).await;

    let node = local(cluster.folder_of(0)).start().await.unwrap();
    let forced = node.namespace(NAMESPACE).force_bootstrap().open().await.unwrap_err();
    assert!(matches!(forced, OpenError::Forced { .. }), "{forced:?}");
    node.shutdown().await;
    cluster.start_as(0, |jobs| jobs).await;
    cluster.jobs(0).ready(PATIENCE).await.unwrap();
    assert!(cluster.jobs(0).status().await.unwrap().forced, "it is remembered");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_started_from_an_old_copy_begins_anew_and_loses_nothing() {
    let mut cluster = Cluster::ready(3).await;
    let leader = cluster.leader();
    let old = (leader + 1) % 3;
    let id = cluster.node(old).id();
    cluster.jobs(old).set("early", "1").await.unwrap();
    cluster.stop_member(old).await;
    let copy = tempfile::tempdir().unwrap();
    copy_folder(&cluster.folder_of(old), copy.path());

    cluster.start_member(old).await;
    for number in 0..20 {
        cluster.jobs(old).set(format!("late {number}"), "2").timeout(LONG).await.unwrap();
    }
    let before = cluster.jobs(old).status().await.unwrap().incarnation;
    cluster.stop_member(old).await;
    fs::remove_dir_all(cluster.folder_of(old)).unwrap();
    fs::create_dir(cluster.folder_of(old)).unwrap();
    copy_folder(copy.path(), &cluster.folder_of(old));

    cluster.start_member(old).await;
    let mut events = cluster.jobs(old).events();
    let told = async {
        loop {
            if let NodeEvent::Amnesia { lost, renewed, .. } = events.next().await.unwrap() {
                assert_eq!(lost, before);
                return renewed;
            }
        }
    };
    let renewed = tokio::time::timeout(PATIENCE, told).await.expect("the leader finds out");
    cluster.jobs(old).ready(PATIENCE).await.unwrap();
    let replaced = |status: &Status| {
        let lives: Vec<_> = status.members.iter().filter(|it| it.member.node == id).collect();
        settled(status, 3) && lives.len() == 1 && lives[0].member.incarnation == renewed
    };
    let leader = cluster.leader();
    cluster.until(leader, "the new life in the old one's place", replaced).await;
    cluster.jobs(old).set("last", "3").timeout(LONG).await.unwrap();
    for key in ["early", "late 0", "late 19", "last"] {
        assert!(cluster.jobs(old).get(key).await.unwrap().is_some(), "{key}");
    }

    // It is the new one for good.
    cluster.stop_member(old).await;
    cluster.start_member(old).await;
    cluster.jobs(old).ready(PATIENCE).await.unwrap();
    assert_eq!(cluster.jobs(old).status().await.unwrap().incarnation, renewed);
}

fn copy_folder(from: &Path, to: &Path) {
    for file in fs::read_dir(from).unwrap() {
        let path = file.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            fs::create_dir(&target).unwrap();
            copy_folder(&path, &target);
        } else {
            fs::copy(&path, &target).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_was_removed_while_it_was_down_learns_it_when_it_comes_back() {
    let mut cluster = Cluster::ready(3).await;
    let leader = cluster.leader();
    let (down, other) = ((leader + 1) % 3, (leader + 2) % 3);
    let id = cluster.node(down).id();
    cluster.stop_member(down).await;
    cluster.jobs(other).remove(id).timeout(LONG).await.unwrap();
    cluster.until(leader, "two voters", |status| settled(status, 2)).await;

    cluster.start_member(down).await;
    cluster.until(down, "to be told", |status| status.role == NodeRole::Removed).await;
    cluster.jobs(other).set("undisturbed", "1").await.unwrap();
    cluster.jobs(down).rejoin().await.unwrap();
    cluster.until(leader, "three voters", |status| settled(status, 3)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leave_that_finds_no_majority_goes_on_when_there_is_one() {
    let mut cluster = Cluster::ready(3).await;
    let others = [1, 2];
    for at in others {
        cluster.stop_member(at).await;
    }
    let error = cluster.jobs(0).leave().timeout(Duration::from_millis(500)).await.unwrap_err();
    assert!(error.maybe_applied(), "{error:?}");
    let waits = |status: &Status| {
        status.waiting.as_ref().is_some_and(|it| it.code == WaitingCode::Departure)
    };
    cluster.until(0, "to say that it leaves", waits).await;
    for at in others {
        cluster.start_member(at).await;
    }
    cluster.until(0, "to have left", |status| status.role == NodeRole::Left).await;
    cluster.until(1, "two voters", |status| settled(status, 2)).await;
    cluster.jobs(0).rejoin().await.unwrap();
    cluster.until(1, "three voters", |status| settled(status, 3)).await;
}

//! Three nodes form one cluster, take requests anywhere, and go on when one ends.

use std::time::Duration;

use meshraft::{ConfigBuilder, NodeEvent, ReadyError, ServiceError, WaitingCode, WriteError};

use crate::support::{Cluster, NAMESPACE, PATIENCE};

#[tokio::test(flavor = "multi_thread")]
async fn three_nodes_found_one_cluster_and_any_takes_writes_and_reads() {
    let cluster = Cluster::ready(3).await;
    let leader = cluster.leader();
    let [one, other] = [(leader + 1) % 3, (leader + 2) % 3];

    let revision = cluster.jobs(one).set("k", "v").await.unwrap();
    let read = cluster.jobs(other).get("k").linearizable().await.unwrap().unwrap();
    assert_eq!((read.value.as_ref(), read.revision), (b"v".as_ref(), revision));
    cluster.jobs(one).barrier(PATIENCE / 4).await.unwrap();
    let stale = cluster.jobs(one).get("k").stale().await.unwrap().unwrap();
    assert_eq!(stale.value, "v");

    let mut clusters = Vec::new();
    for member in cluster.running() {
        let status = member.jobs.status().await.unwrap();
        assert_eq!((status.node, status.members.len()), (member.node.id(), 3));
        assert_eq!(status.leader, Some(cluster.node(leader).id()));
        assert_eq!(member.jobs.members().voters.len(), 3);
        clusters.push(status.cluster.unwrap());
    }
    assert!(clusters.iter().all(|id| *id == clusters[0]), "{clusters:?}");

    let deleted = cluster.jobs(other).delete("k").await.unwrap();
    assert!(deleted.deleted && deleted.revision > revision);
    assert_eq!(cluster.jobs(one).get("k").await.unwrap(), None);
}

/// A follower answers a write before it has applied it itself: what its own caller reads next
/// must be waited for.
#[tokio::test(flavor = "multi_thread")]
async fn a_session_reads_its_own_writes_from_a_follower() {
    let cluster = Cluster::ready(3).await;
    let follower = cluster.jobs((cluster.leader() + 1) % 3);
    for number in 0..200 {
        let value = number.to_string();
        let revision = follower.set("k", value.clone()).await.unwrap();
        let read = follower.clone().get("k").session().await.unwrap().unwrap();
        assert_eq!((read.value, read.revision), (value.into(), revision));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_writers_share_a_handle_and_each_write_is_applied_once() {
    let cluster = Cluster::ready(3).await;
    let follower = (cluster.leader() + 1) % 3;
    let writers = (0..600_u32).map(|number| {
        let jobs = cluster.jobs(follower).clone();
        tokio::spawn(async move { jobs.set(format!("k{number:03}"), number.to_string()).await })
    });
    let mut revisions = Vec::new();
    for writer in writers.collect::<Vec<_>>() {
        revisions.push(writer.await.unwrap().unwrap());
    }
    revisions.sort_unstable();
    revisions.dedup();
    assert_eq!(revisions.len(), 600, "each write has an entry of its own");
    let other = (follower + 1) % 3;
    let mut listed = cluster.jobs(other).keys("k", None, 400).await.unwrap();
    assert!(listed.more);
    let rest = cluster.jobs(other).keys("k", listed.keys.last().cloned(), 400).await.unwrap();
    assert!(!rest.more);
    listed.keys.extend(rest.keys);
    let expected: Vec<_> = (0..600).map(|number| format!("k{number:03}")).collect();
    assert_eq!(listed.keys, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_outlives_its_leader_and_takes_it_back() {
    let mut cluster = Cluster::ready(3).await;
    let old = cluster.leader();
    cluster.jobs(old).set("before", "1").await.unwrap();
    let id = cluster.jobs(old).status().await.unwrap().cluster;
    cluster.stop_member(old).await;

    let survivor = (old + 1) % 3;
    cluster.jobs(survivor).set("after", "2").timeout(PATIENCE).await.unwrap();
    let new = cluster.leader();
    assert_ne!(new, old);

    cluster.start_member(old).await;
    cluster.jobs(old).ready(PATIENCE).await.unwrap();
    assert_eq!(cluster.jobs(old).status().await.unwrap().cluster, id);
    for (key, value) in [("before", "1"), ("after", "2")] {
        let stale = cluster.jobs(old).get(key).stale().await.unwrap().unwrap();
        assert_eq!(stale.value, value, "{key}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn all_go_on_where_they_were_after_a_restart_of_all() {
    let mut cluster = Cluster::ready(3).await;
    cluster.jobs(0).set("kept", "yes").await.unwrap();
    let id = cluster.jobs(0).status().await.unwrap().cluster;
    for at in 0..3 {
        cluster.stop_member(at).await;
    }
    for at in 0..3 {
        cluster.start_member(at).await;
    }
    for at in 0..3 {
        cluster.jobs(at).ready(PATIENCE).await.unwrap();
        let kept = cluster.jobs(at).get("kept").await.unwrap().unwrap();
        assert_eq!(kept.value, "yes");
        assert_eq!(cluster.jobs(at).status().await.unwrap().cluster, id);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_of_three_founders_wait_and_say_for_how_many() {
    let mut cluster = Cluster::empty(3);
    for at in 0..2 {
        cluster.start_member(at).await;
    }
    let both_are_there = async {
        loop {
            let status = cluster.jobs(0).status().await.unwrap();
            assert_eq!(status.cluster, None, "two founded where three are expected");
            let waiting = status.waiting.expect("a free node says what it waits for");
            assert_eq!((waiting.code, waiting.need), (WaitingCode::Founders, 3));
            if waiting.have == 2 {
                break;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, both_are_there).await.expect("the two see each other");
    let error = cluster.jobs(1).ready(Duration::from_millis(300)).await.unwrap_err();
    assert!(matches!(error, ReadyError::Timeout { .. }), "{error:?}");

    cluster.start_member(2).await;
    for at in 0..3 {
        cluster.jobs(at).ready(PATIENCE).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_node_joins_and_gets_everything() {
    let mut cluster = Cluster::ready(3).await;
    cluster.jobs(0).set("early", "bird").await.unwrap();
    cluster.members.push(None);
    cluster.start_member(3).await;
    cluster.jobs(3).ready(PATIENCE).await.unwrap();
    let found = cluster.jobs(3).get("early").stale().await.unwrap().unwrap();
    assert_eq!(found.value, "bird");
    let members = cluster.jobs(3).status().await.unwrap().members;
    assert_eq!(members.len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_node_gets_from_disk_what_its_leader_no_longer_keeps_in_memory() {
    const VALUE_BYTES: usize = 512 * 1024;
    const KEYS: usize = 40;
    let kept = ConfigBuilder::local().tail_bytes_max;
    assert!((KEYS * VALUE_BYTES) as u64 > kept, "some of the log must have left the memory");
    let mut cluster = Cluster::ready(1).await;
    for number in 0..KEYS {
        let value = vec![u8::try_from(number).unwrap(); VALUE_BYTES];
        cluster.jobs(0).set(number.to_string(), value).timeout(PATIENCE).await.unwrap();
    }
    cluster.members.push(None);
    cluster.start_member(1).await;
    cluster.jobs(1).ready(PATIENCE).await.unwrap();
    for number in 0..KEYS {
        let found = cluster.jobs(1).get(number.to_string()).stale().await.unwrap().unwrap();
        assert_eq!(found.value.len(), VALUE_BYTES);
        assert!(found.value.iter().all(|byte| usize::from(*byte) == number));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn events_tell_of_the_cluster_and_its_leader_from_the_beginning() {
    let cluster = Cluster::ready(1).await;
    let mut events = cluster.jobs(0).events();
    let (mut serving, mut leader) = (false, false);
    while !(serving && leader) {
        let event = tokio::time::timeout(PATIENCE, events.next()).await.unwrap().unwrap();
        serving |= matches!(event, NodeEvent::Serving { .. });
        leader |= matches!(event, NodeEvent::Leader { leader: Some(_), .. });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_majority_nothing_is_acknowledged_and_errors_say_what_may_be() {
    let mut cluster = Cluster::ready(3).await;
    let leader = cluster.leader();
    for other in [(leader + 1) % 3, (leader + 2) % 3] {
        cluster.stop_member(other).await;
    }
    let jobs = cluster.jobs(leader);
    let timeout = Duration::from_millis(1_500);
    let error = jobs.set("k", "v").timeout(timeout).await.unwrap_err();
    // Until it steps down, the old leader still takes the write, and then it may yet be applied.
    let WriteError::Service(reason) = &error else { panic!("{error:?}") };
    match reason {
        ServiceError::NoLeader => assert!(!error.maybe_applied()),
        ServiceError::Timeout { .. } => {}
        ServiceError::OutcomeUnknown => assert!(error.maybe_applied()),
        other => panic!("{other:?}"),
    }
    let read = jobs.get("k").timeout(timeout).await.unwrap_err();
    assert!(!read.maybe_applied());
    assert_eq!(jobs.get("k").stale().await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_namespaces_live_on_one_node_and_are_apart() {
    let cluster = Cluster::ready(1).await;
    let node = cluster.node(0);
    let mut others = Vec::new();
    for number in 0..20 {
        let other = node.namespace(format!("/other/{number}")).expect(1).open().await.unwrap();
        others.push(other);
    }
    for (number, other) in others.iter().enumerate() {
        other.ready(PATIENCE).await.unwrap();
        other.set("k", number.to_string()).await.unwrap();
    }
    for (number, other) in others.iter().enumerate() {
        assert_eq!(other.get("k").await.unwrap().unwrap().value, number.to_string());
    }
    assert_eq!(cluster.jobs(0).namespace().as_str(), NAMESPACE);
    assert_eq!(cluster.jobs(0).get("k").await.unwrap(), None);
}

//! Namespaces side by side, and closed and opened again while their node goes on.

use std::{collections::BTreeSet, time::Duration};

use meshraft::{NamespaceKey, NodeRole};

use crate::support::{Cluster, NAMESPACE, PATIENCE};

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_opened_again_goes_on_where_it_was() {
    let mut cluster = Cluster::ready(3).await;
    let other = cluster.node(0).namespace("/other").expect(1).open().await.unwrap();
    other.ready(PATIENCE).await.unwrap();
    cluster.jobs(0).set("k", "1").await.unwrap();
    let before = cluster.jobs(0).status().await.unwrap();

    for round in 2..6_u32 {
        cluster.jobs(0).clone().close().await;
        assert!(cluster.jobs(0).status().await.is_err(), "it is closed");
        // The other members and the other namespace go on without it.
        other.set("k", round.to_string()).await.unwrap();
        let written = cluster.jobs(1).set("k", round.to_string()).timeout(PATIENCE);
        written.await.unwrap();
        let again = cluster.node(0).namespace(NAMESPACE).expect(3).open().await.unwrap();
        again.ready(PATIENCE).await.unwrap();
        let found = again.get("k").linearizable().timeout(PATIENCE).await.unwrap().unwrap();
        assert_eq!(found.value, round.to_string());
        again.set(format!("round {round}"), "done").timeout(PATIENCE).await.unwrap();
        cluster.members[0].as_mut().unwrap().jobs = again;
    }
    let after = cluster.jobs(0).status().await.unwrap();
    assert_eq!(after.cluster, before.cluster);
    assert_eq!(after.incarnation, before.incarnation, "it is the same member");
    assert_eq!(after.members.len(), 3);
    assert_eq!(other.get("k").await.unwrap().unwrap().value, "5");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_of_one_is_read_again_from_its_disk() {
    let cluster = Cluster::ready(1).await;
    let node = cluster.node(0);
    for round in 0..5_u32 {
        let jobs = node.namespace("/alone").expect(1).open().await.unwrap();
        jobs.ready(PATIENCE).await.unwrap();
        if let Some(before) = round.checked_sub(1) {
            assert_eq!(jobs.get("k").await.unwrap().unwrap().value, before.to_string());
        }
        jobs.set("k", round.to_string()).await.unwrap();
        jobs.close().await;
    }
    assert_eq!(cluster.jobs(0).get("k").await.unwrap(), None, "nothing shows elsewhere");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_free_namespace_is_the_same_candidate_again() {
    let cluster = Cluster::ready(1).await;
    let free = || cluster.node(0).namespace("/free").expect(3).open();
    let first = free().await.unwrap();
    let before = first.status().await.unwrap();
    assert_eq!(before.role, NodeRole::Free);
    first.close().await;
    let again = free().await.unwrap();
    assert_eq!(again.status().await.unwrap().incarnation, before.incarnation);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_opening_may_bring_other_keys_and_settings() {
    let cluster = Cluster::ready(2).await;
    let key = || NamespaceKey::new([7; 32]);
    let mut open = Vec::new();
    for at in 0..2 {
        let jobs = cluster.node(at).namespace("/keys").expect(2).open().await.unwrap();
        open.push(jobs);
    }
    for jobs in &open {
        jobs.ready(PATIENCE).await.unwrap();
    }
    open[0].set("k", "open").await.unwrap();
    // One with a key and one without share nothing; with the same key they do again.
    open.remove(0).close().await;
    let sealed = cluster.node(0).namespace("/keys").expect(2).key(key()).open().await.unwrap();
    let error = sealed.set("k", "?").timeout(Duration::from_millis(700)).await.unwrap_err();
    assert!(!error.maybe_applied(), "{error}");
    open.remove(0).close().await;
    let other = cluster.node(1).namespace("/keys").expect(2).key(key()).open().await.unwrap();
    other.ready(PATIENCE).await.unwrap();
    sealed.set("k", "sealed").timeout(PATIENCE).await.unwrap();
    assert_eq!(other.get("k").timeout(PATIENCE).await.unwrap().unwrap().value, "sealed");
}

#[tokio::test(flavor = "multi_thread")]
async fn namespaces_with_names_like_paths_do_not_touch_each_other() {
    const NAMES: [&str; 5] = ["x", "x/log", "x/entries", "a_b", "a/b"];
    let cluster = Cluster::ready(3).await;
    let mut opened = Vec::new();
    for name in NAMES {
        let mut members = Vec::new();
        for at in 0..3 {
            members.push(cluster.node(at).namespace(name).expect(3).open().await.unwrap());
        }
        opened.push(members);
    }
    for (name, members) in NAMES.iter().zip(&opened) {
        members[0].ready(PATIENCE).await.unwrap();
        members[0].set("same key", *name).await.unwrap();
        members[1].set(format!("only in {name}"), "").await.unwrap();
    }
    let mut clusters = BTreeSet::new();
    for (name, members) in NAMES.iter().zip(&opened) {
        for jobs in members {
            let found = jobs.get("same key").await.unwrap().unwrap();
            assert_eq!(found.value, *name);
            let keys = jobs.keys("", None, 10).await.unwrap().keys;
            assert_eq!(keys, [format!("only in {name}"), "same key".to_owned()]);
        }
        let status = members[2].status().await.unwrap();
        assert!(clusters.insert(status.cluster.unwrap()), "{name} shares its cluster");
    }
    // One is left, the others keep their members.
    opened[0][1].leave().timeout(PATIENCE).await.unwrap();
    assert_eq!(opened[0][1].status().await.unwrap().role, NodeRole::Left);
    opened[1][1].set("still", "here").await.unwrap();
    assert_eq!(opened[1][1].status().await.unwrap().members.len(), 3);
}

//! Nodes of one test: each with its folder, so that one can end and start again.

use std::{path::PathBuf, time::Duration};

use meshraft::{NamespaceBuilder, NamespaceHandle, Node, NodeBuilder, NodeId, Status, Timing};
use tempfile::TempDir;
use tokio::time::Instant;

/// How long anything may take on a busy machine before the test fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The namespace of a test that needs only one.
pub(crate) const NAMESPACE: &str = "/test/embedded";

/// Folders and running nodes of a test.
pub(crate) struct Cluster {
    folder: TempDir,
    pub(crate) members: Vec<Option<Member>>,
}

/// One running node with its namespace.
pub(crate) struct Member {
    pub(crate) node: Node,
    pub(crate) jobs: NamespaceHandle,
}

/// Settings of a node on loopback, with quick time-outs.
pub(crate) fn local(folder: PathBuf) -> NodeBuilder {
    let builder = Node::builder().data_dir(folder).listen("/ip4/127.0.0.1/tcp/0").mdns(false);
    builder.timing(Timing::Local)
}

impl Cluster {
    /// `size` members that are not started.
    pub(crate) fn empty(size: usize) -> Self {
        Self { folder: tempfile::tempdir().unwrap(), members: (0..size).map(|_| None).collect() }
    }

    /// Starts `size` nodes that expect each other, and waits until every one serves.
    pub(crate) async fn ready(size: usize) -> Self {
        let mut cluster = Self::empty(size);
        for at in 0..size {
            cluster.start_member(at).await;
        }
        for at in 0..size {
            cluster.jobs(at).ready(PATIENCE).await.unwrap();
        }
        cluster
    }

    /// Starts a member, in its folder, with the addresses of those that run.
    pub(crate) async fn start_member(&mut self, at: usize) {
        let size = u16::try_from(self.members.len()).unwrap();
        self.start_as(at, |jobs| jobs.expect(size)).await;
    }

    /// As [`Self::start_member`], with other settings of its namespace.
    pub(crate) async fn start_as(
        &mut self,
        at: usize,
        settings: impl FnOnce(NamespaceBuilder) -> NamespaceBuilder,
    ) {
        let seeds: Vec<_> = self.running().flat_map(|member| member.node.addresses()).collect();
        let node = local(self.folder_of(at)).peers(seeds).start().await.unwrap();
        let jobs = settings(node.namespace(NAMESPACE)).open().await.unwrap();
        self.members.resize_with(self.members.len().max(at + 1), || None);
        self.members[at] = Some(Member { node, jobs });
    }

    /// Waits until what a member says of itself fits; fails with `what` when it takes too long.
    pub(crate) async fn until(
        &self,
        at: usize,
        what: &str,
        fits: impl Fn(&Status) -> bool,
    ) -> Status {
        let start = Instant::now();
        loop {
            let status = self.jobs(at).status().await.unwrap();
            if fits(&status) {
                return status;
            }
            assert!(start.elapsed() < PATIENCE, "waited {PATIENCE:?} for: {what}\n{status:#?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Ends a member in order; its folder stays.
    pub(crate) async fn stop_member(&mut self, at: usize) {
        if let Some(member) = self.members[at].take() {
            member.node.shutdown().await;
        }
    }

    pub(crate) fn folder_of(&self, at: usize) -> PathBuf {
        self.folder.path().join(at.to_string())
    }

    pub(crate) fn jobs(&self, at: usize) -> &NamespaceHandle {
        &self.members[at].as_ref().expect("the member runs").jobs
    }

    pub(crate) fn node(&self, at: usize) -> &Node {
        &self.members[at].as_ref().expect("the member runs").node
    }

    pub(crate) fn running(&self) -> impl Iterator<Item = &Member> {
        self.members.iter().flatten()
    }

    /// The member that leads, as the first running one says.
    pub(crate) fn leader(&self) -> usize {
        let leader = self.running().find_map(|member| member.jobs.leader()).expect("a leader");
        self.position(leader)
    }

    fn position(&self, node: NodeId) -> usize {
        let is = |member: &Option<Member>| member.as_ref().is_some_and(|it| it.node.id() == node);
        self.members.iter().position(is).expect("the leader runs")
    }
}

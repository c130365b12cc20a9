//! Members of different releases: what is in force, what it gates, and who is too old for it.

use std::io::{self, Read};

use bytes::Bytes;
use meshraft::{
    CheckError, ClusterVersion, Command, HaltReason, Index, MemberRole, NamespaceBuilder,
    NodeEvent, NotAdmitted, QueryError, ServiceError, SnapshotWriter, StateMachine, Status,
    WriteError,
};
use meshraft_service::{Feature, wire::Halted};

use crate::support::{Cluster, PATIENCE};

const ONE: ClusterVersion = ClusterVersion::new(1);
const TWO: ClusterVersion = ClusterVersion::new(2);

/// Counts its commands. `new` is one that releases before version 2 do not know.
struct Release {
    supports: ClusterVersion,
    commands: u64,
}

impl StateMachine for Release {
    fn check(&self, payload: &[u8]) -> Result<(), CheckError> {
        match payload {
            b"old" => Ok(()),
            b"new" if self.supports >= TWO => Ok(()),
            _ => Err(CheckError::Kind { kind: 1 }),
        }
    }

    fn needs(&self, payload: &[u8]) -> ClusterVersion {
        if payload == b"new" { TWO } else { ONE }
    }

    fn apply(&mut self, commands: &[Command<'_>]) -> Vec<Bytes> {
        self.commands += commands.len() as u64;
        vec![Bytes::new(); commands.len()]
    }

    fn query(&self, _query: &[u8], _applied: Index) -> Result<Bytes, QueryError> {
        Ok(self.commands.to_string().into())
    }

    fn snapshot(&self) -> SnapshotWriter {
        let commands = self.commands;
        Box::new(move |to| to.write_all(&commands.to_be_bytes()))
    }

    fn restore(&mut self, snapshot: &mut dyn Read) -> io::Result<()> {
        let mut bytes = [0; 8];
        snapshot.read_exact(&mut bytes)?;
        self.commands = u64::from_be_bytes(bytes);
        Ok(())
    }
}

fn release(supports: ClusterVersion) -> impl FnOnce(NamespaceBuilder) -> NamespaceBuilder {
    move |jobs| of_release(jobs.expect(3), supports)
}

fn join(jobs: NamespaceBuilder, supports: ClusterVersion) -> NamespaceBuilder {
    of_release(jobs.join_only(), supports)
}

fn of_release(jobs: NamespaceBuilder, supports: ClusterVersion) -> NamespaceBuilder {
    let machine = Release { supports, commands: 0 };
    jobs.machine(machine).supports(supports).snapshot_entries(20)
}

async fn propose(cluster: &Cluster, at: usize, command: &'static str) -> Result<(), WriteError> {
    cluster.jobs(at).propose(command).timeout(PATIENCE).await.map(|_| ())
}

fn in_force(version: ClusterVersion) -> impl Fn(&Status) -> bool {
    move |status| status.in_force == Some(version)
}

/// The rolling upgrade of an operator: one node after the other, and the new command works from the
/// moment on at which the last one is there. A node that goes back after that stands still.
#[tokio::test(flavor = "multi_thread")]
async fn a_version_comes_into_force_with_the_last_member_and_stays() {
    let mut cluster = Cluster::empty(3);
    for at in 0..3 {
        cluster.start_as(at, release(if at == 2 { ONE } else { TWO })).await;
    }
    for at in 0..3 {
        cluster.jobs(at).ready(PATIENCE).await.unwrap();
    }
    let leader = cluster.leader();
    let oldest = cluster.node(2).id();
    let knows_all = |status: &Status| status.members.iter().all(|it| it.supports.is_some());
    let status = cluster.until(leader, "what all members support", knows_all).await;
    assert_eq!(status.in_force, Some(ONE));
    let holds_back: Vec<_> = status.held_back_by().map(|it| it.member.node).collect();
    assert_eq!(holds_back, if leader == 2 { vec![] } else { vec![oldest] });
    propose(&cluster, 0, "old").await.unwrap();
    let refused = propose(&cluster, 0, "new").await.unwrap_err();
    assert!(!refused.maybe_applied());
    let gate = WriteError::Service(ServiceError::NotInForce { needed: TWO, in_force: ONE });
    if leader == 2 {
        let unknown = WriteError::Service(ServiceError::Unsupported(Feature::Command));
        assert_eq!(refused, unknown, "an old leader does not know it at all");
    } else {
        assert_eq!(refused, gate);
    }

    cluster.stop_member(2).await;
    cluster.start_as(2, release(TWO)).await;
    cluster.jobs(2).ready(PATIENCE).await.unwrap();
    for at in 0..3 {
        cluster.until(at, "version 2 in force", in_force(TWO)).await;
    }
    for _ in 0..60 {
        propose(&cluster, 1, "new").await.unwrap();
    }
    let snapshot = |status: &Status| status.snapshot > Index::new(20);
    cluster.until(2, "a snapshot with version 2 in it", snapshot).await;

    cluster.stop_member(2).await;
    cluster.start_as(2, release(ONE)).await;
    let halted = |status: &Status| status.halted == Some(Halted::ClusterVersion);
    cluster.until(2, "an old release to halt", halted).await;
    propose(&cluster, 0, "new").await.unwrap();

    // Nothing was deleted: the newer release goes on.
    cluster.stop_member(2).await;
    cluster.start_as(2, release(TWO)).await;
    cluster.jobs(2).ready(PATIENCE).await.unwrap();
    let answer = cluster.jobs(2).query("").linearizable().await.unwrap();
    assert_eq!(answer.response, "62");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_too_old_is_not_admitted_and_says_so() {
    let mut cluster = Cluster::empty(3);
    for at in 0..3 {
        cluster.start_as(at, release(TWO)).await;
    }
    cluster.until(0, "version 2 in force", in_force(TWO)).await;
    cluster.start_as(3, |jobs| join(jobs, ONE)).await;
    let too_old = Some(NotAdmitted::TooOld { supports: ONE, in_force: TWO });
    let why = |status: &Status| status.waiting.as_ref().and_then(|waiting| waiting.why);
    cluster.until(3, "the refusal", |status| why(status) == too_old).await;
    assert_eq!(cluster.jobs(0).status().await.unwrap().members.len(), 3);

    cluster.stop_member(3).await;
    cluster.start_as(3, |jobs| join(jobs, TWO)).await;
    cluster.jobs(3).ready(PATIENCE).await.unwrap();
    let four = |status: &Status| {
        let voters = status.members.iter().filter(|it| it.role == MemberRole::Voter);
        voters.count() == 4
    };
    cluster.until(0, "the fourth voter", four).await;
}

/// The replica tells when a version comes into force, and why it stands still.
#[tokio::test(flavor = "multi_thread")]
async fn events_tell_of_versions() {
    let mut cluster = Cluster::empty(1);
    cluster.start_as(0, |jobs| jobs.expect(1).supports(TWO)).await;
    told(&cluster, NodeEvent::Version { in_force: TWO }).await;
    cluster.stop_member(0).await;
    cluster.start_as(0, |jobs| jobs.expect(1)).await;
    let reason = HaltReason::ClusterVersion { needed: TWO, supports: ONE };
    told(&cluster, NodeEvent::Halted { reason }).await;
}

/// Waits until the first member tells this.
async fn told(cluster: &Cluster, wanted: NodeEvent) {
    let mut events = cluster.jobs(0).events();
    let telling = async { while events.next().await.unwrap() != wanted {} };
    tokio::time::timeout(PATIENCE, telling).await.expect("it is told");
}

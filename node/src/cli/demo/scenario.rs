//! What the demo does, step by step; each step is one check.

use std::{
    collections::BTreeMap,
    io::{self, Write},
    time::Duration,
};

use meshraft::{CallError, Client, ConnectError};
use meshraft_consensus::{ClusterId, Namespace, NamespaceError, Term};
use meshraft_service::wire::{Level, Status};
use meshraft_transport::KeyRing;
use serde_json::json;
use tokio::{
    task::{JoinError, JoinSet},
    time::{Instant, sleep},
};

use super::{
    super::Chain,
    load::Load,
    nodes::{COUNT, Nodes, NodesError, Running, name},
    report::{Report, Step},
};

/// How long a step may wait for one thing.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often a condition is looked at.
const LOOK: Duration = Duration::from_millis(5);
/// Acknowledged writes before the leader is killed.
const BEFORE_THE_KILL: usize = 400;
/// Acknowledged writes after all members are there again.
const AFTER_THE_RESTART: usize = 200;
/// Acknowledged writes are read back by so many readers at once.
const READERS: usize = 32;

/// The demo under way.
pub(super) struct Demo {
    nodes: Nodes,
    client: Client,
    cluster: Option<ClusterId>,
}

/// Why a step could not be done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(super) enum DemoError {
    /// A node does not run.
    #[error(transparent)]
    Nodes(#[from] NodesError),
    /// The random namespace is none.
    #[error(transparent)]
    Namespace(#[from] NamespaceError),
    /// There is no client.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// A request failed.
    #[error("{what}: {code}")]
    Call {
        /// What was asked.
        what: &'static str,
        /// The code of the error.
        code: &'static str,
        /// The error.
        #[source]
        source: CallError,
    },
    /// Something did not happen in time.
    #[error("{what} did not happen within {} s", PATIENCE.as_secs())]
    Waited {
        /// What.
        what: &'static str,
    },
    /// A task of the demo panicked.
    #[error("a task of the demo panicked")]
    Task(#[from] JoinError),
    /// The output is closed.
    #[error("the output is closed")]
    Output(#[from] io::Error),
}

impl Demo {
    /// Runs all steps; whether all of them passed.
    ///
    /// # Errors
    /// When the demo can't even begin, or nobody can be told of it.
    pub(super) async fn run<W: Write>(mut report: Report<W>) -> Result<bool, DemoError> {
        let start = Instant::now();
        let mut nodes = Nodes::new()?;
        report.begin(nodes.namespace())?;
        match form(&mut nodes).await {
            Err(error) => report.tell(&broken("formation", &error))?,
            Ok((client, cluster, step)) => {
                report.tell(&step)?;
                let mut demo = Self { nodes, client, cluster };
                demo.steps(&mut report).await?;
                nodes = demo.nodes;
            }
        }
        if !report.is_ok() {
            eprint!("{}", nodes.logs());
        }
        drop(nodes);
        report.end(start.elapsed())?;
        Ok(report.is_ok())
    }

    async fn steps<W: Write>(&mut self, report: &mut Report<W>) -> io::Result<()> {
        let (leader, followers) = match self.roles().await {
            Ok(roles) => roles,
            Err(error) => return report.tell(&broken("roles", &error)),
        };
        let write = self.write(followers[0]).await;
        report.tell(&settle("write", write))?;
        let read = self.read(followers[1]).await;
        report.tell(&settle("read", read))?;
        let load = Load::start(&self.client);
        let kill = self.kill(leader, &load).await;
        report.tell(&settle("kill", kill))?;
        let fail_over = self.fail_over().await;
        report.tell(&settle("fail-over", fail_over))?;
        let restart = self.restart(leader).await;
        report.tell(&settle("restart", restart))?;
        let check = self.check(load).await;
        report.tell(&settle("check", check))
    }

    /// Who leads, and the two who don't, by their numbers.
    async fn roles(&self) -> Result<(usize, [usize; 2]), DemoError> {
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            let status = call("status", self.client.status().await)?;
            let leader = status.leader.and_then(|leader| self.nodes.number(leader));
            if let Some(leader) = leader {
                return Ok((leader, [(leader + 1) % COUNT, (leader + 2) % COUNT]));
            }
            sleep(LOOK).await;
        }
        Err(DemoError::Waited { what: "an election" })
    }

    async fn write(&self, follower: usize) -> Result<Step, DemoError> {
        let client = self.via(follower);
        let start = Instant::now();
        let revision = call("set", client.set("greeting", "hello").await)?;
        let (elapsed, name, revision) = (start.elapsed(), name(follower), revision.get());
        let detail = format!("greeting = \"hello\" through follower {name}, revision {revision}");
        let step = Step::passed("write", detail).took(elapsed);
        Ok(step.fact("via", name).fact("revision", revision))
    }

    async fn read(&self, follower: usize) -> Result<Step, DemoError> {
        let client = self.via(follower);
        let start = Instant::now();
        let found = call("get", client.get("greeting", Level::Linearizable).await)?;
        let (elapsed, name) = (start.elapsed(), name(follower));
        let value = found.map(|found| String::from_utf8_lossy(&found.value).into_owned());
        let right = value.as_deref() == Some("hello");
        let shown = value.as_ref().map_or_else(|| "absent".into(), |value| format!("{value:?}"));
        let detail = format!("greeting = {shown} from follower {name}, linearizable");
        let step = if right { Step::passed("read", detail) } else { Step::failed("read", detail) };
        Ok(step.took(elapsed).fact("via", name).fact("value", value))
    }

    async fn kill(&mut self, leader: usize, load: &Load) -> Result<Step, DemoError> {
        grow(load, BEFORE_THE_KILL).await?;
        let acknowledged = load.acknowledged();
        let pid = self.nodes.running().find(|(number, _)| *number == leader);
        let pid = pid.map(|(_, running)| running.pid());
        self.nodes.kill(leader);
        let name = name(leader);
        let detail =
            format!("kill -9 of leader {name} under load, {acknowledged} writes acknowledged");
        let step = Step::passed("kill", detail).fact("node", name).fact("pid", pid);
        Ok(step.fact("acknowledged", acknowledged))
    }

    /// The next acknowledged write that began after the kill.
    async fn fail_over(&self) -> Result<Step, DemoError> {
        let start = Instant::now();
        let client = self.client.timeout(PATIENCE);
        call("set", client.set("after", "the kill").await)?;
        let elapsed = start.elapsed();
        let (leader, term) = self.new_leader().await?;
        let name = name(leader);
        let detail = format!("the next acknowledged write; {name} leads in term {term}");
        let step = Step::passed("fail-over", detail).took(elapsed);
        Ok(step.fact("leader", name).fact("term", term.get()))
    }

    async fn new_leader(&self) -> Result<(usize, Term), DemoError> {
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            for (number, running) in self.nodes.running() {
                let status = call("status", self.client.via(running.node).status().await)?;
                if status.leader == Some(running.node) {
                    return Ok((number, status.term));
                }
            }
            sleep(LOOK).await;
        }
        Err(DemoError::Waited { what: "a new leader" })
    }

    /// Until the killed node has applied everything that was acknowledged before.
    async fn restart(&mut self, number: usize) -> Result<Step, DemoError> {
        let start = Instant::now();
        let peers = self.nodes.running().take(1).map(|(_, one)| one.address_text()).collect();
        self.nodes.start(number, peers).await?;
        for (_, running) in self.nodes.running() {
            call("add a peer", self.client.add_peer(running.address.clone()).await)?;
        }
        let index = call("barrier", self.via(number).barrier(PATIENCE).await)?;
        let elapsed = start.elapsed();
        let name = name(number);
        let detail = format!("{name} is back on a new port and has caught up to index {index}");
        let step = Step::passed("restart", detail).took(elapsed);
        Ok(step.fact("node", name).fact("index", index.get()))
    }

    /// Every acknowledged write is read from every member's own state, behind a barrier.
    async fn check(&self, load: Load) -> Result<Step, DemoError> {
        grow(&load, AFTER_THE_RESTART).await?;
        let notes = load.stop().await;
        let start = Instant::now();
        let mut missing = Vec::new();
        let mut clusters = true;
        for (number, running) in self.nodes.running() {
            let client = self.client.via(running.node).timeout(PATIENCE);
            call("barrier", client.barrier(PATIENCE).await)?;
            let lost = read_back(&client, &notes.acknowledged).await?;
            missing.extend(lost.into_iter().map(|key| format!("{key} on {}", name(number))));
            let status = call("status", client.status().await)?;
            clusters &= status.cluster == self.cluster;
        }
        let members = self.nodes.running().count();
        let (acknowledged, uncertain) = (notes.acknowledged.len(), notes.uncertain);
        let ok = missing.is_empty() && clusters && members == COUNT && acknowledged > 0;
        let mut detail = format!("{acknowledged} acknowledged writes, ");
        match missing.first() {
            None => detail.push_str("every one is there on all three members"),
            Some(first) => detail.push_str(&format!("{} missing, as {first}", missing.len())),
        }
        if !clusters {
            detail.push_str("; the cluster is not the same any more");
        }
        let step = Step { ok, ..Step::passed("check", detail) }.took(start.elapsed());
        Ok(step
            .fact("acknowledged", acknowledged)
            .fact("uncertain", uncertain)
            .fact("refused", notes.refused)
            .fact("missing", missing.len())
            .fact("members", members))
    }

    fn via(&self, number: usize) -> Client {
        let running = self.nodes.running().find(|(other, _)| *other == number);
        let client = self.client.timeout(PATIENCE);
        running.map_or_else(|| client.clone(), |(_, running)| client.via(running.node))
    }
}

/// Waits until the load has `more` acknowledged writes than now.
async fn grow(load: &Load, more: usize) -> Result<(), DemoError> {
    let (start, goal) = (Instant::now(), load.acknowledged() + more);
    while load.acknowledged() < goal {
        if start.elapsed() > PATIENCE {
            return Err(DemoError::Waited { what: "enough write load" });
        }
        sleep(LOOK).await;
    }
    Ok(())
}

/// Starts the nodes, and waits until each of them serves.
async fn form(nodes: &mut Nodes) -> Result<(Client, Option<ClusterId>, Step), DemoError> {
    let start = Instant::now();
    let mut peers = Vec::new();
    for number in 0..COUNT {
        nodes.start(number, peers).await?;
        // The first is given no address, each later one its predecessor's.
        let predecessor = nodes.running().last();
        peers = predecessor.map(|(_, running)| running.address_text()).into_iter().collect();
    }
    let listening = Instant::now();
    let namespace = Namespace::new(nodes.namespace())?;
    let addresses = nodes.running().map(|(_, running)| running.address.clone());
    let client = Client::connect(namespace, addresses, KeyRing::open()).await?;
    for (_, running) in nodes.running() {
        let member = client.via(running.node);
        call("barrier", member.barrier(PATIENCE).await)?;
    }
    let (elapsed, founding) = (start.elapsed(), listening.elapsed());
    let status = call("status", client.status().await)?;
    let (step, cluster) = (formed(nodes, &status), status.cluster);
    let founding = super::report::milliseconds(founding);
    Ok((client, cluster, step.took(elapsed).fact("after_last_listening_ms", founding)))
}

fn formed(nodes: &Nodes, status: &Status) -> Step {
    let members = status.members.len();
    let cluster = status.cluster.map(|cluster| cluster.to_string()).unwrap_or_default();
    let detail = format!(
        "three processes found each other and founded cluster {}",
        cluster.get(..8).unwrap_or_default()
    );
    let describe = |(number, running): (usize, &Running)| {
        let (peer, address) = (running.peer(), running.address_text());
        json!({ "name": name(number), "pid": running.pid(), "peer": peer, "address": address })
    };
    let nodes: Vec<_> = nodes.running().map(describe).collect();
    let ok = members == COUNT && !cluster.is_empty();
    Step { ok, ..Step::passed("formation", detail) }
        .fact("cluster_id", cluster)
        .fact("members", members)
        .fact("nodes", nodes)
}

/// The keys that a member's own state does not hold with their values.
async fn read_back(
    client: &Client,
    expected: &BTreeMap<String, String>,
) -> Result<Vec<String>, DemoError> {
    let mut lost = Vec::new();
    let mut readers = JoinSet::new();
    let mut pairs = expected.iter();
    loop {
        while readers.len() < READERS
            && let Some((key, value)) = pairs.next()
        {
            let (client, key, value) = (client.clone(), key.clone(), value.clone());
            readers.spawn(async move {
                let found = client.get(key.clone(), Level::Stale).await?;
                let there = found.is_some_and(|found| found.value == value.as_bytes());
                Ok((!there).then_some(key))
            });
        }
        match readers.join_next().await {
            None => return Ok(lost),
            Some(read) => lost.extend(call("get", read?)?),
        }
    }
}

fn call<T>(what: &'static str, result: Result<T, CallError>) -> Result<T, DemoError> {
    result.map_err(|source| DemoError::Call { what, code: source.code(), source })
}

/// A step as it went, or as what kept it from being done.
fn settle(name: &'static str, step: Result<Step, DemoError>) -> Step {
    step.unwrap_or_else(|error| broken(name, &error))
}

/// A step that could not be done.
fn broken(name: &'static str, error: &DemoError) -> Step {
    Step::failed(name, Chain(error).to_string())
}

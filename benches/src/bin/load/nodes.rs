//! Nodes as processes of their own, on real disks, on the loopback interface: three of them where
//! nothing else is said.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use meshraft::{
    Client, KeyRing, Multiaddr, Namespace, NodeId,
    identity::node_id,
    process::{Listening, Server, ServerCommand},
};
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use crate::Outcome;

const COUNT: usize = 3;
const LISTENING: Duration = Duration::from_secs(10);
/// How long one attempt of a first write may take.
const ATTEMPT: Duration = Duration::from_secs(10);

/// One running node.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Running {
    /// Its number here.
    pub(crate) number: usize,
    /// Who it is.
    pub(crate) node: NodeId,
    /// Its process.
    pub(crate) process: u32,
}

/// Nodes, running or not.
pub(crate) struct Nodes {
    program: PathBuf,
    namespace: Namespace,
    timing: String,
    /// Dropped before the folder, so that no process finds its folder gone.
    running: BTreeMap<usize, (Server, Listening)>,
    folder: TempDir,
}

impl Nodes {
    /// No node runs yet; their folders are in a fresh one in `dir`.
    pub(crate) fn new(program: &Path, dir: Option<&Path>, timing: &str) -> Outcome<Self> {
        let folder = match dir {
            Some(dir) => TempDir::new_in(dir)?,
            None => tempfile::tempdir()?,
        };
        let program = fs::canonicalize(program)?;
        let namespace = Namespace::new("/bench")?;
        Ok(Self { program, folder, namespace, timing: timing.into(), running: BTreeMap::new() })
    }

    /// Their namespace.
    pub(crate) const fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// Starts those that don't run, each with the address of one that does.
    pub(crate) async fn start_all(&mut self) -> Outcome<()> {
        for node in 1..=COUNT {
            if self.running.contains_key(&node) {
                continue;
            }
            let peer = self.running.values().next_back().and_then(address);
            self.start(node, |command| {
                command.expect = Some(3);
                command.peers.extend(peer);
            })
            .await?;
        }
        Ok(())
    }

    /// Starts one node, its command line changed by `change`, and waits until it listens.
    pub(crate) async fn start(
        &mut self,
        node: usize,
        change: impl FnOnce(&mut ServerCommand),
    ) -> Outcome<()> {
        let mut command =
            ServerCommand::new(&self.program, self.data_dir(node), self.namespace.as_str());
        command.timing.clone_from(&self.timing);
        change(&mut command);
        let mut server = command.spawn()?;
        let listening = server.listening(LISTENING).await?;
        self.running.insert(node, (server, listening));
        Ok(())
    }

    /// Where a node keeps its data.
    pub(crate) fn data_dir(&self, node: usize) -> PathBuf {
        self.folder.path().join(format!("n{node}"))
    }

    /// Kills one node as `kill -9` does.
    pub(crate) fn kill_number(&mut self, node: usize) {
        self.running.remove(&node);
    }

    /// The numbers, ids and process ids of those that run.
    pub(crate) fn running(&self) -> Outcome<Vec<Running>> {
        let running = self.running.iter().map(|(&number, (server, listening))| {
            Ok(Running { number, node: node_id(listening.peer.parse()?)?, process: server.pid() })
        });
        running.collect()
    }

    /// Kills all of them as `kill -9` does.
    pub(crate) fn kill_all(&mut self) {
        self.running.clear();
    }

    /// Kills the one with this peer id.
    pub(crate) fn kill(&mut self, peer: &str) {
        self.running.retain(|_, (_, listening)| listening.peer != peer);
    }

    /// Where those that run listen.
    pub(crate) fn addresses(&self) -> Vec<Multiaddr> {
        self.running.values().filter_map(address).filter_map(|text| text.parse().ok()).collect()
    }

    /// A client that knows all that run.
    pub(crate) async fn client(&self) -> Outcome<Client> {
        let peers = self.addresses();
        Ok(Client::connect(self.namespace.clone(), peers, KeyRing::open()).await?)
    }

    /// Writes once and says how long that took from now.
    pub(crate) async fn first_write(&self, patience: Duration) -> Outcome<Duration> {
        let start = Instant::now();
        let client = self.client().await?.timeout(ATTEMPT.min(patience));
        loop {
            match client.set("first", "write").await {
                Ok(_) => return Ok(start.elapsed()),
                Err(error) if start.elapsed() > patience => return Err(error.into()),
                Err(_) => sleep(Duration::from_millis(1)).await,
            }
        }
    }
}

fn address((_, listening): &(Server, Listening)) -> Option<String> {
    listening.address().map(str::to_owned)
}

/// Who leads.
pub(crate) async fn leader(client: &Client) -> Outcome<NodeId> {
    let start = Instant::now();
    loop {
        if let Some(leader) = client.status().await?.leader {
            return Ok(leader);
        }
        if start.elapsed() > LISTENING {
            return Err("no leader appeared".into());
        }
        sleep(Duration::from_millis(5)).await;
    }
}

/// A member that does not lead.
pub(crate) async fn follower(client: &Client) -> Outcome<NodeId> {
    let leader = leader(client).await?;
    let members = client.members().await?;
    let mut nodes = members.iter().map(|status| status.member.node);
    Ok(nodes.find(|node| *node != leader).ok_or("there is no follower")?)
}

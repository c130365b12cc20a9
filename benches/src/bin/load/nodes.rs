//! Three nodes as processes of their own, on real disks, on the loopback interface.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use meshraft::{
    Client, KeyRing, Multiaddr, Namespace, NodeId,
    process::{Listening, Server, ServerCommand},
};
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use crate::Outcome;

const COUNT: usize = 3;
const LISTENING: Duration = Duration::from_secs(10);
/// How long one attempt of a first write may take.
const ATTEMPT: Duration = Duration::from_secs(10);

/// Three nodes, running or not.
pub(crate) struct Nodes {
    program: PathBuf,
    folder: TempDir,
    namespace: Namespace,
    timing: String,
    running: BTreeMap<usize, (Server, Listening)>,
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
            let folder = self.folder.path().join(format!("n{node}"));
            let mut command = ServerCommand::new(&self.program, folder, self.namespace.as_str());
            command.expect = Some(3);
            command.timing.clone_from(&self.timing);
            command.peers.extend(self.running.values().next_back().and_then(address));
            let mut server = command.spawn()?;
            let listening = server.listening(LISTENING).await?;
            self.running.insert(node, (server, listening));
        }
        Ok(())
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

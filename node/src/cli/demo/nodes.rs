//! The demo's three nodes: processes of this executable, each with a data folder of its own.

use std::{env, fs, io, path::PathBuf, time::Duration};

use libp2p::{Multiaddr, PeerId};
use meshraft::process::{Listening, ListeningError, Server, ServerCommand, SpawnError};
use meshraft_consensus::NodeId;
use meshraft_transport::identity::node_id;

use super::folder::{FolderError, TemporaryFolder, random_name};

/// How many nodes there are.
pub(super) const COUNT: usize = 3;
const LISTENING: Duration = Duration::from_secs(10);
/// How much of a node's log is shown when something failed.
const LOG_LINES_MAX: usize = 20;

/// The nodes, and the folder that holds theirs.
#[derive(Debug)]
pub(super) struct Nodes {
    // Dropped in this order: the processes end before their folder goes.
    running: [Option<Running>; COUNT],
    folder: TemporaryFolder,
    program: PathBuf,
    namespace: String,
}

/// One that runs.
#[derive(Debug)]
pub(super) struct Running {
    server: Server,
    listening: Listening,
    /// Its id.
    pub(super) node: NodeId,
    /// Where it listens.
    pub(super) address: Multiaddr,
}

/// Why a node does not run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(super) enum NodesError {
    /// There is no folder for the nodes.
    #[error("there is no folder for the nodes")]
    Folder(#[from] FolderError),
    /// The operating system gave no randomness for the namespace.
    #[error("the operating system gave no randomness")]
    Randomness(#[source] getrandom::Error),
    /// This executable does not know where it is.
    #[error("the own executable was not found")]
    Program(#[source] io::Error),
    /// A process was not started.
    #[error(transparent)]
    Spawn(#[from] SpawnError),
    /// A process does not listen.
    #[error("{name} does not listen")]
    Listening {
        /// The node.
        name: &'static str,
        /// Why.
        #[source]
        source: ListeningError,
    },
    /// A process says that it listens, and not where or as whom.
    #[error("{name} does not say where it listens: {listening:?}")]
    Address {
        /// The node.
        name: &'static str,
        /// What it said.
        listening: Listening,
    },
}

/// What a node is called.
pub(super) const fn name(number: usize) -> &'static str {
    ["n1", "n2", "n3"][number]
}

impl Nodes {
    /// No node runs yet.
    pub(super) fn new() -> Result<Self, NodesError> {
        let namespace = format!("/demo/{}", random_name().map_err(NodesError::Randomness)?);
        let program = env::current_exe().map_err(NodesError::Program)?;
        let folder = TemporaryFolder::create()?;
        Ok(Self { running: [const { None }; COUNT], folder, program, namespace })
    }

    /// Their namespace.
    pub(super) fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Starts a node, gives it these addresses, and waits until it listens.
    pub(super) async fn start(
        &mut self,
        number: usize,
        peers: Vec<String>,
    ) -> Result<(), NodesError> {
        let name = name(number);
        let folder = self.folder.path();
        let mut command = ServerCommand::new(&self.program, folder.join(name), &self.namespace);
        command.expect = Some(COUNT as u16);
        command.peers = peers;
        command.log = Some(folder.join(format!("{name}.log")));
        let mut server = command.spawn()?;
        let listening = server.listening(LISTENING).await;
        let listening = listening.map_err(|source| NodesError::Listening { name, source })?;
        let node = listening.peer.parse::<PeerId>().ok().and_then(|peer| node_id(peer).ok());
        let address = listening.address().and_then(|address| address.parse().ok());
        let (Some(node), Some(address)) = (node, address) else {
            return Err(NodesError::Address { name, listening });
        };
        self.running[number] = Some(Running { server, listening, node, address });
        Ok(())
    }

    /// Kills a node as `kill -9` does.
    pub(super) fn kill(&mut self, number: usize) {
        self.running[number] = None;
    }

    /// Those that run, with their numbers.
    pub(super) fn running(&self) -> impl Iterator<Item = (usize, &Running)> {
        self.running.iter().enumerate().filter_map(|(number, node)| Some((number, node.as_ref()?)))
    }

    /// The number of a node that runs.
    pub(super) fn number(&self, node: NodeId) -> Option<usize> {
        self.running().find(|(_, running)| running.node == node).map(|(number, _)| number)
    }

    /// The last lines of every node's log.
    pub(super) fn logs(&self) -> String {
        let mut logs = String::new();
        for number in 0..COUNT {
            let path = self.folder.path().join(format!("{}.log", name(number)));
            let log = fs::read_to_string(path).unwrap_or_default();
            let lines: Vec<_> = log.lines().collect();
            for line in &lines[lines.len().saturating_sub(LOG_LINES_MAX)..] {
                logs.push_str(&format!("{}: {line}\n", name(number)));
            }
        }
        logs
    }
}

impl Running {
    /// Its process id.
    pub(super) fn pid(&self) -> u32 {
        self.server.pid()
    }

    /// Its address as it printed it.
    pub(super) fn address_text(&self) -> String {
        self.address.to_string()
    }

    /// Its peer id as it printed it.
    pub(super) fn peer(&self) -> &str {
        &self.listening.peer
    }
}

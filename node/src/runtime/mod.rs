//! Tasks and threads: turns the outputs of the [`Host`] value into deeds, and deeds into inputs.
//!
//! Only this module spawns. One task drives the host; the transport brings its own; the store has
//! its writer thread; reads of the log take blocking threads.

pub(crate) mod board;
pub(crate) mod command;
mod driver;
mod loads;
pub(crate) mod network;

use std::{path::PathBuf, time::Duration};

use libp2p::Multiaddr;
use meshraft_consensus::NodeId;
use meshraft_storage::{DataDir, Store, StoreOptions};
use meshraft_transport::{Limits, Transport, TransportConfig, identity::Identity};
use tokio::sync::{mpsc, watch};

use self::command::Command;
use crate::{
    api::StartError,
    clock::Clock,
    host::{Host, HostConfig},
    shutdown::{Ending, Life},
};

/// Commands that wait for the driver; more make their callers wait.
const COMMANDS_MAX: usize = 4_096;
/// Acknowledgements that wait for the driver; more make the store's writer wait.
const ACKS_MAX: usize = 1_024;
/// How long the system may take to listen.
const LISTEN_WAIT: Duration = Duration::from_secs(10);

/// What a node is started with; checked by the builder.
pub(crate) struct Setup {
    pub(crate) data_dir: PathBuf,
    pub(crate) listen: Vec<Multiaddr>,
    pub(crate) peers: Vec<Multiaddr>,
    pub(crate) stall: Duration,
}

/// The outer ends of a running node.
#[derive(Clone, Debug)]
pub(crate) struct Running {
    pub(crate) node: NodeId,
    pub(crate) commands: mpsc::Sender<Command>,
    pub(crate) addresses: watch::Receiver<Vec<Multiaddr>>,
    pub(crate) life: Life,
}

/// Starts a node and waits until it listens.
///
/// The order keeps a refused start harmless: the folder is checked and locked before anything in
/// it is touched, the identity is read before the store is opened.
pub(crate) async fn start(setup: Setup) -> Result<Running, StartError> {
    let path = setup.data_dir.to_path_buf();
    let (acknowledge, acks) = mpsc::channel(ACKS_MAX);
    let opening = tokio::task::spawn_blocking(move || {
        let dir = DataDir::open(&path)
            .map_err(|source| StartError::DataDir { path: path.clone(), source })?;
        let file = dir.path().join("identity");
        let identity = Identity::load_or_create(&file)
            .map_err(|source| StartError::Identity { path: file, source })?;
        // Fails only if the driver has ended, and then nobody waits for what is durable.
        let tell = move |ack| drop(acknowledge.blocking_send(ack));
        let (store, opened) = Store::open(&dir, StoreOptions::default(), tell)
            .map_err(|source| StartError::Store { path, source })?;
        Ok((dir, identity, store, opened))
    });
    let (dir, identity, store, opened) = opening.await.map_err(|_| StartError::Panicked)??;
    let node = identity.node_id();
    let config = TransportConfig {
        identity,
        listen: setup.listen.clone(),
        stall: setup.stall,
        limits: Limits::default(),
    };
    let (transport, network) = Transport::start(config).await.map_err(StartError::Transport)?;
    for peer in setup.peers {
        transport.add_address(network::named_node(&peer), peer);
    }
    let clock = Clock::start();
    let host = Host::new(HostConfig { node, seed: seed()?, now: clock.now() }, opened);
    let (commands, receiver) = mpsc::channel(COMMANDS_MAX);
    let (addresses, mut listening) = watch::channel(Vec::new());
    let (ending, life) = Life::new();
    spawn(driver::Parts {
        node, host, clock, transport, network, store, acks, commands: receiver, addresses, ending,
    }, dir);
    let listens = listening.wait_for(|addresses: &Vec<_>| !addresses.is_empty());
    if !setup.listen.is_empty() {
        match tokio::time::timeout(LISTEN_WAIT, listens).await {
            Ok(Ok(_)) => {}
            Ok(Err(_)) | Err(_) => return Err(StartError::NotListening { waited: LISTEN_WAIT }),
        }
    }
    Ok(Running { node, commands, addresses: listening, life })
}

fn spawn(parts: driver::Parts, dir: DataDir) {
    tokio::spawn(async move {
        driver::run(parts).await;
        // The lock on the data folder is held until nothing writes there any more.
        drop(dir);
    });
}

fn seed() -> Result<[u8; 32], StartError> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(StartError::Randomness)?;
    Ok(seed)
}

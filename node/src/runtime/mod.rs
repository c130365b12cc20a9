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
    shutdown::{Life, StopReason},
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
    pub(crate) addresses: watch::Receiver<Vec<Multiaddr>>,
    commands: mpsc::Sender<Command>,
    life: Life,
}

impl Running {
    /// Hands a command to the driver. The command is dropped, and with it its answer's channel,
    /// if the node has ended; the error says why it has.
    pub(crate) async fn send(&self, command: Command) -> Result<(), StopReason> {
        let sent = self.commands.send(command).await.is_ok();
        if sent { Ok(()) } else { Err(self.ended().await) }
    }

    /// Waits until the node has ended. Cancel-safe.
    pub(crate) async fn ended(&self) -> StopReason {
        self.life.clone().ended().await
    }
}

/// Starts a node and waits until it listens.
///
/// The order keeps a refused start harmless: the folder is checked and locked before anything in
/// it is touched, the identity is read before the store is opened.
pub(crate) async fn start(setup: Setup) -> Result<Running, StartError> {
    let path = setup.data_dir.to_path_buf();
    let (acknowledge, acks) = mpsc::channel(ACKS_MAX);
    let opening = tokio::task::spawn_blocking(move || {
        let dir = DataDir::open(&path)?;
        let identity = Identity::load_or_create(dir.path().join("identity"))?;
        // Fails only if the driver has ended, and then nobody waits for what is durable.
        let tell = move |ack| drop(acknowledge.blocking_send(ack));
        let (store, opened) = Store::open(&dir, StoreOptions::default(), tell)
            .map_err(|source| StartError::Store { path, source })?;
        // The store holds the lock on the folder from here on.
        Ok((identity, store, opened))
    });
    let (identity, store, opened) = opening.await.unwrap_or(Err(StartError::Panicked))?;
    let node = identity.node_id();
    let config = TransportConfig {
        identity,
        listen: setup.listen.clone(),
        stall: setup.stall,
        limits: Limits::default(),
    };
    let (transport, network) = match Transport::start(config).await {
        Ok(started) => started,
        Err(error) => {
            // Closed before the caller learns of it, so that the folder is free again.
            let _ = tokio::task::spawn_blocking(move || store.close()).await;
            return Err(error.into());
        }
    };
    for peer in setup.peers {
        transport.add_address(network::named_node(&peer), peer);
    }
    let clock = Clock::start();
    let host = Host::new(HostConfig { node, seed: seed()? }, opened, clock.now());
    let (commands, receiver) = mpsc::channel(COMMANDS_MAX);
    let (addresses, listening) = watch::channel(Vec::new());
    let (ending, life) = Life::new();
    tokio::spawn(driver::run(driver::Parts {
        node,
        host,
        clock,
        transport,
        network,
        store,
        acks,
        commands: receiver,
        addresses,
        ending,
    }));
    let running = Running { node, commands, addresses: listening, life };
    listens(running, setup.listen.len()).await
}

/// Waits until the node listens at as many addresses as it was told; ends it if it does not.
async fn listens(running: Running, count: usize) -> Result<Running, StartError> {
    let mut addresses = running.addresses.clone();
    let known = addresses.wait_for(|addresses| addresses.len() >= count);
    if let Ok(Ok(_)) = tokio::time::timeout(LISTEN_WAIT, known).await {
        return Ok(running);
    }
    // Fails only if the node has ended already.
    let _ = running.send(Command::Shutdown).await;
    running.ended().await;
    Err(StartError::NotListening { waited: LISTEN_WAIT })
}

fn seed() -> Result<[u8; 32], StartError> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(StartError::Randomness)?;
    Ok(seed)
}

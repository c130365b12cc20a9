//! Tasks and threads: turns the outputs of the [`Host`] value into deeds, and deeds into inputs.
//!
//! Only this module spawns. One task drives the host; the transport brings its own; the store has
//! its writer thread; reads of the log and work on snapshots take blocking threads.

pub(crate) mod board;
pub(crate) mod command;
mod driver;
mod listen;
mod loads;
pub(crate) mod network;
mod reopen;
mod snapshots;

use std::{path::PathBuf, sync::Arc, time::Duration};

use libp2p::Multiaddr;
use meshraft_consensus::NodeId;
use meshraft_storage::{Ack, DataDir, Opened, SnapshotOptions, Snapshots, Store, StoreOptions};
use meshraft_transport::{
    AddressSource, PeerAddress, Transport, TransportConfig,
    identity::{Identity, OpenIdentity},
};
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
    pub(crate) peers: Vec<PeerAddress>,
    pub(crate) stall: Duration,
    pub(crate) mdns: bool,
    pub(crate) open_identity: OpenIdentity,
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

/// What a data folder holds, opened.
struct Folder {
    identity: Identity,
    store: Store,
    opened: Opened,
    snapshots: Snapshots,
}

/// Starts a node and waits until it listens.
///
/// The order keeps a refused start harmless: where to listen is tried before the folder is created,
/// the folder is checked and locked before anything in it is touched, the identity is read before
/// the store is opened.
pub(crate) async fn start(setup: Setup) -> Result<Running, StartError> {
    listen::check(&setup.listen)?;
    let (acknowledge, acks) = mpsc::channel(ACKS_MAX);
    let folder = open(setup.data_dir.clone(), setup.open_identity, acknowledge).await?;
    assemble(setup, folder, acks).await
}

async fn open(
    path: PathBuf,
    open_identity: OpenIdentity,
    acknowledge: mpsc::Sender<Ack>,
) -> Result<Folder, StartError> {
    let opening = tokio::task::spawn_blocking(move || {
        let dir = DataDir::open(&path)?;
        let identity_path = dir.path().join("identity");
        if !identity_path.exists() && dir.has_log() {
            return Err(StartError::IdentityMissing { path: identity_path });
        }
        let identity = Identity::load_or_create(identity_path, open_identity)?;
        // Fails only if the driver has ended, and then nobody waits for what is durable.
        let tell = move |ack| drop(acknowledge.blocking_send(ack));
        // The store holds the lock on the folder from here on.
        let (store, opened) = Store::open(&dir, StoreOptions::default(), tell)
            .map_err(|source| StartError::Store { path: path.clone(), source })?;
        let snapshots = Snapshots::open(&dir, SnapshotOptions::default())
            .map_err(|source| StartError::Snapshots { path, source })?;
        if let Err(error) = snapshots.sweep(&opened) {
            // What is left over costs space and nothing else.
            tracing::warn!(%error, "left-over snapshots not removed");
        }
        Ok(Folder { identity, store, opened, snapshots })
    });
    opening.await.unwrap_or(Err(StartError::Panicked))
}

async fn assemble(
    setup: Setup,
    folder: Folder,
    acks: mpsc::Receiver<Ack>,
) -> Result<Running, StartError> {
    let Setup { listen, peers, stall, mdns, .. } = setup;
    let Folder { identity, store, opened, snapshots } = folder;
    let node = identity.node_id();
    let signatures = Arc::new(identity.signatures());
    let sockets = listen.len();
    let mut config = TransportConfig::new(identity, listen);
    (config.stall, config.mdns) = (stall, mdns);
    let started = match seed() {
        Ok(seed) => {
            Transport::start(config).await.map(|started| (started, seed)).map_err(Into::into)
        }
        Err(error) => Err(error),
    };
    let ((transport, network), seed) = match started {
        Ok(started) => started,
        Err(error) => {
            // Closed before the caller learns of it, so that the folder is free again.
            let _ = tokio::task::spawn_blocking(move || store.close()).await;
            return Err(error);
        }
    };
    for peer in peers {
        transport.add_address(None, peer, AddressSource::Configured);
    }
    let clock = Clock::start();
    let host = Host::new(HostConfig { node, seed, signatures }, opened, clock.now());
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
        snapshots,
        acks,
        commands: receiver,
        addresses,
        ending,
    }));
    listens(Running { node, commands, addresses: listening, life }, sockets).await
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

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;

    use meshraft_consensus::Namespace;
    use meshraft_service::{
        envelope::VERSION_LATEST,
        kv::{Kv, KvCommand},
        wire::Operation,
    };
    use meshraft_storage::WriteError;
    use meshraft_transport::KeyRing;
    use tokio::sync::oneshot;

    use super::{
        command::{Call, Open},
        *,
    };
    use crate::{
        config::Pace,
        host::{HaltReason, NamespaceOptions, NodeEvent},
    };

    fn options() -> NamespaceOptions {
        NamespaceOptions {
            expect: std::num::NonZeroU16::new(3),
            found: true,
            window: Pace::WINDOW,
            threshold_percent: 80,
            force: false,
            voters_target: 5,
            core: Pace::default().core(None).unwrap(),
            machine: Box::new(Kv::new()),
            supports: VERSION_LATEST,
            snapshot_bytes: NamespaceOptions::SNAPSHOT_BYTES,
            snapshot_entries: NamespaceOptions::SNAPSHOT_ENTRIES,
            known: Vec::new(),
            targets: 0,
            keyed: false,
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_failed_store_ends_the_node_and_answers_whoever_waits() {
        let dir = tempfile::tempdir().unwrap();
        let setup = Setup {
            data_dir: dir.path().into(),
            listen: vec!["/ip4/127.0.0.1/tcp/0".parse().unwrap()],
            peers: Vec::new(),
            stall: Duration::from_secs(1),
            mdns: false,
            open_identity: OpenIdentity::Refuse,
        };
        let (acknowledge, acks) = mpsc::channel(ACKS_MAX);
        let opening = open(setup.data_dir.clone(), setup.open_identity, acknowledge.clone());
        let folder = opening.await.unwrap();
        let running = assemble(setup, folder, acks).await.unwrap();
        let namespace = Namespace::new("/n").unwrap();
        let (answer, opened) = oneshot::channel();
        let keys = KeyRing::open();
        let open = Open { namespace: namespace.clone(), options: options(), keys, answer };
        running.send(Command::Open(Box::new(open))).await.unwrap();
        let mut events = opened.await.unwrap().unwrap().events();
        let (answer, response) = oneshot::channel();
        let operation = Operation::Write {
            session: meshraft_service::SessionId::NONE,
            sequence: meshraft_service::Sequence::ZERO,
            acked_below: meshraft_service::Sequence::ZERO,
            payload: KvCommand::Delete { key: "k".into() }.encode(),
        };
        let timeout = Duration::from_secs(60);
        let call = Call { namespace, operation, timeout, answer, permit: None };
        running.send(Command::Call(call)).await.unwrap();

        let failure = WriteError::Io { kind: ErrorKind::Other, code: Some(5) };
        acknowledge.send(Ack::Failed(failure)).await.unwrap();
        assert_eq!(running.ended().await, StopReason::StoreFailed);
        let refused = response.await.expect("the host answers before the node ends");
        assert!(refused.is_err_and(|error| !error.maybe()), "nothing was proposed yet");
        let mut halted = false;
        while let Ok(event) = events.recv().await {
            halted |= matches!(event, NodeEvent::Halted { reason: HaltReason::StoreFailed });
        }
        assert!(halted, "the namespace says why it stopped");
        let late = running.send(Command::Shutdown).await;
        assert_eq!(late, Err(StopReason::StoreFailed));
    }
}

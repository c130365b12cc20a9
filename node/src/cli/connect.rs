//! What every command that is a client does first: read the keys, connect, and run.

use std::process::ExitCode;

use meshraft::{Client, ConnectError, KeyFileError, KeyRing, Namespace, read_key_file};
use meshraft_transport::{AddressErrors, PeerAddress};

use super::{Chain, Global, TargetArgs, failed, usage};

/// Why a client's options can't be used: bad input, exit code 2.
#[derive(Debug, thiserror::Error)]
enum TargetError {
    #[error("{0}")]
    Namespace(&'static str),
    #[error("--peer ADDRESS is needed here, to say which node is meant")]
    NoPeer,
    #[error("--peer: {0}")]
    Addresses(#[from] AddressErrors),
    #[error(transparent)]
    Key(#[from] KeyFileError),
}

/// Whom a command may ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// Every member, the learned ones included; where none is named, those on the local network.
    All,
    /// Those that the command line names, one at least: it wants to hear of them.
    Named,
}

/// Checks the options, then runs `command` with a client on a runtime of its own.
pub(crate) fn with_client(
    target: &TargetArgs,
    global: &Global,
    reach: Reach,
    command: impl AsyncFnOnce(Client) -> ExitCode,
) -> ExitCode {
    let (namespace, keys, peers) = match checked(target, global, reach) {
        Ok(checked) => checked,
        Err(error) => return usage(Chain(&error)),
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error),
    };
    let code = runtime.block_on(async {
        let client = match reach {
            Reach::All if peers.is_empty() => Client::discover(namespace, keys).await,
            Reach::All => Client::connect(namespace, peers, keys).await,
            Reach::Named => Client::connect_only(namespace, peers, keys).await,
        };
        match client {
            Ok(client) => command(client).await,
            Err(error @ (ConnectError::Addresses(_) | ConnectError::NoPeers)) => usage(error),
            Err(error) => failed(&error),
        }
    });
    // A read of standard input that still waits must not hold the process.
    runtime.shutdown_background();
    code
}

fn checked(
    target: &TargetArgs,
    global: &Global,
    reach: Reach,
) -> Result<(Namespace, KeyRing, Vec<PeerAddress>), TargetError> {
    let namespace = global.one_namespace().map_err(TargetError::Namespace)?.clone();
    if reach == Reach::Named && target.peers.is_empty() {
        return Err(TargetError::NoPeer);
    }
    let peers = target.addresses()?;
    let files = target.keys.files(&namespace, &global.namespaces);
    let keys: Result<Vec<_>, _> = files.iter().map(read_key_file).collect();
    Ok((namespace, KeyRing::new(keys?), peers))
}

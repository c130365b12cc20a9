//! The swarm of a node that was not given one: TCP, Noise, yamux, and our behaviour alone.

use std::{
    io,
    net::{IpAddr, TcpListener},
    sync::Arc,
    time::Duration,
};

use futures::StreamExt;
use libp2p::{
    Multiaddr, PeerId, Swarm, Transport as _, TransportError,
    core::{
        muxing::StreamMuxerBox,
        transport::{Boxed, timeout::TransportTimeout},
        upgrade::Version,
    },
    multiaddr::Protocol,
    noise,
    swarm::{Config, SwarmEvent},
    tcp, yamux,
};

use crate::{
    behaviour::Behaviour,
    config::TransportConfig,
    dial_failure::TcpError,
    error::StartError,
    hub::Hub,
    names::{ATTEMPT_TIMEOUT, Names, Resolved},
};

/// The most that libp2p's yamux takes. It uses up a fixed budget of windows, so that none grows
/// with the queue it causes: a heartbeat beside a bulk stream is nine times faster.
const STREAMS_MAX: usize = 4_096;
/// How long TCP may take to connect; what is left of [`ATTEMPT_TIMEOUT`] is for the handshakes.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(4);
/// Our own pulse closes dead paths; idle ones stay.
const IDLE_TIMEOUT: Duration = Duration::from_secs(365 * 24 * 3_600);
const EVENT_BUFFER: usize = 64;
const NEGOTIATING_MAX: usize = 512;
/// How long connections have to say good-bye.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(500);

/// A swarm that listens where the configuration says.
pub(crate) fn build(
    config: &TransportConfig,
    behaviour: Behaviour,
    resolved: Resolved,
) -> Result<Swarm<Behaviour>, StartError> {
    let me = config.identity.keypair().public().to_peer_id();
    let names = Names::new(tcp(config)?, me, config.name_servers.clone(), resolved);
    let settings = Config::with_tokio_executor()
        .with_idle_connection_timeout(IDLE_TIMEOUT)
        .with_per_connection_event_buffer_size(EVENT_BUFFER)
        .with_max_negotiating_inbound_streams(NEGOTIATING_MAX)
        // Whoever opens a stream writes a greeting at once: no round trip before it.
        .with_substream_upgrade_protocol_override(Version::V1Lazy);
    let mut swarm = Swarm::new(names.boxed(), behaviour, me, settings);
    for address in &config.listen {
        let refused = |source| StartError::Listen { address: address.clone(), source };
        claim(address).map_err(refused)?;
        swarm.listen_on(address.clone()).map_err(|error| match error {
            TransportError::Other(source) => refused(source),
            TransportError::MultiaddrNotSupported(_) => refused(io::ErrorKind::Unsupported.into()),
        })?;
    }
    Ok(swarm)
}

/// TCP, Noise and yamux. Handshakes of peers that dial this node have [`ATTEMPT_TIMEOUT`].
fn tcp(config: &TransportConfig) -> Result<Boxed<(PeerId, StreamMuxerBox)>, StartError> {
    let tcp = tcp::tokio::Transport::new(tcp::Config::default().nodelay(true));
    let tcp = TransportTimeout::with_outgoing_timeout(tcp, CONNECT_TIMEOUT)
        .map_err(|error| TcpError::new(&error, CONNECT_TIMEOUT));
    let noise = noise::Config::new(config.identity.keypair()).map_err(StartError::Noise)?;
    let mut yamux = yamux::Config::default();
    yamux.set_max_num_streams(STREAMS_MAX);
    let upgraded = tcp
        .upgrade(Version::V1Lazy)
        .authenticate(noise)
        .multiplex(yamux)
        .map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)));
    Ok(TransportTimeout::with_ingoing_timeout(upgraded, ATTEMPT_TIMEOUT).boxed())
}

/// Finds out whether somebody listens there already. libp2p's own sockets would share the port
/// with them, and each would get half of the connections.
fn claim(address: &Multiaddr) -> io::Result<()> {
    let mut parts = address.iter();
    let ip: IpAddr = match parts.next() {
        Some(Protocol::Ip4(ip)) => ip.into(),
        Some(Protocol::Ip6(ip)) => ip.into(),
        _ => return Ok(()),
    };
    match parts.next() {
        Some(Protocol::Tcp(port)) if port != 0 => TcpListener::bind((ip, port)).map(drop),
        _ => Ok(()),
    }
}

/// Drives the swarm until the hub stops it. Nothing here waits for anything but the swarm.
pub(crate) async fn drive(mut swarm: Swarm<Behaviour>, hub: Arc<Hub>) {
    loop {
        tokio::select! {
            () = hub.stop.notified() => break,
            event = swarm.select_next_some() => observe(&event),
        }
    }
    let peers: Vec<_> = swarm.connected_peers().copied().collect();
    for peer in peers {
        // A peer that is gone meanwhile needs no good-bye.
        let _ = swarm.disconnect_peer_id(peer);
    }
    let closed = async {
        while swarm.connected_peers().next().is_some() {
            swarm.select_next_some().await;
        }
    };
    // Dead connections are dropped without one.
    let _ = tokio::time::timeout(CLOSE_TIMEOUT, closed).await;
    // Whoever waits for the end may listen on the same port again.
    drop(swarm);
    for peer in hub.peers() {
        peer.ports().iter().for_each(|port| port.stop());
    }
    hub.inbox.close();
    hub.ended.notify_waiters();
}

fn observe(event: &SwarmEvent<std::convert::Infallible>) {
    match event {
        SwarmEvent::ListenerError { error, .. } => tracing::warn!(%error, "listener failed"),
        SwarmEvent::ListenerClosed { addresses, .. } => {
            tracing::warn!(?addresses, "listener closed");
        }
        SwarmEvent::IncomingConnectionError { error, .. } => {
            tracing::debug!(%error, "incoming connection failed");
        }
        _ => {}
    }
}

//! The transport around TCP that dials names, and says why a dial failed.
//!
//! A name stands for several addresses, of which some may be dead, and one may be this node's own:
//! all nodes of a cluster are often found behind one name. So they are dialled one after the other
//! without waiting long for each, and the first wins at which a peer answers that is looked for
//! (as RFC 8305 has it).

use std::{
    collections::BTreeMap,
    io,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use futures::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use libp2p::{
    Multiaddr, PeerId, Transport, TransportError,
    core::{
        muxing::StreamMuxerBox,
        transport::{Boxed, DialOpts, ListenerId, TransportEvent},
    },
};
use tokio::time::{sleep, timeout};

use crate::{
    dial_failure::{DialFailure, Unreached},
    resolve::{self, Candidate, NameServers},
};

/// How long TCP and the handshakes at one address may take together.
pub(crate) const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long one address of a name has before the next one is dialled, too.
const STAGGER: Duration = Duration::from_millis(250);

type Output = (PeerId, StreamMuxerBox);

/// Where peers answered that were dialled by a name, until the behaviour takes note of it. libp2p
/// itself tells the address that was dialled, and not the one that was resolved.
#[derive(Clone, Debug, Default)]
pub(crate) struct Resolved(Arc<Mutex<BTreeMap<PeerId, Multiaddr>>>);

impl Resolved {
    /// Connections that were made and are not told of yet.
    const MAX: usize = 64;

    fn note(&self, peer: PeerId, address: Multiaddr) {
        let mut noted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if noted.len() >= Self::MAX {
            // Those that are left here belong to connections that came to nothing.
            noted.clear();
        }
        noted.insert(peer, address);
    }

    /// The IP address behind `dialled`, if that is a name at which this peer answered just now.
    pub(crate) fn take(&self, peer: PeerId, dialled: &Multiaddr) -> Option<Multiaddr> {
        resolve::name_of(dialled)?;
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&peer)
    }
}

/// A transport that dials names by the IP addresses behind them.
pub(crate) struct Names {
    inner: Arc<Mutex<Boxed<Output>>>,
    dialling: Dialling,
}

/// What every dial needs.
#[derive(Clone)]
struct Dialling {
    me: PeerId,
    servers: NameServers,
    resolved: Resolved,
}

impl Names {
    pub(crate) fn new(
        inner: Boxed<Output>,
        me: PeerId,
        servers: NameServers,
        resolved: Resolved,
    ) -> Self {
        let dialling = Dialling { me, servers, resolved };
        Self { inner: Arc::new(Mutex::new(inner)), dialling }
    }
}

impl Transport for Names {
    type Output = Output;
    type Error = io::Error;
    type ListenerUpgrade = <Boxed<Output> as Transport>::ListenerUpgrade;
    type Dial = BoxFuture<'static, io::Result<Output>>;

    fn listen_on(
        &mut self,
        id: ListenerId,
        address: Multiaddr,
    ) -> Result<(), TransportError<io::Error>> {
        lock(&self.inner).listen_on(id, address)
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        lock(&self.inner).remove_listener(id)
    }

    fn dial(
        &mut self,
        address: Multiaddr,
        options: DialOpts,
    ) -> Result<Self::Dial, TransportError<io::Error>> {
        let inner = Arc::clone(&self.inner);
        let dialling = self.dialling.clone();
        let start = move |address| lock(&inner).dial(address, options);
        Ok(Box::pin(async move {
            let reached = match resolve::name_of(&address) {
                Some(name) => dialling.by_name(name, &address, start).await,
                None => attempt(start(address)).await,
            };
            reached.map_err(io::Error::other)
        }))
    }

    fn poll(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<TransportEvent<Self::ListenerUpgrade, io::Error>> {
        Pin::new(&mut *lock(&self.inner)).poll(cx)
    }
}

type Started = Result<<Boxed<Output> as Transport>::Dial, TransportError<io::Error>>;

impl Dialling {
    async fn by_name(
        self,
        name: String,
        address: &Multiaddr,
        start: impl Fn(Multiaddr) -> Started,
    ) -> Result<Output, DialFailure> {
        let mut waiting = resolve::candidates(&self.servers, address).await?.into_iter();
        let mut dials = FuturesUnordered::new();
        let mut failures = Vec::new();
        loop {
            if let Some(candidate) = waiting.next() {
                let (dialling, started) = (&self, start(candidate.address.clone()));
                dials.push(async move {
                    let reached = dialling.at(&candidate, started).await;
                    reached.map_err(|why| Unreached { address: candidate.address, why })
                });
            } else if dials.is_empty() {
                return Err(DialFailure::of_all(name, failures));
            }
            // The last one needs no company.
            let more = waiting.len() > 0;
            tokio::select! {
                Some(reached) = dials.next() => match reached {
                    Ok(output) => return Ok(output),
                    Err(unreached) => failures.push(unreached),
                },
                () = sleep(STAGGER), if more => {}
            }
        }
    }

    /// Dials one address of a name, and checks that the peer there is one that is looked for.
    async fn at(&self, candidate: &Candidate, started: Started) -> Result<Output, DialFailure> {
        let (found, muxer) = attempt(started).await?;
        match candidate.expected {
            _ if found == self.me => Err(DialFailure::Itself),
            Some(expected) if expected != found => Err(DialFailure::WrongPeer { expected, found }),
            _ => {
                self.resolved.note(found, candidate.address.clone());
                Ok((found, muxer))
            }
        }
    }
}

async fn attempt(started: Started) -> Result<Output, DialFailure> {
    let dial = match started {
        Ok(dial) => dial,
        Err(TransportError::Other(error)) => return Err(DialFailure::of_io(&error)),
        Err(error @ TransportError::MultiaddrNotSupported(_)) => {
            return Err(DialFailure::System { why: error.to_string() });
        }
    };
    match timeout(ATTEMPT_TIMEOUT, dial).await {
        Ok(Ok(output)) => Ok(output),
        Ok(Err(error)) => Err(DialFailure::of_io(&error)),
        Err(_) => Err(DialFailure::Silent { within: ATTEMPT_TIMEOUT }),
    }
}

fn lock(inner: &Mutex<Boxed<Output>>) -> std::sync::MutexGuard<'_, Boxed<Output>> {
    inner.lock().unwrap_or_else(PoisonError::into_inner)
}

//! The façade: what a runtime holds.

use std::{
    collections::BTreeSet,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use bytes::Bytes;
use libp2p::Multiaddr;
use meshraft_consensus::{Incarnation, Namespace, NodeId};
use tokio::{sync::oneshot, time};

use crate::{
    address::PeerAddress,
    behaviour::Behaviour,
    book::{AddressSource, BookEntry},
    config::TransportConfig,
    dial_failure::Unreached,
    error::{NotSent, ReplyError, RequestError, StartError},
    event::Event,
    hub::Hub,
    identity::peer_id,
    inbox::{Events, Inbox},
    lan::{self, Lan},
    link::{Link, Outgoing, Question},
    names::Resolved,
    orders::Order,
    port::Port,
    status::PeerStatus,
    swarm,
    types::{Body, Channel, LocalNamespace, ReplyToken, RequestId, Scope},
};

/// How long a shutdown waits for what is queued.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);

/// One node's transport. A cheap handle: clones share everything, and when the last one is dropped
/// the transport stops. No method blocks.
#[derive(Clone, Debug)]
pub struct Transport {
    hub: Arc<Hub>,
    _stopper: Arc<Stopper>,
}

impl Transport {
    /// Listens, and starts the task that drives the swarm on the current tokio runtime.
    ///
    /// # Errors
    /// The configuration breaks a rule, or an address can't be listened on. Nothing runs then.
    pub async fn start(config: TransportConfig) -> Result<(Self, Events), StartError> {
        config.check()?;
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).map_err(StartError::Randomness)?;
        let dial_seed = getrandom::u64().map_err(StartError::Randomness)?;
        let inbox = Inbox::new(&config.limits);
        let hub = Hub::new(&config, Arc::clone(&inbox), seed);
        let (lan, resolved) = (listen_on_lan(&config), Resolved::default());
        let behaviour = Behaviour::new(Arc::clone(&hub), dial_seed, lan, resolved.clone());
        let swarm = swarm::build(&config, behaviour, resolved)?;
        tokio::spawn(swarm::drive(swarm, Arc::clone(&hub)));
        let stopper = Arc::new(Stopper { hub: Arc::clone(&hub) });
        Ok((Self { hub, _stopper: stopper }, Events::new(inbox)))
    }

    /// This node's id.
    pub fn node(&self) -> NodeId {
        self.hub.me
    }

    /// Opens a namespace, or changes its facts: handles that were bound to other facts are closed
    /// on both sides and made anew.
    pub fn open(&self, local: LocalNamespace) {
        let namespace = local.namespace.clone();
        let (changed, reconsider) = self.hub.change_roster(|roster| {
            let keys = roster.get(&namespace).map(|known| &known.keys);
            let reconsider = keys != Some(&local.keys);
            (roster.open(local), reconsider)
        });
        if changed {
            self.hub.refresh(&namespace);
        }
        if reconsider {
            self.hub.orders.push(Order::Reconsider);
        }
    }

    /// Closes a namespace: its handles go, its requests end.
    pub fn close(&self, namespace: &Namespace) {
        if !self.hub.change_roster(|roster| roster.close(namespace)) {
            return;
        }
        self.members(namespace, BTreeSet::new());
        self.hub.refresh(namespace);
        for peer in self.hub.peers() {
            peer.forget(namespace, || {
                let namespace = namespace.clone();
                self.hub.inbox.notify(Event::Unshared { peer: peer.node(), namespace });
            });
        }
    }

    /// Takes an address into the address book. It is dialled, with a jittered back-off, until its
    /// peer is connected, and again after each loss; how eagerly depends on the source. A `/p2p/`
    /// part counts as `peer`. A name is looked up at each dial. What the book does not take is
    /// logged.
    pub fn add_address(&self, peer: Option<NodeId>, address: PeerAddress, source: AddressSource) {
        self.hub.orders.push(Order::Address { peer, address: address.into(), source });
    }

    /// The addresses that failed when they were dialled last, at most 256, with the reasons. Those
    /// of a peer that is reached meanwhile are forgotten.
    pub fn unreached(&self) -> Vec<Unreached> {
        self.hub.with_failures(|failures| failures.all())
    }

    /// Takes all that one connected peer says of where another one, or itself, can be reached;
    /// what it said before and does not say now is withdrawn.
    pub fn hear(&self, teller: NodeId, peer: NodeId, addresses: Vec<Multiaddr>) {
        self.hub.orders.push(Order::Heard { teller, peer, addresses });
    }

    /// Says who the members of a namespace's cluster are, as a whole: the address book keeps the
    /// best address of each, and they pass the limit on peers. None, and they are forgotten.
    pub fn members(&self, namespace: &Namespace, members: BTreeSet<NodeId>) {
        self.hub.orders.push(Order::Members { namespace: namespace.clone(), members });
    }

    /// What the address book holds, ordered by peer. Empty once the transport has stopped.
    pub async fn addresses(&self) -> Vec<BookEntry> {
        let (answer, told) = oneshot::channel();
        self.hub.orders.push(Order::Book { answer });
        told.await.unwrap_or_default()
    }

    /// Sends a message; it may be lost. With `incarnation`, it goes to no other life of the peer:
    /// a mistaken one is told by [`Event::Refused`].
    pub fn send(
        &self,
        to: NodeId,
        namespace: &Namespace,
        scope: Scope,
        incarnation: Option<Incarnation>,
        channel: Channel,
        body: Body,
    ) {
        let Some(peer) = self.hub.peer(to) else {
            tracing::debug!(peer = %to, %channel, "message dropped, not connected");
            return;
        };
        let Some(port) = self.hub.outbound(&peer, channel) else {
            tracing::debug!(peer = %to, %channel, "message dropped, no stream");
            return;
        };
        let outgoing = Outgoing { namespace: namespace.clone(), scope, incarnation, body };
        let now = self.hub.now();
        let (sent, events) = self.hub.with_roster(|roster| {
            port.with_link(|link| match link {
                Link::Outbound(outbound) => outbound.send(now, roster, outgoing),
                Link::Inbound(_) => Ok(()),
            })
        });
        self.hub.settle_all(&peer, &port, events);
        if let Err(error) = sent {
            tracing::debug!(peer = %to, %namespace, %channel, %error, "message dropped");
        }
    }

    /// Asks a peer on [`Channel::Command`] or [`Channel::Snapshot`], whose streams do not wait for
    /// each other; answered by exactly one [`Event::Reply`]. A reply on Snapshot carries at most
    /// [`crate::Limits::SNAPSHOT_REPLY_BYTES_MAX`] and 4 KiB. Clients ask on Command only.
    #[expect(clippy::too_many_arguments, reason = "an envelope, taken apart once")]
    pub fn request(
        &self,
        id: RequestId,
        to: NodeId,
        namespace: &Namespace,
        scope: Scope,
        channel: Channel,
        payload: Bytes,
        timeout: Duration,
    ) {
        let unsent = |why| {
            let result = Err(RequestError::NotSent(why));
            self.hub.inbox.notify(Event::Reply { id, result });
        };
        if !channel.asks() {
            return unsent(NotSent::NoRequests { channel });
        }
        let peer = self.hub.peer(to);
        let port = peer.as_ref().and_then(|peer| self.hub.outbound(peer, channel));
        let (Some(peer), Some(port)) = (peer, port) else {
            let closing = self.hub.closing.load(Ordering::Relaxed);
            return unsent(if closing { NotSent::ShutDown } else { NotSent::NotConnected });
        };
        let question = Question { id, namespace: namespace.clone(), scope, payload, timeout };
        let now = self.hub.now();
        let ((), events) = self.hub.with_roster(|roster| {
            port.with_link(|link| {
                if let Link::Outbound(outbound) = link {
                    outbound.request(now, roster, question);
                }
            })
        });
        self.hub.settle_all(&peer, &port, events);
    }

    /// Answers a request, on the channel that it came on.
    ///
    /// # Errors
    /// The reply can't be sent. Unless whoever asked is gone, that end is told so, at once.
    pub fn reply(&self, token: ReplyToken, payload: Bytes) -> Result<(), ReplyError> {
        let port: Arc<Port> = self.hub.answering(token).ok_or(ReplyError::Gone)?;
        let (replied, _) = port.with_link(|link| match link {
            Link::Inbound(inbound) => inbound.reply(token.handle(), token.request(), payload),
            Link::Outbound(_) => Err(ReplyError::Gone),
        });
        if let Err(error) = replied {
            tracing::debug!(?token, %error, "reply not sent");
        }
        self.hub.make_room();
        replied
    }

    /// The connected peers, ordered by id.
    pub fn peers(&self) -> Vec<PeerStatus> {
        self.hub.peers().iter().filter_map(|peer| peer.status()).collect()
    }

    /// Control messages that gave way to newer ones because the caller did not take them in time.
    pub fn dropped(&self) -> u64 {
        self.hub.inbox.dropped()
    }

    /// Writes what waits, for at most a second, closes every connection and ends the swarm's task.
    /// Cancelled, it goes on without waiting for what is queued.
    pub async fn shutdown(self) {
        self.hub.closing.store(true, Ordering::Relaxed);
        let streams = || self.hub.peers().iter().flat_map(|peer| peer.ports()).collect::<Vec<_>>();
        let drained = async {
            loop {
                let ended = self.hub.ended.notified();
                let streams = streams();
                if streams.is_empty() {
                    break;
                }
                streams.iter().for_each(|port| port.drain());
                ended.await;
            }
        };
        // What a stuck peer does not take in time is lost, as with a crash.
        let _ = time::timeout(DRAIN_TIMEOUT, drained).await;
        let closed = async {
            loop {
                let ended = self.hub.ended.notified();
                if self.hub.inbox.is_closed() {
                    break;
                }
                self.hub.stop.notify_one();
                ended.await;
            }
        };
        let _ = time::timeout(DRAIN_TIMEOUT, closed).await;
    }
}

/// The local network, if peers are to be found there. A system that does not let us listen to it
/// is no reason not to start: announcements are one source of addresses among others.
fn listen_on_lan(config: &TransportConfig) -> Option<Lan> {
    if !config.mdns || lan::keeps_to_itself(&config.listen) {
        return None;
    }
    let lan = Lan::new(peer_id(config.identity.node_id()));
    lan.inspect_err(|error| tracing::warn!(%error, "mdns not started")).ok()
}

/// Stops the swarm's task when the last handle is gone.
#[derive(Debug)]
struct Stopper {
    hub: Arc<Hub>,
}

impl Drop for Stopper {
    fn drop(&mut self) {
        self.hub.closing.store(true, Ordering::Relaxed);
        self.hub.stop.notify_one();
    }
}

//! Announcements on the local network: libp2p's mDNS, under bounds that it does not have.
//!
//! libp2p's own table has no limit, and anyone on the network can fill it. When it is too large it
//! is thrown away, and the network is not listened to for [`PAUSE`]. IPv4 only.
//!
//! mDNS hears multicast packets and sends them: it is off unless the configuration says otherwise,
//! and a node that listens on loopback addresses alone has nothing to announce.

use std::{
    io,
    task::{Context, Poll},
    time::Duration,
};

use libp2p::{
    Multiaddr, PeerId,
    core::transport::ListenerId,
    mdns,
    multiaddr::Protocol,
    swarm::{ExpiredListenAddr, FromSwarm, NetworkBehaviour, NewListenAddr, ToSwarm},
};
use meshraft_consensus::Moment;

/// How long others believe an announcement.
const TTL: Duration = Duration::from_secs(180);
/// How often the network is asked, by one of all that listen.
const QUERY_INTERVAL: Duration = Duration::from_secs(60);
/// Announcements that libp2p may hold.
const TABLE_MAX: usize = 4_096;
/// How long a flood is not listened to.
const PAUSE: Duration = Duration::from_secs(60);
/// Announcements that are taken in one turn.
const BATCH_MAX: usize = 256;

/// What was heard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    /// A peer announces an address.
    Announced(PeerId, Multiaddr),
    /// A peer announces an address no longer.
    Expired(PeerId, Multiaddr),
}

/// The local network.
pub(crate) struct Lan {
    me: PeerId,
    inner: Option<mdns::tokio::Behaviour>,
    /// When it is listened to again after a flood.
    paused_until: Option<Moment>,
    /// Where this node listens: told again to each new `inner`.
    listening: Vec<(ListenerId, Multiaddr)>,
}

impl Lan {
    /// Listens; within a tokio runtime.
    ///
    /// # Errors
    /// The system does not tell which network interfaces there are.
    pub(crate) fn new(me: PeerId) -> io::Result<Self> {
        let inner = Some(behaviour(me)?);
        Ok(Self { me, inner, paused_until: None, listening: Vec::new() })
    }

    /// This node listens at an address from now on, or no longer.
    pub(crate) fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::NewListenAddr(NewListenAddr { listener_id, addr }) => {
                self.listening.push((listener_id, addr.clone()));
            }
            FromSwarm::ExpiredListenAddr(ExpiredListenAddr { listener_id, addr }) => {
                self.listening.retain(|(id, known)| (*id, known) != (listener_id, addr));
            }
            _ => return,
        }
        if let Some(inner) = &mut self.inner {
            inner.on_swarm_event(event);
        }
    }

    /// When to poll again although nothing happens.
    pub(crate) const fn deadline(&self) -> Option<Moment> {
        self.paused_until
    }

    /// What was heard since the last call; wakes the task when there is more.
    pub(crate) fn poll(&mut self, now: Moment, cx: &mut Context<'_>) -> Vec<Heard> {
        if self.paused_until.is_some_and(|until| until <= now) {
            self.resume(now);
        }
        let mut heard = Vec::new();
        let Some(inner) = &mut self.inner else { return heard };
        loop {
            if heard.len() >= BATCH_MAX {
                cx.waker().wake_by_ref();
                break;
            }
            match inner.poll(cx) {
                Poll::Ready(ToSwarm::GenerateEvent(mdns::Event::Discovered(list))) => {
                    heard.extend(list.into_iter().map(|(peer, at)| Heard::Announced(peer, at)));
                }
                Poll::Ready(ToSwarm::GenerateEvent(mdns::Event::Expired(list))) => {
                    heard.extend(list.into_iter().map(|(peer, at)| Heard::Expired(peer, at)));
                }
                // Addresses go to the dialler, not to the swarm.
                Poll::Ready(_) => {}
                Poll::Pending => break,
            }
        }
        if inner.discovered_nodes().len() > TABLE_MAX {
            tracing::warn!(count = TABLE_MAX, pause = ?PAUSE, "too many announcements");
            self.silence();
            self.paused_until = Some(now.plus(PAUSE));
        }
        heard
    }

    fn resume(&mut self, now: Moment) {
        self.paused_until = None;
        match behaviour(self.me) {
            Ok(mut inner) => {
                for (listener_id, addr) in &self.listening {
                    let (listener_id, addr) = (*listener_id, addr);
                    let event = NewListenAddr { listener_id, addr };
                    inner.on_swarm_event(FromSwarm::NewListenAddr(event));
                }
                self.inner = Some(inner);
            }
            Err(error) => {
                tracing::warn!(%error, "mdns not resumed");
                self.paused_until = Some(now.plus(PAUSE));
            }
        }
    }

    /// Ends announcing. libp2p's tasks live on until they hear the next answer; without an address
    /// they have nothing to say.
    fn silence(&mut self) {
        let Some(mut inner) = self.inner.take() else { return };
        for (listener_id, addr) in &self.listening {
            let (listener_id, addr) = (*listener_id, addr);
            let event = ExpiredListenAddr { listener_id, addr };
            inner.on_swarm_event(FromSwarm::ExpiredListenAddr(event));
        }
    }
}

impl Drop for Lan {
    fn drop(&mut self) {
        self.silence();
    }
}

impl std::fmt::Debug for Lan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let paused = self.inner.is_none();
        f.debug_struct("Lan").field("paused", &paused).finish_non_exhaustive()
    }
}

fn behaviour(me: PeerId) -> io::Result<mdns::tokio::Behaviour> {
    let config = mdns::Config { ttl: TTL, query_interval: QUERY_INTERVAL, enable_ipv6: false };
    mdns::Behaviour::new(config, me)
}

/// Whether nobody on the network could reach a node that listens at these addresses. One that
/// listens nowhere, as clients do, still wants to find others.
pub(crate) fn keeps_to_itself(listen: &[Multiaddr]) -> bool {
    let loopback = |address: &Multiaddr| match address.iter().next() {
        Some(Protocol::Ip4(ip)) => ip.is_loopback(),
        Some(Protocol::Ip6(ip)) => ip.is_loopback(),
        _ => false,
    };
    !listen.is_empty() && listen.iter().all(loopback)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_node_that_can_be_reached_announces_itself() {
        let parse = |texts: &[&str]| -> Vec<Multiaddr> {
            texts.iter().map(|text| text.parse().unwrap()).collect()
        };
        let [local, six, all] = ["/ip4/127.0.0.1/tcp/1", "/ip6/::1/tcp/1", "/ip4/0.0.0.0/tcp/0"];
        assert!(keeps_to_itself(&parse(&[local, six])));
        assert!(!keeps_to_itself(&parse(&[local, all])));
        assert!(!keeps_to_itself(&[]));
    }
}

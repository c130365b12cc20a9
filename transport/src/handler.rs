//! One connection's streams: opened on order, several at a time; accepted without losing any.
//!
//! The handler hands out plain streams and never touches their bytes. What it lists as its
//! protocols is a small constant, because libp2p goes through that list on every frame.

use std::{
    collections::VecDeque,
    convert::Infallible,
    future::{Ready, ready},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use libp2p::{
    Stream, StreamProtocol,
    core::upgrade::{InboundUpgrade, OutboundUpgrade, UpgradeInfo},
    swarm::{
        ConnectionHandler, ConnectionHandlerEvent, SubstreamProtocol,
        handler::{
            ConnectionEvent, DialUpgradeError, FullyNegotiatedInbound, FullyNegotiatedOutbound,
        },
    },
};

use crate::{port::Port, types::Channel};

/// An open that takes longer has failed.
const OPEN_TIMEOUT: Duration = Duration::from_secs(5);
/// Streams that were accepted and not yet handed over: the connection's task hands each over at
/// its next poll, so more than a few mean that the peer floods us.
const ACCEPTED_MAX: usize = 64;

/// Opens a stream for a port.
#[derive(Debug)]
pub struct Open {
    pub(crate) port: Arc<Port>,
}

/// What became of a stream.
#[derive(Debug)]
pub enum Opened {
    /// The peer opened it.
    Accepted(Accepted),
    /// We opened it.
    Ready(Fresh),
    /// It can't be opened.
    Failed(Failed),
}

/// A stream that the peer opened.
#[derive(Debug)]
pub struct Accepted {
    pub(crate) channel: Channel,
    pub(crate) stream: Stream,
}

/// A stream that was opened for a port.
#[derive(Debug)]
pub struct Fresh {
    pub(crate) port: Arc<Port>,
    pub(crate) stream: Stream,
}

/// A port that gets no stream.
#[derive(Debug)]
pub struct Failed {
    pub(crate) port: Arc<Port>,
}

/// The streams of one connection.
#[derive(Debug, Default)]
pub struct Handler {
    opens: VecDeque<Open>,
    opened: VecDeque<Opened>,
}

impl ConnectionHandler for Handler {
    type FromBehaviour = Open;
    type ToBehaviour = Opened;
    type InboundProtocol = AnyChannel;
    type OutboundProtocol = OneChannel;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = Open;

    fn listen_protocol(&self) -> SubstreamProtocol<AnyChannel> {
        SubstreamProtocol::new(AnyChannel, ()).with_timeout(OPEN_TIMEOUT)
    }

    fn connection_keep_alive(&self) -> bool {
        true
    }

    fn poll(
        &mut self,
        _: &mut Context<'_>,
    ) -> Poll<ConnectionHandlerEvent<OneChannel, Open, Opened>> {
        if let Some(opened) = self.opened.pop_front() {
            return Poll::Ready(ConnectionHandlerEvent::NotifyBehaviour(opened));
        }
        match self.opens.pop_front() {
            Some(open) => {
                let upgrade = OneChannel(open.port.channel());
                let protocol = SubstreamProtocol::new(upgrade, open).with_timeout(OPEN_TIMEOUT);
                Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest { protocol })
            }
            // Both queues are filled by calls of the connection, which polls again after them.
            None => Poll::Pending,
        }
    }

    fn on_behaviour_event(&mut self, open: Open) {
        self.opens.push_back(open);
    }

    fn on_connection_event(
        &mut self,
        event: ConnectionEvent<'_, AnyChannel, OneChannel, (), Open>,
    ) {
        match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound {
                protocol: (channel, stream),
                ..
            }) => {
                if self.opened.len() < ACCEPTED_MAX {
                    self.opened.push_back(Opened::Accepted(Accepted { channel, stream }));
                } else {
                    // Dropping resets it: the peer sees that at once.
                    tracing::debug!(%channel, "stream refused, too many at once");
                }
            }
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound {
                protocol: stream,
                info: Open { port },
            }) => self.opened.push_back(Opened::Ready(Fresh { port, stream })),
            ConnectionEvent::DialUpgradeError(DialUpgradeError { info: Open { port }, error }) => {
                tracing::debug!(channel = %port.channel(), %error, "stream not opened");
                self.opened.push_back(Opened::Failed(Failed { port }));
            }
            // What fails on the way in is seen by who opened it.
            _ => {}
        }
    }
}

/// Accepts a stream of any of our protocols.
#[derive(Clone, Copy, Debug)]
pub struct AnyChannel;

/// Opens a stream of one of our protocols.
#[derive(Clone, Copy, Debug)]
pub struct OneChannel(Channel);

impl UpgradeInfo for AnyChannel {
    type Info = StreamProtocol;
    type InfoIter = std::array::IntoIter<StreamProtocol, 5>;

    fn protocol_info(&self) -> Self::InfoIter {
        Channel::ALL.map(|channel| StreamProtocol::new(channel.protocol())).into_iter()
    }
}

impl InboundUpgrade<Stream> for AnyChannel {
    type Output = (Channel, Stream);
    type Error = Infallible;
    type Future = Ready<Result<Self::Output, Infallible>>;

    fn upgrade_inbound(self, stream: Stream, protocol: StreamProtocol) -> Self::Future {
        let mut channels = Channel::ALL.into_iter();
        let channel = channels.find(|channel| channel.protocol() == protocol.as_ref());
        ready(Ok((channel.expect("only listed protocols are negotiated"), stream)))
    }
}

impl UpgradeInfo for OneChannel {
    type Info = StreamProtocol;
    type InfoIter = std::iter::Once<StreamProtocol>;

    fn protocol_info(&self) -> Self::InfoIter {
        std::iter::once(StreamProtocol::new(self.0.protocol()))
    }
}

impl OutboundUpgrade<Stream> for OneChannel {
    type Output = Stream;
    type Error = Infallible;
    type Future = Ready<Result<Stream, Infallible>>;

    fn upgrade_outbound(self, stream: Stream, _: StreamProtocol) -> Self::Future {
        ready(Ok(stream))
    }
}

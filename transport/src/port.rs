//! One stream and its link: a reader and a writer that never wait for one another.
//!
//! The writer sleeps until it is woken, then writes all that is queued at once. Data never passes
//! through the swarm's task; callers queue into the link and wake the writer.

use std::{
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::{AsyncReadExt, AsyncWriteExt, io::ReadHalf, io::WriteHalf};
use libp2p::{Stream, swarm::ConnectionId};
use meshraft_consensus::Moment;
use tokio::{sync::Notify, sync::watch, time};

use crate::{
    hub::Hub,
    link::{Link, LinkError, LinkEvent},
    peer::Peer,
    types::Channel,
};

/// One read takes at most this: a yamux frame.
const READ_BYTES: usize = 16 * 1024;
/// A stream whose write is stuck for so long is given up, although its path is alive.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// Memory that an idle writer may keep.
const IDLE_BYTES: usize = 16 * 1024;
/// Where a timer stands that waits for nothing.
const FAR: Duration = Duration::from_secs(3_600);

/// Why a stream ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PortError {
    #[error("the stream failed")]
    Io(#[from] io::Error),
    #[error("the peer broke the protocol, or does not answer")]
    Link(#[from] LinkError),
    #[error("a write was stuck for {WRITE_TIMEOUT:?}")]
    Stuck,
}

/// Whether a stream's task goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Run,
    /// Ends when nothing waits to be written.
    Drain,
    Stop,
}

/// One stream, or one that is being opened.
#[derive(Debug)]
pub(crate) struct Port {
    number: u64,
    channel: Channel,
    connection: ConnectionId,
    link: Mutex<Link>,
    wake: Notify,
    mode: watch::Sender<Mode>,
}

impl Port {
    pub(crate) fn new(
        number: u64,
        channel: Channel,
        connection: ConnectionId,
        link: Link,
    ) -> Arc<Self> {
        Arc::new(Self {
            number,
            channel,
            connection,
            link: Mutex::new(link),
            wake: Notify::new(),
            mode: watch::Sender::new(Mode::Run),
        })
    }

    /// Its number, never used twice by one node.
    pub(crate) const fn number(&self) -> u64 {
        self.number
    }

    pub(crate) const fn channel(&self) -> Channel {
        self.channel
    }

    pub(crate) const fn connection(&self) -> ConnectionId {
        self.connection
    }

    pub(crate) fn link(&self) -> MutexGuard<'_, Link> {
        self.link.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the link, wakes the writer if there is something to write, and returns what the
    /// link found out.
    pub(crate) fn with_link<R>(&self, change: impl FnOnce(&mut Link) -> R) -> (R, Vec<LinkEvent>) {
        let mut link = self.link();
        let result = change(&mut link);
        let wake = link.wants_to_write();
        let events = drain(&mut link);
        drop(link);
        if wake {
            self.wake.notify_one();
        }
        (result, events)
    }

    /// Ends the stream once all that waits is written.
    pub(crate) fn drain(&self) {
        self.switch(Mode::Drain);
        self.wake.notify_one();
    }

    /// Ends the stream now.
    pub(crate) fn stop(&self) {
        self.switch(Mode::Stop);
    }

    fn switch(&self, to: Mode) {
        self.mode.send_if_modified(|mode| {
            let changes = *mode != to && *mode != Mode::Stop;
            if changes {
                *mode = to;
            }
            changes
        });
    }

    /// Drives the stream until it ends, by either side or by [`Self::stop`].
    pub(crate) async fn run(
        self: &Arc<Self>,
        hub: &Arc<Hub>,
        peer: &Arc<Peer>,
        stream: Stream,
    ) -> Result<(), PortError> {
        let (reader, writer) = stream.split();
        let mut mode = self.mode.subscribe();
        tokio::select! {
            end = self.read(hub, peer, reader) => end,
            end = self.write(hub, peer, writer) => end,
            _ = mode.wait_for(|mode| *mode == Mode::Stop) => Ok(()),
        }
    }

    async fn read(
        self: &Arc<Self>,
        hub: &Arc<Hub>,
        peer: &Arc<Peer>,
        mut stream: ReadHalf<Stream>,
    ) -> Result<(), PortError> {
        let mut buffer = vec![0; READ_BYTES];
        loop {
            let count = stream.read(&mut buffer).await?;
            if count == 0 {
                return Ok(());
            }
            let bytes = buffer.get(..count).unwrap_or_default();
            let now = hub.now();
            let (taken, events) =
                hub.with_roster(|roster| self.with_link(|link| link.receive(now, roster, bytes)));
            for event in events {
                if let Some(delivery) = hub.settle(peer, self, event) {
                    hub.deliver(peer, self.channel, delivery).await;
                }
            }
            taken?;
            hub.make_room();
        }
    }

    async fn write(
        self: &Arc<Self>,
        hub: &Arc<Hub>,
        peer: &Arc<Peer>,
        mut stream: WriteHalf<Stream>,
    ) -> Result<(), PortError> {
        let mut out = Vec::new();
        let timer = time::sleep(FAR);
        tokio::pin!(timer);
        // What the timer stands at; unset after it fired.
        let mut armed = None;
        loop {
            out.clear();
            let (ticked, deadline, events) = self.work(hub, &mut out);
            hub.settle_all(peer, self, events);
            ticked?;
            if !out.is_empty() {
                let write = async {
                    stream.write_all(&out).await?;
                    stream.flush().await
                };
                time::timeout(WRITE_TIMEOUT, write).await.map_err(|_| PortError::Stuck)??;
                continue;
            }
            if *self.mode.borrow() == Mode::Drain {
                // Without this the other end would see a reset instead of an end.
                return Ok(stream.close().await?);
            }
            if out.capacity() > IDLE_BYTES {
                out = Vec::new();
            }
            if armed != Some(deadline) {
                armed = Some(deadline);
                let at = deadline.unwrap_or_else(|| hub.now().plus(FAR));
                timer.as_mut().reset(hub.instant(at));
            }
            tokio::select! {
                () = self.wake.notified() => {}
                () = &mut timer => armed = None,
            }
        }
    }

    fn work(
        &self,
        hub: &Arc<Hub>,
        out: &mut Vec<u8>,
    ) -> (Result<(), LinkError>, Option<Moment>, Vec<LinkEvent>) {
        hub.with_roster(|roster| {
            let mut link = self.link();
            let now = hub.now();
            let due = link.deadline().is_some_and(|deadline| deadline <= now);
            let ticked = if due { link.tick(now, roster) } else { Ok(()) };
            link.transmit(out);
            let deadline = link.deadline();
            let events = drain(&mut link);
            (ticked, deadline, events)
        })
    }
}

fn drain(link: &mut Link) -> Vec<LinkEvent> {
    std::iter::from_fn(|| link.poll()).collect()
}

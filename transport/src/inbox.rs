//! What waits for the caller: three queues, each bounded in its own way.
//!
//! 1. Notices (lifecycle, refusals, replies) are never dropped; stream tasks wait for room.
//! 2. Control messages are never waited for: the oldest goes when there are too many.
//! 3. All other messages are bounded in bytes; their stream's reader waits, and so, in the end,
//!    does the sender.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use crate::event::Event;

const NOTICES_MAX: usize = 4_096;
const CONTROL_MAX: usize = 4_096;
const BULK_MAX: usize = 16_384;
/// One permit stands for this many bytes, so that every limit fits the semaphore's range.
const PERMIT_BYTES: usize = 256;

/// The receiving half of a transport's events. Dropping it makes the transport discard them.
#[derive(Debug)]
pub struct Events {
    inbox: Arc<Inbox>,
}

impl Events {
    pub(crate) fn new(inbox: Arc<Inbox>) -> Self {
        Self { inbox }
    }

    /// The next event; `None` once the transport is shut down and everything was handed out.
    ///
    /// Cancel-safe: an event is taken only by the call that returns it.
    pub async fn recv(&mut self) -> Option<Event> {
        loop {
            let woken = self.inbox.wake.notified();
            if let Some(event) = self.inbox.lock().take() {
                return Some(event);
            }
            if self.inbox.lock().closed {
                return None;
            }
            woken.await;
        }
    }

    /// The next event, if one waits.
    pub fn try_recv(&mut self) -> Option<Event> {
        self.inbox.lock().take()
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        self.inbox.close();
        *self.inbox.lock() = Queues { closed: true, ..Queues::default() };
    }
}

#[derive(Debug, Default)]
struct Queues {
    notices: VecDeque<(Event, Option<OwnedSemaphorePermit>)>,
    control: VecDeque<Event>,
    bulk: VecDeque<(Event, OwnedSemaphorePermit)>,
    dropped: u64,
    closed: bool,
}

impl Queues {
    fn take(&mut self) -> Option<Event> {
        let notice = self.notices.pop_front().map(|(event, _)| event);
        let control = || self.control.pop_front();
        notice.or_else(control).or_else(|| self.bulk.pop_front().map(|(event, _)| event))
    }
}

/// The sending half, shared by the swarm's task and every stream's reader.
#[derive(Debug)]
pub(crate) struct Inbox {
    queues: Mutex<Queues>,
    wake: Notify,
    notice_room: Arc<Semaphore>,
    bulk_room: Arc<Semaphore>,
    bulk_permits: u32,
}

impl Inbox {
    pub(crate) fn new(bytes_max: usize) -> Arc<Self> {
        let permits = (bytes_max / PERMIT_BYTES).clamp(1, Semaphore::MAX_PERMITS);
        let permits = u32::try_from(permits).unwrap_or(u32::MAX);
        Arc::new(Self {
            queues: Mutex::default(),
            wake: Notify::new(),
            notice_room: Arc::new(Semaphore::new(NOTICES_MAX)),
            bulk_room: Arc::new(Semaphore::new(permits as usize)),
            bulk_permits: permits,
        })
    }

    fn lock(&self) -> MutexGuard<'_, Queues> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A notice from a task that must not wait: the swarm's, whose notices are bounded by the
    /// number of peers and the back-off of dials, and the caller's own.
    pub(crate) fn notify(&self, event: Event) {
        self.push(|queues| queues.notices.push_back((event, None)));
    }

    /// A notice from a stream's reader. Cancelled, it is lost.
    pub(crate) async fn notice(&self, event: Event) {
        // A closed semaphore means that nobody listens any more.
        if let Ok(permit) = Arc::clone(&self.notice_room).acquire_owned().await {
            self.push(|queues| queues.notices.push_back((event, Some(permit))));
        }
    }

    /// A control message: the oldest one gives way.
    pub(crate) fn control(&self, event: Event) {
        self.push(|queues| {
            if queues.control.len() >= CONTROL_MAX {
                queues.control.pop_front();
                queues.dropped += 1;
            }
            queues.control.push_back(event);
        });
    }

    /// Any other message of `bytes` bytes. Cancelled, it is lost.
    pub(crate) async fn bulk(&self, event: Event, bytes: usize) {
        // Small messages cost at least their share of the number of messages that may wait.
        let least = self.bulk_permits / BULK_MAX as u32;
        let permits = u32::try_from(bytes / PERMIT_BYTES).unwrap_or(u32::MAX);
        let permits = permits.clamp(least.max(1), self.bulk_permits);
        if let Ok(permit) = Arc::clone(&self.bulk_room).acquire_many_owned(permits).await {
            self.push(|queues| queues.bulk.push_back((event, permit)));
        }
    }

    /// Control messages that gave way so far.
    pub(crate) fn dropped(&self) -> u64 {
        self.lock().dropped
    }

    /// No more events: what waits may still be taken.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.notice_room.close();
        self.bulk_room.close();
        self.wake.notify_one();
    }

    fn push(&self, push: impl FnOnce(&mut Queues)) {
        {
            let mut queues = self.lock();
            if queues.closed {
                return;
            }
            push(&mut queues);
        }
        self.wake.notify_one();
    }
}

//! What waits for the caller: three queues, each bounded in its own way.
//!
//! 1. Notices (lifecycle, refusals, replies) are never dropped; readers wait until there are fewer.
//! 2. Control messages are never waited for: the oldest go when there are too many.
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
const CONTROL_BYTES_MAX: usize = 16 * 1024 * 1024;
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
            if let Some(event) = self.inbox.take() {
                return Some(event);
            }
            if self.inbox.is_closed() {
                return None;
            }
            woken.await;
        }
    }

    /// The next event, if one waits.
    pub fn try_recv(&mut self) -> Option<Event> {
        self.inbox.take()
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
    notices: VecDeque<Event>,
    control: VecDeque<(Event, usize)>,
    control_bytes: usize,
    bulk: VecDeque<(Event, OwnedSemaphorePermit)>,
    dropped: u64,
    closed: bool,
}

impl Queues {
    fn take(&mut self) -> Option<Event> {
        let notice = self.notices.pop_front();
        let notice = notice.or_else(|| self.take_control());
        notice.or_else(|| self.bulk.pop_front().map(|(event, _)| event))
    }

    fn take_control(&mut self) -> Option<Event> {
        let (event, bytes) = self.control.pop_front()?;
        self.control_bytes -= bytes;
        Some(event)
    }
}

/// The sending half, shared by the swarm's task and every stream's reader.
#[derive(Debug)]
pub(crate) struct Inbox {
    queues: Mutex<Queues>,
    wake: Notify,
    notice_room: Notify,
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
            notice_room: Notify::new(),
            bulk_room: Arc::new(Semaphore::new(permits as usize)),
            bulk_permits: permits,
        })
    }

    fn lock(&self) -> MutexGuard<'_, Queues> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A notice. It never waits: their number is bounded by peers, dials and requests, and by
    /// readers that call [`Self::notice_room`].
    pub(crate) fn notify(&self, event: Event) {
        self.push(|queues| queues.notices.push_back(event));
    }

    /// Waits while there are too many notices. Cancel-safe.
    pub(crate) async fn notice_room(&self) {
        loop {
            let room = self.notice_room.notified();
            if self.has_notice_room() {
                return;
            }
            room.await;
        }
    }

    /// A control message of `bytes` bytes: the oldest ones give way.
    pub(crate) fn control(&self, event: Event, bytes: usize) {
        self.push(|queues| {
            while queues.control.len() >= CONTROL_MAX
                || queues.control_bytes + bytes > CONTROL_BYTES_MAX
            {
                if queues.take_control().is_none() {
                    break;
                }
                queues.dropped += 1;
            }
            queues.control_bytes += bytes;
            queues.control.push_back((event, bytes));
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

    fn has_notice_room(&self) -> bool {
        let queues = self.lock();
        queues.notices.len() < NOTICES_MAX || queues.closed
    }

    fn take(&self) -> Option<Event> {
        let mut queues = self.lock();
        let crowded = queues.notices.len() >= NOTICES_MAX;
        let event = queues.take();
        drop(queues);
        if crowded {
            self.notice_room.notify_waiters();
        }
        event
    }

    /// Whether nothing more will come.
    pub(crate) fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// Control messages that gave way so far.
    pub(crate) fn dropped(&self) -> u64 {
        self.lock().dropped
    }

    /// No more events: what waits may still be taken.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.notice_room.notify_waiters();
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;

    use super::*;
    use crate::types::RequestId;

    fn event(number: u64) -> Event {
        Event::Reply { id: RequestId::new(number), result: Ok(Bytes::new()) }
    }

    fn number(event: Option<Event>) -> Option<u64> {
        match event? {
            Event::Reply { id, .. } => Some(id.get()),
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn notices_come_first_and_the_oldest_control_goes() {
        let inbox = Inbox::new(1 << 20);
        let mut events = Events::new(Arc::clone(&inbox));
        inbox.bulk(event(1), 10).await;
        inbox.control(event(2), 10);
        inbox.notify(event(3));
        let order = [events.try_recv(), events.recv().await, events.recv().await].map(number);
        assert_eq!(order, [Some(3), Some(2), Some(1)]);
        assert_eq!(events.try_recv(), None);

        (0..CONTROL_MAX as u64 + 5).for_each(|id| inbox.control(event(id), 1));
        assert_eq!(inbox.dropped(), 5);
        assert_eq!(number(events.try_recv()), Some(5));
        (0..20).for_each(|id| inbox.control(event(id), CONTROL_BYTES_MAX / 10));
        let kept: Vec<_> = std::iter::from_fn(|| number(events.try_recv())).collect();
        assert_eq!(kept, (10..20).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn bulk_waits_for_room_and_an_end_wakes_everyone() {
        let inbox = Inbox::new(64 * 1024);
        let mut events = Events::new(Arc::clone(&inbox));
        inbox.bulk(event(1), 64 * 1024).await;
        let second = inbox.bulk(event(2), 1);
        tokio::pin!(second);
        let full = tokio::time::timeout(Duration::ZERO, &mut second).await;
        assert!(full.is_err(), "there is no room yet");
        assert_eq!(number(events.recv().await), Some(1));
        second.await;
        inbox.close();
        assert_eq!(number(events.recv().await), Some(2), "what waits is still handed out");
        assert_eq!(events.recv().await, None);
        inbox.bulk(event(3), 1 << 30).await;
        assert_eq!(events.recv().await, None);
    }

    #[tokio::test]
    async fn readers_wait_while_there_are_too_many_notices() {
        let inbox = Inbox::new(1 << 20);
        let mut events = Events::new(Arc::clone(&inbox));
        (0..NOTICES_MAX as u64).for_each(|id| inbox.notify(event(id)));
        let room = inbox.notice_room();
        tokio::pin!(room);
        assert!(tokio::time::timeout(Duration::ZERO, &mut room).await.is_err());
        events.recv().await;
        room.await;
    }
}

//! What waits for the caller, in four lanes that take turns: none waits for all of another.
//!
//! 1. Replies to what this node asked, and its own addresses: bounded by what was asked.
//! 2. Notices of peers: bounded by what they are about, see [`notices`].
//! 3. Control messages are never waited for: the oldest of the same peer and namespace go when
//!    there are too many.
//! 4. All other messages are bounded in bytes for each peer and in all; their stream's reader
//!    waits, and so, in the end, does the sender. Guests have bytes of their own.
//!
//! Within lanes 3 and 4 namespaces take turns, and the peers of one namespace; members and guests
//! of a namespace apart. A message never overtakes the notices of its peer, nor does the loss of a
//! connection overtake the replies that came before.

mod lane;
mod notices;
#[cfg(test)]
mod tests;
mod turns;

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{Notify, Semaphore};

use self::{
    lane::Lane,
    notices::{Next, Notices},
};
use crate::{config::Limits, event::Event, types::Scope};

/// Messages of members on other channels than Control, at most.
const BULK_MAX: usize = 16_384;
/// The same of guests.
const GUEST_BULK_MAX: usize = 4_096;
/// What a namespace, and a peer in it, may take in one turn of lane 4.
const BULK_QUANTUM: usize = 64 * 1024;
/// One permit stands for this many bytes, so that every limit fits the semaphore's range.
const PERMIT_BYTES: usize = 256;
/// The part of the bytes of all members that one may use up.
const MEMBER_PART: usize = 4;
/// How many events each lane may give before the next one's turn.
const LANES: [usize; 4] = [8, 4, 8, 4];

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
        *self.inbox.lock() = Queues { closed: true, ..Queues::new() };
    }
}

#[derive(Debug)]
struct Queues {
    /// Replies, and addresses of this node; how many came and how many were taken so far.
    own: VecDeque<Event>,
    own_came: u64,
    own_taken: u64,
    notices: Notices,
    control: Lane,
    bulk: Lane,
    /// The lane whose turn it is, and how many events it may still give.
    turn: (usize, usize),
    dropped: u64,
    closed: bool,
}

impl Queues {
    const fn new() -> Self {
        Self {
            own: VecDeque::new(),
            own_came: 0,
            own_taken: 0,
            notices: Notices::new(),
            control: Lane::new(0),
            bulk: Lane::new(BULK_QUANTUM),
            turn: (0, LANES[0]),
            dropped: 0,
            closed: false,
        }
    }

    fn take(&mut self) -> Option<Event> {
        // The lane whose turn it is may be looked at twice: now, and after all others.
        for _ in 0..=LANES.len() {
            let (lane, left) = self.turn;
            if left > 0
                && let Some(event) = self.take_of(lane)
            {
                self.turn = (lane, left - 1);
                return Some(event);
            }
            let next = (lane + 1) % LANES.len();
            self.turn = (next, LANES.get(next).copied().unwrap_or(1));
        }
        None
    }

    fn take_of(&mut self, lane: usize) -> Option<Event> {
        let lane = match lane {
            0 => return self.take_own(),
            1 => {
                let next = self.notices.pop(self.own_taken)?;
                return self.resolve(next);
            }
            2 => &mut self.control,
            _ => &mut self.bulk,
        };
        if !self.notices.is_empty()
            && let Some(peer) = lane.next_peer()
            && let Some(next) = self.notices.pop_of(peer, self.own_taken)
        {
            lane.pass();
            return self.resolve(next);
        }
        lane.pop()
    }

    fn resolve(&mut self, next: Next) -> Option<Event> {
        match next {
            Next::Notice(event) => Some(event),
            Next::Reply => self.take_own(),
        }
    }

    fn take_own(&mut self) -> Option<Event> {
        let event = self.own.pop_front()?;
        self.own_taken += 1;
        Some(event)
    }
}

/// Bytes that may wait of one peer's messages.
#[derive(Clone, Debug)]
pub(crate) struct Room {
    member: Arc<Semaphore>,
    guest: Arc<Semaphore>,
}

impl Room {
    pub(crate) fn new(limits: &Limits) -> Self {
        let semaphore = |bytes| Arc::new(Semaphore::new(permits(bytes)));
        Self {
            member: semaphore(limits.inbox_bytes_max / MEMBER_PART),
            guest: semaphore(limits.guest_inbox.peer_bytes_max),
        }
    }
}

fn permits(bytes: usize) -> usize {
    (bytes / PERMIT_BYTES).clamp(1, Semaphore::MAX_PERMITS.min(u32::MAX as usize))
}

/// The sending half, shared by the swarm's task and every stream's reader.
#[derive(Debug)]
pub(crate) struct Inbox {
    limits: Limits,
    queues: Mutex<Queues>,
    wake: Notify,
    member_room: Arc<Semaphore>,
    guest_room: Arc<Semaphore>,
}

impl Inbox {
    pub(crate) fn new(limits: &Limits) -> Arc<Self> {
        Arc::new(Self {
            limits: limits.clone(),
            queues: Mutex::new(Queues::new()),
            wake: Notify::new(),
            member_room: Arc::new(Semaphore::new(permits(limits.inbox_bytes_max))),
            guest_room: Arc::new(Semaphore::new(permits(limits.guest_inbox.bytes_max))),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Queues> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A reply, an address of this node, or a notice of a peer. It never waits.
    pub(crate) fn notify(&self, event: Event) {
        self.push(|queues| match event.subject() {
            Some(peer) => queues.notices.push(peer, event, queues.own_came),
            None => {
                queues.own_came += 1;
                queues.own.push_back(event);
            }
        });
    }

    /// A control message of `bytes` bytes: older ones give way.
    pub(crate) fn control(&self, event: Event, bytes: usize) {
        let guest = is_of_guest(&event);
        let Limits { control_bytes_max, guest_control_bytes_max, .. } = self.limits;
        let bytes_max = if guest { guest_control_bytes_max } else { control_bytes_max };
        self.push(|queues| {
            queues.dropped += queues.control.push_bounded(event, bytes, bytes_max);
        });
    }

    /// Any other message of `bytes` bytes, which waits for room of its peer and of all peers.
    /// Cancelled, it is lost.
    pub(crate) async fn bulk(&self, room: &Room, event: Event, bytes: usize) {
        let Limits { inbox_bytes_max, guest_inbox, .. } = self.limits;
        let (peer, peer_max, all, all_max, count) = if is_of_guest(&event) {
            let share = guest_inbox;
            (&room.guest, share.peer_bytes_max, &self.guest_room, share.bytes_max, GUEST_BULK_MAX)
        } else {
            let peer_max = inbox_bytes_max / MEMBER_PART;
            (&room.member, peer_max, &self.member_room, inbox_bytes_max, BULK_MAX)
        };
        // Small messages cost at least their share of the number of messages that may wait.
        let most = permits(peer_max).min(permits(all_max));
        let least = (permits(all_max) / count).clamp(1, most);
        let cost = bytes.div_ceil(PERMIT_BYTES).clamp(least, most);
        let cost = u32::try_from(cost).unwrap_or(u32::MAX);
        let Ok(of_peer) = Arc::clone(peer).acquire_many_owned(cost).await else { return };
        let Ok(of_all) = Arc::clone(all).acquire_many_owned(cost).await else { return };
        self.push(|queues| queues.bulk.push(event, bytes, Some([of_peer, of_all])));
    }

    fn take(&self) -> Option<Event> {
        self.lock().take()
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
        self.member_room.close();
        self.guest_room.close();
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

fn is_of_guest(event: &Event) -> bool {
    event.source().is_some_and(|source| source.scope == Scope::Free)
}

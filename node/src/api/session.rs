//! The session in which a handle's writes are sent: each is applied once, however often the router
//! has to repeat it. It also knows the newest entry that the handle has read or written, below
//! which its session reads never go.
//!
//! A session is opened by its first command, which goes alone; then at most
//! [`limits::PIPELINE_MAX`] sequences are under way. A [`Permit`] is one sequence: it is held until
//! the command is answered, not only as long as somebody waits for it.
//!
//! Invariants:
//! 1. No sequence is used twice, and none is used before the first was answered.
//! 2. `acked_below` is at most the lowest sequence that the router may still repeat.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use meshraft_consensus::Index;
use meshraft_service::{Sequence, ServiceError, SessionId, limits, wire::Response};
use tokio::sync::Notify;

/// The session of a handle and its clones.
#[derive(Debug, Default)]
pub(crate) struct Session {
    state: Mutex<State>,
    moved: Notify,
    /// The newest entry that an answer told of; it only grows.
    seen: AtomicU64,
}

#[derive(Debug)]
struct State {
    /// `None`: to be drawn when a command comes.
    id: Option<SessionId>,
    open: bool,
    next: Sequence,
    under_way: BTreeSet<Sequence>,
}

impl Default for State {
    fn default() -> Self {
        Self { id: None, open: false, next: Sequence::FIRST, under_way: BTreeSet::new() }
    }
}

impl State {
    fn acked_below(&self) -> Sequence {
        self.under_way.first().copied().unwrap_or(self.next)
    }

    fn may_start(&self) -> bool {
        if self.open {
            self.next.get() - self.acked_below().get() < limits::PIPELINE_MAX as u64
        } else {
            self.under_way.is_empty()
        }
    }
}

/// The right to send one command, and what names it.
#[derive(Debug)]
pub(crate) struct Permit {
    session: Arc<Session>,
    /// The session that the command belongs to.
    pub(crate) id: SessionId,
    /// Its sequence there.
    pub(crate) sequence: Sequence,
    /// Answers below this are never asked for again.
    pub(crate) acked_below: Sequence,
}

impl Session {
    /// Waits for a turn and takes the next sequence. Cancel-safe.
    ///
    /// # Errors
    /// The operating system gave no randomness for a new session.
    pub(crate) async fn begin(self: &Arc<Self>) -> Result<Permit, getrandom::Error> {
        loop {
            let moved = self.moved.notified();
            tokio::pin!(moved);
            // Registered before the state is looked at, so that no move is missed.
            moved.as_mut().enable();
            if let Some(permit) = self.try_begin()? {
                return Ok(permit);
            }
            moved.await;
        }
    }

    /// An answer told of this entry.
    pub(crate) fn see(&self, index: Index) {
        self.seen.fetch_max(index.get(), Ordering::AcqRel);
    }

    /// The newest entry that an answer told of.
    pub(crate) fn seen(&self) -> Index {
        Index::new(self.seen.load(Ordering::Acquire))
    }

    fn try_begin(self: &Arc<Self>) -> Result<Option<Permit>, getrandom::Error> {
        let mut state = self.lock();
        if !state.may_start() {
            return Ok(None);
        }
        let id = match state.id {
            Some(id) => id,
            None => {
                let mut bytes = [0; 16];
                getrandom::fill(&mut bytes)?;
                SessionId::new(bytes)
            }
        };
        state.id = Some(id);
        let sequence = state.next;
        state.next = sequence.next();
        state.under_way.insert(sequence);
        let acked_below = state.acked_below();
        drop(state);
        Ok(Some(Permit { session: Arc::clone(self), id, sequence, acked_below }))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Each change of the state is whole before anything could panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Permit {
    /// The command was answered: the session goes on, or is given up for a new one.
    pub(crate) fn settle(self, response: &Response) {
        let mut state = self.session.lock();
        if state.id != Some(self.id) {
            return;
        }
        match response {
            Ok(_) => state.open = true,
            Err(ServiceError::SessionExpired { .. }) => *state = State::default(),
            Err(_) => {}
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut state = self.session.lock();
        if state.id == Some(self.id) {
            state.under_way.remove(&self.sequence);
            if !state.open {
                // The first command failed: whether it opened the session is unknown.
                *state = State::default();
            }
        }
        drop(state);
        self.session.moved.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use meshraft_service::wire::Reply;

    use super::*;

    fn begin(session: &Arc<Session>) -> Option<Permit> {
        session.try_begin().unwrap()
    }

    fn answered() -> Response {
        Ok(Reply::Barrier { index: Index::new(1) })
    }

    #[test]
    fn the_first_command_goes_alone_and_then_a_bounded_pipeline() {
        let session = Arc::new(Session::default());
        let first = begin(&session).unwrap();
        assert_eq!((first.sequence, first.acked_below), (Sequence::FIRST, Sequence::FIRST));
        assert!(begin(&session).is_none());
        first.settle(&answered());
        let mut window: Vec<_> =
            (0..limits::PIPELINE_MAX).map(|_| begin(&session).unwrap()).collect();
        assert!(begin(&session).is_none());
        // One in the middle frees no room: the window ends at the oldest one.
        drop(window.remove(100));
        assert!(begin(&session).is_none());
        drop(window.remove(0));
        assert_eq!(begin(&session).unwrap().acked_below, Sequence::new(3));
    }

    #[test]
    fn a_failed_first_command_and_an_expired_session_start_anew() {
        let session = Arc::new(Session::default());
        let first = begin(&session).unwrap();
        let id = first.id;
        first.settle(&Err(ServiceError::NoLeader));
        let second = begin(&session).unwrap();
        assert_ne!(second.id, id);
        assert_eq!(second.sequence, Sequence::FIRST);
        second.settle(&answered());
        let (late, expired) = (begin(&session).unwrap(), begin(&session).unwrap());
        expired.settle(&Err(ServiceError::SessionExpired { maybe: false }));
        let renewed = begin(&session).unwrap();
        assert_eq!(renewed.sequence, Sequence::FIRST);
        late.settle(&answered());
        assert!(begin(&session).is_none(), "an answer of the old session opens no new one");
        drop(renewed);
    }

    #[tokio::test]
    async fn who_waits_goes_on_when_the_first_is_answered() {
        let session = Arc::new(Session::default());
        let first = session.begin().await.unwrap();
        let mut waiting = Box::pin(session.begin());
        assert!(futures::poll!(waiting.as_mut()).is_pending());
        first.settle(&answered());
        assert_eq!(waiting.await.unwrap().sequence, Sequence::new(2));
    }
}

//! Reads of the log, off the driver: each on a blocking thread, few at a time, the rest in line.
//!
//! The line is bounded by what cores leave outstanding: each has a handful of loads open at most.

use std::collections::VecDeque;

use meshraft_consensus::{Entry, IndexRange, LoadError};
use meshraft_storage::Store;
use tokio::sync::mpsc;

use crate::host::LoadToken;

/// Reads at a time: enough to keep a disk busy, few enough to leave threads to others.
const RUNNING_MAX: usize = 4;

/// A finished read.
pub(crate) type Loaded = (LoadToken, Result<Vec<Entry>, LoadError>);

/// One wanted read.
#[derive(Debug)]
pub(crate) struct Wanted {
    pub(crate) load: LoadToken,
    pub(crate) range: IndexRange,
    pub(crate) bytes_max: u64,
}

/// The reads of a node.
pub(crate) struct Loads {
    store: Store,
    waiting: VecDeque<Wanted>,
    running: usize,
    done: mpsc::Sender<Loaded>,
}

impl Loads {
    /// Reads of this store; what is read comes out of the receiver.
    pub(crate) fn new(store: Store) -> (Self, mpsc::Receiver<Loaded>) {
        // Each running read sends one message, so that sending never waits.
        let (done, receiver) = mpsc::channel(RUNNING_MAX);
        (Self { store, waiting: VecDeque::new(), running: 0, done }, receiver)
    }

    /// Reads, now or when its turn comes.
    pub(crate) fn want(&mut self, wanted: Wanted) {
        self.waiting.push_back(wanted);
        self.start();
    }

    /// Must be called once for each [`Loaded`] that was received.
    pub(crate) fn finished(&mut self) {
        self.running = self.running.saturating_sub(1);
        self.start();
    }

    /// How many reads are under way.
    pub(crate) const fn running(&self) -> usize {
        self.running
    }

    fn start(&mut self) {
        while self.running < RUNNING_MAX {
            let Some(Wanted { load, range, bytes_max }) = self.waiting.pop_front() else { return };
            let (store, done) = (self.store.clone(), self.done.clone());
            self.running += 1;
            tokio::task::spawn_blocking(move || {
                let read = || store.load(load.group, range, bytes_max);
                let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(read))
                    .unwrap_or(Err(LoadError::Failed));
                // Fails only if the driver has ended, and then nobody wants the entries.
                let _ = done.blocking_send((load, result));
            });
        }
    }
}

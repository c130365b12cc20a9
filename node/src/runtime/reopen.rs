//! Namespaces that are opened again in one process: what the store holds of them by now is read off
//! the driver, each on a blocking thread, and only then are they opened.

use std::{collections::BTreeMap, panic::AssertUnwindSafe, panic::catch_unwind};

use meshraft_consensus::Namespace;
use meshraft_storage::{OpenError, OpenedNamespace, Store};
use tokio::sync::mpsc;

use super::command::Open;

/// Namespaces that are read at a time; more wait for a thread.
const RUNNING_MAX: usize = 16;

/// What was found of a namespace; `None` if reading panicked.
pub(crate) type Found = Option<Result<Option<OpenedNamespace>, OpenError>>;

/// The namespaces that are being read.
pub(crate) struct Reopening {
    store: Store,
    asked: BTreeMap<Namespace, Open>,
    done: mpsc::Sender<(Namespace, Found)>,
}

impl Reopening {
    /// Reads of this store; what is found comes out of the receiver.
    pub(crate) fn new(store: Store) -> (Self, mpsc::Receiver<(Namespace, Found)>) {
        let (done, receiver) = mpsc::channel(RUNNING_MAX);
        (Self { store, asked: BTreeMap::new(), done }, receiver)
    }

    /// Whether a namespace is being read.
    pub(crate) fn contains(&self, namespace: &Namespace) -> bool {
        self.asked.contains_key(namespace)
    }

    /// Reads a namespace that nobody is reading, and keeps what shall be done then.
    pub(crate) fn start(&mut self, open: Open) {
        let (store, done) = (self.store.clone(), self.done.clone());
        let namespace = open.namespace.clone();
        self.asked.insert(namespace.clone(), open);
        tokio::task::spawn_blocking(move || {
            let found = catch_unwind(AssertUnwindSafe(|| store.reopen(&namespace))).ok();
            // The store is let go of before the driver hears, which may close it then. Sending
            // fails only if the driver has ended, and then nobody opens anything.
            drop(store);
            let _ = done.blocking_send((namespace, found));
        });
    }

    /// What shall be done with a namespace that was read; once.
    pub(crate) fn finish(&mut self, namespace: &Namespace) -> Option<Open> {
        self.asked.remove(namespace)
    }

    /// How many are being read.
    pub(crate) fn running(&self) -> usize {
        self.asked.len()
    }
}

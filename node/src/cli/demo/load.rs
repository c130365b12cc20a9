//! The demo's write load: a few writers at a steady pace, and a note of every acknowledged write.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use meshraft::Client;
use tokio::{
    task::JoinSet,
    time::{MissedTickBehavior, interval},
};

const WRITERS: usize = 8;
/// Each writer's pace. Together a steady load, not a race: the demo shows that nothing is lost, on
/// any machine, while it also measures other things.
const PACE: Duration = Duration::from_millis(10);

/// A load that runs until it is dropped or stopped.
#[derive(Debug)]
pub(super) struct Load {
    writers: JoinSet<()>,
    notes: Arc<Mutex<Notes>>,
}

/// What became of the writes.
#[derive(Clone, Debug, Default)]
pub(super) struct Notes {
    /// Keys and values that were acknowledged.
    pub(super) acknowledged: BTreeMap<String, String>,
    /// Writes that failed and may have taken effect.
    pub(super) uncertain: usize,
    /// Writes that failed and did not take effect.
    pub(super) refused: usize,
}

impl Load {
    /// Starts the writers.
    pub(super) fn start(client: &Client) -> Self {
        let notes = Arc::default();
        let mut writers = JoinSet::new();
        for writer in 0..WRITERS {
            writers.spawn(write(client.clone(), writer, Arc::clone(&notes)));
        }
        Self { writers, notes }
    }

    /// How many writes were acknowledged until now.
    pub(super) fn acknowledged(&self) -> usize {
        lock(&self.notes).acknowledged.len()
    }

    /// Ends the load. Writes that are under way count as never answered.
    pub(super) async fn stop(mut self) -> Notes {
        self.writers.shutdown().await;
        lock(&self.notes).clone()
    }
}

fn lock(notes: &Mutex<Notes>) -> MutexGuard<'_, Notes> {
    // Each note is whole before anything could panic.
    notes.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn write(client: Client, writer: usize, notes: Arc<Mutex<Notes>>) {
    let mut pace = interval(PACE);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for number in 0_u64.. {
        pace.tick().await;
        let (key, value) = (format!("load/{writer}/{number}"), format!("{writer} wrote {number}"));
        let result = client.set(key.clone(), value.clone()).await;
        let mut notes = lock(&notes);
        match result {
            Ok(_) => {
                notes.acknowledged.insert(key, value);
            }
            Err(error) if error.maybe_applied() => notes.uncertain += 1,
            Err(_) => notes.refused += 1,
        }
    }
}

//! The one thread that writes: all that is queued becomes one transaction with one synchronisation,
//! and then is acknowledged.
//!
//! Invariants:
//! 1. Nothing is acknowledged before the transaction that holds it is durable.
//! 2. Jobs are durable and acknowledged in the order of submission.
//! 3. After a failure nothing is written or acknowledged any more: the outcome of a failed
//!    synchronisation is unknown, and a later one that succeeds proves nothing.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, PoisonError},
};

use crate::{
    batch::{Batch, Queued},
    disk::{Disk, Transaction},
    error::WriteError,
    rewrite,
    row::RowKey,
    stage::Stage,
    store::{Shared, State},
    types::Ack,
};

/// The most dead rows, and pieces, that one commit removes. It is more than a commit of small
/// writes adds, so the dead never pile up.
const DEAD_MAX: usize = 128;

/// Everything that one commit is about.
struct Work {
    jobs: Vec<Queued>,
    batch: Batch,
    sparse: Vec<RowKey>,
    dead_rows: Vec<RowKey>,
    dead_pieces: Vec<RowKey>,
}

/// Commits until the store is closed or fails.
pub(crate) fn run(shared: &Arc<Shared>, disk: &Disk, mut acks: impl FnMut(Ack)) {
    let _stop = StopAtEnd(shared);
    let mut stage = Stage::new(shared.lock().catalog.next_row);
    while let Some(mut work) = take(shared) {
        stage.clear();
        let done = catch_unwind(AssertUnwindSafe(|| commit(shared, disk, &mut stage, &mut work)));
        match done.unwrap_or(Err(WriteError::Damaged)) {
            Ok(()) => acks(Ack::Durable(work.jobs.iter().map(Queued::ticket).collect())),
            Err(error) => {
                tracing::error!(%error, "commit failed");
                shared.stop();
                acks(Ack::Failed(error));
                return;
            }
        }
    }
}

/// However the writer ends, also by a panic in an acknowledgement, nothing is queued after it.
struct StopAtEnd<'a>(&'a Shared);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.stop();
    }
}

/// Waits for jobs; `None` once the store is closed and nothing is left.
fn take(shared: &Shared) -> Option<Work> {
    let mut state = shared.lock();
    while state.queue.is_empty() {
        if state.closed {
            return None;
        }
        state = shared.work.wait(state).unwrap_or_else(PoisonError::into_inner);
    }
    let jobs = take_jobs(&mut state, shared.commit_bytes_max);
    let batch = Batch::new(&state.catalog, &jobs);
    let sparse = rewrite::choose(&state.catalog);
    let (dead_rows, dead_pieces) = state.catalog.rows.take_dead(DEAD_MAX);
    Some(Work { jobs, batch, sparse, dead_rows, dead_pieces })
}

fn take_jobs(state: &mut State, bytes_max: u64) -> Vec<Queued> {
    let (mut jobs, mut bytes) = (Vec::new(), 0_u64);
    while let Some(job) = state.queue.front() {
        bytes = bytes.saturating_add(job.cost_bytes());
        if bytes > bytes_max && !jobs.is_empty() {
            break;
        }
        jobs.extend(state.queue.pop_front());
    }
    jobs
}

fn commit(
    shared: &Shared,
    disk: &Disk,
    stage: &mut Stage,
    work: &mut Work,
) -> Result<(), WriteError> {
    let lend = |with: &mut dyn FnMut(&crate::catalog::Catalog)| with(&shared.lock().catalog);
    let stay = rewrite::carry(disk, &work.sparse, stage, lend)?;
    work.batch.stage(&work.jobs, stage)?;
    disk.commit(&Transaction {
        stage,
        namespaces: work.batch.replaced().collect(),
        next_group: work.batch.next_group(),
        dead_rows: &work.dead_rows,
        dead_pieces: &work.dead_pieces,
    })?;
    let mut state = shared.lock();
    let state = &mut *state;
    state.catalog.apply(stage.steps.drain(..), &stage.slots);
    stay.into_iter().for_each(|row| state.catalog.rows.leave(row));
    for job in &work.jobs {
        let Some((group, _)) = job.write() else { continue };
        if let Some(writes) = state.pending.get_mut(&group) {
            writes.pop_front();
            if writes.is_empty() {
                state.pending.remove(&group);
            }
        }
    }
    state.durable += work.jobs.len() as u64;
    shared.settled.notify_all();
    Ok(())
}

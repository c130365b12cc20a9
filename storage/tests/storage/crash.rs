//! Power loss at every kind of moment: nothing acknowledged is lost, nothing is half there, and the
//! store always opens again.
//!
//! `SEED=n` replays one seed, `CRASHES=n` sets how many seeds run.

use std::sync::mpsc::{self, Receiver};

use meshraft_storage::{Ack, Job, MemoryStore, OpenError, Opened, Store, StoreOptions};

use crate::{disk::Disk, script::*, subject::PATIENCE};

type Running = (Store, Opened, Receiver<Ack>);

fn open(disk: &Disk) -> Result<Running, OpenError> {
    let (sender, acks) = mpsc::channel();
    // A small cache makes redb write pages early, so more is pending when the power fails.
    let options = StoreOptions { cache_bytes: 256 << 10, ..StoreOptions::default() };
    // The receiver may be gone when a store is closed after a crash.
    let acknowledge = move |ack| drop(sender.send(ack));
    let (store, opened) = Store::open_on(disk.clone(), options, acknowledge)?;
    Ok((store, opened, acks))
}

#[test]
fn acknowledged_jobs_survive_power_loss() {
    for seed in seeds("CRASHES", 100) {
        let printed = PrintOnPanic(seed);
        run(seed);
        std::mem::forget(printed);
    }
}

/// Names the seed when the test fails under it.
struct PrintOnPanic(u64);

impl Drop for PrintOnPanic {
    fn drop(&mut self) {
        eprintln!("replay with SEED={}", self.0);
    }
}

fn run(seed: u64) {
    let mut random = Random(seed);
    let mut disk = Disk::default();
    let mut script = Script::default();
    drop(open(&disk).unwrap());
    for _ in 0..6 {
        let (store, opened, acks) = open(&disk).unwrap();
        assert_same(&store, &opened, &script.twin);
        disk.set_fuse(random.below(400));
        let (before, after) = work(&mut script, &store, &acks, &mut random);
        drop(store);
        disk = recover(&disk, &mut random);
        script = settle(&disk, before, after);
    }
}

/// Commits batch after batch until the power is gone: what was acknowledged, and with the batch
/// whose fate is open.
fn work(
    script: &mut Script,
    store: &Store,
    acks: &Receiver<Ack>,
    random: &mut Random,
) -> (Script, Script) {
    loop {
        let before = script.clone();
        let acts = 1 + random.below(8);
        let jobs: Vec<Job> = (0..acts).filter_map(|_| script.job(&random.act())).collect();
        let tickets: Vec<_> = jobs.iter().map(Job::ticket).collect();
        if jobs.is_empty() {
            continue;
        }
        store.submit(jobs);
        match acks.recv_timeout(PATIENCE).unwrap() {
            Ack::Durable(durable) => assert_eq!(durable, tickets),
            Ack::Failed(_) => return (before, script.clone()),
        }
    }
}

/// Restores power; sometimes it fails again while the store is being opened.
fn recover(disk: &Disk, random: &mut Random) -> Disk {
    let mut disk = disk.after_power_loss(random);
    for _ in 0..random.below(3) {
        disk.set_fuse(random.below(30));
        drop(open(&disk));
        disk = disk.after_power_loss(random);
    }
    disk
}

/// The open batch is there as a whole, or not at all.
fn settle(disk: &Disk, before: Script, after: Script) -> Script {
    let (store, opened, _acks) = open(disk).unwrap();
    let is = |twin: &MemoryStore| *twin == before.twin;
    let settled = if opened == after.twin.opened() && !is(&after.twin) {
        // What an open tells can be the same for both, as payloads are not part of it.
        let matches_after = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            assert_same_logs(&store, &after.twin);
        }));
        if matches_after.is_ok() { after } else { before }
    } else {
        before
    };
    assert_same(&store, &opened, &settled.twin);
    settled
}

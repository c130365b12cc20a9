//! Dead rows go, mostly dead rows are rewritten, and the file stays as large as what is needed.

use std::time::Duration;

use meshraft_consensus::Index;
use meshraft_storage::{GroupId, Job, LogAfterSnapshot, Ticket};

use crate::subject::*;

fn small(group: u64, index: u64) -> meshraft_consensus::Entry {
    command(1, index, vec![group as u8; 100])
}

/// One group writes on and compacts; 50 that wrote once in its first commits stay idle.
#[test]
fn idle_groups_pin_nothing_but_their_own() {
    let mut disk = OnDisk::new();
    let idle = 2..=51_u64;
    disk.commit(vec![create("busy", 1)]);
    for group in idle.clone() {
        let mut once = write(None, vec![small(group, 1)]);
        once.hard = Some(hard(3, Some(2), 0));
        let large = command(1, group - 1, vec![1; 20_000]);
        disk.commit(vec![
            create(&format!("idle {group}"), group),
            log(1, group, once),
            append(2, 1, vec![large]),
        ]);
    }
    let filled = disk.store().usage();
    assert!(filled.stored_bytes > 1_000_000);
    disk.commit(vec![snapshot(1, position(1, 50), LogAfterSnapshot::KeepFrom(Index::new(51)))]);
    for index in 51..=100 {
        disk.commit(vec![append(1, 1, vec![small(1, index)])]);
    }
    let left = disk.store().usage();
    assert!(left.stored_bytes < 60_000, "{left:?} of {filled:?}");
    let opened = disk.reopen();
    assert_eq!(disk.store().usage().stored_bytes, left.stored_bytes);
    for namespace in opened.namespaces.iter().filter(|one| one.namespace.as_str() != "busy") {
        let group = &namespace.groups[0];
        assert_eq!((group.hard, group.last), (hard(3, Some(2), 0), position(1, 1)));
        let found = disk.load(group.group, range(1, 1), 1);
        assert_eq!(found, Ok(vec![small(group.group.get(), 1)]));
    }
}

/// A vote overwritten ten thousand times leaves one row, not ten thousand.
#[test]
fn superseded_state_is_dropped() {
    let mut disk = OnDisk::new();
    disk.commit(vec![create("a", 1)]);
    for term in 1..=400 {
        let mut vote = write(None, Vec::new());
        vote.hard = Some(hard(term, Some(1), 0));
        disk.commit(vec![log(term, 1, vote)]);
    }
    assert!(disk.store().usage().stored_bytes < 500, "{:?}", disk.store().usage());
    assert_eq!(disk.reopen().namespaces[0].groups[0].hard, hard(400, Some(1), 0));
}

#[test]
fn dropped_group_leaves_nothing() {
    let mut disk = OnDisk::new();
    disk.commit(vec![create("a", 1), create("b", 2)]);
    for index in 1..=40 {
        let entry = command(1, index, vec![3; 50_000]);
        disk.commit(vec![
            append(index, 1, vec![entry.clone()]),
            append(index, 2, vec![small(2, index)]),
        ]);
    }
    let drop_it = Job::Record {
        ticket: Ticket::new(1),
        namespace: namespace("a"),
        record: Vec::new().into(),
        create: None,
        drop: vec![GroupId::new(1)],
    };
    disk.commit(vec![drop_it]);
    for index in 41..=60 {
        disk.commit(vec![append(index, 2, vec![small(2, index)])]);
    }
    let left = disk.store().usage();
    assert!(left.stored_bytes < 20_000, "{left:?}");
    let all: Vec<_> = (1..=60).map(|index| small(2, index)).collect();
    disk.reopen();
    assert_eq!(disk.load(GroupId::new(2), range(1, 60), u64::MAX), Ok(all));
}

/// What a long run is made of; each number can be set by the variable of the same name.
struct Run {
    /// `LOG_ENTRIES`: how many entries are written in all.
    entries: u64,
    /// `LOG_EVERY`: how many of them lie between two snapshots.
    every: u64,
    /// `LOG_KEEP`: how many stay behind each snapshot.
    keep: u64,
    /// `LOG_BATCH`: how many a commit takes.
    batch: u64,
    /// `LOG_IDLE`: how many other groups wrote once, early, and then nothing.
    idle: u64,
}

impl Run {
    fn set(self) -> Self {
        let set = |name: &str, default| {
            std::env::var(name).map_or(default, |value| value.parse().unwrap())
        };
        Self {
            entries: set("LOG_ENTRIES", self.entries),
            every: set("LOG_EVERY", self.every),
            keep: set("LOG_KEEP", self.keep),
            batch: set("LOG_BATCH", self.batch),
            idle: set("LOG_IDLE", self.idle),
        }
    }

    /// Writes it all; answers how large the file was at each snapshot.
    fn write(&self, disk: &mut OnDisk) -> Vec<u64> {
        let mut sizes = Vec::new();
        disk.commit((1..=1 + self.idle).map(|group| create(&format!("n{group}"), group)).collect());
        for from in (0..self.entries).step_by(self.batch as usize) {
            let last = self.entries.min(from + self.batch);
            let entries = (from + 1..=last).map(|index| command(1, index, vec![9; 150]));
            let mut one = write(None, entries.collect());
            one.hard = Some(hard(1, None, from));
            let mut jobs = vec![log(last, 1, one)];
            if from / self.batch < self.idle {
                jobs.push(append(0, 2 + from / self.batch, vec![small(1, 1)]));
            }
            if last / self.every > from / self.every {
                let covered = last - last % self.every;
                let first = Index::new(covered.saturating_sub(self.keep) + 1);
                jobs.push(snapshot(1, position(1, covered), LogAfterSnapshot::KeepFrom(first)));
                sizes.push(disk.file_bytes());
            }
            disk.commit(jobs);
        }
        sizes
    }
}

/// The file does not grow with the number of appends when the log is kept short, and an open takes
/// as long as what is left, whatever was written before.
#[test]
fn file_stays_bounded_under_steady_compaction() {
    let run = Run { entries: 60_000, every: 4_000, keep: 2_000, batch: 50, idle: 20 }.set();
    let mut disk = OnDisk::new();
    let sizes = run.write(&mut disk);
    let (usage, allocated) = (disk.store().usage(), disk.allocated());
    // The file of a process that is killed now.
    let mut killed = disk.copied();
    let (opened, clean) = timed(|| disk.reopen());
    let (recovered, repaired) = timed(|| killed.reopen());
    println!("{sizes:?}; {allocated} allocated; {usage:?}; opened in {clean:?}, {repaired:?}");
    assert_eq!(recovered, opened);
    assert_eq!(opened.namespaces[0].groups[0].last, position(1, run.entries));
    let early = sizes[sizes.len() / 4];
    assert!(sizes.iter().skip(sizes.len() / 4).all(|size| *size <= early), "it grew: {sizes:?}");
    // Entries of 150 bytes take about 190 in a row; rows that are going take up to as much again.
    let left_bytes = (run.keep + run.every) * 190 * 2;
    assert!(usage.stored_bytes < left_bytes, "{usage:?}");
}

fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    #[expect(clippy::disallowed_methods, reason = "told to who runs it, and decides nothing")]
    let now = std::time::Instant::now;
    let begun = now();
    let done = work();
    (done, now() - begun)
}

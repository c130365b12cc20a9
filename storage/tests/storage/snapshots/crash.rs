//! Power loss, a full disk and a failing one at every step: all of a snapshot is there or nothing,
//! and what was there before stays.

use std::io::{self, Read, Write};

use meshraft_consensus::{Position, SnapshotMeta};
use meshraft_storage::{
    GroupId, Opened, SnapshotChunk, SnapshotError, SnapshotId, SnapshotOptions, Snapshots,
};

use super::{
    files::{Fault, Files},
    subject::*,
};
use crate::{
    script::{Random, seeds},
    subject::position,
};

const STATE_BYTES: usize = 300_000;

/// Snapshots on a file system that a test has its hands on.
struct OnFiles(Snapshots);

impl Subject for OnFiles {
    pass_on!(self => self.0);

    fn restart(&mut self) {}

    fn rot(&mut self, _: GroupId, _: Position, _: usize) {}
}

fn open(files: &Files) -> OnFiles {
    let options = SnapshotOptions { sync_bytes: 100_000 };
    OnFiles(Snapshots::open_on(files.clone(), options).unwrap())
}

/// A file system that holds one snapshot, durable and recorded.
fn base(meta: &SnapshotMeta) -> Files {
    let files = Files::default();
    take(&mut open(&files), meta, 1, &state(STATE_BYTES, 1));
    files
}

/// What a work may leave, told to `check` for each: (where it failed, the seed of the loss).
///
/// Fails each change that `work` makes, one after the other, by loss of power.
fn for_every_loss(
    prepare: impl Fn() -> Files,
    work: impl Fn(&mut OnFiles) -> Result<(), SnapshotError>,
    check: impl Fn(&Files, Result<(), SnapshotError>),
) {
    for step in 0.. {
        let files = prepare();
        let changes = files.changes();
        files.set_fuse(step, Fault::Power);
        let result = work(&mut open(&files));
        check(&files.after_kill(), result.clone());
        for seed in seeds("CRASHES", 20) {
            let printed = PrintOnPanic(step, seed);
            check(&files.after_power_loss(&mut Random(seed)), result.clone());
            std::mem::forget(printed);
        }
        if result.is_ok() && files.changes() - changes <= step {
            assert!(step > 3, "the work did next to nothing");
            return;
        }
    }
}

/// Names the place when the test fails there.
struct PrintOnPanic(u64, u64);

impl Drop for PrintOnPanic {
    fn drop(&mut self) {
        eprintln!("failed at change {}, replay with SEED={}", self.0, self.1);
    }
}

fn names(files: &Files) -> Vec<String> {
    files.contents().into_keys().map(|path| path.to_str().unwrap().to_owned()).collect()
}

#[test]
fn take_that_loses_power_leaves_all_or_nothing() {
    let (old, new) = (meta(1, 5), meta(1, 9));
    for_every_loss(
        || base(&old),
        |snapshots| take_new(snapshots, &new),
        |files, result| {
            let mut snapshots = open(files);
            assert_eq!(restored(&snapshots, old.position), Ok(state(STATE_BYTES, 1)));
            let held = snapshots.positions(GROUP).unwrap();
            if result.is_ok() {
                assert!(held.contains(&new.position), "it was told to be durable");
            }
            if held.contains(&new.position) {
                assert_eq!(restored(&snapshots, new.position), Ok(state(STATE_BYTES, 2)));
            }
            // The record tells which of the two counts.
            let recorded = if result.is_ok() { &new } else { &old };
            snapshots.sweep(&opened(&[(3, Some(recorded.clone()))])).unwrap();
            let name = format!("3/1-{}.snap", recorded.position.index.get());
            assert_eq!(names(files), [name]);
        },
    );
}

fn take_new(snapshots: &mut OnFiles, meta: &SnapshotMeta) -> Result<(), SnapshotError> {
    let state = state(STATE_BYTES, 2);
    snapshots.take(GROUP, meta, id(2), |out| out.write_all(&state)).map(drop)
}

#[test]
fn take_over_another_leaves_one_of_the_two() {
    let meta = meta(1, 5);
    for_every_loss(
        || base(&meta),
        |snapshots| take_new(snapshots, &meta),
        |files, result| {
            let mut snapshots = open(files);
            let (found, _) = snapshots.verify(GROUP, meta.position).unwrap();
            assert!(found == id(2) || found == id(1) && result.is_err());
            snapshots.sweep(&opened(&[(3, Some(meta.clone()))])).unwrap();
            assert_eq!(names(files), ["3/1-5.snap"]);
            take_new(&mut snapshots, &meta).unwrap();
        },
    );
}

/// The first snapshot of a group: its folder is new.
#[test]
fn first_snapshot_is_durable_with_its_folder() {
    let meta = meta(1, 5);
    for_every_loss(
        Files::default,
        |snapshots| take_new(snapshots, &meta),
        |files, result| {
            let mut snapshots = open(files);
            match snapshots.verify(GROUP, meta.position) {
                Ok((found, _)) => assert_eq!(found, id(2)),
                Err(error) => {
                    assert_eq!(error, SnapshotError::Gone);
                    assert!(result.is_err(), "it was told to be durable");
                }
            }
            take_new(&mut snapshots, &meta).unwrap();
        },
    );
}

fn fetched() -> Vec<u8> {
    let mut elsewhere = InMemory::default();
    take(&mut elsewhere, &meta(1, 9), 9, &state(STATE_BYTES, 9));
    file(&elsewhere, position(1, 9))
}

/// Goes on with a fetch where it ends, and finishes it.
fn fetch(snapshots: &mut OnFiles, bytes: &[u8]) -> Result<(), SnapshotError> {
    let resumed = snapshots.resume(GROUP, position(1, 9))?;
    let mut offset = resumed.map_or(0, |(found, offset)| {
        assert_eq!(found, id(9));
        offset as usize
    });
    while offset < bytes.len() {
        let chunk = &bytes[offset..bytes.len().min(offset + 30_000)];
        let (total, at) = (bytes.len() as u64, offset as u64);
        offset = snapshots.append(GROUP, position(1, 9), id(9), total, at, chunk)? as usize;
    }
    snapshots.finish(GROUP, &meta(1, 9))
}

#[test]
fn fetch_that_loses_power_goes_on() {
    let (old, bytes) = (meta(1, 5), fetched());
    for_every_loss(
        || base(&old),
        |snapshots| fetch(snapshots, &bytes),
        |files, result| {
            let mut snapshots = open(files);
            snapshots.sweep(&opened(&[(3, Some(old.clone()))])).unwrap();
            assert_eq!(snapshots.positions(GROUP), Ok(vec![old.position]));
            assert_eq!(restored(&snapshots, old.position), Ok(state(STATE_BYTES, 1)));
            let _ = result;
            fetch(&mut snapshots, &bytes).unwrap();
            assert_eq!(file(&snapshots, position(1, 9)), bytes);
            assert_eq!(names(files), ["3/1-5.snap", "3/1-9.snap"]);
        },
    );
}

#[test]
fn fetched_snapshot_is_durable_when_it_is_told_to_be() {
    let bytes = fetched();
    for_every_loss(
        Files::default,
        |snapshots| fetch(snapshots, &bytes),
        |files, result| {
            let snapshots = open(files);
            match snapshots.verify(GROUP, position(1, 9)) {
                Ok(found) => assert_eq!(found, (id(9), meta(1, 9))),
                Err(error) => {
                    assert_eq!(error, SnapshotError::Gone);
                    assert!(result.is_err(), "it was told to be durable");
                }
            }
        },
    );
}

/// Removing what is not needed never takes along what is, and what is left goes the next time.
#[test]
fn clearing_up_that_loses_power_goes_on() {
    let all = [2, 3, 4, 5].map(|index| meta(1, index));
    let kept = opened(&[(3, Some(all[2].clone()))]);
    let prepare = || {
        let files = Files::default();
        let mut snapshots = open(&files);
        all.iter().for_each(|meta| take(&mut snapshots, meta, 1, b"state"));
        for group in [7, 8].map(GroupId::new) {
            snapshots.take(group, &all[0], id(1), |_| Ok(())).unwrap();
            snapshots.append(group, position(1, 7), id(1), 10, 0, b"part").unwrap();
        }
        snapshots.append(GROUP, position(1, 3), id(1), 10, 0, b"late").unwrap();
        files
    };
    for_every_loss(
        prepare,
        |snapshots| {
            snapshots.retain(GROUP, &[position(1, 4), position(1, 3)])?;
            snapshots.sweep(&kept)
        },
        |files, _| {
            let mut snapshots = open(files);
            assert_eq!(restored(&snapshots, position(1, 4)).unwrap(), b"state");
            snapshots.sweep(&kept).unwrap();
            snapshots.retain(GROUP, &[position(1, 4)]).unwrap();
            assert_eq!(names(files), ["3/1-4.snap"]);
        },
    );
}

/// A disk that is full, or fails, at any one step: told by its name, nothing else is harmed, and
/// the same again succeeds.
#[test]
fn failing_step_of_a_take_is_told_and_harms_nothing() {
    let (old, new) = (meta(1, 5), meta(1, 9));
    for fault in [Fault::NoSpace, Fault::Broken] {
        for step in 0.. {
            let files = base(&old);
            files.set_fuse(step, fault);
            let mut snapshots = open(&files);
            let result = take_new(&mut snapshots, &new);
            assert_eq!(restored(&snapshots, old.position), Ok(state(STATE_BYTES, 1)));
            let Err(error) = result else {
                assert!(step > 5, "next to nothing was failed");
                break;
            };
            assert_is(&error, fault);
            let left = names(&files);
            assert!(left.iter().all(|name| name.ends_with(".snap")), "{step}: {left:?}");
            take_new(&mut snapshots, &new).unwrap();
            assert_eq!(restored(&snapshots, new.position), Ok(state(STATE_BYTES, 2)));
        }
    }
}

#[test]
fn failing_step_of_a_fetch_is_told_and_harms_nothing() {
    let (old, bytes) = (meta(1, 5), fetched());
    for fault in [Fault::NoSpace, Fault::Broken] {
        let mut kept = 0;
        for step in 0.. {
            let files = base(&old);
            files.set_fuse(step, fault);
            let mut snapshots = open(&files);
            let result = fetch(&mut snapshots, &bytes);
            assert_eq!(restored(&snapshots, old.position), Ok(state(STATE_BYTES, 1)));
            let Err(error) = result else {
                assert!(step > 5, "next to nothing was failed");
                break;
            };
            assert_is(&error, fault);
            kept += usize::from(snapshots.resume(GROUP, position(1, 9)) != Ok(None));
            fetch(&mut snapshots, &bytes).unwrap();
            assert_eq!(file(&snapshots, position(1, 9)), bytes);
        }
        // A failed write or sync leaves nothing to go on with: what is read then may be in memory
        // only. Only the file that was synced and not renamed stays.
        assert!(kept <= 1, "{kept} partial files outlived a failure");
    }
}

fn assert_is(error: &SnapshotError, fault: Fault) {
    match fault {
        Fault::NoSpace => assert_eq!(*error, SnapshotError::NoSpace),
        _ => assert!(matches!(error, SnapshotError::Io(fault) if fault.code == Some(5)), "{error}"),
    }
}

/// An append that found no space gives back what the file took.
#[test]
fn full_disk_gets_its_space_back() {
    let bytes = fetched();
    let files = Files::default();
    let mut snapshots = open(&files);
    let append = |snapshots: &mut OnFiles, from: usize, to: usize| {
        let (total, at) = (bytes.len() as u64, from as u64);
        snapshots.append(GROUP, position(1, 9), id(9), total, at, &bytes[from..to])
    };
    append(&mut snapshots, 0, 200_000).unwrap();
    files.set_fuse(0, Fault::NoSpace);
    assert_eq!(append(&mut snapshots, 200_000, 210_000), Err(SnapshotError::NoSpace));
    assert_eq!(names(&files), Vec::<String>::new());
    let gap = SnapshotError::Gap { expected: 0, found: 200_000 };
    assert_eq!(append(&mut snapshots, 200_000, 210_000), Err(gap));
    fetch(&mut snapshots, &bytes).unwrap();
}

/// However large the state, little is ever waiting to be written.
#[test]
fn files_are_synchronised_while_they_are_written() {
    let files = Files::default();
    let mut snapshots = open(&files);
    take(&mut snapshots, &meta(1, 9), 9, &state(1_000_000, 9));
    assert!(files.unsynced_max() < 200_000, "{} bytes", files.unsynced_max());
    let bytes = file(&snapshots, position(1, 9));
    let files = Files::default();
    fetch(&mut open(&files), &bytes).unwrap();
    assert!(files.unsynced_max() < 200_000, "{} bytes", files.unsynced_max());
}

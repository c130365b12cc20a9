//! What snapshots promise, run against those on disk and those in memory.

use std::io::{self, Read, Write};

use meshraft_consensus::{Index, Position};
use meshraft_storage::{GroupId, SnapshotError, SnapshotPart};

use super::subject::*;
use crate::subject::{position, range};

macro_rules! contract {
    ($($name:ident),* $(,)?) => {
        mod memory {
            $(#[test]
            fn $name() {
                super::$name(&mut super::InMemory::default());
            })*
        }
        mod disk {
            $(#[test]
            fn $name() {
                super::$name(&mut super::InFolder::new());
            })*
        }
    };
}

contract!(
    state_comes_back_whatever_its_length,
    file_is_read_in_any_chunks,
    snapshot_is_replaced_by_another_at_its_position,
    failed_take_leaves_what_was_there,
    failure_is_told_although_the_writer_hides_it,
    restore_need_not_read_to_the_end,
    restore_of_an_old_part_is_no_state,
    every_flipped_bit_is_told,
    missing_files_are_gone,
    file_is_fetched_in_chunks,
    chunks_out_of_place_are_refused,
    another_snapshot_gives_way_at_offset_zero_alone,
    group_has_one_partial_file,
    fetched_file_must_be_what_was_offered,
    unfinished_file_is_not_finished,
    interrupted_fetch_goes_on,
    retained_snapshots_stay,
    dropped_group_leaves_nothing,
    sweep_keeps_what_is_recorded_and_what_is_fetched,
    sweep_removes_nothing_whole_where_a_record_may_be_lost,
);

/// Up to and around the borders of blocks, and past the pace of synchronising.
fn state_comes_back_whatever_its_length(subject: &mut impl Subject) {
    let block = 64 * 1024;
    let lengths = [0, 1, block - 1, block, block + 1, 2 * block, 5 * block + 77, 3_000_000];
    for (index, bytes) in (1..).zip(lengths) {
        let (meta, state) = (meta(1, index), state(bytes, index));
        take(subject, &meta, index as u8, &state);
        assert_eq!(restored(subject, meta.position), Ok(state), "{bytes} bytes");
        subject.restart();
        assert_eq!(subject.verify(GROUP, meta.position), Ok((id(index as u8), meta)));
    }
    let all: Vec<Position> = (1..=8).map(|index| position(1, index)).collect();
    assert_eq!(subject.positions(GROUP), Ok(all));
}

fn file_is_read_in_any_chunks(subject: &mut impl Subject) {
    let meta = meta(4, 9);
    take(subject, &meta, 5, &state(100_000, 1));
    let whole = file(subject, meta.position);
    let read = |offset, bytes_max| subject.read(GROUP, meta.position, None, offset, bytes_max);
    for (offset, bytes_max) in [(0, 0), (0, 1), (31, 4000), (99_999, u32::MAX), (1, 100_000)] {
        let chunk = read(offset, bytes_max).unwrap();
        let end = whole.len().min(offset as usize + bytes_max as usize);
        assert_eq!(chunk.bytes, whole[offset as usize..end]);
        assert_eq!((chunk.id, chunk.total), (id(5), whole.len() as u64));
    }
    let total = whole.len() as u64;
    assert!(read(total, 10).unwrap().bytes.is_empty());
    let gap = SnapshotError::Gap { expected: total, found: total + 1 };
    assert_eq!(read(total + 1, 10), Err(gap));
    let other = subject.read(GROUP, meta.position, Some(id(6)), 0, 10);
    assert_eq!(other, Err(SnapshotError::OtherId { found: id(5) }));
    assert!(subject.read(GROUP, meta.position, Some(id(5)), 0, 10).is_ok());
}

fn snapshot_is_replaced_by_another_at_its_position(subject: &mut impl Subject) {
    let meta = meta(2, 2);
    take(subject, &meta, 1, b"first");
    take(subject, &meta, 2, b"second");
    assert_eq!(restored(subject, meta.position).unwrap(), b"second");
    assert_eq!(subject.verify(GROUP, meta.position).unwrap().0, id(2));
}

fn failed_take_leaves_what_was_there(subject: &mut impl Subject) {
    let meta = meta(2, 2);
    take(subject, &meta, 1, b"first");
    let failing = |out: &mut dyn Write| {
        out.write_all(&state(300_000, 1))?;
        Err(io::Error::from(io::ErrorKind::InvalidInput))
    };
    let failed = subject.take(GROUP, &meta, id(2), failing).unwrap_err();
    assert_eq!(failed, io::Error::from(io::ErrorKind::InvalidInput).into());
    subject.restart();
    assert_eq!(restored(subject, meta.position).unwrap(), b"first");
    assert_eq!(subject.positions(GROUP), Ok(vec![meta.position]));
}

/// A writer that is content with less than it was asked for gets less; but what it never saw fail
/// is no failure.
fn failure_is_told_although_the_writer_hides_it(subject: &mut impl Subject) {
    let meta = meta(1, 1);
    let partly = |out: &mut dyn Write| out.write(&state(200_000, 1)).map(drop);
    subject.take(GROUP, &meta, id(1), partly).unwrap();
    let restored = restored(subject, meta.position).unwrap();
    assert_eq!(restored, state(200_000, 1)[..restored.len()]);
}

fn restore_need_not_read_to_the_end(subject: &mut impl Subject) {
    let (meta, state) = (meta(1, 7), state(500_000, 3));
    take(subject, &meta, 1, &state);
    let first = |input: &mut dyn Read| {
        let mut first = [0; 70_000];
        input.read_exact(&mut first).map(|()| first)
    };
    let read = subject.restore(GROUP, meta.position, first).unwrap().unwrap();
    assert_eq!(read[..], state[..70_000]);
    // What was not read counts too: nobody knows what it would have said.
    let total = file(subject, meta.position).len();
    subject.rot(GROUP, meta.position, total - 1);
    let damaged = subject.restore(GROUP, meta.position, first).unwrap_err();
    assert_eq!(damaged, SnapshotError::Corrupt { part: SnapshotPart::End });
}

/// A bad block is an error inside, and stays one outside however the reader takes it.
fn restore_of_an_old_part_is_no_state(subject: &mut impl Subject) {
    let meta = meta(1, 7);
    take(subject, &meta, 1, &state(500_000, 3));
    subject.rot(GROUP, meta.position, 300_000);
    let mut seen = (0, None);
    let careless = |input: &mut dyn Read| {
        let mut state = Vec::new();
        seen.1 = input.read_to_end(&mut state).err().map(|error| error.kind());
        // Once more: what failed stays failed.
        assert!(input.read(&mut [0; 9]).is_err());
        seen.0 = state.len();
    };
    let damaged = subject.restore(GROUP, meta.position, careless).unwrap_err();
    assert_eq!(damaged, SnapshotError::Corrupt { part: SnapshotPart::Block { number: 4 } });
    assert_eq!(seen, (4 * 64 * 1024, Some(io::ErrorKind::InvalidData)));
}

fn every_flipped_bit_is_told(subject: &mut impl Subject) {
    let meta = meta(1, 7);
    take(subject, &meta, 1, &state(300, 3));
    let total = file(subject, meta.position).len();
    let sound = file(subject, meta.position);
    for offset in 0..total {
        subject.rot(GROUP, meta.position, offset);
        let verified = subject.verify(GROUP, meta.position);
        assert!(matches!(verified, Err(SnapshotError::Corrupt { .. })), "{offset}: {verified:?}");
        assert_eq!(restored(subject, meta.position).map(drop), verified.map(drop), "{offset}");
        subject.rot(GROUP, meta.position, offset);
    }
    assert_eq!(file(subject, meta.position), sound);
}

fn missing_files_are_gone(subject: &mut impl Subject) {
    let at = position(1, 1);
    assert_eq!(subject.read(GROUP, at, None, 0, 1), Err(SnapshotError::Gone));
    assert_eq!(restored(subject, at), Err(SnapshotError::Gone));
    assert_eq!(subject.verify(GROUP, at), Err(SnapshotError::Gone));
    assert_eq!(subject.finish(GROUP, &meta(1, 1)), Err(SnapshotError::Gone));
    assert_eq!(subject.resume(GROUP, at), Ok(None));
    assert_eq!(subject.positions(GROUP), Ok(Vec::new()));
    assert_eq!(subject.retain(GROUP, &[]), Ok(()));
    assert_eq!(subject.drop_group(GROUP), Ok(()));
    take(subject, &meta(1, 1), 1, b"state");
    // Another group's is another's.
    let other = subject.read(GroupId::new(4), at, None, 0, 1);
    assert_eq!(other, Err(SnapshotError::Gone));
}

/// A file made elsewhere.
fn source(bytes: usize) -> Vec<u8> {
    let mut elsewhere = InMemory::default();
    take(&mut elsewhere, &meta(3, 30), 9, &state(bytes, 9));
    file(&elsewhere, position(3, 30))
}

/// Appends `bytes` of a file of `total`, in chunks.
fn fetch(subject: &mut impl Subject, bytes: &[u8], from: usize, total: usize) {
    let mut offset = from;
    for chunk in bytes[from..].chunks(50_000) {
        let at = offset as u64;
        let next = subject.append(GROUP, position(3, 30), id(9), total as u64, at, chunk);
        offset += chunk.len();
        assert_eq!(next, Ok(offset as u64));
    }
}

fn file_is_fetched_in_chunks(subject: &mut impl Subject) {
    let bytes = source(400_000);
    fetch(subject, &bytes, 0, bytes.len());
    assert_eq!(subject.positions(GROUP), Ok(Vec::new()), "it is no snapshot before it is finished");
    assert_eq!(restored(subject, position(3, 30)), Err(SnapshotError::Gone));
    subject.finish(GROUP, &meta(3, 30)).unwrap();
    subject.restart();
    assert_eq!(file(subject, position(3, 30)), bytes);
    assert_eq!(restored(subject, position(3, 30)), Ok(state(400_000, 9)));
    assert_eq!(subject.resume(GROUP, position(3, 30)), Ok(None));
}

fn chunks_out_of_place_are_refused(subject: &mut impl Subject) {
    let bytes = source(100_000);
    let total = bytes.len() as u64;
    let at = position(3, 30);
    let append = |subject: &mut _, offset, chunk: &[u8]| {
        Subject::append(subject, GROUP, at, id(9), total, offset, chunk)
    };
    let gap = |expected, found| Err(SnapshotError::Gap { expected, found });
    assert_eq!(append(subject, 5, b"x"), gap(0, 5));
    fetch(subject, &bytes[..60_000], 0, bytes.len());
    assert_eq!(append(subject, 70_000, b"x"), gap(60_000, 70_000));
    assert_eq!(append(subject, 50_000, &bytes[50_000..60_000]), gap(60_000, 50_000));
    assert_eq!(append(subject, 0, &bytes[..10]), gap(60_000, 0));
    let long = append(subject, 60_000, &vec![0; bytes.len()]);
    assert_eq!(long, Err(SnapshotError::TooLong { total, end: 60_000 + total }));
    assert!(append(subject, u64::MAX, b"xx").is_err());
    fetch(subject, &bytes, 60_000, bytes.len());
    subject.finish(GROUP, &meta(3, 30)).unwrap();
}

fn another_snapshot_gives_way_at_offset_zero_alone(subject: &mut impl Subject) {
    let bytes = source(100_000);
    let total = bytes.len() as u64;
    let at = position(3, 30);
    subject.append(GROUP, at, id(8), 10, 0, b"other").unwrap();
    let refused = subject.append(GROUP, at, id(9), total, 5, &bytes[5..]);
    assert_eq!(refused, Err(SnapshotError::OtherId { found: id(8) }));
    assert_eq!(subject.append(GROUP, at, id(8), 10, 5, b"and"), Ok(8), "it goes on as it was");
    fetch(subject, &bytes, 0, bytes.len());
    subject.finish(GROUP, &meta(3, 30)).unwrap();
}

fn group_has_one_partial_file(subject: &mut impl Subject) {
    let bytes = source(100_000);
    fetch(subject, &bytes[..80_000], 0, bytes.len());
    subject.append(GROUP, position(3, 40), id(2), 100, 0, b"a later one").unwrap();
    assert_eq!(subject.resume(GROUP, position(3, 30)), Ok(None));
    let gap = subject.append(GROUP, position(3, 30), id(9), 99, 80, b"x");
    assert_eq!(gap, Err(SnapshotError::Gap { expected: 0, found: 80 }));
    assert_eq!(subject.append(GROUP, position(3, 40), id(2), 100, 11, b"!"), Ok(12));
    // Of another group, another.
    subject.append(GroupId::new(4), position(3, 30), id(1), 100, 0, b"x").unwrap();
    assert_eq!(subject.append(GROUP, position(3, 40), id(2), 100, 12, b"!"), Ok(13));
}

fn fetched_file_must_be_what_was_offered(subject: &mut impl Subject) {
    let bytes = source(200_000);
    let other_meta = {
        let mut other = meta(3, 30);
        other.configuration_index = Index::new(2);
        other
    };
    let corrupt = |part| Err(SnapshotError::Corrupt { part });
    fetch(subject, &bytes, 0, bytes.len());
    assert_eq!(subject.finish(GROUP, &other_meta), corrupt(SnapshotPart::Meta));
    assert_eq!(subject.resume(GROUP, position(3, 30)), Ok(None), "what is corrupt is removed");
    let mut swapped = bytes.clone();
    let block = 8 + 64 * 1024;
    let first = bytes.len() - 24 - (8 + 200_000 - 3 * 64 * 1024) - 3 * block;
    swapped[first..first + block].copy_from_slice(&bytes[first + block..first + 2 * block]);
    swapped[first + block..first + 2 * block].copy_from_slice(&bytes[first..first + block]);
    let flip = |offset: usize| {
        let mut flipped = bytes.clone();
        flipped[offset] ^= 0x80;
        flipped
    };
    let cases = [
        (swapped, SnapshotPart::Block { number: 0 }),
        (
            [&bytes[..first + block], &bytes[first + 2 * block..]].concat(),
            SnapshotPart::Block { number: 1 },
        ),
        (flip(0), SnapshotPart::Header),
        (flip(first + block + 9), SnapshotPart::Block { number: 1 }),
        (flip(bytes.len() - 1), SnapshotPart::End),
        ([&bytes[..], b"x"].concat(), SnapshotPart::End),
    ];
    for (wrong, part) in cases {
        fetch(subject, &wrong, 0, wrong.len());
        assert_eq!(subject.finish(GROUP, &meta(3, 30)), corrupt(part));
        assert_eq!(subject.positions(GROUP), Ok(Vec::new()));
    }
    fetch(subject, &bytes, 0, bytes.len());
    assert_eq!(subject.finish(GROUP, &meta(3, 30)), Ok(()));
}

/// Cut anywhere, also right behind a block, a file is not whole.
fn unfinished_file_is_not_finished(subject: &mut impl Subject) {
    let bytes = source(150_000);
    for cut in [0, 1, 31, 100, bytes.len() - 24, bytes.len() - 1] {
        let begun = subject.append(GROUP, position(3, 30), id(9), 999_999, 0, &bytes[..cut]);
        assert_eq!(begun, Ok(cut as u64));
        let finished = subject.finish(GROUP, &meta(3, 30));
        assert!(matches!(finished, Err(SnapshotError::Corrupt { .. })), "{cut}: {finished:?}");
        assert_eq!(subject.finish(GROUP, &meta(3, 30)), Err(SnapshotError::Gone));
    }
}

fn interrupted_fetch_goes_on(subject: &mut impl Subject) {
    let bytes = source(400_000);
    fetch(subject, &bytes[..333_333], 0, bytes.len());
    subject.restart();
    let (found, offset) = subject.resume(GROUP, position(3, 30)).unwrap().unwrap();
    assert_eq!(found, id(9));
    assert!((333_333 - 65_544..=333_333).contains(&offset), "{offset}");
    assert_eq!(
        subject.resume(GROUP, position(3, 31)),
        Ok(None),
        "another position is another file"
    );
    fetch(subject, &bytes, offset as usize, bytes.len());
    // Once more, from the end: nothing is missing.
    let all = Some((id(9), bytes.len() as u64));
    assert_eq!(subject.resume(GROUP, position(3, 30)), Ok(all));
    subject.finish(GROUP, &meta(3, 30)).unwrap();
    assert_eq!(restored(subject, position(3, 30)), Ok(state(400_000, 9)));
}

fn retained_snapshots_stay(subject: &mut impl Subject) {
    for index in 1..=5 {
        take(subject, &meta(1, index), 1, &[index as u8]);
    }
    subject.append(GROUP, position(1, 4), id(1), 10, 0, b"late").unwrap();
    subject.retain(GROUP, &[position(1, 5), position(1, 3), position(1, 77)]).unwrap();
    assert_eq!(subject.positions(GROUP), Ok(vec![position(1, 3), position(1, 5)]));
    assert_eq!(restored(subject, position(1, 3)).unwrap(), [3]);
    let gap = subject.append(GROUP, position(1, 4), id(1), 10, 4, b"er");
    assert_eq!(gap, Err(SnapshotError::Gap { expected: 0, found: 4 }), "a late fetch goes");
    subject.append(GROUP, position(1, 6), id(1), 10, 0, b"ahead").unwrap();
    subject.retain(GROUP, &[position(1, 5)]).unwrap();
    assert_eq!(subject.append(GROUP, position(1, 6), id(1), 10, 5, b"!"), Ok(6));
    subject.retain(GROUP, &[position(1, 5), position(1, 6)]).unwrap();
    let more = subject.append(GROUP, position(1, 6), id(1), 10, 6, b"!");
    assert_eq!(more, Ok(7), "a fetch that is named stays");
    assert_eq!(subject.positions(GROUP), Ok(vec![position(1, 5)]));
}

fn dropped_group_leaves_nothing(subject: &mut impl Subject) {
    take(subject, &meta(1, 1), 1, b"state");
    subject.append(GROUP, position(1, 2), id(1), 10, 0, b"more").unwrap();
    subject.take(GroupId::new(4), &meta(1, 1), id(1), |_| Ok(())).unwrap();
    subject.drop_group(GROUP).unwrap();
    assert_eq!(subject.positions(GROUP), Ok(Vec::new()));
    assert_eq!(subject.resume(GROUP, position(1, 2)), Ok(None));
    assert_eq!(subject.positions(GroupId::new(4)).unwrap().len(), 1);
}

fn sweep_keeps_what_is_recorded_and_what_is_fetched(subject: &mut impl Subject) {
    for index in [5, 6, 7] {
        take(subject, &meta(1, index), 1, b"state");
    }
    let bytes = source(100_000);
    fetch(subject, &bytes[..90_000], 0, bytes.len());
    for group in [4, 5].map(GroupId::new) {
        subject.take(group, &meta(1, 1), id(1), |_| Ok(())).unwrap();
        subject.append(group, position(1, 2), id(1), 10, 0, b"more").unwrap();
    }
    subject.restart();
    subject.sweep(&opened(&[(3, Some(meta(1, 6))), (5, None)])).unwrap();
    assert_eq!(subject.positions(GROUP), Ok(vec![position(1, 6)]));
    assert!(subject.resume(GROUP, position(3, 30)).unwrap().is_some());
    // Group 4 is not known; of group 5 nothing was recorded.
    assert_eq!(subject.positions(GroupId::new(4)), Ok(Vec::new()));
    assert_eq!(subject.resume(GroupId::new(4), position(1, 2)), Ok(None));
    assert_eq!(subject.positions(GroupId::new(5)), Ok(Vec::new()));
}

fn sweep_removes_nothing_whole_where_a_record_may_be_lost(subject: &mut impl Subject) {
    let all = [position(1, 5), position(1, 6)];
    for at in all {
        take(subject, &meta(1, at.index.get()), 1, b"state");
    }
    subject.restart();
    // The file that the record names is not there.
    subject.sweep(&opened(&[(3, Some(meta(1, 7)))])).unwrap();
    assert_eq!(subject.positions(GROUP), Ok(all.to_vec()));
    // The log is damaged, so there may have been a newer record.
    for recorded in [None, Some(meta(1, 5))] {
        let mut damaged = opened(&[(3, recorded)]);
        damaged.namespaces[0].groups[0].damage = Some(range(1, 4));
        subject.sweep(&damaged).unwrap();
        assert_eq!(subject.positions(GROUP), Ok(all.to_vec()));
    }
    subject.sweep(&opened(&[(3, Some(meta(1, 5)))])).unwrap();
    assert_eq!(subject.positions(GROUP), Ok(vec![position(1, 5)]));
}

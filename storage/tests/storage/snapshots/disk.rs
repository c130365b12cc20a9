//! What only files can show: their names, their bytes, and what resuming makes of torn ones.

use std::{fs, io::Read};

use meshraft_consensus::Position;
use meshraft_storage::{GroupId, SnapshotError, SnapshotPart};
use proptest::prelude::*;

use super::subject::*;
use crate::{script::Random, subject::position};

/// The bytes are a promise to later releases, and to peers; `docs/storage-format.md` draws them.
#[rustfmt::skip]
#[test]
fn format_of_a_file_stays() {
    let mut snapshots = InFolder::new();
    let mut meta = meta(3, 9);
    meta.configuration = crate::subject::configuration(&[0xaa]);
    snapshots.take(GROUP, &meta, id(0xbb), |out| out.write_all(b"state")).unwrap();
    let expected = [
        "6d657368736e6170", "01000000", "0000004f", // "meshsnap", version, length of the meta
        &"bb".repeat(16), // id
        "0000000000000003", "0000000000000009", // position
        "0000000000000001", // slot of the configuration
        "01", "0001", &"aa".repeat(48), "0000", "0000", // configuration
        "7a11dd61", // header's checksum
        "00000005", "fe38923e", "7374617465", // a block: "state"
        "00000000", "7d3e976c", "0000000000000005", "0000000000000001", // end: bytes, blocks
    ];
    let bytes = fs::read(snapshots.path("3/3-9.snap")).unwrap();
    let found: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(found, expected.concat());
    assert_eq!(file(&snapshots, meta.position), bytes);
}

#[test]
fn files_have_the_names_that_are_written_down() {
    let mut snapshots = InFolder::new();
    take(&mut snapshots, &meta(3, 9), 1, b"state");
    snapshots.append(GROUP, position(4, 10), id(1), 10, 0, b"part").unwrap();
    assert_eq!(snapshots.names(), ["3", "3/3-9.snap", "3/4-10.part"]);
    let beside = snapshots.path("3/5-11.new");
    snapshots
        .take(GROUP, &meta(5, 11), id(1), |_| {
            assert!(beside.exists());
            Ok(())
        })
        .unwrap();
    assert_eq!(snapshots.names(), ["3", "3/3-9.snap", "3/4-10.part", "3/5-11.snap"]);
    snapshots.drop_group(GROUP).unwrap();
    assert_eq!(snapshots.names(), Vec::<String>::new());
}

/// What is not named as ours is not ours to remove.
#[test]
fn sweep_removes_exactly_what_is_left_over() {
    let mut snapshots = InFolder::new();
    for index in 1..=2 {
        take(&mut snapshots, &meta(1, index), 1, b"state");
    }
    snapshots.append(GROUP, position(1, 3), id(1), 10, 0, b"part").unwrap();
    for path in ["3/1-2.new", "3/1-9.new", "3/note", "3/01-2.snap", "9/1-1.snap", "9/1-1.part"] {
        fs::create_dir_all(snapshots.path(path).parent().unwrap()).unwrap();
        fs::write(snapshots.path(path), b"left over").unwrap();
    }
    for folder in ["08", "notes", "7"] {
        fs::create_dir(snapshots.path(folder)).unwrap();
        fs::write(snapshots.path(folder).join("1-1.old"), b"somebody's").unwrap();
    }
    fs::create_dir(snapshots.path("6")).unwrap();
    fs::write(snapshots.path("5"), b"a file with the name of a folder").unwrap();
    snapshots.restart();
    snapshots.sweep(&opened(&[(3, Some(meta(1, 2)))])).unwrap();
    let left = [
        "08",
        "08/1-1.old",
        "3",
        "3/01-2.snap",
        "3/1-2.snap",
        "3/1-3.part",
        "3/note",
        "5",
        "7",
        "7/1-1.old",
        "notes",
        "notes/1-1.old",
    ];
    assert_eq!(snapshots.names(), left);
    let before = snapshots.names();
    snapshots.sweep(&opened(&[(3, Some(meta(1, 2)))])).unwrap();
    assert_eq!(snapshots.names(), before);
}

#[test]
fn snapshot_is_restored_to_its_end_although_it_is_removed() {
    let mut snapshots = InFolder::new();
    take(&mut snapshots, &meta(1, 1), 1, &state(1_000_000, 1));
    take(&mut snapshots, &meta(1, 2), 1, b"newer");
    let other = snapshots.snapshots().clone();
    let read = |input: &mut dyn Read| {
        let mut state = vec![0; 10];
        input.read_exact(&mut state).unwrap();
        other.retain(GROUP, &[position(1, 2)]).unwrap();
        input.read_to_end(&mut state).map(|_| state)
    };
    let restored = snapshots.restore(GROUP, position(1, 1), read).unwrap().unwrap();
    assert!(restored == state(1_000_000, 1));
    assert_eq!(snapshots.names(), ["3", "3/1-2.snap"]);
}

/// A file under another's name stands for something else.
#[test]
fn file_at_the_wrong_position_is_told() {
    let mut snapshots = InFolder::new();
    take(&mut snapshots, &meta(1, 1), 1, b"state");
    fs::rename(snapshots.path("3/1-1.snap"), snapshots.path("3/1-2.snap")).unwrap();
    let wrong = SnapshotError::Corrupt { part: SnapshotPart::Meta };
    assert_eq!(restored(&snapshots, position(1, 2)), Err(wrong.clone()));
    assert_eq!(snapshots.verify(GROUP, position(1, 2)), Err(wrong.clone()));
    assert_eq!(snapshots.read(GROUP, position(1, 2), None, 0, 9), Err(wrong));
    fs::rename(snapshots.path("3/1-2.snap"), snapshots.path("3/1-2.part")).unwrap();
    assert_eq!(snapshots.resume(GROUP, position(1, 2)), Ok(None));
    assert_eq!(snapshots.names(), ["3"]);
    assert_eq!(restored(&snapshots, position(1, 1)), Err(SnapshotError::Gone));
    assert_eq!(
        snapshots.read(GroupId::new(1), position(1, 1), None, 0, 9),
        Err(SnapshotError::Gone)
    );
}

/// A newer release's file is told from a damaged one, and one that was fetched is of no use.
#[test]
fn newer_version_is_refused_by_name() {
    let mut snapshots = InFolder::new();
    take(&mut snapshots, &meta(1, 1), 1, b"state");
    let mut bytes = fs::read(snapshots.path("3/1-1.snap")).unwrap();
    bytes[8] = 2;
    let end = 32 + u32::from_be_bytes(bytes[12..16].try_into().unwrap()) as usize;
    let checksum = crc32c(&bytes[..end]);
    bytes[end..end + 4].copy_from_slice(&checksum.to_be_bytes());
    fs::write(snapshots.path("3/1-1.snap"), &bytes).unwrap();
    let newer = SnapshotError::UnknownVersion { version: 2 };
    assert_eq!(restored(&snapshots, position(1, 1)), Err(newer.clone()));
    snapshots.append(GROUP, position(1, 1), id(1), 9999, 0, &bytes).unwrap();
    assert_eq!(snapshots.finish(GROUP, &meta(1, 1)), Err(newer));
    assert_eq!(snapshots.names(), ["3", "3/1-1.snap"]);
}

/// CRC32C, bit by bit.
fn crc32c(bytes: &[u8]) -> u32 {
    let mut checksum = !0_u32;
    for byte in bytes {
        checksum ^= u32::from(*byte);
        for _ in 0..8 {
            checksum = (checksum >> 1) ^ (0x82f6_3b78 & (checksum & 1).wrapping_neg());
        }
    }
    !checksum
}

/// What befalls a fetch between two chunks.
#[derive(Clone, Debug)]
enum Mishap {
    Nothing,
    Restart,
    /// The file ends this share of its length earlier.
    Torn(u16),
    /// What follows from there on was never written.
    Zeroed(u16),
    /// A bit flips.
    Flipped(u16),
    /// Bytes that were never sent follow.
    Trailing(u16),
}

fn mishap() -> impl Strategy<Value = Mishap> {
    prop_oneof![
        4 => Just(Mishap::Nothing),
        1 => Just(Mishap::Restart),
        1 => any::<u16>().prop_map(Mishap::Torn),
        1 => any::<u16>().prop_map(Mishap::Zeroed),
        1 => any::<u16>().prop_map(Mishap::Flipped),
        1 => (1..3_000_u16).prop_map(Mishap::Trailing),
    ]
}

/// Changes the bytes of a partial file; whether that can be noticed.
fn befall(mishap: &Mishap, bytes: &mut Vec<u8>) {
    let at = |share: u16| (bytes.len() * usize::from(share)) >> 16;
    match *mishap {
        Mishap::Nothing | Mishap::Restart => {}
        Mishap::Torn(share) => bytes.truncate(at(share)),
        Mishap::Zeroed(share) => {
            let from = at(share);
            bytes[from..].fill(0);
        }
        Mishap::Flipped(share) if !bytes.is_empty() => {
            let at = at(share);
            bytes[at] ^= 4;
        }
        Mishap::Flipped(_) => {}
        Mishap::Trailing(count) => bytes.resize(bytes.len() + usize::from(count), 0x5a),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// Chunks of any length, and what crashes leave between them: what is resumed is a sound
    /// beginning of the file, and in the end the file is what was sent.
    #[test]
    fn fetch_survives_what_befalls_it(
        state_bytes in prop_oneof![Just(0), 1..2_000_usize, 0..400_000_usize],
        steps in prop::collection::vec((1..200_000_usize, mishap()), 1..12),
        seed in any::<u64>(),
    ) {
        let mut elsewhere = InMemory::default();
        let (at, whole) = (position(2, 8), state(state_bytes, seed));
        take(&mut elsewhere, &meta(2, 8), 4, &whole);
        let source = file(&elsewhere, at);
        let mut snapshots = InFolder::new();
        let mut offset = 0;
        for (chunk, mishap) in &steps {
            offset = append(&mut snapshots, at, &source, offset, *chunk);
            if let Mishap::Nothing = mishap {
                continue;
            }
            snapshots.restart();
            let path = snapshots.path("3/2-8.part");
            if let Ok(mut bytes) = fs::read(&path) {
                befall(mishap, &mut bytes);
                fs::write(&path, bytes).unwrap();
            }
            offset = resumed(&mut snapshots, at, &source);
        }
        while offset < source.len() {
            offset = append(&mut snapshots, at, &source, offset, 150_000);
        }
        prop_assert_eq!(snapshots.finish(GROUP, &meta(2, 8)), Ok(()));
        prop_assert!(file(&snapshots, at) == source);
        prop_assert!(restored(&snapshots, at).unwrap() == whole);
    }

    /// The same for the twin, whose crashes are its own.
    #[test]
    fn fetch_in_memory_survives_crashes(
        state_bytes in prop_oneof![1..2_000_usize, 0..400_000_usize],
        seed in any::<u64>(),
    ) {
        let mut elsewhere = InMemory::default();
        let (at, mut random) = (position(2, 8), Random(seed));
        take(&mut elsewhere, &meta(2, 8), 4, &state(state_bytes, seed));
        let source = file(&elsewhere, at);
        let mut snapshots = InMemory::default();
        let mut offset = 0;
        let mut crashes = 8;
        while offset < source.len() {
            let chunk = 1 + random.below(100_000) as usize;
            offset = append(&mut snapshots, at, &source, offset, chunk);
            if crashes > 0 && random.below(2) == 0 {
                crashes -= 1;
                snapshots.0.crash();
                offset = resumed(&mut snapshots, at, &source);
            }
        }
        prop_assert_eq!(snapshots.finish(GROUP, &meta(2, 8)), Ok(()));
        prop_assert!(file(&snapshots, at) == source);
    }
}

fn append(
    snapshots: &mut impl Subject,
    at: Position,
    source: &[u8],
    offset: usize,
    chunk: usize,
) -> usize {
    let end = source.len().min(offset + chunk);
    let (total, from) = (source.len() as u64, offset as u64);
    let next = snapshots.append(GROUP, at, id(4), total, from, &source[offset..end]);
    assert_eq!(next, Ok(end as u64));
    end
}

/// Where a fetch goes on; what is there is a beginning of the file.
fn resumed(snapshots: &mut impl Subject, at: Position, source: &[u8]) -> usize {
    let Some((found, offset)) = snapshots.resume(GROUP, at).unwrap() else { return 0 };
    assert_eq!(found, id(4));
    assert!(offset as usize <= source.len());
    assert_eq!(snapshots.resume(GROUP, at), Ok(Some((found, offset))), "resumed twice");
    offset as usize
}

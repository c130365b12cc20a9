//! Snapshots of state machines: one checked file each, taken here or fetched from a peer.
//!
//! The bytes of a file are the same on every node, so that a transfer is a copy that any member can
//! serve and that goes on where it stopped; `docs/storage-format.md` draws them. A file gets its
//! name when it is whole and durable (thesis 5), so after a crash there is all of it or nothing.

mod error;
mod files;
mod folder;
mod format;
mod keep;
mod memory;
mod names;
mod partial;

use std::fmt;

use bytes::Bytes;

pub use error::{IoFault, SnapshotError, SnapshotPart, SnapshotsError};
pub use files::{Access, SnapshotFile, SnapshotFiles};
pub use folder::Snapshots;
pub use memory::MemorySnapshots;

/// Tells two files for one position apart: 16 random bytes, drawn by whoever takes the snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SnapshotId([u8; 16]);

impl SnapshotId {
    /// The id with these bytes.
    pub const fn new(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Display for SnapshotId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// How snapshots are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotOptions {
    /// A file that is being written is synchronised after about this many bytes, so that nothing
    /// piles up that the log's synchronisations would then wait behind.
    pub sync_bytes: u64,
}

impl Default for SnapshotOptions {
    fn default() -> Self {
        Self { sync_bytes: 4 << 20 }
    }
}

/// A run of bytes of a snapshot's file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotChunk {
    /// Whose file it is.
    pub id: SnapshotId,
    /// How long the file is.
    pub total: u64,
    /// Where the bytes lie in it.
    pub offset: u64,
    /// The bytes; fewer than asked for at the end of the file, none after it.
    pub bytes: Bytes,
}

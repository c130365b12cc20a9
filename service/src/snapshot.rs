//! What a snapshot is: format, position, configuration, log time, cluster version, sessions, state
//! hash, and then the machine's own stream.
//!
//! The head is read record by record, each behind its length, so that a damaged or hostile stream
//! costs no more memory than the bytes it really has. The hash covers everything that replicas have
//! alike, so that a restore which yields another state is found here and not by a client.

use std::io::{self, Read, Write};

use meshraft_consensus::{ClusterVersion, SnapshotMeta};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    codec,
    hash::{HashingReader, StateHasher},
    limits::{KEPT_BYTES_MAX, PIPELINE_MAX, SESSIONS_MAX},
    machine::{SnapshotWriter, StateMachine},
    session::{FrozenSessions, SessionLimits, SessionRecord, Sessions},
};

const FORMAT: u8 = 2;
/// A header holds up to three sets of members.
const HEADER_BYTES_MAX: u32 = 16 * 1024 * 1024;
const SESSION_BYTES_MAX: u32 = (PIPELINE_MAX * (KEPT_BYTES_MAX + 64) + 64) as u32;

/// Why a snapshot was not restored.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RestoreError {
    /// The stream broke off, or the machine refused it.
    #[error("the snapshot could not be read")]
    Io(#[from] io::Error),
    /// A format that this build does not know.
    #[error("snapshots of format {format} are not known here")]
    Format {
        /// The format byte.
        format: u8,
    },
    /// What is in force in it is not supported here. Nothing was restored.
    #[error("cluster version {needed} is in force in it, and {supports} is supported here")]
    ClusterVersion {
        /// The version in force.
        needed: ClusterVersion,
        /// The newest version that is supported here.
        supports: ClusterVersion,
    },
    /// The head is no head of a snapshot.
    #[error("the head of the snapshot is malformed")]
    Malformed,
    /// The restored state is not the one that was written.
    #[error("the state hash is {actual:016x} instead of {expected:016x}")]
    Hash {
        /// The hash in the snapshot.
        expected: u64,
        /// The hash of what was restored.
        actual: u64,
    },
}

/// What a snapshot stands for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Header {
    pub(crate) meta: SnapshotMeta,
    pub(crate) log_time_ms: u64,
    pub(crate) version: ClusterVersion,
}

impl Header {
    /// A hasher that stands where the sessions begin.
    pub(crate) fn hash(&self) -> StateHasher {
        let position = self.meta.position;
        let mut hasher = StateHasher::new();
        hasher.update(&position.term.get().to_be_bytes());
        hasher.update(&position.index.get().to_be_bytes());
        hasher.update(&self.log_time_ms.to_be_bytes());
        hasher.update(&self.version.get().to_be_bytes());
        hasher.update(&self.meta.configuration_index.get().to_be_bytes());
        hasher.update(&self.meta.configuration.encode());
        hasher
    }
}

/// All of a snapshot but the machine's stream.
pub(crate) struct Head {
    pub(crate) header: Header,
    pub(crate) sessions: Sessions,
    pub(crate) hash: u64,
}

/// Writes a whole snapshot. `hashed` and `written` are copies of one state: the hash stands before
/// the machine's stream, and the state may be too large to be kept until it is known.
pub(crate) fn write(
    to: &mut dyn Write,
    header: &Header,
    sessions: &FrozenSessions,
    hashed: SnapshotWriter,
    written: SnapshotWriter,
) -> io::Result<()> {
    let mut hasher = header.hash();
    sessions.hash(&mut hasher);
    hashed(&mut hasher)?;
    to.write_all(&[FORMAT])?;
    write_record(to, header)?;
    let count = sessions.records().count() as u64;
    to.write_all(&count.to_be_bytes())?;
    for record in sessions.records() {
        write_record(to, &record)?;
    }
    to.write_all(&hasher.finish().to_be_bytes())?;
    written(to)
}

/// Reads everything before the machine's stream.
pub(crate) fn read_head(from: &mut dyn Read, limits: SessionLimits) -> Result<Head, RestoreError> {
    let [format] = read_array(from)?;
    if format != FORMAT {
        return Err(RestoreError::Format { format });
    }
    let header = read_record(from, HEADER_BYTES_MAX)?;
    let count = u64::from_be_bytes(read_array(from)?);
    if count > SESSIONS_MAX as u64 {
        return Err(RestoreError::Malformed);
    }
    let records = (0..count)
        .map(|_| read_record::<SessionRecord>(from, SESSION_BYTES_MAX))
        .collect::<Result<Vec<_>, _>>()?;
    let sessions = Sessions::thawed(limits, records).ok_or(RestoreError::Malformed)?;
    let hash = u64::from_be_bytes(read_array(from)?);
    Ok(Head { header, sessions, hash })
}

/// Restores the machine and checks that the whole state is the one that was written.
pub(crate) fn read_machine(
    from: &mut dyn Read,
    machine: &mut dyn StateMachine,
    hasher: StateHasher,
    expected: u64,
) -> Result<(), RestoreError> {
    let mut reader = HashingReader::new(from, hasher);
    machine.restore(&mut reader)?;
    let actual = reader.finish();
    if actual == expected { Ok(()) } else { Err(RestoreError::Hash { expected, actual }) }
}

fn write_record<T: Serialize>(to: &mut dyn Write, value: &T) -> io::Result<()> {
    let bytes = codec::encode(FORMAT, value, 0);
    let length = u32::try_from(bytes.len()).map_err(|_| io::ErrorKind::InvalidData)?;
    to.write_all(&length.to_be_bytes())?;
    to.write_all(&bytes)
}

fn read_record<T: DeserializeOwned>(from: &mut dyn Read, max: u32) -> Result<T, RestoreError> {
    let length = u32::from_be_bytes(read_array(from)?);
    if length > max {
        return Err(RestoreError::Malformed);
    }
    let mut bytes = Vec::new();
    from.take(u64::from(length)).read_to_end(&mut bytes)?;
    codec::body(FORMAT, &bytes, max as usize)
        .and_then(codec::whole)
        .map_err(|_| RestoreError::Malformed)
}

fn read_array<const N: usize>(from: &mut dyn Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    from.read_exact(&mut bytes)?;
    Ok(bytes)
}

//! The commands of the KV machine and what they answer, as bytes.
//!
//! Kinds are only ever appended (batch, compare-and-set, transaction, time to live). One that this
//! build does not know is refused by number, before it is proposed and before it is applied.

use bytes::Bytes;
use meshraft_consensus::ClusterVersion;
use serde::{Deserialize, Serialize};

use crate::{
    codec::{self, WireError},
    error::BadRequest,
    limits::{ANSWER_BYTES_MAX, KEY_BYTES_MAX, PAYLOAD_BYTES_MAX, VALUE_BYTES_MAX},
    machine::CheckError,
};

pub(super) const VERSION: u8 = 1;
const KINDS: u32 = 2;

/// A write.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub enum KvCommand {
    /// Writes a pair.
    Set {
        /// 1 to [`KEY_BYTES_MAX`] bytes.
        key: Bytes,
        /// Up to [`VALUE_BYTES_MAX`] bytes.
        value: Bytes,
    },
    /// Removes a pair, if it is there.
    Delete {
        /// 1 to [`KEY_BYTES_MAX`] bytes.
        key: Bytes,
    },
}

/// The same, borrowed from the bytes.
#[derive(Deserialize)]
enum View<'a> {
    Set { key: &'a [u8], value: &'a [u8] },
    Delete { key: &'a [u8] },
}

impl KvCommand {
    /// The bytes to propose. They are checked where they are proposed.
    pub fn encode(&self) -> Bytes {
        let bytes = match self {
            Self::Set { key, value } => key.len().saturating_add(value.len()),
            Self::Delete { key } => key.len(),
        };
        codec::encode(VERSION, self, bytes)
    }

    /// Reads and checks a command; keys and values are copied, so that what the map keeps for long
    /// pins no larger buffer.
    ///
    /// # Errors
    /// Says what is unknown, malformed or too long.
    pub fn decode(bytes: &[u8]) -> Result<Self, CheckError> {
        Ok(match view(bytes)? {
            View::Set { key, value } => {
                Self::Set { key: Bytes::copy_from_slice(key), value: Bytes::copy_from_slice(value) }
            }
            View::Delete { key } => Self::Delete { key: Bytes::copy_from_slice(key) },
        })
    }

    /// Checks a command without copying anything.
    ///
    /// # Errors
    /// Says what is unknown, malformed or too long.
    pub fn check(bytes: &[u8]) -> Result<(), CheckError> {
        view(bytes).map(|_| ())
    }
}

/// Which cluster version has to be in force before a command may be proposed, if it is known here.
pub(super) fn needs(bytes: &[u8]) -> Option<ClusterVersion> {
    let view = view(bytes).ok()?;
    Some(match view {
        View::Set { .. } | View::Delete { .. } => ClusterVersion::BASELINE,
    })
}

fn view(bytes: &[u8]) -> Result<View<'_>, CheckError> {
    let body = codec::body(VERSION, bytes, PAYLOAD_BYTES_MAX)?;
    codec::known_kind(body, KINDS)?;
    let view = codec::whole_borrowed(body)?;
    match view {
        View::Set { key, value } => {
            check_key(key)?;
            check_length(value, VALUE_BYTES_MAX)?;
        }
        View::Delete { key } => check_key(key)?,
    }
    Ok(view)
}

/// Refuses a key that is empty or too long.
pub(super) fn check_key(key: &[u8]) -> Result<(), CheckError> {
    if key.is_empty() {
        return Err(CheckError::Bad(BadRequest::EmptyKey));
    }
    check_length(key, KEY_BYTES_MAX)
}

/// Refuses bytes that are too long.
pub(super) fn check_length(bytes: &[u8], limit_bytes: usize) -> Result<(), CheckError> {
    if bytes.len() > limit_bytes {
        let (bytes, limit_bytes) = (bytes.len() as u64, limit_bytes as u64);
        return Err(CheckError::TooLarge { bytes, limit_bytes });
    }
    Ok(())
}

/// What a command answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Written {
    /// To a set.
    Set {
        /// Of the pair that was written.
        revision: super::Revision,
    },
    /// To a delete.
    Delete {
        /// Whether the key was there.
        deleted: bool,
        /// Of the command.
        revision: super::Revision,
    },
}

impl Written {
    /// The bytes of a response.
    pub fn encode(&self) -> Bytes {
        codec::encode(VERSION, self, 0)
    }

    /// Reads the bytes of a response.
    ///
    /// # Errors
    /// Says what is unknown or malformed.
    pub fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        codec::whole(codec::body(VERSION, bytes, ANSWER_BYTES_MAX)?)
    }
}

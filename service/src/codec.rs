//! Decides how a versioned value becomes bytes: one version byte, then postcard.
//!
//! Decoding checks the length before it looks at anything, and refuses trailing bytes.

use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};

use crate::error::{BadRequest, Feature, ServiceError};

/// Why bytes are no value of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WireError {
    /// Longer than any value of this kind.
    #[error("{bytes} bytes exceed the limit of {limit_bytes}")]
    TooLarge {
        /// The length.
        bytes: usize,
        /// The longest.
        limit_bytes: usize,
    },
    /// A version that this build does not speak.
    #[error("version {version} is not spoken here")]
    Version {
        /// The version byte.
        version: u8,
    },
    /// A kind that this build does not know.
    #[error("kind {kind} is not known here")]
    Kind {
        /// The number of the kind.
        kind: u32,
    },
    /// No value at all, or bytes after it.
    #[error("malformed bytes")]
    Malformed,
}

impl From<WireError> for ServiceError {
    fn from(error: WireError) -> Self {
        match error {
            WireError::TooLarge { bytes, limit_bytes } => {
                Self::TooLarge { bytes: bytes as u64, limit_bytes: limit_bytes as u64 }
            }
            WireError::Version { .. } => Self::Unsupported(Feature::WireVersion),
            WireError::Kind { .. } => Self::Unsupported(Feature::Operation),
            WireError::Malformed => Self::BadRequest(BadRequest::Malformed),
        }
    }
}

/// Version byte and postcard of `value`; `payload_bytes` is what it holds beside a small header.
pub(crate) fn encode<T: Serialize>(version: u8, value: &T, payload_bytes: usize) -> Bytes {
    let mut bytes = Vec::with_capacity(payload_bytes.saturating_add(64));
    bytes.push(version);
    postcard::to_extend(value, bytes)
        .expect("postcard fails only on values without a known length, which we have none of")
        .into()
}

/// What follows the version byte, if it is `version` and the whole is within the limit.
pub(crate) fn body(version: u8, bytes: &[u8], limit_bytes: usize) -> Result<&[u8], WireError> {
    if bytes.len() > limit_bytes {
        return Err(WireError::TooLarge { bytes: bytes.len(), limit_bytes });
    }
    match bytes.split_first() {
        None => Err(WireError::Malformed),
        Some((&found, _)) if found != version => Err(WireError::Version { version: found }),
        Some((_, body)) => Ok(body),
    }
}

/// Refuses an enum whose variant number is not below `known`, by its number.
pub(crate) fn known_kind(enumeration: &[u8], known: u32) -> Result<(), WireError> {
    match postcard::take_from_bytes::<u32>(enumeration) {
        Ok((kind, _)) if kind >= known => Err(WireError::Kind { kind }),
        Ok(_) => Ok(()),
        Err(_) => Err(WireError::Malformed),
    }
}

/// All of `bytes` as one value.
pub(crate) fn whole<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, WireError> {
    whole_borrowed(bytes)
}

/// All of `bytes` as one value that may borrow from them.
pub(crate) fn whole_borrowed<'a, T: serde::Deserialize<'a>>(
    bytes: &'a [u8],
) -> Result<T, WireError> {
    match postcard::take_from_bytes(bytes) {
        Ok((value, [])) => Ok(value),
        _ => Err(WireError::Malformed),
    }
}

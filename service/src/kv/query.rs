//! The queries of the KV machine and what they answer, as bytes. Kinds are only ever appended.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{
    Revision,
    command::{VERSION, check_key, check_length},
};
use crate::{
    codec::{self, WireError},
    error::BadRequest,
    limits::{ANSWER_BYTES_MAX, KEY_BYTES_MAX, KEYS_MAX, PAYLOAD_BYTES_MAX},
    machine::CheckError,
};

const KINDS: u32 = 2;

/// A read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum KvQuery {
    /// The value of one key.
    Get {
        /// 1 to [`KEY_BYTES_MAX`] bytes.
        key: Bytes,
    },
    /// A page of keys in ascending byte order.
    Keys {
        /// What each of them begins with; may be empty.
        prefix: Bytes,
        /// Only keys above this one: the last of the page before.
        after: Option<Bytes>,
        /// At most so many, from 1; more than [`KEYS_MAX`] are never listed at once.
        limit: u32,
    },
}

impl KvQuery {
    /// The bytes of the query.
    pub fn encode(&self) -> Bytes {
        codec::encode(VERSION, self, 0)
    }

    /// Reads and checks a query.
    ///
    /// # Errors
    /// Says what is unknown, malformed or too long.
    pub fn decode(bytes: &[u8]) -> Result<Self, CheckError> {
        let body = codec::body(VERSION, bytes, PAYLOAD_BYTES_MAX)?;
        codec::known_kind(body, KINDS)?;
        let mut query = codec::whole(body)?;
        match &mut query {
            Self::Get { key } => check_key(key)?,
            Self::Keys { limit: 0, .. } => return Err(CheckError::Bad(BadRequest::ZeroLimit)),
            Self::Keys { prefix, after, limit } => {
                check_length(prefix, KEY_BYTES_MAX)?;
                check_length(after.as_deref().unwrap_or_default(), KEY_BYTES_MAX)?;
                *limit = KEYS_MAX.min(*limit);
            }
        }
        Ok(query)
    }
}

/// What a query answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Found {
    /// To a get: the value and when it was written, if the key is there.
    Value(Option<(Bytes, Revision)>),
    /// To a listing.
    Keys(KeyPage),
}

/// One page of keys.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyPage {
    /// In ascending byte order.
    pub keys: Vec<Bytes>,
    /// Whether there are more after the last of them.
    pub more: bool,
}

impl Found {
    /// The bytes of an answer.
    pub fn encode(&self) -> Bytes {
        let payload_bytes = match self {
            Self::Value(found) => found.as_ref().map_or(0, |(value, _)| value.len()),
            Self::Keys(page) => page.keys.iter().map(|key| key.len() + 2).sum(),
        };
        codec::encode(VERSION, self, payload_bytes)
    }

    /// Reads the bytes of an answer.
    ///
    /// # Errors
    /// Says what is unknown or malformed.
    pub fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        let body = codec::body(VERSION, bytes, ANSWER_BYTES_MAX)?;
        codec::known_kind(body, KINDS)?;
        codec::whole(body)
    }
}

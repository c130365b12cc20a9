//! What a client can be asked for on the command line, and the bounds that are checked before
//! anything is sent: of sizes, times and pages (DESIGN sections 8 and 11).

use std::time::Duration;

use bytes::Bytes;
use libp2p::PeerId;
use meshraft_consensus::NodeId;
use meshraft_service::{limits, wire::Level};
use meshraft_transport::{AddressError, PeerAddress, identity::peer_id};

/// A request whose bounds are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    /// What to do.
    pub(crate) operation: Operation,
    /// How long to wait.
    pub(crate) timeout: Duration,
    /// The member that must be asked.
    pub(crate) via: Option<Via>,
}

/// What a request does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    /// Sets a key.
    Set { key: Bytes, value: Bytes },
    /// Reads a key.
    Get { key: Bytes, level: Level },
    /// Deletes a key.
    Delete { key: Bytes },
    /// Lists keys.
    Keys { prefix: Bytes, limit: u32, after: Option<Bytes>, level: Level },
    /// What a member says of the namespace.
    Status,
    /// Who takes part.
    Members,
    /// Waits until everything that was acknowledged before is applied by the asked member.
    Barrier,
    /// Takes a node out of the cluster.
    Remove { node: NodeId },
    /// Hands leadership over.
    Transfer { to: Option<NodeId> },
    /// Lets this node leave.
    Leave { node: NodeId },
    /// Lets this node ask to come back.
    Join { node: NodeId },
}

/// The member that must be asked, and where it is if that was said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Via {
    /// The member.
    pub(crate) peer: PeerId,
    /// Its address, if the request gave one.
    pub(crate) address: Option<PeerAddress>,
}

/// Why a request is refused; nothing was sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum RequestError {
    /// The line is longer than a request can be.
    #[error("the line is longer than {bytes_max} bytes")]
    LineTooLong { bytes_max: usize },
    /// The line is no JSON.
    #[error("the line is no JSON (column {column})")]
    NotJson { column: usize },
    /// The line is JSON and no object.
    #[error("the line is no JSON object")]
    NotAnObject,
    /// The id is missing, or neither a number nor a string.
    #[error("`id` must be a number or a string")]
    BadId,
    /// A field that the operation needs is missing.
    #[error("`{field}` is missing")]
    Missing { field: &'static str },
    /// A field holds something else than it should.
    #[error("`{field}` must be {expected}")]
    WrongType { field: &'static str, expected: &'static str },
    /// A field is given both as text and as base64.
    #[error("`{field}` and `{field}_b64` exclude each other")]
    BothForms { field: &'static str },
    /// A field is not base64.
    #[error("`{field}_b64` is no base64")]
    NotBase64 { field: &'static str },
    /// The operation has no such field.
    #[error("`{op}` has no field `{field}`")]
    UnknownField { op: &'static str, field: String },
    /// There is no such operation.
    #[error("there is no operation `{op}`")]
    UnknownOperation { op: String },
    /// There is no such level.
    #[error("there is no read level `{level}`")]
    UnknownLevel { level: String },
    /// A barrier and a level that waits for nothing.
    #[error("`barrier_ms` and the read level `{level}` exclude each other")]
    LocalBarrier { level: &'static str },
    /// A key of no bytes.
    #[error("`{field}` must have at least one byte")]
    Empty { field: &'static str },
    /// Something is too large.
    #[error("`{field}` has {bytes} bytes, the limit is {bytes_max}")]
    TooLarge { field: &'static str, bytes: usize, bytes_max: usize },
    /// A limit out of its bounds.
    #[error("`limit` must be between 1 and {max}")]
    BadLimit { max: u32 },
    /// A time out of its bounds.
    #[error("`{field}` must be between {min} and {max} milliseconds")]
    BadTimeout { field: &'static str, min: u32, max: u32 },
    /// An address that can't be dialled.
    #[error("`via`: {0}")]
    Address(AddressError),
    /// Planned and not built.
    #[error("`{what}` is not supported yet")]
    Unsupported { what: String },
}

impl RequestError {
    /// The code of the answer.
    pub(crate) const fn code(&self) -> &'static str {
        match self {
            Self::LineTooLong { .. } | Self::TooLarge { .. } => "too_large",
            Self::BadTimeout { .. } => "bad_timeout",
            Self::Unsupported { .. } => "unsupported",
            _ => "bad_request",
        }
    }
}

impl Via {
    /// Reads a peer id, or an address that ends in one.
    pub(crate) fn parse(text: &str) -> Result<Self, RequestError> {
        const EXPECTED: &str = "a peer id, or an address that ends in one";
        let wrong = RequestError::WrongType { field: "via", expected: EXPECTED };
        if let Ok(peer) = text.parse() {
            return Ok(Self { peer, address: None });
        }
        if !text.starts_with('/') {
            return Err(wrong);
        }
        let address: PeerAddress = text.parse().map_err(RequestError::Address)?;
        let peer = peer_id(address.node().ok_or(wrong)?);
        Ok(Self { peer, address: Some(address) })
    }
}

/// A key of 1 to 4096 bytes.
pub(crate) fn key(field: &'static str, key: impl Into<Bytes>) -> Result<Bytes, RequestError> {
    let key = at_most(field, key, limits::KEY_BYTES_MAX)?;
    if key.is_empty() { Err(RequestError::Empty { field }) } else { Ok(key) }
}

/// Bytes up to a limit.
pub(crate) fn at_most(
    field: &'static str,
    bytes: impl Into<Bytes>,
    bytes_max: usize,
) -> Result<Bytes, RequestError> {
    let bytes = bytes.into();
    if bytes.len() > bytes_max {
        return Err(RequestError::TooLarge { field, bytes: bytes.len(), bytes_max });
    }
    Ok(bytes)
}

/// A time-out in milliseconds; `None` stands for a number that is no whole one.
pub(crate) fn timeout(field: &'static str, millis: Option<i64>) -> Result<Duration, RequestError> {
    let (min, max) = limits::TIMEOUT_MS;
    let checked = millis.and_then(|millis| limits::request_timeout(Some(millis)).ok());
    checked.ok_or(RequestError::BadTimeout { field, min, max })
}

/// The bound of a barrier in milliseconds; `None` stands for a number that is no whole one.
pub(crate) fn barrier(field: &'static str, millis: Option<i64>) -> Result<Duration, RequestError> {
    let (min, max) = limits::BARRIER_MS;
    let checked = millis.and_then(|millis| limits::barrier_timeout(millis).ok());
    checked.ok_or(RequestError::BadTimeout { field, min, max })
}

/// The time-out where none is given.
pub(crate) const fn timeout_default() -> Duration {
    Duration::from_millis(limits::TIMEOUT_MS_DEFAULT as u64)
}

/// How many keys a page may have.
pub(crate) fn limit(limit: Option<u64>) -> Result<u32, RequestError> {
    let max = limits::KEYS_MAX;
    let checked = limit.and_then(|limit| u32::try_from(limit).ok());
    checked.filter(|limit| (1..=max).contains(limit)).ok_or(RequestError::BadLimit { max })
}

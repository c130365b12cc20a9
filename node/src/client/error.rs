//! Why a client does not start, and why a call of it fails.

use std::time::Duration;

use meshraft_service::ServiceError;
use meshraft_transport::{Multiaddr, Refusal, StartError, identity::IdentityError};

/// Why a client does not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// No address of a member was given.
    #[error("a client needs the address of at least one member")]
    NoPeers,
    /// An address ends in a peer id that is no Ed25519 key.
    #[error("{address} names a peer whose key is not Ed25519")]
    NotEd25519 {
        /// The address.
        address: Multiaddr,
    },
    /// The client's identity could not be made.
    #[error("the client has no identity")]
    Identity(#[source] IdentityError),
    /// The transport could not be started.
    #[error("the client's transport could not be started")]
    Transport(#[source] StartError),
}

/// Why a call fails. [`CallError::maybe_applied`] says whether it may have taken effect.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// A member, or the routing of the client, says so.
    #[error(transparent)]
    Service(#[from] ServiceError),
    /// No member was reached before the deadline. Nothing was sent.
    #[error("no member was reached within {} ms", waited.as_millis())]
    NotReached {
        /// How long it was tried.
        waited: Duration,
    },
    /// The members that were reached refused to talk until the deadline. Nothing was sent.
    #[error("{0}")]
    Refused(#[source] Refusal),
    /// The answer is none to this call.
    #[error("the member's answer does not fit the request")]
    UnexpectedReply {
        /// Whether the call may have taken effect.
        maybe: bool,
    },
    /// The client's task ended before the call was answered.
    #[error("the client ended before the answer came")]
    Lost {
        /// Whether the call may have taken effect.
        maybe: bool,
    },
    /// The client's task has ended. Nothing was sent.
    #[error("the client has ended")]
    Closed,
}

impl CallError {
    /// The stable name that tools rely on.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Service(error) => error.code(),
            Self::NotReached { .. } => "timeout",
            Self::Refused(Refusal::KeyMismatch) => "key_mismatch",
            Self::Refused(_) => "refused",
            Self::UnexpectedReply { .. } => "outcome_unknown",
            Self::Lost { .. } | Self::Closed => "shutting_down",
        }
    }

    /// Whether the call may have taken effect, or still may.
    pub const fn maybe_applied(&self) -> bool {
        match self {
            Self::Service(error) => error.maybe(),
            Self::UnexpectedReply { maybe } | Self::Lost { maybe } => *maybe,
            Self::NotReached { .. } | Self::Refused(_) | Self::Closed => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_have_the_codes_of_the_command_line() {
        let unreached = CallError::NotReached { waited: Duration::from_millis(300) };
        assert_eq!((unreached.code(), unreached.maybe_applied()), ("timeout", false));
        assert_eq!(unreached.to_string(), "no member was reached within 300 ms");
        let mismatch = CallError::Refused(Refusal::KeyMismatch);
        assert_eq!((mismatch.code(), mismatch.maybe_applied()), ("key_mismatch", false));
        let timeout = CallError::from(ServiceError::Timeout { maybe: true });
        assert_eq!((timeout.code(), timeout.maybe_applied()), ("timeout", true));
    }
}

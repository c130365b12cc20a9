//! Why a client does not start, and why a call of it fails.

use std::{fmt, time::Duration};

use meshraft_service::ServiceError;
use meshraft_transport::{
    AddressError, AddressErrors, Refusal, StartError, Unreached, identity::IdentityError,
};

/// Why a client does not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// No address of a member was given.
    #[error("a client needs the address of at least one member")]
    NoPeers,
    /// Addresses can't be dialled; all of them are named.
    #[error(transparent)]
    Addresses(#[from] AddressErrors),
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
    #[error("no member was reached within {} ms{}", waited.as_millis(), Tried(tried))]
    NotReached {
        /// How long it was tried.
        waited: Duration,
        /// The addresses that failed when they were dialled last, with the reasons; at most 16.
        /// Those whose first dial was still under way are not among them.
        tried: Vec<Unreached>,
    },
    /// The address that was to be added can't be dialled.
    #[error(transparent)]
    Address(Box<AddressError>),
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
    pub fn code(&self) -> &'static str {
        match self {
            Self::Service(error) => error.code(),
            // A time-out is told as one only where nothing else is known.
            Self::NotReached { tried, .. } if tried.iter().all(|one| one.why.is_timeout()) => {
                "timeout"
            }
            Self::NotReached { .. } => "unreachable",
            Self::Address(_) => "bad_request",
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
            Self::NotReached { .. } | Self::Address(_) | Self::Refused(_) | Self::Closed => false,
        }
    }
}

/// What is told of the addresses that failed.
struct Tried<'a>(&'a [Unreached]);

impl fmt::Display for Tried<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, one) in self.0.iter().enumerate() {
            let separator = if at == 0 { ": " } else { "; " };
            write!(f, "{separator}{one}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use meshraft_transport::DialFailure;

    use super::*;

    #[test]
    fn errors_have_the_codes_of_the_command_line() {
        let waited = Duration::from_millis(300);
        let unreached = CallError::NotReached { waited, tried: Vec::new() };
        assert_eq!((unreached.code(), unreached.maybe_applied()), ("timeout", false));
        assert_eq!(unreached.to_string(), "no member was reached within 300 ms");
        let at = |why| Unreached { address: "/ip4/10.0.0.1/tcp/1".parse().unwrap(), why };
        let slow = at(DialFailure::ConnectTimeout { within: waited });
        let unreached = CallError::NotReached { waited, tried: vec![slow.clone()] };
        assert_eq!(unreached.code(), "timeout");
        let tried = vec![slow, at(DialFailure::Refused)];
        let unreached = CallError::NotReached { waited, tried };
        assert_eq!((unreached.code(), unreached.maybe_applied()), ("unreachable", false));
        assert!(unreached.to_string().ends_with("; /ip4/10.0.0.1/tcp/1: connection refused"));
        let mismatch = CallError::Refused(Refusal::KeyMismatch);
        assert_eq!((mismatch.code(), mismatch.maybe_applied()), ("key_mismatch", false));
        let timeout = CallError::from(ServiceError::Timeout { maybe: true });
        assert_eq!((timeout.code(), timeout.maybe_applied()), ("timeout", true));
    }
}

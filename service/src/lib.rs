//! Requests that just work: what travels, what is applied, and who is asked.
//!
//! - [`envelope`] is what a command entry of the log holds, [`wire`] what travels between members.
//! - [`Replicated`] is what entries are applied to: the sessions (exactly once, thesis 6.3) and one
//!   [`StateMachine`], of which [`kv::Kv`] is ours.
//! - [`Router`] is the value by which any member takes any request; [`client`] the value by which a
//!   client picks the member that it asks.
//!
//! Nothing here reads a clock, draws randomness, blocks or logs; time is an argument.
#![forbid(unsafe_code)]

mod codec;
mod error;
mod hash;
mod machine;
mod replicated;
mod session;
mod snapshot;

pub mod client;
pub mod envelope;
pub mod kv;
pub mod limits;
pub mod router;
pub mod wire;

pub use error::{BadRequest, Feature, NotTransferred, Refusal, ServiceError};
pub use machine::{CheckError, Command, QueryError, SnapshotWriter, StateMachine};
pub use replicated::{Applied, ApplyError, Halt, HaltReason, Replicated};
pub use router::Router;
pub use session::{Sequence, SessionId};
pub use snapshot::RestoreError;

//! Raft as a value: no clock, no I/O, no async, no logging.
//!
//! A [`Core`] is moved by [`Core::handle`] alone, hands out what it wants by [`Core::poll`], and
//! says by [`Core::deadline`] when it next wants to be woken.
#![no_std]
#![forbid(unsafe_code)]
#![warn(clippy::indexing_slicing)]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod apply;
mod commit;
mod config;
mod core;
mod durability;
mod election;
mod entry;
mod error;
mod event;
mod founding;
mod identity;
mod input;
mod invariant;
mod load;
mod log;
mod membership;
mod message;
mod output;
mod quorum;
mod random;
mod read;
mod replication;
mod role;
mod status;
mod types;

pub use self::core::Core;
pub use config::{Config, ConfigBuilder, ConfigError};
pub use entry::{Entry, EntryKind, HardState, Restored, SnapshotMeta, Write};
pub use error::{InstallError, LoadError, ReadError, RejectReason};
pub use event::{DropReason, Event, Role};
pub use identity::{ClusterId, Incarnation, Member, Namespace, NamespaceError, NodeId};
pub use input::{Fate, Input, ReadLevel};
pub use membership::{Change, ChangeStep, Configuration, ConfigurationError};
pub use message::{
    AppendRequest, AppendResponse, AppendResult, Heartbeat, HeartbeatResponse, Message, Quiesce,
    ReadRequest, ReadResponse, SnapshotOffer, SnapshotResponse, TimeoutNow, VoteKind, VoteRequest,
    VoteResponse,
};
pub use output::{Lane, Outcome, Output};
pub use status::{FollowerState, FollowerStatus, Status};
pub use types::{Index, IndexRange, LoadId, Moment, Position, ProposalId, ReadId, Term, WriteId};

//! Raft as a value: no clock, no I/O, no async, no logging.
//!
//! A [`Core`] is one member of one group. [`Core::handle`] alone moves it, [`Core::poll`] hands out
//! what it wants done, [`Core::deadline`] says when it next wants to be woken. A driver loops:
//!
//! 1. Hand in whatever happened, each with the moment at which it did; several inputs may go in
//!    before a drain, and then become one write and one request a follower.
//! 2. Drain: take outputs until there are none, and do what each asks for. What it costs to get
//!    this wrong is little, since order matters only within one variant, and whatever rests on a
//!    write is not handed out before the write is reported as durable.
//! 3. Sleep until the deadline, or until something happens.
//!
//! ```
//! use meshraft_consensus::{
//!     ClusterId, ConfigBuilder, Core, HardState, Incarnation, Index, Input, Member, Moment,
//!     NodeId, Output, Position, ProposalId, Restored,
//! };
//!
//! // A founder set of one: a cluster that this member may found alone.
//! let me = Member::new(NodeId::new([1; 32]), Incarnation::new([1; 16]));
//! let restored = Restored {
//!     me,
//!     cluster: ClusterId::new([7; 32]),
//!     founding: Some(vec![me]),
//!     hard: HardState::default(),
//!     snapshot: None,
//!     terms: vec![],
//!     configurations: vec![],
//!     last: Position::ZERO,
//!     damage: None,
//! };
//! let config = ConfigBuilder { seed: 42, ..ConfigBuilder::lan() }.build()?;
//! let mut core = Core::new(config, restored, Moment::ZERO);
//!
//! let mut inputs = vec![Input::Timeout];
//! let mut applied = Vec::new();
//! while let Some(input) = inputs.pop() {
//!     core.handle(Moment::ZERO, input);
//!     while let Some(output) = core.poll() {
//!         match output {
//!             // A real driver hands this input in when its store has made the write durable.
//!             Output::Persist(write) => inputs.push(Input::Persisted(write.id)),
//!             Output::NeedFirstEntry { .. } => {
//!                 inputs.push(Input::FirstEntry(meshraft_consensus::Fate::Found));
//!             }
//!             Output::Apply(entries) => {
//!                 let index = entries.last().map_or(Index::ZERO, |last| last.position.index);
//!                 applied.extend(entries);
//!                 inputs.push(Input::Applied { index, backlog_bytes: 0 });
//!                 if applied.len() == 1 {
//!                     let (id, command) = (ProposalId::new(1), "hello".into());
//!                     inputs.push(Input::Propose { id, command });
//!                 }
//!             }
//!             _ => {}
//!         }
//!     }
//! }
//! assert_eq!(applied[1].bytes, "hello");
//! # Ok::<(), meshraft_consensus::ConfigError>(())
//! ```
//!
//! Where the dissertation (Ongaro, "Consensus: Bridging Theory and Practice") is: elections 3.4,
//! 3.6.1, 4.2.3, 6.2 and 9.6 in `election`; replication 3.5 and 10.2 in `replication` and
//! `role::follower`; the commit rule 3.6.2 in `commit`; hand-over of leadership 3.10 in
//! `transfer`; what must be durable 3.8 and 10.2.1 in `durability`; membership 4 in `membership`
//! and `quorum`; snapshots 5 in `snapshot`; reads 6.4 in `read` and
//! `lease`. Founding is ours: `founding`.
#![no_std]
#![forbid(unsafe_code)]
#![warn(clippy::indexing_slicing)]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod amnesia;
mod apply;
mod commit;
mod config;
mod core;
mod damage;
mod disk_pace;
mod durability;
mod election;
mod entry;
mod error;
mod event;
mod founding;
mod identity;
mod input;
mod invariant;
mod lease;
mod load;
mod log;
mod membership;
mod message;
mod output;
mod quiescence;
mod quorum;
mod random;
mod read;
mod replication;
mod role;
mod snapshot;
mod status;
mod term_rise;
mod transfer;
mod types;
mod version;

pub use self::core::Core;
pub use config::{Config, ConfigBuilder, ConfigError};
pub use entry::{
    Entry, EntryKind, HardState, LogAfterSnapshot, LogChange, Restored, SnapshotMeta,
    SnapshotWrite, Write,
};
pub use error::{InstallError, LoadError, ReadError, RejectReason};
pub use event::{DropReason, Event, Role};
pub use identity::{ClusterId, Incarnation, Member, Namespace, NamespaceError, NodeId};
pub use input::{Fate, Input, ReadLevel};
pub use membership::{
    Card, CardError, Change, ChangeStep, Configuration, ConfigurationError, Judgement,
    KnownMembers, Signature, Signatures,
};
pub use message::{
    Amnesia, AppendRequest, AppendResponse, AppendResult, Committed, Dismissed, Heartbeat,
    HeartbeatResponse, Message, Quiesce, ReadRequest, ReadResponse, RepairRequest, RepairResponse,
    RepairResult, SnapshotOffer, SnapshotResponse, TimeoutNow, VoteKind, VoteRequest, VoteResponse,
};
pub use output::{Lane, Outcome, Output};
pub use status::{FollowerState, FollowerStatus, HeldBack, Status};
pub use types::{Index, IndexRange, LoadId, Moment, Position, ProposalId, ReadId, Term, WriteId};
pub use version::ClusterVersion;

//! Consensus that just works on a peer-to-peer mesh.
//!
//! A program starts a [`Node`], names a namespace, and gets a replicated state machine whose
//! members find each other, found a cluster, elect a leader, and take any request anywhere:
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use std::time::Duration;
//!
//! let node = meshraft::Node::builder()
//!     .data_dir("data")
//!     .listen("/ip4/0.0.0.0/tcp/4001")
//!     .peers(["/ip4/10.0.0.2/tcp/4001"])
//!     .start()
//!     .await?;
//! let jobs = node.namespace("/jobs/cron").expect(3).open().await?;
//! jobs.ready(Duration::from_secs(30)).await?;
//! jobs.set("greeting", "hello").await?;
//! let greeting = jobs.get("greeting").linearizable().await?;
//! assert_eq!(greeting.map(|pair| pair.value), Some("hello".into()));
//! node.shutdown().await;
//! # Ok(())
//! # }
//! ```
//!
//! Inside, everything that decides is a value (`handle`, `poll`, `deadline`): [`host::Host`] is a
//! whole node but for sockets and disks. The runtime around it is one task.
#![forbid(unsafe_code)]

mod api;
mod client;
mod clock;
mod config;
pub mod forget;
pub mod host;
mod observe;
pub mod process;
pub mod replica;
mod runtime;
mod shutdown;

pub use api::{
    Answer, Applied, ChangeError, Deleted, Events, EventsError, Founders, FoundersError,
    KeyFileError, LeaveError, Members, MembershipChange, NamespaceBuilder, NamespaceHandle, Node,
    NodeBuilder, OpenError, Pair, Read, ReadError, ReadyError, RejoinError, RemoveError,
    StartError, StatusError, TransferError, Voters, Write, WriteError, read_key_file,
};
pub use client::{CallError, Client, ConnectError, ReadLevel};
pub use config::Timing;
pub use host::{HaltReason, NodeEvent, RecordError, RestoreFailure, SnapshotEvent};
pub use libp2p::{Multiaddr, PeerId};
pub use meshraft_consensus::{
    ClusterId, ClusterVersion, Config, ConfigBuilder, ConfigError, Incarnation, Index, Member,
    Namespace, NamespaceError, NodeId, Position, Term,
};
pub use meshraft_service::{
    CheckError, Command, NotTransferred, QueryError, ServiceError, SnapshotWriter, StateMachine,
    kv::{KeyPage, Revision},
    wire::{
        HeldBack, MemberRole, MemberState, MemberStatus, NodeRole, NotAdmitted, Status, Waiting,
        WaitingCode,
    },
};
pub use meshraft_transport::{
    AddressError, AddressErrors, AddressProblem, DialFailure, KeyRing, NamespaceKey, PeerAddress,
    PeerStatus, Refusal, Unreached, identity,
};
pub use shutdown::StopReason;

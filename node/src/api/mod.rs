//! The embedding API: a node, and handles to the namespaces that it hosts.

mod error;
mod events;
mod founders;
mod handle;
mod keys;
mod membership;
mod namespace;
mod node;
mod request;
pub(crate) mod session;

pub use error::{
    EventsError, KeyFileError, OpenError, ReadError, ReadyError, StartError, StatusError,
    WriteError,
};
pub use events::Events;
pub use founders::{Founders, FoundersError, Voters};
pub use handle::{Members, NamespaceHandle};
pub use keys::read_key_file;
pub use membership::{
    ChangeError, LeaveError, MembershipChange, RejoinError, RemoveError, TransferError,
};
pub use namespace::NamespaceBuilder;
pub use node::{Node, NodeBuilder};
pub use request::{Answer, Applied, Deleted, Pair, Read, Write};

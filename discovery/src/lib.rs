//! Finding peers, founding a cluster safely, and joining a living one.
//!
//! Everything here is a value: no clock, no socket, no file. [`founding::Founding`] decides for
//! one namespace whether this node founds, waits or joins; [`wire`] is what founding says to its
//! peers; [`peers::Directory`] says what peers are told of addresses. The driver moves them with
//! time and messages.
//!
//! Founding is safe, not hopeful: a founder set is promised durably by every member before its own
//! Raft group may commit `Found`, and a promise ends only when its set is provably dead.

mod ballot;
pub mod founding;
pub mod peers;
mod record;
pub mod wire;

pub use ballot::{Ballot, FounderSet, FounderSetError};
pub use founding::{ForceError, Founding, FoundingConfig};
pub use record::{Departure, Record, RecordError};

//! Which commands every member of a cluster understands, as one number.
//!
//! The core never looks at it. It is named here because the transport tells it, the service
//! replicates it and the node compares it, and none of them knows another.

use core::fmt;

use serde::{Deserialize, Serialize};

/// A version of the commands of a cluster: what a member supports at most, what a command needs at
/// least, or what is in force. A member that supports one supports every lower one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ClusterVersion(u16);

impl ClusterVersion {
    /// What is in force where nothing was said: every build supports it.
    pub const BASELINE: Self = Self(1);

    /// The version with this number.
    pub const fn new(number: u16) -> Self {
        Self(number)
    }

    /// Its number.
    pub const fn get(self) -> u16 {
        self.0
    }
}

impl Default for ClusterVersion {
    fn default() -> Self {
        Self::BASELINE
    }
}

impl fmt::Display for ClusterVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

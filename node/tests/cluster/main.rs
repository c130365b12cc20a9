//! Embedded nodes on loopback with real disks: what a program that embeds the library relies on.
//!
//! Every wait is for a condition, with a deadline; none is for luck.

#![expect(clippy::unwrap_used, reason = "a test that fails to unwrap fails as it should")]

mod examples;
mod formation;
mod keys;
mod life;
mod machine;
mod reopen;
mod snapshots;
mod start;
mod strangers;
mod support;
mod version;

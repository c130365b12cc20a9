//! Deterministic simulation of whole Meshraft nodes.
//!
//! A [`World`] is a handful of real [`meshraft::host::Host`] values in one thread, on a network, on
//! disks and on clocks of its own. Everything random comes from one seed: which faults a run has,
//! when they strike, what clients do. So a seed *is* a run, and the same seed is the same run.
//!
//! - [`Plan`] says what a run is like, [`Faults`] what goes wrong in it, as named rates.
//! - [`world`] holds the models of network, disk and clock, each under the contract that the real
//!   one keeps.
//! - [`check`] holds what must be so, one property a file; they are asked after every event.
//! - [`cores`] does the same with cores alone, a hundred times as fast.
//! - [`planter`] plants mistakes in a copy of the sources, [`alarm`] looks for them.
//! - [`workload`] holds the clients and what they saw.
#![expect(
    clippy::result_large_err,
    reason = "a violation is made once, ends the run, and says everything"
)]

pub mod alarm;
pub mod check;
pub mod cores;
mod counts;
mod digest;
pub mod faults;
mod lies;
mod machine;
mod mistake;
mod plan;
mod planted;
pub mod planter;
mod random;
mod shrink;
mod trace;
pub mod workload;
pub mod world;

pub use check::Violation;
pub use counts::{Counts, Rare};
pub use faults::{Fault, Faults, Rate, Strike};
pub use lies::{Lie, LieCounts};
pub use mistake::Mistake;
pub use plan::{Founding, Hostile, Plan};
pub use random::Random;
pub use shrink::{ShrunkPlan, shrink_plan};
pub use world::{Failure, Report, Struck, StruckCounts, World, simulate};

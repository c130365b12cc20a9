//! Tests of the store from outside: one contract for both back ends, a model, crashes, rot, faults.
#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod contract;
mod crash;
mod disk;
mod fault;
mod folder;
mod model;
mod rot;
mod script;
mod sharing;
mod snapshots;
mod space;
mod subject;

//! Tests of snapshots: one contract for both kinds, crashes, rot, resuming.

mod contract;
mod crash;
mod disk;
mod files;
mod subject;

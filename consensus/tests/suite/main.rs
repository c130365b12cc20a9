//! Tests of whole cores through their public face: rules of the thesis, golden scenarios, random
//! histories.

#![allow(clippy::unwrap_used, reason = "a test that can not go on shall stop")]

mod basics;
mod cards;
mod chaos;
mod cluster;
mod crashes;
mod dice;
mod disk;
mod golden;
mod hostile;
mod installs;
mod node;
mod parse;
mod round_trips;
mod sleep;
mod text;
mod thesis;
mod thesis_lease;
mod thesis_snapshots;
mod thesis_transfer;
mod transfer;

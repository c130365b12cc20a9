//! Founding and joining, from golden scenarios to seeded worlds.
#![allow(missing_docs, reason = "tests")]

mod group;
mod random;
mod world;

//! Founding and joining, from golden scenarios to seeded worlds.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod addresses;
mod check;
mod dice;
mod foreign;
mod golden;
mod group;
mod liar;
mod life;
mod notation;
mod random;
mod starts;
mod window;
mod world;

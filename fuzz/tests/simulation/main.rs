//! Slices of what the programs `seeds` and `mistakes` run by the thousand.

mod cores;
#[cfg(feature = "planted")]
mod mistakes;
mod nodes;

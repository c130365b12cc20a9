//! Embedded nodes on loopback with real disks: what a program that embeds the library relies on.
//!
//! Every wait is for a condition, with a deadline; none is for luck.

mod examples;
mod formation;
mod keys;
mod machine;
mod start;
mod support;

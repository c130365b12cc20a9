//! Real processes: what the `meshraft` binary does, end to end.
#![expect(clippy::unwrap_used, reason = "a test that can't go on fails")]

mod addresses;
mod bad_input;
mod behind;
mod conversation;
mod crash;
mod demo;
mod departures;
mod forget;
mod founders;
mod harness;
mod lan;
mod membership;
mod namespaces;
mod reboots;
mod renewal;
mod rot;
mod sleep;
mod transfer;

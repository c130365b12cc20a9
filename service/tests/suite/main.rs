//! Tests of the service through its public face: golden scenarios of the router and the client, and
//! properties of what is applied and of what travels.
#![allow(clippy::unwrap_used, reason = "a test that can't go on fails")]

mod chain;
mod client;
mod gale;
mod kv;
mod once;
mod router;
mod script;
mod storm;
mod version;
mod wire;

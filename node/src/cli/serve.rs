//! `meshraft serve`.

use std::process::ExitCode;

use super::{Global, ServeArgs, usage};

/// Runs a node until a signal ends it.
pub(crate) fn run(_args: &ServeArgs, _global: &Global) -> ExitCode {
    usage("not linked yet")
}

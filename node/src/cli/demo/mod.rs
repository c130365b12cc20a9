//! `meshraft demo`: three real nodes on this machine, and everything that they claim, checked.
//!
//! Invariants:
//! 1. Nothing is left behind, unless it is killed with -9: children and folder belong to values
//!    that are dropped when the demo is done, fails, panics, or is interrupted.
//! 2. The exit code is 0 only if every check passed.

mod folder;
mod load;
mod nodes;
mod report;
mod scenario;

use std::{io, process::ExitCode};

use tokio::signal::unix::{SignalKind, signal};

use self::{
    report::{Report, Style},
    scenario::Demo,
};
use super::{DONE, FAILED, Global, failed};

/// Runs the demo to its end, or until a signal ends it.
pub(crate) fn run(global: &Global) -> ExitCode {
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error),
    };
    let report = Report::new(io::stdout(), Style::choose(global.json));
    let code = runtime.block_on(async {
        let interrupted = match interrupted() {
            Ok(interrupted) => interrupted,
            Err(error) => return failed(&error),
        };
        // Whichever ends first drops the other, and with the demo its processes and its folder.
        tokio::select! {
            done = Demo::run(report) => match done {
                Ok(true) => ExitCode::from(DONE),
                Ok(false) => ExitCode::from(FAILED),
                Err(error) => failed(&error),
            },
            number = interrupted => ExitCode::from(128_u8.saturating_add(number)),
        }
    });
    runtime.shutdown_background();
    code
}

/// Resolves with the number of the signal that asks this process to end.
fn interrupted() -> io::Result<impl Future<Output = u8>> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    Ok(async move {
        let kind = tokio::select! {
            _ = interrupt.recv() => SignalKind::interrupt(),
            _ = terminate.recv() => SignalKind::terminate(),
            _ = hang_up.recv() => SignalKind::hangup(),
        };
        u8::try_from(kind.as_raw_value()).unwrap_or(u8::MAX)
    })
}

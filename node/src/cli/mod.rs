//! The command line: what can be typed, and which exit code ends it.
//!
//! Exit codes: 0 done, 1 failed (or key absent), 2 usage or bad input.
//! A command that is planned and not built is refused by name.

mod answer;
mod args;
mod connect;
mod demo;
mod events;
mod forget;
mod json;
mod key_args;
mod membership;
mod oneshot;
mod pipe;
mod request;
mod serve;
mod values;

use std::{error::Error, fmt, io::IsTerminal as _, process::ExitCode};

use clap::{
    CommandFactory, Parser,
    error::{ContextKind, ContextValue, ErrorKind},
};

pub(crate) use args::*;

/// The command did what it was asked.
pub(crate) const DONE: u8 = 0;
/// The command failed, or the key is absent.
pub(crate) const FAILED: u8 = 1;
/// The command line or a file that it names is wrong; nothing was changed.
pub(crate) const USAGE: u8 = 2;

/// Commands of the design that this build does not have.
const PLANNED_COMMANDS: [&str; 10] = [
    "watch", "txn", "snapshot", "backup", "restore", "recover", "keyring", "doctor", "bench",
    "batch",
];

/// Parses the command line, runs what it says, and gives the exit code.
pub(crate) fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return refuse(&error),
    };
    log();
    let global = Global { namespaces: cli.namespaces, json: cli.json };
    match cli.command {
        // `cargo run` sets this variable: whoever cloned the repository wants to see it work,
        // whoever installed the program wants to see what it can do.
        None if std::env::var_os("CARGO_MANIFEST_DIR").is_some() => {
            dispatch(Command::Demo, &global)
        }
        None => {
            // Only a closed standard output can fail here, and then nobody reads.
            let _ = Cli::command().print_help();
            ExitCode::from(DONE)
        }
        Some(command) => dispatch(command, &global),
    }
}

fn dispatch(command: Command, global: &Global) -> ExitCode {
    match command {
        Command::Serve(args) => serve::run(&args, global),
        Command::Demo => demo::run(global),
        Command::Pipe(args) => pipe::run(&args, global),
        Command::Get(args) => oneshot::get(&args, global),
        Command::Set(args) => oneshot::set(&args, global),
        Command::Delete(args) => oneshot::delete(&args, global),
        Command::Keys(args) => oneshot::keys(&args, global),
        Command::Status(args) => oneshot::status(&args, global),
        Command::Members(args) => oneshot::members(&args, global),
        Command::Leave(args) => membership::leave(&args, global),
        Command::Remove(args) => membership::remove(&args, global),
        Command::Transfer(args) => membership::transfer(&args, global),
        Command::Join(args) => membership::join(&args, global),
        Command::Forget(args) => forget::run(&args, global),
    }
}

/// Says what is wrong with the command line, on one line, and gives the exit code for it.
pub(crate) fn usage(message: impl fmt::Display) -> ExitCode {
    eprintln!("error: {message}");
    ExitCode::from(USAGE)
}

/// Says what failed, on one line, and gives the exit code for it.
pub(crate) fn failed(error: &dyn Error) -> ExitCode {
    eprintln!("error: {}", Chain(error));
    ExitCode::from(FAILED)
}

/// An error and all its sources, on one line. A source that its error repeats is left out.
pub(crate) struct Chain<'a>(pub(crate) &'a dyn Error);

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut said = self.0.to_string();
        f.write_str(&said)?;
        let mut next = self.0.source();
        while let Some(error) = next {
            let says = error.to_string();
            if !said.ends_with(&says) {
                write!(f, ": {says}")?;
            }
            said = says;
            next = error.source();
        }
        Ok(())
    }
}

/// Sends log lines to standard error: warnings, or what `RUST_LOG` asks for.
fn log() {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("warn"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        // What can't be logged because standard error is gone can't be complained of there either.
        .log_internal_errors(false)
        .init();
}

/// Prints a refusal of clap (or the help that was asked for); what is planned is named as such.
fn refuse(error: &clap::Error) -> ExitCode {
    let context = |kind| match error.get(kind) {
        Some(ContextValue::String(value)) => value.as_str(),
        _ => "",
    };
    if error.kind() == ErrorKind::InvalidSubcommand {
        let name = context(ContextKind::InvalidSubcommand);
        if PLANNED_COMMANDS.contains(&name) {
            return usage(format_args!("the command `{name}` is not supported yet"));
        }
    }
    // As above: if the message can't be written, the exit code still tells.
    let _ = error.print();
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(USAGE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn planned_commands_do_not_exist_yet() {
        for name in PLANNED_COMMANDS {
            assert!(Cli::command().find_subcommand(name).is_none(), "{name} is built");
        }
    }
}

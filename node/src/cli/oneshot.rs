//! The commands that ask once: `get`, `set`, `delete`, `keys`, `status`, `members`.
//!
//! Exit codes: 0 done, 1 failed or key absent, 2 bad input, which is found before anything is sent.

use std::{
    io::{self, Write},
    process::ExitCode,
    time::Duration,
};

use meshraft::{CallError, Client};
use meshraft_service::limits;
use meshraft_transport::identity::node_id;

use super::{
    DONE, DeleteArgs, FAILED, GetArgs, Global, KeysArgs, MembersArgs, RequestArgs, SetArgs,
    StatusArgs, USAGE,
    answer::{Answer, ask, failure_object, level},
    connect::{self, Reach},
    json::Object,
    request::{self, Operation, RequestError},
    usage,
};

/// `meshraft get`.
pub(crate) fn get(args: &GetArgs, global: &Global) -> ExitCode {
    let bound = args.barrier_ms.map(|millis| request::barrier("--barrier-ms", Some(millis)));
    let operation = request::key("key", args.key.clone())
        .map(|key| Operation::Get { key, level: level(args.read.stale) });
    match bound.transpose() {
        Ok(bound) => run(&args.request, global, operation, bound),
        Err(error) => usage(error),
    }
}

/// `meshraft set`.
pub(crate) fn set(args: &SetArgs, global: &Global) -> ExitCode {
    let value = request::at_most("value", args.value.clone(), limits::VALUE_BYTES_MAX);
    let operation = request::key("key", args.key.clone())
        .and_then(|key| value.map(|value| Operation::Set { key, value }));
    run(&args.request, global, operation, None)
}

/// `meshraft delete`.
pub(crate) fn delete(args: &DeleteArgs, global: &Global) -> ExitCode {
    let operation = request::key("key", args.key.clone()).map(|key| Operation::Delete { key });
    run(&args.request, global, operation, None)
}

/// `meshraft keys`.
pub(crate) fn keys(args: &KeysArgs, global: &Global) -> ExitCode {
    run(&args.request, global, keys_operation(args), None)
}

fn keys_operation(args: &KeysArgs) -> Result<Operation, RequestError> {
    let prefix = request::at_most("prefix", args.prefix.clone(), limits::KEY_BYTES_MAX)?;
    let after = args.after.clone();
    let after =
        after.map(|after| request::at_most("after", after, limits::KEY_BYTES_MAX)).transpose()?;
    let limit = request::limit(Some(args.limit.into()))?;
    Ok(Operation::Keys { prefix, limit, after, level: level(args.read.stale) })
}

/// `meshraft status`.
pub(crate) fn status(args: &StatusArgs, global: &Global) -> ExitCode {
    run(&args.request, global, Ok(Operation::Status), None)
}

/// `meshraft members`.
pub(crate) fn members(args: &MembersArgs, global: &Global) -> ExitCode {
    run(&args.request, global, Ok(Operation::Members), None)
}

fn run(
    args: &RequestArgs,
    global: &Global,
    operation: Result<Operation, RequestError>,
    bound: Option<Duration>,
) -> ExitCode {
    let operation = match operation {
        Ok(operation) => operation,
        Err(error) => return usage(error),
    };
    let timeout = match request::timeout("--timeout-ms", Some(args.timeout_ms)) {
        Ok(timeout) => bound.unwrap_or(timeout),
        Err(error) => return usage(error),
    };
    let via = match args.via.map(node_id).transpose() {
        Ok(via) => via,
        Err(error) => return usage(format_args!("--via: {error}")),
    };
    let json = global.json;
    let named = via.is_none() && !args.target.peers.is_empty();
    let reach = match operation {
        Operation::Status | Operation::Members if named => Reach::Named,
        _ => Reach::All,
    };
    connect::with_client(&args.target, global, reach, async |client: Client| {
        let client = via.map_or_else(|| client.clone(), |member| client.via(member));
        let bare = matches!(operation, Operation::Status);
        let outcome = ask(&client, operation, timeout).await;
        let code = print(&outcome, json, bare).map_or(FAILED, |()| code(&outcome));
        ExitCode::from(code)
    })
}

/// Prints an outcome. The JSON of `status` is `bare`: the status itself, without `ok`.
fn print(outcome: &Result<Answer, CallError>, json: bool, bare: bool) -> io::Result<()> {
    let mut output = io::stdout().lock();
    match outcome {
        Ok(answer) if json => {
            let object = if bare { Object::new() } else { Object::new().with("ok", true) };
            writeln!(output, "{}", object.and(answer.object()).line())?;
        }
        Ok(answer) => {
            output.write_all(&answer.text())?;
            if answer.is_absent() {
                eprintln!("the key is absent");
            }
        }
        Err(error) if json => writeln!(output, "{}", failure_object(error).line())?,
        Err(error) => {
            let code = error.code();
            eprintln!("error: {code}: {error}");
        }
    }
    output.flush()
}

fn code(outcome: &Result<Answer, CallError>) -> u8 {
    match outcome {
        Ok(answer) if answer.is_absent() => FAILED,
        Ok(_) => DONE,
        Err(error) => match error.code() {
            "bad_request" | "bad_timeout" | "too_large" | "unsupported" => USAGE,
            _ => FAILED,
        },
    }
}

//! How figures are printed: tables for people, JSON lines for programs.

use std::time::Duration;

use clap::ValueEnum;
use serde_json::json;

use crate::{Op, RunArgs, closed::Measured};

/// What stands above the rows of `run`.
pub(crate) fn run_header(args: &RunArgs, json: bool) {
    if !json {
        let (op, bytes, seconds) = (name(args.op), args.bytes, args.seconds);
        println!("{op}, {bytes} B values, {seconds} s each");
        println!(
            "{:>8} {:>12} {:>10} {:>10} {:>10}",
            "clients", "per second", "p50 ms", "p99 ms", "max ms"
        );
    }
}

/// One row of `run`.
pub(crate) fn run_row(args: &RunArgs, clients: usize, measured: &Measured, json: bool) {
    let rate = measured.rate();
    let [p50, p99, max] = [50.0, 99.0, 100.0].map(|percentile| measured.millis_at(percentile));
    if json {
        let row = json!({
            "op": name(args.op), "bytes": args.bytes, "clients": clients, "per_second": rate,
            "p50_ms": p50, "p99_ms": p99, "max_ms": max, "count": measured.micros.len(),
        });
        println!("{row}");
    } else {
        println!("{clients:>8} {rate:>12.0} {p50:>10.2} {p99:>10.2} {max:>10.2}");
    }
}

/// One repetition of an interruption.
pub(crate) fn interruption(what: &str, number: usize, elapsed: Duration, json: bool) {
    let millis = elapsed.as_secs_f64() * 1_000.0;
    if json {
        println!("{}", json!({ "what": what, "number": number, "ms": millis }));
    } else {
        println!("{what:>12} {number:>3} {millis:>8.0} ms");
    }
}

/// The middle of all repetitions, and both ends.
pub(crate) fn median(what: &str, times: &[Duration], json: bool) {
    let mut millis: Vec<_> = times.iter().map(|time| time.as_secs_f64() * 1_000.0).collect();
    millis.sort_by(f64::total_cmp);
    let (Some(least), Some(most)) = (millis.first(), millis.last()) else { return };
    let middle = millis[millis.len() / 2];
    if json {
        let count = millis.len();
        let row = json!({
            "what": what, "count": count, "median_ms": middle, "min_ms": least, "max_ms": most,
        });
        println!("{row}");
    } else {
        println!("{what}: median {middle:.0} ms, from {least:.0} to {most:.0} ms");
    }
}

fn name(op: Op) -> String {
    op.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}

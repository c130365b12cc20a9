//! How often the core asks for memory: allocations and bytes per committed entry, per read and per
//! heartbeat, on all three cores of a cluster in memory together. Counted, not timed: the same on
//! every machine.

use std::process::ExitCode;

use allocation_counter::measure;
use bytes::Bytes;
use meshraft_benches::Cores;

/// Repetitions of what is counted, so that what a queue grows by once weighs little.
const TIMES: u64 = 1_000;

fn main() -> ExitCode {
    // `cargo test` runs benches too, to see that they do.
    if std::env::args().any(|argument| argument == "--test") {
        return ExitCode::SUCCESS;
    }
    println!("{:<28} {:>12} {:>12}", "for each", "allocations", "bytes");
    let command = Bytes::from(vec![7; 100]);
    for batch in [1, 16, 256] {
        count(&format!("committed entry, {batch} at once"), batch, |cores| {
            cores.commit(&command, batch);
        });
    }
    for batch in [1, 16, 256] {
        count(&format!("read, {batch} at once"), batch, |cores| cores.read(batch));
    }
    count("heartbeat round", 1, Cores::heartbeat);
    ExitCode::SUCCESS
}

fn count(what: &str, batch: u64, mut act: impl FnMut(&mut Cores)) {
    let mut cores = Cores::new();
    (0..TIMES).for_each(|_| act(&mut cores));
    let counted = measure(|| (0..TIMES).for_each(|_| act(&mut cores)));
    let each = |total: u64| total as f64 / (TIMES * batch) as f64;
    println!("{what:<28} {:>12.2} {:>12.0}", each(counted.count_total), each(counted.bytes_total));
}

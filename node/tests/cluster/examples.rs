//! The examples run, finish by themselves and say what they claim.

use std::{path::PathBuf, process::Command};

#[test]
fn the_key_value_example_writes_and_reads() {
    let said = run("kv");
    assert!(said.contains("c reads greeting = hello"), "{said}");
    assert!(said.contains("a deleted greeting: true"), "{said}");
}

#[test]
fn the_counter_example_counts() {
    let said = run("counter");
    assert!(said.contains("apples = 2, read linearizably"), "{said}");
}

/// Runs an example that `cargo test` has built beside this test.
fn run(example: &str) -> String {
    let this = std::env::current_exe().unwrap();
    let profile = this.parent().and_then(|deps| deps.parent()).unwrap();
    let path: PathBuf = profile.join("examples").join(example);
    let output = Command::new(&path)
        .output()
        .unwrap_or_else(|error| panic!("{}: {error}; build the examples", path.display()));
    let said = String::from_utf8(output.stdout).unwrap();
    let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{example} failed: {said}{complaint}");
    said
}

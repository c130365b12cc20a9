//! The demo passes, leaves nothing behind, and cleans up when it is interrupted.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Stdio},
};

use serde_json::Value;
use tokio::time::{Duration, Instant};

use crate::harness::{PROGRAM, alone};

#[tokio::test]
async fn the_demo_passes_and_leaves_nothing_behind() {
    let _alone = alone().await;
    let folder = tempfile::tempdir().unwrap();
    let start = Instant::now();
    let output = Command::new(PROGRAM)
        .args(["demo", "--json"])
        .env("TMPDIR", folder.path())
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let told = format!("{text}\n{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "{told}");
    assert!(start.elapsed() < Duration::from_secs(30), "{told}");
    let steps: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let names: Vec<_> = steps.iter().map(|step| step["step"].as_str().unwrap()).collect();
    let expected =
        ["formation", "write", "read", "kill", "fail-over", "restart", "check", "summary"];
    assert_eq!(names, expected, "{told}");
    assert!(steps.iter().all(|step| step["ok"] == true), "{told}");
    assert!(steps[6]["acknowledged"].as_u64() > Some(0), "{told}");
    assert_clean(folder.path(), &pids(&steps[0]));
}

#[tokio::test]
async fn an_interrupted_demo_cleans_up() {
    let _alone = alone().await;
    for signal in ["INT", "TERM"] {
        let folder = tempfile::tempdir().unwrap();
        let mut demo = Command::new(PROGRAM)
            .args(["demo", "--json"])
            .env("TMPDIR", folder.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(demo.stdout.take().unwrap()).lines();
        let formation = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
        let pid = demo.id().to_string();
        let kill = Command::new("kill").args(["-s", signal, &pid]).status().unwrap();
        assert!(kill.success());
        let code = demo.wait().unwrap().code();
        assert_eq!(code, Some(if signal == "INT" { 130 } else { 143 }));
        assert_clean(folder.path(), &pids(&formation));
    }
}

fn pids(formation: &Value) -> Vec<u64> {
    let nodes = formation["nodes"].as_array().unwrap();
    assert_eq!(nodes.len(), 3, "{formation}");
    nodes.iter().map(|node| node["pid"].as_u64().unwrap()).collect()
}

fn assert_clean(folder: &Path, pids: &[u64]) {
    let left: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(left.is_empty(), "left behind: {left:?}");
    for pid in pids {
        assert!(!Path::new(&format!("/proc/{pid}")).exists(), "process {pid} still runs");
    }
}

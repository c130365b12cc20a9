//! Nodes that are given no address: they find each other by multicast DNS.
//!
//! Multicast must never reach a real network, so every process runs in a network namespace of its
//! own, joined by a bridge in one more. That takes root and `ip`; where either is missing the test
//! says so and passes.

use std::{
    fs,
    path::PathBuf,
    process::{Child, Command, Output, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use serde_json::Value;
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use crate::harness::{PROGRAM, alone, until};

/// Longer than a node that is looked for takes to be found.
const LONG_ENOUGH: Duration = Duration::from_secs(4);

/// A network of its own: a bridge, and stations that are plugged into it. Gone when dropped.
struct Lan {
    name: String,
    stations: u8,
}

impl Lan {
    /// `None`, with the reason printed, where the system does not let us have one.
    fn new() -> Option<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let lan = Self { name: format!("mr{}-{number}", std::process::id()), stations: 0 };
        let bridge = lan.bridge();
        let made = [
            vec!["netns", "add", &bridge],
            vec!["-n", &bridge, "link", "add", "bridge", "type", "bridge"],
            vec!["-n", &bridge, "link", "set", "bridge", "up"],
        ]
        .into_iter()
        .try_for_each(ip);
        match made {
            Ok(()) => Some(lan),
            Err(reason) => {
                eprintln!("skipped: no network namespaces here: {reason}");
                None
            }
        }
    }

    fn bridge(&self) -> String {
        format!("{}-b", self.name)
    }

    fn station(&self, number: u8) -> String {
        format!("{}-{number}", self.name)
    }

    /// Plugs in one more station; returns its namespace.
    fn plug(&mut self) -> String {
        self.stations += 1;
        let number = self.stations;
        let (station, bridge) = (self.station(number), self.bridge());
        let (port, address) = (format!("port{number}"), format!("10.77.0.{number}/24"));
        let steps: [&[&str]; 7] = [
            &["netns", "add", &station],
            &[
                "-n", &station, "link", "add", "lan", "type", "veth", "peer", &port, "netns",
                &bridge,
            ],
            &["-n", &bridge, "link", "set", &port, "master", "bridge"],
            &["-n", &bridge, "link", "set", &port, "up"],
            &["-n", &station, "address", "add", &address, "dev", "lan"],
            &["-n", &station, "link", "set", "lan", "up"],
            &["-n", &station, "link", "set", "lo", "up"],
        ];
        for step in steps {
            ip(step.to_vec()).unwrap();
        }
        station
    }
}

impl Drop for Lan {
    fn drop(&mut self) {
        let stations = (1..=self.stations).map(|number| self.station(number));
        for name in stations.chain([self.bridge()]) {
            // What was never made can't be taken down.
            let _ = ip(vec!["netns", "delete", &name]);
        }
    }
}

/// Runs `ip`; why it failed, if it did.
fn ip(arguments: Vec<&str>) -> Result<(), String> {
    let output = Command::new("ip").args(&arguments).output().map_err(|error| error.to_string())?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("ip {arguments:?}: {}", String::from_utf8_lossy(&output.stderr)))
}

/// The program, to be run in a station.
fn program(station: &str) -> Command {
    let mut command = Command::new("ip");
    command.args(["netns", "exec", station, PROGRAM]).stdin(Stdio::null());
    command
}

/// A node in a station; killed when dropped.
struct Node {
    child: Child,
    lines: PathBuf,
    log: PathBuf,
}

impl Node {
    fn start(folder: &TempDir, station: &str, namespace: &str, more: &[&str]) -> Self {
        let at = |end: &str| folder.path().join(format!("{station}{end}"));
        let (lines, log) = (at(".out"), at(".log"));
        let mut command = program(station);
        command.args(["serve", "--namespace", namespace, "--timing", "local", "--data-dir"]);
        command.arg(at("")).args(more).env("RUST_LOG", "meshraft_transport=debug");
        command.stdout(fs::File::create(&lines).unwrap());
        command.stderr(fs::File::create(&log).unwrap());
        Self { child: command.spawn().unwrap(), lines, log }
    }

    fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    /// Its address on the network, once it listens.
    async fn address(&self) -> String {
        until("a node that listens", || async {
            let lines = fs::read_to_string(&self.lines).unwrap();
            let line: Value = serde_json::from_str(lines.lines().next()?).ok()?;
            let addresses = line["addrs"].as_array()?.iter().filter_map(Value::as_str);
            addresses.map(str::to_owned).find(|address| address.starts_with("/ip4/10.77."))
        })
        .await
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Asks a node again and again for [`LONG_ENOUGH`] whether it is in no cluster; says how often.
async fn free_until_enough(station: &str, namespace: &str, address: &str) -> usize {
    let (since, mut asked) = (Instant::now(), 0);
    while since.elapsed() < LONG_ENOUGH {
        let status = ask(station, namespace, &["status", "--peer", address]);
        assert_eq!(json(&status)["role"], "free", "{status:?}");
        asked += 1;
        sleep(Duration::from_millis(200)).await;
    }
    asked
}

fn ask(station: &str, namespace: &str, arguments: &[&str]) -> Output {
    program(station).args(arguments).args(["-n", namespace, "--json"]).output().unwrap()
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

#[tokio::test]
async fn nodes_and_clients_on_one_network_find_each_other() {
    let _alone = alone().await;
    let Some(mut lan) = Lan::new() else { return };
    let folder = tempfile::tempdir().unwrap();
    let namespace = "/test/lan";
    let begun = Instant::now();
    let nodes: Vec<_> =
        (0..3).map(|_| Node::start(&folder, &lan.plug(), namespace, &["--expect", "3"])).collect();
    // A stranger: it shares nothing, whoever it finds.
    let stranger = Node::start(&folder, &lan.plug(), "/test/other", &["--expect", "2"]);
    let client = lan.plug();
    let set = ask(&client, namespace, &["set", "greeting", "hello", "--timeout-ms", "20000"]);
    assert_eq!(json(&set)["ok"], true, "{set:?}\n{}", nodes[0].log());
    let founded = begun.elapsed();
    let get = ask(&client, namespace, &["get", "greeting"]);
    assert_eq!(json(&get)["value"], "hello", "{get:?}");
    let members = ask(&client, namespace, &["members"]);
    assert_eq!(json(&members)["members"].as_array().unwrap().len(), 3, "{members:?}");

    let mut clusters = Vec::new();
    for node in &nodes {
        let status = ask(&client, namespace, &["status", "--peer", &node.address().await]);
        clusters.push(json(&status)["cluster_id"].clone());
    }
    assert!(
        clusters[0].is_string() && clusters.iter().all(|id| *id == clusters[0]),
        "{clusters:?}"
    );
    println!("founded and written to after {founded:?}");

    // The stranger is let go by everyone, and nobody comes back for minutes.
    let let_go = |node: &Node| node.log().matches("peer let go").count();
    until("the stranger to be let go", || async {
        // Of two ends of a connection one is first, and the other has no peer to let go any more.
        let ends = nodes.iter().chain([&stranger]).map(let_go).sum::<usize>();
        (ends >= 3).then_some(())
    })
    .await;
    let dialled = |node: &Node| node.log().matches("peer connected").count();
    let before = dialled(&stranger);
    let status = ask(&client, "/test/other", &["status", "--timeout-ms", "2000"]);
    assert_eq!(json(&status)["role"], "free", "{status:?}");
    // A client of its own namespace came, and nobody else.
    assert!(dialled(&stranger) <= before + 1, "{}", stranger.log());
}

#[tokio::test]
async fn who_does_not_look_finds_nobody_and_is_not_found() {
    let _alone = alone().await;
    let Some(mut lan) = Lan::new() else { return };
    let folder = tempfile::tempdir().unwrap();
    let namespace = "/test/quiet";
    let founder = Node::start(&folder, &lan.plug(), namespace, &["--expect", "1"]);
    let client = lan.plug();
    let set = ask(&client, namespace, &["set", "k", "v", "--timeout-ms", "20000"]);
    assert_eq!(json(&set)["ok"], true, "{set:?}\n{}", founder.log());
    let quiet = lan.plug();
    let quiet_node = Node::start(&folder, &quiet, namespace, &["--no-mdns"]);
    let address = quiet_node.address().await;
    let asked = free_until_enough(&quiet, namespace, &address).await;
    let connected = quiet_node.log().matches("peer connected").count();
    assert_eq!(connected, asked, "somebody else came: {}", quiet_node.log());
    drop(quiet_node);
    // The same node joins as soon as it looks.
    let _looking = Node::start(&folder, &quiet, namespace, &[]);
    until("the node that looks to join", || async {
        let members = json(&ask(&client, namespace, &["members"]));
        (members["members"].as_array()?.len() == 2).then_some(())
    })
    .await;
}

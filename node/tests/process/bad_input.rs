//! Bad input ends with exit code 2 and a line that names the thing, and changes nothing on disk.

use std::{
    fs,
    io::ErrorKind,
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Command, Output},
};

use serde_json::json;

use crate::harness::{Nodes, PROGRAM, alone, contents, run};

const LISTEN: &str = "/ip4/127.0.0.1/tcp/0";

/// One wrong way to start a node.
struct Case {
    /// What is wrong, for the failure message.
    what: &'static str,
    /// Prepares the folder of the case, which holds a stopped node's data folder `data`.
    prepare: fn(&Path),
    /// Further arguments of `serve`; `DIR` stands for the folder.
    arguments: &'static [&'static str],
    /// What the message names.
    names: &'static str,
}

const NOTHING: fn(&Path) = |_| {};

const CASES: &[Case] = &[
    Case {
        what: "a data folder that is a file",
        prepare: |folder| fs::write(folder.join("file"), "x").unwrap(),
        arguments: &["--data-dir", "DIR/file"],
        names: "DIR/file",
    },
    Case {
        what: "a data folder that can't be created",
        prepare: |folder| fs::write(folder.join("file"), "x").unwrap(),
        arguments: &["--data-dir", "DIR/file/below"],
        names: "DIR/file/below",
    },
    Case {
        what: "a store of a newer format",
        prepare: newer_format,
        arguments: &["--data-dir", "DIR/data"],
        names: "DIR/data",
    },
    Case {
        what: "a corrupt identity",
        prepare: |folder| flip_a_byte(&folder.join("data/identity")),
        arguments: &["--data-dir", "DIR/data"],
        names: "identity",
    },
    Case {
        what: "an empty identity",
        prepare: |folder| fs::write(folder.join("data/identity"), "").unwrap(),
        arguments: &["--data-dir", "DIR/data"],
        names: "identity",
    },
    Case {
        what: "a key file that is too short",
        prepare: |folder| fs::write(folder.join("key"), [1; 31]).unwrap(),
        arguments: &["--data-dir", "DIR/data", "--key-file", "DIR/key"],
        names: "DIR/key",
    },
    Case {
        what: "a key file of 64 characters that are not all hex digits",
        prepare: |folder| fs::write(folder.join("key"), "0g".repeat(32)).unwrap(),
        arguments: &["--data-dir", "DIR/data", "--key-file", "DIR/key"],
        names: "DIR/key",
    },
    Case {
        what: "a key file that is not there, and a data folder that is not there",
        prepare: NOTHING,
        arguments: &["--data-dir", "DIR/new", "--key-file", "DIR/absent"],
        names: "DIR/absent",
    },
    Case {
        what: "an address to listen on that is none",
        prepare: NOTHING,
        arguments: &["--data-dir", "DIR/new", "--listen", "127.0.0.1:80"],
        names: "127.0.0.1:80",
    },
    Case {
        what: "a name to listen on",
        prepare: NOTHING,
        arguments: &["--data-dir", "DIR/new", "--listen", "/dns4/localhost/tcp/4001"],
        names: "\"/dns4/localhost/tcp/4001\" can't be used: a node listens on IP addresses",
    },
    Case {
        what: "an identity that others may read",
        prepare: |folder| {
            let identity = folder.join("data/identity");
            fs::set_permissions(identity, fs::Permissions::from_mode(0o644)).unwrap();
        },
        arguments: &["--data-dir", "DIR/data"],
        names: "DIR/data/identity has mode 0644: others than its owner may open the node's key; \
                `chmod 600 DIR/data/identity` mends that",
    },
    Case {
        what: "an identity that is a folder",
        prepare: |folder| {
            fs::remove_file(folder.join("data/identity")).unwrap();
            fs::create_dir(folder.join("data/identity")).unwrap();
        },
        arguments: &["--data-dir", "DIR/data"],
        names: "DIR/data/identity is no regular file",
    },
    Case {
        what: "several peers that can't be dialled",
        prepare: NOTHING,
        arguments: &[
            "--data-dir",
            "DIR/new",
            "--peer",
            "/ip4/10.0.0.1/udp/1/quic-v1",
            "--peer",
            "localhost:4001",
            "--peer",
            "0.0.0.0:1",
            "--listen",
            "/memory/1",
        ],
        names: "\"/memory/1\" can't be used: the protocol memory is not supported, only TCP is; \
                \"/ip4/10.0.0.1/udp/1/quic-v1\" can't be used: the protocol udp is not supported, \
                only TCP is; \"0.0.0.0:1\" can't be used: 0.0.0.0 stands for every address of a \
                machine and can't be dialled",
    },
    Case {
        what: "a peer's address that is none",
        prepare: NOTHING,
        arguments: &["--data-dir", "DIR/new", "--peer", "/ip4/1.2.3/tcp/1"],
        names: "/ip4/1.2.3/tcp/1",
    },
    Case {
        what: "an empty namespace",
        prepare: NOTHING,
        arguments: &["--data-dir", "DIR/new", "-n", ""],
        names: "namespace",
    },
    Case {
        what: "a namespace with a control character",
        prepare: NOTHING,
        arguments: &["--data-dir", "DIR/new", "-n", "a\u{7}b"],
        names: "namespace",
    },
    Case {
        what: "contradictory timing",
        prepare: NOTHING,
        arguments: &["--data-dir", "DIR/new", "--heartbeat", "100", "--election", "399"],
        names: "election",
    },
    Case {
        what: "no founder to expect",
        prepare: NOTHING,
        arguments: &["--data-dir", "DIR/new", "--expect", "0"],
        names: "--expect",
    },
    Case {
        what: "a threshold above 1",
        prepare: NOTHING,
        arguments: &["--data-dir", "DIR/new", "--threshold", "1.1"],
        names: "--threshold",
    },
    Case {
        what: "a window without a known unit",
        prepare: NOTHING,
        arguments: &["--data-dir", "DIR/new", "--window", "5sec"],
        names: "--window",
    },
    Case {
        what: "founders below nothing",
        prepare: NOTHING,
        arguments: &["--data-dir", "DIR/new", "--expect", "-1"],
        names: "a number of founders",
    },
    Case {
        what: "a size of nothing",
        prepare: NOTHING,
        arguments: &["--data-dir", "DIR/new", "--snapshot-bytes", "0MiB"],
        names: "a size is a number",
    },
    Case {
        what: "no window",
        prepare: NOTHING,
        arguments: &["--data-dir", "DIR/new", "--window", "0s"],
        names: "window",
    },
    Case {
        what: "a forced bootstrap of three",
        prepare: NOTHING,
        arguments: &["--data-dir", "DIR/new", "--force-bootstrap", "--expect", "3"],
        names: "force-bootstrap",
    },
    Case {
        what: "a forced bootstrap that never founds",
        prepare: NOTHING,
        arguments: &["--data-dir", "DIR/new", "--force-bootstrap", "--join-only"],
        names: "join-only",
    },
    Case {
        what: "founders of a node that never founds",
        prepare: NOTHING,
        arguments: &["--data-dir", "DIR/new", "--join-only", "--expect", "3"],
        names: "join-only",
    },
    Case {
        what: "fewer voters than founders",
        prepare: NOTHING,
        arguments: &["--data-dir", "DIR/new", "--voters", "2", "--expect", "3"],
        names: "voters",
    },
    Case {
        what: "no voters",
        prepare: NOTHING,
        arguments: &["--data-dir", "DIR/new", "--voters", "0"],
        names: "--voters",
    },
    Case {
        what: "an address that is not this machine's",
        prepare: NOTHING,
        arguments: &["--data-dir", "DIR/new", "--listen", "/ip4/192.0.2.1/tcp/0"],
        names: "/ip4/192.0.2.1/tcp/0",
    },
    Case {
        what: "times that contradict the preset",
        prepare: NOTHING,
        arguments: &["--data-dir", "DIR/new", "--timing", "global", "--election", "1599"],
        names: "heartbeat",
    },
    Case {
        what: "an option that does not exist",
        prepare: NOTHING,
        arguments: &["--data-dir", "DIR/new", "--frobnicate"],
        names: "--frobnicate",
    },
    Case { what: "no data folder", prepare: NOTHING, arguments: &[], names: "--data-dir" },
];

#[tokio::test]
async fn serve_refuses_bad_input_and_changes_nothing() {
    let _alone = alone().await;
    let template = stopped_node().await;
    for case in CASES {
        let folder = tempfile::tempdir().unwrap();
        copy(&template.folder.path().join("n1"), &folder.path().join("data"));
        (case.prepare)(folder.path());
        let before = contents(folder.path());
        let path = folder.path().to_str().unwrap();
        let mut arguments = vec!["serve".to_owned(), "--listen".into(), LISTEN.into()];
        arguments.extend(case.arguments.iter().map(|argument| argument.replace("DIR", path)));
        if !case.arguments.contains(&"-n") {
            arguments.extend(["-n".into(), template.namespace.clone()]);
        }
        expect_refusal(case.what, &arguments, &case.names.replace("DIR", path));
        assert_eq!(contents(folder.path()), before, "{} changed something", case.what);
    }
}

#[tokio::test]
async fn a_namespace_has_at_most_255_bytes() {
    let _alone = alone().await;
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("new").to_str().unwrap().to_owned();
    let long = "x".repeat(256);
    let arguments = ["serve", "--no-mdns", "--data-dir", &data, "-n", &long].map(str::to_owned);
    expect_refusal("a namespace of 256 bytes", &arguments, "255");
    assert_eq!(contents(folder.path()).len(), 1);
}

#[tokio::test]
async fn a_data_folder_has_one_owner() {
    let _alone = alone().await;
    let mut nodes = Nodes::new("owner");
    nodes.start(1).await;
    let data = nodes.data_dir(1);
    let identity = fs::read(data.join("identity")).unwrap();
    let data = data.to_str().unwrap();
    let arguments = ["serve", "--data-dir", data, "-n", &nodes.namespace, "--listen", LISTEN];
    expect_refusal("a data folder in use", &arguments.map(str::to_owned), data);
    assert_eq!(fs::read(nodes.data_dir(1).join("identity")).unwrap(), identity);
    assert_eq!(nodes.status(1)["role"], "free", "the owner goes on");
}

#[tokio::test]
async fn a_folder_that_may_not_be_read_is_named() {
    /// The user that owns nothing, by convention.
    const NOBODY: u32 = 65_534;
    let _alone = alone().await;
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let data = folder.path().join("data");
    fs::create_dir(&data).unwrap();
    fs::set_permissions(&data, fs::Permissions::from_mode(0o000)).unwrap();
    let path = data.to_str().unwrap();
    let mut command = Command::new(PROGRAM);
    command.args(["serve", "--data-dir", path, "-n", "/x", "--listen", LISTEN]);
    if fs::read_dir(&data).is_ok() {
        // The superuser may read everything, so somebody else has to try.
        command.uid(NOBODY).gid(NOBODY);
    }
    match command.output() {
        Ok(output) => check_refusal("an unreadable data folder", &output, path),
        // Where the executable lies, nobody else may start it.
        Err(error) => assert_eq!(error.kind(), ErrorKind::PermissionDenied),
    }
    fs::set_permissions(&data, fs::Permissions::from_mode(0o700)).unwrap();
    assert_eq!(contents(&data).len(), 1);
}

#[test]
fn clients_refuse_bad_input_before_anything_is_sent() {
    let target = ["-n", "/x", "--peer", "/ip4/127.0.0.1/tcp/1"];
    let long = "k".repeat(4097);
    let cases: &[(&[&str], &str)] = &[
        (&["get", "k", "--timeout-ms", "0"], "timeout"),
        (&["get", "k", "--timeout-ms", "-1"], "60000"),
        (&["leave", "--timeout", "0"], "--timeout"),
        (&["leave", "--timeout", "-1"], "--timeout"),
        (&["join", "--peer", "/ip4/127.0.0.1/tcp/2"], "--via"),
        (&["remove"], "PEER_ID"),
        (&["remove", "n1"], "n1"),
        (&["get", "k", "--timeout-ms", "60001"], "60000"),
        (&["get", "k", "--barrier-ms", "0"], "barrier"),
        (&["get", "k", "--barrier-ms", "-1"], "barrier"),
        (&["get", "k", "--barrier-ms", "31000"], "30000"),
        (&["get", ""], "key"),
        (&["set", &long, "v"], "4096"),
        (&["keys", "--limit", "0"], "limit"),
        (&["get"], "KEY"),
        (&["get", "k", "--via", "n1"], "n1"),
        (&["pipe", "--key-file", "/nonexistent/key"], "/nonexistent/key"),
        (&["watch", "k"], "watch"),
    ];
    for (arguments, names) in cases {
        let arguments: Vec<_> = arguments.iter().chain(&target).map(ToString::to_string).collect();
        expect_refusal("a client's bad input", &arguments, names);
    }
    let peers = [
        ("/ip4/10.0.0.1/udp/1/quic-v1", "udp is not supported"),
        ("/ip4/10.0.0.1/tcp/1/ws", "ws is not supported"),
        ("/unix/tmp", "unix is not supported"),
        ("/memory/1", "memory is not supported"),
        ("/frob/1", "\"frob\" is unknown"),
        ("/ip4/10.0.0.1", "no TCP port"),
        ("localhost", "no TCP port"),
        ("localhost:0", "port 0"),
        ("localhost:http", "\"http\""),
        ("::1:4001", "brackets"),
        ("10.0.0.256:1", "neither an IP address nor a DNS name"),
        ("http://localhost:80/", "host:port"),
        ("/ip4/0.0.0.0/tcp/1", "0.0.0.0 stands for every address"),
        ("224.0.0.251:1", "multicast"),
        ("/p2p-circuit", "relay"),
        ("/ip4/10.0.0.1/tcp/1/p2p/QmcgpsyWgH8Y8ajJz1Cu72KnS5uo2Aa2LpzU7kinSupNKC", "Ed25519"),
    ];
    for command in [&["get", "k"][..], &["status"], &["leave"], &["pipe"]] {
        let bad = peers.iter().flat_map(|(peer, _)| ["--peer", peer]);
        let good = ["-n", "/x", "--peer", "localhost:4001"];
        let arguments: Vec<_> =
            command.iter().copied().chain(good).chain(bad).map(str::to_owned).collect();
        let output = run(&arguments);
        for (peer, reason) in peers {
            let told = format!("{peer:?} can't be used: ");
            check_refusal(&format!("{command:?}"), &output, &told);
            check_refusal(&format!("{command:?} {peer}"), &output, reason);
        }
    }
    let no_namespace = ["get", "--peer", "/ip4/127.0.0.1/tcp/1", "k"].map(str::to_owned);
    expect_refusal("no namespace", &no_namespace, "--namespace");
}

#[test]
fn an_unreachable_mesh_fails_within_the_time_out() {
    let arguments = ["get", "k", "-n", "/x", "--peer", "/ip4/127.0.0.1/tcp/1"];
    let output = run(arguments.into_iter().chain(["--timeout-ms", "300", "--json"]));
    assert_eq!(output.status.code(), Some(1));
    let answer: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&answer["error"], &answer["maybe"]), (&json!("unreachable"), &json!(false)));
    let told = "no member was reached within 300 ms: /ip4/127.0.0.1/tcp/1: connection refused";
    assert_eq!(answer["message"], told);
}

fn expect_refusal(what: &str, arguments: &[String], names: &str) {
    check_refusal(&format!("{what}: {arguments:?}"), &run(arguments), names);
}

fn check_refusal(what: &str, output: &Output, names: &str) {
    let message = String::from_utf8_lossy(&output.stderr);
    let printed = String::from_utf8_lossy(&output.stdout);
    let told = format!("{what}\n{printed}{message}");
    assert_eq!(output.status.code(), Some(2), "{told}");
    assert!(message.contains(names), "{names} is not named\n{told}");
    assert!(!message.contains("panicked"), "{told}");
}

/// A node that ran once and was told to end.
async fn stopped_node() -> Nodes {
    let mut nodes = Nodes::new("stopped");
    nodes.start(1).await;
    nodes.kill(1);
    nodes
}

fn newer_format(folder: &Path) {
    let path = folder.join("data/format");
    let text = fs::read_to_string(&path).unwrap();
    let digits = text.find(|c: char| c.is_ascii_digit()).unwrap();
    fs::write(&path, format!("{}9{}", &text[..digits], &text[digits..])).unwrap();
}

fn flip_a_byte(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0xff;
    fs::write(path, bytes).unwrap();
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path: PathBuf = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &target);
        } else {
            fs::copy(&path, &target).unwrap();
        }
    }
}

#[test]
fn help_comes_without_arguments_and_begins_with_the_demo() {
    let output = Command::new(PROGRAM).env_remove("CARGO_MANIFEST_DIR").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{text}");
    let (demo, serve) = (text.find("demo").unwrap(), text.find("serve").unwrap());
    assert!(demo < serve, "{text}");
}

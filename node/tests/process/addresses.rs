//! Addresses as people write them: a cluster by names, and why nobody was reached.

use std::{
    fs,
    io::{Read, Write},
    net::TcpListener,
    os::unix::fs::PermissionsExt,
    thread,
};

use meshraft::PeerId;
use serde_json::{Value, json};

use crate::harness::{Nodes, Pipe, alone, run, until};

/// The peer id of nobody who runs.
const NOBODY: &str = "12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp";

/// What a web server says to bytes that are no request.
const WEB_ANSWER: &[u8] = b"HTTP/1.1 400 Bad Request\r\nServer: web\r\nContent-Type: text/html\r\n\
    Content-Length: 36\r\nConnection: close\r\n\r\n<html><h1>400 Bad Request</h1></html>";

/// The port in `/ip4/…/tcp/PORT/p2p/…`.
fn port(address: &str) -> &str {
    address.split('/').nth(4).unwrap()
}

fn ask(namespace: &str, peers: &[&str], arguments: &[&str]) -> Value {
    let peers = peers.iter().flat_map(|peer| ["--peer", peer]);
    let target = ["-n", namespace, "--json"].into_iter().chain(peers);
    let output = run(arguments.iter().copied().chain(target));
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

#[tokio::test]
async fn a_cluster_forms_and_is_asked_by_names() {
    let _alone = alone().await;
    let mut nodes = Nodes::new("names");
    nodes.start(1).await;
    let port = port(nodes.address(1)).to_owned();
    let forms = [format!("localhost:{port}"), format!("/dns4/localhost/tcp/{port}")];
    for (node, peer) in [2, 3].into_iter().zip(&forms) {
        let mut command = nodes.command(node);
        command.peers = vec![peer.clone()];
        nodes.start_as(node, command).await;
    }
    let set = ["set", "greeting", "hello", "--timeout-ms", "20000"];
    assert_eq!(ask(&nodes.namespace, &[&forms[0]], &set)["ok"], true);
    let named = format!("/dns/localhost/tcp/{port}/p2p/{}", nodes.peer(1));
    for peer in [&forms[0], &forms[1], &named, &format!("127.0.0.1:{port}")] {
        let found = ask(&nodes.namespace, &[peer], &["get", "greeting"]);
        assert_eq!(found["value"], "hello", "{peer}: {found}");
        let status = ask(&nodes.namespace, &[peer], &["status"]);
        assert_eq!(status["peer"], nodes.peer(1), "{peer}: {status}");
    }
    let mut pipe = Pipe::open(&nodes.namespace, &[&forms[0]], None);
    let found = pipe.ask(json!({"op":"get","key":"greeting"})).await;
    assert_eq!(found["value"], "hello", "{found}");
    let found = pipe.ask(json!({"op":"status","via":named})).await;
    assert_eq!(found["peer"], nodes.peer(1), "{found}");

    // A node that met the others by a name tells their IP addresses, and no name.
    nodes.kill(1);
    until("another leader", || async {
        let write = ask(&nodes.namespace, &[nodes.address(2)], &["set", "greeting", "again"]);
        (write["ok"] == true).then_some(())
    })
    .await;
}

#[test]
fn a_client_says_why_nobody_was_reached() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let refused = format!("127.0.0.1:{}", free.local_addr().unwrap().port());
    drop(free);
    // It answers as a web server does; nothing ends it but the end of the test process.
    let web = TcpListener::bind("127.0.0.1:0").unwrap();
    let strange = format!("localhost:{}", web.local_addr().unwrap().port());
    thread::spawn(move || {
        while let Ok((mut stream, _)) = web.accept() {
            let _ = stream.read(&mut [0; 512]);
            let _ = stream.write_all(WEB_ANSWER);
            // Kept open until the client has read it and leaves.
            let _ = stream.read_to_end(&mut Vec::new());
        }
    });
    let nowhere = "/dns4/nobody.invalid/tcp/4001";
    let cases =
        [(refused.as_str(), "refused"), (&strange, "Meshraft node"), (nowhere, "no such host")];
    for (address, reason) in cases {
        let answer = ask("/x", &[address], &["get", "k", "--timeout-ms", "1500"]);
        check_unreachable(address, &answer, &[reason]);
    }
    let all: Vec<_> = cases.iter().map(|(address, _)| *address).collect();
    let answer = ask("/x", &all, &["get", "k", "--timeout-ms", "1500"]);
    check_unreachable("all of them", &answer, &cases.map(|(_, reason)| reason));
}

#[tokio::test]
async fn a_client_says_that_another_peer_is_there() {
    let _alone = alone().await;
    let mut nodes = Nodes::new("other-peer");
    nodes.start(1).await;
    let found: PeerId = nodes.peer(1).parse().unwrap();
    let address = format!("/ip4/127.0.0.1/tcp/{}/p2p/{NOBODY}", port(nodes.address(1)));
    let answer = ask(&nodes.namespace, &[&address], &["get", "k", "--timeout-ms", "1500"]);
    check_unreachable(&address, &answer, &[&format!("expected {NOBODY}, found {found}"), &address]);
}

fn check_unreachable(what: &str, answer: &Value, reasons: &[&str]) {
    assert_eq!(answer["error"], "unreachable", "{what}: {answer}");
    assert_eq!(answer["maybe"], false, "{what}: {answer}");
    let message = answer["message"].as_str().unwrap();
    for reason in reasons {
        assert!(message.contains(reason), "{what}: {reason} is not told: {message}");
    }
}

#[tokio::test]
async fn an_identity_that_others_may_read_is_taken_only_where_that_is_allowed() {
    let _alone = alone().await;
    let mut nodes = Nodes::new("open-identity");
    nodes.start(1).await;
    let peer = nodes.peer(1).to_owned();
    nodes.kill(1);
    let identity = nodes.data_dir(1).join("identity");
    assert_eq!(fs::metadata(&identity).unwrap().permissions().mode() & 0o777, 0o600);
    fs::set_permissions(&identity, fs::Permissions::from_mode(0o640)).unwrap();
    let data = nodes.data_dir(1);
    let output = run([
        "serve",
        "--listen",
        "/ip4/127.0.0.1/tcp/0",
        "-n",
        &nodes.namespace,
        "--data-dir",
        data.to_str().unwrap(),
    ]);
    let message = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{message}");
    let mend = format!("chmod 600 {}", identity.display());
    assert!(message.contains("0640") && message.contains(&mend), "{message}");
    nodes.start_with(1, &["--allow-open-identity".into()]).await;
    assert_eq!(nodes.peer(1), peer, "it is the same node");
    nodes.kill(1);
    fs::set_permissions(&identity, fs::Permissions::from_mode(0o600)).unwrap();
    nodes.start(1).await;
    assert_eq!(nodes.peer(1), peer);
}

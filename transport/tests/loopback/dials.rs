//! Names are looked up anew at each dial, and a dial that fails says why.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex},
    time::Duration,
};

use meshraft_transport::{
    AddressSource, DialFailure, Event, NameServers, PeerAddress, PeerId, Unreached,
    identity::{Identity, peer_id},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, UdpSocket},
    task::AbortHandle,
};

use crate::net::{Node, within};

const TYPE_A: u16 = 1;
const TYPE_TXT: u16 = 16;

/// What a web server says to bytes that are no request.
const WEB_ANSWER: &[u8] = b"HTTP/1.1 400 Bad Request\r\nServer: web\r\nContent-Type: text/html\r\n\
    Content-Length: 36\r\nConnection: close\r\n\r\n<html><h1>400 Bad Request</h1></html>";

/// What a name server answers; anything else does not exist.
type Records = Arc<Mutex<BTreeMap<(String, u16), Vec<Vec<u8>>>>>;

/// A name server on loopback, as small as the questions of these tests allow.
struct NameServer {
    records: Records,
    asked: Arc<Mutex<Vec<String>>>,
    address: SocketAddr,
    task: AbortHandle,
}

impl NameServer {
    async fn start() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let (records, asked) = (Records::default(), Arc::<Mutex<Vec<String>>>::default());
        let (known, seen) = (Arc::clone(&records), Arc::clone(&asked));
        let task = tokio::spawn(async move {
            let mut question = [0; 1_500];
            while let Ok((length, from)) = socket.recv_from(&mut question).await {
                let reply = answer(&question[..length], &known, &seen);
                socket.send_to(&reply, from).await.unwrap();
            }
        });
        Self { records, asked, address, task: task.abort_handle() }
    }

    fn a(&self, name: &str, ips: &[[u8; 4]]) {
        let rows = ips.iter().map(|ip| ip.to_vec()).collect();
        self.records.lock().unwrap().insert((name.to_owned(), TYPE_A), rows);
    }

    fn records(&self, name: &str, addresses: &[String]) {
        let row = |address: &String| {
            let text = format!("dnsaddr={address}");
            [&[text.len() as u8], text.as_bytes()].concat()
        };
        let rows = addresses.iter().map(row).collect();
        self.records.lock().unwrap().insert((format!("_dnsaddr.{name}"), TYPE_TXT), rows);
    }

    /// A node that asks this server alone.
    async fn node(&self) -> Node {
        let servers = NameServers::These(vec![self.address]);
        Node::with(Identity::ephemeral().unwrap(), |config| config.name_servers = servers).await
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The answer to one question: the header, the question again, and a record for each row.
fn answer(question: &[u8], records: &Records, asked: &Mutex<Vec<String>>) -> Vec<u8> {
    let (mut labels, mut at) = (Vec::new(), 12);
    while question[at] != 0 {
        let end = at + 1 + usize::from(question[at]);
        labels.push(String::from_utf8(question[at + 1..end].to_vec()).unwrap());
        at = end;
    }
    let name = labels.join(".").to_lowercase();
    let kind = u16::from_be_bytes([question[at + 1], question[at + 2]]);
    asked.lock().unwrap().push(name.clone());
    let records = records.lock().unwrap();
    let rows = records.get(&(name.clone(), kind)).cloned().unwrap_or_default();
    let exists = records.keys().any(|(known, _)| *known == name);
    let code = if exists { 0 } else { 3 };
    let mut reply = question[..2].to_vec();
    reply.extend([0x81, 0x80 | code, 0, 1, 0, rows.len() as u8, 0, 0, 0, 0]);
    reply.extend(&question[12..at + 5]);
    for row in rows {
        reply.extend([0xc0, 12]);
        reply.extend(kind.to_be_bytes());
        // Class IN, and a time to live of an hour: nothing may be kept that long.
        reply.extend([0, 1, 0, 0, 14, 16]);
        reply.extend((row.len() as u16).to_be_bytes());
        reply.extend(row);
    }
    reply
}

fn port(node: &Node) -> u16 {
    let text = node.address.to_string();
    text.split('/').nth(4).unwrap().parse().unwrap()
}

fn dial(node: &Node, address: &str) {
    let address = address.parse::<PeerAddress>().unwrap();
    node.transport.add_address(None, address, AddressSource::Configured);
}

async fn connected(node: &mut Node) -> (meshraft_consensus::NodeId, String) {
    node.until("a connection", |event| match event {
        Event::Connected { peer, address, .. } => Some((peer, address.to_string())),
        _ => None,
    })
    .await
}

/// Waits until a dial has failed for a reason that `pick` takes.
async fn until_failed(node: &Node, what: &str, pick: impl Fn(&Unreached) -> bool) -> Unreached {
    within(what, async {
        loop {
            if let Some(found) = node.transport.unreached().into_iter().find(&pick) {
                break found;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
}

fn peer(node: &Node) -> PeerId {
    peer_id(node.id())
}

#[tokio::test(flavor = "multi_thread")]
async fn names_of_this_machine_are_dialled() {
    for form in ["localhost:PORT", "/dns4/localhost/tcp/PORT", "/dns/localhost/tcp/PORT"] {
        let (mut one, two) = (Node::start().await, Node::start().await);
        dial(&one, &form.replace("PORT", &port(&two).to_string()));
        let (peer, address) = connected(&mut one).await;
        assert_eq!(peer, two.id(), "{form}");
        // Peers are told where the other one is, and not by which name.
        assert_eq!(address, format!("/ip4/127.0.0.1/tcp/{}", port(&two)), "{form}");
        assert_eq!(one.transport.unreached(), [], "{form}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_is_looked_up_anew_at_each_dial() {
    let server = NameServer::start().await;
    let (mut one, two) = (server.node().await, Node::start().await);
    let address = format!("/dns4/moves.example/tcp/{}", port(&two));
    dial(&one, &address);
    let nowhere = DialFailure::NoSuchHost { name: "moves.example".into() };
    let failed = until_failed(&one, "a name that is not there", |one| one.why == nowhere).await;
    assert_eq!(failed.address.to_string(), address);
    // Nobody listens at this address of the same machine.
    server.a("moves.example", &[[127, 0, 0, 99]]);
    until_failed(&one, "a refused connection", |one| one.why == DialFailure::Refused).await;
    server.a("moves.example", &[[127, 0, 0, 1]]);
    assert_eq!(connected(&mut one).await.0, two.id());
    assert_eq!(one.transport.unreached(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_addresses_of_a_name_and_its_own_do_not_keep_a_node_from_the_living_one() {
    let server = NameServer::start().await;
    let mut one = server.node().await;
    let identity = Identity::ephemeral().unwrap();
    let listen = format!("/ip4/127.0.0.2/tcp/{}", port(&one));
    let two = Node::with(identity, |config| config.listen = vec![listen.parse().unwrap()]).await;
    // One name for all nodes: the dead one, this node itself, and the other one.
    server.a("all.example", &[[127, 0, 0, 99], [127, 0, 0, 1], [127, 0, 0, 2]]);
    dial(&one, &format!("all.example:{}", port(&one)));
    assert_eq!(connected(&mut one).await.0, two.id());
}

#[tokio::test(flavor = "multi_thread")]
async fn records_lead_to_the_peer_that_they_name() {
    let server = NameServer::start().await;
    let (mut one, two, three) = (server.node().await, Node::start().await, Node::start().await);
    // The first record names another peer than the one that is there.
    let wrong = format!("/ip4/127.0.0.1/tcp/{}/p2p/{}", port(&three), peer(&two));
    let nested = format!("/dnsaddr/below.example/p2p/{}", peer(&two));
    server.records("mesh.example", &["/ip4/127.0.0.1/udp/1/quic-v1".into(), wrong, nested]);
    let right = format!("/ip4/127.0.0.1/tcp/{}/p2p/{}", port(&two), peer(&two));
    server.records("below.example", &[three.address.to_string(), right]);
    dial(&one, "/dnsaddr/mesh.example");
    assert_eq!(connected(&mut one).await.0, two.id());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_names_another_peer_than_is_there_is_told() {
    let server = NameServer::start().await;
    let (one, two) = (server.node().await, Node::start().await);
    let expected = PeerId::from(Identity::ephemeral().unwrap().keypair().public());
    let record = format!("/ip4/127.0.0.1/tcp/{}/p2p/{expected}", port(&two));
    server.records("wrong.example", &[record]);
    dial(&one, "/dnsaddr/wrong.example");
    let why = DialFailure::WrongPeer { expected, found: peer(&two) };
    until_failed(&one, "the wrong peer", |one| one.why == why).await;
    assert!(one.transport.peers().is_empty(), "nobody is connected");
}

#[tokio::test(flavor = "multi_thread")]
async fn records_that_lead_in_circles_end() {
    let server = NameServer::start().await;
    let one = server.node().await;
    let many: Vec<_> = (0..20).map(|number| format!("/dnsaddr/n{number}.example")).collect();
    server.records("circle.example", &many);
    (0..20).for_each(|number| server.records(&format!("n{number}.example"), &many));
    dial(&one, "/dnsaddr/circle.example");
    let none = DialFailure::NoAddress { name: "circle.example".into() };
    until_failed(&one, "a name without addresses", |one| one.why == none).await;
    let asked = server.asked.lock().unwrap().clone();
    let first = asked.iter().skip(1).position(|name| name == "_dnsaddr.circle.example");
    let lookups = first.map_or(asked.len(), |second| second + 1);
    assert_eq!(lookups, 16, "{asked:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn records_are_followed_three_deep() {
    let server = NameServer::start().await;
    let (mut one, two) = (server.node().await, Node::start().await);
    server.records("a.example", &["/dnsaddr/b.example".into()]);
    server.records("b.example", &["/dnsaddr/c.example".into()]);
    server.records("c.example", &["/dnsaddr/d.example".into()]);
    server.records("d.example", &[two.address.to_string()]);
    dial(&one, "/dnsaddr/a.example");
    let none = DialFailure::NoAddress { name: "a.example".into() };
    until_failed(&one, "a chain that is too long", |one| one.why == none).await;
    dial(&one, "/dnsaddr/b.example");
    assert_eq!(connected(&mut one).await.0, two.id());
}

#[tokio::test(flavor = "multi_thread")]
async fn each_failed_dial_says_why() {
    let one = Node::start().await;
    let two = Node::start().await;

    // Nobody listens on a port that was just let go of.
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let refused = format!("/ip4/127.0.0.1/tcp/{}", free.local_addr().unwrap().port());
    drop(free);
    dial(&one, &refused);
    let at = |address: &str, why| Unreached { address: address.parse().unwrap(), why };
    let expected = at(&refused, DialFailure::Refused);
    until_failed(&one, "a refused connection", |one| *one == expected).await;

    let web = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let strange = format!("/ip4/127.0.0.1/tcp/{}", web.local_addr().unwrap().port());
    let serving = tokio::spawn(async move {
        while let Ok((mut stream, _)) = web.accept().await {
            let _ = stream.read(&mut [0; 512]).await;
            let _ = stream.write_all(WEB_ANSWER).await;
            // Kept open until the client has read it and leaves.
            let _ = stream.read_to_end(&mut Vec::new()).await;
        }
    });
    dial(&one, &strange);
    let expected = at(&strange, DialFailure::NotANode);
    until_failed(&one, "a web server", |one| *one == expected).await;
    serving.abort();

    let other = PeerId::from(Identity::ephemeral().unwrap().keypair().public());
    let wrong = format!("/ip4/127.0.0.1/tcp/{}/p2p/{other}", port(&two));
    dial(&one, &wrong);
    let expected = at(&wrong, DialFailure::WrongPeer { expected: other, found: peer(&two) });
    until_failed(&one, "the wrong peer", |one| *one == expected).await;

    let door = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let closed = format!("/ip4/127.0.0.1/tcp/{}", door.local_addr().unwrap().port());
    let closing = tokio::spawn(async move { while door.accept().await.is_ok() {} });
    dial(&one, &closed);
    // Where the end falls into a handshake, it is no answer of a node.
    let ended = |one: &Unreached| matches!(one.why, DialFailure::HungUp | DialFailure::NotANode);
    let at_door = |one: &Unreached| one.address.to_string() == closed && ended(one);
    until_failed(&one, "a host that hangs up", at_door).await;
    closing.abort();

    dial(&one, "/dns4/nobody.invalid/tcp/1");
    let expected =
        at("/dns4/nobody.invalid/tcp/1", DialFailure::NoSuchHost { name: "nobody.invalid".into() });
    until_failed(&one, "a name that does not exist", |one| *one == expected).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_says_nothing_is_told_as_such() {
    let one = Node::start().await;
    let mute = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = format!("/ip4/127.0.0.1/tcp/{}", mute.local_addr().unwrap().port());
    dial(&one, &address);
    let silent = |one: &Unreached| matches!(one.why, DialFailure::Silent { .. });
    let failed = until_failed(&one, "a host that says nothing", silent).await;
    assert_eq!(failed.address.to_string(), address);
    assert!(failed.why.is_timeout());
}

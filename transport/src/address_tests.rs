//! Addresses that are taken, and those that are refused, with the reason for each.

use proptest::prelude::*;

use super::{AddressProblem as Why, *};

const NODE: &str = "12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp";
/// The peer id of a public example with an RSA key.
const RSA: &str = "QmcgpsyWgH8Y8ajJz1Cu72KnS5uo2Aa2LpzU7kinSupNKC";

fn problem(text: &str) -> Why {
    match text.parse::<PeerAddress>() {
        Ok(address) => panic!("{text} was taken as {address}"),
        Err(error) => {
            assert_eq!(error.address, text);
            assert!(error.to_string().contains(text), "{error}");
            error.why
        }
    }
}

fn bad_name(name: &str) -> Why {
    Why::BadName { name: name.to_owned() }
}

#[test]
fn what_can_be_dialled_is_taken() {
    for (text, meant) in [
        ("/ip4/10.0.0.1/tcp/4001", "/ip4/10.0.0.1/tcp/4001"),
        ("10.0.0.1:4001", "/ip4/10.0.0.1/tcp/4001"),
        ("/ip6/::1/tcp/4001", "/ip6/::1/tcp/4001"),
        ("[::1]:4001", "/ip6/::1/tcp/4001"),
        ("/dns/node-a.example/tcp/4001", "/dns/node-a.example/tcp/4001"),
        ("/dns4/localhost/tcp/1", "/dns4/localhost/tcp/1"),
        ("/dns6/localhost/tcp/65535", "/dns6/localhost/tcp/65535"),
        ("localhost:4001", "/dns/localhost/tcp/4001"),
        ("a_b.example.org.:80", "/dns/a_b.example.org./tcp/80"),
        ("/dnsaddr/cluster.example", "/dnsaddr/cluster.example"),
    ] {
        let address: PeerAddress = text.parse().unwrap();
        assert_eq!(address.to_string(), meant);
        assert_eq!(address.node(), None);
        let named: PeerAddress = format!("{meant}/p2p/{NODE}").parse().unwrap();
        assert_eq!(crate::identity::peer_id(named.node().unwrap()).to_string(), NODE);
        assert_eq!(PeerAddress::try_from(named.multiaddr().clone()), Ok(named));
    }
}

#[test]
fn what_can_t_be_dialled_is_refused_with_the_reason() {
    let unsupported = |protocol: &str| Why::Unsupported { protocol: protocol.to_owned() };
    let name = bad_name;
    let port = |port: &str| Why::BadPort { port: port.to_owned() };
    let ip = |ip: &str| ip.parse::<IpAddr>().unwrap();
    for (text, why) in [
        ("", Why::Empty),
        ("/", Why::BadPart),
        ("localhost", Why::NoPort),
        ("10.0.0.1", Why::NoPort),
        ("::1", Why::NoBrackets),
        ("::1:4001", Why::NoBrackets),
        ("[::1]", Why::NoPort),
        ("[::1", Why::Unreadable),
        ("[fe80::1%eth0]:1", name("fe80::1%eth0")),
        ("[10.0.0.1]:1", name("10.0.0.1")),
        (":4001", Why::NoHost),
        ("localhost:", port("")),
        ("localhost:+1", port("+1")),
        ("localhost:65536", port("65536")),
        ("localhost:0", Why::PortZero),
        ("http://localhost:80", Why::Unreadable),
        ("not an address", Why::Unreadable),
        ("256.1.1.1:80", name("256.1.1.1")),
        ("1.2.3:80", name("1.2.3")),
        ("a..b:80", name("a..b")),
        ("b\u{fc}cher.example:80", name("b\u{fc}cher.example")),
        ("/dns4/256.0.0.1/tcp/1", name("256.0.0.1")),
        ("/dnsaddr/a b", name("a b")),
        ("/ip4/1.2.3/tcp/1", Why::BadPart),
        ("/ip4/1.2.3.4/tcp/65536", Why::BadPart),
        ("/ip4/1.2.3.4/tcp", Why::BadPart),
        ("/ip9/1.2.3.4/tcp/1", Why::UnknownProtocol { name: "ip9".into() }),
        ("/ip4/1.2.3.4", Why::NoPort),
        ("/dns4/localhost", Why::NoPort),
        ("/tcp/4001", Why::NoHost),
        ("/ip4/1.2.3.4/tcp/0", Why::PortZero),
        ("/ip4/1.2.3.4/udp/1", unsupported("udp")),
        ("/ip4/1.2.3.4/udp/1/quic-v1", unsupported("udp")),
        ("/dns4/localhost/udp/1/quic-v1", unsupported("udp")),
        ("/ip4/1.2.3.4/tcp/1/ws", unsupported("ws")),
        ("/dns4/localhost/tcp/1/tls/ws", unsupported("tls")),
        ("/dnsaddr/localhost/tcp/1", unsupported("tcp")),
        ("/unix/tmp", unsupported("unix")),
        ("/memory/1", unsupported("memory")),
        ("/ip6zone/eth0/ip6/fe80::1/tcp/1", unsupported("ip6zone")),
        ("/ip6/fe80::1/tcp/1", Why::LinkLocal { ip: "fe80::1".parse().unwrap() }),
        ("/ip4/0.0.0.0/tcp/1", Why::Unspecified { ip: ip("0.0.0.0") }),
        ("[::]:1", Why::Unspecified { ip: ip("::") }),
        ("/ip6/::ffff:0.0.0.0/tcp/1", Why::Unspecified { ip: ip("::ffff:0.0.0.0") }),
        ("224.0.0.251:1", Why::NotOneHost { ip: ip("224.0.0.251") }),
        ("/ip6/ff02::fb/tcp/1", Why::NotOneHost { ip: ip("ff02::fb") }),
        ("/ip4/255.255.255.255/tcp/1", Why::NotOneHost { ip: ip("255.255.255.255") }),
    ] {
        assert_eq!(problem(text), why, "{text}");
    }
}

#[test]
fn addresses_of_bounded_length_end_where_they_are_whole() {
    let surplus = |protocol: &str| Why::Surplus { protocol: protocol.to_owned() };
    let long = format!("{}:1", "a".repeat(ADDRESS_BYTES_MAX));
    let label = "a".repeat(64);
    assert_eq!(problem(&format!("{label}:1")), bad_name(&label));
    let error = long.parse::<PeerAddress>().unwrap_err();
    assert_eq!(error.why, Why::TooLong { bytes: ADDRESS_BYTES_MAX + 2 });
    assert_eq!(error.address.len(), ADDRESS_BYTES_MAX);
    let relay = format!("/ip4/1.2.3.4/tcp/1/p2p/{NODE}/p2p-circuit");
    assert_eq!(problem(&relay), Why::Relay);
    assert_eq!(problem(&format!("/p2p/{NODE}")), Why::NoHost);
    assert_eq!(problem(&format!("/ip4/1.2.3.4/p2p/{NODE}")), Why::NoPort);
    let twice = format!("/ip4/1.2.3.4/tcp/1/p2p/{NODE}/p2p/{NODE}");
    assert_eq!(problem(&twice), surplus("p2p"));
    let rsa = format!("/ip4/1.2.3.4/tcp/1/p2p/{RSA}");
    assert_eq!(problem(&rsa), Why::NotEd25519 { peer: RSA.parse().unwrap() });
}

#[test]
fn all_that_is_wrong_is_told() {
    let given = ["/ip4/1.2.3.4/udp/1", "localhost:1", "a..b:1"];
    let errors = PeerAddress::parse_all(given).unwrap_err();
    let named: Vec<_> = errors.iter().map(|error| error.address.as_str()).collect();
    assert_eq!(named, ["/ip4/1.2.3.4/udp/1", "a..b:1"]);
    assert!(errors.iter().all(|error| errors.to_string().contains(&error.to_string())));
    assert_eq!(PeerAddress::parse_all(["localhost:1", "[::1]:1"]).unwrap().len(), 2);
}

#[test]
fn a_node_listens_on_ip_addresses() {
    for text in ["/ip4/0.0.0.0/tcp/0", "/ip6/::/tcp/4001", "/ip4/127.0.0.1/tcp/1"] {
        assert_eq!(parse_listen(text).unwrap().to_string(), text);
    }
    for (text, why) in [
        ("127.0.0.1:80", Why::NotAMultiaddr),
        ("localhost:80", Why::NotAMultiaddr),
        ("/dns4/localhost/tcp/1", Why::NameToListenOn),
        ("/dnsaddr/localhost", Why::NameToListenOn),
        ("/ip4/224.0.0.1/tcp/1", Why::NotOneHost { ip: "224.0.0.1".parse().unwrap() }),
        ("/ip4/127.0.0.1", Why::NoPort),
        ("/ip4/127.0.0.1/udp/1/quic-v1", Why::Unsupported { protocol: "udp".into() }),
    ] {
        assert_eq!(parse_listen(text), Err(AddressError { address: text.into(), why }));
    }
}

/// Parts that addresses are made of, in an order that makes most of them wrong.
fn parts() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        Just("/ip4/10.0.0.1".to_owned()),
        Just("/ip6/::1".to_owned()),
        Just("/dns4/localhost".to_owned()),
        Just("/dnsaddr/localhost".to_owned()),
        Just("/udp/1".to_owned()),
        Just("/quic-v1".to_owned()),
        Just("/p2p-circuit".to_owned()),
        Just(format!("/p2p/{NODE}")),
        Just(format!("/p2p/{RSA}")),
        any::<u16>().prop_map(|port| format!("/tcp/{port}")),
        any::<u16>().prop_map(|port| format!(":{port}")),
        "[a-z0-9.:\\[\\]%/-]{0,12}",
    ];
    prop::collection::vec(part, 0..6).prop_map(|parts| parts.concat())
}

proptest! {
    #[test]
    fn every_text_is_an_address_or_refused(text in prop_oneof![parts(), ".*", ".{0,600}"]) {
        match text.parse::<PeerAddress>() {
            Ok(address) => {
                // What is taken is whole: printed and read again it is the same.
                prop_assert_eq!(&address.to_string().parse::<PeerAddress>().unwrap(), &address);
                let named = named_peer(address.multiaddr()).is_some();
                prop_assert_eq!(named, address.node().is_some());
                let hosts = address.multiaddr().iter().count();
                prop_assert!((1..=3).contains(&hosts));
            }
            Err(error) => prop_assert!(text.starts_with(&error.address)),
        }
        let _ = parse_listen(&text);
    }
}

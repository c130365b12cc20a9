//! What a node refuses to start with, by name, and without a change on disk.

use std::{collections::BTreeMap, fs, path::Path, time::Duration};

use meshraft::{
    AddressError, AddressProblem, FoundersError, KeyFileError, Node, OpenError, StartError, Timing,
};

use crate::support::{PATIENCE, local};

/// Every file below a folder with its contents.
fn contents(folder: &Path) -> BTreeMap<std::path::PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(contents(&path));
        } else {
            found.insert(path.clone(), fs::read(&path).unwrap());
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_a_folder_is_named_and_nothing_in_it_changes() {
    let parent = tempfile::tempdir().unwrap();
    let file = parent.path().join("file");
    fs::write(&file, "not a folder").unwrap();
    let inside = file.join("folder");
    for path in [&file, &inside] {
        let error = local(path.clone()).start().await.unwrap_err();
        assert!(matches!(error, StartError::DataDir(_)), "{error:?}");
        assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
    }
    assert_eq!(fs::read(&file).unwrap(), b"not a folder");

    let folder = parent.path().join("node");
    local(folder.clone()).start().await.unwrap().shutdown().await;
    let identity = fs::read(folder.join("identity")).unwrap();
    let damages: [(&str, &[u8]); 3] = [
        ("identity", &identity[..identity.len() - 1]),
        ("identity", b"garbage"),
        ("format", b"meshraft 999\n"),
    ];
    for (name, bytes) in damages {
        let whole = fs::read(folder.join(name)).unwrap();
        fs::write(folder.join(name), bytes).unwrap();
        let before = contents(&folder);
        let error = local(folder.clone()).start().await.unwrap_err();
        assert!(error.to_string().contains(folder.to_str().unwrap()), "{error}");
        assert_eq!(contents(&folder), before, "{name}: {error}");
        fs::write(folder.join(name), whole).unwrap();
    }
    local(folder).start().await.unwrap().shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_is_one_node_s_at_a_time_and_free_after_its_shutdown() {
    let folder = tempfile::tempdir().unwrap();
    let node = local(folder.path().into()).start().await.unwrap();
    let id = node.id();
    let error = local(folder.path().into()).start().await.unwrap_err();
    assert!(error.to_string().contains("in use"), "{error}");
    node.shutdown().await;
    let again = local(folder.path().into()).start().await.unwrap();
    assert_eq!(again.id(), id, "the identity is kept");

    // Without a handle the node ends by itself, a moment later.
    let namespace = again.namespace("/n").open().await.unwrap();
    drop(again);
    namespace.status().await.expect("a namespace's handle keeps its node");
    drop(namespace);
    let freed = async {
        while let Err(error) = local(folder.path().into()).start().await {
            assert!(error.to_string().contains("in use"), "{error}");
        }
    };
    tokio::time::timeout(PATIENCE, freed).await.expect("the folder is free again");
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_are_checked_before_the_disk_is_touched() {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("node");
    let short_key = parent.path().join("key");
    fs::write(&short_key, [1; 31]).unwrap();
    let builder = || Node::builder().mdns(false).data_dir(&folder).listen("/ip4/127.0.0.1/tcp/0");

    let error = Node::builder().mdns(false).start().await.unwrap_err();
    assert!(matches!(error, StartError::NoDataDir));
    let refused = |error: StartError| match error {
        StartError::Addresses(errors) => errors.iter().cloned().collect::<Vec<_>>(),
        other => panic!("{other:?}"),
    };
    let unusable = |address: &str, why| AddressError { address: address.to_owned(), why };
    let error = builder().listen("localhost:1").start().await.unwrap_err();
    assert_eq!(refused(error), [unusable("localhost:1", AddressProblem::NotAMultiaddr)]);
    let error = builder().peers(["/ip4/1.2.3"]).start().await.unwrap_err();
    assert_eq!(refused(error), [unusable("/ip4/1.2.3", AddressProblem::BadPart)]);
    let udp = AddressProblem::Unsupported { protocol: "udp".to_owned() };
    for (address, listening, dialling) in [
        ("/ip4/127.0.0.1/udp/1", Some(udp.clone()), Some(udp)),
        ("/dns4/example.org/tcp/1", Some(AddressProblem::NameToListenOn), None),
        ("/ip4/127.0.0.1", Some(AddressProblem::NoPort), Some(AddressProblem::NoPort)),
        ("/ip4/127.0.0.1/tcp/0", None, Some(AddressProblem::PortZero)),
    ] {
        if let Some(why) = listening {
            let error = builder().listen(address).start().await.unwrap_err();
            assert!(error.to_string().contains(address), "{error}");
            assert_eq!(refused(error), [unusable(address, why)]);
        }
        if let Some(why) = dialling {
            let error = builder().peers([address]).start().await.unwrap_err();
            assert_eq!(refused(error), [unusable(address, why)]);
        }
    }
    // The peer id of a public example with an RSA key.
    let rsa = "/ip4/127.0.0.1/tcp/1/p2p/QmcgpsyWgH8Y8ajJz1Cu72KnS5uo2Aa2LpzU7kinSupNKC";
    let both = builder().listen("127.0.0.1:1").peers([rsa, "localhost:1", ""]);
    let errors = refused(both.start().await.unwrap_err());
    let named: Vec<_> = errors.iter().map(|error| error.address.as_str()).collect();
    assert_eq!(named, ["127.0.0.1:1", rsa, ""], "all of them are named");
    assert!(matches!(errors[1].why, AddressProblem::NotEd25519 { .. }), "{errors:?}");
    let contradiction = builder().timing(Timing::Lan).heartbeat(Duration::from_millis(126));
    assert!(matches!(contradiction.start().await, Err(StartError::Timing(_))));
    let error = builder().key_file(&short_key).start().await.unwrap_err();
    assert!(matches!(error, StartError::Key(KeyFileError::Contents { .. })), "{error:?}");
    let error = builder().key_file(parent.path().join("none")).start().await.unwrap_err();
    assert!(matches!(error, StartError::Key(KeyFileError::Read { .. })), "{error:?}");
    assert!(!folder.exists(), "a refused start creates nothing");

    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let busy = Node::builder().mdns(false).data_dir(&folder);
    let busy = busy.listen(format!("/ip4/127.0.0.1/tcp/{port}"));
    let error = busy.start().await.unwrap_err();
    assert!(matches!(error, StartError::Listen { .. }), "{error:?}");
    assert!(error.to_string().contains(&port.to_string()), "{error}");
    assert!(!folder.exists(), "a refused start creates nothing");
    local(folder).start().await.expect("the folder is free again").shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_a_namespace_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let node = local(folder.path().into()).start().await.unwrap();
    for name in ["".to_owned(), "a\nb".to_owned(), "x".repeat(256)] {
        let error = node.namespace(name.clone()).open().await.unwrap_err();
        assert!(matches!(&error, OpenError::Name { name: named, .. } if *named == name));
    }
    let error = node.namespace("/n").expect(0).open().await.unwrap_err();
    let nobody = FoundersError::ExpectsNobody;
    assert!(matches!(error, OpenError::Founders { source, .. } if source == nobody));
    let slow = node.namespace("/n").heartbeat(Duration::from_secs(1));
    assert!(matches!(slow.open().await, Err(OpenError::Timing { .. })));
    let error = node.namespace("/n").key_file("/nowhere/key").open().await.unwrap_err();
    assert!(error.to_string().contains("/nowhere/key"), "{error}");

    let open = node.namespace("/n").open().await.unwrap();
    let error = node.namespace("/n").open().await.unwrap_err();
    assert!(matches!(error, OpenError::AlreadyOpen { .. }));
    open.clone().close().await;
    let error = open.set("k", "v").await.unwrap_err();
    assert!(!error.maybe_applied(), "{error}");

    let ended = node.clone();
    assert_eq!(node.shutdown().await, meshraft::StopReason::Shutdown);
    let error = ended.namespace("/m").open().await.unwrap_err();
    assert!(matches!(error, OpenError::Stopped(meshraft::StopReason::Shutdown)));
    assert!(open.status().await.is_err());
    assert!(!open.set("k", "v").await.unwrap_err().maybe_applied());
}

#[tokio::test(flavor = "multi_thread")]
async fn times_out_of_bounds_are_refused_before_anything_is_sent() {
    let folder = tempfile::tempdir().unwrap();
    let node = local(folder.path().into()).start().await.unwrap();
    let jobs = node.namespace("/n").open().await.unwrap();
    for timeout in [Duration::ZERO, Duration::from_millis(60_001)] {
        let error = jobs.set("k", "v").timeout(timeout).await.unwrap_err();
        assert!(error.to_string().contains("time-out"), "{error}");
        assert!(!error.maybe_applied());
        assert!(jobs.get("k").timeout(timeout).await.is_err());
    }
    for timeout in [Duration::ZERO, Duration::from_millis(30_001)] {
        assert!(jobs.barrier(timeout).await.is_err());
    }
    let waited = Duration::from_millis(50);
    let error = jobs.ready(waited).await.unwrap_err();
    assert!(matches!(error, meshraft::ReadyError::Timeout { .. }), "{error:?}");
}

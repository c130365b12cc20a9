//! What lines of `pipe` are taken for.

use super::*;

const PEER: &str = "12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp";

fn ok(line: &str) -> Request {
    Line::parse(line.as_bytes()).request.unwrap()
}

fn refused(line: &str) -> (&'static str, String) {
    let error = Line::parse(line.as_bytes()).request.unwrap_err();
    (error.code(), error.to_string())
}

#[test]
fn a_set_carries_text_or_base64() {
    let request = ok(r#"{"id":1,"op":"set","key":"k","value":"v"}"#);
    assert_eq!(request.timeout, Duration::from_millis(5_000));
    assert_eq!(request.operation, Operation::Set { key: "k".into(), value: "v".into() });
    let request = ok(r#"{"id":"a","op":"set","key_b64":"/w==","value_b64":"","timeout_ms":60000}"#);
    let key = Bytes::from_static(&[0xff]);
    assert_eq!(request.operation, Operation::Set { key, value: Bytes::new() });
    assert_eq!(request.timeout, Duration::from_secs(60));
}

#[test]
fn a_get_is_linearizable_unless_it_says_stale() {
    let level = |line: &str| match ok(line).operation {
        Operation::Get { level, .. } => level,
        other => panic!("{other:?}"),
    };
    assert_eq!(level(r#"{"id":1,"op":"get","key":"k"}"#), Level::Linearizable);
    assert_eq!(
        level(r#"{"id":1,"op":"get","key":"k","read":"linearizable"}"#),
        Level::Linearizable
    );
    assert_eq!(level(r#"{"id":1,"op":"get","key":"k","read":"stale"}"#), Level::Stale);
    assert_eq!(level(r#"{"id":1,"op":"get","key":"k","read":"session"}"#), Level::Session);
    for local in ["stale", "session"] {
        let line = format!(r#"{{"id":1,"op":"get","key":"k","read":"{local}","barrier_ms":5}}"#);
        assert_eq!(refused(&line).0, "bad_request", "{local}");
    }
    let barrier = ok(r#"{"id":1,"op":"get","key":"k","barrier_ms":30000}"#);
    assert_eq!(barrier.timeout, Duration::from_secs(30));
}

#[test]
fn times_out_of_bounds_are_bad_timeouts() {
    for millis in ["0", "-1", "30001", "31000", "1.5", "1e30", "18446744073709551616"] {
        let line = format!(r#"{{"id":1,"op":"get","key":"k","barrier_ms":{millis}}}"#);
        assert_eq!(refused(&line).0, "bad_timeout", "{millis}");
    }
    for millis in ["0", "-1", "60001"] {
        let line = format!(r#"{{"id":1,"op":"set","key":"k","value":"","timeout_ms":{millis}}}"#);
        assert_eq!(refused(&line).0, "bad_timeout", "{millis}");
    }
    let line = r#"{"id":1,"op":"get","key":"k","barrier_ms":"5"}"#;
    assert_eq!(refused(line), ("bad_request", "`barrier_ms` must be a number".into()));
    assert_eq!(refused(r#"{"id":1,"op":"barrier","timeout_ms":30001}"#).0, "bad_timeout");
    assert_eq!(refused(r#"{"id":1,"op":"barrier","barrier_ms":30001}"#).0, "bad_timeout");
    assert_eq!(
        ok(r#"{"id":1,"op":"barrier","timeout_ms":30000}"#).timeout,
        Duration::from_secs(30)
    );
}

#[test]
fn what_is_planned_is_unsupported_and_what_is_not_is_a_bad_request() {
    for op in PLANNED {
        let line = format!(r#"{{"id":1,"op":"{op}","anything":1}}"#);
        assert_eq!(refused(&line).0, "unsupported");
    }
    let line = r#"{"id":1,"op":"set","key":"k","value":"v","ttl_ms":5}"#;
    assert_eq!(refused(line).0, "unsupported");
    assert_eq!(
        refused(r#"{"id":1,"op":"frobnicate"}"#),
        ("bad_request", "there is no operation `frobnicate`".into())
    );
    assert_eq!(refused(r#"{"id":1,"op":"get","key":"k","read":"fresh"}"#).0, "bad_request");
    assert_eq!(
        refused(r#"{"id":1,"op":"get","key":"k","read":"stale","barrier_ms":5}"#).0,
        "bad_request"
    );
}

#[test]
fn fields_are_refused_by_name() {
    let misspelt = refused(r#"{"id":1,"op":"get","key":"k","timeoutms":5}"#);
    assert_eq!(misspelt, ("bad_request", "`get` has no field `timeoutms`".into()));
    assert_eq!(
        refused(r#"{"id":1,"op":"set","key":"k","value":"v","barrier_ms":5}"#).1,
        "`set` has no field `barrier_ms`"
    );
    assert_eq!(refused(r#"{"id":1,"op":"set","key":"k"}"#).1, "`value` is missing");
    assert_eq!(refused(r#"{"id":1,"key":"k"}"#).1, "`op` is missing");
    assert_eq!(refused(r#"{"id":1,"op":"get","key":7}"#).1, "`key` must be a string");
    assert_eq!(
        refused(r#"{"id":1,"op":"get","key":"a","key_b64":"YQ=="}"#).1,
        "`key` and `key_b64` exclude each other"
    );
    assert_eq!(refused(r#"{"id":1,"op":"get","key_b64":"?"}"#).1, "`key_b64` is no base64");
    assert_eq!(refused(r#"{"id":1,"op":"get","key":""}"#).0, "bad_request");
    assert_eq!(refused(r#"{"id":1,"op":"keys","limit":0}"#).0, "bad_request");
    assert_eq!(refused(r#"{"id":1,"op":"keys","limit":1001}"#).0, "bad_request");
}

#[test]
fn sizes_over_the_limit_are_too_large() {
    let key = "k".repeat(limits::KEY_BYTES_MAX);
    ok(&format!(r#"{{"id":1,"op":"get","key":"{key}"}}"#));
    assert_eq!(refused(&format!(r#"{{"id":1,"op":"get","key":"{key}k"}}"#)).0, "too_large");
    let value = "v".repeat(limits::VALUE_BYTES_MAX);
    ok(&format!(r#"{{"id":1,"op":"set","key":"k","value":"{value}"}}"#));
    let line = format!(r#"{{"id":1,"op":"set","key":"k","value":"{value}v"}}"#);
    assert_eq!(refused(&line).0, "too_large");
}

#[test]
fn lines_without_an_id_are_answered_under_null() {
    for line in ["", "{", "[]", "7", r#"{"op":"status"}"#, r#"{"id":null,"op":"status"}"#] {
        let parsed = Line::parse(line.as_bytes());
        assert_eq!(parsed.id, Value::Null, "{line}");
        assert_eq!(parsed.request.unwrap_err().code(), "bad_request", "{line}");
    }
    assert_eq!(Line::parse(b"{\"id\":\"\xff\"}").id, Value::Null);
    let line = Line::parse(br#"{"id":"a-1","op":"nope"}"#);
    assert_eq!(line.id, Value::from("a-1"));
}

#[test]
fn via_is_a_peer_id_or_an_address_with_one() {
    let plain = ok(&format!(r#"{{"id":1,"op":"status","via":"{PEER}"}}"#)).via.unwrap();
    assert_eq!((plain.peer.to_string().as_str(), plain.address), (PEER, None));
    let address = format!("/ip4/127.0.0.1/tcp/1/p2p/{PEER}");
    let full = ok(&format!(r#"{{"id":1,"op":"status","via":"{address}"}}"#)).via.unwrap();
    assert_eq!(full.peer.to_string(), PEER);
    assert_eq!(full.address.unwrap().to_string(), address);
    for via in ["\"\"", "\"n1\"", "\"/ip4/127.0.0.1/tcp/1\"", "7"] {
        assert_eq!(refused(&format!(r#"{{"id":1,"op":"status","via":{via}}}"#)).0, "bad_request");
    }
}

#[test]
fn changes_of_the_members_name_the_one_that_is_meant() {
    let node = node_id(PEER.parse().unwrap()).unwrap();
    for (op, operation) in [
        ("remove", Operation::Remove { node }),
        ("leave", Operation::Leave { node }),
        ("join", Operation::Join { node }),
        ("transfer", Operation::Transfer { to: Some(node) }),
    ] {
        let line = format!(r#"{{"id":1,"op":"{op}","peer":"{PEER}","timeout_ms":60000}}"#);
        assert_eq!(ok(&line).operation, operation);
        let nobody = format!(r#"{{"id":1,"op":"{op}"}}"#);
        if op == "transfer" {
            assert_eq!(ok(&nobody).operation, Operation::Transfer { to: None });
            continue;
        }
        assert_eq!(refused(&nobody), ("bad_request", "`peer` is missing".into()));
        let strange = format!(r#"{{"id":1,"op":"{op}","peer":"n1"}}"#);
        assert_eq!(refused(&strange).0, "bad_request");
    }
}

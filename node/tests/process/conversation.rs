//! A conversation through `pipe` with a follower, plain and sealed, and the one-shot commands.

use std::fs;

use serde_json::{Value, json};
use tokio::time::{Duration, Instant};

use crate::harness::{Nodes, Pipe, alone};

#[tokio::test]
async fn a_follower_answers_every_request_with_its_type() {
    let _alone = alone().await;
    let nodes = Nodes::founded("conversation").await;
    converse(&nodes).await;
}

#[tokio::test]
async fn the_same_holds_under_a_key_and_a_wrong_key_is_named() {
    let _alone = alone().await;
    let mut nodes = Nodes::new("sealed");
    let key = nodes.folder.path().join("key");
    fs::write(&key, [7; 32]).unwrap();
    nodes.key_file = Some(key);
    nodes.found().await;
    converse(&nodes).await;

    let wrong = nodes.folder.path().join("wrong");
    fs::write(&wrong, format!("{}\n", "0a".repeat(32))).unwrap();
    for key in [Some(wrong.as_path()), None] {
        let start = Instant::now();
        let mut pipe = Pipe::open(&nodes.namespace, &[nodes.address(1)], key);
        let refused = pipe.ask(json!({"op":"get","key":"k","timeout_ms":10000})).await;
        assert_error(&refused, "key_mismatch");
        let again = pipe.ask(json!({"op":"set","key":"k","value":"v"})).await;
        assert_error(&again, "key_mismatch");
        assert!(start.elapsed() < Duration::from_secs(4), "a wrong key is told at once");
        assert_eq!(pipe.finish(), Some(0));
    }
}

#[tokio::test]
async fn a_client_outlives_the_member_that_it_was_given() {
    let _alone = alone().await;
    let mut nodes = Nodes::founded("outlives").await;
    let leader = nodes.leader().await;
    let mut pipe = nodes.pipe(leader);
    for node in 1..=3 {
        let via = pipe.ask(json!({"op":"status","via":nodes.peer(node)})).await;
        assert_eq!(via["peer"], nodes.peer(node), "its address is learned: {via}");
    }
    nodes.kill(leader);
    let set = pipe.ask(json!({"op":"set","key":"k","value":"v","timeout_ms":10000})).await;
    assert_eq!(set["ok"], true, "{set}");
}

#[tokio::test]
async fn one_shot_commands_tell_by_their_exit_code() {
    let _alone = alone().await;
    let nodes = Nodes::founded("one-shot").await;
    let code = |arguments: &[&str]| {
        let output = nodes.client(arguments, 2);
        let text = String::from_utf8(output.stdout).unwrap();
        (output.status.code().unwrap(), text)
    };
    assert_eq!(code(&["get", "colour"]).0, 1);
    assert_eq!(code(&["set", "colour", "green"]).0, 0);
    assert_eq!(code(&["get", "colour"]), (0, "green\n".into()));
    let (status, text) = code(&["get", "colour", "--json"]);
    let answer: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((status, &answer["value"], &answer["found"]), (0, &json!("green"), &json!(true)));
    assert_eq!(code(&["get", "colour", "--stale"]).0, 0);
    let (status, text) = code(&["keys"]);
    assert_eq!((status, text.as_str()), (0, "colour\nfounded\n"));
    assert_eq!(code(&["delete", "colour"]).0, 0);
    assert_eq!(code(&["delete", "colour"]).0, 1);
    let (status, text) = code(&["get", "colour", "--json"]);
    let answer: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((status, &answer["value"], &answer["found"]), (1, &Value::Null, &json!(false)));
    assert_eq!(code(&["status"]).0, 0);
    assert_eq!(code(&["members"]).0, 0);
}

async fn converse(nodes: &Nodes) {
    let follower = 1 + nodes.leader().await % 3;
    let mut pipe = nodes.pipe(follower);
    let set = pipe.ask(json!({"op":"set","key":"k","value":"v"})).await;
    assert_eq!(set["ok"], true, "{set}");
    let revision = set["revision"].as_u64().unwrap();
    let get = pipe.ask(json!({"op":"get","key":"k","read":"linearizable"})).await;
    let expected = (&json!(true), &json!("v"), &json!(revision));
    assert_eq!((&get["found"], &get["value"], &get["revision"]), expected, "{get}");
    let get = pipe.ask(json!({"op":"get","key":"k","barrier_ms":2000})).await;
    assert_eq!(get["value"], "v", "{get}");
    let bytes = json!({"op":"set","key_b64":"/w==","value_b64":"AP8="});
    assert_eq!(pipe.ask(bytes).await["ok"], true);
    let get = pipe.ask(json!({"op":"get","key_b64":"/w=="})).await;
    assert_eq!((&get["value_b64"], &get["value"]), (&json!("AP8="), &Value::Null), "{get}");
    let keys = pipe.ask(json!({"op":"keys","prefix":"k"})).await;
    assert_eq!((&keys["keys"], &keys["more"]), (&json!(["k"]), &json!(false)), "{keys}");
    let keys = pipe.ask(json!({"op":"keys","limit":1})).await;
    assert_eq!((&keys["keys"], &keys["more"]), (&json!(["founded"]), &json!(true)), "{keys}");
    let keys = pipe.ask(json!({"op":"keys","after":"founded"})).await;
    assert_eq!(keys["keys"], json!(["k", {"key_b64":"/w=="}]), "{keys}");
    let delete = pipe.ask(json!({"op":"delete","key":"k"})).await;
    assert_eq!((&delete["ok"], &delete["deleted"]), (&json!(true), &json!(true)), "{delete}");
    let get = pipe.ask(json!({"op":"get","key":"k"})).await;
    assert_eq!((&get["found"], &get["value"]), (&json!(false), &Value::Null), "{get}");
    let via = pipe.ask(json!({"op":"status","via":nodes.peer(follower)})).await;
    assert_eq!(via["peer"], nodes.peer(follower), "{via}");
    let other = 1 + follower % 3;
    let via = pipe.ask(json!({"op":"status","via":nodes.peer(other)})).await;
    assert_eq!(via["peer"], nodes.peer(other), "{via}");
    assert_eq!(pipe.ask(json!({"op":"barrier"})).await["ok"], true);
    refusals(&mut pipe).await;
    in_line_order(&mut pipe).await;
    assert_eq!(pipe.finish(), Some(0));
}

async fn refusals(pipe: &mut Pipe) {
    for barrier_ms in [0, -1, 31_000] {
        let get = json!({"op":"get","key":"k","barrier_ms":barrier_ms});
        assert_error(&pipe.ask(get).await, "bad_timeout");
    }
    assert_error(&pipe.ask(json!({"op":"explode"})).await, "bad_request");
    assert_error(&pipe.ask(json!({"op":"get"})).await, "bad_request");
    for op in ["batch", "cas", "txn", "watch", "unwatch"] {
        assert_error(&pipe.ask(json!({"op":op})).await, "unsupported");
    }
    let session = json!({"op":"get","key":"k","read":"session","barrier_ms":10});
    assert_error(&pipe.ask(session).await, "bad_request");
    let large = json!({"op":"set","key":"k".repeat(4097),"value":""});
    assert_error(&pipe.ask(large).await, "too_large");
    for line in ["{\"id\":1,", "[]", ""] {
        pipe.send(line);
        assert_error(&pipe.answer(&Value::Null).await, "bad_request");
    }
}

/// What a script sends in one go happens in the order of its lines.
async fn in_line_order(pipe: &mut Pipe) {
    for line in [
        r#"{"id":"o1","op":"set","key":"o","value":"1"}"#,
        r#"{"id":"o2","op":"get","key":"o"}"#,
        r#"{"id":"o3","op":"set","key":"o","value":"2"}"#,
        r#"{"id":"o4","op":"get","key":"o","read":"stale"}"#,
        r#"{"id":"s4","op":"get","key":"o","read":"session"}"#,
        r#"{"id":"o5","op":"keys","prefix":"o"}"#,
        r#"{"id":"o6","op":"delete","key":"o"}"#,
    ] {
        pipe.send(line);
    }
    assert_eq!(pipe.answer(&json!("o6")).await["deleted"], true);
    assert_eq!(pipe.answer(&json!("o5")).await["keys"], json!(["o"]));
    assert_eq!(pipe.answer(&json!("o2")).await["value"], "1");
    assert_eq!(pipe.answer(&json!("o3")).await["ok"], true);
    assert_eq!(pipe.answer(&json!("o4")).await["ok"], true);
    assert_eq!(pipe.answer(&json!("s4")).await["value"], "2");
}

fn assert_error(answer: &Value, code: &str) {
    assert_eq!(answer["ok"], false, "{answer}");
    assert_eq!(answer["error"], code, "{answer}");
    assert_eq!(answer["maybe"], false, "{answer}");
    assert!(answer["message"].as_str().is_some_and(|text| !text.is_empty()), "{answer}");
}

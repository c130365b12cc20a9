//! The KV machine against a `BTreeMap`, its pages, and its snapshots.

use std::collections::BTreeMap;

use bytes::Bytes;
use meshraft_consensus::{Index, Position, Term};
use meshraft_service::{
    BadRequest, CheckError, Command, QueryError, StateMachine,
    kv::{Found, KeyPage, Kv, KvCommand, KvQuery, Revision, Written},
    limits::{KEY_BYTES_MAX, KEYS_BYTES_MAX, KEYS_MAX, VALUE_BYTES_MAX},
};
use proptest::prelude::*;

fn apply(kv: &mut Kv, index: u64, command: &KvCommand) -> Written {
    let payload = command.encode();
    kv.check(&payload).unwrap();
    let position = Position::new(Term::new(1), Index::new(index));
    let responses = kv.apply(&[Command { position, log_time_ms: 0, payload: &payload }]);
    assert_eq!(responses.len(), 1);
    Written::decode(&responses[0]).unwrap()
}

fn set(key: &[u8], value: &[u8]) -> KvCommand {
    KvCommand::Set { key: Bytes::copy_from_slice(key), value: Bytes::copy_from_slice(value) }
}

fn delete(key: &[u8]) -> KvCommand {
    KvCommand::Delete { key: Bytes::copy_from_slice(key) }
}

fn query(kv: &Kv, query: &KvQuery) -> Found {
    Found::decode(&kv.query(&query.encode(), Index::ZERO).unwrap()).unwrap()
}

fn get(kv: &Kv, key: &[u8]) -> Option<(Bytes, u64)> {
    match query(kv, &KvQuery::Get { key: Bytes::copy_from_slice(key) }) {
        Found::Value(found) => found.map(|(value, revision)| (value, revision.get())),
        other => panic!("a get answered {other:?}"),
    }
}

fn page(kv: &Kv, prefix: &[u8], after: Option<&[u8]>, limit: u32) -> KeyPage {
    let prefix = Bytes::copy_from_slice(prefix);
    match query(kv, &KvQuery::Keys { prefix, after: after.map(Bytes::copy_from_slice), limit }) {
        Found::Keys(page) => page,
        other => panic!("a listing answered {other:?}"),
    }
}

fn snapshot(kv: &Kv) -> Vec<u8> {
    let mut bytes = Vec::new();
    kv.snapshot()(&mut bytes).unwrap();
    bytes
}

/// Short keys of few letters, so that they meet and share prefixes; 0xff among them, as nothing
/// follows it.
fn key() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(prop::sample::select(vec![b'a', b'b', b'/', 0, 0xff]), 1..4)
}

proptest! {
    #[test]
    fn it_is_an_ordered_map(
        writes in prop::collection::vec((key(), prop::option::of(any::<Vec<u8>>())), 1..60),
        prefix in prop::collection::vec(prop::sample::select(vec![b'a', 0xff]), 0..2),
        after in prop::option::of(key()),
        limit in 1_u32..8,
    ) {
        let (mut kv, mut model) = (Kv::new(), BTreeMap::new());
        for (at, (key, value)) in writes.iter().enumerate() {
            let index = at as u64 + 1;
            let revision = Revision::new(index);
            let (command, expected) = match value {
                Some(value) => {
                    model.insert(key.clone(), (value.clone(), index));
                    (set(key, value), Written::Set { revision })
                }
                None => {
                    let deleted = model.remove(key).is_some();
                    (delete(key), Written::Delete { deleted, revision })
                }
            };
            prop_assert_eq!(apply(&mut kv, index, &command), expected);
        }
        prop_assert_eq!(kv.len(), model.len());
        for (key, _) in &writes {
            let expected = model.get(key).map(|(value, index)| (value.clone().into(), *index));
            prop_assert_eq!(get(&kv, key), expected);
        }
        let mut expected: Vec<Bytes> = model
            .keys()
            .filter(|key| key.starts_with(&prefix))
            .filter(|key| after.as_ref().is_none_or(|after| *key > after))
            .map(|key| Bytes::copy_from_slice(key))
            .collect();
        let one = page(&kv, &prefix, after.as_deref(), limit);
        prop_assert_eq!(one.more, expected.len() > limit as usize);
        let (mut listed, mut from) = (Vec::new(), after);
        loop {
            let page = page(&kv, &prefix, from.as_deref(), limit);
            from = page.keys.last().map(|key| key.to_vec()).or(from);
            listed.extend(page.keys);
            if !page.more { break }
        }
        prop_assert_eq!(&listed, &expected);
        expected.truncate(limit as usize);
        prop_assert_eq!(one.keys, expected);

        let bytes = snapshot(&kv);
        let mut other = Kv::new();
        // A restore replaces everything: what was there and is not in the snapshot is gone.
        apply(&mut other, 1, &set(b"zzzzz", b"old"));
        other.restore(&mut bytes.as_slice()).unwrap();
        prop_assert_eq!(snapshot(&other), bytes);
        prop_assert_eq!(get(&other, b"zzzzz"), None);
    }

    #[test]
    fn foreign_bytes_are_refused(bytes: Vec<u8>, flip in 0_usize..64, to: u8) {
        let kv = Kv::new();
        let _ = kv.check(&bytes);
        let _ = kv.query(&bytes, Index::ZERO);
        let _ = Written::decode(&bytes);
        let _ = Found::decode(&bytes);
        let _ = Kv::new().restore(&mut bytes.as_slice());
        let mut command = set(b"some key", b"some value").encode().to_vec();
        let at = flip % command.len();
        command[at] = to;
        if kv.check(&command).is_ok() {
            prop_assert!(KvCommand::decode(&command).is_ok(), "what is checked can be applied");
        }
        let mut stream = snapshot_of_one();
        let at = flip % stream.len();
        stream[at] = to;
        let mut other = Kv::new();
        let _ = other.restore(&mut stream.as_slice());
        prop_assert!(other.len() <= 1);
    }
}

fn snapshot_of_one() -> Vec<u8> {
    let mut kv = Kv::new();
    apply(&mut kv, 1, &set(b"some key", b"some value"));
    snapshot(&kv)
}

#[test]
fn a_snapshot_is_frozen_while_writing_goes_on() {
    let mut kv = Kv::new();
    for index in 1..=1000_u64 {
        apply(&mut kv, index, &set(&index.to_be_bytes(), b"before"));
    }
    let (bytes, frozen) = (snapshot(&kv), kv.snapshot());
    for index in 1001..=2000_u64 {
        apply(&mut kv, index, &set(&(index - 1000).to_be_bytes(), b"after"));
    }
    let mut later = Vec::new();
    frozen(&mut later).unwrap();
    assert_eq!(later, bytes);
    assert_ne!(snapshot(&kv), bytes);
}

#[test]
fn keys_are_opaque() {
    let mut kv = Kv::new();
    for (index, key) in ["a/b", "a//b", "a/./b", "../stable/CurrentTerm"].iter().enumerate() {
        apply(&mut kv, index as u64 + 1, &set(key.as_bytes(), key.as_bytes()));
    }
    assert_eq!(kv.len(), 4);
    assert_eq!(get(&kv, b"a//b"), Some((Bytes::from_static(b"a//b"), 2)));
}

#[test]
fn limits_are_checked_before_anything_is_proposed() {
    let kv = Kv::new();
    let check = |command: &KvCommand| kv.check(&command.encode());
    assert_eq!(check(&set(b"", b"v")), Err(CheckError::Bad(BadRequest::EmptyKey)));
    assert_eq!(check(&delete(b"")), Err(CheckError::Bad(BadRequest::EmptyKey)));
    let longest = vec![1; KEY_BYTES_MAX];
    assert_eq!(check(&set(&longest, &vec![0; VALUE_BYTES_MAX])), Ok(()));
    let too_long = CheckError::TooLarge { bytes: 4097, limit_bytes: 4096 };
    assert_eq!(check(&delete(&[1; 4097])), Err(too_long));
    let bytes = VALUE_BYTES_MAX as u64 + 1;
    let too_large = CheckError::TooLarge { bytes, limit_bytes: bytes - 1 };
    assert_eq!(check(&set(b"k", &vec![0; VALUE_BYTES_MAX + 1])), Err(too_large));
    let none = KvQuery::Keys { prefix: Bytes::new(), after: None, limit: 0 }.encode();
    assert_eq!(kv.query(&none, Index::ZERO), Err(QueryError::Bad(BadRequest::ZeroLimit)));
}

#[test]
fn what_a_later_build_wrote_is_named() {
    let kv = Kv::new();
    assert_eq!(kv.check(&[2, 0, 1, b'k']), Err(CheckError::Version { version: 2 }));
    assert_eq!(kv.check(&[1, 7, 1, b'k']), Err(CheckError::Kind { kind: 7 }));
    assert_eq!(kv.query(&[1, 7, 1, b'k'], Index::ZERO), Err(QueryError::Unknown));
    assert_eq!(kv.check(&[]), Err(CheckError::Bad(BadRequest::Malformed)));
    let mut trailing = delete(b"k").encode().to_vec();
    trailing.push(0);
    assert_eq!(kv.check(&trailing), Err(CheckError::Bad(BadRequest::Malformed)));
}

#[test]
fn a_page_is_bounded_in_keys_and_in_bytes() {
    let mut kv = Kv::new();
    for index in 1..=1500_u64 {
        let mut key = index.to_be_bytes().to_vec();
        apply(&mut kv, index, &set(&key, b""));
        key.insert(0, 9);
        key.resize(KEY_BYTES_MAX, b'x');
        apply(&mut kv, index, &set(&key, b""));
    }
    let short = page(&kv, &[0], None, u32::MAX);
    assert_eq!((short.keys.len(), short.more), (KEYS_MAX as usize, true));
    let long = page(&kv, &[9], None, KEYS_MAX);
    assert_eq!((long.keys.len(), long.more), (KEYS_BYTES_MAX / KEY_BYTES_MAX, true));
}

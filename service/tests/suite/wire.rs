//! What travels: every value survives its encoding, and foreign bytes are refused by type.

use bytes::Bytes;
use meshraft_consensus::{ClusterVersion, Incarnation, Index, Member, NodeId, Position, Term};
use meshraft_service::{
    BadRequest, Feature, NotTransferred, Refusal, Sequence, ServiceError, SessionId,
    limits::{
        ADDRESSES_MAX, HOPS_MAX, MEMBERS_MAX, PAYLOAD_BYTES_MAX, REQUEST_BYTES_MAX,
        RESPONSE_BYTES_MAX,
    },
    wire::{
        Halted, Level, MemberRole, MemberState, MemberStatus, NodeRole, NotAdmitted, Operation,
        Reply, Request, Response, Status, Waiting, WaitingCode, WireError, decode_response,
        encode_response,
    },
};
use proptest::prelude::*;

use crate::script::status;

fn member(number: u8) -> Member {
    Member::new(NodeId::new([number; 32]), Incarnation::new([number; 16]))
}

fn operation() -> impl Strategy<Value = Operation> {
    let level = prop::sample::select(vec![Level::Stale, Level::Lease, Level::Linearizable]);
    let write = (1_u8.., 1_u64.., any::<u64>(), any::<Vec<u8>>()).prop_map(
        |(session, sequence, acked, payload)| Operation::Write {
            session: SessionId::new([session; 16]),
            sequence: Sequence::new(sequence),
            acked_below: Sequence::new(acked % sequence),
            payload: payload.into(),
        },
    );
    prop_oneof![
        write,
        any::<Vec<u8>>().prop_map(|payload| Operation::Write {
            session: SessionId::NONE,
            sequence: Sequence::ZERO,
            acked_below: Sequence::ZERO,
            payload: payload.into(),
        }),
        (level, any::<Vec<u8>>())
            .prop_map(|(level, query)| Operation::Read { level, query: query.into() }),
        Just(Operation::Barrier),
        any::<u8>().prop_map(|number| Operation::Admit {
            member: member(number),
            supports: ClusterVersion::new(u16::from(number)),
        }),
        Just(Operation::Status),
        Just(Operation::Members),
        Just(Operation::Addresses),
        any::<u8>().prop_map(|number| Operation::Remove { node: member(number).node }),
        prop::option::of(any::<u8>())
            .prop_map(|to| Operation::Transfer { to: to.map(|number| member(number).node) }),
        Just(Operation::Leave),
        Just(Operation::Rejoin),
        Just(Operation::Describe),
        (any::<u64>(), any::<Vec<u8>>()).prop_map(|(seen, query)| Operation::SessionRead {
            seen: Index::new(seen),
            query: query.into(),
        }),
    ]
}

fn request() -> impl Strategy<Value = Request> {
    (1_u32..=60_000, 0..=HOPS_MAX, operation()).prop_map(|(deadline_ms, hops, operation)| Request {
        deadline_ms,
        hops,
        operation,
    })
}

/// A status without what the first version had no words for.
fn of_version_1() -> Status {
    let (snapshot, halted, damaged) = (Index::ZERO, None, None);
    let (supports, in_force) = (ClusterVersion::BASELINE, None);
    let first = Status { snapshot, forced: false, halted, damaged, ..status() };
    let mut status = Status { asleep: false, supports, in_force, ..first };
    status.waiting = status.waiting.map(|waiting| Waiting { why: None, ..waiting });
    for member in &mut status.members {
        (member.held_back, member.supports) = (None, None);
    }
    status
}

#[test]
fn a_leader_knows_how_many_voters_may_fail() {
    let voters = |states: &[Option<MemberState>]| {
        let one = MemberStatus { role: MemberRole::Voter, ..status().members[0] };
        let members = states.iter().map(|&state| MemberStatus { state, ..one }).collect();
        Status { members, ..status() }.failure_tolerance()
    };
    let (own, ok, dead) =
        (Some(MemberState::Leader), Some(MemberState::Replicate), Some(MemberState::Unreachable));
    assert_eq!(voters(&[own]), Some(0));
    assert_eq!(voters(&[own, ok, ok]), Some(1));
    assert_eq!(voters(&[own, ok, dead]), Some(0));
    assert_eq!(voters(&[own, dead, dead]), Some(0), "it has no majority any more");
    assert_eq!(voters(&[own, ok, ok, ok, ok, dead]), Some(1), "six voters bear no more than five");
    assert_eq!(voters(&[ok, None, None]), None, "no leader told it");
    assert_eq!(voters(&[]), None);
}

#[test]
fn a_status_names_who_holds_a_version_back() {
    let held_back = |told: Status| told.held_back_by().map(|it| it.member).collect::<Vec<_>>();
    let learner = status().members[0].member;
    assert_eq!(held_back(status()), [learner], "it told nothing");
    let nothing_to_raise = Status { in_force: Some(ClusterVersion::new(2)), ..status() };
    assert_eq!(held_back(nothing_to_raise), []);
    assert_eq!(held_back(Status { in_force: None, ..status() }), []);
}

fn responses() -> Vec<Response> {
    let position = Position::new(Term::new(3), Index::new(700));
    let response = Bytes::from_static(b"answer");
    vec![
        Ok(Reply::Written { position, response: response.clone() }),
        Ok(Reply::Read { index: Index::new(9), response }),
        Ok(Reply::Barrier { index: Index::new(1) }),
        Ok(Reply::Admitted { members: vec![member(1), member(2)] }),
        Ok(Reply::AdmittedAt { index: Index::new(7), members: vec![member(1), member(2)] }),
        Ok(Reply::Status(Box::new(of_version_1()))),
        Ok(Reply::Members(of_version_1().members)),
        Ok(Reply::Removed { members: vec![member(1)] }),
        Ok(Reply::Transferred { leader: member(1).node }),
        Ok(Reply::Left),
        Ok(Reply::Rejoining),
        Ok(Reply::Described(Box::new(status()))),
    ]
}

/// Every error with its stable name and whether it may have taken effect, in wire order.
fn errors() -> Vec<(ServiceError, &'static str, bool)> {
    let leader = Some(NodeId::new([2; 32]));
    let (one, two) = (ClusterVersion::new(1), ClusterVersion::new(2));
    vec![
        (ServiceError::NoLeader, "no_leader", false),
        (ServiceError::Timeout { maybe: true }, "timeout", true),
        (ServiceError::Overloaded, "overloaded", false),
        (ServiceError::BadRequest(BadRequest::EmptyKey), "bad_request", false),
        (
            ServiceError::BadTimeout { given_ms: -1, min_ms: 1, max_ms: 30_000 },
            "bad_timeout",
            false,
        ),
        (ServiceError::TooLarge { bytes: 9, limit_bytes: 8 }, "too_large", false),
        (ServiceError::OutcomeUnknown, "outcome_unknown", true),
        (ServiceError::SessionExpired { maybe: false }, "session_expired", false),
        (ServiceError::ShuttingDown, "shutting_down", false),
        (ServiceError::Founding, "founding", false),
        (ServiceError::Unsupported(Feature::LeaseRead), "unsupported", false),
        (ServiceError::KeyMismatch, "key_mismatch", false),
        (ServiceError::Refused(Refusal::NotAdmitted), "refused", false),
        (ServiceError::Compacted { oldest: 7 }, "compacted", false),
        (ServiceError::NotLeader { leader, term: Term::new(5) }, "no_leader", false),
        (ServiceError::ResponseDropped { bytes: 5000 }, "response_dropped", true),
        (ServiceError::Halted, "halted", false),
        (ServiceError::UnknownMember { node: member(3).node }, "unknown_member", false),
        (ServiceError::LastVoter, "last_voter", false),
        (ServiceError::NotMember, "not_member", false),
        (ServiceError::ChangeInProgress, "change_in_progress", false),
        (ServiceError::NotTransferred(NotTransferred::Behind), "not_transferred", false),
        (ServiceError::NoLiveMajority { live: 1, needed: 2 }, "no_live_majority", false),
        (ServiceError::Behind { applied: Index::ZERO, seen: Index::new(1) }, "behind", false),
        (ServiceError::NotInForce { needed: two, in_force: one }, "not_in_force", false),
        (ServiceError::TooOld { supports: one, in_force: two }, "too_old", false),
    ]
}

proptest! {
    #[test]
    fn requests_survive_their_encoding(request in request()) {
        prop_assert_eq!(Request::decode(&request.encode()), Ok(request));
    }

    #[test]
    fn foreign_bytes_are_refused(bytes: Vec<u8>) {
        let _ = Request::decode(&bytes);
        let _ = decode_response(&bytes);
        let versioned: Vec<u8> = [1].into_iter().chain(bytes).collect();
        let _ = Request::decode(&versioned);
        let _ = decode_response(&versioned);
    }

    #[test]
    fn a_changed_request_is_checked_again(request in request(), at: prop::sample::Index, to: u8) {
        let mut bytes = request.encode().to_vec();
        let at = at.index(bytes.len());
        bytes[at] = to;
        if let Ok(changed) = Request::decode(&bytes) {
            prop_assert!((1..=60_000).contains(&changed.deadline_ms));
            prop_assert!(changed.hops <= HOPS_MAX);
        }
    }

    #[test]
    fn a_cut_request_is_refused(request in request(), at: prop::sample::Index, more in 1_usize..9) {
        let mut bytes = request.encode().to_vec();
        let cut = at.index(bytes.len());
        prop_assert!(Request::decode(&bytes[..cut]).is_err());
        bytes.extend(vec![0; more]);
        prop_assert!(Request::decode(&bytes).is_err());
    }

    #[test]
    fn a_changed_response_never_panics(which in 0_usize..10, at: prop::sample::Index, to: u8) {
        let mut bytes = encode_response(&responses()[which]).to_vec();
        let at = at.index(bytes.len());
        bytes[at] = to;
        let _ = decode_response(&bytes);
    }
}

#[test]
fn responses_survive_their_encoding() {
    let errors = errors().into_iter().map(|(error, ..)| Err(error));
    for response in responses().into_iter().chain(errors) {
        assert_eq!(decode_response(&encode_response(&response)), Ok(response));
    }
}

#[test]
fn errors_have_stable_names_and_numbers() {
    for (number, (error, code, maybe)) in errors().into_iter().enumerate() {
        assert_eq!((error.code(), error.maybe()), (code, maybe));
        let bytes = encode_response(&Err(error));
        assert_eq!(bytes[..3], [1, 1, number as u8], "{code}");
    }
}

#[test]
fn operations_have_stable_numbers() {
    let admit = Operation::Admit { member: member(1), supports: ClusterVersion::BASELINE };
    let read = Operation::Read { level: Level::Linearizable, query: Bytes::new() };
    let write = Operation::Write {
        session: SessionId::NONE,
        sequence: Sequence::ZERO,
        acked_below: Sequence::ZERO,
        payload: Bytes::new(),
    };
    let told = [
        Operation::Status,
        Operation::Members,
        Operation::Addresses,
        Operation::Remove { node: member(1).node },
        Operation::Leave,
        Operation::Rejoin,
        Operation::Describe,
        Operation::Transfer { to: None },
        Operation::SessionRead { seen: Index::ZERO, query: Bytes::new() },
    ];
    let all = [write, read, Operation::Barrier, admit].into_iter().chain(told);
    for (number, operation) in all.enumerate() {
        let bytes = Request { deadline_ms: 5, hops: 1, operation }.encode();
        assert_eq!(bytes[..4], [1, 5, 1, number as u8]);
    }
}

fn decode_with(deadline_ms: u32, hops: u8, operation: Operation) -> Result<Request, ServiceError> {
    Request::decode(&Request { deadline_ms, hops, operation }.encode())
}

#[test]
fn a_request_is_checked_when_it_is_decoded() {
    let bad_timeout = |given_ms| ServiceError::BadTimeout { given_ms, min_ms: 1, max_ms: 60_000 };
    assert_eq!(decode_with(0, 0, Operation::Barrier), Err(bad_timeout(0)));
    assert_eq!(decode_with(60_001, 0, Operation::Barrier), Err(bad_timeout(60_001)));
    let hops = ServiceError::BadRequest(BadRequest::Hops);
    assert_eq!(decode_with(5, HOPS_MAX + 1, Operation::Barrier), Err(hops));
    let write = |session, sequence, acked| Operation::Write {
        session: SessionId::new([session; 16]),
        sequence: Sequence::new(sequence),
        acked_below: Sequence::new(acked),
        payload: Bytes::new(),
    };
    for bad in [write(1, 0, 0), write(0, 1, 0), write(0, 0, 1), write(1, 2, 3)] {
        let sequence = ServiceError::BadRequest(BadRequest::Sequence);
        assert_eq!(decode_with(5, 0, bad), Err(sequence));
    }
    assert!(decode_with(5, 0, write(1, 2, 2)).is_ok());
}

#[test]
fn what_a_later_build_asks_is_named() {
    let unsupported = |feature| Err(ServiceError::Unsupported(feature));
    assert_eq!(Request::decode(&[2, 5, 0, 2]), unsupported(Feature::WireVersion));
    assert_eq!(Request::decode(&[1, 5, 0, 13, 1, 2, 3]), unsupported(Feature::Operation));
    assert_eq!(decode_response(&[3, 0]), Err(WireError::Version { version: 3 }));
}

#[test]
fn lengths_are_bounded() {
    let too_long = vec![1; REQUEST_BYTES_MAX + 1];
    let error = Request::decode(&too_long).unwrap_err();
    assert_eq!(error.code(), "too_large");
    let query = Bytes::from(vec![0; PAYLOAD_BYTES_MAX]);
    let level = Level::Linearizable;
    assert!(decode_with(5, 0, Operation::Read { level, query }).is_ok());

    // A length that promises more than there is costs nothing.
    let mut bytes = vec![1, 5, 0, 1, 3];
    bytes.extend([0xff, 0xff, 0xff, 0xff, 0x0f]);
    assert_eq!(Request::decode(&bytes).unwrap_err().code(), "bad_request");

    let members = vec![member(1); MEMBERS_MAX + 1];
    let index = Index::new(7);
    let bytes = encode_response(&Ok(Reply::AdmittedAt { index, members }));
    assert_eq!(decode_response(&bytes), Err(WireError::Malformed));
    let addresses = vec![(member(1).node, Bytes::new()); ADDRESSES_MAX + 1];
    let bytes = encode_response(&Ok(Reply::Addresses(addresses)));
    assert_eq!(decode_response(&bytes), Err(WireError::Malformed));

    let response = Bytes::from(vec![0; RESPONSE_BYTES_MAX]);
    let read = Ok(Reply::Read { index: Index::ZERO, response: response.clone() });
    let decoded = decode_response(&encode_response(&read)).unwrap();
    assert_eq!(decoded.unwrap_err().code(), "too_large");
    let written = Ok(Reply::Written { position: Position::ZERO, response });
    let decoded = decode_response(&encode_response(&written)).unwrap();
    assert_eq!(decoded.unwrap_err().code(), "response_dropped");
}

/// What a build of the first version sends and expects, byte for byte.
#[test]
fn the_first_version_of_a_status_is_frozen() {
    let bytes = encode_response(&Ok(Reply::Status(Box::new(status()))));
    let first = decode_response(&bytes).unwrap().unwrap();
    assert_eq!(first, Reply::Status(Box::new(of_version_1())));
    let waiting = Waiting {
        code: WaitingCode::Leader,
        have: 1,
        need: 2,
        missing: vec![member(4).node],
        why: Some(NotAdmitted::Busy),
    };
    let small = Status { members: Vec::new(), waiting: Some(waiting), ..status() };
    let bytes = encode_response(&Ok(Reply::Status(Box::new(small))));
    let expected = [
        [1, 0, 4, 10].as_slice(),
        b"/jobs/cron",
        &[1],
        &[3; 32],
        &[1; 32],
        &[2; 16],
        &[5, 5, 1],
        &[1; 32],
        &[9, 8, 1, 10, 0, 1, 3, 1, 2, 1],
        &[4; 32],
    ];
    assert_eq!(bytes[..], expected.concat());
}

#[test]
fn a_role_of_a_later_version_has_a_word_in_the_first() {
    let code = WaitingCode::Left;
    let waiting = Waiting { code, have: 0, need: 0, missing: Vec::new(), why: None };
    for role in [NodeRole::Left, NodeRole::Removed] {
        let plain = Status { role, waiting: Some(waiting.clone()), ..status() }.plain();
        assert_eq!((plain.role, plain.waiting), (NodeRole::Stopped, None));
    }
    assert_eq!(status().plain(), status());
}

/// A description may grow: a reader of today passes over what a later build appends, and an older
/// writer's shorter one leaves the rest at its defaults.
#[test]
fn a_description_may_be_longer_or_shorter() {
    const BEFORE: usize = 3;
    let described = encode_response(&Ok(Reply::Described(Box::new(status()))));
    let plain = encode_response(&Ok(Reply::Status(Box::new(status()))));
    let (length, body) = postcard::take_from_bytes::<usize>(&described[BEFORE..]).unwrap();
    assert_eq!(length, body.len());
    let with = |body: &[u8]| {
        let mut bytes = described[..BEFORE].to_vec();
        bytes.extend(postcard::to_allocvec(&body.len()).unwrap());
        bytes.extend(body);
        decode_response(&bytes)
    };
    let longer = with(&[body, b"what is to come"].concat());
    assert_eq!(longer, Ok(Ok(Reply::Described(Box::new(status())))));
    let shorter = with(&plain[BEFORE..]);
    assert_eq!(shorter, Ok(Ok(Reply::Described(Box::new(of_version_1())))));
    let (fifth, sixth) = body.split_at(body.len() - 4 - 49);
    assert_eq!((&sixth[..4], sixth[52]), ([2, 1, 1, 1].as_slice(), 2));
    let (supports, in_force) = (ClusterVersion::BASELINE, None);
    let mut of_fifth = Status { supports, in_force, ..status() };
    of_fifth.members.iter_mut().for_each(|member| member.supports = None);
    assert_eq!(with(fifth), Ok(Ok(Reply::Described(Box::new(of_fifth.clone())))));
    let (fourth, fifth) = fifth.split_at(fifth.len() - 1);
    assert_eq!(fifth, [1]);
    let of_fourth = Status { asleep: false, ..of_fifth };
    assert_eq!(with(fourth), Ok(Ok(Reply::Described(Box::new(of_fourth.clone())))));
    let (third, fourth) = fourth.split_at(fourth.len() - 4);
    assert_eq!(fourth, [1, 3, 4, 1]);
    let of_third = Status { damaged: None, ..of_fourth };
    assert_eq!(with(third), Ok(Ok(Reply::Described(Box::new(of_third.clone())))));
    let (second, third) = third.split_at(third.len() - 1);
    let of_second = Status { halted: None, ..of_third.clone() };
    assert_eq!(with(second), Ok(Ok(Reply::Described(Box::new(of_second)))));
    assert_eq!(with(&second[..second.len() - 1]), Err(WireError::Malformed));
    assert_eq!(third, [6]);
    let unknown = Status { halted: Some(Halted::Other), ..of_third };
    let of_later = with(&[second, &[77]].concat());
    assert_eq!(of_later, Ok(Ok(Reply::Described(Box::new(unknown)))));
}

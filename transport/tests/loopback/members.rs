//! Membership over real connections: who is heard in the scope of a cluster, and what is told.

use meshraft_consensus::{Card, CardError, Index, KnownMembers, NodeId};
use meshraft_transport::{Body, Channel, Event, KeyRing, Refusal, Scope, identity::Identity};

use crate::{
    heartbeat,
    net::{Node, cluster, introduce, jobs, key},
};

const SCOPE: Scope = Scope::Cluster(meshraft_consensus::ClusterId::new([1; 32]));

fn beat(from: &Node, to: NodeId, round: u64) {
    let body = Body::Consensus(heartbeat(round));
    from.transport.send(to, &jobs(), SCOPE, None, Channel::Control, body);
}

/// The next refusal that is about membership.
async fn refusal(node: &mut Node) -> Refusal {
    node.until("a refusal", |event| match event {
        Event::Received { .. } => panic!("heard from a stranger"),
        Event::Refused { why, .. } => Some(why),
        _ => None,
    })
    .await
}

/// Two nodes that share the namespace and speak for cluster 1, as what they know of it has it.
async fn connected(keys: KeyRing, one: &mut Node, two: &mut Node) {
    one.open(keys.clone(), [cluster(1)]);
    two.open(keys, [cluster(1)]);
    one.dial(two);
    one.shared_with(two.id()).await;
    two.shared_with(one.id()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_claims_to_be_a_member_is_refused_on_both_sides() {
    for keys in [KeyRing::open(), key(7)] {
        let (mut stranger, mut member) = (Node::start().await, Node::start().await);
        introduce(&mut [&mut stranger, &mut member]);
        // The stranger echoes the cluster's id; the member's configuration does not have it.
        let own = member.member();
        member.known = KnownMembers { committed: Index::new(5), ..KnownMembers::default() };
        member.known.members.insert(own);
        connected(keys, &mut stranger, &mut member).await;
        beat(&stranger, member.id(), 1);
        let why = Refusal::NotAMember { index: Index::new(5) };
        assert_eq!(refusal(&mut stranger).await, why);
        assert_eq!(refusal(&mut member).await, why);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_is_heard_by_its_card_and_told_of_as_long_as_it_is_unknown() {
    for keys in [KeyRing::open(), key(7)] {
        let signer = Identity::ephemeral().unwrap();
        let (mut late, mut lagging) = (Node::start().await, Node::start().await);
        introduce(&mut [&mut late, &mut lagging]);
        let of = (Index::new(9), late.member());
        let signatures = signer.signatures();
        let card = Card::sign(&signatures, &jobs(), cluster(1), of, signer.node_id());
        let own = lagging.member();
        let named = meshraft_consensus::Member::new(signer.node_id(), own.incarnation);
        lagging.known.members = [own, named].into();
        lagging.known.committed = Index::new(5);
        // At first it holds no card, then one that does not count, then the true one.
        connected(keys.clone(), &mut late, &mut lagging).await;
        beat(&late, lagging.id(), 1);
        let index = Index::new(5);
        assert_eq!(refusal(&mut late).await, Refusal::NotAMember { index });
        let forged = Card { index: Index::new(10), ..card };
        late.known.cards = vec![forged];
        late.open(keys.clone(), [cluster(1)]);
        let why = CardError::Forged { signer: signer.node_id() };
        assert_eq!(refusal(&mut late).await, Refusal::UnknownMember { index, why });
        late.known.cards = vec![card];
        late.open(keys, [cluster(1)]);
        let told = lagging
            .until("a card that counts", |event| match event {
                Event::Vouched { member, cluster: of, at, cards, namespace } => {
                    assert_eq!((of, namespace), (cluster(1), jobs()));
                    Some((member, at, cards))
                }
                _ => None,
            })
            .await;
        assert_eq!(told, (late.member(), Index::new(9), vec![card]));
        beat(&late, lagging.id(), 2);
        lagging
            .until("a heartbeat", |event| matches!(event, Event::Received { .. }).then_some(()))
            .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removed_member_is_heard_no_more() {
    let (mut removed, mut member) = (Node::start().await, Node::start().await);
    introduce(&mut [&mut removed, &mut member]);
    connected(key(7), &mut removed, &mut member).await;
    beat(&removed, member.id(), 1);
    member
        .until("a heartbeat", |event| matches!(event, Event::Received { .. }).then_some(()))
        .await;
    member.known.members = [member.member()].into();
    member.known.committed = Index::new(8);
    member.open(key(7), [cluster(1)]);
    let why = Refusal::NotAMember { index: Index::new(8) };
    assert_eq!(refusal(&mut removed).await, why);
    beat(&removed, member.id(), 2);
    let scoped = |node: &Node| {
        let handles = node.transport.peers().into_iter().flat_map(|peer| peer.handles);
        handles.filter(|handle| handle.scope == SCOPE).count()
    };
    assert_eq!([scoped(&removed), scoped(&member)], [0, 0]);
    assert_eq!(refusal(&mut member).await, why);
}

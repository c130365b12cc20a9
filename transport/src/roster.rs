//! The namespaces that this node has open, found by name and by the hash that hellos carry.

use std::collections::BTreeMap;

use meshraft_consensus::{
    Card, CardError, ClusterId, Judgement, KnownMembers, Member, Namespace, NodeId, Signatures,
};

use crate::{
    error::Refusal,
    hello::NamespaceHash,
    types::{LocalNamespace, LocalRole, Scope},
};

/// What this node has open: the facts that hellos are made from and judged by.
#[derive(Clone, Debug, Default)]
pub struct Roster {
    namespaces: BTreeMap<Namespace, LocalNamespace>,
    names: BTreeMap<NamespaceHash, Namespace>,
    /// Counts the changes of what is open and under which keys.
    keys_version: u64,
    /// How many keys there are in all.
    keys_len: usize,
}

impl Roster {
    /// Opens a namespace or changes its facts; `false` if nothing changed.
    pub fn open(&mut self, local: LocalNamespace) -> bool {
        let name = local.namespace.clone();
        let old = self.namespaces.get(&name);
        if old == Some(&local) {
            return false;
        }
        let (old_keys, new_keys) = (old.map(|old| &old.keys), &local.keys);
        if old_keys != Some(new_keys) {
            self.keys_len -= old_keys.map_or(0, |keys| keys.ids().count());
            self.keys_len += new_keys.ids().count();
            self.keys_version += 1;
        }
        self.names.insert(NamespaceHash::of(&name), name.clone());
        self.namespaces.insert(name, local);
        true
    }

    /// Closes a namespace; `false` if it was not open.
    pub fn close(&mut self, namespace: &Namespace) -> bool {
        self.names.remove(&NamespaceHash::of(namespace));
        let Some(closed) = self.namespaces.remove(namespace) else { return false };
        self.keys_len -= closed.keys.ids().count();
        self.keys_version += 1;
        true
    }

    /// A namespace that is open.
    pub fn get(&self, namespace: &Namespace) -> Option<&LocalNamespace> {
        self.namespaces.get(namespace)
    }

    /// Every open namespace, ordered by name.
    pub fn iter(&self) -> impl Iterator<Item = &LocalNamespace> {
        self.namespaces.values()
    }

    /// Judges a peer that wants a handle in the scope of a cluster, or gave one: by its identity
    /// and incarnation, and the cards that it shows. What both ends of a link do, and what a
    /// simulated network does in their place.
    ///
    /// # Errors
    /// [`Refusal::NotOurs`] if this node does not speak for the cluster; else why the peer is no
    /// known member: [`Refusal::NotAMember`] if it shows no card, [`Refusal::UnknownMember`] if its
    /// cards do not count.
    pub fn judge(
        &self,
        namespace: &Namespace,
        cluster: ClusterId,
        peer: Member,
        cards: &[Card],
        signatures: &dyn Signatures,
    ) -> Result<Judgement, Refusal> {
        let known = self.get(namespace).and_then(|local| local.role.known(cluster));
        let known = known.ok_or(Refusal::NotOurs)?;
        let verdict = known.judge((namespace, cluster), peer, cards, signatures);
        verdict.map_err(|why| not_heard(known, cards, why))
    }

    /// Whether this node is a known member of any cluster here, in any incarnation.
    pub(crate) fn knows(&self, node: NodeId) -> bool {
        let mut known = self
            .iter()
            .flat_map(|local| local.role.clusters())
            .flat_map(|(_, known)| &known.members);
        known.any(|member| member.node == node)
    }

    /// Counts the changes of what is open and under which keys.
    pub(crate) const fn keys_version(&self) -> u64 {
        self.keys_version
    }

    /// How many keys there are in all namespaces together.
    pub(crate) const fn keys_len(&self) -> usize {
        self.keys_len
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.namespaces.is_empty()
    }

    pub(crate) fn has_clients(&self) -> bool {
        self.iter().any(|local| local.role == LocalRole::Client)
    }

    pub(crate) fn find(&self, hash: NamespaceHash) -> Option<&LocalNamespace> {
        self.namespaces.get(self.names.get(&hash)?)
    }
}

/// What a peer is told that stays unknown for this reason.
const fn not_heard(known: &KnownMembers, cards: &[Card], why: CardError) -> Refusal {
    let index = known.committed;
    if cards.is_empty() {
        Refusal::NotAMember { index }
    } else {
        Refusal::UnknownMember { index, why }
    }
}

impl LocalNamespace {
    /// Whether this node may use a handle of this scope.
    pub(crate) fn speaks_for(&self, scope: Scope) -> bool {
        match (&self.role, scope) {
            (_, Scope::Free) => true,
            (LocalRole::Client, Scope::Cluster(_)) => false,
            (LocalRole::Member { clusters, .. }, Scope::Cluster(cluster)) => {
                clusters.contains_key(&cluster)
            }
        }
    }
}

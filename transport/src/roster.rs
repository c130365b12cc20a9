//! The namespaces that this node has open, found by name and by the hash that hellos carry.

use std::collections::BTreeMap;

use meshraft_consensus::Namespace;

use crate::{
    hello::NamespaceHash,
    types::{LocalNamespace, LocalRole, Scope},
};

/// What this node has open: the facts that hellos are made from and judged by.
#[derive(Clone, Debug, Default)]
pub struct Roster {
    namespaces: BTreeMap<Namespace, LocalNamespace>,
    names: BTreeMap<NamespaceHash, Namespace>,
}

impl Roster {
    /// Opens a namespace or changes its facts; `false` if nothing changed.
    pub fn open(&mut self, local: LocalNamespace) -> bool {
        let name = local.namespace.clone();
        if self.namespaces.get(&name) == Some(&local) {
            return false;
        }
        self.names.insert(NamespaceHash::of(&name), name.clone());
        self.namespaces.insert(name, local);
        true
    }

    /// Closes a namespace; `false` if it was not open.
    pub fn close(&mut self, namespace: &Namespace) -> bool {
        self.names.remove(&NamespaceHash::of(namespace));
        self.namespaces.remove(namespace).is_some()
    }

    /// A namespace that is open.
    pub fn get(&self, namespace: &Namespace) -> Option<&LocalNamespace> {
        self.namespaces.get(namespace)
    }

    /// Every open namespace, ordered by name.
    pub fn iter(&self) -> impl Iterator<Item = &LocalNamespace> {
        self.namespaces.values()
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

impl LocalNamespace {
    /// Whether this node may use a handle of this scope.
    pub(crate) fn speaks_for(&self, scope: Scope) -> bool {
        match (&self.role, scope) {
            (_, Scope::Free) => true,
            (LocalRole::Client, Scope::Cluster(_)) => false,
            (LocalRole::Member { clusters, .. }, Scope::Cluster(cluster)) => {
                clusters.contains(&cluster)
            }
        }
    }
}

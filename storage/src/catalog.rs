//! What the store holds, in memory: namespaces, groups, and which rows keep what alive.
//!
//! Changed by [`Step`]s alone, after the transaction that they describe is durable, so that a
//! reader never sees a reference to what may not be there.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
};

use meshraft_consensus::{Configuration, HardState, Index, Namespace, Position, Term};

use crate::{
    group::Group,
    namespace::NamespaceRow,
    row::{Base, RowKey, Slot},
    rows::Rows,
    types::{GroupId, Opened, OpenedGroup, OpenedNamespace},
};

/// The terms that begin within the log: a lost last entry takes the term that it began with it.
fn terms_within(terms: &[Position], last: Position) -> Vec<Position> {
    terms.iter().filter(|begin| begin.index <= last.index).copied().collect()
}

/// Everything that the store holds, and where.
#[derive(Debug)]
pub(crate) struct Catalog {
    pub(crate) namespaces: BTreeMap<Namespace, NamespaceRow>,
    pub(crate) groups: BTreeMap<GroupId, Group>,
    pub(crate) rows: Rows,
    pub(crate) next_group: GroupId,
    pub(crate) next_row: RowKey,
}

/// One change of the catalog. Slots are ranges of a buffer that comes with the steps.
#[derive(Debug)]
pub(crate) enum Step {
    /// A row of the inbox was written.
    Row { row: RowKey, bytes: u64 },
    /// Entries were appended.
    Append { group: GroupId, first: Index, term: Term, slots: Range<usize> },
    /// Entries were written in the place of others.
    Repair { group: GroupId, first: Index, term: Term, slots: Range<usize> },
    /// Entries were moved.
    Carry { group: GroupId, first: Index, slots: Range<usize> },
    /// A hard state was written or moved.
    Hard { group: GroupId, row: RowKey, hard: HardState },
    /// The log's end was written or moved.
    Tail { group: GroupId, row: RowKey, tail: Index },
    /// A snapshot was recorded, or its record moved.
    Base { group: GroupId, row: RowKey, base: Base },
    /// A namespace's row was replaced.
    Namespace { namespace: Namespace, row: NamespaceRow },
}

impl Catalog {
    /// Applies the steps of one durable transaction.
    pub(crate) fn apply(&mut self, steps: impl IntoIterator<Item = Step>, slots: &[Slot]) {
        for step in steps {
            self.apply_one(step, slots);
        }
    }

    fn apply_one(&mut self, step: Step, slots: &[Slot]) {
        let rows = &mut self.rows;
        match step {
            Step::Row { row, bytes } => {
                rows.add(row, bytes);
                self.next_row = self.next_row.max(row.plus(1));
            }
            Step::Append { group, first, term, slots: range } => {
                if let Some(group) = self.groups.get_mut(&group) {
                    group.append(rows, first, term, &slots[range]);
                }
            }
            Step::Repair { group, first, term, slots: range } => {
                if let Some(group) = self.groups.get_mut(&group) {
                    for (offset, slot) in (0..).zip(&slots[range]) {
                        group.repair(rows, first.plus(offset), term, *slot);
                    }
                }
            }
            Step::Carry { group, first, slots: range } => {
                if let Some(group) = self.groups.get_mut(&group) {
                    for (offset, slot) in (0..).zip(&slots[range]) {
                        group.carry(rows, first.plus(offset), *slot);
                    }
                }
            }
            Step::Hard { group, row, hard } => {
                if let Some(group) = self.groups.get_mut(&group) {
                    group.set_hard(rows, row, hard);
                }
            }
            Step::Tail { group, row, tail } => {
                if let Some(group) = self.groups.get_mut(&group) {
                    group.set_tail(rows, row, tail);
                }
            }
            Step::Base { group, row, base } => {
                if let Some(group) = self.groups.get_mut(&group) {
                    group.set_base(rows, row, base);
                }
            }
            Step::Namespace { namespace, row } => self.replace(namespace, row),
        }
    }

    fn replace(&mut self, namespace: Namespace, row: NamespaceRow) {
        let old = self.namespaces.get(&namespace).map(|old| old.groups.as_slice());
        let kept: BTreeSet<GroupId> = row.groups.iter().map(|listed| listed.group).collect();
        for listed in old.unwrap_or_default().iter().filter(|old| !kept.contains(&old.group)) {
            if let Some(mut group) = self.groups.remove(&listed.group) {
                group.clear(&mut self.rows);
            }
        }
        for listed in &row.groups {
            self.groups.entry(listed.group).or_insert_with(|| Group::new(listed));
            self.next_group = self.next_group.max(listed.group.next());
        }
        self.namespaces.insert(namespace, row);
    }

    /// What a driver is told when the store is opened.
    pub(crate) fn opened(
        &self,
        configurations: &BTreeMap<GroupId, Vec<(Index, Configuration)>>,
    ) -> Opened {
        let names = self.namespaces.keys();
        let namespaces = names.filter_map(|name| self.opened_namespace(name, configurations));
        Opened { next_group: self.next_group, namespaces: namespaces.collect() }
    }

    /// The same of one namespace; `None` if there is none of that name.
    pub(crate) fn opened_namespace(
        &self,
        namespace: &Namespace,
        configurations: &BTreeMap<GroupId, Vec<(Index, Configuration)>>,
    ) -> Option<OpenedNamespace> {
        let row = self.namespaces.get(namespace)?;
        let groups = row.groups.iter().filter_map(|listed| {
            let group = self.groups.get(&listed.group)?;
            Some(OpenedGroup {
                group: listed.group,
                cluster: group.cluster,
                hard: group.hard,
                snapshot: group.base.as_ref().map(|base| base.snapshot.clone()),
                terms: terms_within(group.terms(), group.last()),
                configurations: configurations.get(&listed.group).cloned().unwrap_or_default(),
                last: group.last(),
                damage: group.damage(),
            })
        });
        let (namespace, record) = (namespace.clone(), row.record.clone());
        Some(OpenedNamespace { namespace, record, groups: groups.collect() })
    }
}

//! Decides when a request of `pipe` may start, so that a script reads like one: requests that touch
//! the same key take effect in the order of their lines, all others run at once.
//!
//! Invariants:
//! 1. A write starts after every earlier read and write of its key, and after every earlier scan.
//! 2. A read starts after every earlier write of its key; a scan after every earlier write.
//! 3. Each request waits only for earlier ones, so there is no circle: the oldest always runs.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

/// Names one request, in the order of lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Ticket(u64);

/// What a request touches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// Nothing that depends on other requests.
    None,
    /// Reads one key.
    Read(Bytes),
    /// Writes one key.
    Write(Bytes),
    /// Reads all keys.
    Scan,
}

/// The requests that are not finished, and who waits for whom.
#[derive(Debug, Default)]
pub(crate) struct Order {
    next: u64,
    open: BTreeMap<Ticket, Open>,
    keys: BTreeMap<Bytes, Touched>,
    writes: BTreeSet<Ticket>,
    scans: BTreeSet<Ticket>,
}

#[derive(Debug)]
struct Open {
    access: Access,
    blockers: usize,
    waiters: Vec<Ticket>,
}

/// The unfinished requests of one key.
#[derive(Debug, Default)]
struct Touched {
    reads: BTreeSet<Ticket>,
    writes: BTreeSet<Ticket>,
}

impl Order {
    /// Takes the next request; `true` if it may start at once.
    pub(crate) fn admit(&mut self, access: Access) -> (Ticket, bool) {
        let ticket = Ticket(self.next);
        self.next += 1;
        let blockers = self.blockers(&access);
        for blocker in &blockers {
            if let Some(open) = self.open.get_mut(blocker) {
                open.waiters.push(ticket);
            }
        }
        match &access {
            Access::None => {}
            Access::Read(key) => {
                self.keys.entry(key.clone()).or_default().reads.insert(ticket);
            }
            Access::Write(key) => {
                self.keys.entry(key.clone()).or_default().writes.insert(ticket);
                self.writes.insert(ticket);
            }
            Access::Scan => {
                self.scans.insert(ticket);
            }
        }
        let blockers = blockers.len();
        self.open.insert(ticket, Open { access, blockers, waiters: Vec::new() });
        (ticket, blockers == 0)
    }

    /// A request is answered; returns those that may start now, oldest first.
    pub(crate) fn finish(&mut self, ticket: Ticket) -> Vec<Ticket> {
        let Some(open) = self.open.remove(&ticket) else { return Vec::new() };
        if let Access::Read(key) | Access::Write(key) = &open.access
            && let Some(touched) = self.keys.get_mut(key)
        {
            touched.reads.remove(&ticket);
            touched.writes.remove(&ticket);
            if touched.reads.is_empty() && touched.writes.is_empty() {
                self.keys.remove(key);
            }
        }
        self.writes.remove(&ticket);
        self.scans.remove(&ticket);
        let mut ready = Vec::new();
        for waiter in open.waiters {
            if let Some(waiting) = self.open.get_mut(&waiter) {
                waiting.blockers -= 1;
                if waiting.blockers == 0 {
                    ready.push(waiter);
                }
            }
        }
        ready
    }

    fn blockers(&self, access: &Access) -> BTreeSet<Ticket> {
        match access {
            Access::None => BTreeSet::new(),
            Access::Scan => self.writes.clone(),
            Access::Read(key) => {
                self.keys.get(key).map(|touched| touched.writes.clone()).unwrap_or_default()
            }
            Access::Write(key) => {
                let mut blockers = self.scans.clone();
                if let Some(touched) = self.keys.get(key) {
                    blockers.extend(touched.reads.iter().chain(&touched.writes));
                }
                blockers
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(key: &'static str) -> Access {
        Access::Read(key.into())
    }

    fn write(key: &'static str) -> Access {
        Access::Write(key.into())
    }

    #[test]
    fn one_key_keeps_its_order_and_others_do_not_wait() {
        let mut order = Order::default();
        let (set, ready) = order.admit(write("a"));
        assert!(ready);
        assert!(order.admit(write("b")).1);
        assert!(order.admit(Access::None).1);
        let (get, ready) = order.admit(read("a"));
        assert!(!ready);
        let (again, ready) = order.admit(read("a"));
        assert!(!ready);
        let (delete, ready) = order.admit(write("a"));
        assert!(!ready);
        assert_eq!(order.finish(set), [get, again]);
        assert_eq!(order.finish(again), []);
        assert_eq!(order.finish(get), [delete]);
        assert_eq!(order.finish(delete), []);
        assert_eq!(order.finish(delete), []);
    }

    #[test]
    fn a_scan_sees_all_writes_before_it_and_none_after() {
        let mut order = Order::default();
        let (a, _) = order.admit(write("a"));
        let (b, _) = order.admit(write("b"));
        assert!(order.admit(read("c")).1);
        let (scan, ready) = order.admit(Access::Scan);
        assert!(!ready);
        let (later, ready) = order.admit(write("c"));
        assert!(!ready);
        assert!(order.admit(read("d")).1);
        assert_eq!(order.finish(b), []);
        assert_eq!(order.finish(a), [scan]);
        assert_eq!(order.finish(scan), []);
        assert_eq!(order.open.len(), 3);
        let waiting = order.open.get(&later).unwrap();
        assert_eq!(waiting.blockers, 1);
    }

    #[test]
    fn nothing_is_kept_of_what_is_finished() {
        let mut order = Order::default();
        let accesses = [write("a"), read("a"), Access::Scan, write("a"), Access::None, read("b")];
        let mut running: Vec<_> = Vec::new();
        for access in accesses {
            let (ticket, ready) = order.admit(access);
            running.extend(ready.then_some(ticket));
        }
        let mut finished = 0;
        while let Some(ticket) = running.pop() {
            running.extend(order.finish(ticket));
            finished += 1;
        }
        assert_eq!(finished, 6);
        assert!(order.open.is_empty() && order.keys.is_empty());
        assert!(order.writes.is_empty() && order.scans.is_empty());
    }
}

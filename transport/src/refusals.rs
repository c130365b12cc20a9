//! Which refusals are told: not the same one again and again, and never a flood of them.
//!
//! A stranger can be refused as often as it likes, under as many identities as it likes. Each
//! refusal is worth an event and a line in the log once in [`QUIET`] for a peer, namespace and
//! reason, and no more than [`TOLD_MAX`] are told in that time, all peers together. A value: time
//! is an argument.

use std::{collections::BTreeMap, mem::Discriminant, time::Duration};

use meshraft_consensus::{Moment, Namespace, NodeId};

use crate::error::Refusal;

/// The same refusal is not told again within this time.
pub(crate) const QUIET: Duration = Duration::from_secs(10);
const TOLD_MAX: usize = 256;

/// When each reason was told last.
type Told = Vec<(Discriminant<Refusal>, Moment)>;

/// What was told lately.
#[derive(Debug, Default)]
pub(crate) struct Refusals {
    told: BTreeMap<(NodeId, Namespace), Told>,
    count: usize,
}

impl Refusals {
    /// Whether to tell this one.
    pub(crate) fn tell(
        &mut self,
        now: Moment,
        peer: NodeId,
        namespace: &Namespace,
        why: &Refusal,
    ) -> bool {
        if self.count >= TOLD_MAX {
            self.forget(now);
        }
        let reason = std::mem::discriminant(why);
        let told = self.told.entry((peer, namespace.clone())).or_default();
        let news = match told.iter_mut().find(|(other, _)| *other == reason) {
            Some((_, at)) if now.since(*at) < QUIET => false,
            Some((_, at)) => {
                *at = now;
                true
            }
            None if self.count >= TOLD_MAX => false,
            None => {
                told.push((reason, now));
                self.count += 1;
                true
            }
        };
        if told.is_empty() {
            self.told.remove(&(peer, namespace.clone()));
        }
        news
    }

    fn forget(&mut self, now: Moment) {
        self.told.retain(|_, told| {
            told.retain(|(_, at)| now.since(*at) < QUIET);
            !told.is_empty()
        });
        self.count = self.told.values().map(Vec::len).sum();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(number: u16) -> NodeId {
        let mut bytes = [1; 32];
        bytes[..2].copy_from_slice(&number.to_be_bytes());
        NodeId::new(bytes)
    }

    fn at(millis: u64) -> Moment {
        Moment::from_millis(millis)
    }

    #[test]
    fn a_reason_is_told_once_in_ten_seconds_for_each_peer_and_namespace() {
        let [jobs, locks] = ["/jobs", "/locks"].map(|name| Namespace::new(name).unwrap());
        let mut refusals = Refusals::default();
        let (key, unknown) = (Refusal::KeyMismatch, Refusal::UnknownNamespace);
        assert!(refusals.tell(at(0), node(1), &jobs, &key));
        // Neither repeating it nor changing between reasons makes it news.
        assert!(refusals.tell(at(1), node(1), &jobs, &unknown));
        assert!(!refusals.tell(at(2), node(1), &jobs, &key));
        assert!(!refusals.tell(at(9_999), node(1), &jobs, &key));
        assert!(refusals.tell(at(3), node(1), &locks, &key));
        assert!(refusals.tell(at(4), node(2), &jobs, &key));
        assert!(refusals.tell(at(10_000), node(1), &jobs, &key));
        assert!(!refusals.tell(at(19_999), node(1), &jobs, &key));
    }

    #[test]
    fn many_identities_are_no_more_news_than_a_few() {
        let jobs = Namespace::new("/jobs").unwrap();
        let mut refusals = Refusals::default();
        let told = |refusals: &mut Refusals, now: u64, peers: std::ops::Range<u16>| {
            let tell = |peer| refusals.tell(at(now), node(peer), &jobs, &Refusal::KeyMismatch);
            peers.map(tell).filter(|told| *told).count()
        };
        assert_eq!(told(&mut refusals, 0, 0..5_000), TOLD_MAX);
        assert_eq!(told(&mut refusals, 9_999, 5_000..9_000), 0);
        assert_eq!(refusals.told.len(), TOLD_MAX, "what is remembered is bounded too");
        assert_eq!(told(&mut refusals, 10_000, 9_000..9_100), 100);
    }
}

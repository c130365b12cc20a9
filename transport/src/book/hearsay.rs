//! How much a peer's word may make this node dial.
//!
//! Whoever tells an address decides where this node opens a connection, so each such dial is
//! charged: to the teller, to all tellers together, to the port and to the machine that are
//! dialled. A dial that proves the claimed peer is paid back.
//!
//! Invariants:
//! 1. At most [`UNPROVEN_MAX`] dials a minute prove nothing, at most [`TELLER_UNPROVEN_MAX`] of
//!    them on one teller's word.
//! 2. Where somebody answered without proving the claimed peer, no other claim about that port is
//!    tried for [`BLOCK_FIRST`] at least, and longer each time; but a claim about the peer that
//!    did answer there.
//! 3. One machine is dialled at most [`STRIKES_MAX`] times in vain, counting a refused connection
//!    as a quarter, before it is left alone for as long. A proof there clears the account.
//! 4. All accounts are bounded.

use std::{
    collections::{BTreeMap, VecDeque},
    net::IpAddr,
    time::Duration,
};

use libp2p::Multiaddr;
use meshraft_consensus::{Moment, NodeId};

use super::{
    reach::{holder_of, ip_of},
    source::DAY,
};

const MINUTE: Duration = Duration::from_secs(60);
/// Dials a minute that prove nothing, all tellers together.
pub(super) const UNPROVEN_MAX: usize = 32;
/// Dials a minute that prove nothing, on one teller's word.
pub(super) const TELLER_UNPROVEN_MAX: usize = 8;
/// Dials in vain at one machine.
pub(super) const STRIKES_MAX: u32 = 4;
/// What a refused connection counts: nobody was bothered much.
const REFUSED_PARTS: u32 = 1;
const FAILED_PARTS: u32 = 4;
/// How long a port or machine is left alone at first; four times as long each time after.
pub(super) const BLOCK_FIRST: Duration = Duration::from_secs(600);
/// The longest that a machine is left alone: it may have been cut off, not have been lied about.
const MACHINE_BLOCK_MAX: Duration = Duration::from_secs(3_600);
const ACCOUNTS_MAX: usize = 1_024;

/// What a place did to dials on hearsay.
#[derive(Clone, Debug, Default)]
struct Account {
    /// Dials under way.
    running: u32,
    /// Quarters of dials in vain, since the last block or proof.
    parts: u32,
    blocked_until: Moment,
    blocks: u32,
    /// The peer that proved its id there.
    owner: Option<NodeId>,
    touched: Moment,
}

impl Account {
    fn block(&mut self, now: Moment, longest: Duration) {
        let pause = BLOCK_FIRST.saturating_mul(1 << (2 * self.blocks.min(8))).min(longest);
        self.blocks = self.blocks.saturating_add(1);
        self.parts = 0;
        self.blocked_until = now.plus(pause);
    }
}

/// What a dial is charged to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Charge {
    pub(super) peer: NodeId,
    pub(super) teller: NodeId,
    pub(super) address: Multiaddr,
}

/// All accounts.
#[derive(Debug, Default)]
pub(super) struct Budget {
    /// Dials of the last minute that have not proved anything, oldest first.
    charged: VecDeque<(Moment, NodeId)>,
    ports: BTreeMap<Multiaddr, Account>,
    machines: BTreeMap<IpAddr, Account>,
}

impl Budget {
    fn machine(address: &Multiaddr) -> Option<IpAddr> {
        ip_of(address).map(holder_of)
    }

    /// Whether this dial may be made now.
    ///
    /// # Errors
    /// When to ask again at the earliest.
    pub(super) fn permit(&mut self, now: Moment, charge: &Charge) -> Result<(), Moment> {
        while self.charged.front().is_some_and(|(at, _)| now.since(*at) >= MINUTE) {
            self.charged.pop_front();
        }
        let mut own = self.charged.iter().filter(|(_, teller)| *teller == charge.teller);
        if own.clone().count() >= TELLER_UNPROVEN_MAX
            && let Some((at, _)) = own.next()
        {
            return Err(at.plus(MINUTE));
        }
        if self.charged.len() >= UNPROVEN_MAX
            && let Some((at, _)) = self.charged.front()
        {
            return Err(at.plus(MINUTE));
        }
        if let Some(port) = self.ports.get(&charge.address) {
            let owned = port.owner == Some(charge.peer);
            if port.blocked_until > now && !owned {
                return Err(port.blocked_until);
            }
            if port.running > 0 {
                return Err(now.plus(AGAIN));
            }
        }
        if let Some(machine) = Self::machine(&charge.address).and_then(|ip| self.machines.get(&ip))
        {
            if machine.blocked_until > now {
                return Err(machine.blocked_until);
            }
            if machine.parts + machine.running * FAILED_PARTS >= STRIKES_MAX * FAILED_PARTS {
                return Err(now.plus(AGAIN));
            }
        }
        Ok(())
    }

    /// Charges a dial that begins.
    pub(super) fn begin(&mut self, now: Moment, charge: &Charge) {
        self.charged.push_back((now, charge.teller));
        let port = account(&mut self.ports, charge.address.clone());
        (port.running, port.touched) = (port.running + 1, now);
        if let Some(ip) = Self::machine(&charge.address) {
            let machine = account(&mut self.machines, ip);
            (machine.running, machine.touched) = (machine.running + 1, now);
        }
    }

    /// A dial ended without a result worth noting.
    pub(super) fn release(&mut self, charge: &Charge) {
        if let Some(port) = self.ports.get_mut(&charge.address) {
            port.running = port.running.saturating_sub(1);
        }
        let machine = Self::machine(&charge.address).and_then(|ip| self.machines.get_mut(&ip));
        if let Some(machine) = machine {
            machine.running = machine.running.saturating_sub(1);
        }
    }

    /// The claimed peer proved its id there.
    pub(super) fn proved(&mut self, charge: &Charge) {
        self.release(charge);
        let paid = self.charged.iter().rposition(|(_, teller)| *teller == charge.teller);
        if let Some(index) = paid {
            self.charged.remove(index);
        }
        // What is known for good needs no account.
        self.ports.remove(&charge.address);
        if let Some(machine) =
            Self::machine(&charge.address).and_then(|ip| self.machines.get_mut(&ip))
        {
            (machine.parts, machine.blocks) = (0, 0);
        }
    }

    /// Nobody answered there.
    pub(super) fn unreachable(&mut self, now: Moment, charge: &Charge) {
        self.release(charge);
        self.strike(now, charge, REFUSED_PARTS);
    }

    /// Nothing came back: the machine is down, cut off, or does not speak our protocols.
    pub(super) fn timed_out(&mut self, now: Moment, charge: &Charge) {
        self.release(charge);
        let port = account(&mut self.ports, charge.address.clone());
        (port.blocked_until, port.owner, port.touched) = (now.plus(MINUTE), None, now);
        self.strike(now, charge, FAILED_PARTS);
    }

    /// Somebody answered there and is not the claimed peer; `found` if it proved another id.
    pub(super) fn unproven(&mut self, now: Moment, charge: &Charge, found: Option<NodeId>) {
        self.release(charge);
        let port = account(&mut self.ports, charge.address.clone());
        port.block(now, DAY);
        (port.owner, port.touched) = (found, now);
        self.strike(now, charge, FAILED_PARTS);
    }

    fn strike(&mut self, now: Moment, charge: &Charge, parts: u32) {
        let Some(ip) = Self::machine(&charge.address) else { return };
        let machine = account(&mut self.machines, ip);
        (machine.parts, machine.touched) = (machine.parts + parts, now);
        if machine.parts >= STRIKES_MAX * FAILED_PARTS {
            machine.block(now, MACHINE_BLOCK_MAX);
        }
    }
}

/// How soon a dial is asked for again that waits for another one to end.
const AGAIN: Duration = Duration::from_millis(50);

/// The account of a place. When there are too many, the half without news for longest is closed.
fn account<K: Ord + Clone>(accounts: &mut BTreeMap<K, Account>, key: K) -> &mut Account {
    if !accounts.contains_key(&key) && accounts.len() >= ACCOUNTS_MAX {
        let mut touched: Vec<_> = accounts.values().map(|account| account.touched).collect();
        touched.sort_unstable();
        let middle = touched[ACCOUNTS_MAX / 2];
        accounts.retain(|_, account| account.running > 0 || account.touched > middle);
    }
    accounts.entry(key).or_default()
}

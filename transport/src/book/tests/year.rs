//! A year in which a thousand peers come and go each day.

use super::*;
use crate::dice::Dice;

const PEERS_A_DAY: u32 = 1_000;
const MEMBERS: u32 = 5;
const MINUTE: u64 = 60_000;
const DAY: u64 = 24 * 60 * MINUTE;
/// About 1 KiB for each of the peers that the book may have at most.
const BYTES_MAX: usize = 4 * 1024 * 1024;

struct World {
    book: Book,
    dice: Dice,
    /// The address at which each member listens now.
    homes: Vec<u32>,
    next_home: u32,
}

impl World {
    /// A member moves; sometimes another member knows first, and says so.
    fn moves(&mut self, now: Moment, member: u32) {
        let peer = node(member);
        self.book.disconnected(now, peer);
        self.homes[member as usize - 1] = self.next_home;
        self.next_home += 1;
        let home = address(self.homes[member as usize - 1]);
        let other = member % MEMBERS + 1;
        let other_knows = self.book.presence.has(node(other)) && self.dice.draw() < 0.5;
        let teller = if other_knows { other } else { member };
        if teller == member {
            arrives(&mut self.book, now, member, &address(9_000_000 + member));
        }
        self.book.hear(now, node(teller), peer, &[home]);
    }

    /// A peer comes, tells where it listens, at times of another, and goes for good.
    fn passes(&mut self, now: Moment, stranger: u32) {
        let home = address(stranger);
        arrives(&mut self.book, now, stranger, &home);
        self.book.hear(now, node(stranger), node(stranger), std::slice::from_ref(&home));
        if stranger.is_multiple_of(4) {
            self.book.hear(now, node(stranger), node(stranger + 7), &[address(stranger + 7)]);
        }
        self.dials(now, Some(stranger));
        self.book.disconnected(now, node(stranger));
    }

    /// All dials that are due end at once, by the truth of the moment.
    fn dials(&mut self, now: Moment, stranger: Option<u32>) {
        while let Some(dial) = self.book.poll(now) {
            let Target::Peer(peer) = dial.target else { panic!("{dial:?}") };
            let member = (1..=MEMBERS).find(|member| node(*member) == peer);
            let home = member.map(|member| address(self.homes[member as usize - 1]));
            let home = home.or(stranger.filter(|s| node(*s) == peer).map(address));
            match home.filter(|home| dial.addresses.contains(home)) {
                Some(_) if dial.is_probe() => self.book.probed(now, peer, &dial),
                Some(remote) => {
                    let dial = Some(dial);
                    let established = Established { peer, remote, dialled: true, dial };
                    self.book.connected(now, established);
                }
                None => fails(&mut self.book, now, &dial, DialResult::Unreachable),
            }
        }
    }
}

#[test]
fn a_year_of_changing_peers_leaves_every_living_member_in_a_bounded_book() {
    let namespace = Namespace::new("/jobs").unwrap();
    let homes: Vec<u32> = (1..=MEMBERS).map(|member| 5_000_000 + member).collect();
    let mut world = World { book: book(), dice: Dice::new(3), homes, next_home: 6_000_000 };
    world.book.members(&namespace, (1..=MEMBERS).map(node).collect());
    for member in 1..=MEMBERS {
        let home = address(world.homes[member as usize - 1]);
        world.book.add(at(0), Some(node(member)), home, AddressSource::Configured).unwrap();
    }
    let (mut stranger, mut most, mut bytes) = (100_000, 0, 0);
    for day in 0..365 {
        for visit in 0..PEERS_A_DAY {
            let now = at(day * DAY + u64::from(visit) * DAY / u64::from(PEERS_A_DAY));
            stranger += 1;
            world.passes(now, stranger);
            most = most.max(world.book.len());
            if world.dice.draw() < 0.002 {
                let member = 1 + visit % MEMBERS;
                world.moves(now, member);
                world.dials(now, None);
            }
        }
        let now = at((day + 1) * DAY);
        world.dials(now, None);
        bytes = bytes.max(world.book.bytes());
        for member in 1..=MEMBERS {
            let home = address(world.homes[member as usize - 1]);
            let known = world
                .book
                .entries(now)
                .any(|entry| entry.peer == Some(node(member)) && entry.address == home);
            assert!(
                known,
                "day {day}: member {member} at {home}: {:?}",
                sources(&world.book, now, member)
            );
        }
    }
    println!("at most {most} targets, {bytes} bytes");
    assert!(most <= 1_024 + 1_024 + MEMBERS as usize, "{most} targets");
    assert!(bytes <= BYTES_MAX, "{bytes} bytes");
}

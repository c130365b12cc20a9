//! Runs the golden scenarios of `testdata/`: one scenario a file, its first sentence says what it
//! holds. `UPDATE_GOLDENFILES=1` rewrites what they print; review the difference.

use std::{error::Error, path::Path, time::Duration};

use goldenscript::{Command, Context};
use meshraft_consensus::{
    Change, ChangeStep, ConfigBuilder, Fate, Index, Input, LoadError, Member, ProposalId, ReadId,
    ReadLevel,
};
use test_each_file::test_each_path;

use crate::{
    cluster::{Cluster, Disk, member, reborn},
    disk::File,
    parse, text,
};

test_each_path! { for ["txt"] in "./consensus/testdata" as scenario => golden }

fn golden([path]: [&Path; 1]) {
    goldenscript::run(&mut Scenario::default(), path).expect("the scenario can be read");
}

type Fallible<T> = Result<T, Box<dyn Error>>;

struct Scenario {
    cluster: Cluster,
    next: u64,
}

impl Default for Scenario {
    fn default() -> Self {
        Self { cluster: Cluster::empty(ConfigBuilder::lan()), next: 0 }
    }
}

/// What a command is about: positional arguments, then the rest by key.
struct Arguments<'a> {
    positional: Vec<&'a str>,
    keyed: Vec<(&'a str, &'a str)>,
}

impl<'a> Arguments<'a> {
    fn new(command: &'a Command) -> Self {
        let mut arguments = command.consume_args();
        let (mut positional, mut keyed) = (Vec::new(), Vec::new());
        while let Some(one) = arguments.next_pos() {
            positional.push(one);
        }
        while let Some(one) = arguments.next_key() {
            keyed.push(one);
        }
        Self { positional, keyed }
    }

    fn member(&self, nth: usize) -> Fallible<Member> {
        who(self.positional.get(nth).ok_or("a member is missing")?)
    }

    fn number(&self, nth: usize) -> Fallible<u64> {
        Ok(self.positional.get(nth).ok_or("a number is missing")?.parse()?)
    }

    fn key(&self, key: &str) -> Option<&'a str> {
        self.keyed.iter().find(|(name, _)| *name == key).map(|(_, value)| *value)
    }

    fn has(&self, word: &str) -> bool {
        self.positional.contains(&word)
    }
}

/// `3`, or `3b` for the second life of that node.
fn who(name: &str) -> Fallible<Member> {
    match name.strip_suffix('b') {
        Some(node) => Ok(reborn(node.parse()?)),
        None => Ok(member(name.parse()?)),
    }
}

impl goldenscript::Runner for Scenario {
    type Command = Command;

    fn run(&mut self, command: &Command, _: &Context) -> Fallible<String> {
        let arguments = Arguments::new(command);
        self.cluster.trace.clear();
        if let Some(lines) = self.show(&command.name, &arguments)? {
            return Ok(lines.iter().map(|line| format!("{line}\n")).collect());
        }
        if !self.set_up(&command.name, &arguments)? && !self.act(&command.name, &arguments)? {
            return Err(format!("unknown command {}", command.name).into());
        }
        // `only=resolve` shows only the lines that hold the word.
        let only = arguments.key("only").unwrap_or_default();
        let shown = self.cluster.trace.iter().filter(|line| line.contains(only));
        Ok(shown.map(|line| format!("{line}\n")).collect())
    }
}

impl Scenario {
    /// Commands that only look.
    fn show(&self, name: &str, arguments: &Arguments<'_>) -> Fallible<Option<Vec<String>>> {
        let cluster = &self.cluster;
        Ok(Some(match name {
            "status" => {
                let asked: Fallible<Vec<Member>> =
                    arguments.positional.iter().map(|name| who(name)).collect();
                let asked = asked?;
                let shown =
                    cluster.nodes.iter().filter(|(me, _)| asked.is_empty() || asked.contains(me));
                shown
                    .map(|(me, node)| match &node.core {
                        Some(core) => text::status(core),
                        None => format!("{} down", text::name(*me)),
                    })
                    .collect()
            }
            "packets" => cluster.packets.iter().map(text::packet).collect(),
            _ => return Ok(None),
        }))
    }

    /// Commands that build the cluster and change the weather.
    fn set_up(&mut self, name: &str, arguments: &Arguments<'_>) -> Fallible<bool> {
        match name {
            "cluster" => self.build(arguments)?,
            "add" => self.cluster.add(arguments.member(0)?, Disk::default()),
            "disk" => self.fill_disk(arguments)?,
            "crash" => self.cluster.crash(arguments.member(0)?),
            "restart" => self.cluster.start(arguments.member(0)?),
            "stall" => self.cluster.node(arguments.member(0)?).stalled = true,
            "resume" => self.cluster.node(arguments.member(0)?).stalled = false,
            "rank" => {
                let me = arguments.member(0)?;
                self.cluster.node(me).rank = u8::try_from(arguments.number(1)?)?;
                self.cluster.crash(me);
                self.cluster.start(me);
            }
            "slow-transfer" => self.cluster.node(arguments.member(0)?).slow_transfer = true,
            "make-file" => self.make_file(arguments)?,
            "keep-running" => self.cluster.node(arguments.member(0)?).stubborn = true,
            "lose-file" => self.cluster.node(arguments.member(0)?).disk.files.clear(),
            "slow-apply" => self.cluster.node(arguments.member(0)?).slow_apply = true,
            "isolate" => self.cluster.isolate(u8::try_from(arguments.number(0)?)?),
            "cut" => self.cluster.cut(arguments.member(0)?, arguments.member(1)?),
            "heal" => self.cluster.heal(),
            "damage" => {
                let slots = parse::slots(arguments.key("at").ok_or("a slot is missing")?)?;
                self.cluster.node(arguments.member(0)?).disk.rotten.extend(slots);
            }
            "fail-loads" => {
                self.cluster.node(arguments.member(0)?).load_error = Some(LoadError::Failed);
            }
            "mend-loads" => self.cluster.node(arguments.member(0)?).load_error = None,
            "forget-packets" => self.cluster.packets.clear(),
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn build(&mut self, arguments: &Arguments<'_>) -> Fallible<()> {
        let nodes = arguments.key("nodes").ok_or("nodes is missing")?.parse()?;
        let mut knobs = match arguments.key("preset") {
            Some("simulation") => ConfigBuilder::simulation(),
            _ => ConfigBuilder::lan(),
        };
        if let Some(target) = arguments.key("target") {
            knobs.voters_target = target.parse()?;
        }
        if let Some(keep) = arguments.key("keep") {
            knobs.keep_entries_max = keep.parse()?;
        }
        if let Some(after) = arguments.key("sleep") {
            knobs.quiesce_after = Some(Duration::from_millis(after.parse()?));
        }
        if let Some(drift) = arguments.key("lease") {
            knobs.lease_drift_permille = Some(drift.parse()?);
        }
        knobs.promote_learners = arguments.key("promote") != Some("off");
        self.cluster = match arguments.has("founding") {
            true => Cluster::founding(nodes),
            false => Cluster::with_knobs(nodes, knobs),
        };
        if let Some(leader) = arguments.key("leader") {
            self.cluster.make_leader(leader.parse()?);
        }
        self.cluster.trace.clear();
        Ok(())
    }

    /// Replaces what a stopped member's disk holds after the founding entry.
    fn fill_disk(&mut self, arguments: &Arguments<'_>) -> Fallible<()> {
        let node = self.cluster.node(arguments.member(0)?);
        if let Some(term) = arguments.key("term") {
            node.disk.hard.term = parse::term(term)?;
        }
        if let Some(vote) = arguments.key("vote") {
            node.disk.hard.vote = Some(who(vote)?);
        }
        if let Some(log) = arguments.key("log") {
            node.disk.entries.truncate(1);
            node.disk.entries.extend(parse::entries(log)?);
        }
        if let Some(slots) = arguments.key("damage") {
            node.disk.lost.extend(parse::slots(slots)?);
        }
        node.disk.cut = arguments.has("cut");
        Ok(())
    }

    /// A member has the file of a snapshot that was taken where nobody looked.
    fn make_file(&mut self, arguments: &Arguments<'_>) -> Fallible<()> {
        let meta = parse::meta(|key| arguments.key(key))?;
        let file = File { meta: meta.clone(), state: 0 };
        self.cluster.node(arguments.member(0)?).disk.files.insert(meta.position.index, file);
        Ok(())
    }

    /// Commands that move cores.
    fn act(&mut self, name: &str, arguments: &Arguments<'_>) -> Fallible<bool> {
        match name {
            "settle" => self.cluster.settle(),
            "run" => self.cluster.run_ms(arguments.number(0)?),
            "timeout" => self.time_out(arguments.member(0)?),
            "elapse" => {
                let nanos = self.cluster.now.as_nanos() + arguments.number(0)? * 1_000_000;
                self.cluster.now = meshraft_consensus::Moment::from_nanos(nanos);
            }
            "snapshot" => self.cluster.take_snapshot(arguments.member(0)?),
            "fetch" | "install" => self.cluster.transfer(arguments.member(0)?),
            "campaign" => self.cluster.input(arguments.member(0)?, Input::Campaign),
            "persist" => {
                self.cluster.persist(arguments.member(0)?).ok_or("nothing to write")?;
            }
            "deliver" | "drop" | "duplicate" => self.move_packets(name, arguments)?,
            "propose" => self.propose(arguments)?,
            "read" => {
                let level = match arguments.key("level") {
                    Some("lease") => ReadLevel::Lease,
                    _ => ReadLevel::Linearizable,
                };
                let id = ReadId::new(self.number());
                self.cluster.input(arguments.member(0)?, Input::Read { id, level });
            }
            "change" => self.change(arguments)?,
            "transfer" => {
                let to = arguments.positional.get(1).map(|name| who(name)).transpose()?;
                let id = ProposalId::new(self.number());
                self.cluster.input(arguments.member(0)?, Input::Transfer { id, to });
            }
            "fate" => {
                let fate = if arguments.has("found") { Fate::Found } else { Fate::Abandon };
                self.cluster.input(arguments.member(0)?, Input::FirstEntry(fate));
            }
            "applied" => {
                let me = arguments.member(0)?;
                self.cluster.report_applied(me);
                self.cluster.drain(me);
            }
            "up" => self.peer(arguments, Input::PeerUp)?,
            "down" => self.peer(arguments, Input::PeerDown)?,
            "seen" => {
                let (leader, at) = (arguments.member(1)?, self.cluster.now);
                self.cluster.input(arguments.member(0)?, Input::LeaderSeen { leader, at });
            }
            "vouch" => {
                let member = who(arguments.key("member").ok_or("member is missing")?)?;
                let at = Index::new(arguments.key("at").ok_or("at is missing")?.parse()?);
                let members = vec![(member, at)];
                self.cluster.input(arguments.member(0)?, Input::Vouch { members });
            }
            "wake" => self.cluster.input(arguments.member(0)?, Input::Wake),
            "receive" => {
                let from = who(arguments.key("from").ok_or("from is missing")?)?;
                let kind = arguments.positional.get(1).ok_or("a message is missing")?;
                let message = parse::message(kind, |key| arguments.key(key))?;
                self.cluster.input(arguments.member(0)?, Input::Receive { from, message });
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn peer(&mut self, arguments: &Arguments<'_>, input: fn(Member) -> Input) -> Fallible<()> {
        let peer = arguments.member(1)?;
        self.cluster.input(arguments.member(0)?, input(peer));
        Ok(())
    }

    fn time_out(&mut self, me: Member) {
        let due = self.cluster.node(me).core.as_ref().and_then(|core| core.deadline());
        self.cluster.now = self.cluster.now.max(due.unwrap_or_default());
        self.cluster.input(me, Input::Timeout);
    }

    /// `deliver 1 2` moves the oldest packet from 1 to 2; `all` moves each that is there now.
    fn move_packets(&mut self, name: &str, arguments: &Arguments<'_>) -> Fallible<()> {
        let (from, to) = (arguments.member(0)?, arguments.member(1)?);
        let nth = arguments.key("nth").map_or(Ok(0), str::parse::<usize>)?;
        let on_path = |packet: &crate::cluster::Packet| (packet.from, packet.to) == (from, to);
        let count = self.cluster.packets.iter().filter(|packet| on_path(packet)).count();
        let times = if arguments.has("all") { count } else { 1 };
        for _ in 0..times {
            let mut places = (0..self.cluster.packets.len())
                .filter(|place| on_path(&self.cluster.packets[*place]));
            let place = places.nth(nth).ok_or("no such packet")?;
            match name {
                "duplicate" => {
                    let copy = self.cluster.packets[place].clone();
                    self.cluster.packets.push_back(copy);
                }
                _ => {
                    let packet = self.cluster.packets.remove(place).ok_or("no such packet")?;
                    if name == "deliver" {
                        self.cluster.deliver(packet);
                    }
                }
            }
        }
        Ok(())
    }

    /// All commands are handed in before one drain; `bytes=100` makes them that long.
    fn propose(&mut self, arguments: &Arguments<'_>) -> Fallible<()> {
        let me = arguments.member(0)?;
        let bytes = arguments.key("bytes").map_or(Ok(0), str::parse::<usize>)?;
        for command in &arguments.positional[1..] {
            let mut command = command.as_bytes().to_vec();
            command.resize(command.len().max(bytes), b'.');
            let id = ProposalId::new(self.number());
            self.cluster.input_only(me, Input::Propose { id, command: command.into() });
        }
        self.cluster.drain(me);
        Ok(())
    }

    /// `change 1 add=4 promote=4 remove=3`.
    fn change(&mut self, arguments: &Arguments<'_>) -> Fallible<()> {
        let step = |(what, one): &(&str, &str)| -> Fallible<ChangeStep> {
            let one = who(one)?;
            match *what {
                "add" => Ok(ChangeStep::AddLearner(one)),
                "promote" => Ok(ChangeStep::Promote(one)),
                "demote" => Ok(ChangeStep::Demote(one)),
                "remove" => Ok(ChangeStep::Remove(one)),
                _ => Err("a step adds, promotes, demotes or removes".into()),
            }
        };
        let steps = arguments.keyed.iter().map(step).collect::<Fallible<_>>()?;
        let id = ProposalId::new(self.number());
        self.cluster.input(arguments.member(0)?, Input::Change { id, change: Change { steps } });
        Ok(())
    }
}

//! Golden scenarios: several nodes in one script, which says what is delivered, written and lost.
//!
//! Messages wait in one queue per ordered pair of nodes, writes in one queue per node, until the
//! script moves them. A node's group is not run: the script says who leads and what is decided.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::error::Error;
use std::fmt::Write;
use std::path::Path;
use std::time::Duration;

use goldenscript::{ArgumentConsumer, Command, Context, Runner};
use meshraft_consensus::{ClusterId, Fate, Index, Member, Moment, NodeId, Term};
use meshraft_discovery::{
    Ballot, FounderSet, Founding, FoundingConfig, Record,
    founding::{Admission, Input, Output, RecordId},
    wire::{Binding, Message, NotAdmitted, Refusal, Standing},
};

use crate::notation::{Names, letter, member, member_name, node};
use crate::world::namespace;

test_each_file::test_each_path! { in "./discovery/testdata/founding" as scenarios => scenario }

fn scenario(path: &Path) {
    goldenscript::run(&mut Script::default(), path).unwrap();
}

type Done = Result<(), Box<dyn Error>>;

#[derive(Default)]
struct Script {
    now: Moment,
    nodes: BTreeMap<char, Node>,
    sent: BTreeMap<(char, char), VecDeque<(Member, Message)>>,
    delivered: BTreeMap<(char, char), (Member, Message)>,
    names: Names,
    text: String,
}

struct Node {
    expect: u16,
    found: bool,
    targets: usize,
    force: bool,
    voters: usize,
    keyed: bool,
    incarnation: u8,
    record: Record,
    /// `None` while the process is down.
    founding: Option<Founding>,
    writes: VecDeque<(RecordId, Record)>,
}

impl Runner for Script {
    type Command = Command;

    fn run(&mut self, command: &Command, _: &Context) -> Result<String, Box<dyn Error>> {
        let mut args = command.consume_args();
        match command.name.as_str() {
            // nodes a b c [expect=N] [found=false] [targets=N] [force=true] [voters=N]
            // [keyed=false]
            "nodes" => self.create(&mut args)?,
            // up a b c: all of them see each other.
            "up" => self.links(&letters(&mut args)?, Input::PeerUp),
            "down" => self.links(&letters(&mut args)?, Input::PeerDown),
            // known a b: the id of b is configured at a.
            "known" => {
                let (at, of) = (one(&mut args)?, one(&mut args)?);
                self.input(at, Input::Known(node(of)));
            }
            // deliver | deliver a (all to a) | deliver a b (from a to b)
            "deliver" => self.deliver(&letters(&mut args)?),
            // drop a b: what waits from a to b is lost.
            "drop" => {
                let (from, to) = (one(&mut args)?, one(&mut args)?);
                self.sent.remove(&(from, to));
            }
            // repeat a b: what was delivered last from a to b arrives again.
            "repeat" => {
                let (from, to) = (one(&mut args)?, one(&mut args)?);
                let last = self.delivered.get(&(from, to)).cloned().ok_or("nothing to repeat")?;
                self.receive(to, last);
            }
            // persist [a b]: the writes under way are durable.
            "persist" => {
                let which = letters(&mut args)?;
                let which = if which.is_empty() { self.letters() } else { which };
                which.into_iter().for_each(|at| self.persist(at));
            }
            // settle: everything is written and delivered until nothing moves any more.
            "settle" => self.settle(),
            "advance" => {
                let wait = args.next_pos().ok_or("how many ms?")?.parse()?;
                self.advance(wait);
            }
            _ => self.life_command(command, &mut args)?,
        }
        args.reject_next()?;
        Ok(std::mem::take(&mut self.text))
    }
}

impl Script {
    /// What happens to processes and disks, and what they are asked.
    fn life_command(&mut self, command: &Command, args: &mut ArgumentConsumer<'_>) -> Done {
        match command.name.as_str() {
            "crash" => letters(args)?.into_iter().for_each(|at| self.crash(at)),
            "restart" => {
                for at in letters(args)? {
                    self.crash(at);
                    self.start(at);
                }
            }
            // force a b: whether each could be told to found alone.
            "force" => {
                for at in letters(args)? {
                    let verdict = match Founding::check_force(&self.node(at)?.record) {
                        Ok(()) => "may be forced".into(),
                        Err(error) => format!("{error}").chars().take(25).collect::<String>(),
                    };
                    writeln!(self.text, "{at} {verdict}")?;
                }
            }
            // renew a: its store went back in time, and the process goes on as another member.
            "renew" => {
                for at in letters(args)? {
                    let renewed = self.node(at)?.record.renewed();
                    self.wipe(at, renewed)?;
                }
            }
            // wipe a: the disk is lost and the process starts with an empty one.
            "wipe" => {
                for at in letters(args)? {
                    self.wipe(at, Record::default())?;
                }
            }
            "waiting" => {
                for at in letters(args)? {
                    let waiting = self.waiting(at)?;
                    writeln!(self.text, "{at} {waiting}")?;
                }
            }
            "records" => {
                for (at, it) in &self.nodes {
                    writeln!(self.text, "{at} {}", self.names.record(&it.record))?;
                }
            }
            _ => self.group_command(command, args)?,
        }
        Ok(())
    }

    /// The node at this letter comes back with another disk, and so as another member.
    fn wipe(&mut self, at: char, record: Record) -> Done {
        self.crash(at);
        let it = self.node(at)?;
        it.incarnation += 1;
        it.record = record;
        self.start(at);
        Ok(())
    }

    /// What the driver tells about groups, admissions, and forged messages.
    fn group_command(&mut self, command: &Command, args: &mut ArgumentConsumer<'_>) -> Done {
        let at = one(args)?;
        let named = args.take_key("in").map(|name| self.names.find(name).ok_or("no such cluster"));
        let cluster = match named {
            Some(cluster) => cluster?,
            None => self.bound(at)?,
        };
        if matches!(command.name.as_str(), "propose" | "claim" | "admit" | "refuse") {
            return self.forge_command(command, at, args);
        }
        let input = match command.name.as_str() {
            "led" => {
                let term = args.take_key("term").unwrap_or("1").parse()?;
                Input::Led { cluster, term: Term::new(term) }
            }
            "decided" => {
                let fate = match args.next_pos() {
                    Some("found") => Fate::Found,
                    Some("abandon") => Fate::Abandon,
                    _ => return Err("found or abandon?".into()),
                };
                Input::Decided { cluster, fate }
            }
            "heard" => {
                let whom = one(args)?;
                let member = self.node(whom)?.member(whom);
                Input::Heard { cluster, member }
            }
            // admission a d ok|no_leader|denied: how d's admission by a ended.
            "admission" => {
                let who = one(args)?;
                let member = self.node(who)?.member(who);
                let members = vec![self.node(at)?.member(at)];
                let result = match args.next_pos() {
                    Some("ok") => {
                        Ok(Admission { index: Index::new(7), members, cards: Vec::new() })
                    }
                    Some("no_leader") => Err(NotAdmitted::NoLeader),
                    Some("denied") => Err(NotAdmitted::Denied),
                    _ => return Err("ok, no_leader or denied?".into()),
                };
                Input::AdmissionResolved { member, result }
            }
            other => told(other, cluster).ok_or_else(|| format!("unknown command {other}"))?,
        };
        self.input(at, input);
        Ok(())
    }

    /// Messages that a node says although it would not.
    fn forge_command(
        &mut self,
        command: &Command,
        at: char,
        args: &mut ArgumentConsumer<'_>,
    ) -> Done {
        match command.name.as_str() {
            // propose a b abc counter=N [coordinator=c]: a proposes what a correct node might not.
            "propose" => {
                let to = one(args)?;
                let named = args.next_pos().ok_or("which founders?")?;
                let counter = args.take_key("counter").ok_or("which counter?")?.parse()?;
                let coordinator = args.take_key("coordinator").and_then(|it| it.chars().next());
                let ballot = Ballot { counter, coordinator: node(coordinator.unwrap_or(at)) };
                let mut members = BTreeSet::new();
                for founder in named.chars() {
                    members.insert(self.node(founder)?.member(founder));
                }
                let founders = FounderSet::new(ballot, members)?;
                self.names.learn(&founders);
                self.forge(at, to, Message::Propose(founders))
            }
            // claim a b NAME: a says that it lives in a cluster, of this name or an invented one.
            "claim" => {
                let (to, cluster) = (one(args)?, self.claimed(args)?);
                let binding = Binding::Living { cluster };
                let standing = Standing { seen: Ballot::NONE, expect: None, binding };
                self.forge(at, to, Message::CanvassAnswer(standing))
            }
            // admit a b NAME: a says that this cluster admitted b.
            "admit" => {
                let to = one(args)?;
                let (cluster, member) = (self.claimed(args)?, self.node(to)?.member(to));
                let (index, members) = (Index::new(7), BTreeSet::from([self.node(at)?.member(at)]));
                let said = Message::Admitted { cluster, member, index, members, cards: Vec::new() };
                self.forge(at, to, said)
            }
            // refuse a b: a refuses the set that b holds, whether or not it may.
            "refuse" => {
                let to = one(args)?;
                let cluster = self.bound(to)?;
                let standing =
                    Standing { seen: Ballot::NONE, expect: None, binding: Binding::Free };
                let why = Refusal::Stale;
                self.forge(at, to, Message::Refused { cluster, why, standing })
            }
            other => Err(format!("unknown command {other}").into()),
        }
    }

    /// The cluster of this name; one that nobody founded is invented.
    fn claimed(&mut self, args: &mut ArgumentConsumer<'_>) -> Result<ClusterId, Box<dyn Error>> {
        let name = args.next_pos().ok_or("which cluster?")?;
        Ok(self.names.find(name).unwrap_or_else(|| self.names.invent(name)))
    }

    fn forge(&mut self, from: char, to: char, message: Message) -> Done {
        let from = self.node(from)?.member(from);
        self.receive(to, (from, message));
        Ok(())
    }

    /// The set that a node is bound to, or else its cluster.
    fn bound(&mut self, at: char) -> Result<ClusterId, Box<dyn Error>> {
        let record = match &self.node(at)?.founding {
            Some(founding) => founding.record().clone(),
            None => return Err("it is down".into()),
        };
        let promised = record.promise.map(|founders| founders.id(&namespace()));
        Ok(record.cluster.or(promised).unwrap_or(ClusterId::new([0; 32])))
    }

    fn create(&mut self, args: &mut ArgumentConsumer<'_>) -> Done {
        let expect = args.take_key("expect").unwrap_or("0").parse()?;
        let found = args.take_key("found").unwrap_or("true").parse()?;
        let targets = args.take_key("targets").unwrap_or("0").parse()?;
        let force = args.take_key("force").unwrap_or("false").parse()?;
        let voters = args.take_key("voters").unwrap_or("5").parse()?;
        let keyed = args.take_key("keyed").unwrap_or("true").parse()?;
        for at in letters(args)? {
            let it = Node {
                expect,
                found,
                targets,
                force,
                voters,
                keyed,
                incarnation: 1,
                record: Record::default(),
                founding: None,
                writes: VecDeque::new(),
            };
            self.nodes.insert(at, it);
            self.start(at);
        }
        Ok(())
    }

    fn node(&mut self, at: char) -> Result<&mut Node, Box<dyn Error>> {
        self.nodes.get_mut(&at).ok_or_else(|| format!("no node {at}").into())
    }

    fn letters(&self) -> Vec<char> {
        self.nodes.keys().copied().collect()
    }

    fn start(&mut self, at: char) {
        let now = self.now;
        let Some(it) = self.nodes.get_mut(&at) else { return };
        let config = FoundingConfig {
            namespace: namespace(),
            me: it.member(at),
            expect: core::num::NonZeroU16::new(it.expect),
            found: it.found,
            window: Duration::from_secs(5),
            election_max: Duration::from_secs(1),
            seed: u64::from(at as u32),
            targets: it.targets,
            keyed: it.keyed,
            threshold_percent: FoundingConfig::THRESHOLD_PERCENT,
            force: it.force,
            voters_target: it.voters,
        };
        it.founding = Some(Founding::new(config, it.record.clone(), now));
        self.drain(at);
    }

    fn crash(&mut self, at: char) {
        if let Some(it) = self.nodes.get_mut(&at) {
            it.founding = None;
            it.writes.clear();
        }
    }

    fn links(&mut self, which: &[char], input: impl Fn(NodeId) -> Input) {
        for at in which {
            for other in which.iter().filter(|other| *other != at) {
                self.input(*at, input(node(*other)));
            }
        }
    }

    fn deliver(&mut self, which: &[char]) {
        let moves = |pair: &(char, char)| match which {
            [] => true,
            [to] => pair.1 == *to,
            [from, to, ..] => *pair == (*from, *to),
        };
        let pairs: Vec<_> = self.sent.keys().copied().filter(moves).collect();
        let taken: Vec<_> =
            pairs.iter().map(|pair| (*pair, self.sent.remove(pair).unwrap_or_default())).collect();
        for (pair, messages) in taken {
            for message in messages {
                self.delivered.insert(pair, message.clone());
                self.receive(pair.1, message);
            }
        }
    }

    fn receive(&mut self, to: char, (from, message): (Member, Message)) {
        let said = self.names.message(&message);
        if let Some(Node { founding: Some(_), .. }) = self.nodes.get(&to) {
            let _ = writeln!(self.text, "{to} <- {} {said}", member_name(&from));
            let message = Message::decode(&message.encode()).unwrap();
            self.input(to, Input::Receive { from, message });
        }
    }

    fn persist(&mut self, at: char) {
        let Some(it) = self.nodes.get_mut(&at) else { return };
        let last = std::mem::take(&mut it.writes).pop_back();
        if let Some((id, record)) = last {
            it.record = record;
            let _ = writeln!(self.text, "{at} w{} is durable", id.get());
            self.input(at, Input::Persisted(id));
        }
    }

    fn settle(&mut self) {
        while !self.sent.is_empty() || self.nodes.values().any(|it| !it.writes.is_empty()) {
            self.letters().into_iter().for_each(|at| self.persist(at));
            self.deliver(&[]);
        }
    }

    fn advance(&mut self, wait_ms: u64) {
        let end = self.now.plus(Duration::from_millis(wait_ms));
        loop {
            let next = (self.nodes.iter())
                .filter_map(|(at, it)| Some((it.founding.as_ref()?.deadline()?, *at)))
                .filter(|(deadline, _)| *deadline <= end)
                .min();
            let Some((deadline, at)) = next else { break };
            self.now = self.now.max(deadline);
            self.input(at, Input::Timeout);
        }
        self.now = end;
    }

    fn waiting(&mut self, at: char) -> Result<String, Box<dyn Error>> {
        let founding = self.node(at)?.founding.as_ref().ok_or("it is down")?;
        let phase = format!("{:?}", founding.phase()).to_lowercase();
        Ok(match founding.waiting() {
            None => phase,
            Some(it) => {
                let missing: String = it.missing.into_iter().map(letter).collect();
                let code = it.code.as_str();
                let why = it.why.map_or(String::new(), |why| format!(" ({why})"));
                let (have, need) = (it.have, it.need);
                format!("{phase}, waits for {code} {have} of {need} missing=[{missing}]{why}")
            }
        })
    }

    fn input(&mut self, at: char, input: Input) {
        let now = self.now;
        if let Some(founding) = self.nodes.get_mut(&at).and_then(|it| it.founding.as_mut()) {
            founding.handle(now, input);
            self.drain(at);
        }
    }

    fn drain(&mut self, at: char) {
        while let Some(it) = self.nodes.get_mut(&at)
            && let Some(output) = it.founding.as_mut().and_then(Founding::poll)
        {
            if let Output::Persist { id, record, .. } = &output {
                it.writes.push_back((*id, record.clone()));
                record.promise.iter().for_each(|founders| self.names.learn(founders));
            }
            if let Output::Send { to, message } = &output {
                let from = it.member(at);
                let queue = self.sent.entry((at, letter(*to))).or_default();
                queue.push_back((from, message.clone()));
            }
            let _ = writeln!(self.text, "{at} {}", self.names.output(&output));
        }
    }
}

impl Node {
    fn member(&self, at: char) -> Member {
        member(at, self.incarnation)
    }
}

/// What a driver tells of a group in one word.
fn told(name: &str, cluster: ClusterId) -> Option<Input> {
    Some(match name {
        "deposed" => Input::Deposed { cluster },
        "empty" => Input::Empty { cluster },
        // arrived a in=NAME: the first entry of the cluster that a tries is there.
        "arrived" => Input::Arrived { cluster },
        "arriving" => Input::Arriving { cluster },
        "leave" => Input::Leave,
        "departed" => Input::Departed { cluster },
        "returned" => Input::Returned { cluster },
        "rejoin" => Input::Rejoin,
        _ => return None,
    })
}

fn one(args: &mut ArgumentConsumer<'_>) -> Result<char, Box<dyn Error>> {
    let text = args.next_pos().ok_or("which node?")?;
    match text.chars().next() {
        Some(letter) if text.len() == 1 => Ok(letter),
        _ => Err(format!("{text} is no letter").into()),
    }
}

fn letters(args: &mut ArgumentConsumer<'_>) -> Result<Vec<char>, Box<dyn Error>> {
    std::iter::from_fn(|| args.next_pos())
        .map(|text| text.chars().next().ok_or_else(|| "an empty name".into()))
        .collect()
}

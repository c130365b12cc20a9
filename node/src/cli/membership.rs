//! The commands that change who takes part and who leads: `leave`, `remove`, `join`, `transfer`.
//!
//! Each asks once in a while until it is done or its time is over, and tells on standard error what
//! it waits for whenever that changes. Exit codes: 0 done, 1 failed, 2 usage.

use std::{
    io::{self, Write as _},
    process::ExitCode,
    time::Duration,
};

use meshraft::{CallError, Client, Member, NodeRole, ServiceError, Status};
use meshraft_consensus::NodeId;
use meshraft_service::limits;
use meshraft_transport::{
    PeerAddress,
    identity::{node_id, peer_id},
};
use tokio::time::{Instant, sleep};

use super::{
    ChangeArgs, DONE, FAILED, Global, JoinArgs, LeaveArgs, RemoveArgs, TransferArgs,
    answer::{self, failure_object},
    connect::{self, Reach},
    json::Object,
    usage,
};

/// How long one of several attempts may take; the next one tells what changed meanwhile.
const ATTEMPT: Duration = Duration::from_secs(10);
/// How long is waited between two looks at a node.
const LOOK: Duration = Duration::from_millis(200);
/// The longest time-out of a command.
const TIMEOUT_MAX: Duration = Duration::from_secs(3600);

/// `meshraft leave`.
pub(crate) fn leave(args: &LeaveArgs, global: &Global) -> ExitCode {
    run(&args.change, global, Reach::Named, async |command| {
        let node = command.asked_node().await?;
        command.say("leaving", &peer_id(node).to_string());
        command.again(async |client| client.leave(node).await).await?;
        Ok(command.told(node, "left"))
    })
}

/// `meshraft remove`.
pub(crate) fn remove(args: &RemoveArgs, global: &Global) -> ExitCode {
    let node = match node_id(args.peer) {
        Ok(node) => node,
        Err(error) => return usage(format_args!("PEER_ID: {error}")),
    };
    run(&args.change, global, Reach::All, async |command| {
        command.say("removing", &args.peer.to_string());
        let members = match command.again(async |client| client.remove(node).await).await {
            // An earlier attempt removed it, or somebody else did: what was asked for is so.
            Err(Failure::Call(CallError::Service(ServiceError::UnknownMember { .. })))
                if command.uncertain =>
            {
                Vec::new()
            }
            members => members?,
        };
        Ok(command.told(node, "removed").with_members(&members))
    })
}

/// `meshraft join`.
pub(crate) fn join(args: &JoinArgs, global: &Global) -> ExitCode {
    run(&args.change, global, Reach::Named, async |command| {
        let node = command.asked_node().await?;
        command.again(async |client| client.rejoin(node).await).await?;
        let role = command.until_member(node).await?;
        Ok(command.told(node, answer::role(role)))
    })
}

/// `meshraft transfer`.
pub(crate) fn transfer(args: &TransferArgs, global: &Global) -> ExitCode {
    let to = match args.peer.map(node_id).transpose() {
        Ok(to) => to,
        Err(error) => return usage(format_args!("PEER_ID: {error}")),
    };
    run(&args.change, global, Reach::All, async |command| {
        let name = args.peer.map_or_else(|| "another voter".into(), |peer| peer.to_string());
        command.say("handing over to", &name);
        let leader = command.again(async |client| client.transfer(to).await).await?;
        Ok(command.told(leader, "leader"))
    })
}

/// What a command that is done prints.
struct Told {
    node: NodeId,
    what: &'static str,
    members: Option<Vec<String>>,
}

impl Told {
    /// Who takes part now, if anybody said so.
    fn with_members(mut self, members: &[Member]) -> Self {
        let name = |member: &Member| peer_id(member.node).to_string();
        self.members = (!members.is_empty()).then(|| members.iter().map(name).collect());
        self
    }

    fn print(&self, json: bool) -> io::Result<()> {
        let mut output = io::stdout().lock();
        let peer = peer_id(self.node).to_string();
        if json {
            let object = Object::new().with("ok", true).with("peer", &peer);
            let object = object.with("state", self.what);
            let object = match &self.members {
                Some(members) => object.with("members", members),
                None => object,
            };
            writeln!(output, "{}", object.line())?;
        } else {
            writeln!(output, "{:<12} {peer}", self.what)?;
            for member in self.members.iter().flatten() {
                writeln!(output, "{:<12} {member}", "member")?;
            }
        }
        output.flush()
    }
}

/// Why a command failed.
enum Failure {
    Call(CallError),
    /// The time is over while the node was on its way.
    NotYet {
        role: NodeRole,
        waited: Duration,
    },
}

impl From<CallError> for Failure {
    fn from(error: CallError) -> Self {
        Self::Call(error)
    }
}

impl Failure {
    /// A definite no to the last attempt says nothing of an earlier one that is `uncertain`.
    fn after(self, uncertain: bool) -> Self {
        match self {
            Self::Call(CallError::Service(error)) if uncertain && !error.maybe() => {
                Self::Call(CallError::Service(ServiceError::OutcomeUnknown))
            }
            failure => failure,
        }
    }
}

/// A command under way.
struct Command {
    client: Client,
    via: Option<NodeId>,
    deadline: Instant,
    timeout: Duration,
    json: bool,
    said: Option<String>,
    /// Whether an earlier attempt may have taken effect.
    uncertain: bool,
}

fn run(
    args: &ChangeArgs,
    global: &Global,
    reach: Reach,
    act: impl AsyncFnOnce(&mut Command) -> Result<Told, Failure>,
) -> ExitCode {
    if args.timeout.is_zero() || args.timeout > TIMEOUT_MAX {
        return usage("--timeout must be above 0 and at most 1h");
    }
    let via = match args.via.map(node_id).transpose() {
        Ok(via) => via,
        Err(error) => return usage(format_args!("--via: {error}")),
    };
    match args.target.addresses() {
        Err(error) => return usage(format_args!("--peer: {error}")),
        Ok(peers) if reach == Reach::Named && via.is_none() && !names_one(&peers) => {
            return usage("name the node that is meant: by one --peer ADDRESS, or by --via PEER");
        }
        Ok(_) => {}
    }
    let reach = if via.is_some() { Reach::All } else { reach };
    let json = global.json;
    connect::with_client(&args.target, global, reach, async |client| {
        let deadline = Instant::now() + args.timeout;
        let timeout = args.timeout;
        let mut command =
            Command { client, via, deadline, timeout, json, said: None, uncertain: false };
        let code = match act(&mut command).await {
            Ok(told) => told.print(json).map_or(FAILED, |()| DONE),
            Err(failure) => fail(&failure.after(command.uncertain), json),
        };
        ExitCode::from(code)
    })
}

/// Whether the command line leads to one node: by one address, or by several with the same id.
fn names_one(peers: &[PeerAddress]) -> bool {
    let name = PeerAddress::node;
    match peers {
        [] => false,
        [_] => true,
        [first, rest @ ..] => {
            name(first).is_some() && rest.iter().all(|address| name(address) == name(first))
        }
    }
}

fn fail(failure: &Failure, json: bool) -> u8 {
    let object = match failure {
        Failure::Call(error) => {
            if !json {
                eprintln!("error: {}: {error}", error.code());
            }
            failure_object(error)
        }
        Failure::NotYet { role, waited } => {
            let (role, millis) = (answer::role(*role), waited.as_millis());
            let message = format!("not a member after {millis} ms, still {role}; it goes on");
            if !json {
                eprintln!("error: timeout: {message}");
            }
            let object = Object::new().with("ok", false).with("error", "timeout");
            object.with("maybe", true).with("message", message)
        }
    };
    if json {
        // Fails only if standard output is gone, and then nobody reads.
        let _ = writeln!(io::stdout(), "{}", object.line());
    }
    FAILED
}

impl Command {
    /// What is left, within what one call may take.
    fn left(&self) -> Duration {
        let left = self.deadline.saturating_duration_since(Instant::now());
        let longest = Duration::from_millis(limits::TIMEOUT_MS.1.into()).min(ATTEMPT);
        left.clamp(Duration::from_millis(limits::TIMEOUT_MS.0.into()), longest)
    }

    fn over(&self) -> bool {
        Instant::now() >= self.deadline
    }

    /// The node that is meant: the one of `--via`, else the one that answers at `--peer`.
    async fn asked_node(&mut self) -> Result<NodeId, Failure> {
        match self.via {
            Some(node) => Ok(node),
            None => Ok(self.again(async |client| client.status().await).await?.node),
        }
    }

    /// Calls until there is an answer that another attempt would not better.
    async fn again<T>(
        &mut self,
        call: impl AsyncFn(Client) -> Result<T, CallError>,
    ) -> Result<T, Failure> {
        loop {
            let mut client = self.client.timeout(self.left());
            if let Some(via) = self.via {
                client = client.via(via);
            }
            let error = match call(client).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            if self.over() || !passes(&error) {
                return Err(Failure::Call(error));
            }
            self.uncertain |= error.maybe_applied();
            self.say("still waiting", &error.to_string());
            sleep(LOOK).await;
        }
    }

    /// Waits until the node is a member, and tells each step on the way.
    async fn until_member(&mut self, node: NodeId) -> Result<NodeRole, Failure> {
        loop {
            let client = self.client.timeout(self.left()).via(node);
            match client.status().await {
                Ok(status) if is_member(&status, node) => return Ok(status.role),
                Ok(status) if self.over() => {
                    return Err(Failure::NotYet { role: status.role, waited: self.timeout });
                }
                Ok(status) => {
                    let step = answer::waiting_text(&status);
                    self.say(answer::role(status.role), &step);
                }
                Err(error) if self.over() || !passes(&error) => return Err(Failure::Call(error)),
                Err(error) => self.say("still waiting", &error.to_string()),
            }
            sleep(LOOK).await;
        }
    }

    fn told(&self, node: NodeId, what: &'static str) -> Told {
        Told { node, what, members: None }
    }

    /// Tells a person what is going on, once.
    fn say(&mut self, what: &str, more: &str) {
        let line = if more.is_empty() { what.to_owned() } else { format!("{what}: {more}") };
        if !self.json && self.said.as_ref() != Some(&line) {
            eprintln!("{line}");
            self.said = Some(line);
        }
    }
}

/// Whether a node has got the configuration in which it takes part.
fn is_member(status: &Status, node: NodeId) -> bool {
    matches!(
        status.role,
        NodeRole::Follower | NodeRole::Candidate | NodeRole::Leader | NodeRole::Learner
    ) && status.members.iter().any(|it| it.member.node == node)
        && status.leader.is_some()
}

/// Whether another attempt may end otherwise.
const fn passes(error: &CallError) -> bool {
    match error {
        CallError::NotReached { .. } => true,
        CallError::Service(error) => matches!(
            error,
            ServiceError::NoLeader
                | ServiceError::Timeout { .. }
                | ServiceError::OutcomeUnknown
                | ServiceError::ChangeInProgress
                | ServiceError::Founding
                | ServiceError::Overloaded
        ),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_node_is_meant_by_one_address_or_by_one_id() {
        let address = |text: &str| text.parse::<PeerAddress>().unwrap();
        let id = "12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp";
        let [one, two] = ["/ip4/10.0.0.1/tcp/1", "/ip6/::1/tcp/1"].map(address);
        let [named, also] = ["/ip4/10.0.0.1/tcp/1", "/ip6/::1/tcp/1"]
            .map(|text| address(&format!("{text}/p2p/{id}")));
        assert!(names_one(std::slice::from_ref(&one)) && names_one(&[named.clone(), also]));
        assert!(!names_one(&[]) && !names_one(&[one.clone(), two]) && !names_one(&[named, one]));
    }
}

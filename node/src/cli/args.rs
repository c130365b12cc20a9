//! The clap definition of the whole command line.
//!
//! Values are checked while they are parsed, so that a command never sees an invalid namespace:
//! clap names the option and quotes the value, and exits with 2. Addresses are checked afterwards,
//! all of them, so that each one that can't be used is told with its reason.

use std::{
    num::{NonZeroU16, NonZeroU64},
    path::PathBuf,
    time::Duration,
};

use clap::{Args, Parser, Subcommand, ValueEnum};
use libp2p::PeerId;
use meshraft::{Founders, Voters};
use meshraft_consensus::{Namespace, NamespaceError};
use meshraft_transport::{AddressErrors, PeerAddress};

use super::{key_args::KeyArgs, values};

const EXAMPLES: &str = "\
Examples:
  meshraft demo
      three real nodes on this machine: watch them form, fail over and heal
  meshraft serve --data-dir ./a -n /jobs/cron --expect 3 --listen /ip4/127.0.0.1/tcp/4001
  meshraft serve --data-dir ./b -n /jobs/cron --expect 3 --peer /ip4/127.0.0.1/tcp/4001
  meshraft serve --data-dir ./c -n /jobs/cron --expect 3 --peer /ip4/127.0.0.1/tcp/4001
      three nodes that find each other and found one cluster
  meshraft set -n /jobs/cron --peer /ip4/127.0.0.1/tcp/4001 greeting hello
  meshraft get -n /jobs/cron --peer /ip4/127.0.0.1/tcp/4001 greeting

Exit codes: 0 done, 1 failed or key absent, 2 usage or bad input.
RUST_LOG=meshraft=debug shows what a node does, on standard error.";

const SERVE_EXAMPLES: &str = "\
Examples:
  meshraft serve --data-dir ./a -n /jobs/cron --expect 3 --listen /ip4/0.0.0.0/tcp/4001
      the first of three: waits until two more are there, then founds
  meshraft serve --data-dir ./b -n /jobs/cron --expect 3 --peer /ip4/10.0.0.1/tcp/4001
      another one; one address of any node is enough, the rest is learned
  meshraft serve --data-dir ./d -n /jobs/cron --peer /ip4/10.0.0.1/tcp/4001
      without --expect it joins a living cluster; where none answers it founds one with whom it
      sees within the --window, those seen after --threshold of it being late joiners
  meshraft serve --data-dir ./e -n /jobs/cron --join-only --peer /ip4/10.0.0.1/tcp/4001
      never founds: it joins a living cluster, or goes on where it was
  head -c 32 /dev/urandom > key && meshraft serve --data-dir ./a -n /jobs/cron --key-file key
      only peers and clients with the same key take part, and all traffic is sealed with it

Standard output has one JSON line once it listens, and one per change after that:
  {\"event\":\"listening\",\"peer\":\"12D3…\",\"addrs\":[\"/ip4/…/tcp/…/p2p/12D3…\"]}
  {\"event\":\"leader\",\"namespace\":\"/jobs/cron\",\"leader\":\"12D3…\",\"term\":2}
SIGINT and SIGTERM end it in order, with exit code 0.";

const PIPE_EXAMPLES: &str = "\
Standard input has one request per line, standard output one answer per line, in any order:
  {\"id\":1,\"op\":\"set\",\"key\":\"k\",\"value\":\"v\"}
  {\"id\":2,\"op\":\"get\",\"key\":\"k\",\"read\":\"linearizable\"}
  {\"id\":3,\"op\":\"get\",\"key\":\"k\",\"barrier_ms\":2000}
  {\"id\":4,\"op\":\"keys\",\"prefix\":\"\",\"limit\":100}
Answers: {\"id\":1,\"ok\":true,…} or {\"id\":1,\"ok\":false,\"error\":CODE,\"maybe\":false,\"message\":…};
\"maybe\":true means that the request may have taken effect.";

const CHANGE_EXAMPLES: &str = "\
Examples:
  meshraft leave  -n /jobs/cron --peer /ip4/10.0.0.2/tcp/4001
      the node at that address leaves; it keeps its data and runs on
  meshraft join   -n /jobs/cron --peer /ip4/10.0.0.2/tcp/4001
      and comes back
  meshraft remove -n /jobs/cron --peer /ip4/10.0.0.1/tcp/4001 12D3KooW…
      any member takes another one out, also one that is gone for good

Progress goes to standard error. Exit codes: 0 done, 1 failed, 2 usage.";

/// Consensus that just works on a peer-to-peer mesh.
#[derive(Parser, Debug)]
#[command(name = "meshraft", version, about, after_help = EXAMPLES)]
pub(crate) struct Cli {
    /// The namespace: UTF-8, 1 to 255 bytes, no control characters; `serve` takes several.
    #[arg(short = 'n', long = "namespace", value_name = "NS", global = true)]
    #[arg(value_parser = namespace)]
    pub(crate) namespaces: Vec<Namespace>,
    /// Print JSON, for programs.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

/// The options that every command takes.
#[derive(Clone, Debug)]
pub(crate) struct Global {
    /// The namespaces, in the order given.
    pub(crate) namespaces: Vec<Namespace>,
    /// Whether to print JSON.
    pub(crate) json: bool,
}

impl Global {
    /// The one namespace of a command that takes exactly one.
    ///
    /// # Errors
    /// A line for standard error, if there is none or more than one.
    pub(crate) fn one_namespace(&self) -> Result<&Namespace, &'static str> {
        match self.namespaces.as_slice() {
            [namespace] => Ok(namespace),
            [] => Err("--namespace NS is needed"),
            _ => Err("--namespace can be given only once here"),
        }
    }
}

/// The commands.
#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// Show it all on this machine: three nodes, writes, a killed leader, fail-over, rejoin.
    Demo,
    /// Run a node that hosts namespaces, until it is told to end.
    #[command(after_help = SERVE_EXAMPLES)]
    Serve(ServeArgs),
    /// Drive a namespace with JSON lines, from any language.
    #[command(after_help = PIPE_EXAMPLES)]
    Pipe(PipeArgs),
    /// Print the value of a key; exit code 1 if it is absent.
    Get(GetArgs),
    /// Set a key to a value.
    Set(SetArgs),
    /// Delete a key.
    Delete(DeleteArgs),
    /// List keys, in byte order.
    Keys(KeysArgs),
    /// What one node says of a namespace: role, leader, log, members, what it waits for.
    Status(StatusArgs),
    /// Who takes part in a namespace.
    Members(MembersArgs),
    /// Let the node at --peer leave its cluster; it comes back when it starts again, or by `join`.
    #[command(after_help = CHANGE_EXAMPLES)]
    Leave(LeaveArgs),
    /// Take a node out of the cluster; it stays out until it is told to `join`.
    #[command(after_help = CHANGE_EXAMPLES)]
    Remove(RemoveArgs),
    /// Let the node at --peer, which left or was removed, ask to come back.
    #[command(after_help = CHANGE_EXAMPLES)]
    Join(JoinArgs),
    /// Hand leadership over, to a voter that is named or that the leader chooses.
    #[command(after_help = CHANGE_EXAMPLES)]
    Transfer(TransferArgs),
    /// Release a stopped node from its cluster, on its own data folder, by the operator's word.
    #[command(after_help = super::forget::EXAMPLES)]
    Forget(super::forget::ForgetArgs),
}

/// Options of `serve`.
#[derive(Args, Clone, Debug)]
pub(crate) struct ServeArgs {
    /// Where the node keeps its identity and its log; created if it is not there.
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: PathBuf,
    /// Where to listen; may be given several times [default: /ip4/0.0.0.0/tcp/0].
    #[arg(long, value_name = "MULTIADDR")]
    pub(crate) listen: Vec<String>,
    /// A peer to start from: HOST:PORT, or a multiaddr with or without /p2p/; may be given several
    /// times. Names are looked up at each dial.
    #[arg(long = "peer", value_name = "ADDRESS")]
    pub(crate) peers: Vec<String>,
    /// Neither look for peers on the local network nor announce this node there.
    #[arg(long)]
    pub(crate) no_mdns: bool,
    /// Start with an identity file that others than its owner may read or change, as on a volume
    /// whose modes can't be chosen.
    #[arg(long)]
    pub(crate) allow_open_identity: bool,
    #[command(flatten)]
    pub(crate) founders: FoundersArgs,
    /// Time-outs for this distance between the nodes.
    #[arg(long, value_enum, default_value_t = TimingName::Lan)]
    pub(crate) timing: TimingName,
    /// The leader's heartbeat, in milliseconds, instead of the preset's.
    #[arg(long, value_name = "MS", value_parser = milliseconds)]
    pub(crate) heartbeat: Option<Duration>,
    /// The shortest election time-out, in milliseconds (the longest is twice that).
    #[arg(long, value_name = "MS", value_parser = milliseconds)]
    pub(crate) election: Option<Duration>,
    /// Serve `lease` reads without asking, where clocks drift apart by at most so many thousandths
    /// and no machine is suspended, paused or moved while it runs.
    #[arg(long, value_name = "PERMILLE")]
    pub(crate) lease_drift: Option<u16>,
    /// Let a namespace sleep after so many milliseconds without work, or `off` for never [default:
    /// 5000]. Nothing is sent for one that sleeps until it is asked for something.
    #[arg(long, value_name = "MS|off", value_parser = values::idle)]
    pub(crate) quiesce_after: Option<values::Idle>,
    /// Take a snapshot after this many entries [default: 100000], and cut the log behind it; its
    /// newest 10000 entries stay while they are in memory.
    #[arg(long, value_name = "N")]
    pub(crate) snapshot_entries: Option<NonZeroU64>,
    /// Take a snapshot, and cut the log, after this many bytes of entries, like 500kB or 64MiB
    /// [default: 64MiB].
    #[arg(long, value_name = "BYTES", value_parser = values::bytes)]
    pub(crate) snapshot_bytes: Option<NonZeroU64>,
    #[command(flatten)]
    pub(crate) keys: KeyArgs,
}

/// With whom to found, and how many vote.
#[derive(Args, Clone, Debug)]
pub(crate) struct FoundersArgs {
    /// Found a cluster once this many nodes agree, never with fewer. Without it a node founds with
    /// whom it has seen when its window ends.
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = values::founders)]
    pub(crate) expect: Option<NonZeroU16>,
    /// How long to look around before founding without --expect, and with or without it how long
    /// to wait for peers that do not answer before asking or founding anew: 5s, 500ms, seconds
    /// [default: 5s].
    #[arg(long, value_name = "TIME", value_parser = values::duration)]
    pub(crate) window: Option<Duration>,
    /// Nodes seen within this part of the window found, later ones join: above 0 and at most 1
    /// [default: 0.8].
    #[arg(long, value_name = "SHARE", value_parser = values::share, allow_negative_numbers = true)]
    pub(crate) threshold: Option<f64>,
    /// Found alone and at once; refused where a promise or a cluster is on record.
    #[arg(long)]
    pub(crate) force_bootstrap: bool,
    /// Never found: join a living cluster, or go on where it was.
    #[arg(long)]
    pub(crate) join_only: bool,
    /// How many members vote, or `all`; the others receive everything and wait for a place
    /// [default: 5, or --expect if that is more].
    #[arg(long, value_name = "N|all", value_parser = values::voters)]
    pub(crate) voters: Option<Voters>,
}

impl FoundersArgs {
    /// Beside which option a threshold that was given has no effect.
    pub(crate) fn idle_threshold(&self) -> Option<&'static str> {
        self.threshold?;
        let others = [
            (self.expect.is_some(), "--expect"),
            (self.force_bootstrap, "--force-bootstrap"),
            (self.join_only, "--join-only"),
        ];
        others.into_iter().find_map(|(given, name)| given.then_some(name))
    }

    /// The settings that these options are.
    pub(crate) fn settings(&self) -> Founders {
        let usual = Founders::default();
        Founders {
            expect: self.expect,
            window: self.window.unwrap_or(usual.window),
            threshold: self.threshold.unwrap_or(usual.threshold),
            force_bootstrap: self.force_bootstrap,
            join_only: self.join_only,
            voters: self.voters,
        }
    }
}

/// Presets of timing, by their names on the command line.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TimingName {
    /// One machine: round trips up to 0.5 ms.
    Local,
    /// One data centre: round trips up to 2 ms.
    Lan,
    /// One region: round trips up to 30 ms.
    #[value(alias = "regional")]
    Region,
    /// The globe: round trips up to 300 ms.
    Global,
}

/// How a client reaches the mesh.
#[derive(Args, Clone, Debug)]
pub(crate) struct TargetArgs {
    /// A member to start from: HOST:PORT, or a multiaddr with or without /p2p/; may be given
    /// several times. Without any, members are looked for on the local network.
    #[arg(long = "peer", value_name = "ADDRESS")]
    pub(crate) peers: Vec<String>,
    #[command(flatten)]
    pub(crate) keys: KeyArgs,
}

impl TargetArgs {
    /// The members to start from.
    ///
    /// # Errors
    /// Names all addresses that can't be dialled: clap would stop at the first.
    pub(crate) fn addresses(&self) -> Result<Vec<PeerAddress>, AddressErrors> {
        PeerAddress::parse_all(&self.peers)
    }
}

/// A client, one member of its choice, and its patience.
#[derive(Args, Clone, Debug)]
pub(crate) struct RequestArgs {
    #[command(flatten)]
    pub(crate) target: TargetArgs,
    /// Ask exactly this member.
    #[arg(long, value_name = "PEER")]
    pub(crate) via: Option<PeerId>,
    /// How long to wait, in milliseconds: 1 to 60000.
    #[arg(long, value_name = "MS", default_value_t = 5_000, allow_negative_numbers = true)]
    pub(crate) timeout_ms: i64,
}

/// A change of who takes part: whom to ask, and for how long.
#[derive(Args, Clone, Debug)]
pub(crate) struct ChangeArgs {
    #[command(flatten)]
    pub(crate) target: TargetArgs,
    /// Ask exactly this node.
    #[arg(long, value_name = "PEER")]
    pub(crate) via: Option<PeerId>,
    /// How long to wait: 30s, 500ms, 2m, seconds; up to 1h.
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = values::duration)]
    #[arg(allow_negative_numbers = true)]
    pub(crate) timeout: Duration,
}

/// Options of `leave`.
#[derive(Args, Clone, Debug)]
pub(crate) struct LeaveArgs {
    #[command(flatten)]
    pub(crate) change: ChangeArgs,
}

/// Options of `remove`.
#[derive(Args, Clone, Debug)]
pub(crate) struct RemoveArgs {
    #[command(flatten)]
    pub(crate) change: ChangeArgs,
    /// The node to remove, by its peer id.
    #[arg(value_name = "PEER_ID")]
    pub(crate) peer: PeerId,
}

/// Options of `transfer`.
#[derive(Args, Clone, Debug)]
pub(crate) struct TransferArgs {
    #[command(flatten)]
    pub(crate) change: ChangeArgs,
    /// The voter that shall lead, by its peer id [default: the leader chooses].
    #[arg(value_name = "PEER_ID")]
    pub(crate) peer: Option<PeerId>,
}

/// Options of `join`.
#[derive(Args, Clone, Debug)]
pub(crate) struct JoinArgs {
    #[command(flatten)]
    pub(crate) change: ChangeArgs,
}

/// How fresh a read must be.
#[derive(Args, Clone, Debug)]
pub(crate) struct ReadArgs {
    /// Read what the asked member has applied; may be old.
    #[arg(long)]
    pub(crate) stale: bool,
}

/// Options of `pipe`.
#[derive(Args, Clone, Debug)]
pub(crate) struct PipeArgs {
    #[command(flatten)]
    pub(crate) target: TargetArgs,
}

/// Options of `get`.
#[derive(Args, Clone, Debug)]
pub(crate) struct GetArgs {
    #[command(flatten)]
    pub(crate) request: RequestArgs,
    #[command(flatten)]
    pub(crate) read: ReadArgs,
    /// Linearizable, within this many milliseconds: 1 to 30000.
    #[arg(long, value_name = "MS", conflicts_with = "stale", allow_negative_numbers = true)]
    pub(crate) barrier_ms: Option<i64>,
    /// The key: 1 to 4096 bytes.
    pub(crate) key: String,
}

/// Options of `set`.
#[derive(Args, Clone, Debug)]
pub(crate) struct SetArgs {
    #[command(flatten)]
    pub(crate) request: RequestArgs,
    /// The key: 1 to 4096 bytes.
    pub(crate) key: String,
    /// The value: up to 1 MiB.
    pub(crate) value: String,
}

/// Options of `delete`.
#[derive(Args, Clone, Debug)]
pub(crate) struct DeleteArgs {
    #[command(flatten)]
    pub(crate) request: RequestArgs,
    /// The key: 1 to 4096 bytes.
    pub(crate) key: String,
}

/// Options of `keys`.
#[derive(Args, Clone, Debug)]
pub(crate) struct KeysArgs {
    #[command(flatten)]
    pub(crate) request: RequestArgs,
    #[command(flatten)]
    pub(crate) read: ReadArgs,
    /// Only keys that begin with this.
    #[arg(default_value = "")]
    pub(crate) prefix: String,
    /// At most this many.
    #[arg(long, value_name = "N", default_value_t = 1_000)]
    pub(crate) limit: u32,
    /// Only keys after this one.
    #[arg(long, value_name = "KEY")]
    pub(crate) after: Option<String>,
}

/// Options of `status`.
#[derive(Args, Clone, Debug)]
pub(crate) struct StatusArgs {
    #[command(flatten)]
    pub(crate) request: RequestArgs,
}

/// Options of `members`.
#[derive(Args, Clone, Debug)]
pub(crate) struct MembersArgs {
    #[command(flatten)]
    pub(crate) request: RequestArgs,
}

fn namespace(text: &str) -> Result<Namespace, NamespaceError> {
    Namespace::new(text)
}

fn milliseconds(text: &str) -> Result<Duration, std::num::ParseIntError> {
    text.parse().map(Duration::from_millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn serve_takes_namespaces_before_and_after_its_name() {
        let cli = Cli::try_parse_from(
            "meshraft serve --data-dir d -n /a --namespace /b --expect 3 --timing regional"
                .split(' '),
        )
        .unwrap();
        assert_eq!(cli.namespaces.len(), 2);
        let Some(Command::Serve(serve)) = cli.command else { panic!("not serve") };
        assert_eq!(serve.founders.expect, NonZeroU16::new(3));
        assert_eq!(serve.timing, TimingName::Region);
        for bad in ["", "a\u{7}b"] {
            assert!(Cli::try_parse_from(["meshraft", "-n", bad, "demo"]).is_err());
        }
    }
}

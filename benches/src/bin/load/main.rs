//! A closed-loop load generator on the client library: every client sends its next request when the
//! last one is answered.
//!
//! It drives a mesh that runs already (`--peer`), or starts three processes of its own on real
//! disks (`--spawn`) and then also measures fail-over and start. Figures are only worth something
//! on an otherwise idle machine.

mod behind;
mod closed;
mod fill;
mod interruptions;
mod nodes;
mod patterns;
mod resources;
mod show;

use std::{path::PathBuf, process::ExitCode, time::Duration};

use clap::{Args, Parser, Subcommand, ValueEnum};
use meshraft::{Client, KeyRing, Multiaddr, Namespace, NamespaceKey};

/// What can go wrong ends the run: there is nobody to hand it to.
type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Closed-loop load on a Meshraft namespace.
#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// Print one JSON object a line instead of tables.
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Subcommand)]
enum Command {
    /// Throughput and latency at each number of clients.
    Run(RunArgs),
    /// `kill -9` of the leader under load until the next acknowledged write.
    Failover(SpawnArgs),
    /// Start of three processes until the first acknowledged write: founding, and after `kill -9`.
    Start(SpawnArgs),
    /// Start of 3, 5, 10 and 20 processes in different patterns until all are members of one
    /// cluster.
    Patterns(patterns::Args),
    /// A follower comes back through a snapshot, while leader and follower are killed.
    Behind(behind::Args),
    /// Memory and disk while keys are written, and the time of a restart with them.
    Fill(fill::Args),
}

#[derive(Args)]
struct RunArgs {
    /// Starts three nodes with this `meshraft` executable, and asks a follower.
    #[arg(long, value_name = "PROGRAM", conflicts_with = "peer")]
    spawn: Option<PathBuf>,
    /// Where the nodes of `--spawn` keep their data (a fresh folder in it).
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// A member of a running mesh; may be given several times. The client picks whom it asks.
    #[arg(long, value_name = "MULTIADDR", required_unless_present = "spawn")]
    peer: Vec<Multiaddr>,
    /// The namespace of `--peer`.
    #[arg(short, long, value_name = "NS", default_value = "/bench", value_parser = Namespace::new)]
    namespace: Namespace,
    /// The key of `--peer`.
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// Numbers of concurrent clients, measured one after the other.
    #[arg(long, value_delimiter = ',', default_value = "1,16,64")]
    clients: Vec<usize>,
    /// Connections that the clients share.
    #[arg(long, default_value_t = 4)]
    connections: usize,
    /// Length of each measurement, after half a second of warming up.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// Length of a value.
    #[arg(long, default_value_t = 100)]
    bytes: usize,
    /// What each request does.
    #[arg(long, value_enum, default_value_t = Op::Set)]
    op: Op,
    /// The timing of `--spawn`.
    #[arg(long, default_value = "local")]
    timing: String,
}

#[derive(Args)]
struct SpawnArgs {
    /// The `meshraft` executable of the three nodes.
    #[arg(long, value_name = "PROGRAM")]
    spawn: PathBuf,
    /// Where the nodes keep their data (a fresh folder in it).
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// How often.
    #[arg(long, default_value_t = 11)]
    repeat: usize,
    /// The timing of the nodes.
    #[arg(long, default_value = "local")]
    timing: String,
}

/// What a request does.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
enum Op {
    /// Sets one of 100,000 keys.
    Set,
    /// Reads one of 1,000 keys, linearizable.
    Get,
    /// Reads one of 1,000 keys from what the asked member has applied.
    GetStale,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error),
    };
    let done = runtime.block_on(async {
        match cli.command {
            Command::Run(args) => run(&args, cli.json).await,
            Command::Failover(args) => interruptions::failover(&args, cli.json).await,
            Command::Start(args) => interruptions::start(&args, cli.json).await,
            Command::Patterns(args) => patterns::run(&args, cli.json).await,
            Command::Behind(args) => behind::run(&args, cli.json).await,
            Command::Fill(args) => fill::run(&args, cli.json).await,
        }
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(error.as_ref()),
    }
}

fn failed(error: &dyn std::error::Error) -> ExitCode {
    eprintln!("error: {error}");
    ExitCode::FAILURE
}

async fn run(args: &RunArgs, json: bool) -> Outcome<()> {
    let mut spawned = None;
    let (namespace, peers, keys) = match &args.spawn {
        Some(program) => {
            let mut nodes = nodes::Nodes::new(program, args.dir.as_deref(), &args.timing)?;
            nodes.start_all().await?;
            nodes.first_write(Duration::from_secs(30)).await?;
            let access = (nodes.namespace().clone(), nodes.addresses(), KeyRing::open());
            spawned = Some(nodes);
            access
        }
        None => (args.namespace.clone(), args.peer.clone(), key_ring(args.key_file.as_ref())?),
    };
    let mut clients = Vec::new();
    for _ in 0..args.connections.max(1) {
        let client = Client::connect(namespace.clone(), peers.clone(), keys.clone()).await?;
        clients.push(match &spawned {
            None => client,
            Some(_) => {
                let follower = nodes::follower(&client).await?;
                client.via(follower)
            }
        });
    }
    if args.op != Op::Set
        && let Some(client) = clients.first()
    {
        closed::prepare(client, args.bytes).await?;
    }
    show::run_header(args, json);
    for &count in &args.clients {
        let load = closed::Load { clients: count, bytes: args.bytes, op: args.op };
        let result = closed::measure(&clients, load, Duration::from_secs(args.seconds)).await?;
        show::run_row(args, count, &result, json);
    }
    Ok(())
}

fn key_ring(file: Option<&PathBuf>) -> Outcome<KeyRing> {
    match file {
        None => Ok(KeyRing::open()),
        Some(path) => Ok(KeyRing::new([NamespaceKey::parse(&std::fs::read(path)?)?])),
    }
}

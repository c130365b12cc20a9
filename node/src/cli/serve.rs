//! `meshraft serve`: a node in the foreground, told by JSON lines.
//!
//! Everything on the command line is checked before the data folder is touched. Lines are printed
//! by a thread of their own: a reader that does not read slows nothing but the lines.

use std::{io::Write as _, process::ExitCode, time::Duration};

use meshraft::{
    EventsError, Founders, FoundersError, KeyFileError, KeyRing, Namespace, NamespaceHandle, Node,
    OpenError, StartError, StopReason, Timing, read_key_file,
};
use serde_json::{Value, json};
use tokio::{
    runtime::Runtime,
    signal::unix::{Signal, SignalKind, signal},
    sync::mpsc,
};

use super::{Chain, DONE, Global, ServeArgs, TimingName, events, failed, usage};

/// Lines that wait for the reader of standard output.
const LINES_MAX: usize = 1_024;

/// How long the end of the program waits for that reader.
const LINES_WAIT: Duration = Duration::from_secs(1);

/// Why `serve` does not serve.
#[derive(Debug, thiserror::Error)]
enum ServeError {
    #[error("serve needs at least one --namespace NS")]
    NoNamespace,
    #[error("namespace {0} is given twice")]
    Twice(Namespace),
    #[error(transparent)]
    Founders(#[from] FoundersError),
    #[error(transparent)]
    Key(#[from] KeyFileError),
    #[error(transparent)]
    Start(#[from] StartError),
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error("the system refuses to tell of signals")]
    Signals(#[source] std::io::Error),
}

impl ServeError {
    /// Whether what was given is wrong, and not what became of it.
    const fn is_input(&self) -> bool {
        !matches!(
            self,
            Self::Signals(_)
                | Self::Open(OpenError::Stopped(_))
                | Self::Start(
                    StartError::Panicked
                        | StartError::NotListening { .. }
                        | StartError::Randomness(_)
                )
        )
    }
}

/// Runs a node until a signal ends it.
pub(crate) fn run(args: &ServeArgs, global: &Global) -> ExitCode {
    let runtime = match Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error),
    };
    let ended = runtime.block_on(serve(args, global));
    // The last lines are printed unless nobody reads them.
    runtime.shutdown_timeout(LINES_WAIT);
    match ended {
        Ok(StopReason::Shutdown) => ExitCode::from(DONE),
        Ok(reason) => failed(&reason),
        Err(error) if error.is_input() => usage(Chain(&error)),
        Err(error) => failed(&error),
    }
}

async fn serve(args: &ServeArgs, global: &Global) -> Result<StopReason, ServeError> {
    let founders = args.founders.settings();
    founders.check()?;
    if let Some(by) = args.founders.idle_threshold() {
        tracing::warn!("--threshold has no effect beside {by}: no window decides who founds then");
    }
    let rings = rings(args, global)?;
    let mut signals = Signals::new().map_err(ServeError::Signals)?;
    let node = builder(args).start().await?;
    let lines = printer();
    let opened = match open(&node, args, founders, rings).await {
        Ok(opened) => opened,
        Err(error) => {
            node.shutdown().await;
            return Err(error);
        }
    };
    let listening = json!({
        "event": "listening",
        "peer": node.peer_id().to_string(),
        "addrs": node.addresses().iter().map(ToString::to_string).collect::<Vec<_>>(),
    });
    // Fails only if standard output is gone, and then nobody reads.
    let _ = lines.send(listening).await;
    for namespace in opened {
        tokio::spawn(tell(namespace, lines.clone()));
    }
    drop(lines);
    tokio::select! {
        reason = node.ended() => return Ok(reason),
        () = signals.next() => {}
    }
    tokio::select! {
        reason = node.shutdown() => Ok(reason),
        // Whoever asks twice does not want to wait.
        () = signals.next() => Ok(StopReason::Shutdown),
    }
}

/// The key ring of each namespace, in the order given.
fn rings(args: &ServeArgs, global: &Global) -> Result<Vec<(Namespace, KeyRing)>, ServeError> {
    let namespaces = &global.namespaces;
    if namespaces.is_empty() {
        return Err(ServeError::NoNamespace);
    }
    let mut rings = Vec::new();
    for (at, namespace) in namespaces.iter().enumerate() {
        if namespaces.iter().take(at).any(|earlier| earlier == namespace) {
            return Err(ServeError::Twice(namespace.clone()));
        }
        let files = args.keys.files(namespace, namespaces);
        let keys: Result<Vec<_>, _> = files.iter().map(read_key_file).collect();
        rings.push((namespace.clone(), KeyRing::new(keys?)));
    }
    Ok(rings)
}

fn builder(args: &ServeArgs) -> meshraft::NodeBuilder {
    let mut builder =
        Node::builder().data_dir(&args.data_dir).peers(&args.peers).mdns(!args.no_mdns).timing(
            match args.timing {
                TimingName::Local => Timing::Local,
                TimingName::Lan => Timing::Lan,
                TimingName::Region => Timing::Region,
                TimingName::Global => Timing::Global,
            },
        );
    builder = builder.allow_open_identity(args.allow_open_identity);
    for address in &args.listen {
        builder = builder.listen(address);
    }
    if let Some(permille) = args.lease_drift {
        builder = builder.lease_drift_permille(permille);
    }
    if let Some(idle) = args.quiesce_after {
        builder = builder.quiesce_after(idle.0);
    }
    if let Some(heartbeat) = args.heartbeat {
        builder = builder.heartbeat(heartbeat);
    }
    if let Some(election) = args.election {
        builder = builder.election(election);
    }
    builder
}

async fn open(
    node: &Node,
    args: &ServeArgs,
    founders: Founders,
    rings: Vec<(Namespace, KeyRing)>,
) -> Result<Vec<NamespaceHandle>, ServeError> {
    let mut opened = Vec::new();
    for (namespace, ring) in rings {
        let mut builder = node.namespace(namespace.as_str()).keys(ring).founders(founders);
        if let Some(entries) = args.snapshot_entries {
            builder = builder.snapshot_entries(entries.get());
        }
        if let Some(bytes) = args.snapshot_bytes {
            builder = builder.snapshot_bytes(bytes.get());
        }
        opened.push(builder.open().await?);
    }
    Ok(opened)
}

/// One line per change of a namespace, until there are no more.
async fn tell(namespace: NamespaceHandle, lines: mpsc::Sender<Value>) {
    let mut changes = namespace.events();
    let name = namespace.namespace().clone();
    // The handle would keep the node alive.
    drop(namespace);
    loop {
        let line = match changes.next().await {
            Ok(event) => events::line(&name, &event),
            Err(EventsError::Missed { count }) => {
                Some(json!({"event": "missed", "namespace": name.as_str(), "count": count}))
            }
            Err(_) => return,
        };
        if let Some(line) = line
            && lines.send(line).await.is_err()
        {
            return;
        }
    }
}

/// A thread that prints what it is sent, one JSON object a line, each line at once.
fn printer() -> mpsc::Sender<Value> {
    let (sender, mut lines) = mpsc::channel::<Value>(LINES_MAX);
    tokio::task::spawn_blocking(move || {
        let mut output = std::io::stdout();
        while let Some(line) = lines.blocking_recv() {
            if writeln!(output, "{line}").and_then(|()| output.flush()).is_err() {
                return;
            }
        }
    });
    sender
}

/// The signals that end the program in order.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

//! Real `meshraft` processes for the tests: nodes, pipes and one-shot commands.
//!
//! Everything listens on free ports of the loopback interface, waits are for conditions with
//! deadlines, and every process is killed when its value is dropped, by its own handle.

use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    fs,
    future::Future,
    io::Write,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Output, Stdio},
    thread,
    time::Duration,
};

use meshraft::{
    Client, KeyRing, Namespace, NodeId, PeerId,
    identity::node_id,
    process::{Listening, Server, ServerCommand},
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    sync::{Mutex, MutexGuard, mpsc},
    time::{Instant, sleep, timeout},
};

/// The executable under test.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_meshraft");
/// How long anything may take before a test fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Tests measure times, so they don't run beside one another.
static ALONE: Mutex<()> = Mutex::const_new(());

/// Waits until no other test of this binary runs.
pub(crate) async fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().await
}

/// Polls until `condition` gives a value; fails with `what` after [`PATIENCE`].
pub(crate) async fn until<T, F: Future<Output = Option<T>>>(
    what: &str,
    mut condition: impl FnMut() -> F,
) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = condition().await {
            return value;
        }
        assert!(start.elapsed() < PATIENCE, "waited {PATIENCE:?} for: {what}");
        sleep(Duration::from_millis(5)).await;
    }
}

/// Nodes of one namespace, each with a data folder of its own.
pub(crate) struct Nodes {
    /// Everything that the test writes is in here.
    pub(crate) folder: TempDir,
    /// The namespace of all of them.
    pub(crate) namespace: String,
    /// The key of all of them.
    pub(crate) key_file: Option<PathBuf>,
    /// How many founders each waits for.
    pub(crate) expect: Option<u16>,
    /// Further arguments of all of them.
    pub(crate) arguments: Vec<OsString>,
    running: BTreeMap<usize, (Server, Listening)>,
}

impl Nodes {
    /// No node yet.
    pub(crate) fn new(name: &str) -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            namespace: format!("/test/{name}"),
            key_file: None,
            expect: Some(3),
            arguments: Vec::new(),
            running: BTreeMap::new(),
        }
    }

    /// Three nodes that founded a cluster together.
    pub(crate) async fn founded(name: &str) -> Self {
        let mut nodes = Self::new(name);
        nodes.found().await;
        nodes
    }

    /// Starts three nodes and waits until they take writes.
    pub(crate) async fn found(&mut self) {
        for node in 1..=3 {
            self.start(node).await;
        }
        let pipe = &mut self.pipe(1);
        let set = pipe.ask(json!({"op":"set","key":"founded","value":"yes"})).await;
        assert_eq!(set["ok"], true, "{set}");
    }

    /// The data folder of a node.
    pub(crate) fn data_dir(&self, node: usize) -> PathBuf {
        self.folder.path().join(format!("n{node}"))
    }

    /// How a node is started: with the address of one that runs, if there is one.
    pub(crate) fn command(&self, node: usize) -> ServerCommand {
        let mut command = ServerCommand::new(PROGRAM, self.data_dir(node), &self.namespace);
        command.expect = self.expect;
        command.key_file.clone_from(&self.key_file);
        command.arguments.clone_from(&self.arguments);
        command.log = Some(self.folder.path().join(format!("n{node}.log")));
        let before = self.running.range(..node).next_back().or(self.running.iter().next());
        command.peers.extend(before.map(|(_, (_, listening))| listening.addresses[0].clone()));
        command
    }

    /// Starts a node and waits until it listens.
    pub(crate) async fn start(&mut self, node: usize) {
        self.start_with(node, &[]).await;
    }

    /// As [`Self::start`], with further arguments.
    pub(crate) async fn start_with(&mut self, node: usize, arguments: &[OsString]) {
        let mut command = self.command(node);
        command.arguments.extend_from_slice(arguments);
        self.start_as(node, command).await;
    }

    /// Starts a node by this command, and waits until it listens.
    pub(crate) async fn start_as(&mut self, node: usize, command: ServerCommand) {
        let mut server = command.spawn().unwrap();
        match server.listening(PATIENCE).await {
            Ok(listening) => self.running.insert(node, (server, listening)),
            Err(error) => panic!("node {node}: {error}\n{}", self.log(node)),
        };
    }

    /// The next line of a running node that is wanted.
    pub(crate) async fn line(&mut self, node: usize, wanted: impl Fn(&Value) -> bool) -> Value {
        let (server, _) = self.running.get_mut(&node).unwrap();
        let found = timeout(PATIENCE, async {
            while let Some(line) = server.line().await {
                if wanted(&line) {
                    return line;
                }
            }
            panic!("node {node} ended before it printed what was waited for");
        });
        found.await.unwrap_or_else(|_| panic!("node {node} printed no such line"))
    }

    /// Kills a node as `kill -9` does.
    pub(crate) fn kill(&mut self, node: usize) {
        self.running.remove(&node);
    }

    /// Ends a node in order, as `kill` does, and waits until it has ended.
    pub(crate) async fn end(&mut self, node: usize) {
        let (mut server, _) = self.running.remove(&node).unwrap();
        let told = Command::new("kill").arg(server.pid().to_string()).status();
        assert!(told.is_ok_and(|status| status.success()), "node {node} can be told to end");
        let ended = timeout(PATIENCE, async { while server.line().await.is_some() {} }).await;
        ended.unwrap_or_else(|_| panic!("node {node} does not end"));
    }

    /// The numbers of the running nodes.
    pub(crate) fn numbers(&self) -> Vec<usize> {
        self.running.keys().copied().collect()
    }

    /// Waits until every running node says that exactly these are the voters, in any order.
    pub(crate) async fn voters_are(&self, voters: &[usize]) {
        let mut wanted: Vec<_> = voters.iter().map(|&node| self.peer(node).to_owned()).collect();
        wanted.sort();
        until("the voters to be as they should", || async {
            let settled = self.numbers().into_iter().all(|node| {
                let status = self.status(node);
                let members = status["members"].as_array().unwrap();
                let mut found: Vec<_> = members
                    .iter()
                    .filter(|member| member["role"] == "voter")
                    .map(|member| member["peer"].as_str().unwrap().to_owned())
                    .collect();
                found.sort();
                // A node that takes no part need not know.
                let outside = !wanted.contains(&self.peer(node).to_owned());
                outside || (found == wanted && members.len() == wanted.len())
            });
            settled.then_some(())
        })
        .await;
    }

    /// An address of a running node.
    pub(crate) fn address(&self, node: usize) -> &str {
        &self.running[&node].1.addresses[0]
    }

    /// The peer id of a running node.
    pub(crate) fn peer(&self, node: usize) -> &str {
        &self.running[&node].1.peer
    }

    /// The id of a running node.
    pub(crate) fn id(&self, node: usize) -> NodeId {
        node_id(self.peer(node).parse::<PeerId>().unwrap()).unwrap()
    }

    /// A client of the library that knows all running nodes.
    pub(crate) async fn library(&self) -> Client {
        let peers = self.running.values().map(|(_, listening)| &listening.addresses[0]);
        let namespace = Namespace::new(&self.namespace).unwrap();
        Client::connect(namespace, peers, KeyRing::open()).await.unwrap()
    }

    /// The number of a running node.
    pub(crate) fn number(&self, peer: &str) -> Option<usize> {
        self.running
            .iter()
            .find(|(_, (_, listening))| listening.peer == peer)
            .map(|(&node, _)| node)
    }

    /// What a node wrote to its log.
    pub(crate) fn log(&self, node: usize) -> String {
        fs::read_to_string(self.folder.path().join(format!("n{node}.log"))).unwrap_or_default()
    }

    /// A pipe that knows one node.
    pub(crate) fn pipe(&self, node: usize) -> Pipe {
        Pipe::open(&self.namespace, &[self.address(node)], self.key_file.as_deref())
    }

    /// What `status --json` says of a node.
    pub(crate) fn status(&self, node: usize) -> Value {
        let output = self.client(&["status", "--json"], node);
        assert!(output.status.success(), "{output:?}\n{}", self.log(node));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// Runs a one-shot command against a node.
    pub(crate) fn client(&self, arguments: &[&str], node: usize) -> Output {
        let mut command = Command::new(PROGRAM);
        command.args(arguments).args(["-n", &self.namespace, "--peer", self.address(node)]);
        if let Some(key) = &self.key_file {
            command.arg("--key-file").arg(key);
        }
        command.output().unwrap()
    }

    /// The number of the node that leads, once all running nodes agree on it.
    pub(crate) async fn leader(&self) -> usize {
        let nodes: Vec<_> = self.running.keys().copied().collect();
        until("a leader that all agree on", || async {
            let leaders: Vec<_> =
                nodes.iter().map(|&node| self.status(node)["leader"].clone()).collect();
            let first = leaders.first()?.as_str()?;
            let agreed = leaders.iter().all(|leader| leader.as_str() == Some(first));
            if agreed { self.number(first) } else { None }
        })
        .await
    }
}

/// A running `meshraft pipe`.
pub(crate) struct Pipe {
    child: Child,
    input: Option<ChildStdin>,
    answers: mpsc::Receiver<Value>,
    early: Vec<Value>,
    asked: u64,
}

impl Pipe {
    /// Starts one.
    pub(crate) fn open(namespace: &str, peers: &[&str], key_file: Option<&Path>) -> Self {
        let mut command = Command::new(PROGRAM);
        command.args(["pipe", "--namespace", namespace]);
        for peer in peers {
            command.args(["--peer", peer]);
        }
        if let Some(path) = key_file {
            command.arg("--key-file").arg(path);
        }
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (sender, answers) = mpsc::channel(4096);
        let output = child.stdout.take().unwrap();
        thread::spawn(move || {
            for line in std::io::BufRead::lines(std::io::BufReader::new(output)) {
                let answer = serde_json::from_str(&line.unwrap()).unwrap();
                if sender.blocking_send(answer).is_err() {
                    return;
                }
            }
        });
        let input = child.stdin.take();
        Self { child, input, answers, early: Vec::new(), asked: 0 }
    }

    /// Sends a line as it is.
    pub(crate) fn send(&mut self, line: &str) {
        let input = self.input.as_mut().unwrap();
        writeln!(input, "{line}").unwrap();
    }

    /// The answer under an id; others are kept until they are asked for.
    pub(crate) async fn answer(&mut self, id: &Value) -> Value {
        if let Some(at) = self.early.iter().position(|answer| &answer["id"] == id) {
            return self.early.remove(at);
        }
        loop {
            match timeout(PATIENCE, self.answers.recv()).await {
                Ok(Some(answer)) if &answer["id"] == id => return answer,
                Ok(Some(answer)) => self.early.push(answer),
                Ok(None) => panic!("the pipe ended before it answered {id}"),
                Err(_) => panic!("no answer to {id} within {PATIENCE:?}"),
            }
        }
    }

    /// Sends a request under a fresh id and waits for its answer.
    pub(crate) async fn ask(&mut self, mut request: Value) -> Value {
        self.asked += 1;
        let id = json!(format!("ask-{}", self.asked));
        request["id"] = id.clone();
        self.send(&request.to_string());
        self.answer(&id).await
    }

    /// Closes its input and waits for its exit code.
    pub(crate) fn finish(mut self) -> Option<i32> {
        self.input = None;
        self.child.wait().unwrap().code()
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs the program to its end.
pub(crate) fn run<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Output {
    Command::new(PROGRAM).args(arguments).stdin(Stdio::null()).output().unwrap()
}

/// Every file of a folder with its content; a folder counts by its path alone.
pub(crate) fn contents(folder: &Path) -> BTreeMap<PathBuf, Option<Vec<u8>>> {
    let mut found = BTreeMap::new();
    let mut open = vec![folder.to_owned()];
    while let Some(path) = open.pop() {
        if path.is_dir() {
            open.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            found.insert(path, None);
        } else if path.exists() {
            let bytes = fs::read(&path).unwrap();
            found.insert(path, Some(bytes));
        }
    }
    found
}

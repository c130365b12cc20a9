//! Runs `meshraft serve` as a child process, for demo, process tests and load generator.
//!
//! Invariants:
//! 1. A child never outlives its [`Server`]: dropping one kills the process and reaps it.
//! 2. Only processes started here are killed, by their own handle, never by name or pattern.
//! 3. The child's output is drained for as long as it runs, so that it never blocks on a full pipe.

use std::{
    ffi::OsString,
    fs::OpenOptions,
    io::{self, BufRead, BufReader, Read},
    path::PathBuf,
    process::{Child, ChildStdout, Command, ExitStatus, Stdio},
    thread,
    time::Duration,
};

use serde_json::Value;
use tokio::sync::mpsc;

/// Lines kept for a reader that is slow; later ones are dropped until it catches up.
const LINES_MAX: usize = 1024;
/// The longest line taken from a child; what is beyond is cut off.
const LINE_BYTES_MAX: u64 = 64 * 1024;

/// How to start one `meshraft serve` on the loopback interface.
#[derive(Clone, Debug)]
pub struct ServerCommand {
    /// The `meshraft` executable.
    pub program: PathBuf,
    /// The node's data folder.
    pub data_dir: PathBuf,
    /// The namespace to serve.
    pub namespace: String,
    /// Where to listen; port 0 takes a free one.
    pub listen: String,
    /// Addresses of nodes to connect to, with or without `/p2p/`.
    pub peers: Vec<String>,
    /// How many founders to wait for; `None` only joins or restarts.
    pub expect: Option<u16>,
    /// The timing preset.
    pub timing: String,
    /// The file with the namespace's key.
    pub key_file: Option<PathBuf>,
    /// Further arguments, at the end.
    pub arguments: Vec<OsString>,
    /// Where the child's log goes (appended); `None` shares this process's standard error.
    pub log: Option<PathBuf>,
}

/// A running `meshraft serve`.
#[derive(Debug)]
pub struct Server {
    child: Child,
    lines: mpsc::Receiver<Value>,
}

/// What a server says once it listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listening {
    /// Its peer id.
    pub peer: String,
    /// Its addresses, each with `/p2p/`.
    pub addresses: Vec<String>,
}

/// Why a server could not be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SpawnError {
    /// Its log could not be opened.
    #[error("{} could not be opened for the log of a server", path.display())]
    Log {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The executable could not be started.
    #[error("{} could not be started", program.display())]
    Start {
        /// The executable.
        program: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// Why a server did not say that it listens.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ListeningError {
    /// The time is over.
    #[error("the server did not listen within {} ms", waited.as_millis())]
    Timeout {
        /// How long it was waited for.
        waited: Duration,
    },
    /// The process ended first.
    #[error("the server ended before it listened: {status}")]
    Ended {
        /// How it ended.
        status: ExitStatus,
    },
    /// Its fate could not be asked.
    #[error("the server's state could not be asked")]
    Unknown(#[source] io::Error),
}

impl ServerCommand {
    /// A server in `data_dir` on a free port of the loopback interface, with `local` timing.
    pub fn new(
        program: impl Into<PathBuf>,
        data_dir: impl Into<PathBuf>,
        namespace: impl Into<String>,
    ) -> Self {
        Self {
            program: program.into(),
            data_dir: data_dir.into(),
            namespace: namespace.into(),
            listen: "/ip4/127.0.0.1/tcp/0".into(),
            peers: Vec::new(),
            expect: None,
            timing: "local".into(),
            key_file: None,
            arguments: Vec::new(),
            log: None,
        }
    }

    /// The command as the system starts it, its streams not yet set.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("serve").arg("--data-dir").arg(&self.data_dir);
        command.args(["--namespace", &self.namespace, "--listen", &self.listen]);
        command.args(["--no-mdns", "--timing", &self.timing]);
        for peer in &self.peers {
            command.args(["--peer", peer]);
        }
        if let Some(expect) = self.expect {
            command.args(["--expect", &expect.to_string()]);
        }
        if let Some(path) = &self.key_file {
            command.arg("--key-file").arg(path);
        }
        command.args(&self.arguments);
        command
    }

    /// Starts the process.
    ///
    /// # Errors
    /// Says whether the log or the executable failed.
    pub fn spawn(&self) -> Result<Server, SpawnError> {
        let log = match &self.log {
            None => Stdio::inherit(),
            Some(path) => OpenOptions::new()
                .create(true)
                .append(true)
                .open(path)
                .map_err(|source| SpawnError::Log { path: path.clone(), source })?
                .into(),
        };
        let mut child = self
            .command()
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .map_err(|source| SpawnError::Start { program: self.program.clone(), source })?;
        let (sender, lines) = mpsc::channel(LINES_MAX);
        if let Some(stdout) = child.stdout.take() {
            thread::spawn(move || drain(stdout, &sender));
        }
        Ok(Server { child, lines })
    }
}

impl Server {
    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The next JSON line that the server printed; `None` once its output is closed.
    ///
    /// Cancel-safe: a line that was not returned comes next time.
    pub async fn line(&mut self) -> Option<Value> {
        self.lines.recv().await
    }

    /// Waits for the `listening` line; lines before it are dropped.
    ///
    /// Cancel-safe, as [`Server::line`] is.
    ///
    /// # Errors
    /// Says whether the time was over or the process ended.
    pub async fn listening(&mut self, timeout: Duration) -> Result<Listening, ListeningError> {
        let wait = async {
            while let Some(line) = self.lines.recv().await {
                if let Some(listening) = Listening::from_line(&line) {
                    return Some(listening);
                }
            }
            None
        };
        match tokio::time::timeout(timeout, wait).await {
            Err(_) => Err(ListeningError::Timeout { waited: timeout }),
            Ok(Some(listening)) => Ok(listening),
            Ok(None) => {
                let status = self.child.wait().map_err(ListeningError::Unknown)?;
                Err(ListeningError::Ended { status })
            }
        }
    }

    /// Whether the process still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Kills the process as `kill -9` does, and reaps it. A second time nothing happens.
    pub fn kill(&mut self) {
        // An error means that it has ended already, which is what was asked for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Listening {
    /// Reads the line `{"event":"listening","peer":…,"addrs":[…]}`; any other line is `None`.
    pub fn from_line(line: &Value) -> Option<Self> {
        if line.get("event")?.as_str()? != "listening" {
            return None;
        }
        let peer = line.get("peer")?.as_str()?.to_owned();
        let addresses = line.get("addrs")?.as_array()?;
        let text = |address: &Value| address.as_str().map(str::to_owned);
        let addresses = addresses.iter().map(text).collect::<Option<_>>()?;
        Some(Self { peer, addresses })
    }

    /// The first address.
    pub fn address(&self) -> Option<&str> {
        self.addresses.first().map(String::as_str)
    }
}

/// Reads JSON lines until the child closes its output. Lines that are no JSON are passed over.
fn drain(stdout: ChildStdout, lines: &mpsc::Sender<Value>) {
    let mut reader = BufReader::new(stdout);
    let mut line = Vec::new();
    loop {
        line.clear();
        match reader.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        if let Ok(value) = serde_json::from_slice(&line) {
            // A full queue loses the newest lines; a closed one still has to be drained.
            let _ = lines.try_send(value);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_the_listening_line_is_taken_for_one() {
        let line = json!({"event":"listening","peer":"12D3","addrs":["/ip4/127.0.0.1/tcp/1"]});
        let listening = Listening::from_line(&line).unwrap();
        assert_eq!(listening.address(), Some("/ip4/127.0.0.1/tcp/1"));
        assert_eq!(Listening::from_line(&json!({"event":"leader","peer":"12D3"})), None);
        assert_eq!(Listening::from_line(&json!({"event":"listening","peer":1,"addrs":[]})), None);
        assert_eq!(
            Listening::from_line(&json!({"event":"listening","peer":"a","addrs":[1]})),
            None
        );
    }

    #[test]
    fn the_command_line_is_the_documented_one() {
        let mut server = ServerCommand::new("meshraft", "/tmp/a", "/jobs");
        server.expect = Some(3);
        server.peers = vec!["/ip4/127.0.0.1/tcp/9".into()];
        let command = server.command();
        let arguments: Vec<_> =
            command.get_args().filter_map(|argument| argument.to_str()).collect();
        assert_eq!(
            arguments.join(" "),
            "serve --data-dir /tmp/a --namespace /jobs --listen /ip4/127.0.0.1/tcp/0 --no-mdns \
             --timing local --peer /ip4/127.0.0.1/tcp/9 --expect 3"
        );
    }
}

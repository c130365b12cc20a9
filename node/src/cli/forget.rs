//! `forget`: releases a stopped node from its cluster, on its own data folder.
//!
//! Exit codes: 0 done, 1 refused (nothing was changed, unless the message says so), 2 a folder or a
//! namespace that is none.

use std::{path::PathBuf, process::ExitCode};

use clap::Args;
use meshraft::forget::{Aside, ForgetError, Release, Released, forget, list};
use meshraft_consensus::Namespace;

use super::{Chain, DONE, FAILED, Global, USAGE, json::Object, usage};

pub(crate) const EXAMPLES: &str = "\
A node keeps its cluster for good, and no peer can talk it out of one. This is the way out for a
node that joined a stranger's cluster, or whose cluster is gone for good. Stop the node first.

  meshraft forget --data-dir ./d -n /jobs/cron
      releases a node that never voted in its cluster: a learner, or one that was just admitted
  meshraft forget --data-dir ./a -n /jobs/cron --as-wiped
      releases a voter, as if its disk had been wiped: entries that only this node and members that
      are gone have acknowledged are lost to the cluster, and a cluster that can't do without its
      vote is lost; never do it to more than a minority of the voters at once
  meshraft forget --data-dir ./a -n /jobs/cron --list
      what is set aside by now; changes nothing

The node begins anew: its next start is that of an empty disk with the same peer id, so it joins a
living cluster or founds one. The log and the snapshots of the old one stay in the folder.
Exit codes: 0 done, 1 refused, 2 no such folder or namespace.";

/// Options of `forget`.
#[derive(Args, Clone, Debug)]
pub(crate) struct ForgetArgs {
    /// The data folder of the stopped node.
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: PathBuf,
    /// Release it also if it votes in the cluster, or may have: what only it has is lost.
    #[arg(long)]
    pub(crate) as_wiped: bool,
    /// Only say what is set aside.
    #[arg(long, conflicts_with = "as_wiped")]
    pub(crate) list: bool,
}

/// `meshraft forget`.
pub(crate) fn run(args: &ForgetArgs, global: &Global) -> ExitCode {
    let namespace = match global.one_namespace() {
        Ok(namespace) => namespace,
        Err(message) => return usage(message),
    };
    if args.list {
        return match list(&args.data_dir, namespace) {
            Ok(aside) => say_aside(namespace, &aside, global.json),
            Err(error) => refuse(&error, global.json),
        };
    }
    let release = Release {
        data_dir: args.data_dir.clone(),
        namespace: namespace.clone(),
        as_wiped: args.as_wiped,
    };
    match forget(&release) {
        Ok(released) => say(namespace, &released, global.json),
        Err(error) => refuse(&error, global.json),
    }
}

fn say(namespace: &Namespace, released: &Released, json: bool) -> ExitCode {
    if json {
        let forgotten: Vec<_> = released.forgotten.iter().map(ToString::to_string).collect();
        let object = Object::new()
            .with("ok", true)
            .with("namespace", namespace.as_str())
            .with("forgotten", forgotten)
            .with("last", released.last.get())
            .with("voter", released.voter)
            .with("ended", released.ended.to_string())
            .with("incarnation", released.incarnation.to_string())
            .with("set_aside", aside_json(&released.aside));
        println!("{}", object.line());
        return ExitCode::from(DONE);
    }
    for cluster in &released.forgotten {
        println!("{namespace} forgets cluster {cluster}");
    }
    println!("set aside: a log up to entry {}", released.last.get());
    println!("the node is a new one: incarnation {}", released.incarnation);
    ExitCode::from(DONE)
}

fn say_aside(namespace: &Namespace, aside: &[Aside], json: bool) -> ExitCode {
    if json {
        let object = Object::new()
            .with("ok", true)
            .with("namespace", namespace.as_str())
            .with("set_aside", aside_json(aside));
        println!("{}", object.line());
        return ExitCode::from(DONE);
    }
    for Aside { cluster, incarnation } in aside {
        println!("cluster {cluster}, incarnation {incarnation}");
    }
    ExitCode::from(DONE)
}

fn aside_json(aside: &[Aside]) -> Vec<serde_json::Value> {
    let told = |one: &Aside| {
        serde_json::json!({
            "cluster_id": one.cluster.to_string(), "incarnation": one.incarnation.to_string(),
        })
    };
    aside.iter().map(told).collect()
}

fn refuse(error: &ForgetError, json: bool) -> ExitCode {
    if json {
        let object = Object::new()
            .with("ok", false)
            .with("error", error.code())
            .with("maybe", error.maybe_released())
            .with("message", Chain(error).to_string());
        println!("{}", object.line());
    } else {
        eprintln!("error: {}", Chain(error));
        if let ForgetError::Voter { last, voters, .. } = error {
            eprintln!("  its log ends at entry {}; {voters} voters, this one included", last.get());
        }
    }
    ExitCode::from(if error.is_input() { USAGE } else { FAILED })
}

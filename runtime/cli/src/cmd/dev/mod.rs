//! `busway dev`.
//!
//! Role: builds projects on change, runs a node over what was built, shows the compiler, the log and the events in one
//! terminal. The node does what it always does with a component that changed: it takes over, or is refused.

mod build;

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use busway_gateway::AdminToken;
use busway_gateway::TailRead;
use busway_gateway::api::{Envelope, TailFrom};
use busway_node::manifest::EngineUrl;
use busway_node::{Node, NodeOptions};
use clap::Args;
use owo_colors::OwoColorize;

use self::build::Builder;
use super::run::{self, Signals};
use crate::args::NodeArgs;
use crate::output::{Output, preview, shown};

/// Build services on every change and run them
#[derive(Debug, Args)]
#[command(
    long_about = "Builds the project in a folder, or those in the folders below it, three deep (each with a Cargo.toml), whenever a source \
        changes, and runs what was built, with other .wasm files of the folder beside it. A project or file that is removed stops running. What compiles takes over from \
        what runs; what does not compile, or breaks the contract, is told, and what ran before goes on.\n\n\
        Without a busway.toml in the folder, components are copied into a folder of the node's own. With one, the node \
        runs that, and its `component` entries should name what cargo builds \
        (stock/target/wasm32-wasip2/release/stock.wasm).\n\n\
        Everything is in memory unless --data is given. The other commands find the node: publish, tail, status. Ctrl-C \
        finishes what is in flight. Events go to stdout, everything else to stderr.",
    after_help = "Example: busway new stock && busway dev stock"
)]
pub(crate) struct DevArgs {
    /// A project, or a folder of projects
    #[arg(default_value = ".")]
    app: PathBuf,
    /// Keep everything on disk in this folder
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Have cargo use no network
    #[arg(long)]
    offline: bool,
}

/// What a line in the terminal is about.
#[derive(Clone, Copy)]
enum Prefix {
    /// What is being built.
    Build,
    /// What failed.
    Failed,
    /// What the compiler says.
    Compiler,
    /// The log of node and services.
    Log,
}

impl Prefix {
    fn text(self) -> String {
        match self {
            Self::Build => "build | ".green().to_string(),
            Self::Failed => "build | ".red().to_string(),
            Self::Compiler => "rustc | ".yellow().to_string(),
            Self::Log => "log   | ".blue().to_string(),
        }
    }
}

/// A line for whoever develops. Nobody can be told when even stderr is closed.
fn say(prefix: Prefix, text: &str) {
    drop(writeln!(anstream::stderr(), "{}{text}", prefix.text()));
}

/// A writer for the log, line by line with its prefix.
struct LogLines;

impl Write for LogLines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        String::from_utf8_lossy(bytes).lines().for_each(|line| say(Prefix::Log, line));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The folder that the node looks into; gone when the command ends.
struct WorkFolder(PathBuf);

impl WorkFolder {
    fn new() -> Result<Self> {
        let path = std::env::temp_dir().join(format!("busway-dev-{}", std::process::id()));
        // Nobody else may put components there.
        let made = fs::DirBuilder::new().mode(0o700).create(&path);
        made.with_context(|| format!("{} cannot be made", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for WorkFolder {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

pub(crate) fn run(args: DevArgs, node: NodeArgs, output: &mut Output) -> Result<()> {
    let has_manifest = args.app.join("busway.toml").is_file();
    let work = if has_manifest { None } else { Some(WorkFolder::new()?) };
    let into = work.as_ref().map(|work| work.0.clone());
    let builder = Arc::new(Builder::new(&args.app, into.clone(), args.offline)?);
    crate::logging::start_with("info", || LogLines)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start threads")?;
    let app = into.unwrap_or_else(|| args.app.clone());
    let ended = runtime.block_on(serve(&args, node, &app, &builder, output));
    builder.stop();
    runtime.shutdown_timeout(Duration::from_millis(200));
    ended
}

async fn serve(args: &DevArgs, node: NodeArgs, app: &Path, builder: &Arc<Builder>, output: &mut Output) -> Result<()> {
    let mut signals = Signals::new().context("cannot listen for signals")?;
    // What is there at the start starts together.
    let first = Arc::clone(builder);
    let mut built = tokio::task::spawn_blocking(move || first.turn());
    tokio::select! {
        done = &mut built => done.context("the build broke off")?,
        () = signals.next() => {
            builder.stop();
            return Ok(());
        }
    }
    let token = match node.token {
        Some(given) => given,
        None => AdminToken::generate()?.as_str().to_owned(),
    };
    let mut options = NodeOptions::new(app, &token);
    options.engine = args.data.clone().map(EngineUrl::File);
    options.admin = node.admin.unwrap_or_else(|| std::net::SocketAddr::from(([127, 0, 0, 1], 0)));
    options.cache_dir = run::cache();
    let node = Node::start(options).await?;
    let _announcement = run::announce(&node, args.data.clone(), token)?;
    for service in node.status().await.services {
        say(Prefix::Build, &format!("service {} {}", service.name, service.state.as_str()));
    }
    say(Prefix::Build, "watching; Ctrl-C ends");
    let watching = Arc::clone(builder);
    let watcher = std::thread::spawn(move || watching.run());
    let end = tokio::select! {
        () = signals.next() => Ok(()),
        failed = node.stopped() => Err(failed),
        shown = events(&node, output) => shown.map_err(|error| Some(format!("{error:#}"))),
    };
    builder.stop();
    drop(tokio::task::spawn_blocking(move || watcher.join()));
    if let Err(Some(reason)) = end {
        let _ = node.stop().await;
        bail!("the node stopped because {reason}");
    }
    say(Prefix::Build, "finishing what is in flight; Ctrl-C again stops at once");
    tokio::select! {
        drained = node.drain() => Ok(drained?),
        () = signals.next() => bail!("stopped at once"),
    }
}

/// Shows events as they are published, until the node stops.
async fn events(node: &Node, output: &mut Output) -> Result<()> {
    let admin = node.admin();
    let mut from = admin.tail_position(TailFrom::Start).await?;
    loop {
        let read = TailRead { from, patterns: Vec::new().into(), max_events: 256, max_bytes: 1024 * 1024, wait: true };
        let batch = admin.tail_read(read).await?;
        for event in &batch.events {
            output.line(human(&Envelope::from(event)))?;
        }
        output.flush()?;
        from = batch.next;
    }
}

fn human(event: &Envelope) -> String {
    let json = event.data.as_ref().map(|data| data.get());
    let data = json.or(event.text.as_deref()).or(event.base64.as_deref()).unwrap_or_default();
    let data = &super::tail::compact(data);
    let key = event.key.as_deref().map_or_else(|| "-".to_owned(), shown);
    format!("{}{} {} {}", "event | ".magenta(), event.topic.cyan(), key.bold(), preview(data, 400))
}

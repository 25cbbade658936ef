//! `busway run`.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::id;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use busway_gateway::AdminToken;
use busway_gateway::api::{BridgeStatus, StatusReport};
use busway_host::Compiling;
use busway_node::manifest::{App, EngineUrl, RunPolicy};
use busway_node::{Node, NodeOptions};
use busway_types::{Clock as _, SystemClock};
use clap::Args;

use crate::args::NodeArgs;
use crate::discovery::{Announcement, NodeFile, folder};
use crate::failure::Usage;
use crate::logging::{self, LogFormat};
use crate::output::{Output, note, shown, shown_lines, warn};

/// Run a folder of components
#[derive(Debug, Args)]
#[command(
    long_about = "Runs every component of a folder, or what a busway.toml says, as services on one bus. Components that \
        appear in the folder are started, changed ones take over, removed ones finish what they have.\n\n\
        Without --data or --engine (and unless the manifest says so) the bus is in memory and gone when the node ends. \
        Ctrl-C finishes what is in flight, a second Ctrl-C stops at once.",
    after_help = "Examples:\n  busway run ./services --data ./data\n  busway run busway.toml --exit-when-idle"
)]
pub(crate) struct RunArgs {
    /// A folder of .wasm files, or a busway.toml
    #[arg(default_value = ".")]
    app: PathBuf,
    /// Where the queues live: `memory:`, `file:DIR`, or, for several nodes to share, `nats://HOST:PORT[/NAME]` or
    /// `amqp://HOST:PORT[/VHOST][?bus=NAME]`. A login is better given in the environment (`BUSWAY_NATS_USER` and `_PASSWORD`,
    /// `_TOKEN` or `_CREDENTIALS`; `BUSWAY_AMQP_USER` and `_PASSWORD`) than here
    #[arg(long, value_name = "URL", conflicts_with = "data")]
    // Read later: clap would show what it cannot read, which may have a password in it.
    engine: Option<String>,
    /// Keep everything on disk in this folder; the same as `--engine file:DIR`
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// The generation of this deployment of an app whose nodes share a bus; overrides `generation` of `[bus]`. The settings of
    /// subscriptions are those of the highest one, whichever node owns the bus
    #[arg(long, value_name = "N")]
    generation: Option<u32>,
    /// Where the gateway listens, such as 127.0.0.1:8080; overrides `listen` of `[gateway]` in the manifest [default: no gateway]
    #[arg(long, value_name = "ADDR")]
    listen: Option<SocketAddr>,
    /// End when every queue is empty and nothing is in flight
    #[arg(long)]
    exit_when_idle: bool,
    /// Do not look for components that appear, change or go
    #[arg(long)]
    no_watch: bool,
    /// Compile anew instead of using the user's cache of compiled code
    #[arg(long)]
    no_cache: bool,
    /// What is logged: error, warn, info, debug, trace, or a filter such as `info,busway_node=debug`
    #[arg(long, value_name = "LEVEL", default_value = "info")]
    log: String,
    /// How it is logged
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t)]
    log_format: LogFormat,
}

/// Why a node ends.
enum End {
    /// Everything is handled.
    Idle,
    /// Somebody asked for it.
    Asked,
    /// It cannot go on.
    Failed(String),
    /// Another node has taken over a bus that several share.
    Lost,
}

pub(crate) fn run(args: RunArgs, node: NodeArgs, output: &Output) -> Result<()> {
    let format = if output.is_json() { LogFormat::Json } else { args.log_format };
    logging::start(&args.log, format)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start threads")?;
    let ended = runtime.block_on(serve(args, node));
    // What still runs after an abrupt end is given up.
    runtime.shutdown_timeout(Duration::from_millis(200));
    ended
}

async fn serve(args: RunArgs, node: NodeArgs) -> Result<()> {
    let mut signals = Signals::new().context("cannot listen for signals")?;
    let token = match node.token {
        Some(given) => given,
        None => AdminToken::generate()?.as_str().to_owned(),
    };
    let engine = match args.data.clone().map(EngineUrl::File) {
        None => args.engine.as_deref().map(engine_url).transpose()?,
        data => data,
    };
    // A faulty app is told when the node starts.
    let app = App::load(&args.app).ok();
    let data = data_folder(engine.as_ref(), app.as_ref());
    let nothing = app.as_ref().and_then(App::nothing_to_run);
    if let Some(nothing) = nothing.as_ref().filter(|_| args.no_watch || args.exit_when_idle) {
        bail!("{nothing}");
    }
    if let Some(why) = app.as_ref().and_then(never_idle).filter(|_| args.exit_when_idle) {
        warn(format!("{why}, so the node is never idle: --exit-when-idle does not end it"));
    }
    if let Some(address) = node.admin.filter(|address| !address.ip().is_loopback()) {
        warn(format!(
            "the admin API at {address} can be reached from other machines, unencrypted; whoever knows its token may do \
             everything (127.0.0.1 is for this machine only)"
        ));
    }
    let mut options = node_options(&args, &token);
    options.engine = engine;
    options.admin = node.admin.unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 0)));
    let mut announcement = None;
    loop {
        let started = tokio::select! {
            started = Node::start(options.clone()) => started,
            () = signals.next() => bail!("interrupted while starting"),
        };
        let node = started?;
        // One that comes after it is found where this one was.
        options.admin = node.admin_addr();
        options.listen = node.gateway_addr().or(options.listen);
        if announcement.is_none() {
            announcement = Some(announce(&node, data.clone(), token.clone())?);
        }
        match live(&node, &args, nothing.as_ref().map(ToString::to_string), &mut signals).await {
            End::Lost => {
                // What is in flight belongs to the other node now.
                let _ = node.stop().await;
                note("this node waits for its turn again");
            }
            End::Failed(reason) => {
                // What stopping runs into now is a consequence of that.
                let _ = node.stop().await;
                bail!("the node stopped because {reason}");
            }
            end => return drain(node, &end, &mut signals).await,
        }
    }
}

/// The engine of an address, without what is secret in it in the message.
fn engine_url(text: &str) -> Result<EngineUrl> {
    Ok(text.parse::<EngineUrl>().map_err(|error| Usage(format!("--engine: {error}")))?)
}

fn node_options(args: &RunArgs, token: &str) -> NodeOptions {
    let mut options = NodeOptions::new(&args.app, token);
    options.listen = args.listen;
    options.generation = args.generation;
    options.state_dir = folder().ok().map(|folder| folder.join("gateway"));
    options.cache_dir = cache().filter(|_| !args.no_cache);
    options.watch = !args.no_watch;
    options.progress = Some(std::sync::Arc::new(|name: &str, bytes, what| {
        // Small components take milliseconds and would only be noise.
        if what == Compiling::Started && bytes > 1024 * 1024 {
            note(format!(
                "compiling {} ({} MiB), which takes a while the first time",
                shown(name),
                bytes / 1024 / 1024
            ));
        }
    }));
    options
}

/// Waits for the end of a node that was started.
async fn live(node: &Node, args: &RunArgs, nothing: Option<String>, signals: &mut Signals) -> End {
    let report = node.status().await;
    if let Some(why) = &report.node.standby {
        standby_banner(&report, why);
    }
    let told = async {
        node.ready().await;
        banner(&node.status().await, &args.app);
        if let Some(nothing) = nothing {
            warn(format!("waiting for components: {nothing}"));
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = told => End::Asked,
        () = signals.next() => End::Asked,
        failed = node.stopped() => failed.map_or(End::Asked, End::Failed),
        () = node.lost() => End::Lost,
        () = node.idle(), if args.exit_when_idle => End::Idle,
    }
}

async fn drain(node: Node, end: &End, signals: &mut Signals) -> Result<()> {
    if let End::Asked = end {
        note("finishing what is in flight; Ctrl-C again stops at once");
    }
    tokio::select! {
        drained = node.drain() => drained?,
        () = signals.next() => bail!("stopped at once; what was in flight is tried again at the next start with --data"),
    }
    Ok(())
}

/// What keeps a node from ever being idle.
fn never_idle(app: &App) -> Option<String> {
    app.services
        .values()
        .filter(|service| service.enabled)
        .find_map(|service| {
            if service.schedule.is_some() {
                Some(format!("service `{}` has a schedule", service.name))
            } else if service.run == RunPolicy::Always {
                Some(format!("service `{}` has run = \"always\"", service.name))
            } else {
                None
            }
        })
        .or_else(|| {
            let bridge = app.bridges().find(|bridge| bridge.comes_in())?;
            Some(format!("messages come in over the bridge `{}`", bridge.name))
        })
}

/// Where the node keeps its data, for whoever has to choose among several nodes.
fn data_folder(engine: Option<&EngineUrl>, app: Option<&App>) -> Option<PathBuf> {
    let engine = engine.cloned().or_else(|| app.and_then(|app| app.bus().engine));
    match engine {
        Some(EngineUrl::File(dir)) => Some(std::path::absolute(&dir).unwrap_or(dir)),
        Some(EngineUrl::Memory | EngineUrl::Nats(_) | EngineUrl::Amqp(_)) | None => None,
    }
}

pub(super) fn announce(node: &Node, data: Option<PathBuf>, token: String) -> Result<Option<Announcement>> {
    let file = NodeFile { pid: id(), address: node.admin_addr(), token, data, started_ms: SystemClock::new().now() };
    match Announcement::write(&folder()?, &file) {
        Ok(announcement) => Ok(Some(announcement)),
        Err(error) => {
            let error = crate::failure::chain(&error.into());
            warn(format!("the other commands will not find this node by themselves: {error}"));
            Ok(None)
        }
    }
}

/// The user's cache folder; none when there is no home.
pub(super) fn cache() -> Option<PathBuf> {
    directories::BaseDirs::new().map(|dirs| dirs.cache_dir().join("busway"))
}

fn standby_banner(report: &StatusReport, why: &str) {
    let node = &report.node;
    note(format!("busway {} stands by: {}", node.version, shown(why)));
    note(format!("  admin   http://{} (process {})", node.admin, node.pid));
    if let Some(gateway) = &node.gateway {
        note(format!("  gateway {}", gateway.url));
    }
}

fn banner(report: &StatusReport, app: &Path) {
    let StatusReport { node, services, bridges, refused, detached, .. } = report;
    note(format!("busway {} runs {}", node.version, app.display()));
    note(format!("  engine  {}, durability {}", shown(&node.engine), node.durability));
    note(format!("  admin   http://{} (process {})", node.admin, node.pid));
    if let Some(gateway) = &node.gateway {
        note(format!("  gateway {}", gateway.url));
        if let Some(file) = &gateway.self_made {
            note(format!("          its certificate is self-made; trust it with curl --cacert {}", shown(file)));
        }
    }
    for service in services {
        let patterns: Vec<String> =
            service.subscriptions.iter().flat_map(|sub| &sub.patterns).map(ToString::to_string).collect();
        let handles = if patterns.is_empty() { String::new() } else { format!("  handles {}", patterns.join(", ")) };
        let answers: Vec<String> = service.answers.iter().map(ToString::to_string).collect();
        let answers = if answers.is_empty() { String::new() } else { format!("  answers {}", answers.join(", ")) };
        let reason = service.reason.as_ref().map_or_else(String::new, |r| format!(": {}", shown_lines(r)));
        note(format!("  service {} {}{handles}{answers}{reason}", service.name, service.state.as_str()));
    }
    for BridgeStatus { name, from, to, .. } in bridges {
        note(format!("  bridge  {name}  {} -> {}", shown(from), shown(to)));
    }
    // The log has said why, once.
    if !refused.is_empty() {
        let files = crate::client::some(refused.len(), "component");
        warn(format!("{files} refused, see the log above; `busway status` lists them with their reasons"));
    }
    for gone in detached {
        warn(format!("the subscription {} has no service any more; its position is kept", gone.name));
    }
    if node.engine.starts_with("memory:") {
        warn("everything is in memory and gone when the node ends; --data DIR keeps it");
    }
}

/// Ctrl-C, and the signal by which services are ended.
pub(super) struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

impl Signals {
    pub(super) fn new() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    pub(super) async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

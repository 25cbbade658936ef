//! `busway status`.

use anyhow::Result;
use busway_gateway::api::{
    BridgeDirection, BridgeStatus, GatewayStatus, HttpStatus, NodeInfo, ServiceInfo, ServiceState, ServiceStatus,
    StatusReport,
};
use busway_types::{ServiceName, Topic};
use clap::Args;
use owo_colors::OwoColorize;

use crate::client::Client;
use crate::format::{bytes, count, counted, lasted, micros};
use crate::output::{Output, shown, shown_lines};
use crate::table::{Align, Table};

/// Show the node, its bus and its services
#[derive(Debug, Args)]
#[command(
    long_about = "Shows the node, its bus and its services: what they handled, published, retried and gave up on, what \
        waits for them, and how long an event takes. With a name: what that service is and may do.",
    after_help = "Example: busway status --json"
)]
pub(crate) struct StatusArgs {
    /// Only this service, in detail
    service: Option<ServiceName>,
}

pub(crate) fn run(args: &StatusArgs, client: &Client, output: &mut Output) -> Result<()> {
    if let Some(name) = &args.service {
        let info: ServiceInfo = client.get(&format!("/v1/services/{name}"), &())?;
        return if output.is_json() { output.json(&info) } else { service(&info, output) };
    }
    let report: StatusReport = client.get("/v1/status", &())?;
    if output.is_json() { output.json(&report) } else { node(&report, output) }
}

fn node(report: &StatusReport, output: &mut Output) -> Result<()> {
    let StatusReport { node, bus, services, bridges, refused, detached, nodes } = report;
    let draining = if node.draining { ", shutting down" } else { "" };
    output.line(format!(
        "busway {} (process {}), up {}{draining}, admin API on {}",
        node.version,
        node.pid,
        lasted(node.uptime_ms),
        node.admin
    ))?;
    if let Some(why) = &node.standby {
        output.line(format!("{}: {}", "stands by".yellow().bold(), shown_lines(why)))?;
    }
    if let Some(gateway) = &node.gateway {
        output.line(gateway_line(gateway))?;
    }
    output.line(bus_line(report))?;
    if !node.power_cut.is_empty() {
        output.line(format!("a power cut loses {}", shown(&node.power_cut)))?;
    }
    if let Some(warning) = &bus.warning {
        output.line(format!("{} {}", "warning:".yellow().bold(), shown_lines(warning)))?;
    }
    output.line("")?;
    if services.is_empty() {
        output.line("no services")?;
    } else {
        table(services).lines().into_iter().try_for_each(|line| output.line(line))?;
        output.line(format!(
            "counts and times are of the {} since the node started; WAITING, DEAD and MEMORY are of now",
            lasted(node.uptime_ms)
        ))?;
    }
    services.iter().try_for_each(|service| remarks(service, output))?;
    bridges.iter().try_for_each(|bridge| output.line(bridge_line(bridge)))?;
    if !nodes.is_empty() {
        output.line("")?;
        nodes_table(nodes).lines().into_iter().try_for_each(|line| output.line(line))?;
    }
    for file in refused {
        output.line(format!("{} {}: {}", "refused".red().bold(), shown(&file.path), shown_lines(&file.reason)))?;
    }
    for gone in detached {
        output.line(format!(
            "detached {} since {}: up to {} behind, {} waiting",
            gone.name,
            gone.since_ms,
            counted(gone.lag, "event"),
            counted(gone.dead as u64, "dead letter")
        ))?;
    }
    Ok(())
}

/// The nodes that share the bus. A service of which nodes have several versions is shown with them.
fn nodes_table(nodes: &[NodeInfo]) -> Table {
    let right = ["GENERATION", "IN FLIGHT", "HANDLED"];
    let mut columns = vec![("NODE", Align::Left), ("ROLE", Align::Left), ("ADMIN API", Align::Left)];
    columns.extend(right.map(|heading| (heading, Align::Right)));
    columns.push(("SERVICES", Align::Left));
    let mut table = Table::new(&columns);
    let is_mixed = |name: &ServiceName| {
        let mut versions = nodes.iter().filter_map(|node| node.services.get(name));
        let first = versions.next();
        versions.any(|version| Some(version) != first)
    };
    for node in nodes {
        let service = |(name, version): (&ServiceName, &String)| {
            if is_mixed(name) { format!("{name} ({})", shown(version)) } else { name.to_string() }
        };
        let services: Vec<String> = node.services.iter().map(service).collect();
        table.row(vec![
            shown(&node.name),
            node.role.as_str().to_owned(),
            node.admin.to_string(),
            node.generation.to_string(),
            count(node.in_flight as u64),
            count(node.handled),
            services.join(", "),
        ]);
    }
    table
}

/// The figures of HTTP in words; of what went wrong only what did.
fn answers_http(http: &HttpStatus) -> String {
    let asked = counted(http.requests, "request");
    let mut line = format!("{} of {} at once, {} waiting; {asked}", http.running, http.concurrency, http.waiting);
    for (number, what) in [
        (http.failed, "failed"),
        (http.timed_out, "timed out"),
        (http.cancelled, "given up by clients"),
        (http.overloaded, "refused for lack of room"),
    ] {
        if number > 0 {
            line.extend([", ", &count(number), " ", what]);
        }
    }
    line
}

fn bus_line(report: &StatusReport) -> String {
    let StatusReport { node, bus, .. } = report;
    let mut line = format!(
        "bus: {}, durability {}, events {} to {}, {}, {} delayed, room {}",
        shown(&node.engine),
        node.durability,
        bus.oldest,
        bus.head,
        bytes(bus.bytes),
        count(bus.delayed as u64),
        bus.room
    );
    for (number, what) in [(bus.duplicates, "published again"), (bus.expired, "expired while delayed")] {
        if number > 0 {
            line.extend([", ", &count(number), " ", what]);
        }
    }
    line
}

fn gateway_line(gateway: &GatewayStatus) -> String {
    let GatewayStatus { url, connections, in_flight, requests, refused, turned_away, .. } = gateway;
    let mut line = format!(
        "gateway: {}, {}, {} answered, {} in flight",
        shown(url),
        counted(*connections as u64, "connection"),
        counted(*requests, "request"),
        count(*in_flight as u64)
    );
    let refused = refused.iter().map(|(word, number)| format!("{} {word}", count(*number))).collect::<Vec<_>>();
    if !refused.is_empty() {
        line.extend(["; refused: ", &refused.join(", ")]);
    }
    if *turned_away > 0 {
        line.extend(["; turned away: ", &counted(*turned_away, "connection")]);
    }
    line
}

fn bridge_line(bridge: &BridgeStatus) -> String {
    let BridgeStatus { name, direction, from, to, state, reason, copied, retried, refused } = bridge;
    let mut line = format!("bridge {name} {state}: {} -> {}", shown(from), shown(to));
    let copied_what = match direction {
        BridgeDirection::In => "came in",
        BridgeDirection::Out => "went out",
    };
    line.extend(["; ", &counted(*copied, "message"), " ", copied_what]);
    for (number, what) in [(*retried, "not taken and tried again"), (*refused, "refused for good")] {
        if number > 0 {
            line.extend([", ", &count(number), " ", what]);
        }
    }
    if let Some(reason) = reason {
        line.extend(["; waits: ", &shown_lines(reason)]);
    }
    line
}

/// What is to be said of a service beside its row.
fn remarks(service: &ServiceStatus, output: &mut Output) -> Result<()> {
    if let Some(reason) = &service.reason {
        output.line(format!("{} {}: {}", service.name, service.state.as_str(), shown_lines(reason)))?;
    }
    if !service.answers.is_empty() {
        output.line(format!("{}: answers {}", service.name, answers(service)))?;
    }
    if let Some(http) = &service.http {
        output.line(format!("{} answers HTTP: {}", service.name, answers_http(http)))?;
    }
    for subscription in &service.subscriptions {
        if subscription.expired > 0 {
            let expired = counted(subscription.expired, "event");
            output.line(format!("{}: {expired} expired before being handled", subscription.name))?;
        }
        if let Some(paused) = &subscription.paused {
            output.line(format!("{} paused: {}", subscription.name, shown(paused)))?;
        }
    }
    Ok(())
}

/// The requests that a service answers, and how many it did.
fn answers(service: &ServiceStatus) -> String {
    let topics: Vec<&str> = service.answers.iter().map(Topic::as_str).collect();
    let failed = match service.unanswered {
        0 => String::new(),
        failed => format!(", {} without an answer", count(failed)),
    };
    format!("{} ({} answered{failed})", topics.join(", "), count(service.answered))
}

fn table(services: &[ServiceStatus]) -> Table {
    let right = [
        "HANDLED",
        "ACKED",
        "PUBLISHED",
        "RETRIED",
        "GIVEN UP",
        "TRAPPED",
        "TIMED OUT",
        "WAITING",
        "DEAD",
        "P50",
        "P99",
        "MEMORY",
    ];
    let mut columns = vec![("SERVICE", Align::Left), ("STATE", Align::Left)];
    columns.extend(right.map(|heading| (heading, Align::Right)));
    let mut table = Table::new(&columns);
    for service in services {
        let waiting: usize = service.subscriptions.iter().map(|sub| sub.backlog_events + sub.parked).sum();
        let dead: usize = service.subscriptions.iter().map(|sub| sub.dead).sum();
        let mut row = vec![service.name.to_string(), service.state.as_str().to_owned()];
        let counts = [
            service.handled,
            service.acked,
            service.published,
            service.retried,
            service.dead_lettered,
            service.trapped,
            service.timed_out,
            waiting as u64,
            dead as u64,
        ];
        row.extend(counts.map(count));
        row.extend([micros(service.p50_us), micros(service.p99_us), bytes(service.memory_bytes)]);
        table.row(row);
    }
    table
}

fn service(info: &ServiceInfo, output: &mut Output) -> Result<()> {
    let ServiceInfo { status, exports, imports, publish, subscribe, .. } = info;
    let running = status.state == ServiceState::Running;
    output.line(format!("{} {} ({})", status.name.bold(), status.state.as_str(), shown(&status.component)))?;
    if let Some(reason) = status.reason.as_ref().filter(|_| !running) {
        output.line(format!("  because      {}", shown_lines(reason)))?;
    }
    let list = |items: Vec<String>| if items.is_empty() { "-".to_owned() } else { items.join(", ") };
    let ordering = serde_json::to_value(info.ordering)?;
    let lines = [
        ("subscribes", list(subscribe.iter().map(ToString::to_string).collect())),
        ("publishes", list(publish.iter().map(ToString::to_string).collect())),
        ("answers", if status.answers.is_empty() { "-".to_owned() } else { answers(status) }),
        ("exports", list(exports.iter().map(|e| shown(e)).collect())),
        ("imports", list(imports.iter().map(|i| shown(i)).collect())),
        ("ordering", format!("{}, {} at a time", ordering.as_str().unwrap_or("?"), info.concurrency)),
        ("limits", format!("{} ms, {}", count(info.timeout_ms), bytes(info.memory_limit_bytes))),
        ("key-value", if info.key_value { "yes" } else { "no" }.to_owned()),
        ("environment", list(info.env.clone())),
        ("files", list(info.files.clone())),
        ("network", list(info.network.clone())),
    ];
    lines.iter().try_for_each(|(name, value)| output.line(format!("  {name:<12} {value}")))?;
    output.line("")?;
    table(std::slice::from_ref(status)).lines().into_iter().try_for_each(|line| output.line(line))?;
    output.line("counts and times are since the node started; WAITING, DEAD and MEMORY are of now")
}

//! `status`: figures of the node, the bus and every service.

use std::fmt::Write as _;
use std::sync::Arc;

use busway_dispatch::SubStats;
use busway_engine::Room;
use busway_gateway::api::{
    BusStatus, DetachedSubscription, GatewayStatus, HttpStatus, NodeInfo, NodeRole, NodeStatus, ServiceInfo,
    ServiceState, ServiceStatus, StatusReport, SubscriptionStatus,
};
use busway_types::{ServiceName, SubId, Timestamp};
use rustc_hash::FxHashMap;

use crate::inner::Inner;
use crate::services::Service;

pub(super) async fn report(inner: &Inner) -> StatusReport {
    let stats = inner.driver.stats().await;
    let engine = inner.engine.status();
    let services = inner.services.all();
    let detached = inner.engine.subscriptions().into_iter().filter_map(|known| {
        let lag = engine.head.saturating_sub(known.state.cursor);
        let dead = known.state.dead.len();
        known.detached_since.map(|since_ms| DetachedSubscription {
            name: known.name,
            service: known.service,
            since_ms,
            lag,
            dead,
        })
    });
    StatusReport {
        node: NodeStatus {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            engine: engine.description.clone(),
            durability: inner.durability.clone(),
            power_cut: power_cut(inner.engine.capabilities().durable, &inner.durability),
            standby: inner.engine.standby(),
            uptime_ms: (inner.clock.monotonic_ns() - inner.started_ns) / 1_000_000,
            admin: inner.admin,
            gateway: gateway(inner),
            draining: inner.is_stopping(),
        },
        bus: BusStatus {
            oldest: engine.oldest,
            head: engine.head,
            bytes: engine.bytes,
            delayed: engine.delayed,
            duplicates: engine.duplicates,
            expired: engine.expired,
            warning: engine.warning,
            room: room(inner.engine.room()).to_owned(),
        },
        bridges: inner.bridges.status(),
        services: services.iter().map(|service| service_status(inner, service, &stats)).collect(),
        refused: inner.services.refused(),
        detached: detached.collect(),
        nodes: nodes(inner, &stats, &services),
    }
}

/// The nodes of a bus that several share, as its owner knows them.
fn nodes(inner: &Inner, stats: &FxHashMap<SubId, SubStats>, services: &[Arc<Service>]) -> Vec<NodeInfo> {
    let (Some(spread), Some(_)) = (&inner.spread, inner.owns()) else { return Vec::new() };
    let version =
        |service: &Arc<Service>| service.with(|now| now.version.as_ref().map(|version| hex(&version.hash[..6])));
    let handled: u64 = services.iter().map(|service| service.metrics.snapshot().handled).sum();
    let mut others = spread.others();
    let elsewhere: usize = others.iter().map(|node| node.in_flight).sum();
    let own = NodeInfo {
        name: spread.name().to_owned(),
        role: NodeRole::Owner,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
        admin: inner.admin,
        generation: inner.generation,
        services: services.iter().filter_map(|of| Some((of.config.name.clone(), version(of)?))).collect(),
        in_flight: stats.values().map(|stats| stats.in_flight).sum::<usize>().saturating_sub(elsewhere),
        handled: handled.saturating_sub(spread.handled_elsewhere()),
        since_ms: Timestamp(
            inner.clock.now().0.saturating_sub((inner.clock.monotonic_ns() - inner.started_ns) / 1_000_000),
        ),
    };
    others.insert(0, own);
    others
}

fn gateway(inner: &Inner) -> Option<GatewayStatus> {
    let (addr, gateway) = inner.gateway.get()?;
    let gateway = gateway.upgrade()?;
    let scheme = if gateway.is_tls() { "https" } else { "http" };
    let figures = gateway.edge().figures();
    Some(GatewayStatus {
        url: format!("{scheme}://{addr}"),
        self_made: gateway.self_made().map(|path| path.display().to_string()),
        connections: figures.connections,
        in_flight: figures.in_flight,
        requests: figures.requests,
        refused: figures.refused.into_iter().map(|(word, count)| (word.to_owned(), count)).collect(),
        turned_away: figures.turned_away,
    })
}

/// What the durability means for whoever pulls the plug.
fn power_cut(on_disk: bool, durability: &str) -> String {
    match (on_disk, durability) {
        (false, _) => "everything".to_owned(),
        (true, crate::opening::BROKER) => {
            "what the servers of the broker have not synced yet, where all that keep it lose their power".to_owned()
        }
        (true, "sync") => "nothing that was acknowledged".to_owned(),
        (true, "memory") => "what the operating system has not written yet, acknowledged or not".to_owned(),
        (true, interval) => format!("at most what was acknowledged in about the last {}", interval_of(interval)),
    }
}

/// The time in `interval(50ms)`.
fn interval_of(durability: &str) -> &str {
    durability.strip_prefix("interval(").and_then(|rest| rest.strip_suffix(')')).unwrap_or(durability)
}

fn room(room: Room) -> &'static str {
    match room {
        Room::Enough => "enough",
        Room::NoPublishers => "no-publishers",
        Room::NoTransactions => "no-transactions",
    }
}

fn service_status(inner: &Inner, service: &Service, stats: &FxHashMap<SubId, SubStats>) -> ServiceStatus {
    let figures = service.metrics.snapshot();
    let handlers = service.handlers();
    let (lane, answers) = service.with(|now| {
        let Some(version) = &now.version else { return Default::default() };
        let mut answers: Vec<_> = version.answers.iter().map(|(topic, _)| topic.clone()).collect();
        answers.sort_unstable();
        (version.lane.stats(), answers)
    });
    let http = service.http().map(|pool| pool.stats());
    let failing = inner.driver.failing().get(&service.config.name).cloned();
    let (mut state, mut reason) = service.with(|now| (now.state, now.reason.clone()));
    if let (ServiceState::Running, Some(why)) = (state, failing) {
        (state, reason) = (ServiceState::Parked, Some(why));
    }
    let quantile =
        |q: f64| (!figures.time_ns.is_empty()).then(|| figures.time_ns.value_at_quantile(q) as f64 / 1_000.0);
    let subscriptions = handlers.into_iter().map(|handler| {
        let stats = stats.get(&handler.sub);
        SubscriptionStatus {
            name: handler.name,
            patterns: handler.patterns,
            ready: stats.map_or(0, |s| s.ready),
            in_flight: stats.map_or(0, |s| s.in_flight),
            parked: stats.map_or(0, |s| s.parked),
            dead: stats.map_or(0, |s| s.dead),
            expired: stats.map_or(0, |s| s.expired),
            backlog_events: stats.map_or(0, |s| s.backlog_events),
            lag: stats.map_or(0, |s| s.behind),
            paused: stats.and_then(|s| s.paused).map(|why| why.to_string()),
        }
    });
    ServiceStatus {
        name: service.config.name.clone(),
        component: service.config.component.display().to_string(),
        state,
        reason,
        version: service.with(|now| now.version.as_ref().map(|version| hex(&version.hash[..6]))),
        instances: lane.instances + http.map_or(0, |http| http.running),
        handled: figures.handled,
        acked: figures.acked,
        published: figures.published,
        retried: figures.retried,
        dead_lettered: figures.dead_lettered,
        trapped: figures.trapped,
        timed_out: figures.timed_out,
        skipped: figures.skipped,
        answers,
        answered: figures.answered,
        unanswered: figures.unanswered,
        p50_us: quantile(0.5),
        p99_us: quantile(0.99),
        memory_bytes: lane.memory_bytes.max(http.map_or(0, |http| http.memory_bytes)) as u64,
        http: http.map(|http| HttpStatus {
            running: http.running,
            concurrency: service.config.http.concurrency,
            waiting: http.waiting,
            requests: http.taken,
            answered: http.answered,
            failed: http.failed,
            timed_out: http.timed_out,
            cancelled: http.cancelled,
            overloaded: http.overloaded,
        }),
        subscriptions: subscriptions.collect(),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

pub(super) async fn service(inner: &Inner, name: &ServiceName) -> Option<ServiceInfo> {
    let service = inner.services.get(name)?;
    let stats = inner.driver.stats().await;
    let (exports, imports) = service.with(|now| {
        let version = now.version.as_ref();
        version.map(|v| (v.exports.clone(), v.imports.clone())).unwrap_or_default()
    });
    let status = service_status(inner, &service, &stats);
    let config = &service.config;
    Some(ServiceInfo {
        exports,
        imports,
        publish: config.publish.clone(),
        subscribe: status.subscriptions.iter().flat_map(|s| s.patterns.clone()).collect(),
        ordering: config.ordering,
        concurrency: config.concurrency,
        timeout_ms: u64::try_from(config.timeout.as_millis()).unwrap_or(u64::MAX),
        memory_limit_bytes: config.memory_bytes as u64,
        key_value: config.key_value,
        env: config.env.keys().cloned().collect(),
        files: config
            .files
            .iter()
            .map(|grant| {
                format!("{} as {}{}", grant.host.display(), grant.guest, if grant.write { "" } else { " (read only)" })
            })
            .collect(),
        network: config.network.iter().map(ToString::to_string).collect(),
        status,
    })
}

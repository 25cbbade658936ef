//! `busway check`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use busway_contract::Use;
use busway_contract::compare::{Pairings, pairings};
use busway_gateway::edge::Served;
use busway_host::{Host, HostConfig, NoBus};
use busway_node::manifest::{App, ServiceConfig};
use busway_types::{Pattern, ServiceName, Topic};
use clap::Args;
use owo_colors::OwoColorize;
use serde::Serialize;

use crate::client::some;
use crate::failure::{Told, chain};
use crate::output::{Output, shown, shown_lines};

/// Find everything that `run` would refuse, without running anything
#[derive(Debug, Args)]
#[command(
    long_about = "Reads the manifest, looks at every component, compiles and links it, and asks it what it subscribes to: \
        everything that `busway run` would refuse is told, and nothing is run. Ends with 1 when something would be refused.",
    after_help = "Example: busway check ./services"
)]
pub(crate) struct CheckArgs {
    /// A folder of .wasm files, or a busway.toml
    #[arg(default_value = ".")]
    app: PathBuf,
}

/// What `check` found.
#[derive(Debug, Default, Serialize)]
struct Report {
    /// Whether `run` would start everything.
    ok: bool,
    services: Vec<Checked>,
    /// The bridges that `run` would start. Nobody connects to their brokers here.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    bridges: Vec<Bridged>,
    /// How the producers and handlers of each contract fit.
    contracts: Pairings,
    /// What of the gateway is probably not meant. `run` starts it all the same.
    gateway: Vec<String>,
}

/// A bridge, without what is secret.
#[derive(Debug, Serialize)]
struct Bridged {
    name: String,
    from: String,
    to: String,
}

#[derive(Debug, Serialize)]
struct Checked {
    #[serde(skip_serializing_if = "Option::is_none")]
    service: Option<ServiceName>,
    component: PathBuf,
    /// What it is, such as `handler, task`.
    #[serde(skip_serializing_if = "Option::is_none")]
    kind: Option<String>,
    subscribes: Vec<Pattern>,
    /// The requests of contracts that it answers.
    answers: Vec<Topic>,
    /// Whether it answers HTTP.
    http: bool,
    /// Whether it is to run (`enabled`).
    enabled: bool,
    /// Why it would be refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
}

impl Checked {
    fn is_refused(&self) -> bool {
        self.enabled && self.problem.is_some()
    }
}

pub(crate) fn run(args: &CheckArgs, output: &mut Output) -> Result<()> {
    let app = App::load(&args.app)?;
    if let Some(nothing) = app.nothing_to_run() {
        return Err(nothing.into());
    }
    if let Some(tls) = &app.gateway().edge.tls {
        tls.check().context("the gateway would not start")?;
    }
    let host = Host::new(HostConfig { limits: app.limits(), ..HostConfig::default() })?;
    let refused = app.refused.iter().map(|refused| Checked {
        service: None,
        component: refused.path.clone(),
        kind: None,
        subscribes: Vec::new(),
        answers: Vec::new(),
        http: false,
        enabled: true,
        problem: Some(refused.reason.clone()),
    });
    let mut uses = Vec::new();
    let mut services: Vec<Checked> = app.services.values().map(|service| check(&host, service, &mut uses)).collect();
    services.extend(refused);
    let contracts = pairings(uses.iter().map(|(service, used)| (service.as_str(), used)));
    keep_out(&contracts, &mut services);
    // `run` does not look at what is not enabled, and so refuses nothing of it.
    let ok = !services.iter().any(Checked::is_refused);
    let gateway = advice(&app, &services, &uses);
    let bridges = app.bridges().map(|bridge| {
        let (from, to) = bridge.sides();
        Bridged { name: bridge.name.clone(), from, to }
    });
    let report = Report { ok, services, bridges: bridges.collect(), contracts, gateway };
    if output.is_json() {
        output.json(&report)?;
    } else {
        human(&report, &args.app, output)?;
    }
    if report.ok {
        return Ok(());
    }
    output.flush()?;
    bail!(Told)
}

/// Those that `run` would not start because they do not understand another one; the differences are told with the pairs.
fn keep_out(contracts: &Pairings, services: &mut [Checked]) {
    for (name, pairs) in contracts.kept_out() {
        let found = services.iter_mut().find(|checked| checked.service.as_ref().is_some_and(|s| s.as_str() == &*name));
        let Some(checked) = found else { continue };
        let mut others: Vec<&str> = pairs.iter().map(|pair| &*pair.producer).collect();
        others.dedup();
        checked.problem = Some(format!("it does not understand {}, see below", others.join(", ")));
    }
}

/// What `run` would warn of once it has started what it can.
fn advice(app: &App, services: &[Checked], uses: &[(String, Use)]) -> Vec<String> {
    let gateway = app.gateway();
    let running = || services.iter().filter(|checked| checked.enabled && checked.problem.is_none());
    let runs = |name: &str| running().any(|checked| checked.service.as_ref().is_some_and(|s| s.as_str() == name));
    let mut served = Served::default();
    for (_, used) in uses.iter().filter(|(name, _)| runs(name)) {
        if !served.contracts.iter().any(|known| **known == used.contract) {
            served.contracts.push(Arc::new(used.contract.clone()));
        }
    }
    served.answers = running().flat_map(|checked| checked.answers.iter().cloned()).collect();
    served.services = running().filter_map(|checked| checked.service.clone()).collect();
    served.http = running().filter(|checked| checked.http).filter_map(|checked| checked.service.clone()).collect();
    gateway.edge.advice(gateway.listen, &served)
}

fn check(host: &Host, service: &ServiceConfig, uses: &mut Vec<(String, Use)>) -> Checked {
    let mut checked = Checked {
        service: Some(service.name.clone()),
        component: service.component.clone(),
        kind: None,
        subscribes: Vec::new(),
        answers: Vec::new(),
        http: false,
        enabled: service.enabled,
        problem: None,
    };
    if let Err(error) = examine(host, service, &mut checked, uses) {
        checked.problem = Some(chain(&error));
    }
    checked
}

fn examine(host: &Host, service: &ServiceConfig, checked: &mut Checked, uses: &mut Vec<(String, Use)>) -> Result<()> {
    let found = busway_node::examine(host, service.clone(), |_| Arc::new(NoBus))?;
    let inspection = found.compiled.inspection();
    checked.kind = Some(inspection.to_string());
    checked.subscribes = found.patterns();
    checked.answers = found.linked.request_topics().concat();
    checked.answers.sort_unstable();
    checked.http = inspection.http.is_some();
    if !service.enabled {
        return Ok(());
    }
    uses.extend(inspection.contracts.iter().map(|used| (service.name.to_string(), used.clone())));
    Ok(())
}

fn human(report: &Report, app: &Path, output: &mut Output) -> Result<()> {
    for checked in &report.services {
        let file = shown(&checked.component.display().to_string());
        let name = checked.service.as_ref().map_or_else(|| file.clone(), ToString::to_string);
        match (&checked.problem, &checked.kind) {
            (problem, _) if !checked.enabled => {
                let problem = problem.as_ref().map_or_else(String::new, |problem| {
                    format!("; if it were enabled it would be refused: {}", shown_lines(problem))
                });
                output.line(format!("{} {name}: enabled = false{problem}", "off".yellow().bold()))?;
            }
            (Some(problem), _) => {
                output.line(format!("{} {name}: {}", "refused".red().bold(), shown_lines(problem)))?;
                if checked.service.is_some() {
                    output.line(format!("        {file}"))?;
                }
            }
            (None, kind) => {
                let patterns: Vec<String> = checked.subscribes.iter().map(ToString::to_string).collect();
                let kind = kind.as_deref().unwrap_or_default();
                let answers: Vec<&str> = checked.answers.iter().map(Topic::as_str).collect();
                let answers =
                    if answers.is_empty() { String::new() } else { format!("answers {}", answers.join(", ")) };
                let does: Vec<String> = [patterns.join(", "), answers].into_iter().filter(|p| !p.is_empty()).collect();
                output.line(format!("{} {name}: {kind} {}", "ok".green().bold(), does.join("; ")).trim_end())?;
            }
        }
    }
    for Bridged { name, from, to } in &report.bridges {
        output.line(format!("{} bridge {name}: {} -> {}", "ok".green().bold(), shown(from), shown(to)))?;
    }
    let contracts = report.contracts.to_string();
    if !contracts.is_empty() {
        output.line(shown_lines(contracts.trim_end()))?;
    }
    for advice in &report.gateway {
        output.line(format!("{} {}", "warning".yellow().bold(), shown(advice)))?;
    }
    let bad = report.services.iter().filter(|checked| checked.is_refused()).count();
    let enabled = report.services.iter().filter(|checked| checked.enabled).count();
    let summary = match bad {
        0 => format!("{} can run: busway run {}", some(enabled, "service"), app.display()),
        bad => format!("{bad} of {} would be refused", some(report.services.len(), "service")),
    };
    output.line(summary)
}

//! What a node does while another one owns the bus: it has its services ready for the owner's events.
//!
//! Role: prepares each service of the app as if it were started, and offers those that handle events; their components are compiled then,
//! so that taking over does not wait for that. Looks at the app again and again: a component that changed is offered anew, while
//! what its old version has taken is finished.
//!
//! Invariant: what cannot be prepared here, or does not understand the others here, is not offered; that is said once. Tasks,
//! schedules, the gateway and requests are the owner's.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use busway_types::ServiceName;

use super::fitting;
use super::prepare::{Prepared, Preparer};
use super::scan::Fingerprint;
use crate::inner::Inner;
use crate::manifest::App;
use crate::spread::Skill;

/// How often the app's files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What tells one state of an app's files from another.
type Prints = BTreeMap<PathBuf, Option<Fingerprint>>;

/// A node that helps the owner.
pub(super) struct Helper<'a> {
    pub(super) inner: &'a Arc<Inner>,
    pub(super) preparer: &'a Arc<Preparer>,
    /// Where the app is.
    pub(super) path: &'a Path,
    pub(super) watch: bool,
}

impl Helper<'_> {
    /// Offers what the app has, for ever.
    pub(super) async fn help(&self, app: &App) {
        let (mut offered, mut revision, mut said) = (prints(app), 0, BTreeMap::new());
        self.offer(app, revision, &mut said).await;
        let mut seen = offered.clone();
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            if !self.watch {
                continue;
            }
            let path = self.path.to_owned();
            let read = tokio::task::spawn_blocking(move || {
                let app = App::load(&path).ok()?;
                let prints = prints(&app);
                Some((app, prints))
            });
            let Ok(Some((app, now))) = read.await else { continue };
            // Two looks alike, so that nothing is taken that is still being written.
            if now == seen && now != offered {
                revision += u64::from(of_manifest(&app, &now) != of_manifest(&app, &offered));
                self.offer(&app, revision, &mut said).await;
                offered.clone_from(&now);
            }
            seen = now;
        }
    }

    async fn offer(&self, app: &App, revision: u64, said: &mut BTreeMap<ServiceName, String>) {
        let mut ready: Vec<(ServiceName, Prepared)> = Vec::new();
        let mut refused: BTreeMap<ServiceName, String> = BTreeMap::new();
        for config in app.services.values().filter(|config| config.enabled).cloned() {
            let (name, preparer) = (config.name.clone(), Arc::clone(self.preparer));
            match tokio::task::spawn_blocking(move || preparer.prepare_to_help(config)).await {
                Ok(Ok(prepared)) => ready.push((name, prepared)),
                Ok(Err(error)) => drop(refused.insert(name, error.report())),
                Err(panic) => drop(refused.insert(name, panic.to_string())),
            }
        }
        refused.extend(fitting::kept_out(&ready));
        ready.retain(|(name, _)| !refused.contains_key(name));
        for (service, why) in &refused {
            if said.get(service) != Some(why) {
                tracing::warn!(%service, "not offered to the node that owns the bus: {why}");
            }
        }
        *said = refused;
        self.inner.contracts.set(ready.iter().flat_map(|(_, prepared)| prepared.contracts().to_vec()).collect());
        let Some(spread) = &self.inner.spread else { return };
        let skills: Vec<Skill> = ready.into_iter().filter_map(|(_, prepared)| skill(prepared, revision)).collect();
        tracing::info!(services = skills.len(), "this node works for the one that owns the bus");
        spread.offer(skills);
    }
}

/// What a prepared service can do for the owner; none when it handles no events.
fn skill(prepared: Prepared, revision: u64) -> Option<Skill> {
    let bindings: Vec<_> = prepared.specs().into_iter().map(|(_, binding)| binding).collect();
    let Prepared { config, linked, hash, .. } = prepared;
    let concurrency = config.concurrency;
    (!bindings.is_empty()).then_some(Skill { service: config.name, linked, concurrency, hash, revision, bindings })
}

fn prints(app: &App) -> Prints {
    let components = app.services.values().map(|config| config.component.clone());
    let files = components.chain(app.manifest.as_ref().map(|manifest| manifest.path.clone()));
    files.map(|path| (path.clone(), Fingerprint::of(&path))).collect()
}

fn of_manifest(app: &App, prints: &Prints) -> Option<Fingerprint> {
    prints.get(&app.manifest.as_ref()?.path).copied().flatten()
}

//! The manifest while the node runs.
//!
//! Role: a changed `[gateway]` is served at once; for everything else the operator is told to restart the node. Invariant: a
//! manifest with a mistake changes nothing, and is told with the mistake.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::scan::Fingerprint;
use crate::edge::Listening;
use crate::inner::Inner;
use crate::manifest::{App, GatewayConfig, MANIFEST, Manifest};

/// The manifest of an app, and what of it is in use.
pub(crate) struct WatchedManifest {
    /// Where it is, or would be; none when it cannot be.
    path: Option<PathBuf>,
    /// The manifest that the node was started with; none when there was none.
    started: Option<Manifest>,
    gateway: Option<Arc<Listening>>,
    /// What the gateway is set to.
    applied: GatewayConfig,
    /// What was acted on last, and what the last look saw.
    acted: Option<Fingerprint>,
    last: Option<Fingerprint>,
    /// What was said of the gateway, so that it is not said again as long as it is so.
    advice: Vec<String>,
}

impl WatchedManifest {
    pub(crate) fn new(app: &App, gateway: Option<Arc<Listening>>) -> Self {
        // A folder without a manifest may get one.
        let beside = || app.folder.as_ref().map(|folder| folder.join(MANIFEST));
        let path = app.manifest.as_ref().map(|manifest| manifest.path.clone()).or_else(beside);
        let now = path.as_deref().and_then(Fingerprint::of);
        Self {
            path,
            started: app.manifest.clone(),
            gateway,
            applied: app.gateway(),
            acted: now,
            last: now,
            advice: Vec::new(),
        }
    }

    /// Where it is.
    pub(crate) fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// Says what of the gateway is probably not meant, given what runs behind it; each thing once, as long as it is so.
    pub(crate) fn advise(&mut self, inner: &Inner) {
        let Some(gateway) = &self.gateway else { return };
        let advice = self.applied.edge.advice(Some(gateway.addr()), &inner.services.served());
        for new in advice.iter().filter(|advice| !self.advice.contains(advice)) {
            tracing::warn!("{new}");
        }
        self.advice = advice;
    }

    /// Looks whether it changed, and acts on it when two looks saw the same. True when it was acted on.
    pub(crate) fn look(&mut self, inner: &Inner) -> bool {
        let Some(path) = self.path.clone() else { return false };
        let now = Fingerprint::of(&path);
        let is_settled = now == self.last && now != self.acted;
        self.last = now;
        if !is_settled {
            return false;
        }
        let what = match (&self.acted, &now) {
            (None, _) => "appeared",
            (_, None) => "is gone",
            _ => "changed",
        };
        self.acted = now;
        let manifest = path.display().to_string();
        let told = match now.map(|_| Manifest::read(&path)) {
            None => Some(format!("the manifest {what} while the node runs; restart the node to apply it")),
            Some(Err(error)) => {
                Some(format!("the manifest {what} and cannot be used; what was before goes on: {error}"))
            }
            Some(Ok(new)) => self.apply(&new, what),
        };
        if let Some(reason) = told {
            tracing::warn!(manifest, "{reason}");
            inner.services.refuse(path, None, reason, inner.clock.now());
        } else {
            tracing::info!(manifest, "the manifest {what}; the node runs with it");
            inner.services.forgive_unfit(&path);
        }
        true
    }

    /// Applies what can be applied; says what cannot.
    fn apply(&mut self, new: &Manifest, what: &str) -> Option<String> {
        if new.gateway != self.applied
            && let Some(gateway) = &self.gateway
        {
            if let Err(error) = gateway.reload(&new.gateway.edge) {
                return Some(format!(
                    "the manifest {what} and the gateway cannot serve it; it goes on as before: {error}"
                ));
            }
            self.applied.edge = new.gateway.edge.clone();
            tracing::info!("the gateway serves the changed manifest");
        }
        let same = self.started.as_ref().is_some_and(|started| {
            // What the gateway took does not count.
            let mut rest = new.clone();
            if self.gateway.is_some() {
                rest.gateway.edge = started.gateway.edge.clone();
            }
            rest == *started
        });
        (!same).then(|| format!("the manifest {what} while the node runs; restart the node to apply it"))
    }
}

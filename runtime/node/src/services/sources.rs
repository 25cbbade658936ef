//! When the services of a node are started.
//!
//! Role: at once on an engine of one's own; on one that several nodes share, when this node owns the bus. Until then it helps
//! whoever does.

use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::watch;

use super::helping::Helper;
use super::manifest::WatchedManifest;
use super::prepare::Preparer;
use super::supervisor::Supervisor;
use crate::edge::Listening;
use crate::inner::{Inner, Stop};
use crate::manifest::App;
use crate::task_set::TaskSet;

/// What it takes to start services.
pub(crate) struct Sources {
    pub(crate) inner: Arc<Inner>,
    pub(crate) preparer: Arc<Preparer>,
    pub(crate) tasks: TaskSet,
    pub(crate) busy_tasks: Arc<watch::Sender<usize>>,
    pub(crate) gateway: Option<Arc<Listening>>,
    pub(crate) watch: bool,
}

impl Sources {
    /// Starts every service of the app.
    pub(crate) async fn start(self, app: App) -> Supervisor {
        let manifest = WatchedManifest::new(&app, self.gateway);
        let mut supervisor = Supervisor::new(self.inner, self.preparer, self.tasks, app, self.busy_tasks, manifest);
        supervisor.start().await;
        supervisor
    }

    /// Starts every service of the app, as it is then, when this node owns the bus; watches it until the node stops.
    pub(crate) async fn start_in_turn(self, app: App, path: PathBuf) {
        let helper = Helper { inner: &self.inner, preparer: &self.preparer, path: &path, watch: self.watch };
        let (mut epoch, mut stop) = (self.inner.driver.epoch.subscribe(), self.inner.stop.subscribe());
        tokio::select! {
            () = helper.help(&app) => {}
            _ = epoch.wait_for(|epoch| *epoch > 0) => {}
            _ = stop.wait_for(|stop| *stop != Stop::No) => return,
        }
        if let Some(spread) = &self.inner.spread {
            spread.work_no_more();
        }
        let app = self.read_again(app, path).await;
        let watch = self.watch;
        self.start(app).await.run(watch).await;
    }

    /// The app as it is now: much may have changed while this node waited.
    async fn read_again(&self, known: App, path: PathBuf) -> App {
        let read = tokio::task::spawn_blocking(move || App::load(&path)).await;
        let found = match read {
            Ok(Ok(app)) => app,
            Ok(Err(error)) => {
                tracing::warn!(
                    "the app changed and cannot be used; it runs as it was when this node was started: {error}"
                );
                return known;
            }
            Err(_) => return known,
        };
        if let Some(gateway) = self.gateway.as_ref().filter(|_| found.gateway() != known.gateway())
            && let Err(error) = gateway.reload(&found.gateway().edge)
        {
            tracing::warn!("the gateway cannot serve the changed manifest; it goes on as before: {error}");
        }
        found
    }
}

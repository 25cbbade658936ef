//! The only place where tasks are spawned.
//!
//! Role: every background task of a node belongs to one set, so that shutting down can wait for all of them.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::task::JoinSet;

/// The background tasks of a node. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct TaskSet {
    tasks: Arc<Mutex<JoinSet<()>>>,
}

impl TaskSet {
    /// Runs `task` in the background until it ends or the node does.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        while tasks.try_join_next().is_some() {}
        tasks.spawn(task);
    }

    /// Waits at most `patience` for the tasks to end by themselves, then ends the rest.
    pub(crate) async fn finish(&self, patience: Duration) {
        let mut tasks = std::mem::take(&mut *self.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        let all = async { while tasks.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(patience, all).await;
        tasks.shutdown().await;
    }
}

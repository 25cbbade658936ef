//! HTTP for components: which version of a service gets a request, and how an old version goes.
//!
//! Role: what the gateway's service routes lead to. Invariant: a request that finds its version closed goes to the next
//! one, so a swap fails none; an old version answers what it has begun.

use std::sync::Arc;
use std::time::Duration;

use busway_gateway::edge::EdgeError;
use busway_host::{HttpBody, HttpError, HttpPool, HttpSettings};
use busway_types::ServiceName;

use crate::inner::{Inner, Stop};
use crate::manifest::ServiceConfig;
use crate::task_set::TaskSet;

/// How often an old version is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// How often a request looks for the version after a closed one: each time a swap would have to come in between.
const SWAPS: usize = 8;

/// What the pool of a service is set to.
pub(super) fn settings(config: &ServiceConfig) -> HttpSettings {
    let http = &config.http;
    HttpSettings {
        concurrency: http.concurrency,
        queue: http.queue.unwrap_or(http.concurrency.saturating_mul(4)),
        idle: http.idle,
        computing: http.computing,
        ..HttpSettings::new(config.timeout)
    }
}

/// Gives a request to an instance of a service.
pub(crate) async fn answer(
    inner: &Inner,
    name: &ServiceName,
    request: http::Request<HttpBody>,
) -> Result<http::Response<HttpBody>, EdgeError> {
    for _ in 0..SWAPS {
        let service = inner.services.get(name);
        let pool = service.as_ref().and_then(|service| service.http());
        let Some(pool) = pool else { return Err(not_there(inner, name, service.is_some())) };
        match pool.admit().await {
            Ok(admitted) => return admitted.handle(request).await.map_err(edge_error),
            Err(HttpError::Closed) => {}
            Err(error) => return Err(edge_error(error)),
        }
    }
    Err(if inner.is_stopping() { EdgeError::Stopping } else { not_there(inner, name, true) })
}

fn not_there(inner: &Inner, name: &ServiceName, is_known: bool) -> EdgeError {
    if inner.is_stopping() {
        return EdgeError::Stopping;
    }
    let why = if is_known { "does not answer HTTP, or does not run now" } else { "does not run" };
    EdgeError::NotFound(format!("the service `{name}` {why}"))
}

/// What whoever asked may know. Why a component failed is in the log.
fn edge_error(error: HttpError) -> EdgeError {
    match error {
        HttpError::Overloaded(_) => EdgeError::Overloaded(error.to_string()),
        HttpError::Closed => EdgeError::Stopping,
        HttpError::Invalid(detail) => EdgeError::Invalid { detail, index: None, path: None, is_contract: false },
        HttpError::TimedOut(_) => EdgeError::TimedOut("the service did not answer in time".into()),
        HttpError::BodyStalled(detail) => EdgeError::Slow(detail),
        HttpError::Failed(_) => {
            EdgeError::BadAnswer("the service failed; its operator finds the reason in the log".into())
        }
    }
}

/// Lets a version that was replaced or removed finish what it has begun, in the background: for as long as it takes, at
/// most `at_most`, or until the node stops.
pub(super) fn retire(inner: &Arc<Inner>, tasks: &TaskSet, pool: Arc<HttpPool>, at_most: Option<Duration>) {
    pool.close();
    let mut stop = inner.stop.subscribe();
    let began = inner.clock.monotonic_ns();
    let clock = Arc::clone(&inner.clock);
    tasks.spawn(async move {
        let is_late = || {
            let passed = Duration::from_nanos(clock.monotonic_ns().saturating_sub(began));
            at_most.is_some_and(|at_most| passed >= at_most)
        };
        while !pool.is_drained() && !is_late() {
            tokio::select! {
                () = tokio::time::sleep(LOOK_EVERY) => {}
                _ = stop.wait_for(|stop| *stop == Stop::Now) => break,
            }
        }
        pool.stop();
    });
}

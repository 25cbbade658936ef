//! Sources: components that run by themselves, and schedules.
//!
//! Role: run `wasi:cli/run` components as their `run` setting says, and publish what `schedule` asks for. A task runs on
//! its own lane thread; the futures here only wait for it.

use std::sync::Arc;
use std::time::Duration;

use busway_gateway::api::ServiceState;
use busway_host::{TaskEnd, TaskSettings};
use busway_types::{Draft, Timestamp};
use bytes::Bytes;
use tokio::sync::{oneshot, watch};

use super::Service;
use crate::inner::{Inner, Stop};
use crate::manifest::{RunPolicy, Schedule};
use crate::task_set::TaskSet;

/// The first wait before a task that always runs is started again; doubled each time it fails soon.
const RESTART_FIRST: Duration = Duration::from_millis(500);
const RESTART_LONGEST: Duration = Duration::from_mins(1);
/// A task that ran this long before it ended starts over with the shortest wait.
const RAN_WELL: Duration = Duration::from_mins(1);

/// Starts what a service runs by itself.
pub(super) fn start(inner: &Arc<Inner>, tasks: &TaskSet, service: &Arc<Service>, busy: &Arc<watch::Sender<usize>>) {
    if let Some(schedule) = service.config.schedule.clone() {
        tasks.spawn(keep_schedule(Arc::clone(inner), Arc::clone(service), schedule));
    }
    let run = service.config.run;
    if !service.is_task() {
        return;
    }
    if run == RunPolicy::Never {
        return rest(service, ServiceState::Idle, Some("its task is set not to run (run = \"never\")".to_owned()));
    }
    busy.send_modify(|count| *count += 1);
    let (inner, service, busy) = (Arc::clone(inner), Arc::clone(service), Arc::clone(busy));
    tasks.spawn(async move {
        run_task(&inner, &service, run).await;
        busy.send_modify(|count| *count -= 1);
    });
}

/// Notes that no task runs; what handles events as well goes on running.
fn rest(service: &Service, state: ServiceState, reason: Option<String>) {
    let state = if service.handlers().is_empty() { state } else { ServiceState::Running };
    service.set_state(state, reason);
}

/// Runs a task once or for ever; ends when it is done, when another version replaced it, or when the node stops.
async fn run_task(inner: &Arc<Inner>, service: &Arc<Service>, run: RunPolicy) {
    let mut wait = RESTART_FIRST;
    let mut stop = inner.stop.subscribe();
    loop {
        let Some(linked) = service.runnable() else { return };
        let settings = TaskSettings { timeout: service.config.task_timeout, args: Vec::new() };
        let began = inner.clock.monotonic_ns();
        let (tell, ended) = oneshot::channel();
        let started = linked.start_task(settings, move |end| drop(tell.send(end)));
        let ended = match started {
            Err(error) => TaskEnd::Failed { reason: error.to_string() },
            Ok(handle) => {
                if !service.set_task(Some(handle.clone())) {
                    return handle.stop();
                }
                service.set_state(ServiceState::Running, None);
                tokio::select! {
                    end = ended => end.unwrap_or(TaskEnd::Stopped),
                    _ = stop.wait_for(|stop| *stop != Stop::No) => {
                        handle.stop();
                        TaskEnd::Stopped
                    }
                }
            }
        };
        service.set_task(None);
        let ran = Duration::from_nanos(inner.clock.monotonic_ns() - began);
        let name = &service.config.name;
        let reason = match (ended, run) {
            (TaskEnd::Stopped, _) => return,
            (TaskEnd::Done, RunPolicy::Once | RunPolicy::Never) => {
                tracing::info!(service = %name, "the task finished");
                return rest(service, ServiceState::Finished, None);
            }
            (TaskEnd::Failed { reason } | TaskEnd::TimedOut { reason }, RunPolicy::Once | RunPolicy::Never) => {
                tracing::error!(service = %name, reason, "the task failed");
                return rest(service, ServiceState::Finished, Some(format!("its task failed: {reason}")));
            }
            (TaskEnd::Done, RunPolicy::Always) => {
                wait = RESTART_FIRST;
                "it ended and is started again".to_owned()
            }
            (TaskEnd::Failed { reason } | TaskEnd::TimedOut { reason }, RunPolicy::Always) => {
                wait = if ran >= RAN_WELL { RESTART_FIRST } else { wait.saturating_mul(2).min(RESTART_LONGEST) };
                tracing::error!(service = %name, reason, ?wait, "the task failed and is started again");
                reason
            }
        };
        service.set_state(ServiceState::Waiting, Some(reason));
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            _ = stop.wait_for(|stop| *stop != Stop::No) => return,
        }
    }
}

/// Publishes an event at each time of the schedule (UTC). A time that passed while the node was down or busy is not
/// made up for.
async fn keep_schedule(inner: Arc<Inner>, service: Arc<Service>, schedule: Schedule) {
    let mut stop = inner.stop.subscribe();
    loop {
        let now = inner.clock.now();
        let Some(next) = schedule.next(now) else {
            tracing::warn!(service = %service.config.name, schedule = schedule.pattern(), "the schedule has no further time");
            return;
        };
        // Sleeps are cut short so that a changed wall clock is noticed.
        let wait = next.since(now).min(Duration::from_secs(30));
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            _ = stop.wait_for(|stop| *stop != Stop::No) => return,
        }
        if service.with(|now| now.version.is_none()) {
            return;
        }
        if inner.clock.now() >= next {
            emit(&inner, &service, &schedule, next).await;
        }
    }
}

async fn emit(inner: &Inner, service: &Service, schedule: &Schedule, time: Timestamp) {
    let mut draft = Draft::new(schedule.emit.clone(), Bytes::from(format!("{{\"scheduled\":\"{time}\"}}")));
    draft.content_type = Some("application/json".into());
    match inner.publisher.publish(vec![draft]).await {
        Ok(_) => service.metrics.published(1),
        Err(error) => tracing::error!(service = %service.config.name, %error, "the scheduled event was not published"),
    }
}

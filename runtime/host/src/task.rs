//! Running a component outside of deliveries: as a task, or to ask it something.
//!
//! Role: tasks (`wasi:cli/run`) with their own time limit, on a thread of the host, endable from outside; and the one
//! question that a handler is asked at load, for its subscriptions.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use crate::invoke::{Fault, drive, fault};
use crate::linked::{Linked, LinkedInner};
use crate::state::Mode;

/// Why a guest did not give an answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GuestError {
    /// The component exports nothing of the kind.
    #[error("the component exports no `{0}`")]
    NotExported(&'static str),
    /// It trapped, exited or took too long.
    #[error("{0}")]
    Failed(String),
    /// The system gives no thread.
    #[error("no thread can be started; look at the limits of this user (`ulimit -u`)")]
    NoThread,
}

impl GuestError {
    /// Whether the same call may succeed later.
    pub fn is_retryable(&self) -> bool {
        !matches!(self, Self::NotExported(_))
    }
}

/// What a task is set to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TaskSettings {
    /// How long it may run; none: as long as it likes.
    pub timeout: Option<Duration>,
    /// Its arguments, without the program's name.
    pub args: Vec<String>,
}

/// How a task ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TaskEnd {
    /// It returned ok, or exited with status 0.
    Done,
    /// It returned an error, exited with another status, or trapped.
    Failed {
        /// What happened, with the end of stderr.
        reason: String,
    },
    /// It ran longer than its timeout.
    TimedOut {
        /// What happened, with the end of stderr.
        reason: String,
    },
    /// It was stopped.
    Stopped,
}

/// A running task. Dropping it lets the task go on.
#[derive(Clone)]
pub struct TaskHandle {
    stop: Arc<AtomicBool>,
    ended: Arc<AtomicBool>,
}

impl fmt::Debug for TaskHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskHandle").field("ended", &self.is_ended()).finish()
    }
}

impl TaskHandle {
    /// Ends the task soon; its end is told as [`TaskEnd::Stopped`].
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Whether it has ended.
    pub fn is_ended(&self) -> bool {
        self.ended.load(Ordering::Relaxed)
    }
}

impl Linked {
    /// Starts the component as a task on a thread of its own; `on_end` is called there once, when it has ended.
    pub fn start_task(
        &self,
        settings: TaskSettings,
        on_end: impl FnOnce(TaskEnd) + Send + 'static,
    ) -> Result<TaskHandle, GuestError> {
        if self.0.run.is_none() {
            return Err(GuestError::NotExported("wasi:cli/run"));
        }
        let handle = TaskHandle { stop: Arc::default(), ended: Arc::default() };
        let (linked, for_thread) = (self.0.clone(), handle.clone());
        let job = move || {
            let run = AssertUnwindSafe(|| run_task(&linked, settings, &for_thread.stop));
            let end = catch_unwind(run).unwrap_or_else(|_| TaskEnd::Failed {
                reason: "the host panicked while it ran the task; this is a bug of busway".into(),
            });
            for_thread.ended.store(true, Ordering::Relaxed);
            on_end(end);
        };
        self.0.host.0.threads.run(Box::new(job)).map_err(|_| GuestError::NoThread)?;
        Ok(handle)
    }

    /// Asks the handler for its subscriptions, in an instance of its own, within the service's timeout. Blocks.
    pub fn subscriptions(&self) -> Result<Vec<String>, GuestError> {
        let Some(handler) = self.0.handler else { return Err(GuestError::NotExported("busway:bus/handler")) };
        let linked = self.0.clone();
        self.0.on_thread(move || {
            let _running = linked.host.0.ticker.run();
            let stop = Arc::new(AtomicBool::new(false));
            let failed = |fault: Fault| GuestError::Failed(fault.reason());
            let mut instance = linked.instantiate(&stop, None).map_err(failed)?;
            let store = &mut instance.store;
            let not_exported = GuestError::NotExported("busway:bus/handler.subscriptions");
            let function = instance.exports.get_func(&mut *store, handler.subscriptions).ok_or(not_exported)?;
            let typed = function
                .typed::<(), (Vec<String>,)>(&mut *store)
                .map_err(|error| GuestError::Failed(format!("`subscriptions` has another type: {error:#}")))?;
            let meter = store.data().meter.clone();
            meter.begin(meter.now(), Some(linked.service.settings.timeout));
            store.set_epoch_deadline(1);
            let answer = if linked.waits {
                drive(&meter, typed.call_async(&mut *store, ()))
            } else {
                typed.call(&mut *store, ())
            };
            meter.end(meter.now());
            let answer = answer.map_err(|error| failed(fault(&error, store.data_mut())))?;
            store.data().output.end();
            Ok(answer.0)
        })
    }
}

impl LinkedInner {
    /// Runs something on a thread of the host and waits for it.
    pub(crate) fn on_thread<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> Result<T, GuestError> + Send + 'static,
    ) -> Result<T, GuestError> {
        let (sender, receiver) = sync_channel(1);
        let send = move || {
            let _ = sender.send(job());
        };
        self.host.0.threads.run(Box::new(send)).map_err(|_| GuestError::NoThread)?;
        receiver.recv().unwrap_or(Err(GuestError::NoThread))
    }
}

fn run_task(linked: &LinkedInner, settings: TaskSettings, stop: &Arc<AtomicBool>) -> TaskEnd {
    let _running = linked.host.0.ticker.run();
    let TaskSettings { timeout, args } = settings;
    let mut arguments = vec![linked.service.settings.name.to_string()];
    arguments.extend(args);
    let mut instance = match linked.instantiate(stop, Some(arguments)) {
        Ok(instance) => instance,
        Err(why) => return task_end(why),
    };
    let store = &mut instance.store;
    let Some(function) = linked.run.and_then(|run| instance.exports.get_func(&mut *store, run)) else {
        return TaskEnd::Failed { reason: "the component exports no `wasi:cli/run`".into() };
    };
    let typed = match function.typed::<(), (Result<(), ()>,)>(&mut *store) {
        Ok(typed) => typed,
        Err(error) => return TaskEnd::Failed { reason: format!("`run` has another type: {error:#}") },
    };
    store.data_mut().mode = Mode::Task;
    let meter = store.data().meter.clone();
    meter.begin(meter.now(), timeout);
    store.set_epoch_deadline(1);
    let answer =
        if linked.waits { drive(&meter, typed.call_async(&mut *store, ())) } else { typed.call(&mut *store, ()) };
    meter.end(meter.now());
    match answer {
        Ok((Ok(()),)) => {
            store.data().output.end();
            TaskEnd::Done
        }
        Ok((Err(()),)) => {
            let stderr = store.data().output.end();
            task_end(Fault::Exited(1, stderr))
        }
        Err(error) => task_end(fault(&error, store.data_mut())),
    }
}

fn task_end(fault: Fault) -> TaskEnd {
    match fault {
        Fault::Exited(0, _) => TaskEnd::Done,
        Fault::Stopped => TaskEnd::Stopped,
        Fault::TimedOut(reason) => TaskEnd::TimedOut { reason },
        other => TaskEnd::Failed { reason: other.reason() },
    }
}

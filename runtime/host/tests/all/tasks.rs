//! Components that run as tasks.

use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use busway_host::{Linked, TaskEnd, TaskSettings};

use crate::support::{TestBus, host, run_task, settings, task_guest};

fn task(code: &str) -> (Linked, Arc<TestBus>) {
    let bus = Arc::new(TestBus::default());
    let compiled = host().compile("task", &task_guest(code)).expect("the task compiles");
    (compiled.link(host(), settings(), bus.clone()).expect("the task links"), bus)
}

#[test]
fn a_task_publishes_at_once() {
    let (linked, bus) = task("");
    assert_eq!(run_task(&linked, TaskSettings::default()), TaskEnd::Done);
    let published = bus.published.lock().unwrap();
    assert_eq!(published.len(), 1);
    assert_eq!(published[0].causality.source.as_ref().map(AsRef::as_ref), Some("svc"));
}

#[test]
fn a_task_that_fails_or_traps_says_why() {
    let (linked, _) = task("(return (i32.const 1))");
    assert_eq!(
        run_task(&linked, TaskSettings::default()),
        TaskEnd::Failed { reason: "the guest exited with status 1".into() }
    );
    let (linked, _) = task("unreachable");
    let TaskEnd::Failed { reason } = run_task(&linked, TaskSettings::default()) else { panic!("it did not fail") };
    assert!(reason.contains("unreachable"), "{reason}");
}

#[test]
fn a_task_may_run_longer_than_an_event_and_no_longer_than_its_own_timeout() {
    let (linked, _) = task("(call $block (call $subscribe (i64.const 700000000)))");
    assert_eq!(run_task(&linked, TaskSettings::default()), TaskEnd::Done);
    let limited = TaskSettings { timeout: Some(Duration::from_millis(50)), ..TaskSettings::default() };
    assert!(matches!(run_task(&linked, limited), TaskEnd::TimedOut { .. }));
}

#[test]
fn sleeping_and_spinning_tasks_can_be_stopped() {
    for code in ["(call $block (call $subscribe (i64.const 600000000000)))", "(loop $ever (br $ever))"] {
        let (linked, bus) = task(code);
        let (sender, receiver) = sync_channel(1);
        let handle = linked.start_task(TaskSettings::default(), move |end| sender.send(end).unwrap()).unwrap();
        while bus.published.lock().unwrap().is_empty() {
            std::thread::yield_now();
        }
        assert!(!handle.is_ended());
        handle.stop();
        assert_eq!(receiver.recv_timeout(Duration::from_secs(5)), Ok(TaskEnd::Stopped));
        assert!(handle.is_ended());
    }
}

//! The same on brokers with three nodes that share the work: workers are killed and frozen under load, then the owner.
//!
//! What is held against the history is the same as everywhere; beside that, that the others worked at all, and that what a killed
//! worker had moves to the others in seconds.

use std::path::PathBuf;
use std::time::Duration;

use busway_brokers::{Nats, Rabbit};
use busway_gateway::api::{NodeInfo, NodeRole, StatusReport};
use busway_types::{Clock as _, Entropy as _, SplitMix, SystemClock};

use crate::load::Board;
use crate::node::{Address, Node, PATIENCE, Place};
use crate::{EVENTS_PER_KILL, LIFE_MS, Lives, at_work, number, run, tell};

/// How long it may take until the owner knows that a killed worker is gone, on a loaded machine.
const NOTICED: Duration = Duration::from_secs(15);
/// Longer than the owner waits for a worker that says nothing.
const FROZEN: Duration = Duration::from_secs(4);

#[test]
fn workers_of_a_bus_on_nats_that_are_killed_and_frozen_under_load_lose_and_repeat_nothing() {
    let server = Nats::start().expect("nats-server runs; `cargo xtask brokers up` tells what is missing");
    survives("nats", &format!("{}/workers", server.url()));
}

#[test]
fn workers_of_a_bus_on_rabbitmq_that_are_killed_and_frozen_under_load_lose_and_repeat_nothing() {
    let server = Rabbit::start().expect("RabbitMQ runs; `cargo xtask brokers up` tells what is missing");
    survives("rabbitmq", &format!("{}?bus=workers", server.url()));
}

fn survives(name: &str, engine: &str) {
    let kills = number("BUSWAY_WORKERS", 2);
    let seed = number("BUSWAY_SEED", 1);
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("workers-{name}-{}", std::process::id()));
    let place = Place::new(&folder, Some(engine));
    let most = EVENTS_PER_KILL * 4 * (kills as u32 + 2);
    let ran = run(&place, seed, most, |board| drive(&place, board, kills, seed));
    tell(ran, &folder, kills, seed);
}

/// A worker with the name under which the owner knows it.
struct Worker {
    node: Node,
    name: String,
}

fn drive(place: &Place, board: &Board, kills: u64, seed: u64) -> Result<Lives, String> {
    let (clock, mut entropy) = (SystemClock::new(), SplitMix(seed));
    let mut lives = Lives::default();
    let mut owner = place.start();
    let address = at_work(&mut owner)?;
    let mut workers = vec![start(place, &address)?, start(place, &address)?];
    for _ in 0..kills {
        board.set(Some(address.clone()));
        std::thread::sleep(Duration::from_millis(LIFE_MS + entropy.next_u64() % LIFE_MS));
        let gone = workers.remove(0);
        handled(&address, &gone.name)?;
        gone.node.kill()?;
        lives.killed += 1;
        // Enough waits to keep everybody busy, and all of it has to be worked off in the end.
        board.set(None);
        let began = clock.monotonic_ns();
        until(&address, "a killed worker is gone", |nodes| nodes.iter().all(|node| node.name != gone.name))?;
        let took = Duration::from_nanos(clock.monotonic_ns() - began);
        if took > NOTICED {
            return Err(format!("what a killed worker had moved after {took:?} only"));
        }
        lives.recoveries.push(took);
        workers.push(start(place, &address)?);
    }
    // One that wakes up long after its work went to others.
    board.set(Some(address.clone()));
    std::thread::sleep(Duration::from_millis(LIFE_MS));
    let frozen = &workers[0];
    handled(&address, &frozen.name)?;
    frozen.node.signal("-STOP")?;
    board.set(None);
    std::thread::sleep(FROZEN);
    until(&address, "a frozen worker counts as gone", |nodes| nodes.iter().all(|node| node.name != frozen.name))?;
    frozen.node.signal("-CONT")?;
    until(&address, "it works again", |nodes| is_worker(nodes, &frozen.name))?;
    board.set(Some(address));
    std::thread::sleep(Duration::from_millis(LIFE_MS));
    // The owner goes: one of the workers takes its place, and the other one works for that.
    owner.kill()?;
    board.set(None);
    lives.killed += 1;
    let began = clock.monotonic_ns();
    let (address, next) = next_owner(&mut workers)?;
    lives.recoveries.push(Duration::from_nanos(clock.monotonic_ns() - began));
    board.set(Some(address.clone()));
    let other = &workers[1 - next];
    until(&address, "the other one works for the new owner", |nodes| is_worker(nodes, &other.name))?;
    handled(&address, &other.name)?;
    // A worker that is asked to end finishes what it has; nobody publishes there.
    let ended = workers.swap_remove(1 - next).node;
    if !Node::stop(ended)?.success() {
        return Err("a worker that was asked to end failed".to_owned());
    }
    board.set(None);
    for Worker { node, .. } in workers {
        node.kill()?;
        lives.killed += 1;
    }
    Ok(lives)
}

fn is_worker(nodes: &[NodeInfo], name: &str) -> bool {
    nodes.iter().any(|node| node.name == name && node.role == NodeRole::Worker && !node.services.is_empty())
}

/// Starts a node, which works for the owner.
fn start(place: &Place, owner: &Address) -> Result<Worker, String> {
    let mut node = place.start();
    let address = node.ready()?;
    let pid = node.pid();
    until(owner, "a new node works", |nodes| {
        nodes.iter().any(|known| known.pid == pid && known.role == NodeRole::Worker && !known.services.is_empty())
    })?;
    let status: StatusReport = address.get("/v1/status")?;
    let Some(own) = status.nodes.iter().find(|known| known.pid == pid) else {
        return Err(format!("a worker does not show itself: {status:#?}"));
    };
    if status.nodes.len() < 2 || status.nodes[0].role != NodeRole::Owner || status.node.standby.is_none() {
        return Err(format!("a worker shows something else than the owner's nodes: {status:#?}"));
    }
    Ok(Worker { name: own.name.clone(), node })
}

/// Waits until a worker has handled something more.
fn handled(owner: &Address, name: &str) -> Result<(), String> {
    let of = |nodes: &[NodeInfo]| nodes.iter().find(|node| node.name == name).map_or(0, |node| node.handled);
    let status: StatusReport = owner.get("/v1/status")?;
    let before = of(&status.nodes);
    until(owner, "a worker handles something", |nodes| of(nodes) > before)
}

fn until(owner: &Address, what: &str, is_so: impl Fn(&[NodeInfo]) -> bool) -> Result<(), String> {
    let clock = SystemClock::new();
    let began = clock.now();
    loop {
        let status: StatusReport = owner.get("/v1/status")?;
        if is_so(&status.nodes) {
            return Ok(());
        }
        if clock.now().since(began) > PATIENCE {
            return Err(format!("it was waited in vain until {what}: {:#?}", status.nodes));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Whichever of two nodes gets to work.
fn next_owner(workers: &mut [Worker]) -> Result<(Address, usize), String> {
    let clock = SystemClock::new();
    let began = clock.now();
    loop {
        for (place, worker) in workers.iter_mut().enumerate() {
            let address = worker.node.ready()?;
            let status: StatusReport = address.get("/v1/status")?;
            if status.node.standby.is_none() && status.services.len() >= crate::node::SERVICES {
                return Ok((address, place));
            }
        }
        if clock.now().since(began) > PATIENCE {
            return Err("no worker takes over".to_owned());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

//! The same on brokers with two nodes: whenever the owner of the bus is killed the other one takes over, and a third
//! one takes its place; meanwhile the broker is killed and started again, and frozen for a while.

use std::path::PathBuf;
use std::time::Duration;

use busway_brokers::{Nats, Rabbit};
use busway_gateway::api::StatusReport;
use busway_types::{Clock as _, Entropy as _, SplitMix, SystemClock};

use crate::load::Board;
use crate::node::{Address, Node, Place};
use crate::{EVENTS_PER_KILL, LIFE_MS, Lives, at_work, number, run, tell};

/// How long a node may take to be at work after the owner was killed: the lease, and the time to start on a loaded machine.
const TAKEOVER: Duration = Duration::from_secs(30);
/// How long the broker is away.
const AWAY: Duration = Duration::from_millis(1_500);

/// What keeps the bus, and what can happen to it.
trait Server {
    fn kill(&mut self) -> anyhow::Result<()>;
    fn start_again(&mut self) -> anyhow::Result<()>;
    fn freeze(&self) -> bool;
    fn thaw(&self) -> bool;
}

macro_rules! server {
    ($broker:ty) => {
        impl Server for $broker {
            fn kill(&mut self) -> anyhow::Result<()> {
                self.kill()
            }
            fn start_again(&mut self) -> anyhow::Result<()> {
                self.start_again()
            }
            fn freeze(&self) -> bool {
                self.freeze()
            }
            fn thaw(&self) -> bool {
                self.thaw()
            }
        }
    };
}

server!(Nats);
server!(Rabbit);

#[test]
fn a_bus_on_nats_survives_its_owners_and_its_broker_and_moves_to_the_node_that_waits() {
    let mut server = Nats::start().expect("nats-server runs; `cargo xtask brokers up` tells what is missing");
    let engine = format!("{}/crash", server.url());
    survives("nats", &engine, &mut server);
}

#[test]
fn a_bus_on_rabbitmq_survives_its_owners_and_its_broker_and_moves_to_the_node_that_waits() {
    let mut server = Rabbit::start().expect("RabbitMQ runs; `cargo xtask brokers up` tells what is missing");
    let engine = format!("{}?bus=crash", server.url());
    survives("rabbitmq", &engine, &mut server);
}

fn survives(name: &str, engine: &str, server: &mut dyn Server) {
    let kills = number("BUSWAY_TAKEOVERS", 3);
    let seed = number("BUSWAY_SEED", 1);
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("takeover-{name}-{}", std::process::id()));
    let place = Place::new(&folder, Some(engine));
    // Kills are further apart than on disk.
    let most = EVENTS_PER_KILL * 4 * (kills as u32 + 1);
    let ran = run(&place, seed, most, |board| drive(&place, board, server, kills, seed));
    tell(ran, &folder, kills, seed);
}

fn drive(place: &Place, board: &Board, server: &mut dyn Server, kills: u64, seed: u64) -> Result<Lives, String> {
    let (clock, mut entropy) = (SystemClock::new(), SplitMix(seed));
    let mut lives = Lives::default();
    let mut owner = place.start();
    let mut address = at_work(&mut owner)?;
    for kill in 0..kills {
        let mut next = place.start();
        let waits = next.ready()?;
        stands_by(&waits)?;
        board.set(Some(address));
        std::thread::sleep(Duration::from_millis(LIFE_MS + entropy.next_u64() % LIFE_MS));
        trouble(server, kill)?;
        std::thread::sleep(Duration::from_millis(entropy.next_u64() % LIFE_MS));
        owner.kill()?;
        board.set(None);
        lives.killed += 1;
        let began = clock.monotonic_ns();
        address = at_work(&mut next)?;
        let took = Duration::from_nanos(clock.monotonic_ns() - began);
        if took > TAKEOVER {
            return Err(format!("the node that waited was at work {took:?} after the owner was killed"));
        }
        lives.recoveries.push(took);
        owner = next;
    }
    // The last one is the judge's; it does not have to wait for the end of a lease.
    let ended: Result<_, String> = Node::stop(owner);
    ended.map(|_| lives)
}

/// What happens to the broker before the owner is killed: nothing, then it is killed, then it stops answering.
fn trouble(server: &mut dyn Server, kill: u64) -> Result<(), String> {
    match kill % 3 {
        1 => {
            server.kill().map_err(|error| format!("{error:#}"))?;
            std::thread::sleep(AWAY);
            server.start_again().map_err(|error| format!("{error:#}"))
        }
        2 => {
            let frozen = server.freeze();
            std::thread::sleep(AWAY);
            if frozen && server.thaw() { Ok(()) } else { Err("the broker cannot be frozen".to_owned()) }
        }
        _ => Ok(()),
    }
}

/// The node is there, waits, and says for whom.
fn stands_by(address: &Address) -> Result<(), String> {
    let status: StatusReport = address.get("/v1/status")?;
    match &status.node.standby {
        Some(why) if why.contains("does not own the bus") => Ok(()),
        _ => Err(format!("it does not wait: {status:#?}")),
    }
}

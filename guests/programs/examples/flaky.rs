//! Publishes what it gets to `config.to` and counts it under `taken`, then often fails all the same: retries, traps or
//! sleeps past its time, by a hash of data and attempt, so that it succeeds in the end. Data that ends in `99` it always
//! rejects. Whatever a failed attempt published or wrote must never be seen.

use std::time::Duration;

use busway_guest::{Event, Failure, Result, config, context, kv, publish};

fn handle(event: Event) -> Result {
    let mut message = publish(config("to").unwrap_or_else(|| "public.flaky.out".into())).data(event.data());
    if let Some(key) = event.key() {
        message = message.key(key);
    }
    message.send()?;
    kv::increment("taken", 1)?;
    if event.data().ends_with(b"99") {
        return Err(Failure::reject("it ends in 99"));
    }
    let attempt = context::current().map_or(0, |envelope| envelope.attempt);
    match chance(event.data(), attempt) {
        0..100 => Err(Failure::retry("the hash says so")),
        100..130 => panic!("the hash says so"),
        130..132 => {
            std::thread::sleep(Duration::from_mins(1));
            Ok(())
        }
        _ => Ok(()),
    }
}

/// A number below 1,000 that looks random (FNV-1a).
fn chance(data: &[u8], attempt: u32) -> u64 {
    let bytes = data.iter().copied().chain(attempt.to_le_bytes());
    let hash =
        bytes.fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
    (hash >> 20) % 1_000
}

busway_guest::service!(subscribe = ["public.flaky"], handle);

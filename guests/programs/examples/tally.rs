//! Keeps a ledger for each key, by reading it and writing it back: how many events of the key it took and the last of
//! them. Publishes `DATA|COUNT|LAST` with the key to `config.to`: effects in key-value and in events that must agree.

use busway_guest::{Failure, OrReject, config, kv, publish};

busway_guest::service!(subscribe = ["public.tally"], |event| {
    let key = event.key().ok_or_else(|| Failure::reject("an event without a key"))?;
    let name = format!("ledger.{key}");
    let ledger = String::from_utf8(kv::get(&name)?.unwrap_or_default()).or_reject()?;
    let (count, last) = ledger.split_once('|').unwrap_or(("0", "none"));
    let count = count.parse::<u64>().or_reject()? + 1;
    let data = event.text()?;
    publish(config("to").unwrap_or_else(|| "public.tally.out".into()))
        .key(key)
        .text(format!("{data}|{count}|{last}"))
        .send()?;
    kv::set(&name, format!("{count}|{data}").as_bytes())?;
    Ok(())
});

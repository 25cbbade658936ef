//! Tries to publish to the topic that the data names, for which it has no grant, and publishes what it was told to
//! `public.denied.out`.

use busway_guest::{Refusal, publish};

busway_guest::service!(subscribe = ["public.denied"], |event| {
    let told = match publish(event.text()?).text("contraband").send() {
        Ok(_) => "accepted".to_owned(),
        Err(Refusal::Denied(reason)) => format!("denied: {reason}"),
        Err(other) => format!("other: {other}"),
    };
    publish("public.denied.out").text(told).send()?;
    Ok(())
});

//! Rejects what it gets until it got `mend`: a service that lacks something until somebody sees to it. Then each goes to
//! `public.mended.out`.

use busway_guest::{Event, Failure, Result, kv, publish};

fn handle(event: Event) -> Result {
    let text = event.text()?;
    if text == "mend" {
        kv::set("mended", b"yes")?;
        return Ok(());
    }
    if kv::get("mended")?.is_none() {
        return Err(Failure::reject("something is missing that has to be mended"));
    }
    publish("public.mended.out").text(text).send()?;
    Ok(())
}

busway_guest::service!(subscribe = ["public.mended"], handle);

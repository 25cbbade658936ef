//! Publishes events to `public.flood.out` without an end, until one is refused, and then fails with that refusal: nothing
//! of it may be seen. On data `keep` it acknowledges instead. The data's number, if it is one, is the size of an event.

use busway_guest::{Failure, publish};

busway_guest::service!(subscribe = ["public.flood"], |event| {
    let size = event.text()?.trim().parse().unwrap_or(16);
    let data = vec![b'x'; size];
    for n in 0_u64.. {
        if let Err(refusal) = publish("public.flood.out").data(data.clone()).send() {
            if event.data() == b"keep" {
                return Ok(());
            }
            return Err(Failure::reject(format_args!("refused after {n}: {refusal}")));
        }
    }
    Ok(())
});

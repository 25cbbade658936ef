//! Fails as the data says, else acknowledges: `retry:N` the first N attempts, `reject` always, `error:TEXT` always with
//! that text as the reason of a retry. Each acknowledged event goes to `public.failing.out`, with its attempt.

use busway_guest::{Event, Failure, OrReject, Result, context, publish};

fn handle(event: Event) -> Result {
    let attempt = context::current().map_or(0, |envelope| envelope.attempt);
    let text = event.text()?;
    match text.split_once(':').unwrap_or((text, "")) {
        ("retry", times) => {
            let times: u32 = times.parse().or_reject()?;
            if attempt <= times {
                return Err(Failure::retry(format_args!("attempt {attempt} of {times} that fail")));
            }
        }
        ("reject", _) => return Err(Failure::reject("told to reject")),
        ("error", reason) => return Err(Failure::retry(reason)),
        _ => {}
    }
    let mut done = publish("public.failing.out").header("attempt", attempt.to_string()).text(text);
    if let Some(key) = event.key() {
        done = done.key(key);
    }
    done.send()?;
    Ok(())
}

busway_guest::service!(subscribe = ["public.failing"], handle);

//! A task: publishes the texts 0 to 9 to `public.ticks`, then returns.

fn main() -> Result<(), busway_guest::Refusal> {
    for n in 0..10 {
        busway_guest::publish("public.ticks").key("ticks").text(n.to_string()).send()?;
    }
    Ok(())
}

//! A task that publishes `started` to `public.task-fails` and then ends with an error.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    busway_guest::publish("public.task-fails").text("started").send()?;
    Err("told to fail".into())
}

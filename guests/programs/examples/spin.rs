//! Loops for ever on data that begins with `spin`, after it has published; republishes other data to `public.spin.out`.

use busway_guest::publish;

busway_guest::service!(subscribe = ["public.spin"], |event| {
    publish("public.spin.out").data(event.data()).send()?;
    if event.data().starts_with(b"spin") {
        eprintln!("about to spin");
        loop {
            std::hint::black_box(());
        }
    }
    Ok(())
});

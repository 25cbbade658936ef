//! Greets whoever is named on `public.hello`, on `public.greetings`.

use busway_guest::publish;

busway_guest::service!(subscribe = ["public.hello"], |event| {
    let name = event.text()?;
    publish("public.greetings").text(format!("Hello, {name}!")).send()?;
    Ok(())
});

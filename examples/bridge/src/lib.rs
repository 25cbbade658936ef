//! Answers what comes to `hello` on `replies`. It knows of no queue and no broker.

use busway_guest::publish;

busway_guest::service!(subscribe = ["hello"], |event| {
    let text = event.text()?;
    publish("replies").text(format!("{text} And hello, RabbitMQ!")).send()?;
    Ok(())
});

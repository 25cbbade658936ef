//! Sleeps for as many milliseconds as the data says: a guest that waits in the host instead of computing.

use std::time::Duration;

use busway_guest::OrReject;

busway_guest::service!(subscribe = ["public.sleepy"], |event| {
    std::thread::sleep(Duration::from_millis(event.text()?.trim().parse().or_reject()?));
    Ok(())
});

//! Writes as many lines of 1,000 bytes as the data says to stdout, to stderr and to the log each, and one without an end.

use busway_guest::{OrReject, log};

busway_guest::service!(subscribe = ["public.chatty"], |event| {
    let lines: u32 = event.text()?.trim().parse().or_reject()?;
    let filling = "x".repeat(990);
    for n in 0..lines {
        println!("{n:9} {filling}");
        eprintln!("{n:9} {filling}");
        log::info!(n = n; "{filling}");
    }
    print!("no end of line");
    Ok(())
});

//! Tries what a sandbox must not allow, and publishes what happened to `public.sneaky.out`, one line `WHAT: RESULT` for
//! each: read and write files, read the environment and the arguments, open and listen on sockets, resolve a name.

use std::fmt::Debug;
use std::net::{TcpListener, TcpStream, ToSocketAddrs, UdpSocket};

use busway_guest::{config, publish};

fn outcome<T: Debug, E: Debug>(what: &str, result: Result<T, E>) -> String {
    match result {
        Ok(value) => format!("{what}: allowed {value:?}"),
        Err(error) => format!("{what}: refused {error:?}"),
    }
}

busway_guest::service!(subscribe = ["public.sneaky"], |_event| {
    let to = config("connect").unwrap_or_else(|| "127.0.0.1:80".into());
    let report = [
        outcome("read", std::fs::read_to_string("/etc/passwd").map(|text| text.len())),
        outcome("list", std::fs::read_dir("/").map(Iterator::count)),
        outcome("relative", std::fs::read_dir(".").map(Iterator::count)),
        outcome("write", std::fs::write("/tmp/sneaky", "was here")),
        format!("environment: {} variables", std::env::vars().count()),
        format!("arguments: {}", std::env::args().count()),
        outcome("connect", TcpStream::connect(&to).map(drop)),
        outcome("listen", TcpListener::bind("127.0.0.1:0").map(drop)),
        outcome("datagram", UdpSocket::bind("127.0.0.1:0").map(drop)),
        outcome("resolve", ("localhost", 80).to_socket_addrs().map(Iterator::count)),
    ];
    publish("public.sneaky.out").text(report.join("\n")).send()?;
    Ok(())
});

//! The end of a node with requests in flight: readiness goes first, whoever was let in is answered, nobody else is.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::thread::JoinHandle;

use crate::gateway::{Told, get};
use crate::process::PATIENCE;

use super::curl::{Reply, try_curl};
use super::doors::{everything, ready};
use super::{in_flight, until};

/// A client that asks and waits, beside the test.
fn asking(url: String) -> JoinHandle<Result<Reply, String>> {
    std::thread::spawn(move || try_curl(&[&url]))
}

/// The lines of a stream of events, to its end.
fn listening(url: String) -> (BufReader<impl std::io::Read>, String) {
    let agent: ureq::Agent = ureq::Agent::config_builder().timeout_global(Some(PATIENCE)).build().into();
    let opened = agent.get(&url).call().expect("let in");
    let mut lines = BufReader::new(opened.into_body().into_reader());
    let mut first = String::new();
    lines.read_line(&mut first).expect("a beginning");
    (lines, first)
}

/// Reads until this came.
fn read_until(stream: &mut TcpStream, wanted: &str) -> String {
    let mut seen = String::new();
    while !seen.contains(wanted) {
        let mut part = [0; 4_096];
        let read = stream.read(&mut part).expect("more of the answer");
        assert!(read > 0, "the answer ended early: {seen}");
        seen += &String::from_utf8_lossy(&part[..read]);
    }
    seen
}

#[test]
fn whoever_was_let_in_before_the_end_is_answered_and_nobody_else() {
    let app = everything("[gateway.limits]\ndrain-delay = \"1500ms\"\ndrain-time = \"30s\"\n");
    let mut told = Told::start(&app, &[]);
    let url = ready(&told);
    let address = url.strip_prefix("http://").expect("plain").to_owned();
    // To a component, to a function, a body that is half there in both directions, and a stream of events.
    let component = asking(format!("{url}/web/wait?5000"));
    let function = asking(format!("{url}/quotes/wait?key=k&n=5000"));
    let (mut events, first) = listening(format!("{url}/live"));
    assert!(first.contains(": "), "{first}");
    let mut upload = TcpStream::connect(&address).expect("a connection");
    upload.set_read_timeout(Some(PATIENCE)).expect("a time");
    write!(upload, "POST /web/echo HTTP/1.1\r\nhost: h\r\ncontent-length: 10\r\n\r\nfirst").expect("sent");
    let begun = read_until(&mut upload, "first");
    assert!(begun.starts_with("HTTP/1.1 200"), "{begun}");
    until("both are waited for", || in_flight(&told) >= 2);

    told.node.signal("-TERM");
    let health = format!("{url}/health/ready");
    until("readiness is gone", || get(&health).is_none_or(|(status, _)| status == 503));
    // Unless this machine is so slow that the delay is over already.
    if let Some((status, _)) = get(&format!("{url}/page")) {
        assert_eq!(status, 200, "everything else is still served, so that load balancers turn away");
    }
    until("no further connection is taken", || TcpStream::connect(&address).is_err());

    write!(upload, "final").expect("the connection is still there");
    let ended = read_until(&mut upload, "0\r\n\r\n");
    assert!(ended.contains("final"), "a whole answer: {ended}");
    let mut rest = String::new();
    events.read_to_string(&mut rest).expect("the stream ends in order");
    assert!(rest.contains("event: end") && rest.contains(r#"data: {"reason":"stopping"}"#), "{rest}");
    for (what, asking, wanted) in [("component", component, "waited"), ("function", function, "5000")] {
        let reply = asking.join().expect("asked").unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!((reply.status, reply.body.as_str()), (200, wanted), "{what}");
    }
    assert_eq!(told.node.ended(), Some(0));
}

#[test]
fn what_does_not_end_is_cut_off_after_its_time_and_the_node_ends_all_the_same() {
    let app = everything("[gateway.limits]\ndrain-time = \"500ms\"\n");
    let mut told = Told::start(&app, &[]);
    let url = ready(&told);
    let endless = asking(format!("{url}/web/spin"));
    until("it is waited for", || in_flight(&told) >= 1);
    told.node.signal("-TERM");
    assert!(endless.join().expect("asked").is_err() || told.said().contains("still open"), "it is not answered");
    assert_eq!(told.node.ended(), Some(0));
}

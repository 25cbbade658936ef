//! The commands that ask a node, against one that answers by rote.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};

use crate::harness::{Run, Sandbox};

/// A node that gives fixed answers, one per connection, and remembers what it was asked.
struct Rote {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Rote {
    fn answering(answers: &[(u16, &str)]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("its address");
        let asked = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&asked);
        let answers: Vec<(u16, String)> = answers.iter().map(|(status, body)| (*status, (*body).to_owned())).collect();
        std::thread::spawn(move || {
            for (status, body) in answers {
                let (stream, _) = listener.accept().expect("a connection");
                let mut reader = BufReader::new(stream);
                let (mut head, mut length) = (String::new(), 0);
                while reader.read_line(&mut head).expect("a line") > 2 {
                    let last = head.lines().last().unwrap_or_default().to_ascii_lowercase();
                    if let Some(value) = last.strip_prefix("content-length: ") {
                        length = value.parse().expect("a length");
                    }
                }
                let mut request = vec![0; length];
                reader.read_exact(&mut request).expect("the body");
                heard.lock().expect("what was asked").push(head + &String::from_utf8_lossy(&request));
                let size = body.len();
                let head = format!("HTTP/1.1 {status} X\r\nContent-Length: {size}\r\nConnection: close\r\n\r\n");
                reader.get_mut().write_all((head + &body).as_bytes()).expect("answered");
            }
        });
        Self { address, asked }
    }

    fn busway(&self, arguments: &[&str], input: &[u8]) -> Run {
        let address = self.address.to_string();
        let to = ["--admin", &address, "--token", "sesame"];
        Sandbox::new().busway_with(&[arguments, &to].concat(), input)
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().expect("what was asked").clone()
    }
}

const ID: &str = "01890a5d-ac96-774b-bcce-b302099a8057";

#[test]
fn publishing_prints_the_id_and_warns_when_nobody_listens() {
    let answer = format!(r#"{{"published":[{{"id":"{ID}","offset":4,"subscribers":0,"hint":"shop.orders"}}]}}"#);
    let node = Rote::answering(&[(200, &answer)]);
    let run = node.busway(&["publish", "shop.order", "--key", "k", "--data", "{\"n\": 1}", "--header", "a=b"], b"");
    assert_eq!((run.code, run.stdout), (0, format!("{ID}\n")));
    assert_eq!(
        run.stderr,
        "warning: no service here subscribes to `shop.order` now; the nearest that one does is `shop.orders`\n"
    );
    let asked = &node.asked()[0];
    assert!(asked.starts_with("POST /v1/events HTTP/1.1\r\n"), "{asked}");
    assert!(asked.to_lowercase().contains("authorization: bearer sesame\r\n"), "{asked}");
    assert!(
        asked.ends_with(r#"{"topic":"shop.order","key":"k","headers":[{"name":"a","value":"b"}],"data":{"n": 1}}"#)
    );
}

#[test]
fn lines_are_published_in_batches_and_a_bad_one_is_named_with_what_was_done() {
    let reply = format!(r#"{{"id":"{ID}","offset":4,"subscribers":1}}"#);
    let full = format!(r#"{{"published":[{}]}}"#, vec![reply.as_str(); 256].join(","));
    let one = format!(r#"{{"published":[{reply}]}}"#);
    let node = Rote::answering(&[(200, &full), (200, &one)]);
    let mut input = "{\"key\":\"a\",\"data\":1}\n".repeat(257).into_bytes();
    input.extend_from_slice(b"\xff\n");
    let run = node.busway(&["publish", "t", "--lines"], &input);
    assert_eq!(run.code, 1);
    assert_eq!(run.stderr, "error: line 258 is not valid UTF-8; 257 events before were published, the rest was not\n");
    assert_eq!(node.asked()[0].matches("\"key\":\"a\"").count(), 256);
}

#[test]
fn an_event_that_no_request_can_carry_is_refused_before_it_is_sent() {
    let node = Rote::answering(&[]);
    let run = node.busway(&["publish", "t"], &vec![0; 5_000_000]);
    assert_eq!(run.code, 1);
    assert!(run.stderr.starts_with("error: the event has 5000000 bytes of data (30"), "{}", run.stderr);
    assert!(run.stderr.contains("at most 16777216; the node's `limits.event-bytes` (1 MiB"), "{}", run.stderr);
}

#[test]
fn a_line_that_the_node_refuses_is_named() {
    let problem = r#"{"type":"urn:busway:problem:invalid","title":"x","status":400,"detail":"the key is too long","index":1,"retryable":false}"#;
    let node = Rote::answering(&[(400, problem)]);
    let run = node.busway(&["publish", "t", "--lines"], b"1\n\n2\n");
    assert_eq!(
        run.stderr,
        "error: line 3 was refused, and with it its batch: the key is too long; nothing was published\n"
    );
}

#[test]
fn a_wrong_token_is_told_in_the_nodes_words() {
    let problem = r#"{"type":"urn:busway:problem:unauthorized","title":"x","status":401,"detail":"this is not the token of this node","retryable":false}"#;
    let run = Rote::answering(&[(401, problem)]).busway(&["status"], b"");
    assert_eq!((run.code, run.stderr.as_str()), (1, "error: this is not the token of this node\n"));
}

#[test]
fn something_else_at_the_address_is_told() {
    let run = Rote::answering(&[(404, "<html>")]).busway(&["status"], b"");
    assert_eq!(run.stderr, "error: this is not a busway node: it answered with 404 Not Found\n");
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("its address").to_string();
    drop(listener);
    let run = Sandbox::new().busway(&["status", "--admin", &address, "--token", "t"]);
    assert_eq!(run.code, 1);
    assert!(run.stderr.contains("does not answer; look whether it still runs"), "{}", run.stderr);
}

#[test]
fn tail_shows_events_safely_and_tells_what_was_missed() {
    let lines = format!(
        "{{\"event\":{{\"offset\":4,\"id\":\"{ID}\",\"topic\":\"a.b\",\"key\":\"k\\u001b[2J\",\"time_ms\":0,\"hops\":0,\"data\":{{\"n\":1}}}}}}\n\
         {{\"missed\":3}}\n{{\"problem\":{{\"type\":\"urn:busway:problem:stopping\",\"title\":\"x\",\"status\":503,\"detail\":\"x\",\"retryable\":false}}}}\n"
    );
    let run = Rote::answering(&[(200, &lines)]).busway(&["tail", "a.>", "--from", "start"], b"");
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert_eq!(run.stdout, format!("1970-01-01T00:00:00.000Z a.b k\u{fffd}[2J {ID} {{\"n\":1}}\n"));
    assert_eq!(run.stderr, "warning: 3 events are gone before this reader got there\nthe node stops\n");
}

#[test]
fn dropping_everything_has_to_be_said() {
    let sandbox = Sandbox::new();
    let run = sandbox.busway(&["dead", "drop", "--admin", "127.0.0.1:1", "--token", "t"]);
    assert_eq!((run.code, run.stderr.as_str()), (2, "error: say which dead letters to drop, or --all for every one\n"));
    let node = Rote::answering(&[(200, r#"{"changed":2}"#)]);
    let run = node.busway(&["dead", "drop", "--service", "stock"], b"");
    assert_eq!(run.stdout, "2 dead letters dropped\n");
    assert!(node.asked()[0].ends_with(r#"{"service":"stock"}"#));
}

#[test]
fn a_journey_is_drawn_from_the_first_cause_to_the_last_effect() {
    let other = "909ced67-0b39-8970-91ee-23587a2f3a9e";
    let attempt = r#"{"time":1000,"error":"busy\nline"}"#;
    let stock = format!(
        r#"{{"subscription":"stock","service":"stock","outcome":"acked","time_ms":2000,"attempts":2,"errors":[{attempt}],"handled":1}}"#
    );
    let audit = r#"{"subscription":"audit","service":"audit","outcome":"pending","handled":1}"#;
    let mail = format!(
        r#"{{"subscription":"mail","service":"mail","outcome":"dead","time_ms":3000,"attempts":1,"errors":[{attempt}],"reason":"rejected","handled":0}}"#
    );
    let first = format!(
        r#"{{"offset":4,"id":"{ID}","topic":"shop.orders","key":"o-17","time_ms":0,"deliveries":[{stock},{audit}]}}"#
    );
    let second = format!(
        r#"{{"offset":5,"id":"{other}","topic":"shop.stock","time_ms":2000,"source":"stock","cause":"{ID}","deliveries":[{mail}]}}"#
    );
    let trace = format!(
        r#"{{"id":"{other}","events":[{first},{second}],"cause_gone":false,"more":true,"recorded":true,"complete":true}}"#
    );
    let node = Rote::answering(&[(200, &trace)]);
    let run = node.busway(&["trace", other], b"");
    assert_eq!(
        run.stdout,
        format!(
            "shop.orders {ID} key o-17 1970-01-01T00:00:00.000Z from outside\n\
             |- stock acked, 2 attempts 1970-01-01T00:00:02.000Z\n\
             |  |- attempt 1 failed 1970-01-01T00:00:01.000Z: busy\\nline\n\
             |  `- shop.stock {other} 1970-01-01T00:00:02.000Z by stock (this one)\n\
             |     `- mail dead (rejected), 1 attempt 1970-01-01T00:00:03.000Z\n\
             |        `- attempt 1 failed 1970-01-01T00:00:01.000Z: busy\\nline\n\
             `- audit pending, handled 1 time\n"
        )
    );
    assert_eq!(run.stderr, "warning: 2 events are shown; there may be more\n");
    assert!(node.asked()[0].starts_with(&format!("GET /v1/trace/{other}?limit=1000 ")), "{}", node.asked()[0]);
}

#[test]
fn forgetting_says_what_was_let_go() {
    let node = Rote::answering(&[(200, r#"{"subscription":"stock","parked":1,"dead":2,"lag":30}"#)]);
    let run = node.busway(&["forget", "stock"], b"");
    assert_eq!(run.stdout, "stock is forgotten: it was 30 events behind, with 1 waiting event and 2 dead letters\n");
    assert!(node.asked()[0].ends_with(r#"{"subscription":"stock"}"#), "{}", node.asked()[0]);
    let node = Rote::answering(&[(200, r#"{"subscription":"stock","parked":0,"dead":0,"lag":0,"keys":12}"#)]);
    let run = node.busway(&["forget", "stock", "--key-value"], b"");
    assert!(run.stdout.ends_with("and 0 dead letters; 12 keys of key-value are deleted\n"), "{}", run.stdout);
    assert!(node.asked()[0].ends_with(r#"{"subscription":"stock","key_value":true}"#), "{}", node.asked()[0]);
}

#[test]
fn dead_letters_are_selected_by_topic_and_time() {
    let node = Rote::answering(&[(200, r#"{"changed":1}"#)]);
    let run = node.busway(&["dead", "retry", "--topic", "shop.>", "--until", "2000-02-29"], b"");
    assert_eq!(run.stdout, "1 dead letter given back\n");
    assert!(node.asked()[0].ends_with(r#"{"until_ms":951782400000,"topic":"shop.>"}"#), "{}", node.asked()[0]);
}

#[test]
fn a_replay_says_what_is_delivered_again_and_what_is_not() {
    let reply = |moved| {
        format!(
            r#"{{"subscription":"stock","service":"stock","from":100,"to":5000,"events":1204,"counted_to":5000,"parked":2,"dead":1,"oldest":100,"moved":{moved},"generation":3}}"#
        )
    };
    let node = Rote::answering(&[(200, &reply(false)), (200, &reply(true))]);
    let run = node.busway(&["replay", "stock", "--from", "7", "--dry-run"], b"");
    assert_eq!((run.code, run.stdout.as_str()), (0, "stock would get 1,204 events of 100 to 5,000 again\n"));
    assert_eq!(
        run.stderr,
        "warning: events before 100 are no longer kept; it begins there\n\
         2 events there still to be tried again: kept as before\n\
         1 dead letter there: not delivered again without --dead\n"
    );
    assert!(node.asked()[0].ends_with(r#"{"service":"stock","from":"7","to":"now","dead":false,"dry_run":true}"#));
    let run = node.busway(&["replay", "stock", "--from", "2000-02-29", "--to", "5000", "--dead"], b"");
    assert_eq!(run.stdout, "stock gets 1,204 events of 100 to 5,000 again (replay 3)\n");
    let asked = r#""from":"2000-02-29T00:00:00.000Z","to":"5000","dead":true,"dry_run":false}"#;
    assert!(node.asked()[1].ends_with(asked), "{}", node.asked()[1]);
    let run = Sandbox::new().busway(&["replay", "stock", "--from", "now", "--admin", "127.0.0.1:1", "--token", "t"]);
    assert_eq!(run.code, 2, "{}", run.stderr);
}

#[test]
fn key_value_is_listed_to_its_end() {
    let pages = [
        (200, r#"{"entries":[{"key":"a","data":1}],"more":true}"#),
        (200, r#"{"entries":[{"key":"b","text":"x y"}],"more":false}"#),
    ];
    let node = Rote::answering(&pages);
    let run = node.busway(&["kv", "list", "count"], b"");
    assert_eq!(run.stdout, "KEY  VALUE\na    1\nb    x y\n");
    assert!(node.asked()[1].starts_with("GET /v1/kv/count?after=a "), "{}", node.asked()[1]);
}

//! Requests whose form is meant to be read differently by different servers. Whatever is hidden behind the first request
//! must not be answered as a second one.

use busway_gateway::edge::EdgeConfig;

use crate::client::{get, request};
use crate::served::{Served, echoing};

/// What comes back for raw bytes on one connection, to its end.
async fn raw(served: &Served, bytes: &str) -> String {
    let mut connection = served.connect().await;
    connection.write(bytes).await;
    connection.rest().await
}

fn statuses(answers: &str) -> Vec<&str> {
    answers.lines().filter(|line| line.starts_with("HTTP/1.1 ")).map(|line| &line[9..12]).collect()
}

#[tokio::test]
async fn what_is_smuggled_behind_a_request_is_never_answered() {
    let mut config = echoing();
    // Whatever is kept open by mistake ends soon.
    config.limits.idle_time = std::time::Duration::from_millis(300);
    config.limits.header_time = std::time::Duration::from_millis(300);
    let served = Served::start(config).await;
    let hidden = "GET /health/live HTTP/1.1\r\nhost: h\r\nx-request-id: smuggled\r\n\r\n";
    let head = "POST /echo/x HTTP/1.1\r\nhost: h\r\n";
    let length = hidden.len();
    for (what, bytes) in [
        (
            "length and chunks",
            format!("{head}content-length: {}\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n{hidden}", length + 5),
        ),
        (
            "chunks and length",
            format!("{head}transfer-encoding: chunked\r\ncontent-length: 4\r\n\r\n0\r\n\r\n{hidden}"),
        ),
        ("chunked is not last", format!("{head}transfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n{hidden}")),
        ("chunked in disguise", format!("{head}transfer-encoding: xchunked\r\n\r\n0\r\n\r\n{hidden}")),
        ("two lengths", format!("{head}content-length: 0\r\ncontent-length: {length}\r\n\r\n{hidden}")),
        ("a signed length", format!("{head}content-length: +0\r\n\r\n{hidden}")),
        ("a list of lengths", format!("{head}content-length: 0, {length}\r\n\r\n{hidden}")),
        ("a blank before the colon", format!("{head}transfer-encoding : chunked\r\n\r\n0\r\n\r\n{hidden}")),
        ("a folded header", format!("{head}x: a\r\n transfer-encoding: chunked\r\n\r\n0\r\n\r\n{hidden}")),
        ("a bare CR", format!("{head}x: a\rtransfer-encoding: chunked\r\n\r\n0\r\n\r\n{hidden}")),
        ("a NUL", format!("{head}x: a\0b\r\n\r\n{hidden}")),
        ("a chunk of a wrong size", format!("{head}transfer-encoding: chunked\r\n\r\n1\r\nab\r\n0\r\n\r\n{hidden}")),
        ("a huge chunk size", format!("{head}transfer-encoding: chunked\r\n\r\nfffffffffffffffff\r\n{hidden}")),
        ("chunks in HTTP/1.0", format!("POST /echo/x HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n{hidden}")),
    ] {
        let answers = raw(&served, &bytes).await;
        assert!(!answers.contains("smuggled"), "{what}: {answers}");
        assert!(statuses(&answers).len() <= 1, "{what}: {answers}");
    }
    // The same bytes without a trick are two requests.
    let honest = raw(&served, &format!("{head}content-length: 0\r\n\r\n{hidden}")).await;
    assert_eq!(statuses(&honest), ["200", "200"], "{honest}");
}

#[tokio::test]
async fn a_request_names_one_host() {
    let mut config = EdgeConfig::default();
    config.limits.idle_time = std::time::Duration::from_millis(300);
    let served = Served::start(config).await;
    for (bytes, wanted) in [
        ("GET /health/live HTTP/1.1\r\n\r\n", "400"),
        ("GET /health/live HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n", "400"),
        ("GET http://a/health/live HTTP/1.1\r\nhost: b\r\n\r\n", "400"),
        ("GET http://a/health/live HTTP/1.1\r\nhost: a\r\n\r\n", "200"),
        ("GET /health/live HTTP/1.0\r\n\r\n", "200"),
        ("CONNECT a:80 HTTP/1.1\r\nhost: a:80\r\n\r\n", "405"),
        ("TRACE /health/live HTTP/1.1\r\nhost: a\r\n\r\n", "405"),
    ] {
        let answer = raw(&served, bytes).await.replace("HTTP/1.0", "HTTP/1.1");
        assert_eq!(statuses(&answer), [wanted], "{bytes:?}: {answer}");
    }
}

#[tokio::test]
async fn a_path_cannot_climb_and_has_one_spelling() {
    let served = Served::start(echoing()).await;
    for bad in
        ["/echo/../health/live", "/echo/%2e%2e/x", "/echo/a%2fb", "/echo/a\\b", "/echo//x", "/echo/%00", "/echo/%zz"]
    {
        let refused = served.send(get(bad)).await;
        assert_eq!(refused.status, 400, "{bad}");
    }
    assert_eq!(served.send(get("/%65cho/%78?q=%2e%2e/")).await.header("x-path"), Some("/echo/x?q=%2e%2e/"));
    assert_eq!(served.send(request("OPTIONS", "/echo/x")).await.status, 200);
}

#[tokio::test]
async fn nonsense_is_refused_without_harm() {
    let served = Served::start(echoing()).await;
    for nonsense in
        ["\0\0\0\0\0\0\0\0\r\n\r\n", "GET\r\n\r\n", "GET / HTTP/9.9\r\n\r\n", "\u{16}\u{3}\u{1}\u{2}\0\u{1}\r\n\r\n"]
    {
        let answer = raw(&served, nonsense).await;
        assert!(answer.is_empty() || statuses(&answer) == ["400"], "{nonsense:?}: {answer}");
    }
    assert_eq!(served.send(get("/health/live")).await.status, 200);
}

//! Routes that serve one file: nothing in a request leads to another one.

use busway_gateway::edge::{EdgeConfig, RouteConfig, ServedFile, Target};

use crate::client::{get, request};
use crate::served::{Served, route};

const PAGE: &[u8] = b"<!doctype html><title>a page</title>";

fn file(path: &str, name: &str, bytes: &'static [u8]) -> RouteConfig {
    let media_type = ServedFile::media_type(name).expect("a kind that browsers know");
    let bytes = bytes::Bytes::from_static(bytes);
    RouteConfig { target: Target::File(ServedFile { media_type, bytes }), ..route(path, "none") }
}

async fn served() -> Served {
    let routes = vec![
        file("/", "index.html", PAGE),
        file("/app/main.js", "main.js", b"run()"),
        file("/a/{name}", "x.txt", b"x"),
    ];
    Served::start(EdgeConfig { routes, ..EdgeConfig::default() }).await
}

#[tokio::test]
async fn a_file_comes_as_what_it_is_and_nothing_else() {
    let served = served().await;
    let page = served.send(get("/?anything=%2e%2e/%2e%2e/etc/passwd")).await;
    assert_eq!((page.status, &*page.body), (200, PAGE));
    assert_eq!(page.header("content-type"), Some("text/html; charset=utf-8"));
    assert_eq!(page.header("x-content-type-options"), Some("nosniff"));
    assert_eq!(page.header("cache-control"), Some("no-cache"));
    assert_eq!(page.header("content-length"), Some(&*PAGE.len().to_string()));
    let script = served.send(get("/app/main.js")).await;
    assert_eq!((script.text(), script.header("content-type")), ("run()", Some("text/javascript; charset=utf-8")));
    for (name, kind) in [
        ("a.HTML", Some("text/html; charset=utf-8")),
        ("a.css", Some("text/css; charset=utf-8")),
        ("a.tar.json", Some("application/json")),
        ("a.svg", Some("image/svg+xml")),
        ("a.wasm", Some("application/wasm")),
        ("html", None),
        ("a.php", None),
        ("a.", None),
        ("", None),
    ] {
        assert_eq!(ServedFile::media_type(name), kind, "{name:?}");
    }
}

/// The same as a GET, without the body; and nothing that changes anything is taken.
#[tokio::test]
async fn a_file_is_read_and_not_written() {
    let served = served().await;
    let mut connection = served.connect().await;
    connection.write("HEAD / HTTP/1.1\r\nhost: h\r\n\r\n").await;
    let head = connection.head().await.expect("a head");
    assert!(
        head.starts_with("HTTP/1.1 200") && head.contains(&format!("content-length: {}\r\n", PAGE.len())),
        "{head}"
    );
    // Nothing of a body is in between.
    assert_eq!(connection.send(get("/app/main.js")).await.text(), "run()");
    for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "PROPFIND"] {
        let refused = served.send(request(method, "/").body("new")).await;
        assert_eq!((refused.status, refused.header("allow")), (405, Some("GET,HEAD")), "{method}");
        assert_eq!(refused.problem(), "method");
    }
    assert_eq!(&*served.send(get("/")).await.body, PAGE);
}

/// A part of a file, or whether it changed, is not offered: whoever asks for that gets all of it, as RFC 9110 has it.
#[tokio::test]
async fn what_asks_for_a_part_gets_the_whole() {
    let served = served().await;
    for (name, value) in [
        ("range", "bytes=0-3"),
        ("range", "bytes=0-0,5-6,-1"),
        ("range", "bytes=18446744073709551615-"),
        ("if-none-match", "*"),
        ("if-modified-since", "Sat, 31 Jan 2099 09:05:00 GMT"),
        ("accept-encoding", "gzip, br"),
    ] {
        let answer = served.send(get("/").header(name, value)).await;
        assert_eq!((answer.status, &*answer.body), (200, PAGE), "{name}: {value}");
        for none in ["accept-ranges", "content-range", "content-encoding", "etag", "last-modified"] {
            assert_eq!(answer.header(none), None, "{none}");
        }
    }
}

#[tokio::test]
async fn no_path_leads_to_another_file() {
    let served = served().await;
    for (path, wanted) in [
        ("/../Cargo.toml", 400),
        ("/app/../../Cargo.toml", 400),
        ("/app/%2e%2e/%2e%2e/Cargo.toml", 400),
        ("/app/..%2fCargo.toml", 400),
        ("/app/%2e%2e%5cCargo.toml", 400),
        ("/a/..%2f..%2fetc%2fpasswd", 400),
        ("/a/%2fetc%2fpasswd", 400),
        ("/a/C:%5cwindows", 400),
        ("/a/x%00.txt", 400),
        ("//etc/passwd", 400),
        ("/app/main.js/", 404),
        ("/app/main.js/../main.js", 400),
        ("/app/main.js%20", 404),
        ("/app/main.js::$DATA", 404),
        ("/app/MAIN.js", 404),
        ("/app/", 404),
        ("/app", 404),
        ("/Cargo.toml", 404),
        ("/etc/passwd", 404),
    ] {
        let refused = served.send(get(path)).await;
        assert_eq!(refused.status, wanted, "{path}");
        assert!(!refused.text().contains("[package]") && !refused.text().contains("root:"), "{path}");
    }
    // Of a parameter any value is the same file; escapes of plain characters are the path itself.
    for path in ["/a/passwd", "/a/..txt", "/a/%252e%252e%252fpasswd"] {
        assert_eq!(served.send(get(path)).await.text(), "x", "{path}");
    }
    assert_eq!(served.send(get("/%61pp/main%2ejs")).await.text(), "run()");
}

//! Encryption and certificates of clients, at the binary: who is let in by what, and what is exchanged while it runs.

use busway_tests::programs;

use crate::gateway::Told;
use crate::harness::App;

use super::curl::{curl, try_curl};
use super::doors::{make_key, ready};
use super::leaks::Leaks;
use super::tls::{Kept, Root};
use super::until;

const WEB: &str = "[[gateway.routes]]\nname = \"web\"\npath = \"/web/{*rest}\"\nservice = \"web\"\n";
const FILE: &str = "[[gateway.routes]]\nname = \"file\"\npath = \"/file\"\nfile = \"page.html\"\n";
const TLS: &str = "[gateway]\nlisten = \"127.0.0.1:0\"\n[gateway.tls]\ncertificate = \"gateway-certificate.pem\"\n\
                   key = \"gateway-key.pem\"\n";

#[test]
fn a_client_is_let_in_by_its_certificate_and_the_key_of_the_gateway_stays_there() {
    let app = App::new().with(programs::WEB, "web");
    let (ours, theirs, others) = (Root::new(), Root::new(), Root::new());
    let server = ours.signs("the gateway");
    server.write(app.path(), "gateway");
    let (ca, _) = (ours.write(app.path(), "ca.pem"), theirs.write(app.path(), "clients.pem"));
    let certificates = "client-ca = \"clients.pem\"\n[gateway.auth.certificates.\"till.shop\"]\nscopes = [\"route:web\"]\n\
                        [gateway.auth.certificates.\"guest.shop\"]\nscopes = [\"route:other\"]\n";
    app.write("busway.toml", format!("{TLS}{certificates}{WEB}").as_bytes());
    let told = Told::start(&app, &["--log", "trace"]);
    let seen = format!("{}/web/seen", ready(&told));
    let mut leaks = Leaks::default();
    leaks.keep(&server.secret());
    for (name, root, wanted) in [
        ("till.shop", &theirs, Some(200)),
        ("guest.shop", &theirs, Some(403)),
        ("nobody.shop", &theirs, Some(401)),
        ("till.shop", &others, None),
    ] {
        let client = root.signs(name);
        let (certificate, key) = client.write(app.path(), "client");
        leaks.keep(&client.secret());
        let arguments = ["--cacert", &ca, "--cert", &certificate, "--key", &key, &seen];
        let Some(wanted) = wanted else {
            // With TLS 1.3 a client learns that it was turned away when it reads or writes.
            try_curl(&arguments).expect_err("signed by somebody else");
            continue;
        };
        let reply = leaks.curl(&arguments);
        assert_eq!((reply.status, reply.version()), (wanted, "HTTP/2"), "{name}: {reply:?}");
        if wanted == 200 {
            let headers = reply.json()["headers"].to_string();
            assert!(headers.contains(r#"["x-busway-caller","certificate:till.shop"]"#), "{headers}");
            assert_eq!(reply.json()["scheme"], "https");
        }
    }
    let nobody = leaks.curl(&["--cacert", &ca, "--http1.1", &seen]);
    assert_eq!((nobody.status, nobody.version()), (401, "HTTP/1.1"));
    try_curl(&[&seen]).expect_err("whoever does not trust the root is not served");
    let plain = seen.replace("https://", "http://");
    assert!(try_curl(&[&plain]).is_err(), "nothing is served unencrypted");
    leaks.none(&told);
}

#[test]
fn keys_and_certificates_are_exchanged_on_a_connection_that_is_kept() {
    let app = App::new();
    app.write("page.html", b"<p>a page</p>");
    let (old, new) = (Root::new(), Root::new());
    old.signs("the gateway").write(app.path(), "gateway");
    let ((first, first_lines), (second, second_lines)) =
        (make_key("first", &["route:*"]), make_key("second", &["route:*"]));
    let manifest = |lines: &str| format!("{TLS}{lines}\n{FILE}");
    app.write("busway.toml", manifest(&first_lines).as_bytes());
    let told = Told::start(&app, &[]);
    let url = ready(&told);
    let [first, second] = [&first, &second].map(|key| format!("x-api-key: {key}"));
    let mut kept = Kept::open(&url, &old).expect("trusted");
    assert_eq!((kept.get("/file", &first), kept.get("/file", &second)), (200, 401));

    // A key that is added, and one that is taken away.
    app.write("busway.toml", manifest(&format!("{first_lines}\n{second_lines}")).as_bytes());
    until("another key", || kept.get("/file", &second) == 200);
    assert_eq!(kept.get("/file", &first), 200);
    app.write("busway.toml", manifest(&second_lines).as_bytes());
    until("a key less", || kept.get("/file", &first) == 401);
    // A mistake changes nothing.
    app.write("busway.toml", manifest("[gateway.auth.keys.second]\nscopes = []").as_bytes());
    told.after("cannot be used; what was before goes on");
    assert_eq!(kept.get("/file", &second), 200);

    assert!(Kept::open(&url, &new).is_err(), "not trusted yet");
    new.signs("the gateway").write(app.path(), "gateway");
    until("another certificate", || Kept::open(&url, &new).is_ok_and(|mut fresh| fresh.get("/file", &second) == 200));
    assert!(Kept::open(&url, &old).is_err(), "the one before is gone");
    assert_eq!(kept.get("/file", &second), 200, "the connection is still there");
}

/// The command that `run` prints is enough, with HTTP/2 as with HTTP/1.1.
#[test]
fn a_self_made_certificate_is_trusted_as_run_says() {
    let app = App::new().with(programs::WEB, "web");
    app.write(
        "busway.toml",
        format!("[gateway]\nlisten = \"127.0.0.1:0\"\n[gateway.tls]\nself-made = true\n{WEB}").as_bytes(),
    );
    let told = Told::start(&app, &[]);
    let seen = format!("{}/web/seen", ready(&told));
    let file = told.after("trust it with curl --cacert ");
    for (protocol, version) in [("--http2", "HTTP/2"), ("--http1.1", "HTTP/1.1")] {
        let reply = curl(&["--cacert", &file, protocol, &seen]);
        assert_eq!((reply.status, reply.version()), (200, version));
    }
    assert!(!told.said().contains("PRIVATE"), "{}", told.said());
}

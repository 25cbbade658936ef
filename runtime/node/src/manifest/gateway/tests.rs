//! What `[gateway]` yields, and what its author is told.

use std::path::Path;
use std::time::Duration;

use busway_gateway::edge::{CertificateSource, EdgeConfig, EdgeLimits, Origins, Target};
use http::Method;

use super::GatewayConfig;
use crate::manifest::Manifest;

fn parse(text: &str) -> Result<GatewayConfig, String> {
    let parsed = Manifest::parse(Path::new("/app/busway.toml"), text);
    let told = |findings: Vec<crate::manifest::Finding>| findings.iter().map(ToString::to_string).collect::<Vec<_>>();
    parsed.map(|manifest| manifest.gateway).map_err(|findings| told(findings).join("\n"))
}

#[test]
fn nothing_said_is_everything_at_its_default_and_no_gateway() {
    assert_eq!(parse("").expect("sound"), GatewayConfig { listen: None, edge: EdgeConfig::default() });
}

#[test]
fn a_full_gateway_yields_plain_values() {
    let text = r#"
[gateway]
listen = "0.0.0.0:8443"
[gateway.tls]
certificate = "tls/crt.pem"
key = "/etc/key.pem"
client-ca = "ca.pem"
client-certificates = "required"
[gateway.limits]
connections = 500
body-bytes = "1MiB"
request-time = "5s"
drain-delay = "0s"
[gateway.cors]
origins = ["https://shop.example", "http://localhost:3000"]
credentials = true
methods = ["GET"]
[gateway.events]
topics = ["shop.>", "visits.home"]
[[gateway.routes]]
name = "orders"
path = "/orders/{id}"
method = "GET"
auth = "none"
timeout = "2s"
service = "orders"
[[gateway.routes]]
path = "/{*rest}"
service = "site"
"#;
    let GatewayConfig { listen, edge } = parse(text).expect("sound");
    assert_eq!(listen, "0.0.0.0:8443".parse().ok());
    let tls = edge.tls.expect("tls");
    let (certificate, key) = ("/app/tls/crt.pem".into(), "/etc/key.pem".into());
    assert_eq!(tls.source, CertificateSource::Files { certificate, key });
    assert!(tls.client_ca.is_some_and(|ca| ca.is_required && ca.file == Path::new("/app/ca.pem")));
    let expected = EdgeLimits {
        connections: 500,
        body_bytes: 1 << 20,
        request_time: Duration::from_secs(5),
        ..EdgeLimits::default()
    };
    assert_eq!(edge.limits, expected);
    let cors = edge.cors.expect("cors");
    assert!(matches!(&cors.origins, Origins::Listed(listed) if listed.len() == 2));
    assert_eq!((cors.credentials, cors.methods), (true, vec![Method::GET]));
    let topics: Vec<String> = edge.events.topics.expect("listed").iter().map(ToString::to_string).collect();
    assert_eq!(topics, ["shop.>", "visits.home"]);
    let [orders, site] = &edge.routes[..] else { panic!("{:?}", edge.routes) };
    assert_eq!((&*orders.name, &orders.method, orders.is_open), ("orders", &Some(Method::GET), true));
    assert_eq!((orders.timeout, &*site.name, site.is_open), (Some(Duration::from_secs(2)), "/{*rest}", false));
    assert_eq!(site.target, Target::Service("site".parse().expect("a name")));
}

#[test]
fn every_mistake_is_told_with_what_would_be_right() {
    for (text, message) in [
        ("[gateway]\nlisten = 8080", "`listen` in [gateway] is an integer; expected a string"),
        ("[gateway]\nlisten = \"8080\"", "invalid socket address"),
        ("[gateway]\nlimit = 1", "did you mean `limits`?"),
        ("[gateway.limits]\nconections = 1", "did you mean `connections`?"),
        ("[gateway.limits]\nheader-bytes = \"1KiB\"", "`header-bytes` in [gateway.limits] is 1KiB; 8KiB to 1MiB"),
        ("[gateway.tls]\nkey = \"k\"", "needs `certificate` and `key`, or `self-made = true` alone"),
        ("[gateway.tls]\nself-made = true\ncertificate = \"c\"", "`self-made = true` alone"),
        ("[gateway.tls]\nself-made = true\nclient-certificates = \"required\"", "nobody could have signed them"),
        ("[gateway.cors]\ncredentials = true", "[gateway.cors] needs `origins`"),
        ("[gateway.cors]\norigins = [\"*\"]\ncredentials = true", "let any page act as its visitor"),
        ("[gateway.cors]\norigins = [\"shop.example\"]", "`shop.example` is no origin"),
        ("[gateway.cors]\norigins = [\"https://shop.example/\"]", "is no origin"),
        ("[gateway.events]\ntopics = [\"a..b\"]", "the topic `a..b` has an empty token"),
        (
            "[gateway.events]\ntopics = [\"a\"]\n[gateway.auth.certificates.x]\nscopes = []",
            "`topics` is for a gateway without [gateway.auth]",
        ),
        ("[[gateway.routes]]\nservice = \"a\"", "a route needs a `path`"),
        ("[[gateway.routes]]\npath = \"/a\"", "a route leads nowhere"),
        ("[[gateway.routes]]\npath = \"a\"\nservice = \"a\"", "does not begin with `/`"),
        ("[[gateway.routes]]\npath = \"/health/live\"\nservice = \"a\"", "which is served already"),
        ("[[gateway.routes]]\npath = \"/a\"\nservice = \"a\"\nauth = \"basic\"", "expected `none`"),
        ("[[gateway.routes]]\npath = \"/a\"\nservice = \"a\"\nmethod = \"GE T\"", "invalid HTTP method"),
    ] {
        let told = parse(text).expect_err(text);
        assert!(told.contains(message), "{text}:\n{told}");
    }
}

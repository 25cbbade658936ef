//! The document of what the gateway serves, and the page that shows it.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use busway_gateway::edge::RouteConfig;
use busway_gateway::edge::auth::AuthConfig;
use serde_json::{Value, json};

use crate::ask;
use crate::client::get;
use crate::fake::{Fake, lock};
use crate::served::{Served, route};

async fn served() -> Served {
    let fake = Fake::default();
    lock(&fake.contracts).push(ask::quotes());
    let mut config = ask::config();
    config.routes.push(route("/echo/{*rest}", "echo"));
    Served::start_with(fake, config).await
}

#[tokio::test]
async fn the_document_has_what_is_served_with_its_types() {
    let served = served().await;
    let answer = served.send(get("/openapi.json")).await;
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/json")));
    let document = answer.json();
    let paths: Vec<&str> = document["paths"].as_object().expect("paths").keys().map(String::as_str).collect();
    assert_eq!(
        paths,
        [
            "/echo/{rest}",
            "/events",
            "/events/{topic}",
            "/files/{name}",
            "/health/live",
            "/health/ready",
            "/nobody",
            "/prices/{key}",
            "/quotes/{sku}",
            "/stores/{sku}",
        ]
    );
    let quote = &document["paths"]["/quotes/{sku}"]["get"];
    assert_eq!(quote["description"], "What quote does.");
    let parameters: Vec<(&Value, &Value, &Value)> = quote["parameters"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|one| (&one["name"], &one["in"], &one["required"]))
        .collect();
    let wanted = [
        (json!("sku"), json!("path"), json!(true)),
        (json!("quantity"), json!("query"), json!(true)),
        (json!("colour"), json!("query"), json!(false)),
        (json!("tags"), json!("query"), json!(false)),
        (json!("Request-Timeout"), json!("header"), Value::Null),
    ];
    assert_eq!(parameters, wanted.iter().map(|(a, b, c)| (a, b, c)).collect::<Vec<_>>());
    assert_eq!(
        quote["responses"]["200"]["content"]["application/json"]["schema"]["$ref"],
        "#/components/schemas/price"
    );
    for status in ["404", "422", "503"] {
        assert!(quote["responses"][status]["content"]["application/problem+json"].is_object(), "{status}");
    }
    let post = &document["paths"]["/quotes/{sku}"]["post"];
    assert_eq!(post["requestBody"]["content"]["application/json"]["schema"]["required"], json!(["quantity"]));
    let find = &document["paths"]["/prices/{key}"]["get"]["responses"];
    assert!(find["204"].is_object() && find["200"].is_object());
    assert_eq!(document["paths"]["/nobody"]["get"]["responses"].as_object().map(serde_json::Map::len), Some(1));
}

/// The validator is an npm package with a lock file in `tests/documents`, which `cargo xtask test` installs.
#[tokio::test]
async fn the_document_passes_the_validator_of_its_makers() {
    let served = served().await;
    let document = served.send(get("/openapi.json")).await.json();
    let mut broken = document.clone();
    broken["components"]["schemas"]["price"]["type"] = "recrod".into();
    assert_eq!(problems(&document), "");
    assert!(problems(&broken).contains("price"));

    let keys = vec![crate::security::key("shop", &["route:quote"]).1];
    let mut config = ask::config();
    config.auth = AuthConfig { keys, documents_open: true, ..AuthConfig::default() };
    let quote = RouteConfig { method: None, path: "/any/{sku}".into(), ..config.routes[0].clone() };
    let open = RouteConfig { is_open: true, ..route("/open", "echo") };
    config.routes.extend([quote, open]);
    served.gateway.reload(config).expect("sound");
    let mut locked = served.send(get("/openapi.json")).await.json();
    assert!(locked["paths"]["/any/{sku}"]["put"]["requestBody"].is_object(), "{locked}");
    let ids = |document: &Value| -> Vec<String> {
        let operations = document["paths"].as_object().expect("paths").values().filter_map(Value::as_object);
        operations.flat_map(|path| path.values().map(|one| one["operationId"].to_string())).collect()
    };
    let mut once = ids(&locked);
    once.sort_unstable();
    once.dedup();
    assert_eq!(once.len(), ids(&locked).len(), "two routes of one name have operations of their own");
    assert_eq!(problems(&locked), "");
    locked["components"]["securitySchemes"]["key"]["in"] = "pocket".into();
    assert!(problems(&locked).contains("securitySchemes"));
}

fn problems(document: &Value) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/documents");
    let mut node = Command::new("node");
    node.arg("validate.mjs").current_dir(folder).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = node.spawn().expect("node (20 or newer) is installed");
    let input = json!([{ "kind": "openapi", "name": "gateway", "document": document }]).to_string();
    child.stdin.take().expect("a pipe").write_all(input.as_bytes()).expect("written");
    let output = child.wait_with_output().expect("ended");
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.success(), told.is_empty(), "{told}{errors}");
    told
}

#[tokio::test]
async fn the_page_runs_its_own_script_only() {
    let served = served().await;
    let answer = served.send(get("/docs")).await;
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("text/html; charset=utf-8")));
    let policy = answer.header("content-security-policy").expect("a policy");
    for part in ["default-src 'none'", "script-src 'sha256-", "frame-ancestors 'none'"] {
        assert!(policy.contains(part), "{policy}");
    }
    assert!(!policy.contains("unsafe"));
    let page = answer.text();
    assert!(page.contains("openapi.json") && !page.contains("innerHTML") && !page.contains("http"), "{page}");
}

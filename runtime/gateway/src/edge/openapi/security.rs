//! What somebody has to show, in the words of `OpenAPI`.
//!
//! Invariant: it says what the gate does with the same configuration. A requirement is a list of alternatives; an empty one
//! is nothing to show. Names of roles (`route:quote`) are the scopes that a credential needs.

use serde_json::{Map, Value, json};

use crate::edge::auth::Scope;
use crate::edge::config::EdgeConfig;
use crate::edge::routes::{RouteConfig, Target};

/// A client certificate, as its scheme is called here.
const CERTIFICATE: &str = "certificate";

/// What the gateway asks for.
pub(super) struct Security {
    schemes: Map<String, Value>,
    /// The schemes of which one lets somebody in; none of them: everybody may come.
    ways: Vec<&'static str>,
    /// Whether nobody gets a connection without a certificate.
    is_mutual: bool,
}

impl Security {
    pub(super) fn of(config: &EdgeConfig) -> Self {
        let auth = &config.auth;
        let authority = config.tls.as_ref().and_then(|tls| tls.client_ca.as_ref());
        let is_mutual = authority.is_some_and(|ca| ca.is_required);
        let known = [
            (
                "key",
                !auth.keys.is_empty(),
                json!({ "type": "apiKey", "in": "header", "name": "X-API-Key", "description": "An API key" }),
            ),
            (
                "key-as-bearer",
                !auth.keys.is_empty(),
                json!({ "type": "http", "scheme": "bearer", "description": "An API key" }),
            ),
            (
                "token",
                auth.jwt.is_some(),
                json!({ "type": "http", "scheme": "bearer", "bearerFormat": "JWT", "description": "A token of the issuer" }),
            ),
            (
                CERTIFICATE,
                authority.is_some() && !auth.certificates.is_empty(),
                json!({ "type": "mutualTLS", "description": "A client certificate" }),
            ),
        ];
        let mut security = Self { schemes: Map::new(), ways: Vec::new(), is_mutual };
        for (name, is_way, scheme) in known {
            if is_way {
                security.ways.push(name);
            }
            if is_way || (is_mutual && name == CERTIFICATE) {
                security.schemes.insert(name.to_owned(), scheme);
            }
        }
        security
    }

    /// The schemes, and what everything asks for that says nothing else; none when there is nothing to say.
    pub(super) fn into_parts(self) -> Option<(Value, Value)> {
        let required = self.required(&[]);
        (!self.schemes.is_empty()).then(|| (self.schemes.into(), required))
    }

    /// Whether anybody is asked who they are.
    pub(super) fn is_locked(&self) -> bool {
        !self.ways.is_empty()
    }

    /// What is open to everybody.
    pub(super) fn open(&self) -> Value {
        if self.is_mutual { json!([{ CERTIFICATE: [] }]) } else { json!([]) }
    }

    /// What a route asks for.
    pub(super) fn route(&self, route: &RouteConfig) -> Value {
        if route.is_open || !self.is_locked() {
            return self.open();
        }
        let mut required = self.required(&[Scope::Route(route.name.clone()).to_string()]);
        // Its clients may show a credential in a packet of their own.
        if let (Target::SocketIo(_), Value::Array(ways)) = (&route.target, &mut required) {
            ways.insert(0, if self.is_mutual { json!({ CERTIFICATE: [] }) } else { json!({}) });
        }
        required
    }

    fn required(&self, roles: &[String]) -> Value {
        if !self.is_locked() {
            return self.open();
        }
        let way = |way: &&str| {
            let mut shown = Map::from_iter([((*way).to_owned(), json!(roles))]);
            if self.is_mutual {
                shown.entry(CERTIFICATE).or_insert_with(|| json!([]));
            }
            Value::from(shown)
        };
        self.ways.iter().map(way).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edge::auth::{
        AuthConfig, CertificateConfig, CertificateMatch, JwtConfig, KeyConfig, KeyHash, KeySource,
    };
    use crate::edge::live::SocketIoConfig;
    use crate::edge::openapi::document;
    use crate::edge::{CertificateSource, ClientCa, TlsConfig};

    fn route(name: &str, is_open: bool, target: Target) -> RouteConfig {
        let path = format!("/{name}").into();
        RouteConfig { name: name.into(), path, method: None, is_open, rate: None, timeout: None, target }
    }

    fn config(auth: AuthConfig) -> EdgeConfig {
        let service = || Target::Service("s".parse().expect("a name"));
        let socketio = Target::SocketIo(SocketIoConfig::default());
        let routes =
            vec![route("shut", false, service()), route("open", true, service()), route("chat", false, socketio)];
        EdgeConfig { auth, routes, ..EdgeConfig::default() }
    }

    fn key() -> KeyConfig {
        KeyConfig { name: "k".into(), sha256: KeyHash::of(b"x"), scopes: Vec::new(), expires: None }
    }

    fn security(document: &Value, path: &str, method: &str) -> Value {
        document["paths"][path][method]["security"].clone()
    }

    #[test]
    fn without_authentication_nothing_is_asked_for() {
        let document = document::of(&config(AuthConfig::default()), &[]);
        assert!(document.get("security").is_none() && document["components"].get("securitySchemes").is_none());
        assert_eq!(security(&document, "/shut", "get"), Value::Null);
        assert!(document["paths"].get("/auth/tickets").is_none(), "nobody needs one");
    }

    #[test]
    fn what_opens_a_route_is_said_of_it() {
        let issuer = JwtConfig::new("https://issuer.example", "busway", KeySource::JwksFile("unused".into()));
        let auth = AuthConfig { keys: vec![key()], jwt: Some(issuer), ..AuthConfig::default() };
        let document = document::of(&config(auth), &[]);
        let schemes = &document["components"]["securitySchemes"];
        assert_eq!((&schemes["key"]["name"], &schemes["key"]["in"]), (&"X-API-Key".into(), &"header".into()));
        assert_eq!(schemes["token"]["bearerFormat"], "JWT");
        assert!(schemes.get(CERTIFICATE).is_none());
        assert_eq!(document["security"], json!([{ "key": [] }, { "key-as-bearer": [] }, { "token": [] }]));
        let of_route = |name: &str| json!([{ "key": [name] }, { "key-as-bearer": [name] }, { "token": [name] }]);
        assert_eq!(security(&document, "/shut", "patch"), of_route("route:shut"));
        assert_eq!(security(&document, "/open", "get"), json!([]));
        assert_eq!(security(&document, "/health/live", "get"), json!([]));
        assert_eq!(security(&document, "/chat", "get")[0], json!({}), "a packet may show it instead");
        assert_eq!(security(&document, "/events/{topic}", "post"), Value::Null, "as everything else");
        assert!(document["paths"]["/auth/tickets"]["post"].is_object());
    }

    #[test]
    fn certificates_are_asked_for_where_they_are() {
        let certificate = CertificateConfig { certificate: CertificateMatch::Name("c".into()), scopes: Vec::new() };
        let auth = AuthConfig { certificates: vec![certificate], keys: vec![key()], ..AuthConfig::default() };
        let with_ca = |is_required| {
            let client_ca = Some(ClientCa { file: "ca.pem".into(), is_required });
            let tls = Some(TlsConfig { source: CertificateSource::SelfMade, client_ca });
            document::of(&EdgeConfig { tls, ..config(auth.clone()) }, &[])
        };
        let optional = with_ca(false);
        assert_eq!(optional["components"]["securitySchemes"][CERTIFICATE]["type"], "mutualTLS");
        assert_eq!(optional["security"][2], json!({ CERTIFICATE: [] }));
        let required = with_ca(true);
        assert_eq!(required["security"][0], json!({ "key": [], CERTIFICATE: [] }), "nobody connects without one");
        assert_eq!(security(&required, "/open", "get"), json!([{ CERTIFICATE: [] }]));
        let without = document::of(&config(auth.clone()), &[]);
        assert_eq!(without["security"], json!([{ "key": [] }, { "key-as-bearer": [] }]), "nobody could have signed it");
    }

    #[test]
    fn a_route_without_a_method_shows_all_that_lead_to_it() {
        let mut config = config(AuthConfig::default());
        let mut get = route(
            "shut",
            false,
            Target::File(crate::edge::ServedFile { media_type: "text/plain", bytes: bytes::Bytes::new() }),
        );
        get.method = Some(http::Method::GET);
        config.routes.push(get);
        let document = document::of(&config, &[]);
        let methods = |path: &str| {
            let operations = document["paths"][path].as_object().expect("operations");
            operations.iter().map(|(method, one)| (method.clone(), one["operationId"].clone())).collect::<Vec<_>>()
        };
        let named = |all: &[&str], name: &str| -> Vec<(String, Value)> {
            all.iter()
                .map(|method| ((*method).to_owned(), format!("{name}-{}", method.to_uppercase()).into()))
                .collect()
        };
        assert_eq!(methods("/open"), named(&["delete", "get", "head", "options", "patch", "post", "put"], "open"));
        assert_eq!(methods("/chat"), named(&["get", "post"], "chat"));
        assert_eq!(document["paths"]["/shut"]["get"]["description"], "A file.", "what is for a method goes before");
        assert_eq!(methods("/shut"), named(&["delete", "get", "options", "patch", "post", "put"], "shut"));
    }
}

//! What can be served and is probably not meant: told at the start of a node, when something changed, and by `busway check`.
//!
//! Role: reads a configuration beside what runs behind it. Invariant: it decides nothing; a gateway that has advice here
//! serves all the same, and answers 503 where nobody is behind a route.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;

use busway_contract::Contract;
use busway_types::{ServiceName, Topic};

use super::ask::{RequestTarget, problems};
use super::auth::Scope;
use super::config::EdgeConfig;
use super::routes::{RouteConfig, Target};

/// What runs behind a gateway.
#[derive(Clone, Debug, Default)]
pub struct Served {
    /// The contracts that are used.
    pub contracts: Vec<Arc<Contract>>,
    /// The requests of contracts that are answered.
    pub answers: BTreeSet<Topic>,
    /// The services that run.
    pub services: BTreeSet<ServiceName>,
    /// Those of them that answer HTTP.
    pub http: BTreeSet<ServiceName>,
}

/// The most names in one sentence.
const NAMES: usize = 8;

impl EdgeConfig {
    /// What is probably not meant, a sentence for each; `listen` is where the gateway listens, if that is known.
    pub fn advice(&self, listen: Option<SocketAddr>, served: &Served) -> Vec<String> {
        let exposed = listen.filter(|addr| !addr.ip().is_loopback()).and_then(|addr| self.exposure(addr));
        let mut told: Vec<String> = exposed.into_iter().collect();
        self.scopes(&mut told);
        if !self.auth.certificates.is_empty() && self.tls.as_ref().is_none_or(|tls| tls.client_ca.is_none()) {
            let advice = "[gateway.auth.certificates] lets nobody in: `client-ca` in [gateway.tls] says who signs them";
            told.push(advice.to_owned());
        }
        for route in &self.routes {
            told.extend(route.advice(served).into_iter().map(|advice| format!("the route `{}`: {advice}", route.name)));
        }
        told
    }

    /// What is open to whoever reaches an address.
    fn exposure(&self, addr: SocketAddr) -> Option<String> {
        let is_plain = self.tls.is_none() && self.rate.trusted_proxies.0.is_empty();
        let also = if is_plain { "; nothing is encrypted either, for which there is [gateway.tls]" } else { "" };
        if !self.auth.is_configured() {
            let topics = match self.events.topics.as_deref() {
                None | Some([]) => String::new(),
                Some(topics) => {
                    format!(", and publishes and sees events of {}", names(topics.iter().map(ToString::to_string)))
                }
            };
            return Some(format!(
                "the gateway at {addr} asks nobody who they are: whoever reaches this machine uses every route{topics}; \
                 make a key with `busway gateway key NAME`, or listen at 127.0.0.1{also}"
            ));
        }
        is_plain.then(|| {
            format!(
                "the gateway at {addr} is not encrypted: keys and tokens can be read on their way; add [gateway.tls], or \
                 name the proxy that encrypts in `trusted-proxies` of [gateway.rate]"
            )
        })
    }

    /// Scopes that allow what is not there. Those of tokens are not known here.
    fn scopes(&self, told: &mut Vec<String>) {
        let keys = self.auth.keys.iter().map(|key| (format!("the key `{}`", key.name), &key.scopes));
        let certificates = self.auth.certificates.iter();
        let certificates =
            certificates.map(|known| (format!("the certificate `{}`", known.certificate), &known.scopes));
        for (who, scopes) in keys.chain(certificates) {
            for scope in scopes {
                let Scope::Route(name) = scope else { continue };
                let is_there = **name == *Scope::EVERY_ROUTE || self.routes.iter().any(|route| route.name == *name);
                if !is_there {
                    let routes = names(self.routes.iter().map(|route| route.name.to_string()));
                    let routes =
                        if routes.is_empty() { "there is no route".to_owned() } else { format!("there is {routes}") };
                    told.push(format!("{who} has the scope `{scope}`, but no route has that name; {routes}"));
                }
            }
        }
    }
}

impl RouteConfig {
    fn advice(&self, served: &Served) -> Vec<String> {
        match &self.target {
            Target::Request(target) => request(self, target, served),
            Target::Service(service) if !served.services.contains(service) => {
                vec![format!("the service `{service}` does not run, so it is answered with 503")]
            }
            Target::Service(service) if !served.http.contains(service) => vec![format!(
                "the service `{service}` does not export wasi:http/incoming-handler, so it is answered with 503"
            )],
            Target::Service(_) | Target::Events(_) | Target::SocketIo(_) | Target::File(_) => Vec::new(),
        }
    }
}

fn request(route: &RouteConfig, target: &RequestTarget, served: &Served) -> Vec<String> {
    let mut told = problems(route, target, &served.contracts);
    let found = target.function.find(&served.contracts);
    let topic = found.and_then(|(contract, function)| contract.id.topic(&function.name).ok());
    if told.is_empty() && topic.is_none_or(|topic| !served.answers.contains(&topic)) {
        told.push(format!("no service answers `{}`, so it is answered with 503", target.function));
    }
    told
}

/// Some names, in the order in which they are.
fn names(all: impl Iterator<Item = String>) -> String {
    let mut all: Vec<String> = all.map(|name| format!("`{name}`")).collect();
    let more = all.len().saturating_sub(NAMES);
    all.truncate(NAMES);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{more}", all.join(", "))
}

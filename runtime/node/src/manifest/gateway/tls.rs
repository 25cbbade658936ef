//! `[gateway.tls]`.

use std::path::{Path, PathBuf};

use busway_gateway::edge::{CertificateSource, ClientCa, TlsConfig};

use super::super::reader::Table;

/// Keys of `[gateway.tls]`.
const KEYS: &[&str] = &["certificate", "key", "self-made", "client-ca", "client-certificates"];

pub(super) fn read(gateway: &Table<'_>, base: &Path) -> Option<TlsConfig> {
    let table = gateway.table("tls", "[gateway.tls]".to_owned(), KEYS)?;
    let file = |key: &str| table.string(key).map(|path| base.join(path));
    let (certificate, key) = (file("certificate"), file("key"));
    let is_self_made = table.boolean("self-made").unwrap_or(false);
    let source = match (certificate, key, is_self_made) {
        (Some(certificate), Some(key), false) => Some(CertificateSource::Files { certificate, key }),
        (None, None, true) => Some(CertificateSource::SelfMade),
        _ => {
            let problem = "[gateway.tls] needs `certificate` and `key`, or `self-made = true` alone".to_owned();
            table.document.note(table.span.clone(), problem, None);
            None
        }
    };
    Some(TlsConfig { source: source?, client_ca: client_ca(&table, file("client-ca")) })
}

fn client_ca(table: &Table<'_>, file: Option<PathBuf>) -> Option<ClientCa> {
    let is_required = table.word("client-certificates", &[("optional", false), ("required", true)]);
    if file.is_none() && is_required.is_some() {
        table.note("client-certificates", "`client-certificates` without `client-ca`: nobody could have signed them");
    }
    Some(ClientCa { file: file?, is_required: is_required.unwrap_or(false) })
}

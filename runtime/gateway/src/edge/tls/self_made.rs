//! A certificate for development, made here.
//!
//! Invariants: made once and used again as long as its folder stays, so that whoever trusts it keeps trusting it; nobody but
//! the owner can read the key.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::{TlsError, certificates, private_key};

const CERTIFICATE: &str = "self-made.crt.pem";
const KEY: &str = "self-made.key.pem";

/// What it is for: this machine under its usual names.
const NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

pub(super) struct Made {
    pub(super) chain: Vec<CertificateDer<'static>>,
    pub(super) key: PrivateKeyDer<'static>,
    /// Where the certificate is kept.
    pub(super) file: Option<PathBuf>,
}

/// The certificate of a folder, made when there is none; without a folder a new one.
pub(super) fn take(folder: Option<&Path>) -> Result<Made, TlsError> {
    let Some(folder) = folder else {
        let (certificate, key) = make()?;
        let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).map_err(failed)?];
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(failed)?;
        return Ok(Made { chain, key, file: None });
    };
    let (certificate_file, key_file) = (folder.join(CERTIFICATE), folder.join(KEY));
    if !certificate_file.exists() || !key_file.exists() {
        let (certificate, key) = make()?;
        keep(folder, &key_file, &key, 0o600)
            .and_then(|()| keep(folder, &certificate_file, &certificate, 0o644))
            .map_err(|error| TlsError::File {
                path: folder.to_owned(),
                what: "the folder of certificates",
                problem: error.to_string(),
            })?;
    }
    let (chain, key) = (certificates(&certificate_file)?, private_key(&key_file)?);
    Ok(Made { chain, key, file: Some(certificate_file) })
}

fn failed(error: impl std::fmt::Display) -> TlsError {
    TlsError::Make(error.to_string())
}

/// Certificate and key as PEM.
fn make() -> Result<(String, String), TlsError> {
    let mut params = CertificateParams::new(NAMES.map(str::to_owned)).map_err(failed)?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "busway, for development");
    let key = KeyPair::generate().map_err(failed)?;
    let certificate = params.self_signed(&key).map_err(failed)?;
    Ok((certificate.pem(), key.serialize_pem()))
}

/// Writes a file that only its owner may change, whole or not at all.
fn keep(folder: &Path, path: &Path, text: &str, mode: u32) -> io::Result<()> {
    #[cfg(unix)]
    use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
    if !folder.is_dir() {
        let mut make = fs::DirBuilder::new();
        make.recursive(true);
        #[cfg(unix)]
        make.mode(0o700);
        make.create(folder)?;
    }
    let aside = path.with_extension("part");
    match fs::remove_file(&aside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    options.mode(mode);
    #[cfg(not(unix))]
    let _ = mode;
    let mut file = options.open(&aside)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&aside, path)
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn it_is_made_once_and_only_its_owner_can_read_the_key() {
        let above = tempfile::tempdir().expect("a folder");
        let folder = above.path().join("gateway");
        let first = take(Some(&folder)).expect("made");
        let again = take(Some(&folder)).expect("read");
        assert_eq!(first.chain, again.chain);
        let mode = |path: &Path| fs::metadata(path).expect("its file").permissions().mode() & 0o777;
        assert_eq!((mode(&folder), mode(&folder.join(KEY))), (0o700, 0o600));
        assert_ne!(take(None).expect("made").chain, first.chain);
    }
}

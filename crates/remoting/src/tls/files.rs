//! Certificates and keys, from PEM files or made for this process. Each error names the key of the configuration, the
//! file, and what would do.

use std::{path::Path, sync::Arc};

use rustls::{
    InconsistentKeys,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, pem, pem::PemObject},
    sign::CertifiedKey,
};

use super::{TlsError, TlsSettings};

/// The longest file that is read: a key or a chain is a few kilobytes.
const LONGEST: u64 = 4 << 20;

/// The PEM label of a key under a password.
const ENCRYPTED: &[u8] = b"-----BEGIN ENCRYPTED PRIVATE KEY-----";

/// The old form of a key under a password, within other labels.
const OLD_ENCRYPTED: &[u8] = b"Proc-Type: 4,ENCRYPTED";

/// Which keys of the configuration name the parts.
struct Names {
    cert: &'static str,
    key: &'static str,
    password: &'static str,
}

const SERVER: Names =
    Names { cert: "tls.server.certPath", key: "tls.server.keyPath", password: "tls.server.keyPassword" };
const CLIENT: Names =
    Names { cert: "tls.client.certPath", key: "tls.client.keyPath", password: "tls.client.keyPassword" };

/// The server's certificate and key.
pub(super) fn server_key(settings: &TlsSettings, provider: &Arc<CryptoProvider>) -> Result<CertifiedKey, TlsError> {
    let why = "a server with tls.test.mode.enable=false needs a certificate and a key";
    for (key, path) in [(SERVER.cert, &settings.server_cert_path), (SERVER.key, &settings.server_key_path)] {
        if path.is_empty() {
            return Err(TlsError::Missing { key, why });
        }
    }
    let paths = (&*settings.server_cert_path, &*settings.server_key_path);
    certified(&SERVER, paths, &settings.server_key_password, provider)
}

/// The client's certificate and key; `None` when it has none.
pub(super) fn client_key(
    settings: &TlsSettings,
    provider: &Arc<CryptoProvider>,
) -> Result<Option<CertifiedKey>, TlsError> {
    let (cert, key) = (&*settings.client_cert_path, &*settings.client_key_path);
    match (cert.is_empty(), key.is_empty()) {
        (true, true) => Ok(None),
        (true, false) => Err(TlsError::Missing { key: CLIENT.cert, why: "tls.client.keyPath needs its certificate" }),
        (false, true) => Err(TlsError::Missing { key: CLIENT.key, why: "tls.client.certPath needs its key" }),
        (false, false) => certified(&CLIENT, (cert, key), &settings.client_key_password, provider).map(Some),
    }
}

fn certified(
    names: &Names,
    (cert, key): (&str, &str),
    password: &str,
    provider: &Arc<CryptoProvider>,
) -> Result<CertifiedKey, TlsError> {
    let chain = certificates(names.cert, cert)?;
    let refused = |why: String| refuse(names.key, key, why);
    let private = private_key(names, key, password)?;
    let signer = provider.key_provider.load_private_key(private);
    let signer = signer.map_err(|error| refused(format!("this kind of key cannot be used: {error}")))?;
    let certified = CertifiedKey::new(chain, signer);
    match certified.keys_match() {
        Err(rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) => {
            Err(refused(format!("is not the key of the certificate {cert} ({})", names.cert)))
        }
        // Others are certificates that rustls cannot look into, such as those of version 1: peers may.
        _ => Ok(certified),
    }
}

/// The certificates that are trusted, not none.
pub(super) fn trusted(key: &'static str, path: &str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    match path.is_empty() {
        true => Err(TlsError::Missing { key, why: "certificates are to be verified against it" }),
        false => certificates(key, path),
    }
}

fn certificates(key: &'static str, path: &str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let bytes = read(key, path)?;
    let all = CertificateDer::pem_slice_iter(&bytes).collect::<Result<Vec<_>, _>>();
    match all {
        Ok(all) if !all.is_empty() => Ok(all),
        Ok(_) => Err(refuse(key, path, "holds no certificate; PEM with BEGIN CERTIFICATE is expected".into())),
        Err(error) => Err(refuse(key, path, format!("is no PEM: {error}"))),
    }
}

fn private_key(names: &Names, path: &str, password: &str) -> Result<PrivateKeyDer<'static>, TlsError> {
    let bytes = read(names.key, path)?;
    let refused = |why: String| refuse(names.key, path, why);
    let holds = |mark: &[u8]| bytes.windows(mark.len()).any(|window| window == mark);
    if holds(OLD_ENCRYPTED) {
        let why = "is encrypted in the old form of OpenSSL; write it with `openssl pkcs8 -topk8 -v2 aes-256-cbc`";
        return Err(refused(why.into()));
    }
    if holds(ENCRYPTED) {
        if password.is_empty() {
            return Err(refused(format!("is encrypted, and {} is not set", names.password)));
        }
        return decrypted(names, path, &bytes, password);
    }
    PrivateKeyDer::from_pem_slice(&bytes).map_err(|error| match error {
        pem::Error::NoItemsFound => refused("holds no key; PEM with BEGIN PRIVATE KEY is expected".into()),
        error => refused(format!("is no PEM: {error}")),
    })
}

/// PBES2, the only encryption that OpenSSL still writes by itself; PBES1 no longer keeps a secret.
fn decrypted(names: &Names, path: &str, text: &[u8], password: &str) -> Result<PrivateKeyDer<'static>, TlsError> {
    let refused = |why: String| refuse(names.key, path, why);
    let text = std::str::from_utf8(text).map_err(|_| refused("is no text".into()))?;
    let start = text.find("-----BEGIN ENCRYPTED").unwrap_or(0);
    let (_, document) = pkcs8::SecretDocument::from_pem(text[start..].trim_end())
        .map_err(|error| refused(format!("is no PEM: {error}")))?;
    let unknown = |error: pkcs8::der::Error| {
        refused(format!("its encryption is not known ({error}); write it with `openssl pkcs8 -topk8 -v2 aes-256-cbc`"))
    };
    let encrypted: pkcs8::EncryptedPrivateKeyInfo<'_> = document.decode_msg().map_err(unknown)?;
    let plain = encrypted.decrypt(password).map_err(|error| {
        refused(format!("cannot be decrypted with {}, is the password right? ({error})", names.password))
    })?;
    Ok(PrivatePkcs8KeyDer::from(plain.as_bytes().to_vec()).into())
}

fn read(key: &'static str, path: &str) -> Result<Vec<u8>, TlsError> {
    let failed = |error: std::io::Error| refuse(key, path, format!("cannot be read: {error}"));
    let about = std::fs::metadata(path).map_err(failed)?;
    if about.len() > LONGEST {
        return Err(refuse(
            key,
            path,
            format!("has {} bytes, that is no PEM file of a key or certificate", about.len()),
        ));
    }
    std::fs::read(path).map_err(failed)
}

fn refuse(key: &'static str, path: &str, why: String) -> TlsError {
    TlsError::File { key, path: Path::new(path).to_owned(), why }
}

/// A certificate that nobody can verify, made for this process. Source: `SelfSignedCertificate` of Netty.
pub(super) fn self_signed(provider: &Arc<CryptoProvider>) -> Result<CertifiedKey, TlsError> {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
    let private = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let signer = provider.key_provider.load_private_key(private.into())?;
    Ok(CertifiedKey::new(vec![made.cert.der().clone()], signer))
}

//! Whose certificate is good. As in Java's default set-up: a chain is verified against the trusted certificates, or
//! everyone is trusted; names are not compared. Either way a peer must prove that it holds the key of its certificate.
//! Source: `TlsHelper.buildSslContext` (no end point identification, `InsecureTrustManagerFactory`).

use std::sync::Arc;

use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore, SignatureScheme,
    client::{
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_cert_signed_by_trust_anchor,
    },
    crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::{
        ParsedCertificate, WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
};

use super::{ClientAuth, version_1};

/// The certificates one trusts.
#[derive(Debug)]
struct Trust {
    roots: Arc<RootCertStore>,
    /// As they are in the file: a peer's own certificate may be among them, which Java accepts too.
    certificates: Vec<CertificateDer<'static>>,
}

impl Trust {
    fn new(certificates: Vec<CertificateDer<'static>>) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(certificates.iter().cloned());
        Self { roots: Arc::new(roots), certificates }
    }

    fn names(&self, certificate: &CertificateDer<'_>) -> bool {
        self.certificates.iter().any(|trusted| trusted == certificate)
    }
}

/// What a client thinks of servers.
#[derive(Debug)]
pub(super) struct Servers {
    trust: Option<Trust>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Servers {
    /// Without `trusted` everyone is trusted.
    pub fn new(trusted: Option<Vec<CertificateDer<'static>>>, provider: &CryptoProvider) -> Self {
        Self { trust: trusted.map(Trust::new), algorithms: provider.signature_verification_algorithms }
    }
}

impl ServerCertVerifier for Servers {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if let Some(trust) = &self.trust
            && !trust.names(end_entity)
        {
            if let Some(checked) = version_1::check(end_entity, &trust.certificates, now, &self.algorithms) {
                return checked.map(|()| ServerCertVerified::assertion());
            }
            let parsed = ParsedCertificate::try_from(end_entity)?;
            let algorithms = self.algorithms.all;
            verify_server_cert_signed_by_trust_anchor(&parsed, &trust.roots, intermediates, now, algorithms)?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        version_1::verify_tls12(message, cert, dss, &self.algorithms)
            .unwrap_or_else(|| verify_tls12_signature(message, cert, dss, &self.algorithms))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        version_1::verify_tls13(message, cert, dss, &self.algorithms)
            .unwrap_or_else(|| verify_tls13_signature(message, cert, dss, &self.algorithms))
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// What a server thinks of clients.
#[derive(Debug)]
pub(super) struct Clients {
    auth: ClientAuth,
    trust: Option<(Trust, Option<Arc<dyn ClientCertVerifier>>)>,
    hints: Vec<DistinguishedName>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Clients {
    /// Without `trusted` everyone is trusted.
    pub fn new(
        auth: ClientAuth,
        trusted: Option<Vec<CertificateDer<'static>>>,
        provider: &Arc<CryptoProvider>,
    ) -> Self {
        let trust = trusted.map(|trusted| {
            let trust = Trust::new(trusted);
            // Fails when none of the certificates can be an anchor; then only those named themselves are good.
            let chain = WebPkiClientVerifier::builder_with_provider(trust.roots.clone(), provider.clone()).build();
            (trust, chain.ok())
        });
        let hints = trust.as_ref().map(|(trust, _)| trust.roots.subjects()).unwrap_or_default();
        Self { auth, trust, hints, algorithms: provider.signature_verification_algorithms }
    }
}

impl ClientCertVerifier for Clients {
    fn offer_client_auth(&self) -> bool {
        self.auth != ClientAuth::None
    }

    fn client_auth_mandatory(&self) -> bool {
        self.auth == ClientAuth::Require
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.hints
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let Some((trust, chain)) = &self.trust else { return Ok(ClientCertVerified::assertion()) };
        if trust.names(end_entity) {
            return Ok(ClientCertVerified::assertion());
        }
        if let Some(checked) = version_1::check(end_entity, &trust.certificates, now, &self.algorithms) {
            return checked.map(|()| ClientCertVerified::assertion());
        }
        match chain {
            Some(chain) => chain.verify_client_cert(end_entity, intermediates, now),
            None => Err(CertificateError::UnknownIssuer.into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        version_1::verify_tls12(message, cert, dss, &self.algorithms)
            .unwrap_or_else(|| verify_tls12_signature(message, cert, dss, &self.algorithms))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        version_1::verify_tls13(message, cert, dss, &self.algorithms)
            .unwrap_or_else(|| verify_tls13_signature(message, cert, dss, &self.algorithms))
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

//! Certificates of X.509 version 1, which `openssl x509 -req` writes as long as nobody asks for an extension, and which Java
//! takes. rustls looks into none of them. Here: who signed one, until when it is good, and whether a peer holds its key.
//! Only certificates that are signed by a trusted one directly: version 1 cannot say that a certificate may sign others.
//! Source: RFC 5280, 4.1.

use rustls::{
    CertificateError, DigitallySignedStruct, Error,
    client::danger::HandshakeSignatureValid,
    crypto::{WebPkiSupportedAlgorithms, verify_tls13_signature_with_raw_key},
    pki_types::{CertificateDer, SignatureVerificationAlgorithm, SubjectPublicKeyInfoDer, UnixTime},
};

const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const VERSION: u8 = 0xA0;

/// Bytes that are not read yet.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// The next element: its tag, its content, and all of it. Lengths are those of DER, up to 65,535 bytes.
    fn any(&mut self) -> Option<(u8, &'a [u8], &'a [u8])> {
        let (head, len) = match *self.0 {
            [_, len @ 0..=0x7F, ..] => (2, usize::from(len)),
            [_, 0x81, len @ 0x80..=0xFF, ..] => (3, usize::from(len)),
            [_, 0x82, high @ 1..=0xFF, low, ..] => (4, usize::from(high) << 8 | usize::from(low)),
            _ => return None,
        };
        let whole = self.0.get(..head + len)?;
        self.0 = &self.0[head + len..];
        Some((whole[0], &whole[head..], whole))
    }

    fn next(&mut self, tag: u8) -> Option<(&'a [u8], &'a [u8])> {
        self.any().filter(|(found, ..)| *found == tag).map(|(_, content, whole)| (content, whole))
    }

    fn content(&mut self, tag: u8) -> Option<&'a [u8]> {
        self.next(tag).map(|(content, _)| content)
    }

    /// A bit string of whole bytes.
    fn bits(&mut self) -> Option<&'a [u8]> {
        self.content(BIT_STRING)?.strip_prefix(&[0])
    }

    fn end(&self) -> Option<()> {
        self.0.is_empty().then_some(())
    }
}

/// A public key: its algorithm, its bits, all of it.
struct Key<'a> {
    algorithm: &'a [u8],
    bits: &'a [u8],
    whole: &'a [u8],
}

impl<'a> Key<'a> {
    fn read(from: &mut Reader<'a>) -> Option<Self> {
        let (content, whole) = from.next(SEQUENCE)?;
        let mut parts = Reader(content);
        let key = Self { algorithm: parts.content(SEQUENCE)?, bits: parts.bits()?, whole };
        parts.end()?;
        Some(key)
    }
}

/// What is in a certificate of any version before its extensions.
struct Certificate<'a> {
    signed: &'a [u8],
    algorithm: &'a [u8],
    signature: &'a [u8],
    issuer: &'a [u8],
    /// Seconds since the epoch, both included.
    valid: (u64, u64),
    subject: &'a [u8],
    key: Key<'a>,
    is_version_1: bool,
}

impl<'a> Certificate<'a> {
    fn read(der: &'a [u8]) -> Option<Self> {
        let mut outer = Reader(der);
        let mut parts = Reader(outer.content(SEQUENCE)?);
        outer.end()?;
        let (inner, signed) = parts.next(SEQUENCE)?;
        let (algorithm, signature) = (parts.content(SEQUENCE)?, parts.bits()?);
        parts.end()?;
        let mut inner = Reader(inner);
        let is_version_1 = inner.0.first() != Some(&VERSION);
        if !is_version_1 {
            inner.any()?;
        }
        inner.content(INTEGER)?;
        if inner.content(SEQUENCE)? != algorithm {
            return None;
        }
        let issuer = inner.content(SEQUENCE)?;
        let mut times = Reader(inner.content(SEQUENCE)?);
        let valid = (time(&mut times)?, time(&mut times)?);
        times.end()?;
        let subject = inner.content(SEQUENCE)?;
        let key = Key::read(&mut inner)?;
        if is_version_1 {
            inner.end()?;
        }
        Some(Self { signed, algorithm, signature, issuer, valid, subject, key, is_version_1 })
    }
}

/// `YYMMDDHHMMSSZ` of 1950 to 2049, or `YYYYMMDDHHMMSSZ`, as seconds since the epoch.
fn time(from: &mut Reader<'_>) -> Option<u64> {
    let (tag, content, _) = from.any()?;
    let digits = content.strip_suffix(b"Z").filter(|text| text.iter().all(u8::is_ascii_digit))?;
    let pair = |at: usize| Some(u64::from(digits.get(at)? - b'0') * 10 + u64::from(digits.get(at + 1)? - b'0'));
    let (year, rest) = match (tag, digits.len()) {
        (UTC_TIME, 12) => (pair(0)? + if pair(0)? < 50 { 2000 } else { 1900 }, 2),
        (GENERALIZED_TIME, 14) => (pair(0)? * 100 + pair(2)?, 4),
        _ => return None,
    };
    let [month, day, hour, minute, second] = [0, 2, 4, 6, 8].map(|at| pair(rest + at));
    let days = days_before(year, month?, day?)?;
    let (hour, minute, second) = (hour?, minute?, second?);
    (hour < 24 && minute < 60 && second < 60).then(|| days * 86_400 + hour * 3600 + minute * 60 + second)
}

/// Days from 1970 to a date.
fn days_before(year: u64, month: u64, day: u64) -> Option<u64> {
    let is_leap = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let february = if is_leap(year) { 29 } else { 28 };
    let months = [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let before = months.get(..usize::try_from(month).ok()?.checked_sub(1)?)?;
    let fits = year >= 1970 && (1..=*months.get(before.len())?).contains(&day);
    let years: u64 = (1970..year).map(|year| if is_leap(year) { 366 } else { 365 }).sum();
    fits.then(|| years + before.iter().sum::<u64>() + day - 1)
}

fn is_signed(
    algorithms: &[&dyn SignatureVerificationAlgorithm],
    key: &Key<'_>,
    message: &[u8],
    signature: &[u8],
) -> bool {
    let fits =
        |algorithm: &&&dyn SignatureVerificationAlgorithm| algorithm.public_key_alg_id().as_ref() == key.algorithm;
    algorithms.iter().filter(fits).any(|algorithm| algorithm.verify_signature(key.bits, message, signature).is_ok())
}

/// Whether a certificate of version 1 is signed by one of `trusted` and good now; `None` for any other certificate.
pub(super) fn check(
    certificate: &CertificateDer<'_>,
    trusted: &[CertificateDer<'static>],
    now: UnixTime,
    algorithms: &WebPkiSupportedAlgorithms,
) -> Option<Result<(), Error>> {
    let certificate = Certificate::read(certificate).filter(|certificate| certificate.is_version_1)?;
    let (from, to) = certificate.valid;
    let refused = |why: CertificateError| Some(Err(why.into()));
    if now.as_secs() < from {
        return refused(CertificateError::NotValidYet);
    }
    if now.as_secs() > to {
        return refused(CertificateError::Expired);
    }
    let by_name = |algorithm: &&&dyn SignatureVerificationAlgorithm| {
        algorithm.signature_alg_id().as_ref() == certificate.algorithm
    };
    let fitting: Vec<_> = algorithms.all.iter().filter(by_name).copied().collect();
    let signed_by = |issuer: &CertificateDer<'static>| {
        Certificate::read(issuer).is_some_and(|issuer| {
            issuer.subject == certificate.issuer
                && is_signed(&fitting, &issuer.key, certificate.signed, certificate.signature)
        })
    };
    match trusted.iter().any(signed_by) {
        true => Some(Ok(())),
        false => refused(CertificateError::UnknownIssuer),
    }
}

/// Whether a peer holds the key of its certificate of version 1 (TLS 1.2); `None` for any other certificate.
pub(super) fn verify_tls12(
    message: &[u8],
    certificate: &CertificateDer<'_>,
    signed: &DigitallySignedStruct,
    algorithms: &WebPkiSupportedAlgorithms,
) -> Option<Result<HandshakeSignatureValid, Error>> {
    let certificate = Certificate::read(certificate).filter(|certificate| certificate.is_version_1)?;
    let of_scheme = algorithms.mapping.iter().find(|(scheme, _)| *scheme == signed.scheme);
    let is_good =
        of_scheme.is_some_and(|(_, fitting)| is_signed(fitting, &certificate.key, message, signed.signature()));
    Some(match is_good {
        true => Ok(HandshakeSignatureValid::assertion()),
        false => Err(CertificateError::BadSignature.into()),
    })
}

/// The same in TLS 1.3.
pub(super) fn verify_tls13(
    message: &[u8],
    certificate: &CertificateDer<'_>,
    signed: &DigitallySignedStruct,
    algorithms: &WebPkiSupportedAlgorithms,
) -> Option<Result<HandshakeSignatureValid, Error>> {
    let certificate = Certificate::read(certificate).filter(|certificate| certificate.is_version_1)?;
    let key = SubjectPublicKeyInfoDer::from(certificate.key.whole);
    Some(verify_tls13_signature_with_raw_key(message, &key, signed, algorithms))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(tag: u8, text: &str) -> Option<u64> {
        let der = [&[tag, text.len() as u8], text.as_bytes()].concat();
        time(&mut Reader(&der))
    }

    #[test]
    fn times() {
        assert_eq!(at(UTC_TIME, "700101000000Z"), Some(0));
        assert_eq!(at(UTC_TIME, "240229123456Z"), Some(1_709_210_096));
        assert_eq!(at(UTC_TIME, "491231235959Z"), Some(2_524_607_999));
        assert_eq!(at(GENERALIZED_TIME, "20500101000000Z"), Some(2_524_608_000));
        let bad = ["230229000000Z", "231301000000Z", "230100000000Z", "230101240000Z", "2301010000Z", "23010100000xZ"];
        for text in bad {
            assert_eq!(at(UTC_TIME, text), None, "{text}");
        }
        assert_eq!(at(0x0C, "700101000000Z"), None);
    }

    #[test]
    fn lengths_of_damaged_bytes() {
        for bytes in [&[][..], &[0x30], &[0x30, 0x80], &[0x30, 2, 0], &[0x30, 0x81, 0x7F], &[0x30, 0x82, 0, 200]] {
            assert!(Reader(bytes).any().is_none(), "{bytes:?}");
        }
        let long = [&[0x30, 0x82, 1, 0][..], &[7; 256]].concat();
        assert_eq!(Reader(&long).content(SEQUENCE), Some(&[7; 256][..]));
    }
}

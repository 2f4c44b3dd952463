//! The first bytes of an accepted connection: a PROXY protocol header, TLS, or remoting frames.
//! Decides as early as the bytes allow, and never waits for more than a decision needs (a plain connection is known by
//! its first four bytes). Reference remoting 5.1.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

const V2_SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
const V1_PREFIX: &[u8; 6] = b"PROXY ";
const V1_LONGEST: usize = 107;
const V2_FIXED: usize = 16;
const TLS_HANDSHAKE: u8 = 0x16;

/// What the bytes are.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Preface {
    /// Not decided yet.
    More,
    /// Frames start here.
    Plain,
    /// A TLS handshake.
    Tls,
    /// A PROXY header of `length` bytes, with the source it names.
    Proxy { length: usize, source: Option<SocketAddr> },
    /// A PROXY header that cannot be read.
    Bad(&'static str),
}

/// Looks at everything received so far. After a PROXY header, look again at what follows with [`after_proxy`].
pub(crate) fn look(bytes: &[u8]) -> Preface {
    if is_start_of(bytes, V2_SIGNATURE) {
        return if bytes.len() < V2_FIXED { Preface::More } else { version_2(bytes) };
    }
    if is_start_of(bytes, V1_PREFIX) {
        return if bytes.len() < V1_PREFIX.len() { Preface::More } else { version_1(bytes) };
    }
    after_proxy(bytes)
}

/// The same, where no PROXY header can come any more.
pub(crate) fn after_proxy(bytes: &[u8]) -> Preface {
    match bytes.first() {
        None => Preface::More,
        Some(&TLS_HANDSHAKE) => Preface::Tls,
        Some(_) => Preface::Plain,
    }
}

/// True when the bytes agree with `signature` as far as both go, and are not empty.
fn is_start_of(bytes: &[u8], signature: &[u8]) -> bool {
    let common = bytes.len().min(signature.len());
    common > 0 && bytes[..common] == signature[..common]
}

fn version_1(bytes: &[u8]) -> Preface {
    let window = &bytes[..bytes.len().min(V1_LONGEST)];
    let Some(end) = window.windows(2).position(|pair| pair == b"\r\n") else {
        return if bytes.len() >= V1_LONGEST { Preface::Bad("PROXY line without an end") } else { Preface::More };
    };
    let Ok(line) = std::str::from_utf8(&window[..end]) else { return Preface::Bad("PROXY line is not text") };
    let mut words = line.split(' ').skip(1);
    let source = match words.next() {
        Some("TCP4" | "TCP6") => match v1_source(words) {
            Some(source) => Some(source),
            None => return Preface::Bad("PROXY line without a source address"),
        },
        Some("UNKNOWN") => None,
        _ => return Preface::Bad("PROXY line of an unknown protocol"),
    };
    Preface::Proxy { length: end + 2, source }
}

fn v1_source<'a>(mut words: impl Iterator<Item = &'a str>) -> Option<SocketAddr> {
    let address: IpAddr = words.next()?.parse().ok()?;
    let port = words.nth(1)?.parse().ok()?;
    Some(SocketAddr::new(address, port))
}

fn version_2(bytes: &[u8]) -> Preface {
    let (command, family) = (bytes[12], bytes[13]);
    let block_length = u16::from_be_bytes([bytes[14], bytes[15]]) as usize;
    if command >> 4 != 2 || command & 0xF > 1 {
        return Preface::Bad("PROXY header of an unknown version or command");
    }
    let length = V2_FIXED + block_length;
    let Some(block) = bytes.get(V2_FIXED..length) else { return Preface::More };
    let is_local = command & 0xF == 0;
    Preface::Proxy { length, source: if is_local { None } else { v2_source(family, block) } }
}

fn v2_source(family: u8, block: &[u8]) -> Option<SocketAddr> {
    let port = |at: usize| Some(u16::from_be_bytes(block.get(at..at + 2)?.try_into().ok()?));
    match family >> 4 {
        1 => {
            let octets: [u8; 4] = block.get(..4)?.try_into().ok()?;
            Some(SocketAddr::new(Ipv4Addr::from(octets).into(), port(8)?))
        }
        2 => {
            let octets: [u8; 16] = block.get(..16)?.try_into().ok()?;
            Some(SocketAddr::new(Ipv6Addr::from(octets).into(), port(32)?))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_connection_is_known_early() {
        assert_eq!(look(&[]), Preface::More);
        assert_eq!(look(&[0, 0, 0, 99]), Preface::Plain);
        assert_eq!(look(&[0xFF]), Preface::Plain);
        assert_eq!(look(b"PRO"), Preface::More);
        assert_eq!(look(b"PROC"), Preface::Plain);
        assert_eq!(look(b"\r\n\r\n\x01"), Preface::Plain);
    }

    #[test]
    fn tls_is_known_by_its_first_byte() {
        assert_eq!(look(&[0x16]), Preface::Tls);
        assert_eq!(after_proxy(&[0x16, 3, 1]), Preface::Tls);
    }

    #[test]
    fn version_1_lines() {
        let line = b"PROXY TCP4 10.1.2.3 10.0.0.1 5555 10911\r\nrest";
        let source = Some("10.1.2.3:5555".parse().unwrap());
        assert_eq!(look(line), Preface::Proxy { length: line.len() - 4, source });
        let line = b"PROXY TCP6 ::1 ::2 7 8\r\n";
        assert_eq!(look(line), Preface::Proxy { length: line.len(), source: Some("[::1]:7".parse().unwrap()) });
        assert_eq!(look(b"PROXY UNKNOWN\r\n"), Preface::Proxy { length: 15, source: None });
        assert!(matches!(look(b"PROXY TCP4 10.1.2.3\r\n"), Preface::Bad(_)));
        assert!(matches!(look(b"PROXY NONSENSE\r\n"), Preface::Bad(_)));
        assert!(matches!(look(b"PROXY TCP4 \xFF\xFE\r\n"), Preface::Bad(_)));
        let endless = [b"PROXY ".as_slice(), &[b'x'; 200]].concat();
        assert!(matches!(look(&endless), Preface::Bad(_)));
        assert_eq!(look(&endless[..50]), Preface::More);
    }

    fn v2(command: u8, family: u8, block: &[u8]) -> Vec<u8> {
        let length = (block.len() as u16).to_be_bytes();
        [V2_SIGNATURE.as_slice(), &[command, family], &length, block].concat()
    }

    #[test]
    fn version_2_headers() {
        let block = [10, 1, 2, 3, 10, 0, 0, 1, 0x15, 0xB3, 0x2A, 0x9F, 0x03, 0, 1, b'x'];
        let header = v2(0x21, 0x11, &block);
        let source = Some("10.1.2.3:5555".parse().unwrap());
        assert_eq!(look(&header), Preface::Proxy { length: header.len(), source });
        for cut in 1..header.len() {
            assert_eq!(look(&header[..cut]), Preface::More, "{cut}");
        }
        assert_eq!(look(&v2(0x20, 0x11, &block)), Preface::Proxy { length: header.len(), source: None });
        assert_eq!(look(&v2(0x21, 0x11, &[1, 2])), Preface::Proxy { length: 18, source: None });
        assert!(matches!(look(&v2(0x11, 0x11, &block)), Preface::Bad(_)));
    }
}

//! Message ids: the offset id that names a record by its broker and position, and the unique id that clients make.
//! Source: `MessageDecoder.java` (createMessageId), `MessageClientIDSetter.java`; reference remoting 15.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Offset message id: address of the broker and physical offset, upper-case hex of 32 or 56 characters.
pub fn offset_id(store_host: SocketAddr, physical_offset: i64) -> String {
    let mut text = String::new();
    push_offset_id(&mut text, store_host, physical_offset);
    text
}

/// Appends the same to `text`.
pub fn push_offset_id(text: &mut String, store_host: SocketAddr, physical_offset: i64) {
    match store_host.ip() {
        IpAddr::V4(ip) => push_hex(text, &ip.octets()),
        IpAddr::V6(ip) => push_hex(text, &ip.octets()),
    }
    push_hex(text, &i32::from(store_host.port()).to_be_bytes());
    push_hex(text, &physical_offset.to_be_bytes());
}

/// The address and physical offset in an offset id.
pub fn parse_offset_id(id: &str) -> Option<(SocketAddr, i64)> {
    let bytes = from_hex(id)?;
    let (ip, rest): (IpAddr, &[u8]) = match bytes.len() {
        16 => (Ipv4Addr::from(<[u8; 4]>::try_from(&bytes[..4]).ok()?).into(), &bytes[4..]),
        28 => (Ipv6Addr::from(<[u8; 16]>::try_from(&bytes[..16]).ok()?).into(), &bytes[16..]),
        _ => return None,
    };
    let port = i32::from_be_bytes(rest[..4].try_into().ok()?);
    let offset = i64::from_be_bytes(rest[4..12].try_into().ok()?);
    Some((SocketAddr::new(ip, port as u16), offset))
}

/// Unique id as clients make it: address, process, a number of this process, milliseconds, a counter.
pub fn unique_id(ip: Ipv4Addr, process: u16, instance: u32, millis: u32, counter: u16) -> String {
    let mut bytes = Vec::with_capacity(16);
    bytes.extend_from_slice(&ip.octets());
    bytes.extend_from_slice(&process.to_be_bytes());
    bytes.extend_from_slice(&instance.to_be_bytes());
    bytes.extend_from_slice(&millis.to_be_bytes());
    bytes.extend_from_slice(&counter.to_be_bytes());
    hex_upper(&bytes)
}

/// Upper-case hex.
pub fn hex_upper(bytes: &[u8]) -> String {
    let mut text = String::new();
    push_hex(&mut text, bytes);
    text
}

fn push_hex(text: &mut String, bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    text.reserve(bytes.len() * 2);
    for byte in bytes {
        text.push(DIGITS[usize::from(byte >> 4)] as char);
        text.push(DIGITS[usize::from(byte & 15)] as char);
    }
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) || !text.is_ascii() {
        return None;
    }
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back() {
        for host in ["10.0.0.1:10911", "[fe80::2]:10911"] {
            let host = host.parse().unwrap();
            assert_eq!(parse_offset_id(&offset_id(host, 77)), Some((host, 77)));
        }
        assert_eq!(offset_id("127.0.0.1:10911".parse().unwrap(), 1000), "7F00000100002A9F00000000000003E8");
        for bad in ["", "zz", "7F", "é234"] {
            assert_eq!(parse_offset_id(bad), None);
        }
    }
}

//! `host:port` as brokers, name servers and clients write it. An IPv6 address stands in brackets there, as Java's
//! `NetworkUtil.normalizeHostAddress` puts it; in configuration files it may stand without. Looks nothing up.

use std::net::{Ipv6Addr, SocketAddr};

/// The host without the brackets of an IPv6 address.
pub fn host(host: &str) -> &str {
    host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host)
}

/// `host:port`, with brackets where they are needed.
pub fn join(host: &str, port: u16) -> String {
    match self::host(host).parse::<Ipv6Addr>() {
        Ok(ip) => format!("[{ip}]:{port}"),
        Err(_) => format!("{host}:{port}"),
    }
}

/// The peer of a connection: one that came over IPv4 to a socket of both kinds has its IPv4 address, as in Java.
pub fn peer(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brackets_only_around_ipv6() {
        for (host, joined) in [
            ("::1", "[::1]:9"),
            ("[fe80::2]", "[fe80::2]:9"),
            ("10.0.0.1", "10.0.0.1:9"),
            ("broker.local", "broker.local:9"),
        ] {
            assert_eq!(join(host, 9), joined);
        }
        assert_eq!((host("[::1]"), host("::1"), host("a")), ("::1", "::1", "a"));
        assert_eq!(peer("[::ffff:10.0.0.5]:7".parse().unwrap()), "10.0.0.5:7".parse().unwrap());
    }
}

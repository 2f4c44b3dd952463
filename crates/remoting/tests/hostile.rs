//! Peers that send what is no frame, and what comes before frames. The server closes, stays up, and serves others.

mod support;

use remoting::ServerConfig;
use support::*;
use wire::Command;

async fn is_closed_after(addr: &str, bytes: &[u8]) -> bool {
    let mut raw = Raw::connect(addr).await;
    raw.write(bytes).await;
    raw.next().await.is_none()
}

#[tokio::test]
async fn hostile_frames_close_their_connection_only() {
    let (server, _work, addr) = serve(ServerConfig::default()).await;
    let mut good = Raw::connect(&addr).await;
    let cases: [&[u8]; 9] = [
        &[0xFF, 0xFF, 0xFF, 0xFF],
        &[0x80, 0, 0, 0],
        &[0x7F, 0xFF, 0xFF, 0xFF],
        &[0, 0, 0, 0],
        &[0, 0, 0, 3, 1, 2, 3],
        &[0, 0, 0, 8, 0, 0, 0, 200, b'{', b'}', b' ', b' '],
        &[0, 0, 0, 8, 9, 0, 0, 4, b'{', b'}', b' ', b' '],
        &[0, 0, 0, 8, 1, 0, 0, 4, 0, 1, 2, 3],
        &[0, 0, 0, 8, 0, 0, 0, 4, b'{', b'x', b'y', b'z'],
    ];
    for bytes in cases {
        assert!(is_closed_after(&addr, bytes).await, "{bytes:?}");
    }
    assert_eq!(good.ask(numbered(ECHO, 1)).await.unwrap().opaque, 1);
    until("one is left", || server.connections().len() == 1).await;
}

#[tokio::test]
async fn what_came_before_a_bad_frame_is_answered() {
    let (_server, _work, addr) = serve(ServerConfig::default()).await;
    let mut raw = Raw::connect(&addr).await;
    let mut bytes = bytes_of(&[numbered(ECHO, 1), numbered(ECHO, 2)]);
    bytes.extend_from_slice(&[0xFF; 8]);
    raw.write(&bytes).await;
    assert_eq!(raw.next().await.unwrap().opaque, 1);
    assert_eq!(raw.next().await.unwrap().opaque, 2);
    assert!(raw.next().await.is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_bytes_hurt_nobody() {
    let (_server, _work, addr) = serve(ServerConfig::default()).await;
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let good = bytes_of(&[numbered(ECHO, 1).with_body("some body")]);
    for round in 0..300 {
        let mut bytes = good.to_vec();
        match round % 3 {
            // A frame with some bytes changed, a frame cut short, and nothing but noise.
            0 => (0..4).for_each(|_| bytes[random() as usize % good.len()] = random() as u8),
            1 => bytes.truncate(random() as usize % good.len()),
            _ => bytes.iter_mut().for_each(|byte| *byte = random() as u8),
        }
        let mut raw = Raw::connect(&addr).await;
        let _ = tokio::io::AsyncWriteExt::write_all(&mut raw.stream, &bytes).await;
    }
    assert_eq!(Raw::connect(&addr).await.ask(numbered(ECHO, 9)).await.unwrap().opaque, 9);
}

#[tokio::test]
async fn frames_up_to_the_limit() {
    let config = ServerConfig { max_frame: 1000, ..ServerConfig::default() };
    let (_server, _work, addr) = serve(config).await;
    let bare = bytes_of(&[numbered(ECHO, 1)]).len();
    let fitting = numbered(ECHO, 1).with_body(vec![1; 1000 - bare]);
    assert_eq!(bytes_of(std::slice::from_ref(&fitting)).len(), 1000);
    assert!(Raw::connect(&addr).await.ask(fitting).await.is_some());
    let above = numbered(ECHO, 1).with_body(vec![1; 1001 - bare]);
    assert!(Raw::connect(&addr).await.ask(above).await.is_none());
}

#[tokio::test]
async fn tls_is_closed_at_its_first_byte() {
    let (_server, work, addr) = serve(ServerConfig::default()).await;
    assert!(is_closed_after(&addr, &[0x16]).await);
    assert!(is_closed_after(&addr, b"PROXY UNKNOWN\r\n\x16\x03\x01").await);
    assert_eq!((work.opened(), work.closed()), (0, 0));
}

#[tokio::test]
async fn a_plain_connection_needs_no_twelve_bytes() {
    let (_server, work, addr) = serve(ServerConfig::default()).await;
    let mut raw = Raw::connect(&addr).await;
    raw.write(&[0, 0, 0, 99]).await;
    until("it is open", || work.opened() == 1).await;
}

#[tokio::test]
async fn proxy_headers_are_removed_and_shown() {
    let (_server, work, addr) = serve(ServerConfig::default()).await;
    let v1 = b"PROXY TCP4 10.9.8.7 10.0.0.1 5555 10911\r\n".to_vec();
    let mut v2 = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0C".to_vec();
    v2.extend_from_slice(&[10, 9, 8, 7, 10, 0, 0, 1, 0x15, 0xB3, 0x2A, 0x9F]);
    for (at, header) in [v1, v2].into_iter().enumerate() {
        for step in [1, 7, 1000] {
            let mut raw = Raw::connect(&addr).await;
            let whole = [&header[..], &bytes_of(&[numbered(ECHO, 3)])].concat();
            for part in whole.chunks(step) {
                raw.write(part).await;
                tokio::task::yield_now().await;
            }
            assert_eq!(raw.next().await.unwrap().opaque, 3, "version {}", at + 1);
            let conn = work.conns.lock().last().cloned().unwrap();
            assert_eq!(conn.display_peer().to_string(), "10.9.8.7:5555");
            assert_eq!(conn.peer().ip().to_string(), "127.0.0.1");
        }
    }
    assert!(is_closed_after(&addr, b"PROXY TCP4 nonsense\r\n").await);
}

#[tokio::test]
async fn an_unknown_answer_is_dropped() {
    let (_server, _work, addr) = serve(ServerConfig::default()).await;
    let mut raw = Raw::connect(&addr).await;
    let stray = Command { opaque: 77, ..Command::default() }.ok();
    raw.send(&[stray, numbered(ECHO, 2)]).await;
    assert_eq!(raw.next().await.unwrap().opaque, 2);
}

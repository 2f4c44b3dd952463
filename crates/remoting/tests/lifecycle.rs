//! How connections end: idle, with the server, with their peer; and that none ends on a request that was read.

mod support;

use std::{collections::HashSet, time::Duration};

use remoting::{Client, ClientConfig, ServerConfig};
use support::*;
use tokio::time::{Instant, sleep};
use wire::Command;

const IDLE: Duration = Duration::from_millis(200);

fn idle_config() -> ServerConfig {
    ServerConfig { idle_timeout: IDLE, ..ServerConfig::default() }
}

#[tokio::test]
async fn idle_connections_are_closed_and_others_are_not() {
    let (server, work, addr) = serve(idle_config()).await;
    let started = Instant::now();
    let mut idle = Raw::connect(&addr).await;
    let mut busy = Raw::connect(&addr).await;
    assert!(idle.ask(numbered(ECHO, 1)).await.is_some());
    for n in 0..8 {
        assert!(busy.ask(numbered(ECHO, n)).await.is_some());
        sleep(IDLE / 4).await;
    }
    assert!(idle.next().await.is_none());
    assert!(started.elapsed() >= IDLE);
    assert!(busy.ask(numbered(ECHO, 9)).await.is_some());
    assert_eq!(server.connections().len(), 1);
    assert_eq!(work.closed(), 1);
}

#[tokio::test]
async fn a_silent_connection_is_closed_too() {
    let (server, work, addr) = serve(idle_config()).await;
    let mut raw = Raw::connect(&addr).await;
    assert!(raw.next().await.is_none());
    until("it left the table", || server.connections().is_empty()).await;
    assert_eq!(work.opened(), 0);
}

#[tokio::test]
async fn no_idle_time_out_and_one_beyond_all_clocks_close_nothing() {
    for idle_timeout in [Duration::ZERO, Duration::from_secs(u64::MAX)] {
        let (_server, _work, addr) = serve(ServerConfig { idle_timeout, ..ServerConfig::default() }).await;
        let client = Client::new(ClientConfig { idle_timeout, ..ClientConfig::default() }, None);
        let mut raw = Raw::connect(&addr).await;
        for n in 0..3 {
            assert!(raw.ask(numbered(ECHO, n)).await.is_some(), "{idle_timeout:?}");
            client.invoke(&addr, Command::request(ECHO), LONG).await.unwrap();
        }
    }
}

/// F-29: a request that was read is answered, or the close came before it was read.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f29_idle_close_never_swallows_a_request() {
    let (_server, work, addr) = serve(idle_config()).await;
    let mut peers = tokio::task::JoinSet::new();
    for n in 0..200u64 {
        let addr = addr.clone();
        peers.spawn(async move {
            let mut raw = Raw::connect(&addr).await;
            raw.ask(numbered(ECHO, -1)).await.unwrap();
            // 190 to 210 ms, in steps of 0.1 ms.
            sleep(IDLE - Duration::from_millis(10) + Duration::from_micros(100 * n)).await;
            // Answered by another task, a little later: the request is read and has no answer yet for a while.
            let answer = raw.ask(Command { opaque: n as i32, ..later(20) }).await;
            (n as i32, answer.is_some())
        });
    }
    let results = peers.join_all().await;
    let read: HashSet<i32> =
        work.seen.lock().iter().filter(|request| request.code == LATER).map(|r| r.opaque).collect();
    for (opaque, is_answered) in results {
        assert_eq!(is_answered, read.contains(&opaque), "request {opaque}");
    }
}

/// F-29: an answer that takes longer than the idle time-out still comes.
#[tokio::test]
async fn f29_a_slow_answer_keeps_its_connection() {
    let (_server, _work, addr) = serve(idle_config()).await;
    let config = ClientConfig { idle_timeout: IDLE / 2, ..ClientConfig::default() };
    let client = Client::new(config, None);
    let wait = IDLE * 3;
    let answer = client.invoke(&addr, later(wait.as_millis() as u64).with_body("slow"), LONG).await.unwrap();
    assert_eq!(answer.body, "slow");
}

#[tokio::test]
async fn a_client_connects_again_after_an_idle_close() {
    let (_server, work, addr) = serve(idle_config()).await;
    let client = Client::new(ClientConfig::default(), None);
    client.invoke(&addr, Command::request(ECHO), LONG).await.unwrap();
    until("it is closed", || work.closed() == 1).await;
    sleep(Duration::from_millis(20)).await;
    client.invoke(&addr, Command::request(ECHO), LONG).await.unwrap();
    assert_eq!(work.opened(), 2);
}

#[tokio::test]
async fn a_graceful_stop_answers_what_was_read() {
    let (server, work, addr) = serve(ServerConfig::default()).await;
    let mut raw = Raw::connect(&addr).await;
    raw.send(&[Command { opaque: 1, ..later(300) }, numbered(BIG, 2)]).await;
    until("both came", || work.seen() == 2).await;
    let mut idle = Raw::connect(&addr).await;
    let started = Instant::now();
    let stop = tokio::spawn(async move { server.shutdown(LONG).await });
    assert!(idle.next().await.is_none());
    assert!(started.elapsed() < Duration::from_millis(250), "an idle peer need not wait");
    assert_eq!(raw.next().await.unwrap().opaque, 2);
    assert_eq!(raw.next().await.unwrap().opaque, 1);
    assert!(raw.next().await.is_none());
    stop.await.unwrap();
    assert_eq!(work.opened(), work.closed());
    assert!(tokio::net::TcpStream::connect(&addr).await.is_err());
}

#[tokio::test]
async fn a_graceful_stop_ends_with_its_grace() {
    let (server, work, addr) = serve(ServerConfig::default()).await;
    let mut raw = Raw::connect(&addr).await;
    raw.send(&[numbered(NEVER, 1)]).await;
    until("it came", || work.seen() == 1).await;
    let started = Instant::now();
    server.shutdown(Duration::from_millis(200)).await;
    assert!(started.elapsed() >= Duration::from_millis(200) && started.elapsed() < Duration::from_secs(2));
    assert!(raw.next().await.is_none());
    assert_eq!(work.closed(), 1);
    let conn = work.conns.lock()[0].clone();
    assert_eq!((conn.is_open(), conn.close_reason()), (false, Some("the server stops")));
    conn.reply(Command::default());
    assert!(conn.invoke(Command::request(ECHO), LONG).await.is_err());
}

/// An answer is counted after it is queued: the connection's task may have looked in between, and nobody wakes it later.
#[tokio::test(flavor = "multi_thread")]
async fn a_graceful_stop_ends_with_the_last_answer_whenever_that_comes() {
    const PEERS: usize = 64;
    for round in 0..40 {
        let (server, work, addr) = serve(ServerConfig::default()).await;
        for opaque in 0..PEERS as i32 {
            let mut raw = Raw::connect(&addr).await;
            raw.send(&[numbered(NEVER, opaque)]).await;
            tokio::spawn(async move { while raw.next().await.is_some() {} });
        }
        until("all came", || work.seen() == PEERS).await;
        let mut open = work.conns.lock().clone();
        let answering = std::thread::spawn(move || {
            for number in 0.. {
                let Some(place) = open.iter().position(|conn| !conn.is_open()) else {
                    if open.is_empty() { return } else { continue }
                };
                (0..(number + round) * 37 % 4000).for_each(|_| std::hint::spin_loop());
                open.swap_remove(place).reply(Command::default());
            }
        });
        let stopped = tokio::time::timeout(LONG, server.shutdown(2 * LONG)).await;
        assert!(stopped.is_ok(), "all is answered");
        answering.join().unwrap();
    }
}

#[tokio::test]
async fn a_port_is_free_after_a_stop() {
    let (server, _work, addr) = serve(ServerConfig::default()).await;
    assert!(Raw::connect(&addr).await.ask(numbered(ECHO, 1)).await.is_some());
    server.shutdown(Duration::from_secs(1)).await;
    let again = remoting::Server::bind(addr, ServerConfig::default(), Work::new()).await.unwrap();
    again.shutdown(Duration::ZERO).await;
}

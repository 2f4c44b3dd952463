//! What the tests share: a service that does what a request's code says, raw sockets that speak frames, and a count of
//! what came.

#![allow(dead_code)]

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use remoting::{Connection, Requests, Server, ServerConfig, Service};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use wire::{Command, frame};

/// Answers at once.
pub const ECHO: i32 = 1;
/// Answers after the time in the remark, in ms.
pub const LATER: i32 = 2;
/// Never answers.
pub const NEVER: i32 = 3;
/// Answers with a body of one MiB.
pub const BIG: i32 = 4;
/// Panics.
pub const PANIC: i32 = 5;
/// Asks the client back before it answers.
pub const ASK_BACK: i32 = 6;

pub const LONG: Duration = Duration::from_secs(20);

#[derive(Default)]
pub struct Work {
    pub batches: Mutex<Vec<usize>>,
    pub seen: Mutex<Vec<Command>>,
    pub open: AtomicUsize,
    pub closed: AtomicUsize,
    pub conns: Mutex<Vec<Arc<Connection>>>,
}

impl Work {
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    pub fn seen(&self) -> usize {
        self.seen.lock().len()
    }

    pub fn opened(&self) -> usize {
        self.open.load(Ordering::SeqCst)
    }

    pub fn closed(&self) -> usize {
        self.closed.load(Ordering::SeqCst)
    }
}

impl Service for Work {
    fn on_requests(&self, conn: &Arc<Connection>, requests: &mut Requests<'_>) {
        let requests: Vec<_> = requests.collect();
        if requests.is_empty() {
            return;
        }
        self.batches.lock().push(requests.len());
        self.seen.lock().extend(requests.iter().cloned());
        requests.into_iter().for_each(|request| work(conn, request));
    }

    fn on_open(&self, conn: &Arc<Connection>) {
        self.open.fetch_add(1, Ordering::SeqCst);
        self.conns.lock().push(conn.clone());
    }

    fn on_close(&self, _conn: &Arc<Connection>) {
        self.closed.fetch_add(1, Ordering::SeqCst);
    }
}

fn work(conn: &Arc<Connection>, request: Command) {
    match request.code {
        ECHO if request.is_oneway() => {}
        ECHO => conn.reply(request.ok_body(request.body.clone())),
        BIG => conn.reply_parts(&request.ok(), vec![Bytes::from_static(&[7; 1 << 19]); 2]),
        PANIC => panic!("asked to"),
        LATER => {
            let conn = conn.clone();
            tokio::spawn(async move {
                let wait = request.remark.as_deref().and_then(|text| text.parse().ok()).unwrap_or(0);
                tokio::time::sleep(Duration::from_millis(wait)).await;
                conn.reply(request.ok_body(request.body.clone()));
            });
        }
        ASK_BACK => {
            let conn = conn.clone();
            tokio::spawn(async move {
                let mine = conn.invoke(Command::request(ECHO).with_body("to you"), LONG).await;
                conn.reply(request.ok_body(mine.map(|answer| answer.body).unwrap_or_default()));
            });
        }
        _ => {}
    }
}

pub fn later(ms: u64) -> Command {
    Command { remark: Some(ms.to_string()), ..Command::request(LATER) }
}

pub async fn serve(config: ServerConfig) -> (Server, Arc<Work>, String) {
    let work = Work::new();
    let server = Server::bind("127.0.0.1:0", config, work.clone()).await.unwrap();
    let addr = server.local_addr().to_string();
    (server, work, addr)
}

pub fn bytes_of(commands: &[Command]) -> BytesMut {
    let mut bytes = BytesMut::new();
    commands.iter().for_each(|command| frame::encode(command, &mut bytes));
    bytes
}

/// A socket that speaks frames.
pub struct Raw {
    pub stream: TcpStream,
    buffer: BytesMut,
}

impl Raw {
    pub async fn connect(addr: &str) -> Self {
        let stream = TcpStream::connect(addr).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, buffer: BytesMut::new() }
    }

    pub async fn write(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    pub async fn send(&mut self, commands: &[Command]) {
        self.write(&bytes_of(commands)).await;
    }

    /// The next command; `None` when the peer closed.
    pub async fn next(&mut self) -> Option<Command> {
        loop {
            if let Some(frame) = frame::split_frame(&mut self.buffer, frame::MAX_FRAME).unwrap() {
                return Some(frame::decode(frame).unwrap());
            }
            match timeout(LONG, self.stream.read_buf(&mut self.buffer)).await.expect("nothing came") {
                Ok(1..) => {}
                _ => return None,
            }
        }
    }

    pub async fn ask(&mut self, command: Command) -> Option<Command> {
        let bytes = bytes_of(&[command]);
        self.stream.write_all(&bytes).await.ok()?;
        self.next().await
    }
}

pub fn numbered(code: i32, opaque: i32) -> Command {
    Command { opaque, ..Command::request(code) }
}

/// Waits until `met` holds.
pub async fn until(what: &str, met: impl Fn() -> bool) {
    for _ in 0..2000 {
        if met() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("never happened: {what}");
}

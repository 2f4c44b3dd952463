//! One raw connection: what is queued goes out while answers come in.

use std::future::pending;

use anyhow::{Context, Result, bail};
use bytes::BytesMut;
use remoting::ClientTls;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, split},
    net::TcpStream,
    sync::Notify,
};

/// Room for one read.
const READ: usize = 256 * 1024;

pub(super) struct Link {
    addr: String,
    reader: Box<dyn AsyncRead + Send + Unpin>,
    writer: Box<dyn AsyncWrite + Send + Unpin>,
    /// Frames to write; the first `written` bytes are with the kernel.
    pub out: Vec<u8>,
    written: usize,
    is_unflushed: bool,
    /// What came.
    pub input: BytesMut,
}

impl Link {
    pub async fn connect(addr: &str, tls: Option<&ClientTls>) -> Result<Self> {
        let stream = TcpStream::connect(addr).await.with_context(|| format!("cannot connect to {addr}"))?;
        stream.set_nodelay(true)?;
        let input = BytesMut::with_capacity(READ);
        let (reader, writer) = match tls {
            Some(tls) => boxed(split(tls.connect(addr, stream).await.with_context(|| addr.to_owned())?)),
            None => boxed(stream.into_split()),
        };
        Ok(Self { addr: addr.to_owned(), reader, writer, out: Vec::new(), written: 0, is_unflushed: false, input })
    }

    /// Writes, and returns when something came or `alarm` rang.
    pub async fn exchange(&mut self, alarm: Option<&Notify>) -> Result<()> {
        self.input.reserve(READ / 4);
        let (reader, writer) = (&mut self.reader, &mut self.writer);
        loop {
            let rest = &self.out[self.written..];
            let is_written = rest.is_empty();
            // Within TLS what is written may wait for a flush.
            let write = async {
                match is_written {
                    true => writer.flush().await.map(|()| 0),
                    false => writer.write(rest).await,
                }
            };
            tokio::select! {
                biased;
                wrote = write, if !is_written || self.is_unflushed => {
                    self.written += wrote.with_context(|| format!("writing to {}", self.addr))?;
                    self.is_unflushed = !is_written;
                }
                read = reader.read_buf(&mut self.input) => {
                    if read.with_context(|| format!("reading from {}", self.addr))? == 0 {
                        bail!("{} closed the connection", self.addr);
                    }
                    break;
                }
                () = rings(alarm) => break,
            }
            if self.written == self.out.len() {
                self.out.clear();
                self.written = 0;
            }
        }
        Ok(())
    }
}

type Halves = (Box<dyn AsyncRead + Send + Unpin>, Box<dyn AsyncWrite + Send + Unpin>);

fn boxed<R, W>((reader, writer): (R, W)) -> Halves
where
    R: AsyncRead + Send + Unpin + 'static,
    W: AsyncWrite + Send + Unpin + 'static,
{
    (Box::new(reader), Box::new(writer))
}

async fn rings(alarm: Option<&Notify>) {
    match alarm {
        Some(alarm) => alarm.notified().await,
        None => pending().await,
    }
}

//! One raw connection: what is queued goes out while answers come in.

use std::future::pending;

use anyhow::{Context, Result, bail};
use bytes::BytesMut;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::Notify,
};

/// Room for one read.
const READ: usize = 256 * 1024;

pub(super) struct Link {
    addr: String,
    stream: TcpStream,
    /// Frames to write; the first `written` bytes are with the kernel.
    pub out: Vec<u8>,
    written: usize,
    /// What came.
    pub input: BytesMut,
}

impl Link {
    pub async fn connect(addr: &str) -> Result<Self> {
        let stream = TcpStream::connect(addr).await.with_context(|| format!("cannot connect to {addr}"))?;
        stream.set_nodelay(true)?;
        let input = BytesMut::with_capacity(READ);
        Ok(Self { addr: addr.to_owned(), stream, out: Vec::new(), written: 0, input })
    }

    /// Writes, and returns when something came or `alarm` rang.
    pub async fn exchange(&mut self, alarm: Option<&Notify>) -> Result<()> {
        self.input.reserve(READ / 4);
        let (mut reader, mut writer) = self.stream.split();
        loop {
            let rest = &self.out[self.written..];
            tokio::select! {
                biased;
                wrote = writer.write(rest), if !rest.is_empty() => {
                    self.written += wrote.with_context(|| format!("writing to {}", self.addr))?;
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

async fn rings(alarm: Option<&Notify>) {
    match alarm {
        Some(alarm) => alarm.notified().await,
        None => pending().await,
    }
}

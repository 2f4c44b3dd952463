//! Sending and pulling.

use std::time::Duration;

use bytes::Bytes;
use wire::{
    Command,
    code::{request, response},
    header::{
        PullMessageRequestHeader, PullMessageResponseHeader, SendMessageRequestHeaderV2, SendMessageResponseHeader,
        ViewMessageRequestHeader,
    },
    record::{Check, RecordView, check},
};

use super::BrokerApi;
use crate::ClientError;

/// What came of a send.
#[derive(Clone, Debug, PartialEq)]
pub struct Sent {
    /// SUCCESS, or one of the codes that mean "stored, but": FLUSH_DISK_TIMEOUT, FLUSH_SLAVE_TIMEOUT,
    /// SLAVE_NOT_AVAILABLE.
    pub code: i32,
    /// Where it is.
    pub header: SendMessageResponseHeader,
}

impl Sent {
    /// True when everything was waited for that the broker promises.
    pub fn is_complete(&self) -> bool {
        self.code == response::SUCCESS
    }
}

/// What came of a pull.
#[derive(Clone, Debug, PartialEq)]
pub struct Pulled {
    /// SUCCESS, PULL_NOT_FOUND, PULL_RETRY_IMMEDIATELY or PULL_OFFSET_MOVED.
    pub code: i32,
    /// Where to go on.
    pub header: PullMessageResponseHeader,
    /// Stored records, one after the other.
    pub body: Bytes,
}

impl Pulled {
    /// The records. Ends at the first bytes that are none.
    pub fn records(&self) -> impl Iterator<Item = RecordView<'_>> {
        let mut rest: &[u8] = &self.body;
        std::iter::from_fn(move || match check(rest, false) {
            Check::Record(view) => {
                rest = &rest[view.size()..];
                Some(view)
            }
            _ => None,
        })
    }
}

impl BrokerApi {
    /// SEND_MESSAGE_V2.
    pub async fn send(
        &self,
        addr: &str,
        header: &SendMessageRequestHeaderV2,
        body: impl Into<Bytes>,
        limit: Duration,
    ) -> Result<Sent, ClientError> {
        self.send_as(addr, request::SEND_MESSAGE_V2, header, body.into(), limit).await
    }

    /// SEND_BATCH_MESSAGE; see [`crate::encode_batch`] for the body.
    pub async fn send_batch(
        &self,
        addr: &str,
        header: &SendMessageRequestHeaderV2,
        body: impl Into<Bytes>,
        limit: Duration,
    ) -> Result<Sent, ClientError> {
        self.send_as(addr, request::SEND_BATCH_MESSAGE, header, body.into(), limit).await
    }

    async fn send_as(
        &self,
        addr: &str,
        code: i32,
        header: &SendMessageRequestHeaderV2,
        body: Bytes,
        limit: Duration,
    ) -> Result<Sent, ClientError> {
        let answer = self.ask(addr, Command::request_with(code, header).with_body(body), limit).await?;
        match answer.code {
            response::SUCCESS
            | response::FLUSH_DISK_TIMEOUT
            | response::FLUSH_SLAVE_TIMEOUT
            | response::SLAVE_NOT_AVAILABLE => Ok(Sent { code: answer.code, header: answer.header() }),
            _ => Err(ClientError::answer(addr, code, answer)),
        }
    }

    /// VIEW_MESSAGE_BY_ID: the bytes of the record at a physical offset, as they are in the broker's log.
    pub async fn view_message(&self, addr: &str, offset: i64) -> Result<Bytes, ClientError> {
        let header = ViewMessageRequestHeader { offset, ..Default::default() };
        Ok(self.call_with(addr, request::VIEW_MESSAGE_BY_ID, &header).await?.body)
    }

    /// PULL_MESSAGE. `limit` must exceed the time the broker may hold the pull.
    pub async fn pull(
        &self,
        addr: &str,
        header: &PullMessageRequestHeader,
        limit: Duration,
    ) -> Result<Pulled, ClientError> {
        let command = Command::request_with(request::PULL_MESSAGE, header);
        let answer = self.ask(addr, command, limit).await?;
        match answer.code {
            response::SUCCESS
            | response::PULL_NOT_FOUND
            | response::PULL_RETRY_IMMEDIATELY
            | response::PULL_OFFSET_MOVED => {
                Ok(Pulled { code: answer.code, header: answer.header(), body: answer.body })
            }
            _ => Err(ClientError::answer(addr, request::PULL_MESSAGE, answer)),
        }
    }
}

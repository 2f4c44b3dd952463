//! Typed calls to one address. Each family of requests has its file; what they share is here.

mod admin;
mod group;
mod message;
mod namesrv;
mod offset;
mod sync;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use remoting::{Client, Connection};
use wire::{
    Command,
    code::response,
    header::ExtHeader,
    json::{self, FromJson},
};

use crate::ClientError;

pub use group::LockedQueues;
pub use message::{Pulled, Sent};
pub use sync::{DELETED_TOPICS, LOG_END};

/// What a call gets that says nothing else. Java's is the same.
const DEFAULT_LIMIT: Duration = Duration::from_secs(3);

/// Calls to brokers and name servers by address. Cheap to clone; clones share their connections.
#[derive(Clone)]
pub struct BrokerApi {
    client: Arc<Client>,
    limit: Duration,
}

impl BrokerApi {
    /// Calls over the connections of `client`.
    pub fn new(client: Arc<Client>) -> Self {
        Self { client, limit: DEFAULT_LIMIT }
    }

    /// The same with another time limit for calls that take none of their own.
    pub fn with_limit(&self, limit: Duration) -> Self {
        Self { client: self.client.clone(), limit }
    }

    /// The connections.
    pub fn client(&self) -> &Arc<Client> {
        &self.client
    }

    /// Any request; any answer is good. A peer that is stopping is asked once more over a new connection, as Java's
    /// clients do.
    pub async fn ask(&self, addr: &str, request: Command, limit: Duration) -> Result<Command, ClientError> {
        self.ask_over(addr, request, limit).await.map(|(answer, _)| answer)
    }

    /// The same; tells which connection the answer came over.
    pub async fn ask_over(
        &self,
        addr: &str,
        request: Command,
        limit: Duration,
    ) -> Result<(Command, Arc<Connection>), ClientError> {
        let code = request.code;
        let failed = |error| ClientError::call(addr, code, error);
        let (answer, conn) = self.client.invoke_over(addr, request.clone(), limit).await.map_err(failed)?;
        if answer.code != response::GO_AWAY {
            return Ok((answer, conn));
        }
        conn.close("the peer said that it goes away");
        self.client.invoke_over(addr, request, limit).await.map_err(failed)
    }

    /// Any request; an answer other than SUCCESS is an error.
    pub async fn call(&self, addr: &str, request: Command, limit: Duration) -> Result<Command, ClientError> {
        let code = request.code;
        succeeded(addr, code, self.ask(addr, request, limit).await?)
    }

    /// The same over this one connection: an error when that is gone.
    async fn call_over(&self, conn: &Connection, request: Command, limit: Duration) -> Result<Command, ClientError> {
        let (addr, code) = (conn.peer().to_string(), request.code);
        let answer = conn.invoke(request, limit).await.map_err(|error| ClientError::call(&addr, code, error))?;
        succeeded(&addr, code, answer)
    }

    /// A request that wants no answer.
    pub async fn tell(&self, addr: &str, request: Command) -> Result<(), ClientError> {
        let code = request.code;
        self.client.oneway(addr, request, self.limit).await.map_err(|error| ClientError::call(addr, code, error))
    }

    async fn call_with(&self, addr: &str, code: i32, header: &impl ExtHeader) -> Result<Command, ClientError> {
        self.call(addr, Command::request_with(code, header), self.limit).await
    }

    /// The body of the answer to a request without a header.
    async fn fetch(&self, addr: &str, code: i32, limit: Duration) -> Result<Bytes, ClientError> {
        Ok(self.call(addr, Command::request(code), limit).await?.body)
    }

    async fn fetch_json<T: FromJson + Default>(
        &self,
        addr: &str,
        code: i32,
        limit: Duration,
    ) -> Result<T, ClientError> {
        decode(addr, code, &self.fetch(addr, code, limit).await?)
    }
}

fn succeeded(addr: &str, request: i32, answer: Command) -> Result<Command, ClientError> {
    if answer.code == response::SUCCESS { Ok(answer) } else { Err(ClientError::answer(addr, request, answer)) }
}

/// Reads a body of JSON.
fn decode<T: FromJson + Default>(addr: &str, request: i32, body: &[u8]) -> Result<T, ClientError> {
    json::decode(body).map_err(|error| ClientError::json(addr, request, &error))
}

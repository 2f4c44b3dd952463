//! A server that answers as a closure says.

#![allow(dead_code)]

use std::{sync::Arc, time::Duration};

use client::BrokerApi;
use remoting::{Client, ClientConfig, Connection, Requests, Server, ServerConfig, Service};
use wire::Command;

pub const LONG: Duration = Duration::from_secs(20);

/// A network that leads nowhere.
pub const NOWHERE: &str = "192.0.2.9:9876";

struct Answers<F>(F);

impl<F: Fn(&Command) -> Option<Command> + Send + Sync + 'static> Service for Answers<F> {
    fn on_requests(&self, conn: &Arc<Connection>, requests: &mut Requests<'_>) {
        requests.filter_map(|request| (self.0)(&request)).for_each(|answer| conn.reply(answer));
    }
}

/// Serves until the server is dropped.
pub async fn serve(answer: impl Fn(&Command) -> Option<Command> + Send + Sync + 'static) -> (Server, String) {
    let server = Server::bind("127.0.0.1:0", ServerConfig::default(), Arc::new(Answers(answer))).await.unwrap();
    let addr = server.local_addr().to_string();
    (server, addr)
}

pub fn api() -> BrokerApi {
    BrokerApi::new(Arc::new(Client::new(ClientConfig::default(), None)))
}

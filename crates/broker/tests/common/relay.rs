//! A listener between a slave and its master's: what it does itself the master never sees.

use std::{sync::Arc, time::Duration};

use client::BrokerApi;
use remoting::{Connection, Requests, Server, ServerConfig, Service};
use wire::Command;

use super::LIMIT;

/// Answers a request itself, or swallows it; gives back what is for the master.
type Own = Box<dyn Fn(&Connection, Command) -> Option<Command> + Send + Sync>;

struct Relay {
    api: BrokerApi,
    master: String,
    own: Own,
}

impl Service for Relay {
    fn on_requests(&self, conn: &Arc<Connection>, requests: &mut Requests<'_>) {
        for command in requests {
            let Some(command) = (self.own)(conn, command) else { continue };
            let (api, master, conn) = (self.api.clone(), self.master.clone(), conn.clone());
            tokio::spawn(async move {
                let opaque = command.opaque;
                let answer = api.ask(&master, command, LIMIT).await.unwrap();
                conn.reply(Command { opaque, ..answer });
            });
        }
    }
}

/// A relay that listens.
pub struct Between(Server);

impl Between {
    pub async fn start(
        api: &BrokerApi,
        master: &str,
        own: impl Fn(&Connection, Command) -> Option<Command> + Send + Sync + 'static,
    ) -> Self {
        let relay = Relay { api: api.clone(), master: master.to_owned(), own: Box::new(own) };
        Self(Server::bind("127.0.0.1:0", ServerConfig::default(), Arc::new(relay)).await.unwrap())
    }

    /// Where it listens.
    pub fn addr(&self) -> String {
        self.0.local_addr().to_string()
    }

    /// The slave takes it for its master's listener from now on, once the round that may be under way is over. No name server
    /// tells it otherwise: a slave whose master does not answer asks every few seconds.
    pub async fn of(&self, slave: &broker::context::Broker) {
        slave.registrar.set_list("");
        let _between_rounds = slave.sync.hold().await;
        slave.sync.learned(|| slave.config(), Some(self.addr()), None);
    }

    pub async fn stop(self) {
        self.0.shutdown(Duration::ZERO).await;
    }
}

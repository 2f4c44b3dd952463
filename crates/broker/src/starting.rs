//! What the listeners answer while the store is recovered, so that a check for life does not kill a long start (F-18).
//! Serves nobody: the name servers hear of the broker, and slaves are let in, when it is ready.

use std::{
    fmt,
    sync::{Arc, OnceLock},
};

use remoting::{Connection, Requests};
use store::Progress;
use tokio::time::Instant;
use wire::{
    body::KvTable,
    code::{request, response},
    json,
};

use crate::{
    admin::runtime,
    config::BrokerConfig,
    context::{Broker, now_ms},
    service::answer_unless_oneway,
};

/// A broker from its first moment on.
pub struct Starting {
    config: BrokerConfig,
    progress: Arc<Progress>,
    began_ms: i64,
    began: Instant,
    ready: OnceLock<Arc<Broker>>,
}

impl Starting {
    /// One whose store is going to be recovered.
    pub fn new(config: BrokerConfig, progress: Arc<Progress>) -> Self {
        Self { config, progress, began_ms: now_ms(), began: Instant::now(), ready: OnceLock::new() }
    }

    /// The broker once it serves.
    pub fn broker(&self) -> Option<&Arc<Broker>> {
        self.ready.get()
    }

    /// From here on the broker answers.
    pub(crate) fn serve(&self, broker: &Arc<Broker>) {
        self.ready.get_or_init(|| broker.clone());
    }

    /// Says what the broker is at. Producers try another broker at code 14, pulls come again after seconds.
    pub fn answer(&self, conn: &Arc<Connection>, requests: &mut Requests<'_>) {
        for command in requests {
            let answer = match command.code {
                // Clients of 4.x take each error answer for "no progress yet" and would skip to the newest message.
                request::QUERY_CONSUMER_OFFSET => return conn.close("progress cannot be told before it is recovered"),
                request::GET_BROKER_RUNTIME_INFO => command.ok_body(json::encode(&KvTable { table: self.runtime() })),
                _ => command.error(response::SERVICE_NOT_AVAILABLE, self.to_string()),
            };
            answer_unless_oneway(conn, &command, answer);
        }
    }

    /// Alive, and not active. `starting` is there only as long as the broker does not serve.
    fn runtime(&self) -> runtime::Table {
        let mut table = runtime::Table::new();
        runtime::identity(&mut table, &self.config, self.began_ms, self.began.elapsed());
        table.insert("brokerActive".into(), "false".into());
        table.insert("starting".into(), self.progress.to_string());
        table
    }
}

impl fmt::Display for Starting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let BrokerConfig { broker_name, broker_id, .. } = &self.config;
        let seconds = self.began.elapsed().as_secs();
        write!(f, "the broker {broker_name}:{broker_id} is starting since {seconds} s: {}", self.progress)
    }
}

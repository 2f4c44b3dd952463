//! Several name servers as one. Each is asked on its own: one that does not answer delays nothing (F-10).

use std::{future::Future, time::Duration};

use tokio::{sync::mpsc, task::JoinSet};
use wire::{
    body::{BrokerMemberGroup, TopicRouteData},
    code::request,
};

use crate::{BrokerApi, ClientError, Registered, Registration};

/// A list of name servers.
#[derive(Clone)]
pub struct NameServers {
    api: BrokerApi,
    addrs: Vec<String>,
}

impl NameServers {
    /// From text like `host:port;host:port`; blanks and empty parts do not count.
    pub fn new(api: BrokerApi, list: &str) -> Self {
        Self { api, addrs: parse(list) }
    }

    /// The addresses.
    pub fn addrs(&self) -> &[String] {
        &self.addrs
    }

    /// Registers at all of them at once. Answers arrive as they come; the registrations go on when nobody listens.
    pub fn register_all(
        &self,
        registration: &Registration,
        limit: Duration,
    ) -> mpsc::UnboundedReceiver<(String, Result<Registered, ClientError>)> {
        let (sender, receiver) = mpsc::unbounded_channel();
        let registration = std::sync::Arc::new(registration.clone());
        for addr in &self.addrs {
            let (addr, api, registration, sender) =
                (addr.clone(), self.api.clone(), registration.clone(), sender.clone());
            tokio::spawn(async move {
                let answer = api.register_broker(&addr, &registration, limit).await;
                // Nobody has to listen.
                let _ = sender.send((addr, answer));
            });
        }
        receiver
    }

    /// Unregisters at all of them at once; answers the failures.
    pub async fn unregister_all(&self, registration: &Registration, limit: Duration) -> Vec<ClientError> {
        let mut calls = JoinSet::new();
        for addr in &self.addrs {
            let (addr, api, registration) = (addr.clone(), self.api.clone(), registration.clone());
            calls.spawn(async move { api.unregister_broker(&addr, &registration, limit).await });
        }
        calls.join_all().await.into_iter().filter_map(Result::err).collect()
    }

    /// The route of a topic, from the server that answers first.
    pub async fn route(&self, topic: &str) -> Result<TopicRouteData, ClientError> {
        let topic = topic.to_owned();
        let ask = move |api: BrokerApi, addr: String| {
            let topic = topic.clone();
            async move { api.query_route(&addr, &topic).await }
        };
        self.first(request::GET_ROUTEINFO_BY_TOPIC, ask).await
    }

    /// The members of a broker group, from the server that answers first.
    pub async fn member_group(&self, cluster: &str, broker: &str) -> Result<BrokerMemberGroup, ClientError> {
        let (cluster, broker) = (cluster.to_owned(), broker.to_owned());
        let ask = move |api: BrokerApi, addr: String| {
            let (cluster, broker) = (cluster.clone(), broker.clone());
            async move { api.member_group(&addr, &cluster, &broker).await }
        };
        self.first(request::GET_BROKER_MEMBER_GROUP, ask).await
    }

    /// Asks all at once and takes the first success. Of failures a refusal tells more than silence.
    async fn first<T, F>(&self, code: i32, ask: impl Fn(BrokerApi, String) -> F) -> Result<T, ClientError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, ClientError>> + Send + 'static,
    {
        let mut calls = JoinSet::new();
        for addr in &self.addrs {
            calls.spawn(ask(self.api.clone(), addr.clone()));
        }
        let mut failure: Option<ClientError> = None;
        while let Some(answer) = calls.join_next().await {
            match answer {
                Ok(Ok(found)) => return Ok(found),
                Ok(Err(error)) if failure.is_none() || error.is_answer() => failure = Some(error),
                _ => {}
            }
        }
        Err(failure.unwrap_or_else(|| ClientError::nobody(code, "no name server is configured")))
    }
}

fn parse(list: &str) -> Vec<String> {
    let mut addrs: Vec<String> = Vec::new();
    for addr in list.split([';', ',']).map(str::trim).filter(|addr| !addr.is_empty()) {
        if !addrs.iter().any(|known| known == addr) {
            addrs.push(addr.to_owned());
        }
    }
    addrs
}

#[cfg(test)]
mod tests {
    #[test]
    fn lists() {
        assert_eq!(super::parse(" a:1; b:2;;a:1 "), ["a:1", "b:2"]);
        assert!(super::parse(" ; ").is_empty());
    }
}

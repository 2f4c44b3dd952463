//! A raw puller: one pull, one answer. Holds no progress and joins no group.

use std::time::Duration;

use wire::{
    header::PullMessageRequestHeader,
    sys_flag::{PULL_SUBSCRIPTION, PULL_SUSPEND},
};

use crate::{BrokerApi, ClientError, Pulled};

/// What a pull gets beyond the time that the broker may hold it.
const SLACK: Duration = Duration::from_secs(3);

/// Pulls from one broker under the name of a group.
#[derive(Clone)]
pub struct Puller {
    api: BrokerApi,
    addr: String,
    group: String,
    expression: String,
}

impl Puller {
    /// Pulls everything from the broker at `addr`.
    pub fn new(api: BrokerApi, addr: &str, group: &str) -> Self {
        Self { api, addr: addr.to_owned(), group: group.to_owned(), expression: "*".to_owned() }
    }

    /// The same for messages with certain tags, like `A || B`.
    pub fn with_tags(mut self, expression: &str) -> Self {
        self.expression = expression.to_owned();
        self
    }

    /// What is there now.
    pub async fn pull(&self, topic: &str, queue_id: i32, offset: i64, most: i32) -> Result<Pulled, ClientError> {
        let header = self.header(topic, queue_id, offset, most);
        self.api.pull(&self.addr, &header, SLACK).await
    }

    /// The same; where nothing is there the broker holds the pull for up to `wait`.
    pub async fn wait(
        &self,
        topic: &str,
        queue_id: i32,
        offset: i64,
        most: i32,
        wait: Duration,
    ) -> Result<Pulled, ClientError> {
        let mut header = self.header(topic, queue_id, offset, most);
        header.sys_flag |= PULL_SUSPEND;
        header.suspend_timeout_millis = wait.as_millis() as i64;
        self.api.pull(&self.addr, &header, wait + SLACK).await
    }

    fn header(&self, topic: &str, queue_id: i32, offset: i64, most: i32) -> PullMessageRequestHeader {
        PullMessageRequestHeader {
            consumer_group: self.group.clone(),
            topic: topic.to_owned(),
            queue_id: Some(queue_id),
            queue_offset: Some(offset),
            max_msg_nums: most,
            sys_flag: PULL_SUBSCRIPTION,
            subscription: Some(self.expression.clone()),
            expression_type: Some("TAG".to_owned()),
            ..PullMessageRequestHeader::default()
        }
    }
}

//! Requests about topics: routes and lists. Reference namesrv 1.9, 1.10, 1.12.

use remoting::Connection;
use wire::{
    Command,
    body::{TopicList, TopicRouteData},
    code::response,
    header::{
        DeleteTopicFromNamesrvRequestHeader, GetRouteInfoRequestHeader, GetTopicsByClusterRequestHeader,
        RegisterTopicRequestHeader,
    },
    json,
};

use super::{Answer, NameService};
use crate::{
    config::NamesrvConfig,
    kv::ORDER_TOPIC_CONFIG,
    request::{Refusal, require},
    routes::{Routes, keep_zone},
};

/// From this version on (V4_9_4) clients read standard JSON. Older ones need bare ids: some cut the text by hand.
const STANDARD_JSON: i32 = 401;

/// Source: `FAQUrl.suggestTodo(FAQUrl.APPLY_TOPIC_URL)`.
const FAQ: &str = "\nSee https://rocketmq.apache.org/docs/bestPractice/06FAQ for further details.";

impl NameService {
    /// 105.
    pub(super) fn route(&self, request: &Command) -> Answer {
        require(request, &["topic"])?;
        let header: GetRouteInfoRequestHeader = request.header();
        let config = self.config();
        if config.need_wait_for_service && self.now_ms() < config.wait_seconds_for_service.saturating_mul(1000) {
            return Err(Refusal::system("name server not ready"));
        }
        let mut route = self.routes.read().route(&header.topic, config.support_acting_master).ok_or_else(|| {
            let remark = format!("No topic route info in name server for the topic: {}{FAQ}", header.topic);
            Refusal::new(response::TOPIC_NOT_EXIST, remark)
        })?;
        self.complete(&mut route, request, &header.topic, &config);
        let is_standard = request.version >= STANDARD_JSON || header.accept_standard_json_only == Some(true);
        let encode = if is_standard { json::encode_standard } else { json::encode };
        Ok(request.ok_body(encode(&route)))
    }

    fn complete(&self, route: &mut TopicRouteData, request: &Command, topic: &str, config: &NamesrvConfig) {
        if config.order_message_enable {
            route.order_topic_conf = self.kv.get(ORDER_TOPIC_CONFIG, topic);
        }
        if let Some(zone) = zone_of(request) {
            keep_zone(route, zone);
        }
    }

    /// 206.
    pub(super) fn all_topics(&self, request: &Command) -> Answer {
        match self.config().enable_all_topic_list {
            true => Ok(topic_list(request, &self.routes.read().all_topics())),
            false => Err(Refusal::system("disable")),
        }
    }

    /// 304.
    pub(super) fn system_topics(&self, request: &Command) -> Answer {
        Ok(topic_list(request, &self.routes.read().system_topics()))
    }

    /// 224.
    pub(super) fn topics_of_cluster(&self, request: &Command) -> Answer {
        require(request, &["cluster"])?;
        let GetTopicsByClusterRequestHeader { cluster } = request.header();
        self.listed(request, |routes| routes.topics_of_cluster(&cluster))
    }

    /// 311, 312, 313, and what is common to them and 224.
    pub(super) fn listed(&self, request: &Command, list: impl FnOnce(&Routes) -> TopicList) -> Answer {
        match self.config().enable_topic_list {
            true => Ok(topic_list(request, &list(&self.routes.read()))),
            false => Err(Refusal::system("disable")),
        }
    }

    /// 216.
    pub(super) fn delete_topic(&self, conn: &Connection, request: &Command) -> Answer {
        require(request, &["topic"])?;
        let header: DeleteTopicFromNamesrvRequestHeader = request.header();
        let cluster = header.cluster_name.as_deref().filter(|cluster| !cluster.is_empty());
        tracing::info!("{} deletes topic {} of cluster {}", conn.display_peer(), header.topic, cluster.unwrap_or("*"));
        self.routes.write().delete_topic(&header.topic, cluster);
        Ok(request.ok())
    }

    /// 217.
    pub(super) fn register_topic(&self, request: &Command) -> Answer {
        require(request, &["topic"])?;
        let RegisterTopicRequestHeader { topic, .. } = request.header();
        let body: TopicRouteData =
            json::decode(&request.body).map_err(|error| Refusal::system(format!("body: {error}")))?;
        if let Err(unknown) = self.routes.write().register_topic(&topic, &body.queue_datas) {
            tracing::warn!("topic {topic} is registered for broker {unknown}, which is not known here");
        }
        Ok(request.ok())
    }
}

fn topic_list(request: &Command, list: &TopicList) -> Command {
    request.ok_body(json::encode(list))
}

/// The zone that the answer shall be narrowed to. Source: `ZoneRouteRPCHook.java`.
fn zone_of(request: &Command) -> Option<&str> {
    let is_wanted = request.ext.get("__ZONE_MODE").is_some_and(|mode| mode.eq_ignore_ascii_case("true"));
    request.ext.get("__ZONE_NAME").filter(|zone| is_wanted && !zone.trim().is_empty())
}

//! Sending: the requests of a producer.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Result;
use client::{OutgoingMessage, encode_batch};
use wire::{Command, code::request, header::SendMessageRequestHeaderV2, property, topic::AUTO_CREATE};

use super::{
    args::ProduceArgs,
    frames::{NUMBER_MARK, Template},
    load::Load,
    target::{Queue, Target},
};

/// Messages for all queues in turn.
pub(super) fn load(args: &ProduceArgs, target: &Target) -> Result<Load> {
    Ok(Load {
        templates: target.queues.iter().map(|queue| template(args, queue)).collect::<Result<_>>()?,
        depth: args.depth,
        messages: args.batch as u64,
        bytes: Some((args.batch * args.size) as u64),
        requests_a_second: args.rate.map(|rate| rate / args.batch as f64),
        connections: args.common.connections,
    })
}

fn template(args: &ProduceArgs, queue: &Queue) -> Result<Template> {
    let is_batch = args.batch > 1;
    let header = SendMessageRequestHeaderV2 {
        producer_group: "TandemBench".to_owned(),
        topic: queue.topic.to_string(),
        default_topic: AUTO_CREATE.to_owned(),
        default_topic_queue_nums: args.common.queues,
        queue_id: queue.id,
        born_timestamp: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |age| age.as_millis() as i64),
        properties: (!is_batch).then(properties),
        reconsume_times: Some(0),
        unit_mode: Some(false),
        batch: Some(is_batch),
        ..SendMessageRequestHeaderV2::default()
    };
    let code = if is_batch { request::SEND_BATCH_MESSAGE } else { request::SEND_MESSAGE_V2 };
    let mut command = Command::request_with(code, &header);
    command.serialize = args.common.serialize();
    let payload: Vec<u8> = (0..args.size).map(|at| b'a' + (at % 26) as u8).collect();
    Template::new(command.with_body(if is_batch { batch(args.batch, &payload) } else { payload.into() }))
}

/// What every client adds to its messages.
fn properties() -> String {
    let mut text = Vec::new();
    property::push(&mut text, property::UNIQ_KEY, &unique_id());
    property::push(&mut text, property::WAIT, "true");
    String::from_utf8_lossy(&text).into_owned()
}

fn unique_id() -> String {
    format!("7F00000100000000{NUMBER_MARK}")
}

fn batch(count: usize, payload: &[u8]) -> bytes::Bytes {
    let message =
        OutgoingMessage::new(payload.to_vec()).with(property::UNIQ_KEY, &unique_id()).with(property::WAIT, "true");
    encode_batch(&vec![message; count])
}

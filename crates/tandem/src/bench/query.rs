//! Asking by key: which keys, and the requests.

use anyhow::{Result, ensure};
use client::{BrokerApi, Puller};
use wire::{Command, code::request, header::QueryMessageRequestHeader, property};

use super::{
    args::QueryArgs,
    frames::Template,
    load::Load,
    target::{Queue, Target},
};

/// Most messages of an answer; what Java's clients ask for.
const MOST: i32 = 32;

/// A key that some message of the topic has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Key {
    pub text: String,
    /// The id its client gave it.
    pub is_unique: bool,
}

/// One query for each key in turn.
pub(super) fn load(args: &QueryArgs, target: &Target) -> Result<Load> {
    Ok(Load {
        templates: target.keys.iter().map(|key| template(args, key)).collect::<Result<_>>()?,
        depth: args.depth,
        messages: 1,
        bytes: None,
        requests_a_second: args.rate,
        connections: args.common.connections,
    })
}

fn template(args: &QueryArgs, key: &Key) -> Result<Template> {
    let header = QueryMessageRequestHeader {
        topic: args.common.topic.clone(),
        key: key.text.clone(),
        max_num: MOST,
        begin_timestamp: 0,
        end_timestamp: i64::MAX,
        unique_key_query: key.is_unique.then_some(true),
        ..QueryMessageRequestHeader::default()
    };
    let mut command = Command::request_with(request::QUERY_MESSAGE, &header);
    command.serialize = args.common.serialize();
    Template::new(command)
}

/// Keys of messages at places that look like chance and are the same in each run over the same messages.
pub(super) async fn sample(args: &QueryArgs, api: &BrokerApi, addr: &str, queues: &[Queue]) -> Result<Vec<Key>> {
    let topic = &args.common.topic;
    let puller = Puller::new(api.clone(), addr, "TandemBench");
    let mut chance = Chance(args.keys as u64);
    let mut keys = Vec::with_capacity(args.keys);
    for _ in 0..args.keys {
        let queue = &queues[chance.below(queues.len() as u64) as usize];
        let offset = queue.min + chance.below((queue.max - queue.min) as u64) as i64;
        let pulled = puller.pull(&queue.topic, queue.id, offset, 1).await?;
        keys.extend(pulled.records().next().and_then(|record| key_of(&|name| record.property(name))));
    }
    ensure!(!keys.is_empty(), "no message of topic {topic} at {addr} has a key");
    Ok(keys)
}

/// What a user would ask for.
fn key_of<'a>(property: &dyn Fn(&str) -> Option<&'a str>) -> Option<Key> {
    let first = property(property::KEYS).and_then(|keys| keys.split_whitespace().next());
    let named = first.map(|text| Key { text: text.to_owned(), is_unique: false });
    named.or_else(|| property(property::UNIQ_KEY).map(|text| Key { text: text.to_owned(), is_unique: true }))
}

/// Numbers that look random (splitmix64), the same ones for the same seed.
pub(super) struct Chance(pub u64);

impl Chance {
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % bound.max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_before_unique_ids() {
        let of = |keys: Option<&'static str>, id: Option<&'static str>| {
            key_of(&move |name| if name == property::KEYS { keys } else { id }).map(|key| (key.text, key.is_unique))
        };
        assert_eq!(of(Some("a b"), Some("id")), Some(("a".into(), false)));
        assert_eq!(of(Some(" "), Some("id")), Some(("id".into(), true)));
        assert_eq!(of(None, None), None);
    }
}

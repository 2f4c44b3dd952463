//! Random work against a plain model: appends, raw replication, kills, clean stops, truncations, deletions, retention.
//! Repeat a failure with the printed `TANDEM_SEED`.

mod common;

use std::collections::{BTreeMap, BTreeSet};

use common::{Random, bodies, message, open, seed, small};
use store::{Batch, Retention, Store, StoreConfig};

const TOPICS: [&str; 4] = ["A", "B", "%RETRY%g", "C"];

/// Place in the log, end, and body.
type Message = (i64, i64, Vec<u8>);

/// What the store must say.
#[derive(Default)]
struct Model {
    /// By number of the topic and queue id.
    queues: BTreeMap<(usize, i32), Vec<Message>>,
    /// Unique keys that must be found.
    keys: BTreeMap<String, i64>,
    next_key: u64,
}

impl Model {
    fn truncate(&mut self, offset: i64) {
        self.queues.values_mut().for_each(|queue| queue.retain(|(_, end, _)| *end <= offset));
        self.keys.retain(|_, at| *at < offset);
    }

    fn check(&self, store: &Store, when: &str) {
        for ((topic, queue_id), messages) in &self.queues {
            let topic = TOPICS[*topic];
            assert_eq!(store.max_offset(topic, *queue_id), messages.len() as i64, "{when}: {topic} {queue_id}");
            let gone = messages.iter().filter(|(at, ..)| *at < store.min_phys()).count();
            assert_eq!(store.min_offset(topic, *queue_id), gone as i64, "{when}: {topic} {queue_id}");
            let want: Vec<&Vec<u8>> = messages[gone..].iter().map(|(_, _, body)| body).collect();
            let found = bodies(store, topic, *queue_id);
            let same = found.iter().zip(&want).take_while(|(found, want)| found == *want).count();
            assert_eq!((same, found.len()), (want.len(), want.len()), "{when}: {topic} {queue_id} from {same} on");
        }
        for (key, at) in self.keys.iter().filter(|(_, at)| **at >= store.min_phys()) {
            let (topic, _) = key.split_once('-').unwrap();
            let found = store.query(topic, key, 64, 0, i64::MAX).physical_offsets;
            assert!(found.contains(at), "{when}: {key} at {at}, found {found:?}");
        }
    }
}

fn append(store: &Store, model: &mut Model, random: &mut Random) {
    let mut batch = Batch::new();
    let mut sent = Vec::new();
    for _ in 0..=random.below(8) {
        let (topic, queue_id) = (random.below(4) as usize, random.below(2) as i32);
        let body: Vec<u8> = (0..random.below(600)).map(|_| random.next() as u8).collect();
        let key = format!("{}-{}", TOPICS[topic], model.next_key);
        model.next_key += 1;
        batch.push(&message(TOPICS[topic], queue_id, format!("UNIQ_KEY\x01{key}\x02").as_bytes(), &body)).unwrap();
        sent.push((topic, queue_id, key, body));
    }
    store.append(&mut batch).unwrap();
    for (entry, (topic, queue_id, key, body)) in batch.entries().iter().zip(sent) {
        let queue = model.queues.entry((topic, queue_id)).or_default();
        assert_eq!(entry.queue_offset, queue.len() as i64);
        queue.push((entry.physical_offset, entry.end(), body));
        model.keys.insert(key, entry.physical_offset);
    }
}

fn truncate(store: &Store, model: &mut Model, random: &mut Random) {
    let ends: BTreeSet<i64> = model.queues.values().flatten().map(|(at, ..)| *at).collect();
    let lowest = store.max_phys() - 20_000;
    let candidates: Vec<i64> = ends.into_iter().filter(|at| *at >= store.min_phys().max(lowest)).collect();
    if let Some(at) = candidates.get(random.below(candidates.len().max(1) as u64) as usize) {
        store.truncate(*at).unwrap();
        model.truncate(*at);
    }
}

fn delete_topic(store: &Store, model: &mut Model, random: &mut Random) {
    let topic = random.below(4) as usize;
    store.delete_topic(TOPICS[topic]).unwrap();
    model.queues.retain(|(of, _), _| *of != topic);
    let prefix = format!("{}-", TOPICS[topic]);
    model.keys.retain(|key, _| !key.starts_with(&prefix));
}

fn step(store: Store, config: &StoreConfig, model: &mut Model, random: &mut Random) -> Store {
    match random.below(100) {
        0..60 => append(&store, model, random),
        60..75 => drop(store.dispatch()),
        75..80 => drop(store.flush().unwrap()),
        80..84 => store.flush_queues().and_then(|()| store.persist_checkpoint()).unwrap(),
        84..86 => truncate(&store, model, random),
        86 => delete_topic(&store, model, random),
        87..89 => {
            let max_segments = random.below(3) as usize;
            let retention = Retention { now_ms: 0, reserved_ms: 0, regardless_of_age: true, max_segments };
            store.delete_expired(retention).unwrap();
        }
        89..93 => {
            store.close().unwrap();
            drop(store);
            let store = open(config);
            model.check(&store, "after a clean stop");
            return store;
        }
        93..97 => {
            drop(store);
            let store = open(config);
            model.check(&store, "after a kill");
            return store;
        }
        _ => {
            store.dispatch();
            model.check(&store, "running");
        }
    }
    store
}

#[test]
fn agrees_with_a_model() {
    let first = seed();
    let rounds = std::env::var("TANDEM_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(5);
    for seed in (0..rounds).map(|round| first.wrapping_add(round)) {
        println!("TANDEM_SEED={seed}");
        let (dir, mut random, mut model) = (tempfile::tempdir().unwrap(), Random(seed), Model::default());
        let config = small(dir.path());
        let mut store = open(&config);
        for _ in 0..400 {
            store = step(store, &config, &mut model, &mut random);
        }
        store.dispatch();
        model.check(&store, "at the end");
    }
}

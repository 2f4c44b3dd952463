//! `config/timermetrics`: how many messages of each topic wait. Source: `store/.../timer/TimerMetrics.java`; reference
//! store 23. A master counts; a slave carries its master's counts and goes on with them when promoted.

use std::{collections::BTreeMap, path::PathBuf};

use parking_lot::Mutex;
use wire::{
    body::{TimerMetric, TimerMetricsSerializeWrapper as Wrapper},
    json,
};

use crate::{
    context::now_ms,
    persist::{self, PersistError},
};

/// Counts by topic and their file.
pub(super) struct Metrics {
    state: Mutex<State>,
    /// What the file says. Held by the one who writes it: the timer's thread, or the sync.
    saved: Mutex<Wrapper>,
    file: PathBuf,
}

struct State {
    counts: Wrapper,
    /// What changed since a recount began.
    meanwhile: Option<BTreeMap<String, i64>>,
}

impl Metrics {
    pub(super) fn load(file: PathBuf) -> Result<Self, PersistError> {
        let counts = persist::load::<Wrapper>(&file)?.unwrap_or_default();
        let saved = Mutex::new(counts.clone());
        Ok(Self { state: Mutex::new(State { counts, meanwhile: None }), saved, file })
    }

    /// As peers and operators see them: never below 0, where one took back what is no longer there.
    pub(super) fn json(&self) -> String {
        let mut counts = self.state.lock().counts.clone();
        counts.timing_count.values_mut().for_each(|metric| metric.count = metric.count.max(0));
        String::from_utf8_lossy(&json::encode(&counts)).into_owned()
    }

    pub(super) fn add(&self, topic: &str, by: i64) {
        if by == 0 {
            return;
        }
        let mut state = self.state.lock();
        let now = now_ms();
        let counts = &mut state.counts.timing_count;
        if let Some(metric) = counts.get_mut(topic) {
            (metric.count, metric.time_stamp) = (metric.count + by, now);
        } else if by > 0 {
            // What is delivered of a deleted topic does not bring it back.
            counts.insert(topic.to_owned(), TimerMetric { count: by, time_stamp: now });
        }
        state.counts.data_version.next(now);
        if let Some(meanwhile) = &mut state.meanwhile {
            *meanwhile.entry(topic.to_owned()).or_default() += by;
        }
    }

    /// Forgets a topic. True when that ends a recount, which still knows it.
    pub(super) fn remove(&self, topic: &str) -> bool {
        let mut state = self.state.lock();
        if state.counts.timing_count.remove(topic).is_some() {
            state.counts.data_version.next(now_ms());
        }
        state.meanwhile.take().is_some()
    }

    /// Forgets topics that are gone, once nothing waits for them: a message that is taken up after its topic's deletion is
    /// counted until it is passed over.
    pub(super) fn forget_gone(&self, is_gone: impl Fn(&str) -> bool) {
        let mut state = self.state.lock();
        let before = state.counts.timing_count.len();
        state.counts.timing_count.retain(|topic, metric| metric.count > 0 || !is_gone(topic));
        if state.counts.timing_count.len() != before {
            state.counts.data_version.next(now_ms());
        }
    }

    /// A recount begins: what changes from now on is added to what it finds.
    pub(super) fn begin(&self) {
        self.state.lock().meanwhile = Some(BTreeMap::new());
    }

    /// Counts that were made from the log since [`Metrics::begin`]: all others are 0. A recount that became useless, for
    /// the counts are a master's by now, changes nothing.
    pub(super) fn replace(&self, mut counted: BTreeMap<String, i64>) {
        let mut state = self.state.lock();
        let Some(meanwhile) = state.meanwhile.take() else { return };
        let now = now_ms();
        meanwhile.into_iter().for_each(|(topic, by)| *counted.entry(topic).or_default() += by);
        for (topic, metric) in &mut state.counts.timing_count {
            let right = counted.get(topic).copied().unwrap_or(0);
            if metric.count != right {
                tracing::info!("waiting timer messages of {topic}: {} counted before, {right} found", metric.count);
                *metric = TimerMetric { count: right, time_stamp: now };
            }
        }
        for (topic, count) in counted {
            let metric = TimerMetric { count, time_stamp: now };
            state.counts.timing_count.entry(topic).or_insert(metric);
        }
        state.counts.data_version.next(now);
    }

    pub(super) fn adopt(&self, text: &str) -> Result<(), PersistError> {
        let Ok(counts) = json::decode::<Wrapper>(text.as_bytes()) else {
            tracing::warn!("the master's timer metrics cannot be read, those known before stay");
            return Ok(());
        };
        {
            let mut state = self.state.lock();
            (state.counts, state.meanwhile) = (counts, None);
        }
        self.save()
    }

    /// Writes the file when something changed.
    pub(super) fn save(&self) -> Result<(), PersistError> {
        let mut saved = self.saved.lock();
        let counts = self.state.lock().counts.clone();
        if counts != *saved {
            persist::save_text(&self.file, &String::from_utf8_lossy(&json::encode(&counts)))?;
            *saved = counts;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The timer's thread saves what it has counted while the sync takes the master's counts.
    #[test]
    fn two_that_save_at_once_do_not_disturb_each_other() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("timermetrics");
        let metrics = Metrics::load(file.clone()).unwrap();
        let text = |count: i64| {
            format!(
                r#"{{"dataVersion":{{"counter":{count}}},"timingCount":{{"T":{{"count":{count},"timeStamp":1}}}}}}"#
            )
        };
        std::thread::scope(|scope| {
            scope.spawn(|| (0..200).for_each(|count| metrics.adopt(&text(count)).unwrap()));
            scope.spawn(|| (0..200).for_each(|_| (metrics.add("T", 1), metrics.save().unwrap()).1));
        });
        metrics.save().unwrap();
        assert_eq!(Metrics::load(file).unwrap().json(), metrics.json());
    }

    #[test]
    fn a_topic_that_is_gone_is_forgotten_when_nothing_waits_for_it() {
        let dir = tempfile::tempdir().unwrap();
        let metrics = Metrics::load(dir.path().join("timermetrics")).unwrap();
        for (topic, by) in [("gone", 1), ("gone", -1), ("waits", 1), ("stays", 1), ("stays", -1)] {
            metrics.add(topic, by);
        }
        metrics.forget_gone(|topic| topic != "stays");
        let json = metrics.json();
        assert!(!json.contains("gone") && json.contains("waits") && json.contains("stays"), "{json}");
    }

    #[test]
    fn counted_saved_adopted() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("timermetrics");
        let metrics = Metrics::load(file.clone()).unwrap();
        for by in [1, 1, -1] {
            metrics.add("T", by);
        }
        metrics.add("U", 1);
        metrics.save().unwrap();
        let java = r#"{"dataVersion":{"counter":302,"stateVersion":0,"timestamp":1795492592071},"timingCount":{"CorpusTimer":{"count":24,"timeStamp":1795492550091}}}"#;
        let again = Metrics::load(file).unwrap();
        assert!(again.json().contains(r#""T":{"count":1,"#), "{}", again.json());
        again.replace(BTreeMap::from([("T".to_owned(), 9)]));
        assert!(again.json().contains(r#""T":{"count":1,"#), "no recount is under way");
        again.begin();
        again.add("T", -1);
        again.add("W", -1);
        again.replace(BTreeMap::from([("T".to_owned(), 6), ("V".to_owned(), 2)]));
        for part in [r#""T":{"count":5,"#, r#""U":{"count":0,"#, r#""V":{"count":2,"#, r#""W":{"count":0,"#] {
            assert!(again.json().contains(part), "{}", again.json());
        }
        again.begin();
        assert!(again.remove("T"));
        again.replace(BTreeMap::from([("T".to_owned(), 6)]));
        again.add("T", 0);
        again.add("T", -1);
        assert!(!again.json().contains(r#""T""#), "{}", again.json());
        again.adopt(java).unwrap();
        assert_eq!(again.json(), java);
        again.adopt("{").unwrap();
        assert_eq!(again.json(), java);
    }
}

//! What has changed, as far as name servers must hear of it: single topics, or more than that. Counts; tells nobody.

use std::collections::{BTreeSet, VecDeque};

/// More topics than these are told with all others: each is a request of its own.
const MOST: usize = 32;

/// Counts changes, and knows the latest topics among them.
#[derive(Default)]
pub struct Changes {
    count: u64,
    /// The last change that only a registration with all topics tells.
    whole: u64,
    /// Those since: topics that were made or changed.
    topics: VecDeque<(u64, String)>,
}

impl Changes {
    /// So many until now.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Anything but what [`Self::topic`] is for. A topic that was deleted is such: its route goes with its absence from all.
    pub fn any(&mut self) {
        self.count += 1;
        self.whole = self.count;
        self.topics.clear();
    }

    /// A topic is new or another one now.
    pub fn topic(&mut self, name: &str) {
        self.count += 1;
        self.topics.push_back((self.count, name.to_owned()));
        if self.topics.len() > MOST
            && let Some((number, _)) = self.topics.pop_front()
        {
            self.whole = number;
        }
    }

    /// What to tell whom the first `known` changes were told: these topics, or `None` for all.
    pub fn topics_since(&self, known: u64) -> Option<BTreeSet<String>> {
        let news = self.topics.iter().filter(|(number, _)| *number > known);
        (known >= self.whole).then(|| news.map(|(_, name)| name.clone()).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn since(changes: &Changes, known: u64) -> Option<Vec<String>> {
        changes.topics_since(known).map(|names| names.into_iter().collect())
    }

    #[test]
    fn topics_since_a_change() {
        let mut changes = Changes::default();
        changes.any();
        ["b", "a", "b"].iter().for_each(|name| changes.topic(name));
        assert_eq!(changes.count(), 4);
        assert_eq!(since(&changes, 0), None, "the first change was more than a topic");
        assert_eq!(since(&changes, 1).unwrap(), ["a", "b"]);
        assert_eq!(since(&changes, 3).unwrap(), ["b"]);
        assert!(since(&changes, 4).unwrap().is_empty());
        changes.any();
        assert_eq!(since(&changes, 4), None);
        assert!(since(&changes, 5).unwrap().is_empty());
    }

    #[test]
    fn many_topics_are_told_with_all_others() {
        let mut changes = Changes::default();
        (0..=MOST).for_each(|number| changes.topic(&number.to_string()));
        assert_eq!(since(&changes, 0), None);
        assert_eq!(since(&changes, 1).unwrap().len(), MOST);
    }
}

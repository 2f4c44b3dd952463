//! Which messages a subscription wants: tags by hash in the consume queue, then by text in the record.
//! Source: `remoting/.../filter/FilterAPI.java`; reference broker 4.6. Upstream leaves the text to the client, which
//! hands a raw puller messages of another tag with the same hash (F-30).

use std::collections::BTreeSet;

use wire::{body::SubscriptionData, hash::java_hash, property, record::RecordView};

/// Wants everything.
pub const ALL: &str = "*";
/// Expression type of tags.
pub const TAG: &str = "TAG";

/// A subscription as the store asks it.
#[derive(Clone, Debug, Default)]
pub struct TagFilter {
    tags: BTreeSet<String>,
    codes: BTreeSet<i32>,
}

impl TagFilter {
    /// From an expression like `TagA || TagB`; `None` when it names no tag although it is not empty.
    pub fn parse(expression: &str) -> Option<Self> {
        let expression = expression.trim();
        if expression.is_empty() || expression == ALL {
            return Some(Self::default());
        }
        let tags: BTreeSet<String> =
            expression.split("||").map(str::trim).filter(|tag| !tag.is_empty()).map(str::to_owned).collect();
        let codes = tags.iter().map(|tag| java_hash(tag)).collect();
        (!tags.is_empty()).then_some(Self { tags, codes })
    }

    /// From what a consumer said in its heartbeat.
    pub fn of(subscription: &SubscriptionData) -> Self {
        if subscription.sub_string == ALL || subscription.class_filter_mode {
            return Self::default();
        }
        Self {
            tags: subscription.tags_set.iter().cloned().collect(),
            codes: subscription.code_set.iter().copied().collect(),
        }
    }

    /// True when every message matches.
    pub fn wants_all(&self) -> bool {
        self.codes.is_empty()
    }
}

impl store::MessageFilter for TagFilter {
    fn matches_tags_code(&self, tags_code: Option<i64>) -> bool {
        self.wants_all() || tags_code.is_none_or(|code| self.codes.contains(&(code as i32)))
    }

    fn matches_record(&self, record: &RecordView<'_>) -> bool {
        // A client that sent codes without names is believed.
        self.tags.is_empty() || record.property(property::TAGS).is_some_and(|tags| self.tags.contains(tags))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use store::MessageFilter;

    #[test]
    fn expressions() {
        assert!(TagFilter::parse("").unwrap().wants_all() && TagFilter::parse(" * ").unwrap().wants_all());
        assert!(TagFilter::parse(" || ").is_none());
        let filter = TagFilter::parse("TagA||TagB").unwrap();
        assert!(filter.matches_tags_code(Some(2598919)) && !filter.matches_tags_code(Some(1)));
        assert!(filter.matches_tags_code(None));
    }
}

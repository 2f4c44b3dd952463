//! What an operator does between a stop and a start: another configuration, and queues and index made anew.

use std::{path::Path, sync::Arc};

use store::{RebuildOptions, StoreConfig, inspect::ViewOptions, rebuild};

use super::{disk::Fault, life::Life, model::Verdict};
use crate::common::Still;

impl Life {
    /// Now and then: what may be set otherwise. Sizes of files stay: where a power cut left a short one and the configuration
    /// is another, a start may be refused.
    pub fn change_config(&mut self) {
        if self.random.below(4) > 0 {
            return;
        }
        let random = &mut self.random;
        let mut one_of = |choices: &[u64]| choices[random.below(choices.len() as u64) as usize];
        self.config = StoreConfig {
            sync_flush: one_of(&[0, 1]) == 1,
            queue_ext: one_of(&[0, 0, 0, 1]) == 1,
            queue_gathers: one_of(&[0, 60, 200, 4096]) as usize,
            queues_gather: one_of(&[100, 300, 1 << 20]) as usize,
            queues_synced_singly: one_of(&[0, 2, 64]) as usize,
            ..self.config.clone()
        };
        let config = &self.config;
        self.tell(format!(
            "configured: flush {}, extensions {}, gathers {} {}, synced singly {}",
            config.sync_flush,
            config.queue_ext,
            config.queue_gathers,
            config.queues_gather,
            config.queues_synced_singly
        ));
    }

    /// Now and then, also cut short.
    pub fn rebuild(&mut self) -> Verdict {
        let has_log = !self.disk.names_in(Path::new("/sim/commitlog")).is_empty();
        if self.random.below(8) > 0 || !has_log {
            return Ok(());
        }
        if self.random.below(2) == 0 {
            self.disk.plan(self.random.below(1500), Fault::Crash);
        }
        let (max_hash_slots, max_index) = (Some(self.config.max_hash_slots), Some(self.config.max_index));
        let view = ViewOptions { max_hash_slots, max_index, ..ViewOptions::default() };
        let options =
            RebuildOptions { config: Some(self.config.clone()), view, all_topics: false, ..RebuildOptions::default() };
        let made = rebuild(Arc::new(self.disk.clone()), &self.config.root, &options, &mut Still);
        let fired = self.disk.take_fired();
        self.tell(format!("rebuild: {:?}", made.as_ref().map(|made| (made.min, made.end, made.records))));
        match made {
            Err(error) if !fired => Err(format!("rebuild: {error}")),
            _ if fired => {
                let power_cut = self.random.below(2) == 0;
                self.restart(power_cut);
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

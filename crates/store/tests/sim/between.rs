//! What an operator does between a stop and a start: another configuration, sizes of files set right where a start asks for
//! it, and queues and index made anew.

use std::{path::Path, sync::Arc};

use store::{RebuildOptions, StoreConfig, rebuild};

use super::{disk::Fault, life::Life, model::Verdict};
use crate::common::Still;

/// Sizes of one kind of files.
struct Size {
    dir: &'static str,
    set: fn(&mut StoreConfig, u64),
    /// Bytes of a file.
    bytes: fn(u64) -> u64,
    choices: [u64; 3],
}

/// Those that a store begins with come first.
const SIZES: [Size; KINDS] = [
    Size {
        dir: "/sim/commitlog",
        set: |config, size| config.segment_size = size,
        bytes: |size| size,
        choices: [4096, 8192, 6144],
    },
    Size {
        dir: "/sim/consumequeue",
        set: |config, size| config.queue_segment_size = size,
        bytes: |size| size,
        choices: [200, 400, 100],
    },
    Size {
        dir: "/sim/batchconsumequeue",
        set: |config, size| config.batch_queue_segment_size = size,
        bytes: |size| size,
        choices: [460, 230, 920],
    },
    Size {
        dir: "/sim/index",
        set: |config, max| (config.max_hash_slots, config.max_index) = (slots(max) as u32, max as u32),
        bytes: |max| 40 + 4 * slots(max) + 20 * max,
        choices: [40, 90, 20],
    },
];

/// Kinds of files that have a size.
pub const KINDS: usize = 4;

const fn slots(max_index: u64) -> u64 {
    104 - max_index
}

impl Size {
    fn choose(&self, config: &mut StoreConfig, choice: usize) {
        (self.set)(config, self.choices[choice]);
    }
}

fn tries_sizes() -> bool {
    std::env::var_os("TANDEM_SIZES").is_some()
}

impl Life {
    /// Now and then: what may be set otherwise; with `TANDEM_SIZES=1` sizes of files among it.
    pub fn change_config(&mut self) {
        if self.random.below(4) > 0 {
            return;
        }
        if tries_sizes() && self.random.below(2) == 0 {
            SIZES.iter().for_each(|size| size.choose(&mut self.config, self.random.below(3) as usize));
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
            "configured: flush {}, extensions {}, gathers {} {}, synced singly {}, sizes {} {} {} {}",
            config.sync_flush,
            config.queue_ext,
            config.queue_gathers,
            config.queues_gather,
            config.queues_synced_singly,
            config.segment_size,
            config.queue_segment_size,
            config.batch_queue_segment_size,
            config.max_index
        ));
    }

    /// What the files of each kind are made with, before a power cut takes some of their sizes.
    pub fn note_sizes(&mut self) {
        if !tries_sizes() {
            return;
        }
        for (size, made_with) in SIZES.iter().zip(&mut self.made_with) {
            let lengths = self.disk.lengths_under(Path::new(size.dir));
            let is_one = |choice: &usize| lengths.contains(&(size.bytes)(size.choices[*choice]));
            *made_with = (0..size.choices.len()).rfind(is_one).or(*made_with);
        }
    }

    /// After a kill or a power cut an only file that is shorter than configured may be a short one, and is taken for one: other
    /// sizes are tried after a clean stop alone, else the keys are set to those that the files have.
    pub fn set_sizes_back(&mut self, may_differ: bool) {
        let is_clean = may_differ && self.disk.peek(Path::new("/sim/abort")).is_none() && !self.power_cut;
        for (size, made_with) in SIZES.iter().zip(self.made_with) {
            if let Some(choice) = made_with.filter(|_| !is_clean) {
                size.choose(&mut self.config, choice);
            }
        }
    }

    /// Now and then, also cut short.
    pub fn rebuild(&mut self) -> Verdict {
        self.set_sizes_back(false);
        let has_log = !self.disk.names_in(Path::new("/sim/commitlog")).is_empty();
        if self.random.below(8) > 0 || !has_log {
            return Ok(());
        }
        if self.random.below(2) == 0 {
            self.disk.plan(self.random.below(1500), Fault::Crash);
        }
        let options = RebuildOptions { config: Some(self.config.clone()), ..RebuildOptions::default() };
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

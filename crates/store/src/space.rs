//! When a disk is too full, and what follows from it: a pure decision from the space of the partitions and the limits an
//! operator set. It looks at no disk and keeps no state. Source: `DefaultMessageStore.java` (CleanCommitLogService),
//! `MessageStoreConfig.java`; reference store 20 and 30.6.
//!
//! | what is found on the log's or the queues' partition | messages | bytes of a master | oldest segments |
//! |---|---|---|---|
//! | less than `diskReservedBytes` left | refused | refused | go regardless of age |
//! | used above `diskSpaceWarningLevelRatio` | refused | taken | go regardless of age |
//! | used above `diskSpaceCleanForciblyRatio`, or less than twice the reserve left | taken | taken | go regardless of age |
//! | used above `diskMaxUsedSpaceRatio`, or not to be read | taken | taken | go if expired |
//! | anything else | taken | taken | stay |
//!
//! With `cleanFileForciblyEnable=false` age always counts.

use std::{fmt, path::PathBuf};

use crate::disk::Usage;

/// Reserve when none is configured: this much, but no more than a twentieth of the partition.
pub const DEFAULT_RESERVE: u64 = 256 << 20;

/// Limits as they are configured. Ratios are parts of 1; Java's bounds are applied here.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SpaceLimits {
    /// `diskSpaceWarningLevelRatio`.
    pub warning_ratio: f64,
    /// `diskSpaceCleanForciblyRatio`.
    pub forcible_ratio: f64,
    /// `diskMaxUsedSpaceRatio`.
    pub max_used_ratio: f64,
    /// `diskReservedBytes`; `None` = [`DEFAULT_RESERVE`], and Java's upper bounds of the ratios hold.
    pub reserved_bytes: Option<u64>,
    /// `cleanFileForciblyEnable`.
    pub may_force: bool,
    /// `replicasPerDiskPartition`: brokers that share the partition in equal parts.
    pub replicas_per_partition: u64,
    /// `logicalDiskSpaceCleanForciblyThreshold`, of this broker's part.
    pub logical_forcible_ratio: f64,
}

impl Default for SpaceLimits {
    fn default() -> Self {
        Self {
            warning_ratio: 0.90,
            forcible_ratio: 0.85,
            max_used_ratio: 0.75,
            reserved_bytes: None,
            may_force: true,
            replicas_per_partition: 1,
            logical_forcible_ratio: 0.8,
        }
    }
}

impl SpaceLimits {
    fn warning(&self) -> f64 {
        bounded(self.warning_ratio, 0.35, self.upper(0.90))
    }

    /// `diskSpaceCleanForciblyRatio` within its bounds.
    pub fn forcible(&self) -> f64 {
        bounded(self.forcible_ratio, 0.30, self.upper(0.85))
    }

    fn max_used(&self) -> f64 {
        bounded(self.max_used_ratio, 0.10, 0.95)
    }

    /// Java's bound keeps a tenth of the disk free. Whoever reserves bytes need not keep a tenth of a large one.
    fn upper(&self, java: f64) -> f64 {
        if self.reserved_bytes.is_some() { 1.0 } else { java }
    }

    /// Bytes that can be written before messages are refused, of a partition's space.
    pub fn room(&self, usage: Usage) -> u64 {
        let used = usage.total - usage.free.min(usage.total);
        let until_warning = (used.saturating_add(usage.available)) as f64 * self.warning() - used as f64;
        usage.available.saturating_sub(self.reserve(usage)).min(until_warning.max(0.0) as u64)
    }

    fn reserve(&self, usage: Usage) -> u64 {
        self.reserved_bytes.unwrap_or(DEFAULT_RESERVE.min(usage.total / 20))
    }
}

fn bounded(ratio: f64, low: f64, high: f64) -> f64 {
    if ratio.is_nan() { high } else { ratio.clamp(low, high) }
}

/// A directory and the space of its partition; `None` when it cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    /// Directory of the store on it.
    pub dir: PathBuf,
    /// Its space.
    pub usage: Option<Usage>,
}

impl Partition {
    /// The emptiest one of the directories that new segments may go to; one that cannot be read comes last.
    pub(crate) fn emptiest(of: Vec<Self>) -> Option<Self> {
        let used = |partition: &Self| partition.usage.map_or(2.0, |usage| usage.used_ratio());
        of.into_iter().min_by(|a, b| used(a).total_cmp(&used(b)))
    }
}

/// What is found on the disks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpaceSeen {
    /// Of the commit log.
    pub log: Partition,
    /// Of the consume queues and the index.
    pub queues: Partition,
    /// Bytes of all files of log, queues and index; looked at only with several brokers on a partition.
    pub store_bytes: u64,
}

/// The one reason why nothing is taken.
#[derive(Clone, Debug, PartialEq)]
pub enum NoSpace {
    /// Used above a ratio.
    Ratio {
        /// Directory on the disk.
        dir: PathBuf,
        /// Used percent.
        used: u32,
        /// Limit in percent.
        limit: u32,
    },
    /// Less left than is reserved.
    Reserve {
        /// Directory on the disk.
        dir: PathBuf,
        /// Bytes left.
        left: u64,
        /// Bytes reserved.
        reserved: u64,
    },
    /// The operating system refused a write.
    Refused {
        /// Directory of the file.
        dir: PathBuf,
    },
}

impl fmt::Display for NoSpace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ratio { dir, used, limit } => {
                write!(f, "the disk of {} is {used} % full, above diskSpaceWarningLevelRatio {limit}", dir.display())
            }
            Self::Reserve { dir, left, reserved } => {
                write!(f, "the disk of {} has {left} bytes left, less than diskReservedBytes {reserved}", dir.display())
            }
            Self::Refused { dir } => {
                write!(f, "the disk of {} has no space left: the operating system refused a write", dir.display())
            }
        }
    }
}

/// Which segments may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Deletion {
    /// None.
    Nothing,
    /// Those that are older than `fileReservedTime`.
    Expired,
    /// The oldest, whatever their age.
    Oldest,
}

/// What follows from a look at the disks.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// Why messages are refused.
    pub refuse: Option<NoSpace>,
    /// Why even bytes of a master are refused.
    pub refuse_raw: Option<NoSpace>,
    /// What may be deleted now for want of space.
    pub deletion: Deletion,
}

impl Verdict {
    /// What may be deleted when it is the hour of `deleteWhen`, or an operator asks.
    pub fn deletion_when(&self, is_time: bool) -> Deletion {
        if is_time { self.deletion.max(Deletion::Expired) } else { self.deletion }
    }
}

/// Decides. See the table above.
pub fn judge(limits: &SpaceLimits, seen: &SpaceSeen) -> Verdict {
    let partitions = [&seen.log, &seen.queues];
    let refuse_raw = partitions.iter().find_map(|partition| below_reserve(limits, partition));
    let refuse =
        refuse_raw.clone().or_else(|| partitions.iter().find_map(|partition| above_warning(limits, partition)));
    let is_tight = refuse.is_some() || partitions.iter().any(|partition| is_tight(limits, partition));
    let share = share_used(limits, seen);
    let forced = is_tight || share.is_some_and(|used| used > limits.logical_forcible_ratio);
    let above_max = match share {
        Some(used) => used > limits.max_used(),
        None => partitions
            .iter()
            .any(|partition| partition.usage.is_none_or(|usage| usage.used_ratio() > limits.max_used())),
    };
    let deletion = match (forced, above_max) {
        (true, _) if limits.may_force => Deletion::Oldest,
        (true, _) | (_, true) => Deletion::Expired,
        (false, false) => Deletion::Nothing,
    };
    Verdict { refuse, refuse_raw, deletion }
}

fn below_reserve(limits: &SpaceLimits, partition: &Partition) -> Option<NoSpace> {
    let usage = partition.usage?;
    let (left, reserved) = (usage.available, limits.reserve(usage));
    (left < reserved).then(|| NoSpace::Reserve { dir: partition.dir.clone(), left, reserved })
}

fn above_warning(limits: &SpaceLimits, partition: &Partition) -> Option<NoSpace> {
    let (used, limit) = (partition.usage?.used_ratio(), limits.warning());
    let percent = |ratio: f64| (ratio * 100.0).round() as u32;
    (used > limit).then(|| NoSpace::Ratio { dir: partition.dir.clone(), used: percent(used), limit: percent(limit) })
}

fn is_tight(limits: &SpaceLimits, partition: &Partition) -> bool {
    partition.usage.is_some_and(|usage| {
        usage.used_ratio() > limits.forcible() || usage.available < limits.reserve(usage).saturating_mul(2)
    })
}

/// Used part of this broker's share of the partition, when several share it.
fn share_used(limits: &SpaceLimits, seen: &SpaceSeen) -> Option<f64> {
    let usage = seen.log.usage.filter(|usage| limits.replicas_per_partition > 1 && usage.total > 0)?;
    let share = usage.total / limits.replicas_per_partition;
    Some(seen.store_bytes as f64 / share.max(1) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    fn disk(total: u64, available: u64) -> Option<Usage> {
        Some(Usage { total, free: available, available })
    }

    fn seen(log: Option<Usage>, queues: Option<Usage>) -> SpaceSeen {
        let at = |dir: &str, usage| Partition { dir: dir.into(), usage };
        SpaceSeen { log: at("/log", log), queues: at("/store", queues), store_bytes: 0 }
    }

    /// Verdict for one disk of 100 GiB that is used to so many percent.
    fn at_percent(limits: &SpaceLimits, percent: u64) -> (bool, bool, Deletion) {
        let usage = disk(100 * GIB, (100 - percent) * GIB);
        let verdict = judge(limits, &seen(usage, usage));
        (verdict.refuse.is_some(), verdict.refuse_raw.is_some(), verdict.deletion)
    }

    #[test]
    fn the_emptiest_directory_is_the_one_that_can_still_take_segments() {
        let at = |dir: &str, usage| Partition { dir: dir.into(), usage };
        let all = vec![
            at("/gone", None),
            at("/full", disk(1000, 10)),
            at("/half", disk(1000, 500)),
            at("/most", disk(1000, 400)),
        ];
        assert_eq!(Partition::emptiest(all).unwrap().dir.to_str(), Some("/half"));
        assert_eq!(Partition::emptiest(vec![at("/gone", None)]), Some(at("/gone", None)));
        assert_eq!(Partition::emptiest(Vec::new()), None);
    }

    #[test]
    fn javas_steps() {
        let limits = SpaceLimits::default();
        assert_eq!(at_percent(&limits, 75), (false, false, Deletion::Nothing));
        assert_eq!(at_percent(&limits, 76), (false, false, Deletion::Expired));
        assert_eq!(at_percent(&limits, 85), (false, false, Deletion::Expired));
        assert_eq!(at_percent(&limits, 86), (false, false, Deletion::Oldest));
        assert_eq!(at_percent(&limits, 90), (false, false, Deletion::Oldest));
        assert_eq!(at_percent(&limits, 91), (true, false, Deletion::Oldest));
        assert_eq!(at_percent(&limits, 100), (true, true, Deletion::Oldest));
        let gentle = SpaceLimits { may_force: false, ..limits };
        assert_eq!(at_percent(&gentle, 95), (true, false, Deletion::Expired));
    }

    #[test]
    fn javas_bounds_hold_unless_bytes_are_reserved() {
        let high = SpaceLimits { warning_ratio: 0.99, forcible_ratio: 0.97, ..SpaceLimits::default() };
        assert_eq!(at_percent(&high, 91), (true, false, Deletion::Oldest));
        assert_eq!(at_percent(&high, 86), (false, false, Deletion::Oldest));
        let reserving = SpaceLimits { reserved_bytes: Some(2 * GIB), ..high };
        assert_eq!(at_percent(&reserving, 96), (false, false, Deletion::Expired));
        assert_eq!(at_percent(&reserving, 97), (false, false, Deletion::Oldest), "less than twice the reserve");
        assert_eq!(at_percent(&reserving, 98), (false, false, Deletion::Oldest));
        assert_eq!(at_percent(&reserving, 99), (true, true, Deletion::Oldest));
        let low = SpaceLimits { warning_ratio: 0.01, forcible_ratio: 0.0, ..SpaceLimits::default() };
        assert_eq!(at_percent(&low, 35), (false, false, Deletion::Oldest));
        assert_eq!(at_percent(&low, 36), (true, false, Deletion::Oldest));
        assert_eq!(at_percent(&low, 30), (false, false, Deletion::Nothing));
        let odd = SpaceLimits { warning_ratio: f64::NAN, forcible_ratio: f64::NAN, ..SpaceLimits::default() };
        assert_eq!(at_percent(&odd, 91), (true, false, Deletion::Oldest));
    }

    #[test]
    fn the_one_cause_and_its_directory_are_named() {
        let roomy = disk(100 * GIB, 50 * GIB);
        let text = |log, queues, limits| judge(&limits, &seen(log, queues)).refuse.map(|cause| cause.to_string());
        let limits = SpaceLimits::default();
        assert_eq!(
            text(disk(100 * GIB, 9 * GIB), roomy, limits).unwrap(),
            "the disk of /log is 91 % full, above diskSpaceWarningLevelRatio 90"
        );
        assert_eq!(
            text(roomy, disk(100 * GIB, 1000), limits).unwrap(),
            "the disk of /store has 1000 bytes left, less than diskReservedBytes 268435456"
        );
        let limits = SpaceLimits { reserved_bytes: Some(60 * GIB), ..limits };
        assert!(text(roomy, roomy, limits).unwrap().contains("less than diskReservedBytes 64424509440"));
        assert_eq!(text(roomy, roomy, SpaceLimits::default()), None);
    }

    #[test]
    fn room_ends_where_messages_are_refused() {
        let limits = SpaceLimits { warning_ratio: 0.75, ..SpaceLimits::default() };
        let room = |available| limits.room(Usage { total: 1024, free: available, available });
        assert_eq!([1024, 300, 256, 100, 0].map(room), [768, 44, 0, 0, 0]);
        let reserving = SpaceLimits { warning_ratio: 1.0, reserved_bytes: Some(100), ..limits };
        assert_eq!(reserving.room(Usage { total: 1024, free: 300, available: 300 }), 200);
    }

    #[test]
    fn a_small_disk_keeps_a_twentieth() {
        let verdict = |available| judge(&SpaceLimits::default(), &seen(disk(1000, available), disk(1000, 1000)));
        assert!(verdict(49).refuse_raw.is_some());
        assert!(verdict(50).refuse_raw.is_none());
    }

    #[test]
    fn a_partition_that_cannot_be_read_refuses_nothing_and_deletes_what_is_expired() {
        let verdict = judge(&SpaceLimits::default(), &seen(None, disk(100, 100)));
        assert_eq!((verdict.refuse.is_some(), verdict.deletion), (false, Deletion::Expired));
    }

    #[test]
    fn several_brokers_share_a_partition() {
        let limits = SpaceLimits { replicas_per_partition: 4, ..SpaceLimits::default() };
        let deletion = |store_bytes| {
            let seen = SpaceSeen { store_bytes, ..seen(disk(400, 100), disk(400, 100)) };
            judge(&limits, &seen).deletion
        };
        assert_eq!(
            [75, 76, 80, 81].map(deletion),
            [Deletion::Nothing, Deletion::Expired, Deletion::Expired, Deletion::Oldest]
        );
    }

    #[test]
    fn at_its_hour_and_by_hand_what_is_expired_goes() {
        let verdict = |deletion| Verdict { refuse: None, refuse_raw: None, deletion };
        assert_eq!(verdict(Deletion::Nothing).deletion_when(true), Deletion::Expired);
        assert_eq!(verdict(Deletion::Oldest).deletion_when(true), Deletion::Oldest);
        assert_eq!(verdict(Deletion::Nothing).deletion_when(false), Deletion::Nothing);
    }
}

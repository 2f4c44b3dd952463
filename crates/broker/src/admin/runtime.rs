//! GET_BROKER_RUNTIME_INFO and VIEW_BROKER_STATS_DATA: what a broker does, as `mqadmin` and dashboards parse it.
//! Source: `AdminBrokerProcessor.java`, `StoreStatsService.java`, `DefaultMessageStore.java`; reference operations 6.

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use store::{Partition, Usage};
use wire::{
    Command,
    body::{BrokerStatsData, BrokerStatsItem, KvTable},
    command::CURRENT_VERSION,
    header::ViewBrokerStatsDataRequestHeader,
    json, topic,
};

use super::{Answer, Needs, Refused, parse};
use crate::{
    config::BrokerConfig,
    context::{Broker, now_ms},
    stats::{Rate, Stats},
};

/// Name of [`CURRENT_VERSION`] in upstream's list.
const VERSION_NAME: &str = "V5_3_3";

/// What `brokerStatus` shows.
pub(crate) type Table = BTreeMap<String, String>;

/// GET_BROKER_RUNTIME_INFO.
pub fn info(broker: &Arc<Broker>, command: &Command) -> Answer {
    let config = broker.config();
    let mut table = Table::new();
    identity(&mut table, &config, broker.started_ms, broker.started.elapsed());
    counts(&mut table, &broker.stats);
    disks(&mut table, &broker.store.log_partitions(), broker.store.queue_disk_usage().ok());
    queues(&mut table, &config);
    log(&mut table, &marks(broker));
    space(&mut table, broker);
    delays(&mut table, broker);
    for (key, value) in broker.timers.runtime(&broker.store, now_ms()) {
        put(&mut table, key, value);
    }
    if command.ext.get(client::LOG_END).is_some() {
        let line = |(topic, end): (String, i64)| format!("{end} {topic}");
        let lines: Vec<_> = broker.store.deleted_topics().into_iter().map(line).collect();
        put(&mut table, client::DELETED_TOPICS, lines.join("\n"));
    }
    Ok(command.ok_body(json::encode(&KvTable { table })))
}

fn put(table: &mut Table, key: &str, value: impl ToString) {
    table.insert(key.to_owned(), value.to_string());
}

pub(crate) fn identity(table: &mut Table, config: &BrokerConfig, started_ms: i64, up: Duration) {
    put(table, "bootTimestamp", started_ms);
    put(table, "runtime", run_time(up));
    put(table, "brokerActive", config.is_master());
    put(table, "brokerVersion", CURRENT_VERSION);
    put(table, "brokerVersionDesc", VERSION_NAME);
    put(table, "startAcceptSendRequestTimeStamp", config.start_accept_send_request_time_stamp);
}

fn run_time(up: Duration) -> String {
    let seconds = up.as_secs();
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    format!("[ {days} days, {hours} hours, {minutes} minutes, {} seconds ]", seconds % 60)
}

fn counts(table: &mut Table, stats: &Stats) {
    let times = stats.put.load(Relaxed).max(1);
    let bytes = stats.put_bytes.load(Relaxed);
    put(table, "putMessageTimesTotal", times);
    put(table, "putMessageFailedTimes", stats.put_failed.load(Relaxed));
    put(table, "putMessageSizeTotal", bytes);
    put(table, "putMessageAverageSize", format!("{:?}", bytes as f64 / times as f64));
    put(table, "putTps", stats.rates(Rate::Put));
    put(table, "getFoundTps", stats.rates(Rate::Found));
    put(table, "getMissTps", stats.rates(Rate::Missed));
    put(table, "getTotalTps", sum(&stats.rates(Rate::Found), &stats.rates(Rate::Missed)));
    put(table, "getTransferredTps", stats.rates(Rate::Transferred));
    let days = stats.days();
    for (name, values) in [("msgPutTotal", days.put), ("msgGetTotal", days.get)] {
        for (when, value) in ["YesterdayMorning", "TodayMorning", "TodayNow"].iter().zip(values) {
            put(table, &format!("{name}{when}"), value);
        }
    }
    not_measured(table);
}

/// Rates of the same three spans, added.
fn sum(left: &str, right: &str) -> String {
    let numbers = |text: &str| text.split_whitespace().filter_map(|n| n.parse::<f64>().ok()).collect::<Vec<_>>();
    let sums: Vec<_> = numbers(left).iter().zip(numbers(right)).map(|(a, b)| format!("{:?}", a + b)).collect();
    sums.join(" ")
}

/// Keys whose figures have no meaning here: there is no lock on the page cache, no pool of buffers.
fn not_measured(table: &mut Table) {
    for key in ["putMessageEntireTimeMax", "getMessageEntireTimeMax", "dispatchMaxBuffer", "pageCacheLockTimeMills"] {
        put(table, key, 0);
    }
    put(table, "putLatency99", "0.00");
    put(table, "putLatency999", "0.00");
    put(table, "putMessageDistributeTime", "null");
    put(table, "remainTransientStoreBufferNumbs", i32::MAX);
}

/// Requests do not wait in queues of their own here; capacities are what the configuration says.
fn queues(table: &mut Table, config: &BrokerConfig) {
    let capacity = |key: &str| config.other.get(key).cloned().unwrap_or_else(|| "0".into());
    for name in ["send", "pull", "litePull", "query", "ack"] {
        let key = format!("{name}ThreadPoolQueueCapacity");
        put(table, &key, capacity(&key));
        put(table, &format!("{name}ThreadPoolQueueSize"), 0);
        put(table, &format!("{name}ThreadPoolQueueHeadWaitTimeMills"), 0);
    }
    put(table, "EndTransactionQueueSize", 0);
    put(table, "EndTransactionThreadPoolQueueCapacity", capacity("endTransactionPoolQueueCapacity"));
}

fn disks(table: &mut Table, log: &[Partition], queues: Option<Usage>) {
    for partition in log {
        put(table, &format!("commitLogDiskRatio_{}", partition.dir.display()), used_ratio(partition.usage));
    }
    let least = log.iter().map(|partition| partition.usage).min_by(|a, b| ratio(*a).total_cmp(&ratio(*b)));
    put(table, "commitLogDiskRatio", used_ratio(least.flatten()));
    put(table, "consumeQueueDiskRatio", used_ratio(queues));
    if let Some(disk) = queues {
        let text = format!("Total : {}, Free : {}.", byte_count(disk.total as i64), byte_count(disk.free as i64));
        put(table, "commitLogDirCapacity", text);
    }
}

/// -1 where the path is not there, as upstream.
fn used_ratio(disk: Option<Usage>) -> String {
    format!("{:?}", ratio(disk))
}

fn ratio(disk: Option<Usage>) -> f64 {
    disk.map_or(-1.0, |disk| disk.used_ratio())
}

/// As Java's `humanReadableByteCount`.
fn byte_count(bytes: i64) -> String {
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let (mut value, mut unit) = (bytes as f64 / 1024.0, 0);
    while value >= 1024.0 && unit < 5 {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}iB", ["K", "M", "G", "T", "P", "E"][unit])
}

/// Positions in the log.
#[derive(Default)]
struct LogMarks {
    min: i64,
    max: i64,
    not_flushed: i64,
    not_dispatched: i64,
    earliest_ms: i64,
}

fn marks(broker: &Broker) -> LogMarks {
    let marks = broker.store.marks();
    let (min, max) = (broker.store.min_phys(), broker.store.max_phys());
    LogMarks {
        min,
        max,
        not_flushed: (max - marks.flushed.get()).max(0),
        not_dispatched: (max - marks.dispatched.get()).max(0),
        earliest_ms: broker.store.earliest_log_time(),
    }
}

fn log(table: &mut Table, marks: &LogMarks) {
    put(table, "commitLogMinOffset", marks.min);
    put(table, "commitLogMaxOffset", marks.max);
    put(table, "dispatchBehindBytes", marks.not_dispatched);
    put(table, "remainHowManyDataToFlush", byte_count(marks.not_flushed));
    put(table, "earliestMessageTimeStamp", marks.earliest_ms);
}

/// Own keys: why messages are refused, where they are; when they will be, where that can be foretold.
fn space(table: &mut Table, broker: &Broker) {
    if let Some(cause) = broker.store.no_space() {
        put(table, "noSpace", cause);
    }
    if let Some(hours) = crate::space::hours_until_full(broker) {
        put(table, "hoursUntilFull", format!("{hours:.1}"));
    }
}

/// Next message and end of each level that has had any, also before the first is delivered.
fn delays(table: &mut Table, broker: &Broker) {
    let known = broker.delays.snapshot().offset_table;
    for level in 1..=broker.delays.levels() as i32 {
        let end = broker.store.max_offset(topic::SCHEDULE, level - 1);
        if end > 0 || known.contains_key(&level) {
            let offset = known.get(&level).copied().unwrap_or(0);
            put(table, &format!("scheduleMessageOffset_{level}"), format!("{offset},{end}"));
        }
    }
}

/// VIEW_BROKER_STATS_DATA.
pub fn stats(broker: &Arc<Broker>, command: &Command) -> Answer {
    let header: ViewBrokerStatsDataRequestHeader = parse(command, &Needs::fields(&["statsName", "statsKey"]))?;
    let (name, key) = (&header.stats_name, &header.stats_key);
    let counted = broker.stats.counted(name, key);
    let counted = counted.ok_or_else(|| Refused::error(format!("The stats <{name}> <{key}> not exist")))?;
    let [stats_minute, stats_hour, stats_day] =
        counted.map(|counted| BrokerStatsItem { avgpt: counted.average, sum: counted.sum, tps: counted.rate });
    Ok(command.ok_body(json::encode(&BrokerStatsData { stats_day, stats_hour, stats_minute })))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As a Java broker of version 5.3.3 answered, without the levels of delay and the path in a key.
    const JAVA: &str = "EndTransactionQueueSize EndTransactionThreadPoolQueueCapacity ackThreadPoolQueueCapacity \
        ackThreadPoolQueueHeadWaitTimeMills ackThreadPoolQueueSize bootTimestamp brokerActive brokerVersion \
        brokerVersionDesc commitLogDirCapacity commitLogDiskRatio commitLogMaxOffset commitLogMinOffset \
        consumeQueueDiskRatio dispatchBehindBytes dispatchMaxBuffer earliestMessageTimeStamp getFoundTps \
        getMessageEntireTimeMax getMissTps getTotalTps getTransferredTps litePullThreadPoolQueueCapacity \
        litePullThreadPoolQueueHeadWaitTimeMills litePullThreadPoolQueueSize msgGetTotalTodayMorning msgGetTotalTodayNow \
        msgGetTotalYesterdayMorning msgPutTotalTodayMorning msgPutTotalTodayNow msgPutTotalYesterdayMorning \
        pageCacheLockTimeMills pullThreadPoolQueueCapacity pullThreadPoolQueueHeadWaitTimeMills pullThreadPoolQueueSize \
        putLatency99 putLatency999 putMessageAverageSize putMessageDistributeTime putMessageEntireTimeMax \
        putMessageFailedTimes putMessageSizeTotal putMessageTimesTotal putTps queryThreadPoolQueueCapacity \
        queryThreadPoolQueueHeadWaitTimeMills queryThreadPoolQueueSize remainHowManyDataToFlush \
        remainTransientStoreBufferNumbs runtime sendThreadPoolQueueCapacity sendThreadPoolQueueHeadWaitTimeMills \
        sendThreadPoolQueueSize startAcceptSendRequestTimeStamp";

    #[test]
    fn every_key_of_java_is_there() {
        let config = BrokerConfig { store_path_root_dir: "/".into(), ..BrokerConfig::default() };
        let mut table = Table::new();
        identity(&mut table, &config, 1, Duration::from_secs(90_061));
        counts(&mut table, &Stats::default());
        let disk = Usage { total: 4 << 30, free: 3 << 30, available: 2 << 30 };
        let fuller = Usage { free: 1 << 30, ..disk };
        let at = |dir: &str, usage| Partition { dir: dir.into(), usage: Some(usage) };
        disks(&mut table, &[at("/b", fuller), at("/a", disk)], Some(disk));
        queues(&mut table, &config);
        log(&mut table, &LogMarks::default());
        let missing: Vec<_> = JAVA.split_whitespace().filter(|key| !table.contains_key(*key)).collect();
        assert!(missing.is_empty(), "{missing:?}");
        assert_eq!(table["commitLogDiskRatio_/b"], "0.6");
        assert_eq!(table["commitLogDiskRatio"], "0.34");
        assert_eq!(table["commitLogDirCapacity"], "Total : 4.0 GiB, Free : 3.0 GiB.");
        assert_eq!(table["runtime"], "[ 1 days, 1 hours, 1 minutes, 1 seconds ]");
        assert_eq!(table["sendThreadPoolQueueCapacity"], "10000");
        for key in ["putTps", "getTransferredTps", "getTotalTps"] {
            assert!(table[key].split(' ').next().unwrap().parse::<f64>().is_ok(), "{key}");
        }
    }

    #[test]
    fn numbers_look_like_javas() {
        let shown = [0, 1023, 1024, 1536, 5 << 20, 252 << 30].map(byte_count);
        assert_eq!(shown, ["0 B", "1023 B", "1.0 KiB", "1.5 KiB", "5.0 MiB", "252.0 GiB"]);
        assert_eq!(sum("1.5 0.0 2.0", "0.5 0.0 1.0"), "2.0 0.0 3.0");
        assert_eq!(used_ratio(None), "-1.0");
    }
}

//! Topic and group names: what is allowed, what is reserved, what is derived.
//! Source: `common/.../topic/TopicValidator.java`, `MixAll.java`, `KeyBuilder.java`; reference store 29, broker 1.1.

/// Template of topics that are created on first send.
pub const AUTO_CREATE: &str = "TBW102";
/// Holds messages with a delay level; queue = level - 1.
pub const SCHEDULE: &str = "SCHEDULE_TOPIC_XXXX";
/// Half messages.
pub const TRANS_HALF: &str = "RMQ_SYS_TRANS_HALF_TOPIC";
/// Decisions on half messages.
pub const TRANS_OP_HALF: &str = "RMQ_SYS_TRANS_OP_HALF_TOPIC";
/// Half messages that were checked too often.
pub const TRANS_CHECK_MAX_TIME: &str = "TRANS_CHECK_MAX_TIME_TOPIC";
/// Messages with an arbitrary delay.
pub const TIMER: &str = "rmq_sys_wheel_timer";
/// Traces.
pub const TRACE: &str = "RMQ_SYS_TRACE_TOPIC";
/// For self tests.
pub const SELF_TEST: &str = "SELF_TEST_TOPIC";
/// For the benchmark of the official clients.
pub const BENCHMARK: &str = "BenchmarkTest";
/// Notices of moved offsets.
pub const OFFSET_MOVED: &str = "OFFSET_MOVED_EVENT";
/// Prefix of retry topics.
pub const RETRY_PREFIX: &str = "%RETRY%";
/// Prefix of dead letter topics.
pub const DLQ_PREFIX: &str = "%DLQ%";
/// Prefix of light message queues.
pub const LMQ_PREFIX: &str = "%LMQ%";
/// Queue id of every light message queue.
pub const LMQ_QUEUE_ID: i32 = 0;
/// Prefix of system topics.
pub const SYSTEM_PREFIX: &str = "rmq_sys_";
/// Every broker owns this topic; older peers ask for its route to learn the members of a group.
pub const SYNC_MEMBER_PREFIX: &str = "rmq_sys_SYNC_BROKER_MEMBER_";
/// Prefix of system consumer groups.
pub const SYSTEM_GROUP_PREFIX: &str = "CID_RMQ_SYS_";

const SYSTEM: [&str; 10] = [
    AUTO_CREATE,
    SCHEDULE,
    BENCHMARK,
    TRANS_HALF,
    TRACE,
    TRANS_OP_HALF,
    TRANS_CHECK_MAX_TIME,
    SELF_TEST,
    OFFSET_MOVED,
    "CHECKPOINT_TOPIC",
];
const NO_SEND: [&str; 6] = [SCHEDULE, TRANS_HALF, TRANS_OP_HALF, TRANS_CHECK_MAX_TIME, SELF_TEST, OFFSET_MOVED];

/// Longest topic, in characters.
pub const MAX_TOPIC: usize = 127;
/// Longest retry or dead letter topic.
pub const MAX_RETRY_TOPIC: usize = 255;
/// Longest group.
pub const MAX_GROUP: usize = 120;

/// Retry topic of a consumer group.
pub fn retry(group: &str) -> String {
    format!("{RETRY_PREFIX}{group}")
}

/// Dead letter topic of a consumer group.
pub fn dead_letter(group: &str) -> String {
    format!("{DLQ_PREFIX}{group}")
}

/// True for a retry topic.
pub fn is_retry(topic: &str) -> bool {
    topic.starts_with(RETRY_PREFIX)
}

/// True for the fixed system topics and names with the system prefix. A broker adds its own names.
pub fn is_system(topic: &str) -> bool {
    SYSTEM.contains(&topic) || topic.starts_with(SYSTEM_PREFIX)
}

/// True when clients may not send to it.
pub fn forbids_send(topic: &str) -> bool {
    NO_SEND.contains(&topic)
}

/// Checks a topic name; the error is the remark that Java answers.
pub fn validate(topic: &str) -> Result<(), String> {
    if topic.trim().is_empty() {
        return Err("The specified topic is blank.".into());
    }
    if !legal(topic) {
        return Err(format!(
            "The specified topic: {topic}, contains illegal characters, allowing only ^[%|a-zA-Z0-9_-]+$"
        ));
    }
    if is_retry(topic) || topic.starts_with(DLQ_PREFIX) {
        return match topic.len() > MAX_RETRY_TOPIC {
            true => Err(format!(
                "The specified topic is DLQ or Retry topic: {topic}, and it's longer than topic max length: {MAX_RETRY_TOPIC}"
            )),
            false => Ok(()),
        };
    }
    match topic.len() > MAX_TOPIC {
        true => Err(format!("The specified topic: {topic}, is longer than topic max length: {MAX_TOPIC}")),
        false => Ok(()),
    }
}

/// Checks a group name; the error is the remark that Java answers.
pub fn validate_group(group: &str) -> Result<(), String> {
    if group.trim().is_empty() {
        return Err("The specified group is blank.".into());
    }
    if !legal(group) {
        return Err(format!(
            "The specified group: {group}, contains illegal characters, allowing only ^[%|a-zA-Z0-9_-]+$"
        ));
    }
    match group.len() > MAX_GROUP {
        true => Err(format!("The specified group: {group}, is longer than group max length: {MAX_GROUP}")),
        false => Ok(()),
    }
}

fn legal(name: &str) -> bool {
    name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'%' | b'|' | b'-' | b'_'))
}

/// Permission bits. Source: `PermName.java`.
pub mod perm {
    /// Topics created from it take its permission.
    pub const INHERIT: i32 = 1;
    /// May be written.
    pub const WRITE: i32 = 2;
    /// May be read.
    pub const READ: i32 = 4;
    /// Reading and writing.
    pub const READ_WRITE: i32 = READ | WRITE;

    /// True when `perm` allows reading.
    pub fn readable(perm: i32) -> bool {
        perm & READ != 0
    }

    /// True when `perm` allows writing.
    pub fn writeable(perm: i32) -> bool {
        perm & WRITE != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        assert!(validate("a-B_%|9").is_ok());
        assert!(validate(" ").unwrap_err().contains("blank"));
        assert!(validate("a+b").unwrap_err().contains("illegal characters"));
        assert!(validate(&"a".repeat(128)).unwrap_err().contains("127"));
        assert!(validate(&retry(&"a".repeat(200))).is_ok());
        assert!(validate_group(&"g".repeat(121)).is_err());
        assert!(is_system("rmq_sys_x") && forbids_send(SCHEDULE) && !forbids_send("T"));
    }
}

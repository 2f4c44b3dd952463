//! The numbers of a send without which it cannot be stored. Java fails on the first that is null or unreadable.

use wire::{code::response, header::SendRequest};

use super::Refused;

/// All but the queue.
#[derive(Clone, Copy)]
pub struct Numbers {
    /// `sysFlag`.
    pub sys_flag: i32,
    /// `bornTimestamp`, milliseconds.
    pub born_timestamp: i64,
    /// `flag`, the user's.
    pub flag: i32,
}

impl Numbers {
    /// The queue that is asked for, and the others; the first that is not there is named.
    pub fn of(header: &SendRequest<'_>) -> Result<(i32, Self), Refused> {
        let missing = |name: &str| {
            let remark = format!("the custom field <{name}> of the send is null or no whole number");
            Refused::new(response::SYSTEM_ERROR, remark)
        };
        let queue_id = header.queue_id.ok_or_else(|| missing("queueId"))?;
        let sys_flag = header.sys_flag.ok_or_else(|| missing("sysFlag"))?;
        let born_timestamp = header.born_timestamp.ok_or_else(|| missing("bornTimestamp"))?;
        let flag = header.flag.ok_or_else(|| missing("flag"))?;
        Ok((queue_id, Self { sys_flag, born_timestamp, flag }))
    }
}

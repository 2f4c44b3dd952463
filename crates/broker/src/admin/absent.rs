//! Calls for parts that are not here, answered so that `mqadmin` shows what is true: flow control of cold reads, read
//! ahead of the commit log, users and access rules. Keeps nothing and changes nothing.
//! Source: `AdminBrokerProcessor.java`, `ColdDataCgCtrService.java`; reference remoting 11.10.

use std::sync::Arc;

use wire::{
    Command,
    json::{self, Json},
};

use super::{Answer, Refused};
use crate::context::Broker;

/// Thresholds of upstream, bytes in a period: they are in force nowhere, its tools want to see them.
const GROUP_THRESHOLD: i64 = 3 << 20;
const BROKER_THRESHOLD: i64 = 100 << 20;

/// GET_COLD_DATA_FLOW_CTR_INFO: no cold read is counted and no group is held back.
pub fn cold_data_info(_: &Arc<Broker>, command: &Command) -> Answer {
    let info = Json::Obj(vec![
        ("runtimeTable".into(), Json::Obj(Vec::new())),
        ("configTable".into(), Json::Obj(Vec::new())),
        ("cgColdReadThreshold".into(), Json::from(GROUP_THRESHOLD)),
        ("globalColdReadThreshold".into(), Json::from(BROKER_THRESHOLD)),
        ("globalAcc".into(), Json::from(0)),
    ]);
    Ok(command.ok_body(json::encode(&info)))
}

/// UPDATE_COLD_DATA_FLOW_CTR_CONFIG.
pub fn set_cold_data(_: &Arc<Broker>, _: &Command) -> Answer {
    Err(Refused::error("this broker does not hold back groups that read cold data; nothing was changed"))
}

/// REMOVE_COLD_DATA_FLOW_CTR_CONFIG: no group has one, as asked for.
pub fn remove_cold_data(_: &Arc<Broker>, command: &Command) -> Answer {
    Ok(command.ok())
}

/// SET_COMMITLOG_READ_MODE: 0, as the operating system sees fit, is how the log is read; 1, without read ahead, is not
/// there.
pub fn read_mode(_: &Arc<Broker>, command: &Command) -> Answer {
    match command.ext.get("READ_AHEAD_MODE") {
        Some("0") => {
            let remark = Some("set commitlog readahead mode success, mode: 0".to_owned());
            Ok(Command { remark, ..command.ok() })
        }
        Some("1") => Err(Refused::error("this broker leaves read ahead to the operating system; nothing was changed")),
        Some(_) => Err(Refused::parameter("set commitlog readahead mode param value error")),
        None => Err(Refused::error("set commitlog readahead mode param error")),
    }
}

/// Calls for users and access rules.
pub fn access(_: &Arc<Broker>, _: &Command) -> Answer {
    Err(Refused::error("this broker has no users and no access rules: authentication is not there"))
}

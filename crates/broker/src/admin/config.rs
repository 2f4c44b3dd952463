//! GET_BROKER_CONFIG and UPDATE_BROKER_CONFIG. Source: `AdminBrokerProcessor.java`, `Configuration.java`;
//! reference broker 12.4, field reports F-11 and F-39.

use std::{
    fmt::Write,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use wire::{Command, header::GetBrokerConfigResponseHeader, json};

use super::{Answer, CHANGES, Refused, config_update::Plan};
use crate::{
    config::BrokerConfig,
    context::{Broker, now_ms},
    persist, register, role,
};

/// Keys that bring a topic with them.
const TOPICS: [&str; 3] = ["autoCreateTopicEnable", "msgTraceTopicName", "traceTopicEnable"];

/// GET_BROKER_CONFIG.
pub fn get(broker: &Arc<Broker>, command: &Command) -> Answer {
    let mut text = String::new();
    for (key, value) in broker.config().entries() {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{key}={value}");
    }
    let version = json::encode(&*broker.config_version.lock());
    let header = GetBrokerConfigResponseHeader { version: String::from_utf8_lossy(&version).into_owned() };
    Ok(command.ok_body(text).with_header(&header))
}

/// UPDATE_BROKER_CONFIG: all keys of a request or none.
pub async fn update(broker: Arc<Broker>, command: Command) -> Answer {
    if command.body.is_empty() {
        return Ok(command.ok());
    }
    let text = std::str::from_utf8(&command.body).map_err(|_| Refused::error("string2Properties error"))?;
    let _one = CHANGES.lock().await;
    let current = broker.config();
    let plan = Plan::new(&current, text)?;
    tell(&plan);
    put(&broker, &current, &plan).await?;
    broker.config_version.lock().next(now_ms());
    announce(&broker, &current, &plan);
    Ok(command.ok())
}

fn tell(plan: &Plan) {
    if !plan.unknown.is_empty() {
        tracing::warn!("updateBrokerConfig: nobody knows {}; ignored", plan.unknown.join(", "));
    }
    if let Some(id) = plan.waiting_id() {
        tracing::warn!("updateBrokerConfig: brokerId={id} counts once brokerRole is SLAVE; the id of a master is 0");
    }
    let absent = plan.absent();
    if !absent.is_empty() {
        tracing::warn!("updateBrokerConfig: {} turn(s) on what is not there, it changes nothing", absent.join(", "));
    }
    if !plan.at_start.is_empty() {
        tracing::warn!("updateBrokerConfig: {} count(s) from the next start on", plan.at_start.join(", "));
    }
}

/// All is in the file before it is in force.
async fn put(broker: &Arc<Broker>, current: &BrokerConfig, plan: &Plan) -> Result<(), Refused> {
    if plan.changes_role(current) {
        let written = role::change(broker, plan.config.clone(), write(broker, plan)).await.map_err(Refused::error)?;
        return written.map_err(|Refused(code, why)| {
            Refused(code, format!("the role has changed, but only until the next start: {why}"))
        });
    }
    write(broker, plan).await?;
    broker.set_config(plan.config.clone());
    Ok(())
}

async fn write(broker: &Broker, plan: &Plan) -> Result<(), Refused> {
    let keys: Vec<_> = plan.keys.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let keys = keys.join(", ");
    let Some(file) = broker.config_file.clone() else {
        tracing::info!("configuration: {keys}; there is no configuration file, a restart forgets it");
        return Ok(());
    };
    if plan.keys.is_empty() {
        return Ok(());
    }
    let path = file.clone();
    let apply = plan.applier();
    let done = tokio::task::spawn_blocking(move || rewrite(&path, apply)).await;
    done.unwrap_or_else(|error| Err(Refused::error(error.to_string())))?;
    tracing::info!("configuration: {keys}; written to {}", file.display());
    Ok(())
}

/// Replaces the file as a whole, so that it always parses. A link stays a link, and the mode stays.
fn rewrite(file: &Path, apply: impl FnOnce(&str) -> String) -> Result<(), Refused> {
    let failed = |what: &str, error: &dyn std::fmt::Display| {
        Refused::error(format!("the configuration file {} cannot be {what}: {error}", file.display()))
    };
    let target: PathBuf = fs::canonicalize(file).map_err(|error| failed("found", &error))?;
    let text = fs::read_to_string(&target).map_err(|error| failed("read", &error))?;
    let changed = apply(&text);
    if changed != text {
        persist::save_text(&target, &changed).map_err(|error| failed("written", &error))?;
    }
    Ok(())
}

/// Lets those know who must hear of a change.
fn announce(broker: &Arc<Broker>, current: &BrokerConfig, plan: &Plan) {
    if plan.has("brokerPermission") {
        if let Err(error) = broker.topics.touch(now_ms()) {
            tracing::error!("{error}");
        }
        broker.registrar.changed();
    }
    if TOPICS.iter().any(|key| plan.has(key)) && plan.config.is_master() {
        match broker.topics.complete(&plan.config, now_ms()) {
            Ok(true) => broker.registrar.changed(),
            Ok(false) => {}
            Err(error) => tracing::error!("{error}"),
        }
    }
    if plan.config.namesrv_addr != current.namesrv_addr {
        let left = broker.registrar.set_list(&plan.config.namesrv_addr);
        let broker = broker.clone();
        tokio::spawn(async move { register::unregister(&broker, left).await });
    }
    if ["inSyncReplicas", "flushDiskType", "slaveTimeout", "slaveReadEnable"].iter().any(|key| plan.has(key)) {
        tracing::info!("{}", role::ack_meaning(broker));
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn f39_the_file_is_replaced_with_its_mode_and_its_link() {
        let dir = tempfile::tempdir().unwrap();
        let (file, link) = (dir.path().join("real.conf"), dir.path().join("broker.conf"));
        fs::write(&file, "# mine\nslaveReadEnable=false\n").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
        symlink(&file, &link).unwrap();
        let plan = Plan::new(&BrokerConfig::default(), "slaveReadEnable=true").unwrap();
        rewrite(&link, plan.applier()).unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "# mine\nslaveReadEnable=true\n");
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o640);
    }

    #[test]
    fn an_unchanged_file_is_not_written() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("broker.conf");
        fs::write(&file, "slaveReadEnable=true\n").unwrap();
        let plan = Plan::new(&BrokerConfig::default(), "slaveReadEnable=true").unwrap();
        rewrite(&file, plan.applier()).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        let missing = rewrite(&dir.path().join("none.conf"), plan.applier()).unwrap_err();
        assert!(missing.1.contains("none.conf"), "{missing:?}");
    }
}

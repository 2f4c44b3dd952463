//! Subscription groups: create, change, delete, forbid. Source: `AdminBrokerProcessor.java`,
//! `SubscriptionGroupManager.java`; reference broker 12.2.

use std::sync::Arc;

use wire::{
    Command,
    body::{GroupForbidden, SubscriptionGroupConfig, SubscriptionGroupList},
    code::response,
    header::{
        DeleteSubscriptionGroupRequestHeader, GetSubscriptionGroupConfigRequestHeader,
        UpdateGroupForbiddenRequestHeader,
    },
    json, topic,
};

use super::{Answer, Needs, Refused, body, master_only, parse};
use crate::context::{Broker, now_ms};

/// UPDATE_AND_CREATE_SUBSCRIPTIONGROUP.
pub fn update(broker: &Arc<Broker>, command: &Command) -> Answer {
    let group: SubscriptionGroupConfig = body(command)?;
    master_only(broker)?;
    apply(broker, vec![group])?;
    Ok(command.ok())
}

/// UPDATE_AND_CREATE_SUBSCRIPTIONGROUP_LIST. All or none: each is checked before the first is put.
pub fn update_list(broker: &Arc<Broker>, command: &Command) -> Answer {
    let list: SubscriptionGroupList = body(command)?;
    if list.group_config_list.is_empty() {
        return Err(Refused::parameter("groupConfigList is empty"));
    }
    master_only(broker)?;
    apply(broker, list.group_config_list)?;
    Ok(command.ok())
}

fn apply(broker: &Broker, groups: Vec<SubscriptionGroupConfig>) -> Result<(), Refused> {
    groups.iter().try_for_each(check)?;
    let names: Vec<_> = groups.iter().map(|group| group.group_name.clone()).collect();
    if broker.groups.put_all(groups, now_ms())? > 0 {
        tracing::info!("groups created or changed: {}", names.join(", "));
    }
    Ok(())
}

/// Upstream knows no attribute of groups, so that any is refused.
fn check(group: &SubscriptionGroupConfig) -> Result<(), Refused> {
    topic::validate_group(&group.group_name).map_err(Refused::parameter)?;
    match group.attributes.keys().next() {
        Some(key) => Err(Refused::error(format!("unsupported key: {}", key.trim_start_matches(['+', '-'])))),
        None => Ok(()),
    }
}

/// GET_SUBSCRIPTIONGROUP_CONFIG. As upstream, a master creates the group where it may be created by use.
pub fn get(broker: &Arc<Broker>, command: &Command) -> Answer {
    let header: GetSubscriptionGroupConfigRequestHeader = parse(command, &Needs::fields(&["group"]))?;
    let config = broker.config();
    let group = match config.is_master() {
        true => broker.groups.get_or_create(&header.group, config.creates_group(&header.group), now_ms()),
        false => broker.groups.get(&header.group),
    };
    let missing = || Refused::new(response::SUBSCRIPTION_GROUP_NOT_EXIST, "No group in this broker");
    Ok(command.ok_body(json::encode(&*group.ok_or_else(missing)?)))
}

/// DELETE_SUBSCRIPTIONGROUP; a group that is not there is no error.
pub fn delete(broker: &Arc<Broker>, command: &Command) -> Answer {
    let header: DeleteSubscriptionGroupRequestHeader = parse(command, &Needs::fields(&["groupName"]))?;
    master_only(broker)?;
    let group = &header.group_name;
    broker.stats.forget_group(group);
    if broker.groups.remove(group, now_ms())? {
        tracing::info!("group {group} is deleted{}", if header.clean_offset { " with its progress" } else { "" });
    }
    if header.clean_offset {
        // Commits that were on their way when it went are in the table by then, later ones find no group.
        let _alone = broker.topics.alone();
        broker.offsets.remove_group(group, now_ms());
    }
    Ok(command.ok())
}

/// UPDATE_AND_GET_GROUP_FORBIDDEN: without `readable` it only asks.
pub fn forbidden(broker: &Arc<Broker>, command: &Command) -> Answer {
    let header: UpdateGroupForbiddenRequestHeader = parse(command, &Needs::fields(&["group", "topic"]))?;
    if header.readable.is_some() {
        master_only(broker)?;
    }
    let readable = broker.groups.set_readable(&header.group, &header.topic, header.readable, now_ms())?;
    let answer = GroupForbidden { group: header.group, readable: Some(readable), topic: header.topic };
    Ok(command.ok_body(json::encode(&answer)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_attributes_are_checked() {
        let group =
            |name: &str| SubscriptionGroupConfig { group_name: name.into(), ..SubscriptionGroupConfig::default() };
        assert!(check(&group("G")).is_ok());
        assert_eq!(check(&group("")).unwrap_err(), Refused::parameter("The specified group is blank."));
        let mut with = group("G");
        with.attributes.insert("+a".into(), "1".into());
        assert_eq!(check(&with).unwrap_err(), Refused::error("unsupported key: a"));
    }
}

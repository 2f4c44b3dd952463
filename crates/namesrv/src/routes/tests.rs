//! Every rule of the tables, by the section of the reference that holds it.

use wire::{
    body::{DataVersion, QueueData, TopicConfig, TopicRouteData},
    json::{self, Json},
    topic::perm,
};

use super::*;

const C: &str = "c1";
const G: &str = "broker-a";

fn topic(name: &str) -> TopicConfig {
    TopicConfig { topic_name: name.into(), read_queue_nums: 8, write_queue_nums: 8, ..Default::default() }
}

fn version(counter: i64) -> DataVersion {
    DataVersion { counter, state_version: 0, timestamp: 1 }
}

/// A full registration of a 5.x broker at `addr` with topics T1 and T2.
fn broker(id: i64, addr: &str) -> Registration {
    Registration {
        cluster: C.into(),
        broker: G.into(),
        broker_id: id,
        addr: addr.into(),
        ha_addr: format!("{addr}-ha"),
        acting_master: Some(false),
        version: version(1),
        topics: vec![topic("T1"), topic("T2")],
        filter_servers: Some(Vec::new()),
        connection: 1,
        ..Default::default()
    }
}

fn acting(id: i64, addr: &str) -> Registration {
    Registration { acting_master: Some(true), heartbeat_timeout_ms: Some(10_000), ..broker(id, addr) }
}

fn tables(registrations: &[Registration]) -> Routes {
    let mut routes = Routes::new();
    for new in registrations {
        routes.register(new, 0).unwrap();
    }
    routes
}

fn departure(addr: &str) -> Departure {
    Departure { member: Member::new(C, addr), broker: G.into() }
}

fn addrs(routes: &Routes) -> Vec<(i64, String)> {
    routes.members(C, G).into_iter().collect()
}

fn at(pairs: &[(i64, &str)]) -> Vec<(i64, String)> {
    pairs.iter().map(|(id, addr)| (*id, (*addr).to_owned())).collect()
}

fn permission(routes: &Routes, topic: &str) -> i32 {
    routes.route(topic, false).unwrap().queue_datas[0].perm
}

fn master_of(registered: &Registered) -> Option<(&str, &str)> {
    match registered {
        Registered::Accepted { master, .. } => master.as_ref().map(|(addr, ha)| (addr.as_str(), ha.as_str())),
        Registered::Outranked { .. } => None,
    }
}

fn notice_of(registered: Registered) -> Option<Notice> {
    match registered {
        Registered::Accepted { notice, .. } => notice,
        Registered::Outranked { .. } => None,
    }
}

// 1.5: registration

#[test]
fn a_slave_is_told_its_living_master_and_a_master_nothing() {
    let mut routes = Routes::new();
    let master = routes.register(&broker(0, "m"), 0).unwrap();
    assert!(matches!(master, Registered::Accepted { is_new: true, master: None, .. }));
    let again = routes.register(&broker(0, "m"), 0).unwrap();
    assert!(matches!(again, Registered::Accepted { is_new: false, .. }));
    let slave = routes.register(&broker(1, "s"), 0).unwrap();
    assert_eq!(master_of(&slave), Some(("m", "m-ha")));
    routes.unregister(&[departure("m")]);
    let alone = routes.register(&broker(1, "s"), 0).unwrap();
    assert_eq!(master_of(&alone), None);
}

#[test]
fn a_first_registration_with_one_topic_is_refused_and_leaves_nothing() {
    let mut routes = Routes::new();
    let one = Registration { topics: vec![topic("T1")], ..broker(0, "m") };
    let rejection = routes.register(&one, 0).unwrap_err();
    assert_eq!((&rejection, rejection.to_string().as_str()), (&Rejection::OneTopicBeforeAll, "register broker failed"));
    assert_eq!(routes.cluster_info(), Default::default());
    routes.register(&broker(0, "m"), 0).unwrap();
    routes.register(&Registration { topics: vec![topic("T3")], version: version(2), ..broker(0, "m") }, 0).unwrap();
    assert!(routes.route("T3", false).is_some() && routes.route("T1", false).is_some());
}

#[test]
fn a_refused_change_keeps_the_old_id_of_its_sender() {
    let mut routes = tables(&[broker(1, "s")]);
    let one = Registration { topics: vec![topic("T1")], ..broker(0, "s") };
    assert!(routes.register(&one, 0).is_err());
    assert_eq!(addrs(&routes), at(&[(1, "s")]));
}

#[test]
fn a_slave_that_becomes_master_in_place_keeps_one_entry() {
    let mut routes = tables(&[broker(0, "m"), broker(1, "s")]);
    routes.unregister(&[departure("m")]);
    assert!(routes.route("T1", false).unwrap().broker_datas[0].broker_addrs.contains_key(&1));
    routes.register(&broker(0, "s"), 0).unwrap();
    assert_eq!(addrs(&routes), at(&[(0, "s")]));
}

#[test]
fn a_living_holder_of_an_id_with_a_greater_state_version_stays() {
    let in_state = |state_version, addr| Registration {
        version: DataVersion { state_version, ..version(1) },
        topics: vec![topic("T1"), topic(addr)],
        ..broker(0, addr)
    };
    let mut routes = tables(&[in_state(5, "new-master")]);
    routes.register(&broker(2, "old-master"), 0).unwrap();
    let answer = routes.register(&in_state(4, "old-master"), 0).unwrap();
    assert_eq!(answer, Registered::Outranked { by: "new-master".into() });
    assert_eq!(addrs(&routes), at(&[(0, "new-master")]));
    assert_eq!(routes.version_of(&Member::new(C, "old-master")), None);
    assert!(routes.route("old-master", false).is_none());
    // An equal state is not greater: without a controller the newcomer has the id.
    let answer = routes.register(&in_state(5, "third"), 0).unwrap();
    let Registered::Accepted { replaced, .. } = answer else { panic!("{answer:?}") };
    assert_eq!((replaced.as_deref(), addrs(&routes)), (Some("new-master"), at(&[(0, "third")])));
}

#[test]
fn a_dead_holder_of_an_id_is_replaced_whatever_its_state_version() {
    let old = Registration { version: DataVersion { state_version: 9, ..version(1) }, ..broker(0, "old") };
    let mut routes = tables(&[old]);
    routes.live.clear();
    routes.register(&broker(0, "new"), 0).unwrap();
    assert_eq!(addrs(&routes), at(&[(0, "new")]));
}

#[test]
fn topics_change_only_with_the_data_version() {
    let mut routes = tables(&[broker(0, "m")]);
    let mut changed = broker(0, "m");
    changed.topics[0].write_queue_nums = 3;
    routes.register(&changed, 0).unwrap();
    assert_eq!(routes.route("T1", false).unwrap().queue_datas[0].write_queue_nums, 8);
    changed.version = version(2);
    routes.register(&changed, 0).unwrap();
    assert_eq!(routes.route("T1", false).unwrap().queue_datas[0].write_queue_nums, 3);
}

#[test]
fn a_slave_beside_its_master_brings_no_topics() {
    let slave = Registration { topics: vec![topic("S1"), topic("S2")], ..broker(1, "s") };
    let routes = tables(&[broker(0, "m"), slave]);
    assert!(routes.route("S1", false).is_none());
    assert_eq!(addrs(&routes), at(&[(0, "m"), (1, "s")]));
}

#[test]
fn the_smallest_slave_brings_topics_unless_it_is_too_old() {
    let routes = tables(&[broker(2, "s2")]);
    assert_eq!(permission(&routes, "T1"), perm::READ_WRITE);
    let routes = tables(&[acting(2, "s2")]);
    assert_eq!(permission(&routes, "T1"), perm::READ);
    let routes = tables(&[Registration { acting_master: None, ..broker(2, "s2") }]);
    assert!(routes.route("T1", false).is_none());
}

#[test]
fn unlisted_topics_go_when_that_is_wanted_and_nothing_is_static() {
    let first = Registration { topics: vec![topic("T1"), topic("T2"), topic("T3")], ..broker(0, "m") };
    let mut routes = tables(&[first]);
    let mut less = Registration { version: version(2), delete_unlisted: true, ..broker(0, "m") };
    less.mappings.insert("S".into(), Json::parse(br#"{"bname":"broker-a"}"#).unwrap());
    routes.register(&less, 0).unwrap();
    assert!(routes.route("T3", false).is_some());
    less.mappings.clear();
    routes.register(&less, 0).unwrap();
    assert!(routes.route("T3", false).is_none() && routes.route("T1", false).is_some());
}

#[test]
fn static_topics_come_with_the_route_and_go_with_the_topic() {
    let text = r#"{"bname":"broker-a","currIdMap":{0:0},"topic":"T1","totalQueues":8}"#;
    let mut new = broker(0, "m");
    new.mappings.insert("T1".into(), Json::parse(text.as_bytes()).unwrap());
    let mut routes = tables(std::slice::from_ref(&new));
    let mapping = |routes: &Routes| routes.route("T1", false).unwrap().topic_queue_mapping_by_broker;
    assert_eq!(mapping(&routes).unwrap()[G].to_text(), text);
    routes.delete_topic("T1", None);
    assert!(routes.mappings.is_empty());
    routes.register(&new, 0).unwrap();
    assert!(mapping(&routes).is_some(), "the broker brings it back although its version is the same");
}

#[test]
fn filter_servers_are_kept_by_broker_address() {
    let with = |servers: &[&str]| Registration {
        filter_servers: Some(servers.iter().map(|s| (*s).to_owned()).collect()),
        ..broker(0, "m")
    };
    let mut routes = tables(&[with(&["f1"])]);
    assert_eq!(routes.route("T1", false).unwrap().filter_server_table["m"], ["f1"]);
    routes.register(&Registration { filter_servers: None, ..broker(0, "m") }, 0).unwrap();
    assert_eq!(routes.filter_servers.len(), 1);
    routes.register(&with(&[]), 0).unwrap();
    assert!(routes.route("T1", false).unwrap().filter_server_table.is_empty());
}

#[test]
fn f08_a_second_cluster_with_the_broker_name_is_refused() {
    let mut routes = tables(&[broker(0, ":10911")]);
    for newcomer in [broker(1, ":10921"), broker(0, ":10931")] {
        let newcomer = Registration { cluster: "c2".into(), ..newcomer };
        let text = routes.register(&newcomer, 0).unwrap_err().to_string();
        assert!(["broker-a", "c1", "c2"].iter().all(|name| text.contains(name)), "{text}");
    }
    assert!(routes.members("c2", G).is_empty(), "a slave of c2 gets no address of c1");
    routes.unregister(&[Departure { member: Member::new("c2", ":10911"), broker: G.into() }]);
    assert_eq!(addrs(&routes), at(&[(0, ":10911")]));
    routes.unregister(&[departure(":10911")]);
    routes.register(&Registration { cluster: "c2".into(), ..broker(0, ":10931") }, 0).unwrap();
}

// 1.6: heartbeats and expiry

#[test]
fn a_silent_broker_goes_after_the_time_it_gave() {
    let mut routes = tables(&[broker(0, "m"), acting(1, "s")]);
    assert_eq!(routes.expire(10_000), Expired::default());
    let expired = routes.expire(10_001);
    assert_eq!(expired.members, [(Member::new(C, "s"), 10_000)]);
    assert_eq!(expired.connections, [] as [u64; 0], "the master has the same connection");
    assert_eq!(addrs(&routes), at(&[(0, "m")]));
    routes.heartbeat(&Member::new(C, "m"), 50_000);
    assert_eq!(routes.expire(170_000), Expired::default());
    assert_eq!(routes.expire(170_001).connections, [1]);
    assert!(routes.route("T1", false).is_none());
}

#[test]
fn f13_a_frozen_master_that_announced_10_s_is_out_within_15_s() {
    let mut routes = tables(&[acting(0, "m"), acting(1, "s")]);
    let scans = (0..=15_000).step_by(5000);
    for now_ms in scans {
        routes.heartbeat(&Member::new(C, "s"), now_ms);
        routes.expire(now_ms);
    }
    assert_eq!(addrs(&routes), at(&[(1, "s")]));
    routes.register(&acting(0, "m"), 16_000).unwrap();
    assert_eq!(addrs(&routes), at(&[(0, "m"), (1, "s")]));
}

#[test]
fn a_heartbeat_makes_nobody_known() {
    let mut routes = Routes::new();
    let stranger = Member::new(C, "x");
    routes.heartbeat(&stranger, 1);
    assert_eq!(routes.version_of(&stranger), None);
    assert!(routes.is_changed(&stranger, &version(1)));
}

#[test]
fn all_brokers_of_a_connection_go_with_it() {
    let other = Registration { broker: "broker-b".into(), ..broker(0, "b") };
    let elsewhere = Registration { broker: "broker-c".into(), connection: 2, ..broker(0, "c") };
    let mut routes = tables(&[broker(0, "m"), other, elsewhere]);
    let (mut members, _) = routes.disconnect(1);
    members.sort();
    assert_eq!(members, [Member::new(C, "b"), Member::new(C, "m")]);
    let left = routes.route("T1", false).unwrap();
    assert_eq!((left.broker_datas.len(), left.broker_datas[0].broker_name.as_str()), (1, "broker-c"));
}

#[test]
fn an_old_connection_takes_nobody_along_that_registered_anew() {
    let mut routes = tables(&[broker(0, "m"), Registration { connection: 2, ..broker(0, "m") }]);
    assert_eq!(routes.disconnect(1), (Vec::new(), Vec::new()));
    assert_eq!(addrs(&routes), at(&[(0, "m")]));
}

#[test]
fn a_displaced_address_is_forgotten_and_harms_nobody() {
    let mut routes = tables(&[broker(0, "old"), Registration { connection: 2, ..broker(0, "new") }]);
    assert_eq!(routes.expire(130_000).members.len(), 2);
    assert!(routes.live.is_empty(), "Java keeps the displaced one for ever");
}

// 1.7: unregistration

#[test]
fn the_last_member_takes_group_cluster_and_topics_along() {
    let mut routes = tables(&[broker(0, "m"), broker(1, "s")]);
    routes.unregister(&[departure("m"), departure("s")]);
    assert_eq!(routes.cluster_info(), Default::default());
    assert!(routes.all_topics().topic_list.is_empty() && routes.live.is_empty());
}

#[test]
fn topics_lose_the_write_bit_with_the_master_where_slaves_act() {
    let mut routes = tables(&[acting(0, "m"), acting(1, "s1"), acting(2, "s2")]);
    routes.unregister(&[departure("s2")]);
    assert_eq!(permission(&routes, "T1"), perm::READ_WRITE);
    routes.unregister(&[departure("m")]);
    assert_eq!(permission(&routes, "T1"), perm::READ);
    let mut routes = tables(&[broker(0, "m"), broker(1, "s1")]);
    routes.unregister(&[departure("m")]);
    assert_eq!(permission(&routes, "T1"), perm::READ_WRITE);
}

#[test]
fn a_batch_touches_each_group_once() {
    let b = |id, addr: &str| Registration { broker: "broker-b".into(), ..acting(id, addr) };
    let mut routes = tables(&[acting(0, "m"), acting(1, "s"), b(0, "bm"), b(1, "bs"), b(2, "bs2")]);
    let of_b = |addr: &str| Departure { member: Member::new(C, addr), broker: "broker-b".into() };
    let stranger = Departure { member: Member::new(C, "x"), broker: "broker-x".into() };
    let notices = routes.unregister(&[departure("m"), of_b("bm"), departure("s"), of_b("bs"), stranger]);
    assert_eq!(notices.len(), 1);
    assert_eq!((notices[0].header.min_broker_id, &notices[0].recipients), (Some(2), &vec!["bs2".to_owned()]));
    let route = routes.route("T1", false).unwrap();
    assert_eq!((route.queue_datas.len(), route.queue_datas[0].perm), (1, perm::READ));
}

#[test]
fn an_address_counts_not_the_id_that_is_sent() {
    let mut routes = tables(&[acting(0, "m"), acting(1, "s")]);
    assert_eq!(routes.unregister(&[departure("s")]), []);
    assert_eq!(addrs(&routes), at(&[(0, "m")]));
}

// 1.8: notices

#[test]
fn a_smaller_id_is_told_to_the_others() {
    let mut routes = tables(&[acting(1, "s1"), acting(2, "s2")]);
    let notice = notice_of(routes.register(&acting(0, "m"), 0).unwrap()).unwrap();
    assert_eq!(notice.recipients, ["s1", "s2"]);
    let header = NotifyMinBrokerIdChangeRequestHeader {
        min_broker_id: Some(0),
        min_broker_addr: Some("m".into()),
        ha_broker_addr: Some("m-ha".into()),
        ..Default::default()
    };
    assert_eq!(notice.header, header);
    assert_eq!(notice_of(routes.register(&acting(0, "m"), 0).unwrap()), None);
    assert_eq!(notice_of(routes.register(&acting(3, "s3"), 0).unwrap()), None);
}

#[test]
fn the_only_member_is_told_of_itself_and_the_first_of_nothing() {
    let mut routes = Routes::new();
    assert_eq!(notice_of(routes.register(&acting(1, "s"), 0).unwrap()), None);
    let notice = notice_of(routes.register(&acting(0, "s"), 0).unwrap()).unwrap();
    assert_eq!((notice.header.min_broker_id, notice.recipients), (Some(0), vec!["s".to_owned()]));
}

#[test]
fn the_loss_of_the_smallest_id_is_told_to_all_where_slaves_act() {
    let mut routes = tables(&[acting(0, "m"), acting(1, "s1"), acting(2, "s2")]);
    let expected = Notice {
        recipients: vec!["s1".into(), "s2".into()],
        header: NotifyMinBrokerIdChangeRequestHeader {
            min_broker_id: Some(1),
            min_broker_addr: Some("s1".into()),
            offline_broker_addr: Some("m".into()),
            ..Default::default()
        },
    };
    assert_eq!(routes.unregister(&[departure("m")]), [expected]);
    let mut routes = tables(&[broker(0, "m"), broker(1, "s1")]);
    assert_eq!(routes.unregister(&[departure("m")]), []);
}

// 1.9, 1.10: routes

fn text(route: &TopicRouteData) -> String {
    String::from_utf8(json::encode(route).to_vec()).unwrap()
}

#[test]
fn the_smallest_slave_is_shown_as_master_where_the_topic_is_not_writeable() {
    let sync = "rmq_sys_SYNC_BROKER_MEMBER_broker-a";
    let with_sync = Registration { topics: vec![topic("T1"), topic(sync)], ..acting(0, "m") };
    let mut routes = tables(&[with_sync, acting(1, "s1"), acting(2, "s2")]);
    let ids = |routes: &Routes, topic, wanted| -> Vec<i64> {
        routes.route(topic, wanted).unwrap().broker_datas[0].broker_addrs.keys().copied().collect()
    };
    assert_eq!(ids(&routes, "T1", true), [0, 1, 2]);
    routes.unregister(&[departure("m")]);
    assert_eq!(ids(&routes, "T1", true), [0, 2]);
    assert_eq!(ids(&routes, "T1", false), [1, 2]);
    assert_eq!(ids(&routes, sync, true), [1, 2]);
    assert_eq!(addrs(&routes), at(&[(1, "s1"), (2, "s2")]), "the tables stay as they are");
    routes.add_write_permission(G);
    assert_eq!(ids(&routes, "T1", true), [1, 2]);
    let mut plain = tables(&[broker(0, "m"), broker(1, "s1")]);
    plain.unregister(&[departure("m")]);
    plain.wipe_write_permission(G);
    assert_eq!(ids(&plain, "T1", true), [1]);
}

#[test]
fn a_topic_without_a_known_broker_has_no_route() {
    let mut routes = tables(&[broker(0, "m")]);
    assert!(routes.route("T9", false).is_none());
    routes.groups.clear();
    assert!(routes.route("T1", false).is_none());
}

#[test]
fn groups_come_in_the_order_of_a_java_hash_map() {
    // As a Java name server answered for these names.
    let java = ["broker-b", "zone1-broker", "broker-a", "packed", "ancient", "raft-0"];
    let mut all: Vec<Registration> =
        java.iter().map(|name| Registration { broker: (*name).into(), ..broker(0, name) }).collect();
    all.sort_by(|left, right| left.broker.cmp(&right.broker));
    let route = tables(&all).route("T1", false).unwrap();
    assert_eq!(route.queue_datas.iter().map(|queues| queues.broker_name.as_str()).collect::<Vec<_>>(), java);
    assert_eq!(route.broker_datas.iter().map(|group| group.broker_name.as_str()).collect::<Vec<_>>(), java);
}

#[test]
fn a_zone_keeps_its_own_and_groups_without_master() {
    let in_zone = |name: &str, id, zone: Option<&str>| Registration {
        broker: name.into(),
        zone: zone.map(str::to_owned),
        filter_servers: Some(vec!["f".into()]),
        ..broker(id, name)
    };
    let routes = tables(&[
        in_zone("mine", 0, Some("East")),
        in_zone("foreign", 0, Some("west")),
        in_zone("nowhere", 0, None),
        in_zone("orphan", 1, Some("west")),
    ]);
    let mut route = routes.route("T1", false).unwrap();
    keep_zone(&mut route, "eAST");
    let mut kept: Vec<&str> = route.queue_datas.iter().map(|queues| queues.broker_name.as_str()).collect();
    kept.sort_unstable();
    assert_eq!(kept, ["mine", "orphan"]);
    assert_eq!(route.broker_datas.len(), 2);
    assert_eq!(route.filter_server_table.keys().collect::<Vec<_>>(), ["mine", "orphan"]);
}

#[test]
fn f26_ids_of_a_pair_are_bare_in_the_old_form_and_quoted_in_the_new() {
    let mut routes = tables(&[broker(0, "10.0.0.1:10911"), broker(1, "10.0.0.2:10911")]);
    routes.delete_topic("T2", None);
    let route = routes.route("T1", false).unwrap();
    let rest = r#","brokerName":"broker-a","cluster":"c1","enableActingMaster":false}],"filterServerTable":{},"queueDatas":[{"brokerName":"broker-a","perm":6,"readQueueNums":8,"topicSysFlag":0,"writeQueueNums":8}]}"#;
    let old = r#"{"brokerDatas":[{"brokerAddrs":{0:"10.0.0.1:10911",1:"10.0.0.2:10911"}"#;
    let new = r#"{"brokerDatas":[{"brokerAddrs":{"0":"10.0.0.1:10911","1":"10.0.0.2:10911"}"#;
    assert_eq!(text(&route), format!("{old}{rest}"));
    assert_eq!(json::encode_standard(&route), format!("{new}{rest}"));
}

// 1.12, 1.13: topics and permissions

#[test]
fn a_deleted_topic_comes_back_with_the_next_registration() {
    let other = Registration { cluster: "c2".into(), broker: "broker-b".into(), ..broker(0, "b") };
    let mut routes = tables(&[broker(0, "m"), other]);
    routes.delete_topic("T1", Some("unknown"));
    assert_eq!(routes.route("T1", false).unwrap().queue_datas.len(), 2);
    routes.delete_topic("T1", Some("c2"));
    assert_eq!(routes.route("T1", false).unwrap().queue_datas.len(), 1);
    routes.delete_topic("T1", Some(C));
    assert!(routes.route("T1", false).is_none());
    routes.register(&broker(0, "m"), 0).unwrap();
    assert!(routes.route("T1", false).is_some());
}

#[test]
fn single_topics_are_taken_up_to_an_unknown_broker() {
    let entry = |broker: &str, perm| QueueData { broker_name: broker.into(), perm, ..Default::default() };
    let mut routes = tables(&[broker(0, "m")]);
    assert_eq!(routes.register_topic("T3", &[entry(G, 4)]), Ok(()));
    assert_eq!(permission(&routes, "T3"), 4);
    assert_eq!(routes.register_topic("T3", &[entry(G, 2), entry("x", 6), entry(G, 1)]), Err("x".into()));
    assert_eq!(permission(&routes, "T3"), 2);
    assert_eq!(routes.register_topic("T4", &[entry(G, 2), entry("x", 6)]), Err("x".into()));
    assert_eq!(routes.register_topic("T5", &[]), Ok(()));
    assert!(routes.route("T4", false).is_none() && routes.route("T5", false).is_none());
}

#[test]
fn write_permission_is_wiped_until_a_topic_changes() {
    let mut routes = tables(&[broker(0, "m")]);
    assert_eq!((routes.wipe_write_permission(G), routes.wipe_write_permission("x")), (2, 0));
    routes.register(&broker(0, "m"), 0).unwrap();
    assert_eq!(permission(&routes, "T1"), perm::READ);
    assert_eq!(routes.add_write_permission(G), 2);
    assert_eq!(permission(&routes, "T1"), perm::READ_WRITE);
    routes.wipe_write_permission(G);
    routes.register(&Registration { version: version(2), ..broker(0, "m") }, 0).unwrap();
    assert_eq!(permission(&routes, "T1"), perm::READ_WRITE);
}

#[test]
fn lists() {
    let mut new = broker(0, "m");
    for (flag, name) in [(0, "plain"), (1, "unit"), (2, "sub"), (3, "both")] {
        new.topics.push(TopicConfig { topic_sys_flag: flag, ..topic(name) });
    }
    let routes = tables(&[new]);
    let names = |list: wire::body::TopicList| list.topic_list.into_iter().collect::<Vec<_>>();
    assert_eq!(names(routes.all_topics()), ["T1", "T2", "both", "plain", "sub", "unit"]);
    assert_eq!(names(routes.unit_topics()), ["both", "unit"]);
    assert_eq!(names(routes.unit_sub_topics()), ["both", "sub"]);
    assert_eq!(names(routes.unit_sub_topics_outside_units()), ["sub"]);
    assert_eq!(names(routes.topics_of_cluster(C)).len(), 6);
    assert!(names(routes.topics_of_cluster("c9")).is_empty());
    let system = routes.system_topics();
    assert_eq!(system.broker_addr.as_deref(), Some("m"));
    assert_eq!(names(system), [G, C]);
}

//! QUERY_ASSIGNMENT: the queues of a topic are shared out by the broker, as a client that leaves it to the broker sees.

mod common;

use std::sync::{Arc, Mutex};

use common::{LIMIT, Node, api, name_server, relay::Between, topic};
use wire::{
    Command,
    body::{
        ConsumerData, HeartbeatData, MessageModel, MessageRequestMode, QueryAssignmentRequestBody,
        QueryAssignmentResponseBody, SetMessageRequestModeRequestBody, SubscriptionData,
    },
    code::{request, response},
    json,
};

/// A consumer of group G on a connection of its own.
async fn consumer(node: &Node, client_id: &str) -> client::BrokerApi {
    let api = api();
    let subscription = SubscriptionData { topic: "T".into(), sub_version: 1, ..SubscriptionData::default() };
    let data = ConsumerData {
        group_name: "G".into(),
        message_model: MessageModel::Clustering,
        subscription_data_set: vec![subscription],
        ..ConsumerData::default()
    };
    let beat = HeartbeatData { client_id: client_id.into(), consumer_data_set: vec![data], ..HeartbeatData::default() };
    api.heartbeat(&node.addr, &beat).await.unwrap();
    api
}

fn question(client_id: &str, strategy: &str) -> QueryAssignmentRequestBody {
    QueryAssignmentRequestBody {
        client_id: client_id.into(),
        consumer_group: "G".into(),
        topic: "T".into(),
        strategy_name: Some(strategy.into()),
        message_model: MessageModel::Clustering,
    }
}

async fn ask(node: &Node, question: &QueryAssignmentRequestBody) -> Command {
    let command = Command::request(request::QUERY_ASSIGNMENT).with_body(json::encode(question));
    api().ask(&node.addr, command, common::LIMIT).await.unwrap()
}

/// Queue ids of an answer; `None` when the client shall keep what it has.
async fn queues(node: &Node, question: &QueryAssignmentRequestBody) -> Option<Vec<i32>> {
    let answer = ask(node, question).await;
    assert_eq!(answer.code, response::SUCCESS, "{:?}", answer.remark);
    let body: QueryAssignmentResponseBody = json::decode(&answer.body).unwrap();
    let list = body.message_queue_assignments?;
    assert!(list.iter().all(|one| one.mode == MessageRequestMode::Pull));
    Some(list.into_iter().map(|one| one.message_queue.unwrap().queue_id).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_broker_shares_the_queues_of_a_topic_among_the_clients_of_a_group() {
    let dir = tempfile::tempdir().unwrap();
    let (name_server, namesrv_addr) = name_server(&dir).await;
    let mut node = Node::start(&dir, "b", &[("namesrvAddr", &namesrv_addr)]).await;
    topic(&api(), &node.addr, "T", 5).await;
    common::until("the name server knows the topic", || async { api().query_route(&namesrv_addr, "T").await.is_ok() })
        .await;
    assert_eq!(queues(&node, &question("c1", "AVG")).await, None, "no such group yet");
    let first = consumer(&node, "c1").await;
    assert_eq!(queues(&node, &question("c1", "AVG")).await, Some(vec![0, 1, 2, 3, 4]));
    let _second = consumer(&node, "c2").await;
    let _again = consumer(&node, "c2").await;
    assert_eq!(queues(&node, &question("c1", "AVG")).await, Some(vec![0, 1, 2]));
    assert_eq!(queues(&node, &question("c2", "AVG")).await, Some(vec![3, 4]));
    assert_eq!(queues(&node, &question("c2", "AVG_BY_CIRCLE")).await, Some(vec![1, 3]));
    assert_eq!(queues(&node, &question("stranger", "AVG")).await, Some(vec![]));
    assert_eq!(queues(&node, &question("c1", "BY_MOON")).await, None);
    let broadcast = QueryAssignmentRequestBody { message_model: MessageModel::Broadcasting, ..question("c1", "AVG") };
    assert_eq!(queues(&node, &broadcast).await, Some(vec![0, 1, 2, 3, 4]));
    let unknown = QueryAssignmentRequestBody { topic: "U".into(), ..question("c1", "AVG") };
    assert_eq!(queues(&node, &unknown).await, None);
    first.update_config(&node.addr, "serverLoadBalancerEnable=false").await.unwrap();
    assert_eq!(queues(&node, &question("c2", "AVG")).await, Some(vec![0, 1, 2, 3, 4]));
    first
        .update_config(&node.addr, "serverLoadBalancerEnable=true\nloadBalancePollNameServerInterval=1")
        .await
        .unwrap();
    name_server.shutdown().await;
    for _ in 0..3 {
        assert_eq!(queues(&node, &question("c2", "AVG")).await, Some(vec![3, 4]), "what is known stays known");
    }
    node.stop().await;
}

/// A client that connected anew is there twice until its old connection is known to be gone. Clients share out queues by the place
/// of their id in this list: of an id that is in it twice, the second share would be read by nobody.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_on_two_connections_is_one_client() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = Node::start(&dir, "b", &[]).await;
    let _connections = [consumer(&node, "c2").await, consumer(&node, "c1").await, consumer(&node, "c2").await];
    assert_eq!(api().consumer_ids(&node.addr, "G").await.unwrap(), ["c1", "c2"]);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_in_pop_mode_is_told_that_there_is_no_pop() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = Node::start(&dir, "b", &[]).await;
    topic(&api(), &node.addr, "T", 1).await;
    let mode = SetMessageRequestModeRequestBody {
        consumer_group: "G".into(),
        topic: "T".into(),
        mode: MessageRequestMode::Pop,
        pop_share_queue_num: 0,
    };
    let set = Command::request(request::SET_MESSAGE_REQUEST_MODE).with_body(json::encode(&mode));
    api().call(&node.addr, set, common::LIMIT).await.unwrap();
    let answer = ask(&node, &question("c", "AVG")).await;
    assert_eq!(answer.code, response::REQUEST_CODE_NOT_SUPPORTED);
    assert!(answer.remark.unwrap().contains("POP mode"));
    let garbage = Command::request(request::QUERY_ASSIGNMENT).with_body("{".as_bytes().to_vec());
    assert_eq!(api().ask(&node.addr, garbage, common::LIMIT).await.unwrap().code, response::SYSTEM_ERROR);
    node.stop().await;
}

/// Nothing bounds how many of these a client sends.
#[tokio::test(flavor = "multi_thread")]
async fn no_name_server_is_asked_for_who_wants_no_answer() {
    let dir = tempfile::tempdir().unwrap();
    let (name_server, namesrv_addr) = name_server(&dir).await;
    let asked = Arc::new(Mutex::new(Vec::new()));
    let noted = asked.clone();
    let between = Between::start(&api(), &namesrv_addr, move |_, command| {
        if command.code == request::GET_ROUTEINFO_BY_TOPIC {
            noted.lock().unwrap().push(command.ext.get("topic").unwrap().to_owned());
        }
        Some(command)
    })
    .await;
    let mut node = Node::start(&dir, "b", &[("namesrvAddr", &between.addr())]).await;
    let api = api();
    let of = |topic: &str| {
        let question = QueryAssignmentRequestBody { topic: topic.into(), ..question("c1", "AVG") };
        Command::request(request::QUERY_ASSIGNMENT).with_body(json::encode(&question))
    };
    for _ in 0..20 {
        api.client().oneway(&node.addr, of("U"), LIMIT).await.unwrap();
    }
    api.ask(&node.addr, of("V"), LIMIT).await.unwrap();
    assert_eq!(*asked.lock().unwrap(), ["V"]);
    node.stop().await;
    between.stop().await;
    name_server.shutdown().await;
}

//! What `mqadmin` is told of parts that this broker does not have.

mod common;

use common::{Node, api};
use wire::{
    Command,
    code::{request, response},
};

#[tokio::test(flavor = "multi_thread")]
async fn parts_that_are_not_there_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = Node::start(&dir, "b", &[]).await;
    let api = api();
    let ask = async |command: Command| api.ask(&node.addr, command, common::LIMIT).await.unwrap();
    let info = ask(Command::request(request::GET_COLD_DATA_FLOW_CTR_INFO)).await;
    let text = String::from_utf8(info.body.to_vec()).unwrap();
    assert_eq!(info.code, response::SUCCESS);
    for part in ["\"globalAcc\":0", "\"cgColdReadThreshold\":3145728", "\"globalColdReadThreshold\":104857600"] {
        assert!(text.contains(part), "{text}");
    }
    assert!(text.contains("\"configTable\":{}") && text.contains("\"runtimeTable\":{}"), "{text}");
    let group = |code| Command::request(code).with_body("G=1".as_bytes().to_vec());
    assert_eq!(ask(group(request::UPDATE_COLD_DATA_FLOW_CTR_CONFIG)).await.code, response::SYSTEM_ERROR);
    assert_eq!(ask(group(request::REMOVE_COLD_DATA_FLOW_CTR_CONFIG)).await.code, response::SUCCESS);
    for (mode, code) in [("0", response::SUCCESS), ("1", response::SYSTEM_ERROR), ("7", response::INVALID_PARAMETER)] {
        let mut command = Command::request(request::SET_COMMITLOG_READ_MODE);
        command.ext.push("READ_AHEAD_MODE", mode);
        assert_eq!(ask(command).await.code, code, "mode {mode}");
    }
    for code in request::AUTH_CREATE_USER..=request::AUTH_LIST_ACL {
        let answer = ask(Command::request(code)).await;
        assert_eq!(answer.code, response::SYSTEM_ERROR);
        assert!(answer.remark.unwrap().contains("no users"), "{code}");
    }
    node.stop().await;
}

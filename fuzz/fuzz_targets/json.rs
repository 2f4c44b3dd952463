//! Bodies: read leniently, written as Java writes them, read again to the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wire::{body, json, json::Json};

fuzz_target!(|data: &[u8]| {
    if let Ok(tree) = Json::parse(data) {
        let text = tree.to_text();
        let again = Json::parse(text.as_bytes()).expect("our own text");
        assert_eq!(again.to_text(), text);
    }
    let _ = json::decode::<body::HeartbeatData>(data);
    let _ = json::decode::<body::RegisterBrokerBody>(data);
    let _ = json::decode::<body::TopicRouteData>(data);
    let _ = json::decode::<body::ConsumerOffsetSerializeWrapper>(data);
    let _ = json::decode::<body::LockBatchRequestBody>(data);
});

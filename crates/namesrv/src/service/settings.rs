//! Requests about settings: the key-value table and the configuration. Reference namesrv 1.2, 1.4, 1.11.

use std::{path::Path, sync::Arc};

use remoting::Connection;
use wire::{
    Command,
    body::KvTable,
    code::response,
    header::{
        DeleteKVConfigRequestHeader, GetKVConfigRequestHeader, GetKVConfigResponseHeader,
        GetKVListByNamespaceRequestHeader, PutKVConfigRequestHeader,
    },
    json, properties,
};

use super::{Answer, NameService};
use crate::{
    config::UpdateError,
    files,
    kv::KvError,
    request::{Refusal, require},
};

/// Keys that only a start reads.
const AT_START: [&str; 3] = ["bindAddress", "listenPort", "serverChannelMaxIdleTimeSeconds"];

impl NameService {
    /// 100. Blocks on the disk.
    pub(super) fn put_kv(&self, request: &Command) -> Answer {
        let PutKVConfigRequestHeader { namespace, key, value } = request.header();
        let (Some(namespace), Some(key)) = (namespace, key) else {
            return Err(Refusal::system("namespace or key is null"));
        };
        require(request, &["value"])?;
        self.kv.put(&namespace, &key, &value.unwrap_or_default()).map_err(unwritten)?;
        tracing::info!("key {key} of namespace {namespace} is set");
        Ok(request.ok())
    }

    /// 101.
    pub(super) fn get_kv(&self, request: &Command) -> Answer {
        require(request, &["namespace", "key"])?;
        let GetKVConfigRequestHeader { namespace, key } = request.header();
        match self.kv.get(&namespace, &key) {
            Some(value) => Ok(request.ok().with_header(&GetKVConfigResponseHeader { value: Some(value) })),
            None => Err(Refusal::new(
                response::QUERY_NOT_FOUND,
                format!("No config item, Namespace: {namespace} Key: {key}"),
            )),
        }
    }

    /// 102. Blocks on the disk.
    pub(super) fn delete_kv(&self, request: &Command) -> Answer {
        require(request, &["namespace", "key"])?;
        let DeleteKVConfigRequestHeader { namespace, key } = request.header();
        self.kv.delete(&namespace, &key).map_err(unwritten)?;
        tracing::info!("key {key} of namespace {namespace} is deleted");
        Ok(request.ok())
    }

    /// 219.
    pub(super) fn get_kv_namespace(&self, request: &Command) -> Answer {
        require(request, &["namespace"])?;
        let GetKVListByNamespaceRequestHeader { namespace } = request.header();
        match self.kv.namespace(&namespace) {
            Some(table) => Ok(request.ok_body(json::encode(&KvTable { table }))),
            None => Err(Refusal::new(response::QUERY_NOT_FOUND, format!("No config item, Namespace: {namespace}"))),
        }
    }

    /// 318: first to the file, then to the live configuration. Blocks on the disk. Java writes all keys to the file, in its own
    /// order: an operator's file keeps its comments and what is not asked for (F-39).
    pub(super) fn update_config(&self, conn: &Connection, request: &Command) -> Answer {
        if request.body.is_empty() {
            return Ok(request.ok());
        }
        let text = std::str::from_utf8(&request.body).map_err(|_| Refusal::system("the body is not UTF-8"))?;
        let _writer = self.config_writer.lock();
        let updated = self.config().updated(text).map_err(not_updated)?;
        let path = Path::new(&updated.config_store_path);
        let keys = properties::parse(text);
        let set = |file: String, (key, value): &(String, String)| properties::set(&file, key, value.trim());
        files::edit(path, |file| keys.iter().fold(file.to_owned(), set))
            .map_err(|error| Refusal::system(format!("cannot change {}: {error}", path.display())))?;
        let is_asked = |key: &&str| keys.iter().any(|(asked, _)| asked == key);
        for key in updated.unknown_keys().filter(is_asked) {
            tracing::warn!("configuration key {key} is not known");
        }
        for key in AT_START.into_iter().filter(|key| is_asked(key)) {
            tracing::warn!("configuration key {key} counts from the next start on");
        }
        tracing::info!("{} updated the configuration: {}", conn.display_peer(), text.trim());
        *self.config.write() = Arc::new(updated);
        Ok(request.ok())
    }

    /// 319.
    pub(super) fn get_config(&self, request: &Command) -> Answer {
        Ok(request.ok_body(self.config().to_text()))
    }
}

fn not_updated(error: UpdateError) -> Refusal {
    match error {
        UpdateError::Blacklisted => Refusal::new(response::NO_PERMISSION, error.to_string()),
        UpdateError::Config(_) => Refusal::system(error.to_string()),
    }
}

fn unwritten(error: KvError) -> Refusal {
    tracing::error!("{error}");
    Refusal::system(error.to_string())
}

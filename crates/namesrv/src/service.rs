//! The remoting service of a name server: one handler for each request code.
//! Source: `namesrv/.../processor/DefaultRequestProcessor.java`, `ClientRequestProcessor.java`; reference namesrv 1.4.
//!
//! A handler reads its request, asks or changes the tables under their lock, and answers. None waits for a peer, and
//! those that write a file run on a thread of their own kind.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use parking_lot::{Mutex, RwLock};
use remoting::{Connection, Leaving, NOT_TAKEN, Requests, Server, Service};
use tokio::sync::Semaphore;
use wire::{
    Command,
    code::{request as code, response},
};

use crate::{
    config::NamesrvConfig,
    kv::KvStore,
    notify::Notifier,
    request::Refusal,
    routes::{Notice, Routes},
};

mod broker;
mod settings;
mod topic;

/// Changes of files that may wait for the disk at a time; more are answered SYSTEM_BUSY.
const MAX_WRITES: usize = 64;

type Answer = Result<Command, Refusal>;

/// State and handlers of a name server.
pub struct NameService {
    routes: RwLock<Routes>,
    kv: KvStore,
    config: RwLock<Arc<NamesrvConfig>>,
    /// Held by the one who changes the configuration.
    config_writer: Mutex<()>,
    notifier: Notifier,
    /// Connections over which a broker registered.
    connections: Mutex<HashMap<u64, Arc<Connection>>>,
    writes: Arc<Semaphore>,
    started: Instant,
    is_stopping: AtomicBool,
    /// Who is sent away (`enableShutdownGracefully`).
    leaving: Leaving,
}

impl NameService {
    /// Empty tables.
    pub fn new(config: NamesrvConfig, kv: KvStore, notifier: Notifier) -> Self {
        Self {
            routes: RwLock::default(),
            kv,
            config: RwLock::new(Arc::new(config)),
            config_writer: Mutex::default(),
            notifier,
            connections: Mutex::default(),
            writes: Arc::new(Semaphore::new(MAX_WRITES)),
            started: Instant::now(),
            is_stopping: AtomicBool::new(false),
            leaving: Leaving::default(),
        }
    }

    /// The configuration as it is now.
    pub fn config(&self) -> Arc<NamesrvConfig> {
        self.config.read().clone()
    }

    /// Milliseconds since the start, by the monotonic clock.
    pub fn now_ms(&self) -> u64 {
        self.started.elapsed().as_millis() as u64
    }

    /// Takes out the brokers that were silent for too long and closes their connections.
    pub fn expire(&self) {
        let expired = self.routes.write().expire(self.now_ms());
        for (member, limit_ms) in &expired.members {
            let (addr, cluster) = (&member.addr, &member.cluster);
            tracing::warn!(
                "broker {addr} of cluster {cluster} was silent for more than {limit_ms} ms, it is taken out"
            );
        }
        self.tell(expired.notices);
        let connections = self.connections.lock();
        for connection in expired.connections.iter().filter_map(|id| connections.get(id)) {
            connection.close("no heartbeat");
        }
    }

    /// From now on closing connections say nothing of their brokers.
    pub fn stop(&self) {
        self.is_stopping.store(true, Ordering::Relaxed);
    }

    /// From now on whoever is connected to `server` and understands it is sent away, others are served as ever.
    pub fn leave(&self, server: &Server) {
        self.leaving.begin([server]);
    }

    fn tell(&self, notices: impl IntoIterator<Item = Notice>) {
        if self.config().notify_min_broker_id_changed {
            notices.into_iter().for_each(|notice| self.notifier.tell(notice));
        }
    }

    fn handle(&self, conn: &Arc<Connection>, request: &Command) -> Answer {
        match request.code {
            code::PUT_KV_CONFIG => self.put_kv(request),
            code::GET_KV_CONFIG => self.get_kv(request),
            code::DELETE_KV_CONFIG => self.delete_kv(request),
            code::REGISTER_BROKER => self.register_broker(conn, request),
            code::UNREGISTER_BROKER => self.unregister_broker(request),
            code::GET_ROUTEINFO_BY_TOPIC => self.route(request),
            code::GET_BROKER_CLUSTER_INFO => self.cluster_info(request),
            code::WIPE_WRITE_PERM_OF_BROKER => self.wipe_write_permission(conn, request),
            code::GET_ALL_TOPIC_LIST_FROM_NAMESERVER => self.all_topics(request),
            code::DELETE_TOPIC_IN_NAMESRV => self.delete_topic(conn, request),
            code::REGISTER_TOPIC_IN_NAMESRV => self.register_topic(request),
            code::GET_KVLIST_BY_NAMESPACE => self.get_kv_namespace(request),
            code::GET_TOPICS_BY_CLUSTER => self.topics_of_cluster(request),
            code::GET_SYSTEM_TOPIC_LIST_FROM_NS => self.system_topics(request),
            code::GET_UNIT_TOPIC_LIST => self.listed(request, Routes::unit_topics),
            code::GET_HAS_UNIT_SUB_TOPIC_LIST => self.listed(request, Routes::unit_sub_topics),
            code::GET_HAS_UNIT_SUB_UNUNIT_TOPIC_LIST => self.listed(request, Routes::unit_sub_topics_outside_units),
            code::UPDATE_NAMESRV_CONFIG => self.update_config(conn, request),
            code::GET_NAMESRV_CONFIG => self.get_config(request),
            code::QUERY_DATA_VERSION => self.query_data_version(request),
            code::ADD_WRITE_PERM_OF_BROKER => self.add_write_permission(conn, request),
            code::GET_BROKER_MEMBER_GROUP => self.member_group(request),
            code::BROKER_HEARTBEAT => self.heartbeat(request),
            other => {
                Err(Refusal::new(response::REQUEST_CODE_NOT_SUPPORTED, format!(" request type {other} not supported")))
            }
        }
    }

    fn serve(&self, conn: &Arc<Connection>, request: &Command) {
        let answer = self.handle(conn, request);
        if !request.is_oneway() {
            let answer = answer.unwrap_or_else(|refusal| request.error(refusal.code, refusal.remark));
            conn.reply_or_short(answer, || request.error(response::SYSTEM_BUSY, NOT_TAKEN));
        }
    }
}

/// The service as connections see it.
pub struct Shared(pub Arc<NameService>);

impl Shared {
    fn serve_aside(&self, conn: &Arc<Connection>, request: Command) {
        let Ok(permit) = self.0.writes.clone().try_acquire_owned() else {
            if !request.is_oneway() {
                conn.reply(request.error(response::SYSTEM_BUSY, "too many changes are waiting for the disk"));
            }
            return;
        };
        let (service, conn) = (self.0.clone(), conn.clone());
        tokio::task::spawn_blocking(move || {
            let _permit = permit;
            service.serve(&conn, &request);
        });
    }
}

impl Service for Shared {
    fn on_requests(&self, conn: &Arc<Connection>, requests: &mut Requests<'_>) {
        let is_leaving = self.0.leaving.concerns(conn);
        for request in requests {
            if let Some(answer) = request.go_away().filter(|_| is_leaving) {
                conn.reply(answer);
                continue;
            }
            match writes_a_file(request.code) {
                true => self.serve_aside(conn, request),
                false => self.0.serve(conn, &request),
            }
        }
    }

    fn on_close(&self, conn: &Arc<Connection>) {
        let was_broker = self.0.connections.lock().remove(&conn.id()).is_some();
        if !was_broker || self.0.is_stopping.load(Ordering::Relaxed) {
            return;
        }
        let (members, notices) = self.0.routes.write().disconnect(conn.id());
        for member in members {
            let why = conn.close_reason().unwrap_or("closed by peer");
            tracing::warn!("broker {} of cluster {} lost its connection ({why})", member.addr, member.cluster);
        }
        self.0.tell(notices);
    }
}

fn writes_a_file(request_code: i32) -> bool {
    matches!(request_code, code::PUT_KV_CONFIG | code::DELETE_KV_CONFIG | code::UPDATE_NAMESRV_CONFIG)
}

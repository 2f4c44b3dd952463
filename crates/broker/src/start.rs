//! Start and stop of a broker, in the order that loses nothing. Reference broker 14.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Weak, atomic::Ordering},
    time::Duration,
};

use remoting::{ClientConfig, ClientTls, Server, ServerConfig, ServerTls, TlsError};
use store::{Directory, Disk, LogDirs, RealDisk, Store, StoreConfig, StoreError};
use tokio::task::JoinHandle;
use wire::address;

use crate::{
    clock::StoreClock,
    config::{BrokerConfig, ConfigError, FlushDiskType},
    context::{Broker, Parts},
    descriptors,
    groups::Groups,
    ha::{self, master::Port, seams::Seams},
    leaving,
    offsets::Offsets,
    persist::{self, PersistError},
    register::{self, Registrar},
    request_mode::RequestModes,
    schedule::{self, DelayOffsets},
    service::Front,
    starting::Starting,
    tasks,
    timer::{self, Timers},
    topics::{self, Topics},
};

/// Why a broker does not start. Each text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A key or a value.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A file under `config/`.
    #[error(transparent)]
    Persist(#[from] PersistError),
    /// A file of TLS.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The store directory.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A port.
    #[error("cannot listen on {addr} ({key}): {source}; free the port or set another {key}")]
    Listen {
        /// Address.
        addr: String,
        /// The key that sets it.
        key: &'static str,
        /// Cause.
        source: std::io::Error,
    },
    /// A thread.
    #[error(
        "cannot start the thread {name}: {source}; allow more threads (`ulimit -u`, `TasksMax` of the service, `pids.max` of the container)"
    )]
    Thread {
        /// What it is for.
        name: &'static str,
        /// Cause.
        source: std::io::Error,
    },
}

/// A broker that serves.
pub struct RunningBroker {
    /// Its state.
    pub broker: Arc<Broker>,
    servers: Vec<Server>,
    ha: ha::master::Listener,
    threads: tasks::Threads,
    /// Looks after renewed certificates.
    tls_watch: JoinHandle<()>,
}

impl RunningBroker {
    /// [`RunningBroker::serve`] and [`RunningBroker::join`].
    pub async fn start(config: BrokerConfig, config_file: Option<PathBuf>) -> Result<Self, StartError> {
        Self::start_on(config, config_file, Arc::new(RealDisk)).await
    }

    /// The same with the store on another disk.
    pub async fn start_on(
        config: BrokerConfig,
        config_file: Option<PathBuf>,
        disk: Arc<dyn Disk>,
    ) -> Result<Self, StartError> {
        let running = Self::serve_on(config, config_file, disk).await?;
        running.join().await;
        Ok(running)
    }

    /// Listens, loads, recovers, serves. Call within a tokio runtime. A recovery goes on when the future is dropped: whoever
    /// drops it ends the process, and the next start goes on from what this one has proven. What it returns has taken
    /// messages, perhaps, and wants to be shut down.
    pub async fn serve(config: BrokerConfig, config_file: Option<PathBuf>) -> Result<Self, StartError> {
        Self::serve_on(config, config_file, Arc::new(RealDisk)).await
    }

    async fn serve_on(
        mut config: BrokerConfig,
        config_file: Option<PathBuf>,
        disk: Arc<dyn Disk>,
    ) -> Result<Self, StartError> {
        config.finish()?;
        config.tls.read_file()?.iter().for_each(|warning| tracing::warn!("{warning}"));
        let tls = ServerTls::new(&config.tls)?;
        let loading = Loading::begin(config, config_file, disk)?;
        let ha_port = Port::take(&loading.config).await.map_err(|source| no_ha_port(&loading.config, source))?;
        let starting = Arc::new(Starting::new(loading.config.clone(), loading.directory.progress()));
        let servers = listen(&starting, &loading.config, &tls).await?;
        let up = bring_up(loading, ha_port).await;
        let (threads, broker, ha) = match up.and_then(|(broker, ha)| Ok((tasks::start(&broker)?, broker, ha))) {
            Ok(up) => up,
            Err(error) => {
                close(&servers, Duration::ZERO).await;
                return Err(error);
            }
        };
        starting.serve(&broker);
        let tls_watch = tokio::spawn(tls.watch());
        Ok(Self { broker, servers, ha, threads, tls_watch })
    }

    /// Registers, which takes up to 3 s where no name server answers, and begins what a member of a group does by itself. May
    /// be dropped, for a shutdown.
    pub fn join(&self) -> impl Future<Output = ()> + Send + use<> {
        let broker = self.broker.clone();
        async move {
            // A slave asks its master what that has before it follows: with `haMasterAddress` only a name server tells whom.
            register::start(&broker).await;
            ha::slave::start(&broker);
            tasks::start_async(&broker);
        }
    }

    /// What an acknowledgement means here, in one line.
    pub fn ack_meaning(&self) -> String {
        crate::role::ack_meaning(&self.broker)
    }

    /// Stops in the order that loses nothing: with `enableShutdownGracefully` sends clients away first; leaves the name servers, answers what is held, closes the listeners,
    /// writes progress, closes the store. An error has been logged: the store failed, and the next start recovers it.
    pub async fn shutdown(self) -> Result<(), StoreError> {
        let Self { broker, servers, ha, threads, tls_watch } = self;
        tls_watch.abort();
        if broker.config().enable_shutdown_gracefully {
            leaving::leave(&broker, &servers).await;
        }
        broker.stopping.store(true, Ordering::Release);
        broker.dispatch_soon();
        register::unregister_all(&broker).await;
        broker.holds.wake_all(&broker);
        close(&servers, Duration::from_secs(3)).await;
        broker.deserted.store(true, Ordering::Release);
        ha.shutdown().await;
        broker.replicas.end_following().await;
        let closed = tokio::task::spawn_blocking(move || {
            threads.join();
            // What progress says is delivered must not be lost by a power loss after it is written.
            if broker.store.flush().is_ok()
                && let Err(error) = schedule::finish(&broker)
            {
                tracing::error!("delay progress is not saved: {error}");
            }
            tasks::save_all(&broker);
            timer::close(&broker);
            broker.store.close()
        });
        let closed = closed.await.unwrap_or_else(|panicked| std::panic::resume_unwind(panicked.into_panic()));
        match &closed {
            Ok(()) => tracing::info!("the store is closed, every message is on disk"),
            Err(error) => tracing::error!("the store did not close cleanly, the next start recovers it: {error}"),
        }
        closed
    }
}

/// A broker whose directory is taken and whose store is not yet opened.
pub(crate) struct Loading {
    config: BrokerConfig,
    config_file: Option<PathBuf>,
    disk: Arc<dyn Disk>,
    store_config: StoreConfig,
    directory: Directory,
}

impl Loading {
    /// The directory's lock comes first: nothing of another process's store is touched, and who starts a broker twice
    /// hears of the store, not of a port.
    pub(crate) fn begin(
        config: BrokerConfig,
        config_file: Option<PathBuf>,
        disk: Arc<dyn Disk>,
    ) -> Result<Self, StartError> {
        let store_config = checked_store_config(&config)?;
        let directory = Directory::lock(&store_config, &*disk)?;
        Ok(Self { config, config_file, disk, store_config, directory })
    }

    /// Everything but listeners, threads and tasks. Takes as long as the recovery of the store does.
    pub(crate) fn load(self) -> Result<Arc<Broker>, StartError> {
        let Self { config, config_file, disk, mut store_config, directory } = self;
        let root = store_config.root.clone();
        let clean = !root.join("abort").exists();
        let clock = Arc::new(StoreClock::default());
        // What can be refused is read first: not after an hour of recovery.
        let dir = root.join("config");
        std::fs::create_dir_all(&dir).map_err(|source| PersistError::Io { path: dir.clone(), source })?;
        let missing = missing_tables(&dir);
        let topics = Arc::new(Topics::load(&config, dir.join("topics.json"))?);
        let groups = Groups::load(dir.join("subscriptionGroup.json"), config.enable_lmq)?;
        let offsets = Offsets::load(&dir, config.enable_lmq, config.consumer_offset_update_version_step)?;
        let delays = DelayOffsets::load(
            dir.join("delayOffset.json"),
            config.delay_levels_ms()?,
            config.delay_offset_update_version_step,
        )?;
        let request_modes = RequestModes::load(dir.join("messageRequestMode.json"))?;
        let seams = Seams::load(dir.join("uncompared.json"))?;
        let registrar = Registrar::new(&config);
        let tls = ClientTls::new(&config.tls)?;
        let client = remoting::Client::new(ClientConfig { tls, ..ClientConfig::default() }, None);
        let api = client::BrokerApi::new(Arc::new(client));
        let table = topics.clone();
        store_config.batch_queue_topics =
            Some(Arc::new(move |name| table.get(name).is_some_and(|topic| topics::has_batch_queues(&topic))));
        let store = Store::open_locked(store_config, disk, clock.clone(), directory)?;
        // A slave takes them from its master.
        if config.is_master() && store.max_phys() > 0 && !missing.is_empty() {
            tracing::warn!(
                "the log has messages, but {} has no {}: this broker begins without. Consumers without progress skip \
                 messages or get all again; where there is a copy, stop this broker and put it there",
                dir.display(),
                missing.join(", ")
            );
        }
        let timers = Timers::open(&store, &config, &dir, clean)?;
        let parts = Parts {
            config,
            config_file,
            store,
            topics,
            groups,
            offsets,
            delays,
            request_modes,
            timers,
            seams,
            registrar,
            api,
            clock,
        };
        Ok(Arc::new(Broker::new(parts)))
    }
}

/// Tables that a broker writes in its first seconds, and that are not there: only the log was copied, or they are lost.
fn missing_tables(dir: &Path) -> Vec<&'static str> {
    let is_missing = |name: &str| persist::is_missing(&dir.join(name));
    // `enableLmq` may have changed: one file of progress is enough.
    let no_progress = is_missing("consumerOffset.json") && is_missing("lmqConsumerOffset.json");
    let tables = [("topics.json", is_missing("topics.json")), ("consumerOffset.json", no_progress)];
    tables.into_iter().filter_map(|(name, missing)| missing.then_some(name)).collect()
}

/// Loads on a thread of its own, so that the listeners answer meanwhile, and puts the broker into its role.
async fn bring_up(loading: Loading, ha_port: Port) -> Result<(Arc<Broker>, ha::master::Listener), StartError> {
    let loaded = tokio::task::spawn_blocking(|| loading.load()).await;
    let broker = loaded.unwrap_or_else(|failed| std::panic::resume_unwind(failed.into_panic()))?;
    listen_to_arrivals(&broker);
    broker.dispatch();
    let config = broker.config();
    broker.store.set_slave(!config.is_master());
    match config.is_master() {
        true => crate::role::prepare_master(&broker),
        false => schedule::follow(&broker),
    }
    let ha = ha_port.listen(&broker).map_err(|source| no_ha_port(&config, source))?;
    Ok((broker, ha))
}

/// What a broker of this configuration opens its store with, and its timer could be opened too as far as the configuration goes.
///
/// # Errors
/// Sizes, paths, delay levels that are none.
pub fn checked_store_config(config: &BrokerConfig) -> Result<StoreConfig, StartError> {
    let store_config = store_config(config, Path::new(&config.store_path_root_dir))?;
    store_config.check()?;
    timer::timer_config(config).map_or(Ok(()), |timer| timer.check())?;
    Ok(store_config)
}

/// What a broker of this configuration opens its store with, but for the topics that have batch queues.
///
/// # Errors
/// Delay levels that are none.
pub fn store_config(config: &BrokerConfig, root: &Path) -> Result<StoreConfig, StartError> {
    let log_dirs = LogDirs::parse(&config.store_path_commit_log, &config.read_only_commit_log_store_paths);
    let log_dirs = log_dirs.map_err(ConfigError::Conflict)?;
    Ok(StoreConfig {
        root: root.to_path_buf(),
        commit_log_dirs: log_dirs.map(|dirs| dirs.full_above(config.space_limits().forcible())),
        segment_size: config.mapped_file_size_commit_log,
        queue_segment_size: config.mapped_file_size_consume_queue,
        index_enabled: config.message_index_enable,
        sync_flush: config.flush_disk_type == FlushDiskType::SyncFlush,
        delay_levels_ms: config.delay_levels_ms()?,
        max_message_size: config.max_message_size.max(0) as u64,
        index_tags: true,
        local_time: crate::clock::local_time,
        max_hash_slots: u32::try_from(config.max_hash_slot_num).unwrap_or(u32::MAX),
        max_index: u32::try_from(config.max_index_num).unwrap_or(u32::MAX),
        max_transfer_bytes_in_memory: config.max_transfer_bytes_on_message_in_memory.max(1) as u64,
        max_transfer_count_in_memory: config.max_transfer_count_on_message_in_memory.max(1) as u32,
        max_transfer_bytes_on_disk: config.max_transfer_bytes_on_message_in_disk.max(1) as u64,
        max_transfer_count_on_disk: config.max_transfer_count_on_message_in_disk.max(1) as u32,
        total_memory: crate::memory::total(),
        access_message_in_memory_max_ratio: config.access_message_in_memory_max_ratio.clamp(0, 100) as u32,
        max_filter_message_size: config.max_filter_message_size.max(20) as u64,
        offset_check_in_slave: config.offset_check_in_slave,
        batch_queue_segment_size: config.mapper_file_size_batch_consume_queue,
        queue_ext: config.enable_consume_queue_ext,
        queue_ext_segment_size: config.mapped_file_size_consume_queue_ext,
        append_prop_crc: config.enabled_append_prop_crc,
        force_verify_prop_crc: config.force_verify_prop_crc,
        enable_lmq: config.enable_lmq,
        enable_multi_dispatch: config.enable_multi_dispatch,
        queues_doubled_in_rocksdb: config.is_on("rocksdbCQDoubleWriteEnable"),
        max_open_queue_files: descriptors::shares().queue_files,
        max_query_count: config.max_msgs_num_batch.max(1) as u32,
        ..StoreConfig::default()
    })
}

/// The store tells of new messages; it must not keep the broker alive.
fn listen_to_arrivals(broker: &Arc<Broker>) {
    let weak: Weak<Broker> = Arc::downgrade(broker);
    broker.store.set_arrival_listener(Box::new(move |arrivals| {
        if let Some(broker) = weak.upgrade() {
            broker.holds.arrived(&broker, arrivals);
        }
    }));
}

async fn listen(starting: &Arc<Starting>, config: &BrokerConfig, tls: &ServerTls) -> Result<Vec<Server>, StartError> {
    let mut servers = Vec::new();
    let shares = descriptors::shares();
    for (port, fast) in [(config.listen_port, false), (config.fast_port(), true)] {
        let addr = address::join(config.bind_host(), port);
        let front = Front { starting: starting.clone(), fast };
        let server_config = ServerConfig {
            idle_timeout: Duration::from_secs(config.server_channel_max_idle_time_seconds),
            tls: tls.clone(),
            max_connections: if fast { shares.fast_connections } else { shares.connections },
            ..ServerConfig::default()
        };
        let server = Server::bind(&addr, server_config, Arc::new(front)).await;
        let key = if fast { "listenPort, less 2: the fast port" } else { "listenPort" };
        servers.push(server.map_err(|source| StartError::Listen { addr, key, source })?);
    }
    Ok(servers)
}

async fn close(servers: &[Server], grace: Duration) {
    for server in servers {
        server.shutdown(grace).await;
    }
}

fn no_ha_port(config: &BrokerConfig, source: std::io::Error) -> StartError {
    let addr = address::join(config.bind_host(), config.ha_listen_port);
    StartError::Listen { addr, key: "haListenPort", source }
}

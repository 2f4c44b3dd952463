//! Certificates that are renewed while the server runs. Source: `FileWatchService.java` (every 500 ms, by content; a
//! file that is gone for the moment changes nothing).

use std::{
    collections::hash_map::DefaultHasher,
    hash::{Hash, Hasher},
    sync::Arc,
    time::Duration,
};

use parking_lot::RwLock;
use rustls::ServerConfig;
use tokio::{task::spawn_blocking, time::sleep};
use tracing::{info, warn};

use super::{TlsSettings, server_config};

const INTERVAL: Duration = Duration::from_millis(500);

/// Key and certificate are two files, and a renewal writes one after the other: Java waits until both have changed.
/// Here every change is tried, and a pair that does not match is told only when it stays so for this many looks.
const PATIENCE: u32 = 10;

pub(super) async fn watch(settings: &Arc<TlsSettings>, current: &RwLock<Arc<ServerConfig>>) {
    let mut seen = look(settings).await;
    let mut failed = 0;
    loop {
        sleep(INTERVAL).await;
        let now = look(settings).await;
        if now == seen && failed == 0 {
            continue;
        }
        failed = if now == seen { failed } else { 0 };
        seen = now;
        match load(settings).await {
            Ok(config) => {
                *current.write() = config;
                failed = 0;
                info!("the TLS certificate, key or trust has changed; new connections use what is in the files now");
            }
            Err(why) => {
                failed += 1;
                if failed == PATIENCE {
                    warn!("the changed TLS files cannot be used, the last good ones stay in force: {why}");
                }
                // Said once; the next change is tried again.
                failed %= PATIENCE;
            }
        }
    }
}

/// Contents of the files, as hashes; a file that is not there has none.
async fn look(settings: &Arc<TlsSettings>) -> Vec<Option<u64>> {
    let settings = settings.clone();
    let paths = move || {
        let paths = [&settings.server_cert_path, &settings.server_key_path, &settings.server_trust_cert_path];
        paths.map(|path| std::fs::read(path).ok().map(|bytes| hash(&bytes))).to_vec()
    };
    spawn_blocking(paths).await.unwrap_or_default()
}

fn hash(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    hasher.finish()
}

async fn load(settings: &Arc<TlsSettings>) -> Result<Arc<ServerConfig>, String> {
    let settings = settings.clone();
    match spawn_blocking(move || server_config(&settings)).await {
        Ok(loaded) => loaded.map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    }
}

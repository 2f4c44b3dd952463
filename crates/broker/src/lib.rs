//! The broker: request families, topics, groups, progress, delay levels, registration, metadata sync, roles.
//!
//! One file per request family, each reading top-down as parse, check, act, respond. A request code leads through
//! [`service`] to its file. What the families share is in [`context`]. The broker knows no byte of the log's format
//! (`wire`, `store`), decides nothing of the replication protocol (`replica`), and prints nothing.

pub mod admin;
mod ahead;
pub mod assignment;
pub mod clients;
pub mod clock;
pub mod config;
pub mod consumer_offset;
pub mod context;
pub mod deletion;
pub mod descriptors;
pub mod filter;
pub mod groups;
pub mod ha;
pub mod heartbeat;
pub mod hold;
pub mod leaving;
pub mod lock;
pub mod locks;
pub mod memory;
pub mod needs;
pub mod offsets;
pub mod persist;
pub mod pull;
pub mod put_off;
pub mod query;
pub mod recall;
pub mod register;
pub mod reply;
pub mod request_mode;
pub mod role;
pub mod schedule;
pub mod send;
pub mod send_back;
pub mod service;
pub mod space;
pub mod start;
pub mod starting;
pub mod stats;
pub mod sync;
pub mod table;
mod tasks;
pub mod timer;
mod told;
pub mod topics;

pub use config::BrokerConfig;
pub use start::{RunningBroker, StartError, store_config};
pub use tasks::STORE_FAILED;

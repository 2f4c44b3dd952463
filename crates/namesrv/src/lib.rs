//! A RocketMQ name server: brokers say where they are and which topics they have, clients ask for routes.
//!
//! The rules are in [`routes`], pure tables without I/O; the service around them is the thin part that knows request codes. All
//! state but the key-value file is in memory, and name servers never talk to each other: every broker registers with
//! all of them.

pub mod config;
mod files;
pub mod kv;
mod notify;
mod registration;
mod request;
pub mod routes;
mod server;
mod service;

pub use config::{ConfigError, NamesrvConfig};
pub use server::{NameServer, StartError};

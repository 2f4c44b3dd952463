//! What a broker, the command line, the tests and the bench need to call others: typed requests to brokers and name
//! servers, a small producer and a raw puller.
//!
//! It answers no request, keeps no state of a broker and holds no consumer progress. Every call has a time limit, and
//! every error names the address and the request.

pub mod api;
mod error;
mod name_servers;
mod producer;
mod puller;
mod registration;

pub use api::{BrokerApi, DELETED_TOPICS, LOG_END, LockedQueues, Pulled, Sent};
pub use error::ClientError;
pub use name_servers::NameServers;
pub use producer::{OutgoingMessage, Producer, encode_batch};
pub use puller::Puller;
pub use registration::{Registered, Registration};

//! The formats that RocketMQ peers exchange: remoting frames, request and response headers, JSON bodies, the message
//! record, properties and message ids.
//!
//! This crate does no I/O, knows no clock and knows no broker: bytes in, values out, and back. It is as lenient as
//! Java in what it reads and byte for byte like Java in what it writes.

pub mod address;
pub mod body;
pub mod code;
pub mod command;
pub mod ext;
pub mod frame;
pub mod hash;
pub mod head;
pub mod header;
pub mod json;
pub mod message_id;
pub mod properties;
pub mod property;
pub mod recall_handle;
pub mod record;
pub mod record_crc;
pub mod record_encode;
mod scan;
pub mod sys_flag;
pub mod topic;

pub use command::{Command, Language, SerializeType};
pub use ext::ExtFields;

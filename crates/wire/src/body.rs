//! JSON bodies, one struct for each class upstream, with the names of the Java classes.
//!
//! Members that only pass through are kept as [`Json`](crate::json::Json), so that nothing is lost between peers of
//! different versions. Nothing is checked here.
//! Source: `remoting/.../protocol/body/`, `heartbeat/`, `route/`, `admin/`; reference remoting 12 and 13.

mod client;
mod group;
mod ha;
mod offset;
mod queue;
mod route;
mod stats;
mod topic;
mod version;

pub use client::*;
pub use group::*;
pub use ha::*;
pub use offset::*;
pub use queue::*;
pub use route::*;
pub use stats::*;
pub use topic::*;
pub use version::*;

//! The simulated disk, and what a store on it must hold.
#![allow(dead_code, missing_docs)]

pub mod between;
pub mod content;
pub mod disk;
pub mod life;
pub mod model;
pub mod names;
pub mod raw;
pub mod tale;
pub mod timers;

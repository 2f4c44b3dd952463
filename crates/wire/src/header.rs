//! Custom headers: what a request or response carries in `extFields`, one struct for each class upstream.
//!
//! Fields have the Java types. Nothing is checked here: a field that is absent or unreadable has its default, and what
//! that means is the handler's business. Names of structs are those of the Java classes, names of fields those on the
//! wire in snake case. Source: `remoting/.../protocol/header/`; reference remoting 2.4 and 11.

use crate::ExtFields;

mod admin;
mod client;
mod namesrv;
mod offset;
mod pull;
mod query;
mod send;
mod sync;
mod transaction;

pub use admin::*;
pub use client::*;
pub use namesrv::*;
pub use offset::*;
pub use pull::*;
pub use query::*;
pub use send::*;
pub use sync::*;
pub use transaction::*;

/// A header that travels in `extFields`.
pub trait ExtHeader: Sized {
    /// Reads what is there; absent or unreadable fields have their default.
    fn read_ext(ext: &ExtFields) -> Self;

    /// Appends all fields but those that are `None`.
    fn write_ext(&self, ext: &mut ExtFields);
}

/// A value of a header field.
pub trait ExtValue: Sized {
    /// `None` when `text` cannot be read; the field then keeps its default.
    fn read(text: &str) -> Option<Self>;

    /// Appends the value under `name`, unless it is `None`.
    fn write(&self, name: &str, ext: &mut ExtFields);
}

impl ExtValue for String {
    fn read(text: &str) -> Option<Self> {
        Some(text.to_owned())
    }

    fn write(&self, name: &str, ext: &mut ExtFields) {
        ext.push(name, self);
    }
}

impl ExtValue for i32 {
    fn read(text: &str) -> Option<Self> {
        text.parse().ok()
    }

    fn write(&self, name: &str, ext: &mut ExtFields) {
        ext.push_number(name, *self);
    }
}

impl ExtValue for i64 {
    fn read(text: &str) -> Option<Self> {
        text.parse().ok()
    }

    fn write(&self, name: &str, ext: &mut ExtFields) {
        ext.push_number(name, *self);
    }
}

/// `true` in any case and `1` are true, all else is false.
impl ExtValue for bool {
    fn read(text: &str) -> Option<Self> {
        Some(text.eq_ignore_ascii_case("true") || text == "1")
    }

    fn write(&self, name: &str, ext: &mut ExtFields) {
        ext.push(name, if *self { "true" } else { "false" });
    }
}

impl<T: ExtValue> ExtValue for Option<T> {
    fn read(text: &str) -> Option<Self> {
        T::read(text).map(Some)
    }

    fn write(&self, name: &str, ext: &mut ExtFields) {
        if let Some(value) = self {
            value.write(name, ext);
        }
    }
}

/// Reads `text` into `target`, which stays as it is when that fails.
pub fn read_field<T: ExtValue>(target: &mut T, text: &str) {
    if let Some(value) = T::read(text) {
        *target = value;
    }
}

/// Declares headers.
///
/// ```
/// use wire::{ExtFields, header::ExtHeader};
/// wire::ext_header! {
///     /// Asks for a queue.
///     pub struct AskRequestHeader: rpc {
///         "topic" topic: String,
///         "queueId" queue_id: Option<i32>,
///         "committed" committed: bool = true,
///     }
/// }
/// let mut ext = ExtFields::new();
/// ext.push("topic", "T");
/// let header = AskRequestHeader::read_ext(&ext);
/// assert_eq!((header.topic.as_str(), header.queue_id, header.committed), ("T", None, true));
/// ```
///
/// Types are `String`, `i32`, `i64`, `bool` and options of them. `: rpc` adds the inherited `bname`, the broker that is
/// meant; `: topic` adds `bname` and `lo`. Every header is `Clone`, `Debug`, `Default`, `PartialEq` and
/// [`ExtHeader`](crate::header::ExtHeader).
#[macro_export]
macro_rules! ext_header {
    () => {};
    ($(#[$meta:meta])* pub struct $name:ident: rpc { $($body:tt)* } $($rest:tt)*) => {
        $crate::ext_header! {
            $(#[$meta])* pub struct $name { $($body)* "bname" bname: Option<String>, } $($rest)*
        }
    };
    ($(#[$meta:meta])* pub struct $name:ident: topic { $($body:tt)* } $($rest:tt)*) => {
        $crate::ext_header! {
            $(#[$meta])* pub struct $name { $($body)* "bname" bname: Option<String>, "lo" lo: Option<bool>, } $($rest)*
        }
    };
    (
        $(#[$meta:meta])*
        pub struct $name:ident {
            $($(#[$field_meta:meta])* $wire:literal $field:ident: $kind:ty $(= $default:expr)?,)*
        }
        $($rest:tt)*
    ) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq)]
        pub struct $name {
            $($(#[$field_meta])* #[doc = concat!("\n\nField `", $wire, "`.")] pub $field: $kind,)*
        }

        impl ::core::default::Default for $name {
            fn default() -> Self {
                Self { $($field: $crate::json_object!(@default $($default)?),)* }
            }
        }

        impl $crate::header::ExtHeader for $name {
            fn read_ext(ext: &$crate::ExtFields) -> Self {
                let mut this = Self::default();
                for (name, value) in ext.iter() {
                    match name {
                        $($wire => $crate::header::read_field(&mut this.$field, value),)*
                        _ => {}
                    }
                }
                this
            }

            fn write_ext(&self, ext: &mut $crate::ExtFields) {
                $($crate::header::ExtValue::write(&self.$field, $wire, ext);)*
            }
        }

        $crate::ext_header! { $($rest)* }
    };
}

//! Macros that declare Java's beans and enums, so that member names are written once.

use super::value::loosely_equal;

/// The member of `names` that `key` means: the same, or one that differs only in case, `_` and `-`.
pub fn known_name(key: &str, names: &[&'static str]) -> Option<&'static str> {
    let exact = names.iter().find(|name| **name == key);
    exact.or_else(|| names.iter().find(|name| loosely_equal(key, name))).copied()
}

/// True when `names` are in Java's order, the one in which fastjson writes members.
pub const fn sorted(names: &[&str]) -> bool {
    let mut at = 1;
    while at < names.len() {
        if !less(names[at - 1].as_bytes(), names[at].as_bytes()) {
            return false;
        }
        at += 1;
    }
    true
}

const fn less(left: &[u8], right: &[u8]) -> bool {
    let mut at = 0;
    while at < left.len() && at < right.len() {
        if left[at] != right[at] {
            return left[at] < right[at];
        }
        at += 1;
    }
    left.len() < right.len()
}

/// Declares structs that are JSON objects.
///
/// ```
/// wire::json_object! {
///     /// Where a thing lies.
///     pub struct Place {
///         "brokerName" broker_name: String,
///         /// Four queues unless said otherwise.
///         "queueNums" queue_nums: i32 = 4,
///         "zone" zone: Option<String>,
///     }
/// }
/// let place: Place = wire::json::decode(b"{'brokerName':'a',zone:null,other:[1]}").unwrap();
/// assert_eq!(wire::json::encode(&place), r#"{"brokerName":"a","queueNums":4}"#);
/// ```
///
/// Members come in the order of their names (checked when compiled). Every struct is `Clone`, `Debug`, `PartialEq`,
/// `Default`, [`FromJson`](crate::json::FromJson) and [`ToJson`](crate::json::ToJson); unknown members are ignored,
/// absent, null and unreadable ones have their default, `None` is not written.
#[macro_export]
macro_rules! json_object {
    () => {};
    (@default) => { ::core::default::Default::default() };
    (@default $default:expr) => { $default };
    (
        $(#[$meta:meta])*
        pub struct $name:ident {
            $($(#[$member_meta:meta])* $wire:literal $member:ident: $kind:ty $(= $default:expr)?,)*
        }
        $($rest:tt)*
    ) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq)]
        pub struct $name {
            $($(#[$member_meta])* #[doc = concat!("\n\nMember `", $wire, "`.")] pub $member: $kind,)*
        }

        const _: () = assert!($crate::json::sorted(&[$($wire),*]), "members must be in the order of their names");

        impl ::core::default::Default for $name {
            fn default() -> Self {
                Self { $($member: $crate::json_object!(@default $($default)?),)* }
            }
        }

        impl $crate::json::FromJson for $name {
            fn from_json(json: &$crate::json::Json) -> Option<Self> {
                let $crate::json::Json::Obj(members) = json else { return None };
                let mut this = Self::default();
                for (key, value) in members {
                    match key.as_str().and_then(|key| $crate::json::known_name(key, &[$($wire),*])) {
                        $(Some($wire) => $crate::json::read_into(&mut this.$member, value),)*
                        _ => {}
                    }
                }
                Some(this)
            }
        }

        impl $crate::json::ToJson for $name {
            fn write_json(&self, out: &mut $crate::json::Out) {
                out.begin_object();
                $(if !$crate::json::ToJson::is_null(&self.$member) {
                    out.text_key($wire);
                    $crate::json::ToJson::write_json(&self.$member, out);
                })*
                out.end_object();
            }
        }

        $crate::json_object! { $($rest)* }
    };
}

/// Declares enums that are names in JSON. Read from a name in any case, or from an ordinal given as a number; the first
/// variant is the default.
#[macro_export]
macro_rules! json_enum {
    () => {};
    (
        $(#[$meta:meta])*
        pub enum $name:ident {
            $(#[$first_meta:meta])* $first:ident = $first_wire:literal,
            $($(#[$variant_meta:meta])* $variant:ident = $wire:literal,)*
        }
        $($rest:tt)*
    ) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $name {
            $(#[$first_meta])* #[doc = concat!("\n\n`", $first_wire, "`.")] #[default] $first,
            $($(#[$variant_meta])* #[doc = concat!("\n\n`", $wire, "`.")] $variant,)*
        }

        impl $name {
            const ALL: &[Self] = &[Self::$first, $(Self::$variant),*];

            /// The name on the wire.
            pub fn name(self) -> &'static str {
                match self { Self::$first => $first_wire, $(Self::$variant => $wire),* }
            }

            /// From the name, in any case.
            pub fn from_name(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|known| known.name().eq_ignore_ascii_case(name))
            }
        }

        impl $crate::json::FromJson for $name {
            fn from_json(json: &$crate::json::Json) -> Option<Self> {
                match json {
                    $crate::json::Json::Str(name) => Self::from_name(name),
                    $crate::json::Json::Num(_) => Self::ALL.get(usize::try_from(json.to_i64()?).ok()?).copied(),
                    _ => None,
                }
            }
        }

        impl $crate::json::ToJson for $name {
            fn write_json(&self, out: &mut $crate::json::Out) {
                out.string(self.name());
            }
        }

        $crate::json_enum! { $($rest)* }
    };
}

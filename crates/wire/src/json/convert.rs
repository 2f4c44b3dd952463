//! Rust values from and to JSON, forgiving as fastjson is: what cannot be read is left at its default.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    hash::Hash,
};

use super::{Json, Out};

/// Can be read from JSON.
pub trait FromJson: Sized {
    /// `None` when `json` is of another kind; the caller then keeps its default.
    fn from_json(json: &Json) -> Option<Self>;
}

/// Can be written as JSON.
pub trait ToJson {
    /// Appends the value.
    fn write_json(&self, out: &mut Out);

    /// True when a member or map entry of this value is left out, as Java does with null.
    fn is_null(&self) -> bool {
        false
    }
}

/// Can be the key of a map.
pub trait JsonKey: Ord + Sized {
    /// From either form of the key, bare or in quotes.
    fn read_key(key: &Json) -> Option<Self>;

    /// Writes the key and its colon.
    fn write_key(&self, out: &mut Out);
}

/// Reads `json` into `target`, which stays as it is when `json` is null or of another kind.
pub fn read_into<T: FromJson>(target: &mut T, json: &Json) {
    if let Some(value) = (!json.is_null()).then(|| T::from_json(json)).flatten() {
        *target = value;
    }
}

impl FromJson for i32 {
    fn from_json(json: &Json) -> Option<Self> {
        json.to_i64()?.try_into().ok()
    }
}

impl ToJson for i32 {
    fn write_json(&self, out: &mut Out) {
        out.integer((*self).into());
    }
}

impl FromJson for i64 {
    fn from_json(json: &Json) -> Option<Self> {
        json.to_i64()
    }
}

impl ToJson for i64 {
    fn write_json(&self, out: &mut Out) {
        out.integer(*self);
    }
}

impl FromJson for f64 {
    fn from_json(json: &Json) -> Option<Self> {
        json.to_f64()
    }
}

impl ToJson for f64 {
    fn write_json(&self, out: &mut Out) {
        out.float(*self);
    }
}

impl FromJson for bool {
    fn from_json(json: &Json) -> Option<Self> {
        json.to_bool()
    }
}

impl ToJson for bool {
    fn write_json(&self, out: &mut Out) {
        out.raw(if *self { "true" } else { "false" });
    }
}

impl FromJson for String {
    fn from_json(json: &Json) -> Option<Self> {
        match json {
            Json::Null => None,
            Json::Str(text) | Json::Num(text) => Some(text.clone()),
            other => Some(other.to_text()),
        }
    }
}

impl ToJson for String {
    fn write_json(&self, out: &mut Out) {
        out.string(self);
    }
}

impl ToJson for str {
    fn write_json(&self, out: &mut Out) {
        out.string(self);
    }
}

impl<T: FromJson> FromJson for Option<T> {
    fn from_json(json: &Json) -> Option<Self> {
        match json {
            Json::Null => Some(None),
            other => T::from_json(other).map(Some),
        }
    }
}

impl<T: ToJson> ToJson for Option<T> {
    fn write_json(&self, out: &mut Out) {
        match self {
            Some(value) => value.write_json(out),
            None => out.raw("null"),
        }
    }

    fn is_null(&self) -> bool {
        self.as_ref().is_none_or(ToJson::is_null)
    }
}

fn items<T: FromJson, C: FromIterator<T>>(json: &Json) -> Option<C> {
    let Json::Arr(items) = json else { return None };
    Some(items.iter().filter(|item| !item.is_null()).filter_map(T::from_json).collect())
}

/// An array; items that are null or of another kind are dropped.
impl<T: FromJson> FromJson for Vec<T> {
    fn from_json(json: &Json) -> Option<Self> {
        items(json)
    }
}

impl<T: ToJson> ToJson for Vec<T> {
    fn write_json(&self, out: &mut Out) {
        out.list(self);
    }
}

impl<T: FromJson + Ord> FromJson for BTreeSet<T> {
    fn from_json(json: &Json) -> Option<Self> {
        items(json)
    }
}

impl<T: ToJson> ToJson for BTreeSet<T> {
    fn write_json(&self, out: &mut Out) {
        out.set(self);
    }
}

fn entries<K: JsonKey, V: FromJson, C: FromIterator<(K, V)>>(json: &Json) -> Option<C> {
    let Json::Obj(members) = json else { return None };
    let entry = |(key, value): &(Json, Json)| Some((K::read_key(key)?, V::from_json(value)?));
    Some(members.iter().filter(|(_, value)| !value.is_null()).filter_map(entry).collect())
}

fn write_entries<'a, K: JsonKey + 'a, V: ToJson + 'a>(
    entries: impl IntoIterator<Item = (&'a K, &'a V)>,
    out: &mut Out,
) {
    out.begin_object();
    for (key, value) in entries.into_iter().filter(|(_, value)| !value.is_null()) {
        key.write_key(out);
        value.write_json(out);
    }
    out.end_object();
}

/// An object; entries whose key or value is null or of another kind are dropped.
impl<K: JsonKey, V: FromJson> FromJson for BTreeMap<K, V> {
    fn from_json(json: &Json) -> Option<Self> {
        entries(json)
    }
}

impl<K: JsonKey, V: ToJson> ToJson for BTreeMap<K, V> {
    fn write_json(&self, out: &mut Out) {
        write_entries(self, out);
    }
}

impl<K: JsonKey + Hash, V: FromJson> FromJson for HashMap<K, V> {
    fn from_json(json: &Json) -> Option<Self> {
        entries(json)
    }
}

/// In the order of the keys, so that equal maps give equal text.
impl<K: JsonKey + Hash, V: ToJson> ToJson for HashMap<K, V> {
    fn write_json(&self, out: &mut Out) {
        let sorted: BTreeMap<_, _> = self.iter().collect();
        write_entries(sorted, out);
    }
}

impl JsonKey for String {
    fn read_key(key: &Json) -> Option<Self> {
        Self::from_json(key)
    }

    fn write_key(&self, out: &mut Out) {
        out.text_key(self);
    }
}

impl JsonKey for i32 {
    fn read_key(key: &Json) -> Option<Self> {
        Self::from_json(key)
    }

    fn write_key(&self, out: &mut Out) {
        out.bare_key(&self.to_string());
    }
}

impl JsonKey for i64 {
    fn read_key(key: &Json) -> Option<Self> {
        Self::from_json(key)
    }

    fn write_key(&self, out: &mut Out) {
        out.bare_key(&self.to_string());
    }
}

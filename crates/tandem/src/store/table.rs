//! Text for people and JSON for scripts, from the same values.

use wire::json::{Json, Out, Style, ToJson};

/// A JSON object with members in this order.
pub(super) fn object<const N: usize>(members: [(&str, Json); N]) -> Json {
    Json::Obj(members.into_iter().map(|(name, value)| (name.into(), value)).collect())
}

/// A whole number that may be unsigned.
pub(super) fn number(value: impl ToString) -> Json {
    Json::Num(value.to_string())
}

/// One line of JSON.
pub(super) fn json_line(value: &Json) -> String {
    let mut out = Out::new(Style::Java);
    value.write_json(&mut out);
    out.into_text()
}

/// Bytes in the unit that suits.
pub(super) fn bytes(count: u64) -> String {
    let mut value = count as f64;
    for unit in ["B", "KiB", "MiB", "GiB"] {
        if value < 1024.0 {
            return if unit == "B" { format!("{count} B") } else { format!("{value:.1} {unit}") };
        }
        value /= 1024.0;
    }
    format!("{value:.1} TiB")
}

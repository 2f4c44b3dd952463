//! Progress and configuration of two stores, entry by entry, from the files under `config`. A file counts by the rule
//! of its `.bak`.

use std::collections::BTreeMap;

use wire::json::Json;

use crate::{
    error::StoreError,
    inspect::{
        diff::{Compared, Part, Weight},
        view::StoreView,
    },
    timer::TimerCheckPoint,
};

/// File, table in it, and what it is. Tables of numbers are progress: the smaller number is behind.
const TABLES: [(&str, &str, Part); 7] = [
    ("consumerOffset.json", "offsetTable", Part::Progress),
    ("lmqConsumerOffset.json", "offsetTable", Part::Progress),
    ("lmqConsumerOffset.json", "lmqOffsetTable", Part::Progress),
    ("delayOffset.json", "offsetTable", Part::Delay),
    ("topics.json", "topicConfigTable", Part::Topic),
    ("subscriptionGroup.json", "subscriptionGroupTable", Part::Group),
    ("messageRequestMode.json", "messageRequestModeMap", Part::RequestMode),
];

/// Entries by name.
type Table = BTreeMap<String, Json>;

/// Compares all tables.
pub(super) fn compare(views: [&StoreView; 2], out: &mut Compared) -> Result<(), StoreError> {
    let mut files = BTreeMap::new();
    for (file, table, part) in TABLES {
        if !files.contains_key(file) {
            let both = [views[0].config(file)?, views[1].config(file)?];
            if both.iter().any(Option::is_some) {
                versions(file, &both, out);
            }
            files.insert(file, both);
        }
        let Some(both) = files.get(file) else { continue };
        match both {
            [Some(a), Some(b)] => entries(part, [table_of(a, table, part), table_of(b, table, part)], out),
            [None, None] => {}
            one => {
                let texts =
                    [0, 1].map(|side| if one[side].is_some() { "there" } else { "no such file, or unreadable" });
                out.add(part, Weight::Different, file, texts.map(str::to_owned));
            }
        }
    }
    timer(views, out)
}

fn table_of(file: &Json, table: &str, part: Part) -> Table {
    let mut found = Table::new();
    let Some(Json::Obj(members)) = file.get(table) else { return found };
    for (key, value) in members {
        match value {
            // By queue, or by group.
            Json::Obj(inner) if matches!(part, Part::Progress | Part::RequestMode) => {
                let named = |(under, value): &(Json, Json)| (format!("{} {}", name(key), name(under)), value.clone());
                found.extend(inner.iter().map(named));
            }
            value => drop(found.insert(name(key), value.clone())),
        }
    }
    found
}

fn name(key: &Json) -> String {
    key.as_str().map_or_else(|| key.to_text(), str::to_owned)
}

fn entries(part: Part, tables: [Table; 2], out: &mut Compared) {
    let is_progress = matches!(part, Part::Progress | Part::Delay);
    let weight = match is_progress {
        true if out.any_running() => Weight::Note,
        true => Weight::Behind,
        false => Weight::Different,
    };
    let [a, b] = &tables;
    let only_b = b.keys().filter(|name| !a.contains_key(*name));
    for entry in a.keys().chain(only_b) {
        let values = [a.get(entry), b.get(entry)];
        if values[0] == values[1] {
            continue;
        }
        if let Some(texts) = members(values) {
            let name = if part == Part::Delay { format!("level {entry}") } else { entry.clone() };
            out.add(part, weight, name, texts);
        }
    }
}

/// What of an entry differs; `None` when only the order of its members does.
fn members(values: [Option<&Json>; 2]) -> Option<[String; 2]> {
    let absent = || "not there".to_owned();
    let [Some(Json::Obj(a)), Some(Json::Obj(b))] = values else {
        return Some(values.map(|value| value.map_or_else(absent, Json::to_text)));
    };
    let names = a.iter().chain(b).map(|(key, _)| name(key)).collect::<std::collections::BTreeSet<_>>();
    let mut texts = [Vec::new(), Vec::new()];
    for name in names {
        let found = values.map(|value| value.and_then(|value| value.get(&name)));
        let [a, b] = found.map(sorted);
        if a != b {
            for (texts, value) in texts.iter_mut().zip([a, b]) {
                texts.push(format!("{name} {}", value.unwrap_or_else(absent)));
            }
        }
    }
    (!texts[0].is_empty()).then(|| texts.map(|texts| texts.join(", ")))
}

/// The text of a value with the members of objects in order: Java's maps have none.
fn sorted(value: Option<&Json>) -> Option<String> {
    fn order(value: &Json) -> Json {
        match value {
            Json::Obj(members) => {
                let mut members: Vec<_> = members.iter().map(|(key, value)| (key.clone(), order(value))).collect();
                members.sort_by_key(|(key, _)| name(key));
                Json::Obj(members)
            }
            Json::Arr(items) => Json::Arr(items.iter().map(order).collect()),
            other => other.clone(),
        }
    }
    value.map(|value| order(value).to_text())
}

fn versions(file: &str, both: &[Option<Json>; 2], out: &mut Compared) {
    let version =
        |side: usize| both[side].as_ref().and_then(|file| file.get("dataVersion")).and_then(|v| sorted(Some(v)));
    let [a, b] = [version(0), version(1)];
    if a != b {
        out.add(Part::Version, Weight::Note, file, [a, b].map(|text| text.unwrap_or_else(|| "none".to_owned())));
    }
}

fn timer(views: [&StoreView; 2], out: &mut Compared) -> Result<(), StoreError> {
    let load = |view: &StoreView| TimerCheckPoint::load(&*view.disk, &view.root).map(|(point, _)| point);
    let points = [load(views[0])?, load(views[1])?];
    let weight = if out.any_running() { Weight::Note } else { Weight::Behind };
    let of = |field: fn(&TimerCheckPoint) -> i64| points.map(|point| point.map(|point| field(&point)));
    let fields = [
        ("delivered to time", of(|point| point.last_read_ms)),
        ("queue offset", of(|point| point.last_timer_queue_offset)),
    ];
    for (name, values) in fields {
        if values[0] != values[1] {
            let text =
                |value: Option<i64>| value.map_or_else(|| "no check point".to_owned(), |value| value.to_string());
            out.add(Part::Timer, weight, name, values.map(text));
        }
    }
    Ok(())
}

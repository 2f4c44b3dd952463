//! Attributes of topics: how a request writes changes to them (`+key=value,-key`), and which changes are allowed.
//! Source: `common/.../attribute/AttributeParser.java`, `AttributeUtil.java`, `TopicAttributes.java`. Texts are Java's.

use std::collections::BTreeMap;

/// Attributes by name; in a change each name begins with `+` or `-`.
pub type Attributes = BTreeMap<String, String>;

struct Rule {
    name: &'static str,
    /// May differ from what it was at creation.
    changeable: bool,
    values: &'static [&'static str],
}

const RESERVE_TIME: &str = "reserve.time";
const MESSAGE_TYPE: &str = "message.type";

const RULES: [Rule; 4] = [
    Rule { name: "queue.type", changeable: false, values: &["BatchCQ", "SimpleCQ"] },
    Rule { name: "cleanup.policy", changeable: false, values: &["DELETE", "COMPACTION"] },
    Rule {
        name: MESSAGE_TYPE,
        changeable: true,
        values: &["UNSPECIFIED", "NORMAL", "FIFO", "DELAY", "TRANSACTION", "MIXED"],
    },
    Rule { name: RESERVE_TIME, changeable: true, values: &[] },
];

/// Reads the text form of a change.
pub fn parse(text: &str) -> Result<Attributes, String> {
    let mut changes = Attributes::new();
    for part in text.split(',').filter(|_| !text.is_empty()) {
        let (key, value) = match part.split_once('=') {
            Some((key, _)) if !key.contains('+') => return Err(format!("add/alter attribute format is wrong: {key}")),
            Some((key, "")) => return Err(format!("add/alter attribute format is wrong: {key}")),
            Some((key, value)) => (key, value),
            None if !part.contains('-') => return Err(format!("delete attribute format is wrong: {part}")),
            None => (part, ""),
        };
        if changes.insert(key.to_owned(), value.to_owned()).is_some() {
            return Err(format!("key duplication: {key}"));
        }
    }
    Ok(changes)
}

/// True when a change sets the message type that a broker must be told to allow.
pub fn sets_mixed_type(changes: &Attributes) -> bool {
    changes.get("+message.type").is_some_and(|value| value == "MIXED")
}

/// The attributes after `changes`; `current` is `None` for a topic that is being created.
pub fn alter(current: Option<&Attributes>, changes: &Attributes) -> Result<Attributes, String> {
    let mut result = current.cloned().unwrap_or_default();
    let mut seen = Vec::new();
    for (signed, value) in changes {
        let (sign, key) = split(signed)?;
        if seen.contains(&key) {
            return Err(format!("alter duplication key. key: {key}"));
        }
        seen.push(key);
        match (sign, current) {
            ('+', None) => allowed(key, Some(value), true)?,
            (_, None) => return Err(format!("only add attribute is supported while creating topic. key: {key}")),
            ('+', Some(_)) => allowed(key, Some(value), false)?,
            ('-', Some(there)) if !there.contains_key(key) => {
                return Err(format!("attempt to delete a nonexistent key: {key}"));
            }
            ('-', Some(_)) => allowed(key, None, false)?,
            _ => return Err(format!("wrong format key: {key}")),
        }
        match sign {
            '+' => result.insert(key.to_owned(), value.clone()),
            _ => result.remove(key),
        };
    }
    Ok(result)
}

fn split(signed: &str) -> Result<(char, &str), String> {
    let mut chars = signed.chars();
    let sign = chars.next().unwrap_or(' ');
    let key = chars.as_str();
    if key.is_empty() || key.contains(['+', '-']) {
        return Err("kv string format wrong.".into());
    }
    Ok((sign, key))
}

fn allowed(key: &str, value: Option<&String>, creating: bool) -> Result<(), String> {
    let rule = RULES.iter().find(|rule| rule.name == key).ok_or_else(|| format!("unsupported key: {key}"))?;
    if !creating && !rule.changeable {
        return Err(format!("attempt to update an unchangeable attribute. key: {key}"));
    }
    let Some(value) = value else { return Ok(()) };
    if key == RESERVE_TIME {
        let time = value.parse::<i64>().map_err(|_| format!("For input string: \"{value}\""))?;
        return if time >= -1 { Ok(()) } else { Err(format!("value is not in range(-1, {})", i64::MAX)) };
    }
    match rule.values.contains(&value.as_str()) {
        true => Ok(()),
        false => Err(format!("value is not in set: [{}]", rule.values.join(", "))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(entries: &[(&str, &str)]) -> Attributes {
        entries.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn changes_are_read() {
        assert_eq!(parse("").unwrap(), Attributes::new());
        let changes = parse("+message.type=FIFO,-reserve.time").unwrap();
        assert_eq!(changes, map(&[("+message.type", "FIFO"), ("-reserve.time", "")]));
        for bad in ["message.type=FIFO", "+message.type", "+a=1,+a=2", "+a=", ",", "=x"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn creation_adds_only() {
        let done = alter(None, &map(&[("+queue.type", "BatchCQ"), ("+message.type", "FIFO")])).unwrap();
        assert_eq!(done, map(&[("queue.type", "BatchCQ"), ("message.type", "FIFO")]));
        let text = alter(None, &map(&[("-message.type", "")])).unwrap_err();
        assert!(text.starts_with("only add attribute"), "{text}");
    }

    #[test]
    fn later_changes_follow_the_rules() {
        let current = map(&[("message.type", "FIFO"), ("queue.type", "SimpleCQ")]);
        let alter = |key: &str, value: &str| alter(Some(&current), &map(&[(key, value)]));
        assert_eq!(alter("+message.type", "NORMAL").unwrap()["message.type"], "NORMAL");
        assert_eq!(alter("-message.type", "").unwrap(), map(&[("queue.type", "SimpleCQ")]));
        assert!(alter("+queue.type", "BatchCQ").unwrap_err().contains("unchangeable"));
        assert!(alter("-reserve.time", "").unwrap_err().contains("nonexistent key: reserve.time"));
        assert!(alter("+reserve.time", "-2").unwrap_err().contains("range"));
        assert!(alter("+message.type", "X").unwrap_err().contains("value is not in set"));
        assert!(alter("+nobody", "X").unwrap_err().contains("unsupported key: nobody"));
        assert!(alter("message.type", "FIFO").unwrap_err().contains("wrong format key"));
        for key in ["", "+", "+a-b", "-+a"] {
            assert_eq!(alter(key, "x").unwrap_err(), "kv string format wrong.", "{key}");
        }
    }

    #[test]
    fn the_mixed_type_is_seen() {
        assert!(sets_mixed_type(&map(&[("+message.type", "MIXED")])));
        assert!(!sets_mixed_type(&map(&[("+message.type", "FIFO")])));
    }
}

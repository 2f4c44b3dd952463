//! The text of a `broker.conf`: Java properties, read, and changed one key at a time.
//!
//! Keeps an operator's comments, order and spacing when a key changes (F-39). Knows no key.

/// Entries of a properties text, in order; a later one of the same name counts.
pub fn parse(text: &str) -> Vec<(String, String)> {
    let mut entries = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let mut line = line.trim_start().to_owned();
        if line.is_empty() || line.starts_with(['#', '!']) {
            continue;
        }
        while ends_open(&line) {
            line.pop();
            line.push_str(lines.next().unwrap_or_default().trim_start());
        }
        let (key, value) = split(&line);
        entries.push((unescape(key), unescape(value.trim_end())));
    }
    entries
}

/// `text` with `key` set to `value`: its last line is changed in place, or one line is added at the end.
pub fn set(text: &str, key: &str, value: &str) -> String {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let at = lines.iter().rposition(|line| {
        let line = line.trim_start();
        !line.starts_with(['#', '!']) && !line.is_empty() && unescape(split(line).0) == key
    });
    let entry = format!("{key}={}", escape(value));
    match at {
        Some(at) => {
            while ends_open(&lines[at]) && at + 1 < lines.len() {
                lines[at].pop();
                lines.remove(at + 1);
            }
            lines[at] = entry;
        }
        None => lines.push(entry),
    }
    let mut out = lines.join("\n");
    out.push('\n');
    out
}

fn ends_open(line: &str) -> bool {
    line.bytes().rev().take_while(|byte| *byte == b'\\').count() % 2 == 1
}

fn split(line: &str) -> (&str, &str) {
    let mut escaped = false;
    for (at, c) in line.char_indices() {
        if escaped {
            escaped = false;
        } else if c == '\\' {
            escaped = true;
        } else if matches!(c, '=' | ':' | ' ' | '\t') {
            let rest = line[at..].trim_start();
            return (&line[..at], rest.strip_prefix(['=', ':']).unwrap_or(rest).trim_start());
        }
    }
    (line, "")
}

fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        match chars.next() {
            Some('n') => out.push('\n'),
            Some('t') => out.push('\t'),
            Some('r') => out.push('\r'),
            Some('u') => {
                let digits: String = chars.by_ref().take(4).collect();
                let code = u32::from_str_radix(&digits, 16).ok().and_then(char::from_u32);
                out.push(code.unwrap_or(char::REPLACEMENT_CHARACTER));
            }
            Some(other) => out.push(other),
            None => {}
        }
    }
    out
}

fn escape(text: &str) -> String {
    text.replace('\\', "\\\\").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_java_reads() {
        let text = "# c\n a = 1 \nb:2\nc 3\nd\\=x=4\ne=one \\\n   two\n!x\nf=\\u0041\n";
        let entries = parse(text);
        let get = |key: &str| entries.iter().find(|(k, _)| k == key).map(|(_, v)| v.as_str());
        assert_eq!(get("a"), Some("1"));
        assert_eq!(get("b"), Some("2"));
        assert_eq!(get("c"), Some("3"));
        assert_eq!(get("d=x"), Some("4"));
        assert_eq!(get("e"), Some("one two"));
        assert_eq!(get("f"), Some("A"));
        assert_eq!(entries.len(), 6);
    }

    #[test]
    fn f39_changes_one_line_and_keeps_comments() {
        let text = "# mine\nbrokerName = a\n\n# why\nfileReservedTime=48\n";
        let changed = set(text, "fileReservedTime", "72");
        assert_eq!(changed, "# mine\nbrokerName = a\n\n# why\nfileReservedTime=72\n");
        assert_eq!(set(text, "x", "1"), format!("{text}x=1\n"));
    }
}

//! The text form of `java.util.Properties`: what is in a configuration file and in the body of a configuration update.
//! Keeps an operator's comments, order and spacing when one key changes (F-39). Source: `Properties.load`. Knows no
//! key and does no I/O.

use std::ops::Range;

const BLANKS: [char; 3] = [' ', '\t', '\x0c'];

/// Reads `key=value` lines. Separators are `=`, `:` or white space; `#` and `!` begin a comment; a line that ends in an
/// odd number of backslashes goes on in the next; `\uXXXX` and the usual escapes are resolved. Later entries of a key
/// stand behind earlier ones.
pub fn parse(text: &str) -> Vec<(String, String)> {
    logical_lines(text).iter().map(|(_, line)| entry(line)).collect()
}

/// `text` with `key` set to `value`: its last entry is changed in place, or one line is added at the end. All else stays, the
/// way lines end among it.
pub fn set(text: &str, key: &str, value: &str) -> String {
    let end = if text.contains("\r\n") { "\r\n" } else { "\n" };
    let mut out = text.to_owned();
    match logical_lines(text).into_iter().rfind(|(_, line)| entry(line).0 == key) {
        Some((place, _)) => out.replace_range(place, &line(key, value)),
        None => {
            if !out.is_empty() && !out.ends_with(['\n', '\r']) {
                out.push_str(end);
            }
            out.push_str(&line(key, value));
        }
    }
    if !out.ends_with(['\n', '\r']) {
        out.push_str(end);
    }
    out
}

/// An entry that [`parse`] reads back to the same pair, without an end of line.
fn line(key: &str, value: &str) -> String {
    format!("{key}={}", value.replace('\\', "\\\\").replace('\n', "\\n").replace('\r', "\\r"))
}

/// The entries, each with its place: from its first line to before the end of its last one.
fn logical_lines(text: &str) -> Vec<(Range<usize>, String)> {
    let mut lines = Vec::new();
    let mut open: Option<(usize, String)> = None;
    for place in natural_lines(text) {
        let natural = text[place.clone()].trim_start_matches(BLANKS);
        if open.is_none() && (natural.is_empty() || natural.starts_with(['#', '!'])) {
            continue;
        }
        let (start, line) = open.take().unwrap_or((place.start, String::new()));
        match continued(natural) {
            Some(part) => open = Some((start, line + part)),
            None => lines.push((start..place.end, line + natural)),
        }
    }
    lines.extend(open.map(|(start, line)| (start..text.len(), line)));
    lines
}

/// The places of the lines of `text`, however they end.
fn natural_lines(text: &str) -> impl Iterator<Item = Range<usize>> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let rest = text.get(at..)?;
        let length = rest.find(['\n', '\r']).unwrap_or(rest.len());
        let place = at..at + length;
        at = place.end + if rest[length..].starts_with("\r\n") { 2 } else { 1 };
        Some(place)
    })
}

/// The line without its last backslash when it goes on in the next line.
fn continued(line: &str) -> Option<&str> {
    let backslashes = line.len() - line.trim_end_matches('\\').len();
    (backslashes % 2 == 1).then(|| &line[..line.len() - 1])
}

fn entry(line: &str) -> (String, String) {
    let mut escaped = false;
    let end = line.find(|c: char| {
        let stop = !escaped && (BLANKS.contains(&c) || matches!(c, '=' | ':'));
        escaped = c == '\\' && !escaped;
        stop
    });
    let (key, rest) = line.split_at(end.unwrap_or(line.len()));
    let rest = rest.trim_start_matches(BLANKS);
    let value = rest.strip_prefix(['=', ':']).unwrap_or(rest).trim_start_matches(BLANKS);
    (unescape(key), unescape(value))
}

fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => out.extend(escape(&mut chars)),
            plain => out.push(plain),
        }
    }
    out
}

fn escape(chars: &mut std::str::Chars<'_>) -> Option<char> {
    match chars.next()? {
        't' => Some('\t'),
        'n' => Some('\n'),
        'r' => Some('\r'),
        'f' => Some('\x0c'),
        'u' => {
            let digits: String = chars.by_ref().take(4).collect();
            u32::from_str_radix(&digits, 16).ok().and_then(char::from_u32)
        }
        other => Some(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(text: &str) -> Vec<(String, String)> {
        parse(text)
    }

    fn pair(key: &str, value: &str) -> (String, String) {
        (key.into(), value.into())
    }

    #[test]
    fn separators_comments_and_blank_lines() {
        let text = "# c\n! c\n\n a = 1\nb:2\r\nc 3\nd\ne=\n  f\t=\t g \n";
        let expected = [pair("a", "1"), pair("b", "2"), pair("c", "3"), pair("d", ""), pair("e", ""), pair("f", "g ")];
        assert_eq!(pairs(text), expected);
    }

    #[test]
    fn continuation_and_escapes() {
        let text = "a=1,\\\n   2\nb\\=c=\\u0041\\tx\\\\\n#no \\\nd=C:\\\\kv";
        assert_eq!(pairs(text), [pair("a", "1,2"), pair("b=c", "A\tx\\"), pair("d", "C:\\kv")]);
    }

    #[test]
    fn f39_changes_one_line_and_keeps_comments() {
        let text = "# mine\nbrokerName = a\n\n# why\nfileReservedTime=4\\\n  8\n";
        let changed = set(text, "fileReservedTime", "72");
        assert_eq!(changed, "# mine\nbrokerName = a\n\n# why\nfileReservedTime=72\n");
        assert_eq!(set(text, "x", "1"), format!("{text}x=1\n"));
    }

    #[test]
    fn f39_a_value_over_several_lines_goes_as_a_whole() {
        assert_eq!(set("a=1,\\\n  2,\\\n  3\nb=4\n", "a", "5"), "a=5\nb=4\n");
        assert_eq!(set("a=1\\\n b=2\n", "b", "3"), "a=1\\\n b=2\nb=3\n", "that line belongs to the value of a");
        assert_eq!(set("a=1\\", "a", "2"), "a=2\n");
    }

    #[test]
    fn f39_lines_end_as_they_did() {
        let text = "# c\r\na=1,\\\r\n  2\r\n\r\nb=3";
        assert_eq!(pairs(text), [pair("a", "1,2"), pair("b", "3")]);
        assert_eq!(set(text, "a", "4"), "# c\r\na=4\r\n\r\nb=3\r\n");
        assert_eq!(set(text, "c", "4"), format!("{text}\r\nc=4\r\n"));
    }

    #[test]
    fn a_written_line_reads_back() {
        for value in ["", "plain", "back\\slash", "two\nlines", "a=b:c d"] {
            assert_eq!(pairs(&line("key", value)), [pair("key", value)]);
        }
    }
}

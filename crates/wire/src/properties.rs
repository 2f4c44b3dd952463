//! The text form of `java.util.Properties`: what is in a configuration file and in the body of a configuration update.
//! Keeps an operator's comments, order and spacing when one key changes (F-39). Source: `Properties.load`. Knows no
//! key and does no I/O.

const BLANKS: [char; 3] = [' ', '\t', '\x0c'];

/// Reads `key=value` lines. Separators are `=`, `:` or white space; `#` and `!` begin a comment; a line that ends in an
/// odd number of backslashes goes on in the next; `\uXXXX` and the usual escapes are resolved. Later entries of a key
/// stand behind earlier ones.
pub fn parse(text: &str) -> Vec<(String, String)> {
    logical_lines(text).iter().map(|line| entry(line)).collect()
}

/// One line of a properties file that [`parse`] reads back to the same pair.
pub fn line(key: &str, value: &str) -> String {
    format!("{key}={}\n", value.replace('\\', "\\\\").replace('\n', "\\n").replace('\r', "\\r"))
}

/// `text` with `key` set to `value`: its last line is changed in place, or one line is added at the end.
pub fn set(text: &str, key: &str, value: &str) -> String {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let at = lines.iter().rposition(|line| {
        let line = line.trim_start_matches(BLANKS);
        !line.starts_with(['#', '!']) && !line.is_empty() && entry(line).0 == key
    });
    let changed = line(key, value).trim_end_matches('\n').to_owned();
    match at {
        Some(at) => {
            while continued(&lines[at]).is_some() && at + 1 < lines.len() {
                lines[at].pop();
                lines.remove(at + 1);
            }
            lines[at] = changed;
        }
        None => lines.push(changed),
    }
    let mut out = lines.join("\n");
    out.push('\n');
    out
}

fn logical_lines(text: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let mut open: Option<String> = None;
    for natural in text.split(['\n', '\r']) {
        let natural = natural.trim_start_matches(BLANKS);
        if open.is_none() && (natural.is_empty() || natural.starts_with(['#', '!'])) {
            continue;
        }
        let mut line = open.take().unwrap_or_default();
        match continued(natural) {
            Some(part) => open = Some(line + part),
            None => {
                line.push_str(natural);
                lines.push(line);
            }
        }
    }
    lines.extend(open);
    lines
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
    fn a_written_line_reads_back() {
        for value in ["", "plain", "back\\slash", "two\nlines", "a=b:c d"] {
            assert_eq!(pairs(&line("key", value)), [pair("key", value)]);
        }
    }
}

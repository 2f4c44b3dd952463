//! Pages of a table that is too large for one frame; every other table goes in one answer.
//!
//! Java's reader stops one entry early when exactly one is left, and a Java slave then deletes that entry (reference
//! java-5.5 3): no page leaves exactly one.

use std::ops::Range;

use wire::{body::DataVersion, frame::MAX_FRAME, json};

/// Bytes of a body that surely fit into a frame.
pub const FITS: usize = MAX_FRAME - (1 << 20);

/// What a reader asked for.
pub struct Asked<'a> {
    /// First entry.
    pub from: Option<i32>,
    /// At most so many.
    pub max: Option<i32>,
    /// The version it has read so far, as JSON.
    pub version: Option<&'a str>,
}

impl Asked<'_> {
    /// False for readers before 5.4, which know no pages.
    pub fn wants_pages(&self) -> bool {
        self.from.is_some() || self.max.is_some() || self.version.is_some()
    }

    /// The entries to send, given the bytes of each.
    pub fn page(&self, current: &DataVersion, sizes: &[usize], fits: usize) -> Range<usize> {
        let max = usize::try_from(self.max.unwrap_or(i32::MAX)).unwrap_or(usize::MAX).max(1);
        page(sizes, self.start(current).min(sizes.len()), max, fits)
    }

    /// A reader of another version begins again.
    fn start(&self, current: &DataVersion) -> usize {
        let text = self.version.unwrap_or_default();
        let same = !text.trim().is_empty() && json::decode::<DataVersion>(text.as_bytes()).is_ok_and(|v| v == *current);
        if same { self.from.and_then(|from| usize::try_from(from).ok()).unwrap_or(0) } else { 0 }
    }
}

fn page(sizes: &[usize], from: usize, max: usize, fits: usize) -> Range<usize> {
    let mut to = from;
    let mut bytes = 0;
    while to < sizes.len() && to - from < max && (to == from || bytes + sizes[to] <= fits) {
        bytes += sizes[to];
        to += 1;
    }
    match sizes.len() - to {
        1 if to - from > 1 => from..to - 1,
        1 if to > from => from..to + 1,
        _ => from..to,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As Java reads; answers how many entries it has at the end.
    fn java_reads(total: usize, max: i32, fits: usize) -> usize {
        let sizes = vec![100; total];
        let current = DataVersion { counter: 3, ..DataVersion::default() };
        let text = String::from_utf8(json::encode(&current).to_vec()).unwrap();
        let mut read = 0;
        loop {
            let version = if read == 0 { "" } else { &text };
            let asked = Asked { from: Some(read as i32), max: Some(max), version: Some(version) };
            let page = asked.page(&current, &sizes, fits);
            assert_eq!(page.start, read);
            read = page.end;
            if read + 1 >= total {
                return read;
            }
        }
    }

    #[test]
    fn no_page_leaves_exactly_one() {
        for total in 0..60 {
            for max in 1..8 {
                for fits in [50, 100, 250, 1000] {
                    assert_eq!(java_reads(total, max, fits), total, "{total} {max} {fits}");
                }
            }
        }
    }

    #[test]
    fn another_version_begins_again() {
        let sizes = [1; 10];
        let current = DataVersion { counter: 3, ..DataVersion::default() };
        let ask = |version| Asked { from: Some(4), max: Some(3), version: Some(version) }.page(&current, &sizes, 99);
        assert_eq!(ask(r#"{"counter":3,"stateVersion":0,"timestamp":0}"#), 4..7);
        assert_eq!(ask(r#"{"counter":2,"stateVersion":0,"timestamp":0}"#), 0..3);
        assert_eq!(ask(" "), 0..3);
        assert_eq!(ask("garbage"), 0..3);
    }
}

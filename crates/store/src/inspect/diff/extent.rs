//! Which bytes of the log a store has: the stretches that its segments cover, up to the end of the last record.

use crate::{
    error::StoreError,
    inspect::{
        diff::{Compared, Part, Weight},
        log::{Halt, Scanner},
        view::StoreView,
    },
};

/// Stretches of the log that are there.
pub(super) struct Extent {
    pub(super) min: i64,
    /// End of the last record.
    pub(super) end: i64,
    pub(super) stretches: Vec<(i64, i64)>,
}

impl Extent {
    /// Looks for the end from the newest queue unit on.
    pub(super) fn of(view: &StoreView) -> Result<Self, StoreError> {
        let mut newest = Vec::new();
        for queue in view.queues()? {
            let last = queue.unit_at(queue.end()? - 1)?;
            newest.extend(last.filter(|unit| !unit.is_filler()).map(|unit| unit.physical_offset));
        }
        newest.sort_unstable();
        view.log.refresh()?;
        let (log, min) = (&view.log, view.log.min());
        // A damaged unit may claim any place: only a whole record counts.
        let mut known = min;
        while let Some(place) = newest.pop() {
            if log.record(place)?.is_some() {
                known = place;
                break;
            }
        }
        let end = end_of(view, known)?;
        // A segment that was just being made had no bytes yet when it was listed.
        log.refresh()?;
        let size = log.size();
        let mut stretches: Vec<(i64, i64)> = Vec::new();
        for segment in log.segments() {
            let (from, to) = (segment.base, (segment.base + (segment.len as i64).min(size)).min(end));
            match stretches.last_mut() {
                _ if from >= to => {}
                Some(last) if last.1 == from => last.1 = to,
                _ => stretches.push((from, to)),
            }
        }
        Ok(Self { min: min.min(end), end, stretches })
    }
}

/// End of the last record. `known` is a place before it.
fn end_of(view: &StoreView, known: i64) -> Result<i64, StoreError> {
    let log = &view.log;
    let mut from = known;
    for segment in log.segments().iter().rev().filter(|segment| segment.base > known) {
        if log.record(segment.base)?.is_some() {
            from = segment.base;
            break;
        }
    }
    let (mut scanner, mut end) = (Scanner::new(log, from), from);
    while scanner.step(|record| end = record.physical_offset() + record.size() as i64)? == Halt::More {}
    Ok(end)
}

/// Fills in what both have and tells what one lacks.
pub(super) fn compare(extents: &[Extent; 2], out: &mut Compared) {
    let [a, b] = extents;
    out.common = intersection(&a.stretches, &b.stretches);
    for (number, (mine, other)) in [(a, b), (b, a)].into_iter().enumerate() {
        for (from, to) in without(&mine.stretches, &other.stretches) {
            for (from, to, which) in parts(from, to, other) {
                let weight = match which {
                    Lack::Tail if out.any_running() => Weight::Note,
                    Lack::Middle => Weight::Different,
                    _ => Weight::Behind,
                };
                let has = format!("{} bytes", to - from);
                let lacks = match which {
                    Lack::Head => format!("its log begins at {}", other.min),
                    Lack::Tail => format!("its log ends at {}", other.end),
                    Lack::Middle => "missing".to_owned(),
                };
                let texts = if number == 0 { [has, lacks] } else { [lacks, has] };
                out.add(Part::Range, weight, format!("{from} to {to}"), texts);
            }
        }
    }
}

#[derive(Clone, Copy)]
enum Lack {
    Head,
    Middle,
    Tail,
}

/// A missing stretch, cut where the other's log begins and ends.
fn parts(from: i64, to: i64, other: &Extent) -> Vec<(i64, i64, Lack)> {
    let pieces = [
        (from, to.min(other.min), Lack::Head),
        (from.max(other.min), to.min(other.end), Lack::Middle),
        (from.max(other.end).max(other.min), to, Lack::Tail),
    ];
    pieces.into_iter().filter(|(from, to, _)| from < to).collect()
}

fn intersection(a: &[(i64, i64)], b: &[(i64, i64)]) -> Vec<(i64, i64)> {
    let pairs = a.iter().flat_map(|left| b.iter().map(move |right| (left.0.max(right.0), left.1.min(right.1))));
    pairs.filter(|(from, to)| from < to).collect()
}

/// What of `a` is not in `b`.
fn without(a: &[(i64, i64)], b: &[(i64, i64)]) -> Vec<(i64, i64)> {
    let mut rest = Vec::new();
    for &(mut from, to) in a {
        for right in b.iter().filter(|right| right.0 < to) {
            if right.1 <= from {
                continue;
            }
            if right.0 > from {
                rest.push((from, right.0));
            }
            from = from.max(right.1);
        }
        if from < to {
            rest.push((from, to));
        }
    }
    rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stretches() {
        let (a, b) = ([(0, 40), (60, 100)], [(20, 30), (50, 120)]);
        assert_eq!(intersection(&a, &b), [(20, 30), (60, 100)]);
        assert_eq!((without(&a, &b), without(&b, &a)), (vec![(0, 20), (30, 40)], vec![(50, 60), (100, 120)]));
        assert!(without(&[(5, 5)], &[]).is_empty() && without(&[], &a).is_empty());
    }
}

//! Consume queues of two stores, unit by unit, as far as both logs go. A running broker, or one that was killed, may owe
//! the last units of a queue.

use std::collections::BTreeMap;

use crate::{
    error::StoreError,
    ext::{self, ExtUnit, Piece},
    inspect::{
        diff::{Compared, Extent, Part, Weight},
        queues::QueueFiles,
        verify::Watch,
        view::StoreView,
    },
    queue::{Kind, SIMPLE_UNIT, Unit, decode, get_i64},
};

/// Units that are read at once.
const AT_ONCE: usize = 4096;
/// Byte of a simple unit where its tags code, or an address, stands.
const AT_CODE: usize = SIMPLE_UNIT - 8;
/// Rounds of waiting for units that running brokers are about to write, in all.
const PATIENCE: u32 = 40;

type Name = (String, i32);

struct Walk<'o> {
    /// The stretch of the log that is compared.
    from: i64,
    to: i64,
    patience: u32,
    out: &'o mut Compared,
}

/// The units of a queue whose records lie in the compared stretch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Span {
    /// Places in the row.
    first: i64,
    end: i64,
    /// Queue offsets.
    min: i64,
    max: i64,
}

/// Compares all queues.
pub(super) fn compare(
    views: [&StoreView; 2],
    extents: &[Extent; 2],
    watch: &mut dyn Watch,
    out: &mut Compared,
) -> Result<(), StoreError> {
    let from = extents[0].min.max(extents[1].min);
    let to = extents[0].end.min(extents[1].end);
    let mut all: BTreeMap<Name, [Option<QueueFiles>; 2]> = BTreeMap::new();
    for (side, view) in views.iter().enumerate() {
        for queue in view.queues()? {
            let place = &mut all.entry((queue.topic.to_string(), queue.queue_id)).or_default()[side];
            // In both forms: the one that holds something counts, as at a start.
            if place.is_none() || queue.end()? > queue.start() {
                *place = Some(queue);
            }
        }
    }
    let mut walk = Walk { from, to: to.max(from), patience: PATIENCE, out };
    for (name, sides) in all {
        match sides {
            [Some(a), Some(b)] => walk.both([a, b], watch)?,
            [Some(queue), None] => walk.single(&name, 0, &queue)?,
            [None, Some(queue)] => walk.single(&name, 1, &queue)?,
            [None, None] => {}
        }
    }
    Ok(())
}

impl Walk<'_> {
    fn span(&self, queue: &QueueFiles) -> Result<Span, StoreError> {
        let all = queue.end()?;
        let first = queue.first_at(self.from, all)?;
        let end = queue.first_at(self.to, all)?;
        // A simple unit's place is its number; of a batch queue only units tell.
        let offset = |place: i64| -> Result<i64, StoreError> {
            if queue.kind == Kind::Simple {
                return Ok(place);
            }
            let before = queue.unit_at(place - 1)?.map(|unit| unit.next());
            Ok(before.or(queue.unit_at(place)?.map(|unit| unit.queue_offset)).unwrap_or(0))
        };
        Ok(Span { first, end, min: offset(first)?, max: offset(end)? })
    }

    /// A queue that only one side has.
    fn single(&mut self, name: &Name, side: usize, queue: &QueueFiles) -> Result<(), StoreError> {
        let span = self.span(queue)?;
        if queue.end()? == queue.start() {
            return Ok(());
        }
        let (weight, why) = match span.end > span.first {
            true if self.owes(1 - side) => (Weight::Note, "not there yet"),
            true => (Weight::Different, "not there"),
            false if queue.end()? > span.end => {
                (Weight::Note, "not there: its messages begin where the compared part ends")
            }
            // Should this side become master, its offsets begin at 0 again.
            false => (Weight::Behind, "not there: its messages are from before the compared part"),
        };
        let has = format!("{} to {}", span.min, span.max);
        let texts = if side == 0 { [has, why.to_owned()] } else { [why.to_owned(), has] };
        self.out.add(Part::Queue, weight, format!("{} {}", name.0, name.1), texts);
        Ok(())
    }

    /// The views of this side may lack what its log has, until its broker goes on or starts.
    fn owes(&self, side: usize) -> bool {
        self.out.sides[side].running || !self.out.sides[side].clean
    }

    fn both(&mut self, mut queues: [QueueFiles; 2], watch: &mut dyn Watch) -> Result<(), StoreError> {
        self.out.queues += 1;
        let name = queues[0].name();
        if queues[0].kind != queues[1].kind {
            let texts = [0, 1].map(|side| format!("units as in {}", queues[side].kind.directory()));
            self.out.add(Part::Queue, Weight::Different, name, texts);
            return Ok(());
        }
        let mut spans = [self.span(&queues[0])?, self.span(&queues[1])?];
        while spans[0].max != spans[1].max && self.out.any_running() && self.patience > 0 {
            self.patience -= 1;
            watch.pause();
            for (queue, span) in queues.iter_mut().zip(&mut spans) {
                queue.refresh()?;
                *span = self.span(queue)?;
            }
        }
        if let Some(units) = self.first_difference(&queues, &spans)? {
            let name = format!("{name} offset {}", units[0].unit.queue_offset);
            self.out.add(Part::Queue, Weight::Different, name, units.map(|unit| unit.told()));
            return Ok(());
        }
        let [a, b] = spans;
        if (a.min, a.max) != (b.min, b.max) {
            let shorter = usize::from(b.max < a.max);
            let weight = match a.min == b.min && self.owes(shorter) {
                true => Weight::Note,
                false => Weight::Different,
            };
            let owed = |side| if weight == Weight::Note && side == shorter { ", more to be built" } else { "" };
            let texts = [0, 1].map(|side: usize| format!("{} to {}{}", spans[side].min, spans[side].max, owed(side)));
            self.out.add(Part::Queue, weight, name, texts);
        }
        Ok(())
    }

    /// The first two units that are not the same.
    fn first_difference(
        &mut self,
        queues: &[QueueFiles; 2],
        spans: &[Span; 2],
    ) -> Result<Option<[Seen; 2]>, StoreError> {
        let kind = queues[0].kind;
        let [a, b] = spans;
        // Numbers of a simple row are places; rows of batch units may have begun at different times.
        let mut at = match kind {
            Kind::Simple => [a.first.max(b.first); 2],
            Kind::Batch => [a.first, b.first],
        };
        let mut bufs = [Vec::new(), Vec::new()];
        let mut pieces = [Piece::default(), Piece::default()];
        while at[0] < a.end && at[1] < b.end {
            let mut count = AT_ONCE.min((a.end - at[0]).min(b.end - at[1]) as usize);
            for side in [0, 1, 0] {
                count = queues[side].read(at[side], count, &mut bufs[side])?;
            }
            if count == 0 {
                return Ok(None);
            }
            self.out.units += count as u64;
            let size = kind.unit_size();
            let pairs = bufs[0].chunks_exact(size).zip(bufs[1].chunks_exact(size)).take(count);
            for (number, (mine, other)) in (0..).zip(pairs) {
                let leads_on = |unit| kind == Kind::Simple && ext::is_address(get_i64(unit, AT_CODE));
                let extended = leads_on(mine) || leads_on(other);
                if mine == other && !extended {
                    continue;
                }
                let mut seen = |side: usize, bytes| {
                    Seen::look(decode(kind, at[side] + number, bytes), &queues[side], &mut pieces[side])
                };
                let seen = [seen(0, mine)?, seen(1, other)?];
                if !extended || !seen[0].is_same(&seen[1]) {
                    return Ok(Some(seen));
                }
            }
            at = at.map(|place| place + count as i64);
        }
        Ok(None)
    }
}

/// A unit, and where it goes on.
struct Seen {
    unit: Unit,
    /// `Some(None)` for an address that leads nowhere.
    ext: Option<Option<ExtUnit>>,
}

impl Seen {
    fn look(unit: Unit, queue: &QueueFiles, piece: &mut Piece) -> Result<Self, StoreError> {
        let ext = queue.is_extended(&unit).then(|| queue.extension(&unit, piece)).transpose()?;
        Ok(Self { unit, ext })
    }

    /// Two units say the same, whether by themselves or where they go on. Addresses are each store's own affair.
    fn is_same(&self, other: &Self) -> bool {
        let place = |seen: &Self| Unit { tags_code: 0, ..seen.unit };
        let code = |seen: &Self| seen.ext.map_or(Some(seen.unit.tags_code), |ext| ext.map(|ext| ext.tags_code));
        let time = |seen: &Self| seen.ext.flatten().map(|ext| ext.store_timestamp);
        let times = [time(self), time(other)];
        place(self) == place(other) && code(self) == code(other) && (times[0] == times[1] || times.contains(&None))
    }

    fn told(&self) -> String {
        let Unit { queue_offset, count, physical_offset, size, tags_code, .. } = self.unit;
        let place = format!("offset {queue_offset} count {count} at {physical_offset} size {size}");
        match self.ext {
            None => format!("{place} code {tags_code}"),
            Some(Some(ext)) => format!("{place} code {} time {} in the extension", ext.tags_code, ext.store_timestamp),
            Some(None) => format!("{place}, its extension is lost"),
        }
    }
}

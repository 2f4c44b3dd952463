//! What is printed at the end: a table for people, or JSON.

use std::fmt::Write;

use wire::{
    code::response,
    json::{Out, Style},
};

use super::{args::Work, process::Sample, round::Outcome, stats::Counts};

const QUANTILES: [(&str, f64); 5] = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999), ("p99.99", 0.9999)];

/// All rounds at one target.
pub(super) struct Summary {
    addr: String,
    counts: Option<Counts>,
    seconds: f64,
    cpu_seconds: Option<f64>,
    process: Option<Sample>,
    round_rates: Vec<f64>,
}

/// A number that is compared between targets.
struct Figure {
    name: &'static str,
    unit: &'static str,
    value: Option<f64>,
}

impl Summary {
    pub fn new(addr: &str) -> Self {
        let addr = addr.to_owned();
        Self { addr, counts: None, seconds: 0.0, cpu_seconds: None, process: None, round_rates: Vec::new() }
    }

    /// Adds a round.
    pub fn add(&mut self, round: Outcome) {
        self.round_rates.push(round.counts.messages as f64 / round.seconds);
        self.seconds += round.seconds;
        self.process = round.process.or(self.process);
        if let Some(cpu_seconds) = round.cpu_seconds {
            self.cpu_seconds = Some(self.cpu_seconds.unwrap_or(0.0) + cpu_seconds);
        }
        match &mut self.counts {
            Some(counts) => counts.absorb(&round.counts),
            None => self.counts = Some(round.counts),
        }
    }

    pub fn addr(&self) -> &str {
        &self.addr
    }

    pub fn messages(&self) -> u64 {
        self.counts.as_ref().map_or(0, |counts| counts.messages)
    }

    fn rate(&self, count: u64) -> f64 {
        if self.seconds > 0.0 { count as f64 / self.seconds } else { 0.0 }
    }

    fn quantile_ms(&self, quantile: f64) -> Option<f64> {
        let counts = self.counts.as_ref().filter(|counts| !counts.latency.is_empty())?;
        Some(counts.latency.value_at_quantile(quantile) as f64 / 1e6)
    }

    fn figures(&self) -> Vec<Figure> {
        let bytes = self.counts.as_ref().map_or(0, |counts| counts.bytes);
        let per_message = |seconds: f64| (self.messages() > 0).then(|| seconds * 1e6 / self.messages() as f64);
        let per_gigabyte = |seconds: f64| (bytes > 0).then(|| seconds * 1e9 / bytes as f64);
        let figure = |name, unit, value| Figure { name, unit, value };
        let mut figures = vec![
            figure("messages", "", Some(self.messages() as f64)),
            figure("throughput", "msg/s", Some(self.rate(self.messages()))),
            figure("data", "MB/s", Some(self.rate(bytes) / 1e6)),
        ];
        figures.extend(QUANTILES.map(|(name, quantile)| figure(name, "ms", self.quantile_ms(quantile))));
        figures.push(figure("max", "ms", self.quantile_ms(1.0)));
        figures.push(figure("cpu", "s", self.cpu_seconds));
        figures.push(figure("cpu a message", "us", self.cpu_seconds.and_then(per_message)));
        figures.push(figure("cpu a GB", "s", self.cpu_seconds.and_then(per_gigabyte)));
        figures.push(figure("resident", "MB", self.process.map(|process| process.rss as f64 / 1e6)));
        figures.push(figure("anonymous", "MB", self.process.map(|process| process.anonymous as f64 / 1e6)));
        figures
    }
}

/// How requests were made, in words.
fn loop_text(work: &Work) -> String {
    match work {
        Work::Produce(args) => requests_text(args.rate, args.depth),
        Work::Query(args) => requests_text(args.rate, args.depth),
        Work::Consume(args) if args.once => format!("one pull of up to {} a queue, all of it once", args.batch),
        Work::Consume(args) => format!("one pull of up to {} a queue", args.batch),
    }
}

fn requests_text(rate: Option<f64>, depth: usize) -> String {
    match rate {
        Some(rate) => format!("open loop, {rate} msg/s, latency from the intended start"),
        None => format!("closed loop, {depth} in flight a connection"),
    }
}

/// A table; with two targets their ratio beside them.
pub(super) fn text(work: &Work, summaries: &[Summary]) -> String {
    let mut text = format!("{}: {} connections, {}\n", work.name(), work.common().connections, loop_text(work));
    let columns: Vec<Vec<Figure>> = summaries.iter().map(Summary::figures).collect();
    // Writing to a String cannot fail, here and below.
    let _ = write!(text, "{:<22}", "");
    for summary in summaries {
        let _ = write!(text, "{:>22}", summary.addr);
    }
    text.push_str(if columns.len() > 1 { "      first / second\n" } else { "\n" });
    for (row, figure) in columns[0].iter().enumerate() {
        let values: Vec<Option<f64>> = columns.iter().map(|column| column[row].value).collect();
        if values.iter().any(Option::is_some) {
            write_row(&mut text, figure, &values);
        }
    }
    for summary in summaries {
        write_refusals(&mut text, summary);
    }
    text.trim_end().to_owned()
}

fn write_row(text: &mut String, figure: &Figure, values: &[Option<f64>]) {
    let name =
        if figure.unit.is_empty() { figure.name.to_owned() } else { format!("{} ({})", figure.name, figure.unit) };
    let _ = write!(text, "{name:<22}");
    for value in values {
        let digits = if figure.unit.is_empty() { 0 } else { 3 };
        let cell = value.map_or("-".to_owned(), |value| format!("{value:.digits$}"));
        let _ = write!(text, "{cell:>22}");
    }
    if let Some(ratio) = ratio(values) {
        let _ = write!(text, "{ratio:>20.4}");
    }
    text.push('\n');
}

/// The first by the second.
fn ratio(values: &[Option<f64>]) -> Option<f64> {
    match values {
        [Some(first), Some(second)] if *second != 0.0 => Some(first / second),
        _ => None,
    }
}

fn write_refusals(text: &mut String, summary: &Summary) {
    for (code, (count, remark)) in summary.counts.iter().flat_map(|counts| &counts.refusals) {
        let name = response::name(*code);
        let _ = writeln!(text, "{}: {count} answers of {name} ({code}): {remark}", summary.addr);
    }
}

/// One object: what was done, each target, and with two of them the ratios.
pub(super) fn json(work: &Work, summaries: &[Summary]) -> String {
    let mut out = Out::new(Style::Standard);
    out.begin_object();
    text_member(&mut out, "work", work.name());
    text_member(&mut out, "loop", &loop_text(work));
    float_member(&mut out, "connections", work.common().connections as f64);
    if let Work::Produce(args) = work {
        float_member(&mut out, "size", args.size as f64);
        float_member(&mut out, "batch", args.batch as f64);
        float_member(&mut out, "depth", args.depth as f64);
    }
    out.text_key("targets");
    out.raw("[");
    for (at, summary) in summaries.iter().enumerate() {
        out.raw(if at > 0 { "," } else { "" });
        write_target(&mut out, summary);
    }
    out.raw("]");
    if let [first, second] = summaries {
        write_ratios(&mut out, &first.figures(), &second.figures());
    }
    out.end_object();
    out.into_text()
}

fn write_target(out: &mut Out, summary: &Summary) {
    out.begin_object();
    text_member(out, "addr", &summary.addr);
    float_member(out, "seconds", summary.seconds);
    for figure in summary.figures() {
        let Some(value) = figure.value else { continue };
        float_member(out, &member_name(&figure), value);
    }
    out.text_key("round_rates");
    out.raw("[");
    for (at, rate) in summary.round_rates.iter().enumerate() {
        out.raw(if at > 0 { "," } else { "" });
        out.float(*rate);
    }
    out.raw("]");
    out.text_key("refusals");
    out.begin_object();
    for (code, (count, _)) in summary.counts.iter().flat_map(|counts| &counts.refusals) {
        float_member(out, &code.to_string(), *count as f64);
    }
    out.end_object();
    out.end_object();
}

fn write_ratios(out: &mut Out, first: &[Figure], second: &[Figure]) {
    out.text_key("first_by_second");
    out.begin_object();
    for (ours, theirs) in first.iter().zip(second) {
        if let Some(ratio) = ratio(&[ours.value, theirs.value]) {
            float_member(out, &ours.name.replace(' ', "_"), ratio);
        }
    }
    out.end_object();
}

/// The name with its unit, like `cpu_a_message_us`.
fn member_name(figure: &Figure) -> String {
    let unit = figure.unit.replace('/', "_per_");
    let name = figure.name.replace(' ', "_");
    if unit.is_empty() { name } else { format!("{name}_{unit}") }
}

fn text_member(out: &mut Out, name: &str, value: &str) {
    out.text_key(name);
    out.string(value);
}

fn float_member(out: &mut Out, name: &str, value: f64) {
    out.text_key(name);
    // Whole numbers stay whole.
    if value.fract() == 0.0 && value.abs() < 9e15 { out.integer(value as i64) } else { out.float(value) }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn outcome(messages: u64) -> Outcome {
        let mut counts = Counts::new().unwrap();
        (0..messages).for_each(|n| counts.answered(Duration::from_micros(100 + n), 1, 1000));
        let process = Some(Sample { cpu_seconds: 1.0, rss: 2_000_000, anonymous: 1_000_000 });
        Outcome { counts, seconds: 2.0, cpu_seconds: Some(0.5), process }
    }

    #[test]
    fn rounds_add_up() {
        let mut summary = Summary::new("a:1");
        summary.add(outcome(1000));
        summary.add(outcome(3000));
        assert_eq!((summary.messages(), summary.seconds, summary.round_rates.len()), (4000, 4.0, 2));
        let figures = summary.figures();
        let value = |name: &str| figures.iter().find(|figure| figure.name == name).and_then(|figure| figure.value);
        assert_eq!((value("throughput"), value("cpu a message")), (Some(1000.0), Some(250.0)));
        assert!((value("p50").unwrap() - 1.1).abs() < 0.02, "{:?}", value("p50"));
    }

    #[test]
    fn ratios_need_both() {
        assert_eq!(ratio(&[Some(1.0), Some(4.0)]), Some(0.25));
        assert_eq!(
            (ratio(&[Some(1.0)]), ratio(&[Some(1.0), None]), ratio(&[Some(1.0), Some(0.0)])),
            (None, None, None)
        );
    }
}

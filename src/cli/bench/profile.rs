//! Where the time of a decode step and of a prefill step goes, kernel by kernel; every time is the median of the runs.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use super::Args;
use super::speed::Spread;
use crate::chat::session::Session;
use crate::cli::{report, term};
use crate::engine::Profile;
use crate::error::Result;
use crate::gpu::Cost;
use crate::gpu::profile::{Sample, Timed};

/// One step.
struct Step {
    what: &'static str,
    /// The longest first.
    rows: Vec<Row>,
    us: f64,
    /// By the GPU's timestamps; `None`: by the host's clock.
    gpu: Option<Stretch>,
    dispatches: usize,
    host_us: f64,
}

struct Stretch {
    gaps_us: f64,
    /// Bytes a second that the GPU copies.
    copy_rate: Option<f64>,
}

/// All dispatches of one kernel.
struct Row {
    kernel: String,
    count: usize,
    us: f64,
    cost: Cost,
}

pub(super) fn run(args: &Args, session: &mut Session) -> Result<()> {
    let mut steps = Vec::new();
    for (what, decode) in [("decode", true), ("prefill", false)] {
        let (depth, rows) = (args.depth[0], args.prefill[0]);
        let profile = session.answers.engine_mut().profile(decode, depth, rows, args.runs);
        steps.push(Step::of(what, &pollster::block_on(profile)?));
    }
    if args.json {
        let of = |each: fn(&Step) -> Value| -> Value { steps.iter().map(|step| (step.what, each(step))).collect() };
        let mut told = of(|step| step.rows.iter().map(|row| step.row_json(row)).collect());
        told["model"] = json!(session.path.display().to_string());
        told["adapter"] = report::adapter(session.engine());
        told["kv"] = json!(session.engine().config().kv.to_string());
        told["runs"] = json!(args.runs);
        told["gpu"] = of(Step::gpu_json);
        told["host"] = of(|step| json!({ "dispatches": step.dispatches, "us": step.host_us }));
        return term::json(&told);
    }
    term::out(&(super::heading(session) + &steps.iter().map(Step::text).collect::<String>()))
}

impl Step {
    fn of(what: &'static str, profile: &Profile) -> Self {
        let Profile { runs, copy_rate, dispatches, host } = profile;
        let mut kernels: BTreeMap<&str, Row> = BTreeMap::new();
        for Sample { label, cost, .. } in runs.iter().take(1).flat_map(|run| &run.samples) {
            let fresh = || Row { kernel: label.clone(), count: 0, us: 0.0, cost: Cost::default() };
            let row = kernels.entry(label).or_insert_with(fresh);
            row.count += 1;
            row.cost.read += cost.read;
            row.cost.written += cost.written;
            row.cost.flops += cost.flops;
        }
        let mut rows: Vec<Row> = kernels.into_values().collect();
        for row in &mut rows {
            row.us = median(runs, |run| {
                run.samples.iter().filter(|sample| sample.label == row.kernel).map(|sample| sample.time).sum()
            });
        }
        rows.sort_by(|a, b| b.us.total_cmp(&a.us));
        let whole = |run: &Timed| match run.stretch {
            Some(stretch) => stretch.whole,
            None => run.samples.iter().map(|sample| sample.time).sum(),
        };
        let gpu = runs.iter().all(|run| run.stretch.is_some()).then(|| Stretch {
            gaps_us: median(runs, |run| run.stretch.map_or(Duration::ZERO, |stretch| stretch.gaps)),
            copy_rate: *copy_rate,
        });
        Self { what, rows, us: median(runs, whole), gpu, dispatches: *dispatches, host_us: us(*host) }
    }

    fn share(&self, us: f64) -> f64 {
        us / self.us
    }

    fn copy_rate(&self) -> Option<f64> {
        self.gpu.as_ref().and_then(|gpu| gpu.copy_rate)
    }

    fn of_copy(&self, row: &Row) -> Option<f64> {
        self.copy_rate().map(|rate| row.bytes_a_second() / rate)
    }

    fn row_json(&self, row: &Row) -> Value {
        let Row { kernel, count, us, cost } = row;
        json!({
            "kernel": kernel, "count": count, "us": us, "share": self.share(*us),
            "read_bytes": cost.read, "written_bytes": cost.written,
            "gb_s": row.bytes_a_second() / 1e9, "of_copy": self.of_copy(row),
            "flops": cost.flops, "gflop_s": row.flops_a_second() / 1e9,
        })
    }

    fn gpu_json(&self) -> Value {
        let of = |gpu: &Stretch| {
            let (gaps, rate) = (gpu.gaps_us, gpu.copy_rate.map(|rate| rate / 1e9));
            json!({ "us": self.us, "gaps_us": gaps, "gaps_share": self.share(gaps), "copy_gb_s": rate })
        };
        self.gpu.as_ref().map_or(Value::Null, of)
    }

    fn text(&self) -> String {
        let clock = if self.gpu.is_some() { "by the GPU's timestamps" } else { "each kernel waited for" };
        let copies =
            self.copy_rate().map(|rate| format!("; the GPU copies {:.1} GB/s", rate / 1e9)).unwrap_or_default();
        let (what, ms, us, dispatches) = (self.what, self.us / 1e3, self.host_us, self.dispatches);
        let mut text =
            format!("{what}: {ms:.2} ms, {clock}; on the host {us:.0} µs for {dispatches} dispatches{copies}\n");
        let titles = ["µs", "share", "calls", "read", "written", "GB/s", "of copy", "GFLOP/s", "kernel"];
        text += &line(&titles.map(String::from));
        let time = |us: f64| [format!("{us:.1}"), percent(self.share(us))];
        for row in &self.rows {
            let [us, share] = time(row.us);
            let (read, written) = (term::bytes(row.cost.read), term::bytes(row.cost.written));
            let rate = format!("{:.2}", row.bytes_a_second() / 1e9);
            let of_copy = self.of_copy(row).map(percent).unwrap_or_default();
            let flops = match row.cost.flops {
                0 => String::new(),
                _ => format!("{:.2}", row.flops_a_second() / 1e9),
            };
            text += &line(&[us, share, row.count.to_string(), read, written, rate, of_copy, flops, row.kernel.clone()]);
        }
        if let Some(Stretch { gaps_us, .. }) = self.gpu {
            let ([us, share], nothing) = (time(gaps_us), String::new);
            let last = "gaps, in no kernel".into();
            text += &line(&[us, share, nothing(), nothing(), nothing(), nothing(), nothing(), nothing(), last]);
        }
        text
    }
}

impl Row {
    fn bytes_a_second(&self) -> f64 {
        (self.cost.read + self.cost.written) as f64 / (self.us * 1e-6)
    }

    fn flops_a_second(&self) -> f64 {
        self.cost.flops as f64 / (self.us * 1e-6)
    }
}

fn us(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

/// Microseconds, of at least one run.
fn median(runs: &[Timed], time: impl Fn(&Timed) -> Duration) -> f64 {
    Spread::of(runs.iter().map(|run| us(time(run))).collect()).median
}

fn percent(share: f64) -> String {
    format!("{:.1}%", share * 100.0)
}

fn line(cells: &[String; 9]) -> String {
    let [us, share, calls, read, written, rate, of_copy, flops, kernel] = cells;
    format!("{us:>10} {share:>6} {calls:>5} {read:>10} {written:>10} {rate:>8} {of_copy:>7} {flops:>9}  {kernel}\n")
}

//! The results of `bench prefix` as SVG.

use std::fmt::Display;

use plotters::chart::ChartContext;
use plotters::coord::ranged1d::{AsRangedCoord, ValueFormatter};
use plotters::prelude::*;

use crate::error::{Error, Result};

use crate::cli::report;

use super::modes::Mode;
use super::prefix::{Cell, Point};
use super::workload::{REUSABLE, WORKLOADS};

/// Told apart by people who see few colours (Okabe and Ito, 2008).
const COLOURS: [RGBColor; 8] = [
    RGBColor(0, 0, 0),
    RGBColor(213, 94, 0),
    RGBColor(230, 159, 0),
    RGBColor(0, 114, 178),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
    RGBColor(120, 120, 120),
];

const FONT: &str = "sans-serif";

fn failed(error: impl Display) -> Error {
    Error::Format {
        file: "the chart".into(),
        field: "drawing".into(),
        problem: error.to_string(),
        fix: "report this with prefix.json",
    }
}

/// Time to first token against prefix length, a line for each mode, the time on a logarithmic axis.
pub(crate) fn ttft(points: &[Point], suffix: usize, adapter: &str) -> Result<String> {
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, (860, 480)).into_drawing_area();
        root.fill(&WHITE).map_err(failed)?;
        let (plot, key) = root.split_horizontally(690);
        let longest = points.iter().map(|point| point.prefix_tokens).max().unwrap_or(1);
        let least = points.iter().map(|point| point.ttft_ms).fold(f64::INFINITY, f64::min).max(0.01);
        let most = points.iter().map(|point| point.ttft_ms).fold(0.0, f64::max).max(least);
        let mut chart = ChartBuilder::on(&plot)
            .caption(format!("Time to first token: a prefix and {suffix} tokens more"), (FONT, 20))
            .margin(16)
            .x_label_area_size(44)
            .y_label_area_size(72)
            .build_cartesian_2d(0..longest + longest / 20, (least / 1.6..most * 1.6).log_scale())
            .map_err(failed)?;
        axes(&mut chart, &format!("tokens of the prefix ({adapter})"), "milliseconds")?;
        for (index, mode) in modes(points).into_iter().enumerate() {
            let line: Vec<(usize, f64)> = points
                .iter()
                .filter(|point| point.mode == mode)
                .map(|point| (point.prefix_tokens, point.ttft_ms))
                .collect();
            draw(&mut chart, line, index, mode.label())?;
            let y = 70 + 24 * index as i32;
            let stroke = COLOURS[index % COLOURS.len()].stroke_width(2);
            key.draw(&PathElement::new(vec![(0, y), (18, y)], stroke)).map_err(failed)?;
            key.draw(&Text::new(mode.label(), (26, y - 6), (FONT, 13))).map_err(failed)?;
        }
        root.present().map_err(failed)?;
    }
    Ok(for_dark_pages(svg))
}

/// A bar for the first token of a prompt with the longest prefix, computed in full and found in each place.
pub(crate) fn restart(points: &[Point], suffix: usize, adapter: &str) -> Result<String> {
    const BARS: [(Mode, &str); 5] = [
        (Mode::KvCache, "computed in full"),
        (Mode::DiskHit, "after a restart, from disk"),
        (Mode::MemoryHit, "from memory"),
        (Mode::GpuHit, "from the GPU"),
        (Mode::ExactRepeat, "the same prompt again"),
    ];
    const LEFT: i32 = 230;
    let longest = points.iter().map(|point| point.prefix_tokens).max().unwrap_or(0);
    let time = |mode| points.iter().find(|point| point.prefix_tokens == longest && point.mode == mode);
    let bars: Vec<(f64, &str)> = BARS.iter().filter_map(|(mode, name)| Some((time(*mode)?.ttft_ms, *name))).collect();
    let most = bars.iter().map(|bar| bar.0).fold(0.01, f64::max);
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, (860, 64 + 30 * bars.len() as u32)).into_drawing_area();
        root.fill(&WHITE).map_err(failed)?;
        let title =
            format!("First token of a prompt of {} tokens, {longest} of them known ({adapter})", longest + suffix);
        root.draw(&Text::new(title, (16, 16), (FONT, 17))).map_err(failed)?;
        for (index, (ms, name)) in bars.into_iter().enumerate() {
            let y = 52 + 30 * index as i32;
            let end = LEFT + (520.0 * ms / most).max(1.0) as i32;
            let colour = COLOURS[if index == 0 { 7 } else { 3 }];
            root.draw(&Rectangle::new([(LEFT, y), (end, y + 18)], colour.filled())).map_err(failed)?;
            root.draw(&Text::new(name, (16, y + 1), (FONT, 15))).map_err(failed)?;
            root.draw(&Text::new(report::duration(ms), (end + 8, y + 1), (FONT, 15))).map_err(failed)?;
        }
        root.present().map_err(failed)?;
    }
    Ok(for_dark_pages(svg))
}

/// The chart with its colours turned over where a page is dark: black on white becomes white on black, and hues stay.
fn for_dark_pages(svg: String) -> String {
    const STYLE: &str =
        "<style>@media (prefers-color-scheme: dark) { svg { filter: invert(0.92) hue-rotate(180deg) } }</style>";
    match svg.find('>') {
        Some(head) => format!("{}\n{STYLE}{}", &svg[..=head], &svg[head + 1..]),
        None => svg,
    }
}

/// Prompt tokens that did not have to be computed, added up over the requests of each workload, a line for each reusable
/// part.
pub(crate) fn saved(cells: &[Cell]) -> Result<String> {
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, (860, 620)).into_drawing_area();
        root.fill(&WHITE).map_err(failed)?;
        let root = root.titled("Prefill tokens saved by pages on the GPU", (FONT, 20)).map_err(failed)?;
        for (area, workload) in root.split_evenly((2, 2)).iter().zip(&WORKLOADS) {
            let lines: Vec<(usize, Vec<(usize, usize)>)> = REUSABLE
                .iter()
                .filter_map(|&reusable| Some((reusable, saved_by(cells, workload.name, reusable)?)))
                .collect();
            let most = lines.iter().flat_map(|(_, line)| line).map(|point| point.1).max().unwrap_or(0).max(1);
            let mut chart = ChartBuilder::on(area)
                .caption(workload.name, (FONT, 16))
                .margin(12)
                .x_label_area_size(36)
                .y_label_area_size(56)
                .build_cartesian_2d(1..workload.requests, 0..most + most / 8 + 1)
                .map_err(failed)?;
            axes(&mut chart, "requests", "tokens")?;
            for (index, (reusable, line)) in lines.into_iter().enumerate() {
                draw(&mut chart, line, index, &format!("{reusable} % reusable"))?;
            }
            legend(&mut chart)?;
        }
        root.present().map_err(failed)?;
    }
    Ok(for_dark_pages(svg))
}

fn modes(points: &[Point]) -> Vec<Mode> {
    let mut modes = Vec::new();
    for point in points {
        if !modes.contains(&point.mode) {
            modes.push(point.mode);
        }
    }
    modes
}

fn saved_by(cells: &[Cell], workload: &str, reusable: usize) -> Option<Vec<(usize, usize)>> {
    let wanted =
        |cell: &&Cell| cell.workload == workload && cell.reusable_percent == reusable && cell.mode == Mode::GpuHit;
    let mut total = 0;
    let line = cells.iter().find(wanted)?.requests.iter().enumerate().map(|(index, sample)| {
        total += sample.prompt_tokens - sample.sources.computed;
        (index + 1, total)
    });
    Some(line.collect())
}

type Chart<'a, 'b, X, Y> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<X, Y>>;

fn axes<X, Y>(chart: &mut Chart<X, Y>, x: &str, y: &str) -> Result<()>
where
    X: Ranged + ValueFormatter<X::ValueType>,
    Y: Ranged<ValueType: Display> + ValueFormatter<Y::ValueType>,
{
    let mut mesh = chart.configure_mesh();
    mesh.x_desc(x)
        .y_desc(y)
        .y_label_formatter(&|value| value.to_string())
        .label_style((FONT, 13))
        .axis_desc_style((FONT, 14))
        .light_line_style(WHITE);
    mesh.draw().map_err(failed)
}

fn draw<X, Y, A: Clone + 'static, B: Clone + 'static>(
    chart: &mut Chart<X, Y>,
    line: Vec<(A, B)>,
    index: usize,
    label: &str,
) -> Result<()>
where
    X: Ranged<ValueType = A> + AsRangedCoord<CoordDescType = X>,
    Y: Ranged<ValueType = B> + AsRangedCoord<CoordDescType = Y>,
{
    let colour = COLOURS[index % COLOURS.len()];
    let dots: Vec<_> = line.iter().map(|point| Circle::new(point.clone(), 3, colour.filled())).collect();
    let series = chart.draw_series(LineSeries::new(line, colour.stroke_width(2))).map_err(failed)?;
    series.label(label).legend(move |(x, y)| PathElement::new(vec![(x, y), (x + 18, y)], colour.stroke_width(2)));
    chart.draw_series(dots).map_err(failed)?;
    Ok(())
}

fn legend<'a, X: Ranged, Y: Ranged>(chart: &mut Chart<'a, 'a, X, Y>) -> Result<()> {
    let mut labels = chart.configure_series_labels();
    labels
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE.mix(0.85))
        .border_style(BLACK.mix(0.2))
        .label_font((FONT, 13));
    labels.draw().map_err(failed)
}

//! Curves and bars, as SVG.

use std::path::Path;

use anyhow::{Result, anyhow};
use plotters::prelude::*;

const SIZE: (u32, u32) = (800, 480);
const FONT: &str = "sans-serif";
const COLOURS: [RGBColor; 5] = [
    RGBColor(0, 90, 170),
    RGBColor(210, 80, 0),
    RGBColor(120, 120, 120),
    RGBColor(30, 140, 60),
    RGBColor(140, 60, 150),
];

/// A plot.
pub(super) struct Plot {
    /// Of the file.
    pub(super) name: &'static str,
    pub(super) title: String,
    pub(super) what: What,
}

/// What it shows. Values are operations a second.
pub(super) enum What {
    /// Over a logarithmic axis.
    Curves {
        x: &'static str,
        curves: Vec<Curve>,
    },
    Bars(Vec<(String, f64)>),
}

/// One of the curves.
pub(super) struct Curve {
    pub(super) name: &'static str,
    pub(super) points: Vec<(f64, f64)>,
}

impl Plot {
    /// Writes the file.
    pub(super) fn draw(&self, directory: &Path) -> Result<()> {
        let file = directory.join(format!("{}.svg", self.name));
        let area = SVGBackend::new(&file, SIZE).into_drawing_area();
        let drawn = area.fill(&WHITE).map_err(|error| anyhow!("{error}")).and_then(|()| match &self.what {
            What::Curves { x, curves } => self.curves(&area, x, curves),
            What::Bars(bars) => self.bars(&area, bars),
        });
        drawn.map_err(|error| anyhow!("{}: {error}", file.display()))?;
        area.present().map_err(|error| anyhow!("{}: {error}", file.display()))
    }

    fn curves(&self, area: &Area<'_>, x: &str, curves: &[Curve]) -> Result<()> {
        let points = || curves.iter().flat_map(|curve| &curve.points);
        let (first, last) =
            points().fold((f64::MAX, 1.0_f64), |(low, high), (x, _)| (low.min(*x), high.max(*x)));
        let highest = points().fold(0.0_f64, |highest, (_, y)| highest.max(*y));
        let mut chart = ChartBuilder::on(area)
            .caption(&self.title, (FONT, 20))
            .margin(12)
            .x_label_area_size(44)
            .y_label_area_size(84)
            .build_cartesian_2d((first..last).log_scale(), 0.0..highest * 1.1)
            .map_err(|error| anyhow!("{error}"))?;
        let mesh = chart
            .configure_mesh()
            .x_desc(x)
            .y_desc("operations a second")
            .y_label_formatter(&|y| super::page::rate(*y))
            .draw();
        mesh.map_err(|error| anyhow!("{error}"))?;
        for (curve, colour) in curves.iter().zip(COLOURS) {
            let line = LineSeries::new(curve.points.iter().copied(), colour.stroke_width(2)).point_size(3);
            chart
                .draw_series(line)
                .map_err(|error| anyhow!("{error}"))?
                .label(curve.name)
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(2)));
        }
        let legend = chart.configure_series_labels().background_style(WHITE).border_style(BLACK).draw();
        legend.map_err(|error| anyhow!("{error}"))
    }

    fn bars(&self, area: &Area<'_>, bars: &[(String, f64)]) -> Result<()> {
        let highest = bars.iter().fold(0.0_f64, |highest, (_, y)| highest.max(*y));
        let mut chart = ChartBuilder::on(area)
            .caption(&self.title, (FONT, 20))
            .margin(12)
            .x_label_area_size(44)
            .y_label_area_size(84)
            .build_cartesian_2d((0..bars.len()).into_segmented(), 0.0..highest * 1.1)
            .map_err(|error| anyhow!("{error}"))?;
        let name = |at: &SegmentValue<usize>| match at {
            SegmentValue::CenterOf(at) => bars.get(*at).map_or(String::new(), |(name, _)| name.clone()),
            SegmentValue::Exact(_) | SegmentValue::Last => String::new(),
        };
        let mesh = chart
            .configure_mesh()
            .disable_x_mesh()
            .x_labels(bars.len())
            .x_label_formatter(&name)
            .y_desc("operations a second")
            .y_label_formatter(&|y| super::page::rate(*y))
            .draw();
        mesh.map_err(|error| anyhow!("{error}"))?;
        let drawn = bars.iter().enumerate().map(|(at, (name, height))| {
            let colour = if name.starts_with("quod") { COLOURS[0] } else { COLOURS[2] };
            let corners = [(SegmentValue::Exact(at), 0.0), (SegmentValue::Exact(at + 1), *height)];
            let mut bar = Rectangle::new(corners, colour.filled());
            bar.set_margin(0, 0, 12, 12);
            bar
        });
        chart.draw_series(drawn).map(drop).map_err(|error| anyhow!("{error}"))
    }
}

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;

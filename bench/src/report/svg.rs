//! Charts as inline SVG: lines, bars, and ratios with their intervals. Colours come from the page's style by class, so that a chart
//! is readable in light, in dark and on paper. Every text that comes from outside is escaped by `maud`.

use maud::{Markup, html};

use super::axis::Axis;

/// Width of a chart that has the page to itself, in CSS pixels at full size.
pub(super) const WIDE: f64 = 920.0;

/// Width of one of two side by side.
pub(super) const HALF: f64 = 448.0;

/// Width below which a chart is scrolled rather than made smaller: its text would be too small to read.
const LEAST: f64 = 600.0;

/// Width that a character of a label is given. Generous: a label that is cut off is worse than a narrow margin.
const CHARACTER: f64 = 6.9;

/// Height of a row of bars or ratios.
const ROW: f64 = 24.0;

/// Room below a chart for ticks and the axis' name.
const FOOT: f64 = 44.0;

/// Points up to which each gets a dot.
const DOTTED: usize = 60;

/// A length as it is written: a tenth of a pixel is fine enough.
fn px(length: f64) -> String {
    format!("{length:.1}")
}

fn width_of(text: &str) -> f64 {
    text.chars().count() as f64 * CHARACTER
}

/// The widest of these, with room around it.
fn column<'a>(texts: impl Iterator<Item = &'a str>) -> f64 {
    texts.map(width_of).fold(0.0, f64::max) + 14.0
}

/// One line of a chart. A point without a place on the axes breaks it.
#[derive(Debug)]
pub(super) struct Series {
    pub(super) name: String,
    /// "s0" to "s3", or "bad".
    pub(super) class: &'static str,
    pub(super) points: Vec<(f64, f64)>,
}

/// A chart of lines.
#[derive(Debug)]
pub(super) struct Lines {
    pub(super) about: String,
    pub(super) x: Axis,
    pub(super) y: Axis,
    pub(super) series: Vec<Series>,
    /// From, to, on the x axis: a part that does not count.
    pub(super) shaded: Option<(f64, f64, String)>,
}

/// The frame that all charts share: the area inside the axes.
#[derive(Clone, Copy)]
struct Inside {
    left: f64,
    top: f64,
    right: f64,
    bottom: f64,
}

impl Inside {
    fn x(&self, place: f64) -> f64 {
        self.left + place * (self.right - self.left)
    }

    fn y(&self, place: f64) -> f64 {
        self.bottom - place * (self.bottom - self.top)
    }

    /// The x axis below, with lines up through the chart.
    fn x_axis(&self, axis: &Axis) -> Markup {
        let ticks = axis.ticks.iter().filter_map(|(value, text)| Some((self.x(axis.place(*value)?), text)));
        html! {
            @for (x, text) in ticks {
                line.grid x1=(px(x)) x2=(px(x)) y1=(px(self.top)) y2=(px(self.bottom)) {}
                text.tick x=(px(x)) y=(px(self.bottom + 16.0)) text-anchor="middle" { (text) }
            }
            text.axis x=(px(f64::midpoint(self.left, self.right))) y=(px(self.bottom + 36.0)) text-anchor="middle" { (axis.label) }
        }
    }

    /// The y axis to the left, with lines across the chart; its name stands above it.
    fn y_axis(&self, axis: &Axis) -> Markup {
        let ticks = axis.ticks.iter().filter_map(|(value, text)| Some((self.y(axis.place(*value)?), text)));
        html! {
            @for (y, text) in ticks {
                line.grid x1=(px(self.left)) x2=(px(self.right)) y1=(px(y)) y2=(px(y)) {}
                text.tick x=(px(self.left - 8.0)) y=(px(y + 4.0)) text-anchor="end" { (text) }
            }
            text.axis x=(px(4.0)) y=(px(self.top - 12.0)) { (axis.label) }
        }
    }
}

fn drawing(width: f64, height: f64, about: &str, inner: &Markup) -> Markup {
    html! {
        svg xmlns="http://www.w3.org/2000/svg" viewBox=(format!("0 0 {} {}", px(width), px(height)))
            style=(format!("max-width:{}px;min-width:{}px", px(width), px(width.min(LEAST)))) role="img" aria-label=(about) { (inner) }
    }
}

impl Lines {
    /// The chart under its legend.
    pub(super) fn draw(&self) -> Markup {
        // Charts of the same seconds stand below each other: their axes begin at one place where labels allow.
        let left = column(self.y.ticks.iter().map(|(_, text)| text.as_str())).max(76.0);
        let inside = Inside { left, top: 26.0, right: WIDE - 26.0, bottom: 270.0 };
        let inner = html! {
            @if let Some((from, to, _)) = &self.shaded { (self.shade(inside, *from, *to)) }
            (inside.x_axis(&self.x))
            (inside.y_axis(&self.y))
            line.frame x1=(px(inside.left)) x2=(px(inside.right)) y1=(px(inside.bottom)) y2=(px(inside.bottom)) {}
            @for series in &self.series { (self.curve(inside, series)) }
        };
        let shaded = self.shaded.iter().map(|(_, _, text)| ("shade", text.as_str()));
        let entries = self.series.iter().map(|series| (series.class, series.name.as_str())).chain(shaded);
        html! {
            (legend(entries))
            (drawing(WIDE, inside.bottom + FOOT, &self.about, &inner))
        }
    }

    fn shade(&self, inside: Inside, from: f64, to: f64) -> Markup {
        let edge = |value| inside.x(self.x.place(value).unwrap_or(0.0).clamp(0.0, 1.0));
        let (from, to) = (edge(from), edge(to));
        html! {
            rect.shade x=(px(from)) width=(px(to - from)) y=(px(inside.top)) height=(px(inside.bottom - inside.top)) {}
        }
    }

    fn curve(&self, inside: Inside, series: &Series) -> Markup {
        let place = |&(x, y): &(f64, f64)| {
            let (x, y) = (self.x.place(x)?, self.y.place(y)?);
            Some((inside.x(x.clamp(0.0, 1.0)), inside.y(y.clamp(0.0, 1.0))))
        };
        let places: Vec<Option<(f64, f64)>> = series.points.iter().map(place).collect();
        let mut path = String::new();
        let mut pen_is_up = true;
        for place in &places {
            if let Some((x, y)) = place {
                path += &format!("{}{} {}", if pen_is_up { "M" } else { "L" }, px(*x), px(*y));
            }
            pen_is_up = place.is_none();
        }
        let count = places.iter().flatten().count();
        // A long curve only has its end marked: where samples become too few, or the run was over.
        let skipped = if count <= DOTTED { 0 } else { count - 1 };
        html! {
            g class=(series.class) {
                path.curve d=(path) {}
                @for (x, y) in places.iter().flatten().skip(skipped) {
                    circle cx=(px(*x)) cy=(px(*y)) r="2.4" {}
                }
            }
        }
    }
}

/// Meanings of the colours. HTML, not SVG, so that it wraps where it must.
fn legend<'a>(entries: impl Iterator<Item = (&'a str, &'a str)>) -> Markup {
    html! {
        ul.legend {
            @for (class, name) in entries { li { span class=(format!("swatch {class}")) {} (name) } }
        }
    }
}

/// A horizontal bar with its text.
#[derive(Debug)]
pub(super) struct Bar {
    pub(super) label: String,
    pub(super) value: f64,
    pub(super) text: String,
    /// "ours", "theirs" or "bad".
    pub(super) class: &'static str,
    /// The samples it was made of.
    pub(super) dots: Vec<f64>,
}

/// Bars below each other, from zero; a line at `limit`.
pub(super) fn bars(width: f64, about: &str, axis: &Axis, bars: &[Bar], limit: Option<f64>) -> Markup {
    let left = column(bars.iter().map(|bar| bar.label.as_str()));
    let right = column(bars.iter().map(|bar| bar.text.as_str()));
    // Labels that leave no room for bars make the chart wider rather than the bars shorter.
    let width = width.max(left + right + 180.0);
    let bottom = 8.0 + bars.len() as f64 * ROW;
    let inside = Inside { left, top: 8.0, right: width - right, bottom };
    let at = |value: f64| inside.x(axis.place(value).unwrap_or(0.0).clamp(0.0, 1.0));
    let inner = html! {
        (inside.x_axis(axis))
        @for (row, bar) in bars.iter().enumerate() {
            @let y = inside.top + row as f64 * ROW;
            text.label x=(px(left - 8.0)) y=(px(y + 16.0)) text-anchor="end" { (bar.label) }
            g class=(bar.class) {
                rect.bar x=(px(left)) y=(px(y + 4.0)) width=(px(at(bar.value) - left)) height=(px(ROW - 8.0)) rx="2" {}
            }
            @for dot in &bar.dots { circle.sample cx=(px(at(*dot))) cy=(px(y + ROW / 2.0)) r="2.2" {} }
            text.value x=(px(inside.right + 10.0)) y=(px(y + 16.0)) { (bar.text) }
        }
        @if let Some(limit) = limit {
            line.limit x1=(px(at(limit))) x2=(px(at(limit))) y1=(px(inside.top)) y2=(px(inside.bottom)) {}
        }
        line.frame x1=(px(left)) x2=(px(left)) y1=(px(inside.top)) y2=(px(inside.bottom)) {}
    };
    drawing(width, bottom + FOOT, about, &inner)
}

/// A ratio with its interval.
#[derive(Debug)]
pub(super) struct Estimate {
    pub(super) label: String,
    pub(super) low: f64,
    pub(super) middle: f64,
    pub(super) high: f64,
    /// "better", "worse", "open" where nothing is shown, "reference" for arms that are no peers: the floor, no proxy at all, or the arm itself.
    pub(super) class: &'static str,
}

impl Estimate {
    fn text(&self) -> String {
        let [low, middle, high] = [self.low, self.middle, self.high].map(|ratio| match ratio {
            far if far >= 1000.0 => format!("{far:.0e}"),
            ratio => format!("{ratio:.2}"),
        });
        format!("{middle} [{low}, {high}]")
    }
}

/// Ratios that were measured by the same work, and how far an arm is from itself there.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) name: String,
    pub(super) noise: Option<(f64, f64)>,
    pub(super) rows: Vec<Estimate>,
}

/// How far a forest's axis goes at most, either way.
const FARTHEST: f64 = 100.0;

/// How far it goes beyond the outermost ratio. Intervals that are wider end in arrows: one of three noisy rounds would push all
/// others into one point.
const ROOM: f64 = 1.5;

/// Height of a forest's drawing: it fits on a page of paper, with its axis. Longer ones are drawn as several on one scale.
const SHEET: f64 = 820.0;

impl Group {
    /// Its name's line, and its rows.
    fn height(&self) -> f64 {
        NAME + self.rows.len() as f64 * ROW
    }
}

/// Height of a group's name.
const NAME: f64 = 1.2 * ROW;

/// Ratios with their intervals, a line at 1, and each group's noise shaded behind its rows.
pub(super) fn forest(about: &str, label: &str, groups: &[Group]) -> Markup {
    let rows = || groups.iter().flat_map(|group| &group.rows);
    let left = column(rows().map(|row| row.label.as_str())) + 12.0;
    let texts: Vec<String> = rows().map(Estimate::text).collect();
    let right = column(texts.iter().map(String::as_str));
    // Names of groups are bold.
    let names = 1.15 * column(groups.iter().map(|group| group.name.as_str()));
    let width = WIDE.max(left + right + 320.0).max(names);
    let axis = forest_axis(label, groups);
    let mut sheets: Vec<Vec<&Group>> = Vec::new();
    let mut height = f64::INFINITY;
    for group in groups {
        if height + group.height() > SHEET {
            sheets.push(Vec::new());
            height = 0.0;
        }
        height += group.height();
        sheets.last_mut().expect("the first group opens one").push(group);
    }
    html! { @for sheet in sheets { (forest_sheet(about, &axis, &sheet, width, left, width - right)) } }
}

fn forest_sheet(about: &str, axis: &Axis, groups: &[&Group], width: f64, left: f64, right: f64) -> Markup {
    let top = 4.0;
    let bottom = top + groups.iter().map(|group| group.height()).sum::<f64>();
    let inside = Inside { left, top, right, bottom };
    let one = inside.x(axis.place(1.0).unwrap_or(0.5));
    let tops = groups.iter().scan(top, |next, group| {
        let top = *next;
        *next += group.height();
        Some(top)
    });
    let inner = html! {
        (inside.x_axis(axis))
        line.limit x1=(px(one)) x2=(px(one)) y1=(px(inside.top)) y2=(px(inside.bottom)) {}
        @for (group, top) in groups.iter().zip(tops) { (forest_group(inside, axis, group, top)) }
    };
    drawing(width, bottom + FOOT, about, &inner)
}

/// All ratios between arms are inside, and those intervals that are not far wider than their ratios. A ratio that serves as a
/// reference may lie beyond: no proxy at all is quicker by so much that all else would become one point.
fn forest_axis(label: &str, groups: &[Group]) -> Axis {
    let rows = groups.iter().flat_map(|group| &group.rows).filter(|row| row.class != "reference");
    let middles = rows.map(|row| row.middle).filter(|middle| middle.is_finite() && *middle > 0.0);
    let (low, high) = middles.fold((1.0_f64, 1.0_f64), |(low, high), at| (low.min(at), high.max(at)));
    let (low, high) = ((low / ROOM).max(1.0 / FARTHEST), (high * ROOM).min(FARTHEST));
    Axis::log(label, low, high, 9, super::axis::number_text)
}

fn forest_group(inside: Inside, axis: &Axis, group: &Group, top: f64) -> Markup {
    let at = |value: f64| inside.x(axis.place(value).unwrap_or(0.0).clamp(0.0, 1.0));
    let first = top + NAME;
    let height = group.rows.len() as f64 * ROW;
    html! {
        // The grid must not run through the group's name.
        rect.cover x="0" y=(px(top)) width=(px(inside.right + 2.0)) height=(px(NAME)) {}
        text.group x="4" y=(px(top + 19.0)) { (group.name) }
        @if let Some((low, high)) = group.noise {
            rect.noise x=(px(at(low))) width=(px(at(high) - at(low))) y=(px(first)) height=(px(height)) {}
        }
        @for (row, estimate) in group.rows.iter().enumerate() {
            @let y = first + (row as f64 + 0.5) * ROW;
            text.label x=(px(inside.left - 12.0)) y=(px(y + 4.0)) text-anchor="end" { (estimate.label) }
            g class=(estimate.class) {
                line.interval x1=(px(at(estimate.low))) x2=(px(at(estimate.high))) y1=(px(y)) y2=(px(y)) {}
                (end(axis, inside, estimate.low, y))
                (end(axis, inside, estimate.high, y))
                @if is_inside(axis, estimate.middle) { circle.point cx=(px(at(estimate.middle))) cy=(px(y)) r="4.5" {} }
            }
            text.value x=(px(inside.right + 10.0)) y=(px(y + 4.0)) { (estimate.text()) }
        }
    }
}

fn is_inside(axis: &Axis, value: f64) -> bool {
    axis.place(value).is_some_and(|place| (-1e-6..=1.0 + 1e-6).contains(&place))
}

/// The end of an interval: a bar, or an arrow where it goes on beyond the axis.
fn end(axis: &Axis, inside: Inside, value: f64, y: f64) -> Markup {
    let place = axis.place(value).unwrap_or(-1.0);
    let x = inside.x(place.clamp(0.0, 1.0));
    let arrow = |tip: f64| {
        format!("M{} {}L{} {}L{} {}Z", px(x), px(y), px(x + tip), px(y - 4.0), px(x + tip), px(y + 4.0))
    };
    html! {
        @if place < -1e-6 { path.arrow d=(arrow(7.0)) {} }
        @else if place > 1.0 + 1e-6 { path.arrow d=(arrow(-7.0)) {} }
        @else { line.interval x1=(px(x)) x2=(px(x)) y1=(px(y - 4.0)) y2=(px(y + 4.0)) {} }
    }
}

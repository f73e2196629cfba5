//! A loss curve as inline SVG: one small picture per stage and loss, so that losses of different size are all readable.

use maud::{Markup, html};

use super::gather::LossPoint;

const WIDTH_PX: f64 = 360.0;
const HEIGHT_PX: f64 = 120.0;
const MARGIN_PX: f64 = 6.0;

/// One loss of one stage over the steps.
#[derive(Debug, PartialEq)]
pub(super) struct Curve {
    pub(super) stage: String,
    pub(super) loss: String,
    /// Step and value.
    pub(super) points: Vec<(u64, f64)>,
}

/// Splits the history into curves: stages in the order they ran, losses by name.
pub(super) fn curves(history: &[LossPoint]) -> Vec<Curve> {
    let mut curves: Vec<Curve> = Vec::new();
    for point in history {
        for (loss, value) in &point.losses {
            let at = curves
                .iter()
                .position(|curve| curve.stage == point.stage && curve.loss == *loss);
            let at = at.unwrap_or_else(|| {
                curves.push(Curve {
                    stage: point.stage.clone(),
                    loss: loss.clone(),
                    points: Vec::new(),
                });
                curves.len() - 1
            });
            curves[at].points.push((point.step, *value));
        }
    }
    curves
}

/// Draws a curve with its first and last step and its extremes.
pub(super) fn draw(curve: &Curve) -> Markup {
    let values = || {
        curve
            .points
            .iter()
            .map(|(_, value)| *value)
            .filter(|value| value.is_finite())
    };
    let (low, high) = (
        values().fold(f64::INFINITY, f64::min),
        values().fold(f64::NEG_INFINITY, f64::max),
    );
    let first = curve.points.first().map_or(0, |(step, _)| *step);
    let last = curve.points.last().map_or(0, |(step, _)| *step);
    html! {
        figure.chart {
            figcaption { (curve.stage) ": " (curve.loss) }
            svg viewBox=(format!("0 0 {WIDTH_PX} {HEIGHT_PX}")) width=(WIDTH_PX) height=(HEIGHT_PX) role="img" {
                polyline points=(polyline(&curve.points, low, high)) fill="none" stroke="currentColor" stroke-width="1.5" {}
            }
            p { "steps " (first) " to " (last) ", from " (format!("{low:.5}")) " (bottom) to " (format!("{high:.5}")) " (top)" }
        }
    }
}

fn polyline(points: &[(u64, f64)], low: f64, high: f64) -> String {
    let (first, last) = (
        points.first().map_or(0, |p| p.0),
        points.last().map_or(0, |p| p.0),
    );
    let across = (last.saturating_sub(first)).max(1) as f64;
    let height = if high > low { high - low } else { 1.0 };
    let place = |&(step, value): &(u64, f64)| {
        let x = MARGIN_PX + (step - first) as f64 / across * (WIDTH_PX - 2.0 * MARGIN_PX);
        let y = HEIGHT_PX - MARGIN_PX - (value - low) / height * (HEIGHT_PX - 2.0 * MARGIN_PX);
        format!("{x:.1},{y:.1}")
    };
    points
        .iter()
        .filter(|(_, value)| value.is_finite())
        .map(place)
        .collect::<Vec<_>>()
        .join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(step: u64, stage: &str, losses: &[(&str, f64)]) -> LossPoint {
        let losses = losses
            .iter()
            .map(|(name, value)| ((*name).to_owned(), *value))
            .collect();
        LossPoint {
            step,
            stage: stage.to_owned(),
            losses,
        }
    }

    #[test]
    fn every_loss_of_every_stage_is_its_own_curve() {
        let history = [
            point(20, "l1", &[("l_pix", 0.5)]),
            point(40, "l1", &[("l_pix", 0.3)]),
            point(60, "gan", &[("l_d", 1.0), ("l_pix", 0.2)]),
        ];
        let found: Vec<_> = curves(&history)
            .into_iter()
            .map(|c| (c.stage, c.loss, c.points.len()))
            .collect();
        let expected = [("l1", "l_pix", 2), ("gan", "l_d", 1), ("gan", "l_pix", 1)];
        assert_eq!(
            found,
            expected.map(|(stage, loss, count)| (stage.to_owned(), loss.to_owned(), count))
        );
    }

    #[test]
    fn a_curve_spans_the_picture_and_skips_what_is_not_a_number() {
        assert_eq!(
            polyline(&[(0, 1.0), (5, f64::NAN), (10, 0.0)], 0.0, 1.0),
            "6.0,6.0 354.0,114.0"
        );
        assert_eq!(polyline(&[(3, 2.0)], 2.0, 2.0), "6.0,114.0");
    }
}

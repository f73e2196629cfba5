//! The path through time as inline SVG: SD frames from left to right, the offset of their HD frames from bottom to top.

use maud::{Markup, html};
use remaster_domain::PathSegment;

const WIDTH_PX: f64 = 960.0;
const HEIGHT_PX: f64 = 160.0;
const MARGIN_PX: f64 = 10.0;

/// Draws every segment as a bar at its offset; what lies between them has no partner.
pub(super) fn path_plot(segments: &[PathSegment], sd_frames: u32) -> Markup {
    let offsets = || segments.iter().map(|segment| segment.offset);
    let (low, high) = (offsets().min().unwrap_or(0), offsets().max().unwrap_or(0));
    html! {
        svg viewBox=(format!("0 0 {WIDTH_PX} {HEIGHT_PX}")) width=(WIDTH_PX) height=(HEIGHT_PX) role="img" {
            @for segment in segments {
                @let (x1, x2, y) = place(segment, sd_frames, low, high);
                line x1=(format!("{x1:.1}")) x2=(format!("{x2:.1}")) y1=(format!("{y:.1}")) y2=(format!("{y:.1}"))
                    stroke="currentColor" stroke-width="3" {
                    title { "SD frames " (segment.sd.start) " to " (segment.sd.end) ": HD = " (line_of(segment)) }
                }
            }
        }
    }
}

/// The line that a segment's HD frames lie on.
pub(super) fn line_of(segment: &PathSegment) -> String {
    let (slope, offset) = (segment.slope, segment.offset);
    if slope.is_one() {
        format!("SD {offset:+}")
    } else {
        format!("({} SD {offset:+}) / {}", slope.hd, slope.sd)
    }
}

/// Both ends and the height of a segment's bar.
fn place(segment: &PathSegment, sd_frames: u32, low: i64, high: i64) -> (f64, f64, f64) {
    let across = |frame: u32| {
        MARGIN_PX + f64::from(frame) / f64::from(sd_frames.max(1)) * (WIDTH_PX - 2.0 * MARGIN_PX)
    };
    let share = if high > low {
        (segment.offset - low) as f64 / (high - low) as f64
    } else {
        0.5
    };
    let y = HEIGHT_PX - MARGIN_PX - share * (HEIGHT_PX - 2.0 * MARGIN_PX);
    (across(segment.sd.start), across(segment.sd.end), y)
}

#[cfg(test)]
mod tests {
    use remaster_domain::{FrameRange, Slope};

    use super::*;

    #[test]
    fn bars_span_the_picture_and_rise_with_the_offset() {
        let segment = |start, end, offset| PathSegment {
            sd: FrameRange { start, end },
            offset,
            slope: Slope::ONE,
            places: None,
            zncc: 0.99,
            discriminating: 9,
        };
        let (early, late) = (segment(0, 50, -12), segment(50, 100, 24));
        assert_eq!(place(&early, 100, -12, 24), (10.0, 480.0, 150.0));
        assert_eq!(place(&late, 100, -12, 24), (480.0, 950.0, 10.0));
        assert_eq!(place(&late, 100, 24, 24).2, 80.0);
        let drawn = path_plot(&[early, late], 100).into_string();
        assert_eq!(drawn.matches("<line").count(), 2);
        assert!(drawn.contains("HD = SD -12"));
        let telecined = PathSegment {
            slope: Slope { hd: 4, sd: 5 },
            ..late
        };
        assert_eq!(line_of(&telecined), "(4 SD +24) / 5");
    }
}

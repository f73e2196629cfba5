//! The page: from values to HTML, nothing else. It needs no file beside it, so it can be kept and sent as it is.

use maud::{DOCTYPE, Markup, PreEscaped, html};
use remaster_domain::{Alignment, YuvCoding, YuvMatrix, YuvRange};

use super::SheetInput;
use super::contact::{Row, WIDTH_PX};
use super::plot::{line_of, path_plot};

/// Segments listed; more of them are a broken rip, not a list to read.
const SEGMENTS_LISTED_MAX: usize = 40;

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;max-width:1040px;margin:2em auto;padding:0 1em;color:#222;background:#fff}\
table{border-collapse:collapse;margin:.6em 0}td,th{padding:.2em .9em .2em 0;text-align:left}th{border-bottom:1px solid #999}\
td.n{text-align:right;font-variant-numeric:tabular-nums}svg{background:#f4f4f4;color:#0a58ca;max-width:100%}\
figure{margin:1em 0}figcaption{font-size:.9em}figure img{margin-right:4px;background:#888}\
@media(prefers-color-scheme:dark){body{color:#ddd;background:#181818}svg{background:#262626;color:#6ea8fe}}";

/// The whole page; `kept` is the number of pairs, of which `rows` are the worst.
pub(super) fn render(input: &SheetInput<'_>, kept: usize, rows: &[Row]) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                title { "Pairs of " (input.episode) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                h1 { "Pairs of " (input.episode) }
                (yields(input, kept))
                h2 { "Path through time" }
                (path(input))
                h2 { "Geometry and colours" }
                (relation(input.alignment))
                h2 { "The " (rows.len()) " worst pairs, worst first" }
                p { "SD | HD on the same pixels and in SD's colours | HD minus SD, 4 times: grey is alike. Outlines in the last picture mean "
                    "that HD has the detail SD lacks; doubled or shifted outlines mean a wrong pair." }
                @for row in rows { (contact(row)) }
            }
        }
    }
}

fn yields(input: &SheetInput<'_>, kept: usize) -> Markup {
    html! {
        table {
            tr { th { "Frames" } th { "Number" } }
            tr { td { "kept as pairs" } td.n { (kept) } }
            @if input.repeats > 0 { tr { td { "left out, another episode shows the same" } td.n { (input.repeats) } } }
            @for (gate, count) in input.rejected { tr { td { "turned away by gate " (gate) } td.n { (count) } } }
            @if input.rejected.is_empty() { tr { td { "turned away by a gate" } td.n { "0" } } }
        }
    }
}

fn path(input: &SheetInput<'_>) -> Markup {
    let segments = &input.alignment.segments;
    html! {
        (path_plot(segments, input.sd_frames))
        table {
            tr { th { "SD frames" } th { "HD frame" } th { "Likeness" } th { "Frames that prove it" } }
            @for segment in segments.iter().take(SEGMENTS_LISTED_MAX) {
                tr {
                    td { (segment.sd.start) " to " (segment.sd.end) }
                    td.n { (line_of(segment)) }
                    td.n { (format!("{:.4}", segment.zncc)) }
                    td.n { (segment.discriminating) }
                }
            }
        }
        @if segments.len() > SEGMENTS_LISTED_MAX { p { "and " (segments.len() - SEGMENTS_LISTED_MAX) " more" } }
    }
}

fn relation(alignment: &Alignment) -> Markup {
    let (t, area) = (&alignment.transform, &alignment.active);
    html! {
        table {
            tr { th { "What" } th { "Value" } }
            tr { td { "lattice of the pairs" } td { (alignment.lattice.name()) } }
            tr { td { "picture on the DVD" } td { (area.width) "x" (area.height) " at " (area.x) ", " (area.y) } }
            tr { td { "x on the Blu-ray" } td { (format!("{:.5} x {:+.3}", t.sx, t.tx)) } }
            tr { td { "y on the Blu-ray" } td { (format!("{:.5} y {:+.3}", t.sy, t.ty)) } }
            @for stretch in &alignment.moved {
                @let t = &stretch.transform;
                tr {
                    td { "but SD frames " (stretch.sd.start) " to " (stretch.sd.end) }
                    td { (format!("{:.5} x {:+.3}, {:.5} y {:+.3}", t.sx, t.tx, t.sy, t.ty)) }
                }
            }
            @if let Some(coding) = &alignment.coding {
                tr { td { "DVD coded as" } td { (coding_text(coding.sd, coding.sd_tagged)) } }
                tr { td { "Blu-ray coded as" } td { (coding_text(coding.hd, coding.hd_tagged)) } }
            }
            tr { td { "colours, HD to SD" } td { code { (serde_json::to_string(&alignment.colour).expect("plain data")) } } }
        }
    }
}

/// What the pictures say, and what the tags say where that is something else.
fn coding_text(found: YuvCoding, tagged: YuvCoding) -> String {
    let text = |coding: YuvCoding| {
        let matrix = match coding.matrix {
            YuvMatrix::Bt601 => "BT.601",
            YuvMatrix::Bt709 => "BT.709",
        };
        let range = match coding.range {
            YuvRange::Limited => "limited",
            YuvRange::Full => "full",
        };
        format!("{matrix}, {range} range")
    };
    if found == tagged {
        text(found)
    } else {
        format!("{}; its tags say {}", text(found), text(tagged))
    }
}

fn contact(row: &Row) -> Markup {
    let (record, scores) = (&row.record, &row.record.scores);
    html! {
        figure {
            figcaption {
                (row.key) ": SD frame " (record.sd_index) ", HD frame " (record.hd_index) ", "
                (format!("worst blocks {:.3} (frames beside {:.3}), whole {:.4}, colour off by {:.1} levels",
                    scores.block_zncc_p5, scores.neighbour_block_zncc_p5, scores.zncc, scores.colour_residual))
            }
            @for (picture, what) in row.pictures.iter().zip(["SD", "HD", "difference"]) {
                img src=(picture) alt=(what) width=(WIDTH_PX) height=(row.height_px);
            }
        }
    }
}

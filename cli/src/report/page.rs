//! The page: from data to HTML, nothing else. Pictures and curves lie inside the file, so it can be sent as it is.

use std::collections::BTreeSet;

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::chart;
use super::compare::{Comparison, Crop};
use super::gather::{ModelRow, ReportData, Training, YieldRow};
use crate::models::card_rows;
use crate::output::size;

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;max-width:1360px;margin:2em auto;padding:0 1em;color:#222;background:#fff}\
table{border-collapse:collapse;margin:.6em 0}td,th{padding:.2em .9em .2em 0;text-align:left;vertical-align:top}\
th{border-bottom:1px solid #999}td.n{text-align:right;font-variant-numeric:tabular-nums}code{font-size:.85em}\
figure{margin:.5em .8em .5em 0;display:inline-block;vertical-align:top}figcaption{font-weight:600}img{display:block;max-width:100%}\
.chart p{margin:0;font-size:.8em;color:#666}.chart svg{background:#f4f4f4;color:#0a58ca}.note{background:#fff6da;padding:.5em 1em}\
@media(prefers-color-scheme:dark){body{color:#ddd;background:#181818}.chart svg{background:#262626;color:#6ea8fe}.note{background:#3a3215}}";

/// The whole report.
pub(super) fn render(data: &ReportData) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                title { "Remaster: " (data.season) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                h1 { "Remaster: " (data.season) }
                p { "Job " code { (data.job_id) } ", stage " (data.stage) ": " strong { (data.state) } " after " (data.took) "." }
                (dead(&data.dead))
                @for comparison in &data.comparisons { (judged(comparison)) }
                @if let Some(training) = &data.training { (trained(training)) }
                (stages(data))
                (yields(data))
                @for model in &data.models { (published(model)) }
                (outputs(data))
            }
        }
    }
}

fn dead(lines: &[String]) -> Markup {
    html! {
        @if !lines.is_empty() {
            h2 { "What failed" }
            ul { @for line in lines { li { (line) } } }
        }
    }
}

fn judged(comparison: &Comparison) -> Markup {
    html! {
        h2 { "Episode " (comparison.episode) " against its held-back HD" }
        p { (comparison.frames) " frames that training never saw, measured on the HD grid with one registration and one "
            "3x4 colour fit, fitted on Lanczos and applied to all." }
        table {
            tr { th { "Method" } th { "Y-PSNR" } th { "SSIM" } }
            @for method in &comparison.methods {
                tr {
                    td { (method.label) }
                    td.n { (format!("{:.2} dB", method.psnr_y_db)) }
                    td.n { (format!("{:.4}", method.ssim)) }
                }
            }
        }
        @if !comparison.note.is_empty() { p.note { (comparison.note) } }
        @for crop in &comparison.crops { (before_after(crop)) }
    }
}

fn before_after(crop: &Crop) -> Markup {
    html! {
        h3 { "Frame " (crop.frame) ", " (crop.width) "x" (crop.height) " at " (crop.x) ", " (crop.y) }
        @for (label, uri) in &crop.pictures {
            figure { figcaption { (label) } img src=(uri) alt=(label) width=(crop.width) height=(crop.height); }
        }
    }
}

fn trained(training: &Training) -> Markup {
    let curves = chart::curves(&training.points);
    html! {
        h2 { "Training: " (training.steps) " steps" }
        @for note in &training.notes { p.note { (note) } }
        @if curves.is_empty() { p { "The run recorded no losses." } }
        @for curve in &curves { (chart::draw(curve)) }
    }
}

fn stages(data: &ReportData) -> Markup {
    html! {
        h2 { "Time of each stage" }
        table {
            tr { th { "Stage" } th { "Tasks" } th { "Dead" } th { "First lease to last commit" } }
            @for kind in &data.kinds {
                tr { td { (kind.kind) } td.n { (kind.tasks) } td.n { (kind.dead) } td.n { (kind.took) } }
            }
        }
    }
}

fn yields(data: &ReportData) -> Markup {
    let gates: BTreeSet<_> = data.yields.iter().flat_map(|row| row.rejected.keys()).collect();
    html! {
        @if !data.yields.is_empty() {
            h2 { "Pairs, and frames turned away by each gate" }
            table {
                tr { th { "Episode" } th { "Kept" } th { "Repeats" } @for gate in &gates { th { (gate) } } th { "To look at" } }
                @for row in &data.yields {
                    tr {
                        td { (row.episode) }
                        td.n { (row.kept.saturating_sub(row.repeats)) }
                        td.n { (row.repeats) }
                        @for gate in &gates { td.n { (row.rejected.get(*gate).copied().unwrap_or(0)) } }
                        td { (sheet(row)) }
                    }
                }
            }
        }
    }
}

/// A link where a browser can follow it, else the name of the object.
fn sheet(row: &YieldRow) -> Markup {
    html! {
        @match &row.sheet {
            Some(url) if url.starts_with("file://") => a href=(url) { "pairs of " (row.episode) },
            Some(url) => code { (url) },
            None => {}
        }
    }
}

fn published(model: &ModelRow) -> Markup {
    html! {
        h2 { "Model of stage " (model.stage) }
        p { code { (model.id) } }
        table { @for row in card_rows(&model.card) { tr { th { (row[0]) } td { (row[1]) } } } }
    }
}

fn outputs(data: &ReportData) -> Markup {
    html! {
        @if !data.outputs.is_empty() {
            h2 { "Upscaled episodes" }
            table {
                tr { th { "Episode" } th { "Frames" } th { "Size" } th { "Key in the store" } }
                @for output in &data.outputs {
                    tr {
                        td { (output.episode) }
                        td.n { (output.frames) }
                        td.n { (size(output.bytes)) }
                        td { code { (output.key) } }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::collections::BTreeMap;

    use super::*;
    use crate::report::compare::Method;
    use crate::report::gather::{KindRow, LossPoint, OutputRow};

    fn data() -> ReportData {
        let point = |step, value| LossPoint {
            step,
            stage: "l1".to_owned(),
            losses: BTreeMap::from([("l_pix".to_owned(), value)]),
        };
        let method = Method {
            name: "lanczos".to_owned(),
            label: "Lanczos".to_owned(),
            psnr_y_db: 37.254,
            ssim: 0.9512,
        };
        let picture = ("Lanczos".to_owned(), "data:image/png;base64,QQ==".to_owned());
        let crop = Crop {
            frame: 7,
            x: 1,
            y: 2,
            width: 3,
            height: 4,
            pictures: vec![picture],
        };
        ReportData {
            job_id: "0198".to_owned(),
            season: "demo".to_owned(),
            stage: "all".to_owned(),
            state: "succeeded".to_owned(),
            took: "12 min 05 s".to_owned(),
            kinds: vec![KindRow {
                kind: "index".to_owned(),
                tasks: 5,
                dead: 0,
                took: "9.1 s".to_owned(),
            }],
            yields: vec![YieldRow {
                episode: "ep1".to_owned(),
                kept: 90,
                rejected: BTreeMap::from([("flat".to_owned(), 4)]),
                repeats: 7,
                sheet: Some("file:///store/datasets/demo/ab.html".to_owned()),
            }],
            training: Some(Training {
                steps: 40,
                points: vec![point(20, 0.5), point(40, 0.25)],
                notes: vec!["perceptual loss off: <no weights>".to_owned()],
            }),
            models: Vec::new(),
            container: remaster_domain::Container::Mkv,
            outputs: vec![OutputRow {
                episode: "ep1".to_owned(),
                key: "outputs/demo/ep1.mkv".to_owned(),
                frames: 336,
                bytes: 4096,
            }],
            dead: Vec::new(),
            episodes: Vec::new(),
            comparisons: vec![Comparison {
                episode: "ep3".to_owned(),
                frames: 24,
                methods: vec![method],
                note: String::new(),
                crops: vec![crop],
            }],
        }
    }

    #[test]
    fn the_page_says_all_and_needs_nothing_beside_it() {
        let page = render(&data()).into_string();
        for words in [
            "37.25 dB",
            "0.9512",
            "12 min 05 s",
            "outputs/demo/ep1.mkv",
            "perceptual loss off",
            "l1: l_pix",
            "<td class=\"n\">83</td><td class=\"n\">7</td>",
            "<a href=\"file:///store/datasets/demo/ab.html\">pairs of ep1</a>",
        ] {
            assert!(page.contains(words), "{words}");
        }
        assert!(page.contains("&lt;no weights&gt;"), "text is escaped");
        assert!(!page.contains("What failed"));
        for outside in ["http://", "https://", "src=\"/", "<script"] {
            assert!(!page.contains(outside), "{outside}");
        }
    }

    #[test]
    fn dead_tasks_are_on_the_page() {
        let page = render(&ReportData {
            dead: vec!["align/E2: another episode".to_owned()],
            ..data()
        })
        .into_string();
        assert!(page.contains("<li>align/E2: another episode</li>"));
    }
}

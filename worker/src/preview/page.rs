//! The page: from values to HTML, nothing else. It needs no file beside it, so it can be kept and sent as it is.

use maud::{DOCTYPE, Markup, PreEscaped, html};
use remaster_domain::{
    Encoder, EpisodePreview, FrameCount, PreviewCost, PreviewEstimate, PreviewOutcome, PreviewReport,
    UpscaleSettings,
};
use remaster_service::{duration, size};

use super::shown::{BeforeAfter, Shown};

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;max-width:1130px;margin:2em auto;padding:0 1em;color:#222;background:#fff}\
table{border-collapse:collapse;margin:.6em 0}td,th{padding:.2em 1.4em .2em 0;text-align:left;vertical-align:top}\
th{border-bottom:1px solid #999}td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}tr.sum td{border-top:1px solid #999;font-weight:600}\
.pair{display:flex;gap:6px;margin:.3em 0}figure{margin:0;min-width:0;flex:1 1 0;overflow-wrap:anywhere}figcaption{font-size:.85em;color:#666}img{display:block;max-width:100%;height:auto;background:#888}\
h2{margin-top:2em;border-top:1px solid #ccc;padding-top:.6em}h3{margin:1.2em 0 .2em}.bad{color:#b00020}.note{color:#555;font-size:.92em;max-width:80ch}\
@media(prefers-color-scheme:dark){body{color:#ddd;background:#181818}figcaption,.note{color:#aaa}.bad{color:#ff8a80}h2{border-color:#444}}";

/// The whole page; `shown` has the pictures of each episode of the report.
pub(super) fn render(report: &PreviewReport, settings: &UpscaleSettings, shown: &[Vec<Shown>]) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                title { "Preview of " (report.season) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                h1 { "Preview of " (report.season) }
                p { "Model " strong { (report.model) } "; encoder " strong { (encoder(settings)) } ". Nothing was started." }
                (estimates(report))
                @for (episode, looks) in report.episodes.iter().zip(shown) {
                    @if !looks.is_empty() {
                        h2 id=(episode.id) { (episode.id) }
                        @for look in looks { (frame(look, &report.model)) }
                    }
                }
            }
        }
    }
}

fn encoder(settings: &UpscaleSettings) -> String {
    let name = settings.encoder.name();
    if matches!(settings.encoder, Encoder::Ffv1 | Encoder::Prores) {
        name.to_owned()
    } else {
        format!("{name}, crf {}, preset {}", settings.crf, settings.preset)
    }
}

fn estimates(report: &PreviewReport) -> Markup {
    html! {
        table {
            tr {
                th { "Episode" } th.n { "Frames" } th { "Output" } th.n { "Time" } th.n { "Frames a second" }
                th.n { "Size" }
            }
            @for episode in &report.episodes { (row(episode)) }
            @if report.episodes.len() > 1 {
                tr.sum {
                    td { "season" } td.n { @if report.is_rough() { "~" } (report.total.frames) } td {} (time_and_size(&report.total))
                }
            }
        }
        p.note {
            "Time and size are estimates for " (report.estimated_for) ", from a few frames of each episode made and encoded "
            "as the season will be. Size is that of the finished files with sound and subtitles; the store also keeps the "
            "segments they are joined from until " code { "remaster gc" } "."
            @if report.is_rough() { " ~: frames counted by the file's duration, since it was not decoded before." }
        }
    }
}

fn row(episode: &EpisodePreview) -> Markup {
    html! {
        tr {
            @match &episode.outcome {
                PreviewOutcome::Estimate(estimate) => {
                    td { a href=(format!("#{}", episode.id)) { (episode.id) } }
                    (estimate_cells(estimate))
                }
                PreviewOutcome::Error(reason) => {
                    td { (episode.id) }
                    td.bad colspan="5" { "cannot be upscaled: " (reason) }
                }
            }
        }
    }
}

fn estimate_cells(estimate: &PreviewEstimate) -> Markup {
    html! {
        td.n { @if estimate.counted_by == FrameCount::Duration { "~" } (estimate.cost.frames) }
        td { (estimate.width) "x" (estimate.height) }
        (time_and_size(&estimate.cost))
    }
}

fn time_and_size(cost: &PreviewCost) -> Markup {
    html! {
        td.n { (duration((cost.seconds * 1000.0) as i64)) }
        td.n { @if cost.seconds > 0.0 { (format!("{:.2}", cost.frames as f64 / cost.seconds)) } }
        td.n { (size(cost.bytes)) }
    }
}

fn frame(look: &Shown, model: &str) -> Markup {
    let seconds = look.at_s as u64;
    html! {
        h3 { (format!("{}:{:02}", seconds / 60, seconds % 60)) }
        (pair(&look.whole, "Lanczos, the whole picture", &format!("{model}, the whole picture")))
        (pair(
            &look.part,
            &format!("Lanczos, full size, from {}, {} of {}x{}: where the two differ most",
                look.corner.0, look.corner.1, look.output.0, look.output.1),
            &format!("{model}, the same place"),
        ))
    }
}

fn pair(pair: &BeforeAfter, before: &str, after: &str) -> Markup {
    html! {
        div.pair {
            @for (uri, caption) in [(&pair.before, before), (&pair.after, after)] {
                figure {
                    img src=(uri) alt=(caption) width=(pair.width) height=(pair.height) loading="lazy";
                    figcaption { (caption) }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_names_costs_and_reasons_and_needs_nothing_beside_it() {
        let cost = PreviewCost {
            frames: 33_000,
            seconds: 7620.0,
            bytes: 3 << 30,
        };
        let estimate = PreviewEstimate {
            cost,
            counted_by: FrameCount::Duration,
            width: 1366,
            height: 768,
        };
        let episode = |id: &str, outcome| EpisodePreview {
            id: id.parse().expect("a valid id"),
            outcome,
        };
        let report = PreviewReport {
            version: 1,
            file: "p.html".into(),
            season: "s".parse().expect("a valid name"),
            model: "<m>".to_owned(),
            estimated_for: "this machine".to_owned(),
            episodes: vec![
                episode("E1", PreviewOutcome::Estimate(estimate)),
                episode("E2", PreviewOutcome::Error("b.mkv: it is cut off".to_owned())),
            ],
            total: cost,
        };
        let pair = || BeforeAfter {
            width: 2,
            height: 1,
            before: "data:image/jpeg;base64,QQ==".to_owned(),
            after: "data:image/jpeg;base64,QQ==".to_owned(),
        };
        let look = Shown {
            at_s: 754.9,
            whole: pair(),
            part: pair(),
            corner: (8, 40),
            output: (1366, 768),
        };
        let page = render(&report, &UpscaleSettings::default(), &[vec![look], Vec::new()]).into_string();
        for words in [
            "12:34",
            "~33000",
            "1366x768",
            "2 h 07 min",
            "3.0 GiB",
            "x265, crf 16",
            "b.mkv: it is cut off",
            "&lt;m&gt;",
            "id=\"E1\"",
        ] {
            assert!(page.contains(words), "{words}");
        }
        for outside in ["http://", "https://", "src=\"/", "<script", "id=\"E2\""] {
            assert!(!page.contains(outside), "{outside}");
        }
    }
}

//! What a run leaves to look at in a folder: TensorBoard's event file, grids, the best weights by each metric, one HTML
//! page. A folder that cannot be written is said once and costs no run.

use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use maud::{DOCTYPE, Markup, html};
use remaster_model::{StateDict, encode_safetensors};
use tracing::warn;

use crate::checkpoint::{LossPoint, RunIdentity, RunRecord};
use crate::events::EventFile;
use crate::validate::Validation;

/// Size of a curve on the page.
const CURVE_PX: [f32; 2] = [640.0, 120.0];

/// The folder, or nothing.
#[derive(Debug)]
pub struct Look {
    folder: Option<PathBuf>,
    events: Option<EventFile>,
}

impl Look {
    /// Into a folder, which is made; nowhere without one.
    #[must_use]
    pub fn into_folder(folder: Option<PathBuf>) -> Self {
        let mut look = Self { folder, events: None };
        let made = look.folder.as_ref().map(|folder| {
            std::fs::create_dir_all(folder)?;
            EventFile::create(folder, wall_time())
        });
        if let Some(made) = made {
            match made {
                Ok(events) => look.events = Some(events),
                Err(error) => look.give_up(&error),
            }
        }
        look
    }

    /// Values of a step.
    pub fn scalars(&mut self, step: u64, values: &[(String, f32)]) {
        let written = self
            .events
            .as_mut()
            .map(|events| events.scalars(wall_time(), step, values));
        if let Some(Err(error)) = written {
            self.give_up(&error);
        }
    }

    /// A validation with its pictures.
    pub fn validation(&mut self, step: u64, stage: &str, validation: &Validation) {
        let (model, plain) = (validation.scores, validation.bicubic);
        let values = [
            ("psnr", model.psnr),
            ("ssim", model.ssim),
            ("psnr_y", model.psnr_y),
            ("ssim_y", model.ssim_y),
            ("colour_drift", model.colour_drift),
            ("halo", model.halo),
            ("bicubic/psnr_y", plain.psnr_y),
            ("bicubic/ssim_y", plain.ssim_y),
            ("bicubic/halo", plain.halo),
        ];
        let sometimes = [
            ("flicker", model.flicker),
            ("bicubic/flicker", plain.flicker),
            ("lpips", model.lpips),
            ("bicubic/lpips", plain.lpips),
            ("dists", model.dists),
            ("bicubic/dists", plain.dists),
        ];
        let sometimes = sometimes
            .into_iter()
            .filter_map(|(name, value)| Some((name, value?)));
        let values: Vec<_> = values
            .into_iter()
            .chain(sometimes)
            .map(|(name, value)| (format!("val/{name}"), value as f32))
            .collect();
        self.scalars(step, &values);
        if let Some(png) = validation.grid.png() {
            self.file(&grid_name(step, stage), &png);
        }
    }

    /// The best weights so far by a metric.
    pub fn best(&mut self, metric: &str, weights: &StateDict) {
        if self.folder.is_some() {
            self.file(
                &format!("best-{metric}.safetensors"),
                &encode_safetensors(weights),
            );
        }
    }

    /// The page.
    pub fn report(&mut self, identity: &RunIdentity, record: &RunRecord) {
        if self.folder.is_some() {
            self.file("report.html", page(identity, record).into_string().as_bytes());
        }
    }

    /// Whole or not at all.
    fn file(&mut self, name: &str, bytes: &[u8]) {
        let Some(folder) = &self.folder else { return };
        let aside = folder.join(format!(".{name}.part"));
        let written = std::fs::write(&aside, bytes).and_then(|()| std::fs::rename(&aside, folder.join(name)));
        if let Err(error) = written {
            self.give_up(&error);
        }
    }

    fn give_up(&mut self, error: &std::io::Error) {
        let folder = self.folder.take().unwrap_or_default();
        warn!(folder = %folder.display(), %error, "nothing more is written there to look at");
        self.events = None;
    }
}

fn wall_time() -> f64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0.0, |since| since.as_secs_f64())
}

fn grid_name(step: u64, stage: &str) -> String {
    format!("grid-{step:08}-{stage}.png")
}

fn page(identity: &RunIdentity, record: &RunRecord) -> Markup {
    let names = record.history.iter().flat_map(|point| point.losses.keys());
    let names: std::collections::BTreeSet<&String> = names.collect();
    html! {
        (DOCTYPE)
        meta charset="utf-8";
        title { "Training run " (identity.run) }
        style { "body{font:15px sans-serif;margin:2em;max-width:70em}td,th{padding:.2em .8em;text-align:right}"
            "polyline{fill:none;stroke:#06c}img{max-width:100%}svg{background:#f4f4f4}pre{background:#f4f4f4;padding:1em}" }
        h1 { "Training run " (identity.run) }
        p { (format!("{:?}", identity.arch)) ", " (identity.scale) " times, " (record.step) " steps" }
        @for note in &record.notes { p { "Note: " (note) } }
        h2 { "Validation" }
        table {
            tr { th { "step" } th { "stage" } th { "PSNR" } th { "SSIM" } th { "Y-PSNR" } th { "Y-SSIM" } th { "bicubic Y-PSNR" }
                th { "colour drift" } th { "halo" } th { "flicker" } th { "LPIPS" } th { "DISTS" } }
            @for point in &record.validations { tr {
                td { (point.step) } td { (point.stage) }
                td { (format!("{:.2}", point.scores.psnr)) } td { (format!("{:.4}", point.scores.ssim)) }
                td { (format!("{:.2}", point.scores.psnr_y)) } td { (format!("{:.4}", point.scores.ssim_y)) }
                td { (format!("{:.2}", point.bicubic_psnr_y)) }
                td { (format!("{:.2}", point.scores.colour_drift)) } td { (format!("{:.2}", point.scores.halo)) }
                td { (figure(point.scores.flicker, 2)) } td { (figure(point.scores.lpips, 4)) }
                td { (figure(point.scores.dists, 4)) }
            } }
        }
        p { "Colour drift: mean difference of the colours from HD, in levels. Halo: overshoot beside edges, in levels. "
            "Flicker: changes from frame to frame that HD does not make, in levels; none where no two frames that follow each \
            other are held out. LPIPS, DISTS: how far its middle looks from HD; none without path.lpips_weights, path.dists_weights in \
            the recipe." }
        h2 { "Losses" }
        @for name in names { h3 { (name) } (curve(&record.history, name)) }
        h2 { "SD, bicubic, model, HD" }
        @for point in record.validations.iter().rev() {
            p { "Step " (point.step) ", " (point.stage) }
            img src=(grid_name(point.step, &point.stage)) alt="SD, bicubic, model, HD";
        }
        h2 { "Recipe" }
        pre { (identity.recipe) }
    }
}

fn figure(value: Option<f64>, digits: usize) -> String {
    value.map_or("none".to_owned(), |value| format!("{value:.digits$}"))
}

fn curve(history: &[LossPoint], name: &str) -> Markup {
    let found = history
        .iter()
        .filter_map(|point| Some((point.step as f32, *point.losses.get(name)?)));
    let points: Vec<(f32, f32)> = found.collect();
    let highest = points
        .iter()
        .fold(f32::MIN_POSITIVE, |most, (_, value)| most.max(*value));
    let last_step = points.last().map_or(1.0, |(step, _)| step.max(1.0));
    let [width, height] = CURVE_PX;
    let line: Vec<String> = points
        .iter()
        .map(|(step, value)| {
            format!(
                "{:.1},{:.1}",
                step / last_step * width,
                height - value / highest * height
            )
        })
        .collect();
    let last = points.last().map_or(0.0, |(_, value)| *value);
    html! {
        svg width=(width) height=(height) { polyline points=(line.join(" ")) {} }
        p { (format!("highest {highest:.5}, last {last:.5}")) }
    }
}

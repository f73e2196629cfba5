//! The comparison with a held-back Blu-ray: fetches the models, runs the worker's `compare`, reads what it wrote.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::Context;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use remaster_domain::SourceRef;
use remaster_service::CliError;
use remaster_store::{Key, Store};
use serde::{Deserialize, Serialize};
use tokio::process::Command;

use super::gather::ReportData;
use crate::client::store_failed;
use crate::up::sibling;

/// Measured methods and pictures of an episode.
#[derive(Debug, Serialize)]
pub(crate) struct Comparison {
    pub(crate) episode: String,
    pub(crate) frames: usize,
    pub(crate) methods: Vec<Method>,
    pub(crate) note: String,
    #[serde(skip)]
    pub(crate) crops: Vec<Crop>,
}

/// A way from SD to HD and how close it comes.
#[derive(Debug, Serialize)]
pub(crate) struct Method {
    pub(crate) name: String,
    /// For people: `L1 stage (EMA)`.
    pub(crate) label: String,
    pub(crate) psnr_y_db: f64,
    pub(crate) ssim: f64,
}

/// One place on one frame, by every method.
#[derive(Debug)]
pub(crate) struct Crop {
    pub(crate) frame: u32,
    pub(crate) x: u32,
    pub(crate) y: u32,
    pub(crate) width: u32,
    pub(crate) height: u32,
    /// Label and PNG as a data URI, in the order of the methods, the held-back HD last.
    pub(crate) pictures: Vec<(String, String)>,
}

/// comparison.json as the worker writes it.
#[derive(Debug, Deserialize)]
struct Measured {
    methods: Vec<MeasuredMethod>,
    frames: usize,
    crops: Vec<MeasuredCrop>,
    note: String,
}

#[derive(Debug, Deserialize)]
struct MeasuredMethod {
    name: String,
    psnr_y_db: f64,
    ssim: f64,
}

#[derive(Debug, Deserialize)]
struct MeasuredCrop {
    frame: u32,
    x: u32,
    y: u32,
    width: u32,
    height: u32,
    files: BTreeMap<String, PathBuf>,
}

/// Compares Lanczos and every published model of the job on an episode.
pub(crate) async fn run(
    store: &Store,
    data: &ReportData,
    episode: &str,
    hd: &Path,
    frames: u32,
) -> anyhow::Result<Comparison> {
    if !hd.is_file() {
        return Err(CliError::usage(format!("held-back file {} does not exist", hd.display())).into());
    }
    let sd = data.episode(episode)?.sd.as_ref();
    let sd =
        sd.ok_or_else(|| CliError::usage(format!("episode `{episode}` has no SD source to compare with")))?;
    let work = tempfile::tempdir().context("could not make a temporary folder")?;
    let sd = locate(store, sd, work.path()).await?;
    let mut command = Command::new(sibling("remaster-worker")?);
    command.arg("compare").arg("--sd").arg(sd).arg("--hd").arg(hd);
    for model in &data.models {
        let folder = work.path().join(&model.stage);
        let weights = folder.join("model.safetensors");
        store
            .get_file(&Key::model_weights(&model.id), &weights, &model.id)
            .await
            .map_err(store_failed)?;
        std::fs::write(folder.join("card.json"), serde_json::to_vec(&model.card)?)?;
        command
            .arg("--model")
            .arg(format!("{}={}", model.stage, folder.display()));
    }
    let out = work.path().join("out");
    command
        .arg("--frames")
        .arg(frames.to_string())
        .arg("--out")
        .arg(&out);
    finish(command, episode).await?;
    read(episode, &out)
}

/// The DVD's file: where it was when the season was submitted, else from the store.
async fn locate(store: &Store, sd: &SourceRef, work: &Path) -> anyhow::Result<PathBuf> {
    let hint = sd.path_hint.as_ref().map(PathBuf::from);
    if let Some(path) = hint.filter(|path| path.metadata().is_ok_and(|meta| meta.len() == sd.bytes)) {
        return Ok(path);
    }
    let key = Key::source(&sd.sha256);
    if store.size(&key).await.map_err(store_failed)?.is_none() {
        let error = CliError::failed(format!(
            "source {} is neither where it was submitted from nor in the store",
            sd.name
        ));
        return Err(error
            .with_hint("run the report where the file is, or submit with --upload")
            .into());
    }
    let file = work.join("sd.mkv");
    store
        .get_file(&key, &file, &sd.sha256)
        .await
        .map_err(store_failed)?;
    Ok(file)
}

async fn finish(mut command: Command, episode: &str) -> anyhow::Result<()> {
    eprintln!("comparing {episode} with its held-back HD");
    let done = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .output();
    let done = done.await.context("could not run remaster-worker")?;
    if done.status.success() {
        return Ok(());
    }
    let stderr = String::from_utf8_lossy(&done.stderr);
    let (said, hint) = match stderr.rfind("error: ") {
        Some(at) => stderr[at + "error: ".len()..]
            .split_once("\n\nhint: ")
            .unwrap_or((&stderr[at + 7..], "")),
        None => (stderr.trim(), ""),
    };
    let failed = CliError::failed(format!("could not compare {episode}: {}", said.trim()));
    Err(if hint.is_empty() {
        failed
    } else {
        failed.with_hint(hint.trim())
    }
    .into())
}

fn read(episode: &str, out: &Path) -> anyhow::Result<Comparison> {
    let file = out.join("comparison.json");
    let text = std::fs::read(&file).with_context(|| format!("could not read {}", file.display()))?;
    let measured: Measured =
        serde_json::from_slice(&text).with_context(|| format!("could not read {}", file.display()))?;
    let method = |method: &MeasuredMethod| Method {
        name: method.name.clone(),
        label: label(&method.name),
        psnr_y_db: method.psnr_y_db,
        ssim: method.ssim,
    };
    let methods: Vec<_> = measured.methods.iter().map(method).collect();
    let crops = measured
        .crops
        .iter()
        .map(|crop| pictures(crop, &methods, out))
        .collect::<anyhow::Result<_>>()?;
    Ok(Comparison {
        episode: episode.to_owned(),
        frames: measured.frames,
        methods,
        note: measured.note,
        crops,
    })
}

fn label(name: &str) -> String {
    match name {
        "lanczos" => "Lanczos".to_owned(),
        "hd" => "held-back HD".to_owned(),
        stage => format!("{} stage (EMA)", stage.to_uppercase()),
    }
}

fn pictures(crop: &MeasuredCrop, methods: &[Method], out: &Path) -> anyhow::Result<Crop> {
    let names = methods.iter().map(|method| method.name.as_str()).chain(["hd"]);
    let mut pictures = Vec::new();
    for name in names {
        let Some(file) = crop.files.get(name) else {
            continue;
        };
        let path = out.join(file);
        let png = std::fs::read(&path).with_context(|| format!("could not read {}", path.display()))?;
        pictures.push((
            label(name),
            format!("data:image/png;base64,{}", STANDARD.encode(png)),
        ));
    }
    Ok(Crop {
        frame: crop.frame,
        x: crop.x,
        y: crop.y,
        width: crop.width,
        height: crop.height,
        pictures,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn what_the_worker_wrote_is_read_in_the_order_of_methods() {
        let out = tempfile::tempdir().unwrap();
        std::fs::write(out.path().join("a.png"), b"A").unwrap();
        let json = r#"{"version": 1, "methods": [{"name": "lanczos", "psnr_y_db": 30.5, "ssim": 0.9},
            {"name": "l1", "psnr_y_db": 31.0, "ssim": 0.91}], "frames": 3, "registration": {}, "note": "n",
            "crops": [{"frame": 7, "x": 1, "y": 2, "width": 3, "height": 4,
                       "files": {"hd": "a.png", "l1": "a.png", "lanczos": "a.png"}}]}"#;
        std::fs::write(out.path().join("comparison.json"), json).unwrap();
        let comparison = read("E1", out.path()).unwrap();
        let labels: Vec<_> = comparison.crops[0]
            .pictures
            .iter()
            .map(|(label, _)| label.as_str())
            .collect();
        assert_eq!(labels, ["Lanczos", "L1 stage (EMA)", "held-back HD"]);
        assert_eq!(comparison.crops[0].pictures[0].1, "data:image/png;base64,QQ==");
        assert_eq!(comparison.methods[1].psnr_y_db, 31.0);
    }
}

//! `remaster report`: what a job did, as one HTML file that needs nothing beside it.
//!
//! Three steps that can be told apart: gather (coordinator and store), compare (a sibling binary, since this one holds no
//! pixels), render (pure). A held-back Blu-ray judges the models on frames that training never saw.

mod chart;
mod compare;
mod gather;
mod page;

use std::path::Path;

use remaster_service::CliError;
use serde::Serialize;

use crate::args::ReportArgs;
use crate::client::{Coordinator, open_store};
use crate::output::{OutputFormat, now_ms, show};

/// What `report` prints.
#[derive(Debug, Serialize)]
struct Written {
    job_id: String,
    file: String,
    comparisons: Vec<compare::Comparison>,
}

/// Gathers, compares, writes.
pub(crate) async fn run(args: ReportArgs, format: OutputFormat) -> anyhow::Result<()> {
    let coordinator = Coordinator::open(&args.connect)?;
    let job_id = coordinator.resolve_job(args.job.as_deref()).await?;
    let store = open_store(&args.store)?;
    let mut data = gather::gather(&coordinator, &store, &job_id, now_ms()).await?;
    for (episode, hd) in &args.held_back {
        let comparison = compare::run(&store, &data, episode, hd, args.frames).await?;
        data.comparisons.push(comparison);
    }
    let html = page::render(&data).into_string();
    write_whole(&args.output, html.as_bytes())?;
    let written = Written {
        job_id,
        file: args.output.display().to_string(),
        comparisons: data.comparisons,
    };
    show(format, &written, |written| {
        format!("{}\n{}", written.file, comparison_text(&written.comparisons))
    })
}

/// Beside it first, then renamed: a reader never sees half a report.
fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), CliError> {
    let folder = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let write = || -> std::io::Result<()> {
        std::fs::create_dir_all(folder)?;
        let mut aside = tempfile::NamedTempFile::new_in(folder)?;
        std::io::Write::write_all(&mut aside, bytes)?;
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
        aside.as_file().set_permissions(mode)?;
        aside.persist(path)?;
        Ok(())
    };
    write().map_err(|error| CliError::failed(format!("could not write {}: {error}", path.display())))
}

fn comparison_text(comparisons: &[compare::Comparison]) -> String {
    let mut text = String::new();
    for comparison in comparisons {
        text.push_str(&format!(
            "\n{}, {} frames never trained on\n",
            comparison.episode, comparison.frames
        ));
        let row = |method: &compare::Method| {
            vec![
                method.label.clone(),
                format!("{:.2}", method.psnr_y_db),
                format!("{:.4}", method.ssim),
            ]
        };
        let rows: Vec<_> = comparison.methods.iter().map(row).collect();
        text.push_str(&crate::output::table(&["METHOD", "Y-PSNR dB", "SSIM"], &rows));
    }
    text
}

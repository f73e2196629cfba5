//! `remaster preview`: before a season is started, some of its frames before and after and what it will cost here. A sibling
//! binary makes them, since this one holds neither pixels nor tensors; what is said here is which files and which model.

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;
use remaster_domain::{
    ContentHash, FrameCount, PREVIEW_VERSION, PreviewCost, PreviewJob, PreviewOutcome, PreviewReport,
    SeasonId,
};
use remaster_service::{CliError, cache_dir};
use tokio::process::Command;

use crate::args::{ConnectArgs, StoreArgs};
use crate::client::{Coordinator, open_store};
use crate::output::{OutputFormat, duration, show, size, table};
use crate::season::{NamedModel, Sighted};
use crate::up::sibling;
use crate::{models, scan, season};

/// What to do where there is no model.
const NO_MODEL_HINT: &str =
    "train one with `remaster submit season.toml --stage train`, or give weights with --model FILE";

/// Options of `preview`.
#[derive(Debug, Args)]
pub(crate) struct PreviewArgs {
    /// Season file; paths in it are relative to it
    #[arg(value_name = "SEASON.TOML")]
    season: PathBuf,
    /// HTML file to write
    #[arg(
        long,
        short,
        env = "REMASTER_OUTPUT",
        value_name = "FILE",
        default_value = "preview.html",
        hide_env_values = true
    )]
    output: PathBuf,
    /// Frames to show of each episode
    #[arg(
        long, env = "REMASTER_FRAMES", value_name = "N", default_value_t = 3, hide_env_values = true,
        value_parser = clap::value_parser!(u32).range(1..=50)
    )]
    frames: u32,
    /// Weights, a published model's folder, id or `channel:NAME` [default: what the season names]
    #[arg(long, env = "REMASTER_MODEL", value_name = "FILE|ID", hide_env_values = true)]
    model: Option<String>,
    /// Where the network runs: cpu, cuda or cuda:N
    #[arg(
        long,
        env = "REMASTER_DEVICE",
        value_name = "DEVICE",
        default_value = "cpu",
        hide_env_values = true
    )]
    device: String,
    #[command(flatten)]
    connect: ConnectArgs,
    #[command(flatten)]
    store: StoreArgs,
}

/// Which model to look through.
#[derive(Debug, PartialEq, Eq)]
enum Chosen {
    File(PathBuf),
    Id(ContentHash),
    /// The start of an id.
    Prefix(String),
    Channel(String),
}

/// Finds the model, lets the worker look, shows what it says.
pub(crate) async fn run(args: &PreviewArgs, format: OutputFormat) -> anyhow::Result<()> {
    let sighted = season::sight(&args.season)?;
    refuse_early(args, &sighted)?;
    let chosen = choose(args.model.as_deref(), &sighted)?;
    let cache = cache_dir()?;
    std::fs::create_dir_all(&cache).with_context(|| format!("could not make {}", cache.display()))?;
    let work = tempfile::Builder::new()
        .prefix("preview-")
        .tempdir_in(&cache)
        .context("could not make a temporary folder")?;
    let season = &sighted.file.season.name;
    let model = obtain(args, chosen, season, work.path()).await?;
    let around = [&sighted.around.before, &sighted.around.after];
    let [before, after] = [
        obtain_all(args, around[0], &work.path().join("before")).await?,
        obtain_all(args, around[1], &work.path().join("after")).await?,
    ];
    let job = job_of(args, sighted, model, [before, after])?;
    let job_file = work.path().join("job.json");
    std::fs::write(&job_file, serde_json::to_vec(&job)?)
        .with_context(|| format!("could not write {}", job_file.display()))?;
    let (code, said) = look(args, &job_file).await?;
    drop(work);
    // A worker that could not preview some episodes has written the page and its report all the same.
    if !said.is_empty() {
        let report: PreviewReport =
            serde_json::from_slice(&said).context("could not read what remaster-worker said")?;
        show(format, &report, text_of)?;
    }
    match code {
        0 => Ok(()),
        // It has said why and what to do.
        code => std::process::exit(code),
    }
}

/// What nobody wants to hear after the frames were made.
fn refuse_early(args: &PreviewArgs, sighted: &Sighted) -> Result<(), CliError> {
    if sighted.episodes.is_empty() {
        return Err(CliError::usage(format!(
            "{}: no episode has `sd`: there is nothing to upscale",
            args.season.display()
        ))
        .with_hint("give the episodes to upscale their `sd = \"FILE\"`"));
    }
    let folder = args
        .output
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    if let Some(folder) = folder.filter(|folder| !folder.is_dir()) {
        return Err(CliError::usage(format!(
            "folder {} does not exist: make it first",
            folder.display()
        )));
    }
    if args.output.is_dir() {
        return Err(CliError::usage(format!(
            "{} is a folder: name an HTML file with -o",
            args.output.display()
        )));
    }
    Ok(())
}

/// What was given goes before what the season names.
fn choose(given: Option<&str>, sighted: &Sighted) -> Result<Chosen, CliError> {
    match (given, &sighted.model_file) {
        (Some(text), _) => chosen_by(text),
        (None, Some(file)) => Ok(Chosen::File(file.clone())),
        (None, None) => chosen_by(&sighted.file.upscale.model),
    }
}

fn chosen_by(text: &str) -> Result<Chosen, CliError> {
    if Path::new(text).exists() {
        return Ok(Chosen::File(text.into()));
    }
    if let Some(channel) = text.strip_prefix("channel:") {
        return Ok(Chosen::Channel(channel.to_owned()));
    }
    if let Ok(id) = text.parse() {
        return Ok(Chosen::Id(id));
    }
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Ok(Chosen::Prefix(text.to_ascii_lowercase()));
    }
    Err(CliError::usage(format!(
        "model `{text}` is no file, no model id and no `channel:<name>`"
    ))
    .with_hint("`remaster models list` lists the published models"))
}

/// A file or folder of weights, and its name for people.
type Obtained = (PathBuf, String);

/// Models around the one to look through; those in the store are brought into folders of their own in `folder`.
async fn obtain_all(
    args: &PreviewArgs,
    models: &[NamedModel],
    folder: &Path,
) -> anyhow::Result<Vec<Obtained>> {
    let mut obtained = Vec::with_capacity(models.len());
    for (number, model) in models.iter().enumerate() {
        obtained.push(match model {
            NamedModel::File(file) => (file.clone(), file_name(file)),
            NamedModel::Id(id) => {
                let own = folder.join(number.to_string());
                std::fs::create_dir_all(&own).with_context(|| format!("could not make {}", own.display()))?;
                models::fetch(&open_store(&args.store)?, id, &own).await?;
                (own, id.to_string()[..12].to_owned())
            }
        });
    }
    Ok(obtained)
}

fn file_name(path: &Path) -> String {
    path.file_name()
        .unwrap_or(path.as_os_str())
        .to_string_lossy()
        .into_owned()
}

/// What the page calls a chain and its colour table, in the order in which they work.
fn chain_name(before: &[Obtained], model: &str, after: &[Obtained], cube: Option<&Path>) -> String {
    let names = |models: &[Obtained]| models.iter().map(|(_, name)| name.clone()).collect::<Vec<_>>();
    let mut all = names(before);
    all.push(model.to_owned());
    all.extend(names(after));
    all.extend(cube.map(file_name));
    all.join(" + ")
}

/// The file or folder of the model, brought into `folder` where it lies in the store, and its name for people.
async fn obtain(
    args: &PreviewArgs,
    chosen: Chosen,
    season: &SeasonId,
    folder: &Path,
) -> anyhow::Result<Obtained> {
    let (id, channel) = match chosen {
        Chosen::File(path) => {
            let name = file_name(&path);
            // The folder of a published model is named by its id, which no caption has room for.
            let name = match name.parse::<ContentHash>() {
                Ok(id) => id.to_string()[..12].to_owned(),
                Err(_) => name,
            };
            return Ok((path, name));
        }
        Chosen::Id(id) => (id, None),
        Chosen::Prefix(prefix) => (
            models::resolve(&Coordinator::open(&args.connect)?, &prefix).await?,
            None,
        ),
        Chosen::Channel(channel) => (of_channel(args, season, &channel).await?, Some(channel)),
    };
    models::fetch(&open_store(&args.store)?, &id, folder).await?;
    let short = &id.to_string()[..12];
    let name = channel.map_or(short.to_owned(), |channel| format!("{channel} ({short})"));
    Ok((folder.to_owned(), name))
}

async fn of_channel(args: &PreviewArgs, season: &SeasonId, channel: &str) -> anyhow::Result<ContentHash> {
    let coordinator = Coordinator::open(&args.connect)?;
    let found = models::of_channel(&coordinator, season.as_str(), channel).await;
    let found = found.map_err(|error| match error.downcast::<CliError>() {
        Ok(error) => error
            .with_hint("start one with `remaster up`, or give weights with --model FILE, which needs none")
            .into(),
        Err(other) => other,
    })?;
    found.ok_or_else(|| {
        CliError::usage(format!(
            "season `{season}` has no model on channel `{channel}` yet"
        ))
        .with_hint(NO_MODEL_HINT)
        .into()
    })
}

fn job_of(
    args: &PreviewArgs,
    sighted: Sighted,
    (model, name): Obtained,
    [before, after]: [Vec<Obtained>; 2],
) -> anyhow::Result<PreviewJob> {
    // Neither episodes nor recipe are looked at: what is wanted are the settings as a season has them.
    let season = sighted.file.with_episodes(Vec::new(), String::new())?;
    let files = |models: Vec<Obtained>| models.into_iter().map(|(file, _)| file).collect();
    Ok(PreviewJob {
        version: PREVIEW_VERSION,
        season: season.name,
        model,
        model_name: chain_name(&before, &name, &after, sighted.around.cube.as_deref()),
        before: files(before),
        after: files(after),
        cube: sighted.around.cube,
        nnedi_weights: sighted.around.nnedi_weights,
        settings: season.settings,
        frames: args.frames,
        episodes: sighted.episodes,
    })
}

/// The worker's exit code and what it wrote to stdout; its progress and reasons go to stderr as they come.
async fn look(args: &PreviewArgs, job: &Path) -> anyhow::Result<(i32, Vec<u8>)> {
    let mut command = Command::new(sibling("remaster-worker")?);
    command.arg("preview").arg("--exit-with-stdin");
    command.arg("--job").arg(job);
    command.arg("--output").arg(&args.output);
    command.arg("--device").arg(&args.device);
    scan::ended(command).await
}

fn text_of(report: &PreviewReport) -> String {
    let mut rows: Vec<_> = Vec::with_capacity(report.episodes.len() + 1);
    for episode in &report.episodes {
        rows.push(match &episode.outcome {
            PreviewOutcome::Estimate(estimate) => {
                let is_rough = estimate.counted_by == FrameCount::Duration;
                let output = format!("{}x{}", estimate.width, estimate.height);
                row(episode.id.as_str(), is_rough, output, &estimate.cost)
            }
            PreviewOutcome::Error(_) => vec![episode.id.to_string(), "cannot be upscaled".to_owned()],
        });
    }
    if rows.len() > 1 {
        rows.push(row("season", report.is_rough(), String::new(), &report.total));
    }
    let mut text = table(&["EPISODE", "FRAMES", "OUTPUT", "TIME", "SIZE"], &rows);
    text.push_str(&format!("\nestimated for {}\n", report.estimated_for));
    text + &format!("{}\n", report.file.display())
}

fn row(name: &str, is_rough: bool, output: String, cost: &PreviewCost) -> Vec<String> {
    let about = if is_rough { "~" } else { "" };
    vec![
        name.to_owned(),
        format!("{about}{}", cost.frames),
        output,
        duration((cost.seconds * 1000.0) as i64),
        size(cost.bytes),
    ]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_model_is_a_file_an_id_its_start_or_a_channel() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ab");
        std::fs::write(&file, b"x").unwrap();
        let id = ContentHash::of(b"m");
        assert_eq!(chosen_by(file.to_str().unwrap()).unwrap(), Chosen::File(file));
        assert_eq!(chosen_by(&id.to_string()).unwrap(), Chosen::Id(id));
        assert_eq!(chosen_by("AB1").unwrap(), Chosen::Prefix("ab1".to_owned()));
        assert_eq!(
            chosen_by("channel:best").unwrap(),
            Chosen::Channel("best".to_owned())
        );
        assert!(chosen_by("x4.pth").unwrap_err().message.contains("`x4.pth`"));
    }

    #[test]
    fn a_chain_is_named_in_the_order_in_which_it_works() {
        let named = |name: &str| vec![(PathBuf::from("x"), name.to_owned())];
        let cube = Path::new("discs/grade.cube");
        let name = chain_name(
            &named("clean.pth"),
            "latest (0123)",
            &named("sharp.pth"),
            Some(cube),
        );
        assert_eq!(name, "clean.pth + latest (0123) + sharp.pth + grade.cube");
        assert_eq!(chain_name(&[], "x2.pth", &[], None), "x2.pth");
    }

    #[test]
    fn what_the_worker_says_is_shown_in_columns() {
        let said = r#"{"version": 1, "file": "p.html", "season": "s", "model": "m", "estimated_for": "this machine",
            "episodes": [{"id": "E1", "estimate": {"frames": 250, "seconds": 62.0, "bytes": 2048,
                          "counted_by": "duration", "width": 8, "height": 6}},
                         {"id": "E2", "error": "gone"}],
            "total": {"frames": 250, "seconds": 62.0, "bytes": 2048}}"#;
        let report: PreviewReport = serde_json::from_str(said).unwrap();
        let expected = "EPISODE  FRAMES              OUTPUT  TIME        SIZE\n\
                        E1       ~250                8x6     1 min 02 s  2.0 KiB\n\
                        E2       cannot be upscaled\n\
                        season   ~250                        1 min 02 s  2.0 KiB\n\n\
                        estimated for this machine\np.html\n";
        assert_eq!(text_of(&report), expected);
    }
}

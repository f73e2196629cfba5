//! `remaster scan`: from two folders of discs to a season.toml. A sibling binary looks at the pictures, since this one holds
//! none; what it found is read back and the file it wrote is parsed as `submit` will parse it.

use std::path::PathBuf;
use std::process::Stdio;

use anyhow::Context;
use remaster_service::CliError;
use serde::{Deserialize, Serialize};
use tokio::process::Command;

use crate::args::ScanArgs;
use crate::output::{OutputFormat, show, table};
use crate::season;
use crate::up::sibling;

/// What the worker found, as it says it.
#[derive(Debug, Serialize, Deserialize)]
struct Found {
    version: u32,
    file: PathBuf,
    episodes: Vec<Episode>,
    unmatched: Vec<Unmatched>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Episode {
    id: String,
    sd: Option<PathBuf>,
    hd: Option<PathBuf>,
    /// Share of the DVD's frames that the Blu-ray shows.
    share: Option<f64>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Unmatched {
    side: String,
    file: PathBuf,
    reason: String,
}

/// Runs the worker's scan; its progress and reasons go to stderr as they come.
pub(crate) async fn run(args: &ScanArgs, format: OutputFormat) -> anyhow::Result<()> {
    let mut command = Command::new(sibling("remaster-worker")?);
    command.arg("scan").arg("--exit-with-stdin");
    command.arg("--sd").arg(&args.sd).arg("--hd").arg(&args.hd);
    command.arg("--output").arg(&args.output);
    if let Some(season) = &args.season {
        command.arg("--season").arg(season);
    }
    for (option, wanted) in [
        ("--force", args.force),
        ("--upscale-unmatched", args.upscale_unmatched),
    ] {
        if wanted {
            command.arg(option);
        }
    }
    let done = wait(command).await?;
    let found: Found = serde_json::from_slice(&done).context("could not read what remaster-worker found")?;
    let text = std::fs::read_to_string(&args.output)
        .with_context(|| format!("could not read {}", args.output.display()))?;
    season::parse(&args.output, &text)?;
    show(format, &found, text_of)
}

/// What it wrote to stdout. Where it failed it has said why and what to do, so all that is left to say is its exit code.
async fn wait(command: Command) -> anyhow::Result<Vec<u8>> {
    match ended(command).await? {
        (0, said) => Ok(said),
        (code, _) => std::process::exit(code),
    }
}

/// Runs a worker's command. Its exit code and what it wrote to stdout; what it says on stderr is shown as it comes.
pub(crate) async fn ended(mut command: Command) -> anyhow::Result<(i32, Vec<u8>)> {
    let mut child = command
        // Closed by the system however this process ends, and then the worker ends too.
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .context("could not run remaster-worker")?;
    let held = child.stdin.take();
    let done = child
        .wait_with_output()
        .await
        .context("could not wait for remaster-worker")?;
    drop(held);
    match done.status.code() {
        Some(code) => Ok((code, done.stdout)),
        None => Err(CliError::failed(format!("remaster-worker ended with {}", done.status)).into()),
    }
}

fn text_of(found: &Found) -> String {
    let shown = |path: &Option<PathBuf>| {
        path.as_ref()
            .map_or("-".to_owned(), |path| path.display().to_string())
    };
    let row = |episode: &Episode| {
        let share = episode
            .share
            .map_or("-".to_owned(), |share| format!("{:.0} %", share * 100.0));
        vec![episode.id.clone(), share, shown(&episode.sd), shown(&episode.hd)]
    };
    let rows: Vec<_> = found.episodes.iter().map(row).collect();
    let mut text = table(&["EPISODE", "SHARED", "DVD", "BLU-RAY"], &rows);
    let alone = found.unmatched.len();
    text.push_str(&format!("\n{}", found.file.display()));
    if alone > 0 {
        text.push_str(&format!(
            ": files listed in it with the reason why they are in no pair: {alone}"
        ));
    }
    text + "\n"
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn what_the_worker_says_is_shown_in_columns() {
        let said = r#"{"version": 1, "file": "s.toml", "unmatched": [{"side": "hd", "file": "B/x.mkv", "reason": "r"}],
            "episodes": [{"id": "E01", "sd": "D/a.mkv", "hd": "B/b.mkv", "share": 0.987},
                         {"id": "E02", "sd": "D/c.mkv", "hd": null, "share": null}]}"#;
        let found: Found = serde_json::from_str(said).unwrap();
        let expected = "EPISODE  SHARED  DVD      BLU-RAY\nE01      99 %    D/a.mkv  B/b.mkv\n\
                        E02      -       D/c.mkv  -\n\ns.toml: files listed in it with the reason why they are in no pair: 1\n";
        assert_eq!(text_of(&found), expected);
    }
}

//! `remaster-worker scan`: from two folders of files with meaningless names to a season.toml, by what the files show.
//!
//! Promises: a pair is written only after the exact path has proven it; every file that is not in a pair is listed with its
//! reason, in the file and on stderr; nothing is written over without `--force`, and nothing at all when nothing fits. Left to
//! others: what makes two sources alike (pairs), reading season.toml (the command line).

mod files;
mod indexes;
mod matching;
mod names;
mod season_file;
mod titles;

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;
use remaster_domain::SeasonId;
use remaster_pairs::{PathConfig, align_path, likeness};
use remaster_service::{cache_dir, exit_with_stdin};
use tokio_util::sync::CancellationToken;

pub(crate) use self::indexes::IndexCache;
use self::matching::{Matching, match_titles};
use self::season_file::{Findings, Reason};
use self::titles::{Side, Title, read_side};
use crate::error::WorkError;
use crate::local::write_whole;
use crate::monitor::Monitor;

/// Options of `scan`.
#[derive(Debug, Clone, Args)]
pub(crate) struct ScanArgs {
    /// Folder with the DVDs' files
    #[arg(long, env = "REMASTER_SD", value_name = "DIR")]
    sd: PathBuf,
    /// Folder with the Blu-rays' files
    #[arg(long, env = "REMASTER_HD", value_name = "DIR")]
    hd: PathBuf,
    /// Season file to write
    #[arg(long, short, env = "REMASTER_OUTPUT", value_name = "SEASON.TOML")]
    output: PathBuf,
    /// Name of the season [default: made from the name of the season file]
    #[arg(long, env = "REMASTER_SEASON", value_name = "SEASON")]
    season: Option<SeasonId>,
    /// Write DVD files without a Blu-ray as episodes to upscale, not as comments
    #[arg(long, env = "REMASTER_UPSCALE_UNMATCHED")]
    upscale_unmatched: bool,
    /// Write over a season file that is there
    #[arg(long, env = "REMASTER_FORCE")]
    force: bool,
    /// End when stdin closes: set by the process that started this one
    #[arg(long, hide = true)]
    exit_with_stdin: bool,
}

/// Runs the command; what was found goes to stdout as JSON, all else to stderr.
pub(crate) async fn scan(args: ScanArgs, stop: CancellationToken) -> Result<(), WorkError> {
    if args.exit_with_stdin {
        exit_with_stdin(stop.clone());
    }
    let monitor = Monitor::on_stderr(stop.clone(), "compare");
    let own = monitor.clone();
    monitor.blocking(move || scan_folders(&args, &stop, &own)).await
}

fn scan_folders(args: &ScanArgs, stop: &CancellationToken, monitor: &Monitor) -> Result<(), WorkError> {
    refuse_early(args)?;
    let folder = cache_dir().map_err(|error| WorkError::Retryable(error.message))?;
    let mut cache = IndexCache::open(&folder);
    let (sd, mut unusable) = read_side(Side::Sd, &args.sd, &args.hd, &mut cache, stop)?;
    let (hd, unusable_hd) = read_side(Side::Hd, &args.hd, &args.sd, &mut cache, stop)?;
    unusable.extend(unusable_hd);
    let matching = compare(&sd, &hd, &cache, monitor)?;
    let findings = Findings::new(&sd, &hd, &matching, unusable);
    for reason in findings.reasons() {
        tell(reason);
    }
    if !findings.has_episode(args.upscale_unmatched) {
        return Err(WorkError::BadInput(format!(
            "no file under {} shows what a file under {} shows: check the folders, or give --upscale-unmatched to \
             upscale without a Blu-ray; nothing was written",
            args.sd.display(),
            args.hd.display()
        )));
    }
    let name = args
        .season
        .clone()
        .unwrap_or_else(|| names::season_of(&args.output));
    let text = findings.season_toml(&name, &home_of(&args.output), args.upscale_unmatched);
    write_whole(&args.output, text.as_bytes())?;
    let report = findings.report(&args.output, args.upscale_unmatched);
    writeln!(std::io::stdout(), "{report:#}").map_err(|error| WorkError::of_file(Path::new("stdout"), &error))
}

/// Everything that can be wrong before the first file is opened: nobody wants to hear it an hour later.
fn refuse_early(args: &ScanArgs) -> Result<(), WorkError> {
    for folder in [&args.sd, &args.hd] {
        if !folder.is_dir() {
            return Err(WorkError::BadInput(format!(
                "{} is not a folder: give the folders that hold the ripped files",
                folder.display()
            )));
        }
    }
    if home_of(&args.sd.join("x")) == home_of(&args.hd.join("x")) {
        return Err(WorkError::BadInput(format!(
            "{} is given as --sd and as --hd: keep DVDs and Blu-rays in folders of their own",
            args.sd.display()
        )));
    }
    if args.output.exists() && !args.force {
        return Err(WorkError::BadInput(format!(
            "{} is there already: choose another name with -o, or give --force to write over it",
            args.output.display()
        )));
    }
    let home = args.output.parent().filter(|home| !home.as_os_str().is_empty());
    match home.filter(|home| !home.is_dir()) {
        Some(home) => Err(WorkError::BadInput(format!(
            "folder {} does not exist: make it first",
            home.display()
        ))),
        None => Ok(()),
    }
}

/// The absolute folder that a file lies in.
fn home_of(file: &Path) -> PathBuf {
    let home = file.parent().filter(|home| !home.as_os_str().is_empty());
    let home = home.unwrap_or(Path::new("."));
    home.canonicalize().unwrap_or_else(|_| home.to_owned())
}

/// Compares every DVD file with every Blu-ray file and proves the likely pairs.
fn compare(sd: &[Title], hd: &[Title], cache: &IndexCache, monitor: &Monitor) -> Result<Matching, WorkError> {
    let total = (sd.len() * hd.len()) as u64;
    let mut shares = Vec::with_capacity(sd.len());
    for (row, title) in sd.iter().enumerate() {
        let mut of_title = Vec::with_capacity(hd.len());
        for (column, other) in hd.iter().enumerate() {
            monitor.check()?;
            of_title.push(likeness(&title.sketch, &other.sketch));
            monitor.report((row * hd.len() + column + 1) as u64, total, "pairs of files");
        }
        shares.push(of_title);
    }
    match_titles(&shares, hd.len(), &mut |row, column| {
        monitor.check()?;
        let (sd, hd) = (cache.thumbs(&sd[row].sha256)?, cache.thumbs(&hd[column].sha256)?);
        Ok(align_path(&sd, &hd, &PathConfig::default())
            .map(|_| ())
            .map_err(|refusal| refusal.to_string()))
    })
}

fn tell(reason: &Reason) {
    // Nobody is there to read what cannot be written.
    let _ = writeln!(std::io::stderr(), "{}: {}", reason.file, reason.text);
}

//! The command line as a contract: commands, options, their environment variables. Parsing only; nothing is looked up here.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use remaster_service::TelemetryArgs;

use crate::output::OutputFormat;
use crate::preview::PreviewArgs;

/// SD television to HD, with a model trained on your own discs
///
/// extract -> store -> train -> publish -> upscale: start everything with `remaster up`, hand in a season with
/// `remaster submit season.toml --watch`, and find the episodes in the store under outputs/.
#[derive(Debug, Parser)]
#[command(name = "remaster", version, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) telemetry: TelemetryArgs,
    /// How data is printed
    #[arg(
        long,
        env = "REMASTER_OUTPUT_FORMAT",
        value_name = "FORMAT",
        default_value = "text",
        global = true,
        hide_env_values = true
    )]
    pub(crate) output_format: OutputFormat,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run coordinator, workers and trainer on this machine until interrupted
    Up(UpArgs),
    /// Find which file is which episode, by what the files show, and write a season file
    Scan(ScanArgs),
    /// Show frames of a season before and after, with an estimate of its time and size, before it is started
    Preview(PreviewArgs),
    /// Hand in a season
    Submit(SubmitArgs),
    /// Follow a job until it ends
    Watch(JobArgs),
    /// Show a job and its tasks, or all jobs
    Status(StatusArgs),
    /// Stop a job for good
    Cancel(JobArgs),
    /// Hand out no more of a job's tasks until it is resumed
    Pause(JobArgs),
    /// Go on with a paused job
    Resume(JobArgs),
    /// Put a job's dead tasks back
    Retry(JobArgs),
    /// Give a job more of the workers: each step of priority doubles its share
    Priority(PriorityArgs),
    /// List the workers
    Workers(ConnectArgs),
    /// Let a worker finish what it runs and take nothing more
    Drain(DrainArgs),
    /// Remove from the store what nothing names any more
    Gc(GcArgs),
    /// List, show, import, export and publish models
    Models(ModelsArgs),
    /// List, show, verify and export datasets
    Dataset(DatasetArgs),
    /// Write what a job did into one HTML file
    Report(ReportArgs),
    /// Print a completion script
    Completions {
        /// Shell to complete in
        shell: Shell,
    },
}

/// Where the coordinator is.
#[derive(Debug, Clone, Args)]
pub(crate) struct ConnectArgs {
    /// Coordinator to ask
    #[arg(
        long,
        env = "REMASTER_COORDINATOR",
        value_name = "URL",
        default_value = "http://127.0.0.1:7700",
        hide_env_values = true
    )]
    pub(crate) coordinator: String,
}

/// Where the store is.
#[derive(Debug, Clone, Args)]
pub(crate) struct StoreArgs {
    /// Store with the objects: file:///DIR or s3://BUCKET/PREFIX [default: ./remaster-data/store, where there is one]
    #[arg(long, env = "REMASTER_STORE", value_name = "URL", hide_env_values = true)]
    pub(crate) store: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct UpArgs {
    /// Folder for the database, the store and the logs
    #[arg(
        long,
        env = "REMASTER_DIR",
        value_name = "DIR",
        default_value = "./remaster-data",
        hide_env_values = true
    )]
    pub(crate) dir: PathBuf,
    /// Workers to start
    #[arg(
        long, env = "REMASTER_WORKERS", value_name = "N", default_value_t = 2, hide_env_values = true,
        value_parser = clap::value_parser!(u16).range(0..=64)
    )]
    pub(crate) workers: u16,
    /// Start no trainer
    #[arg(long, env = "REMASTER_NO_TRAINER", hide_env_values = true)]
    pub(crate) no_trainer: bool,
    /// Address of the coordinator; port 0 takes a free one
    #[arg(
        long,
        env = "REMASTER_LISTEN",
        value_name = "ADDR",
        default_value = "127.0.0.1:7700",
        hide_env_values = true
    )]
    pub(crate) listen: String,
    /// Store with the objects: file:///DIR or s3://BUCKET/PREFIX [default: DIR/store]
    #[arg(long, env = "REMASTER_STORE", value_name = "URL", hide_env_values = true)]
    pub(crate) store: Option<String>,
    /// Folder in which workers look for source files; may be given several times
    #[arg(long, env = "REMASTER_SOURCES", value_name = "DIR", hide_env_values = true)]
    pub(crate) sources: Vec<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum StageArg {
    /// Index, align and extract pairs; write a dataset
    Extract,
    /// Train on the season's newest dataset and publish
    Train,
    /// Upscale with the model that the season names
    Upscale,
}

#[derive(Debug, Args)]
pub(crate) struct ScanArgs {
    /// Folder with the DVDs' files
    #[arg(long, env = "REMASTER_SD", value_name = "DIR", hide_env_values = true)]
    pub(crate) sd: PathBuf,
    /// Folder with the Blu-rays' files
    #[arg(long, env = "REMASTER_HD", value_name = "DIR", hide_env_values = true)]
    pub(crate) hd: PathBuf,
    /// Season file to write
    #[arg(
        long,
        short,
        env = "REMASTER_OUTPUT",
        value_name = "SEASON.TOML",
        hide_env_values = true
    )]
    pub(crate) output: PathBuf,
    /// Name of the season [default: made from the name of the season file]
    #[arg(long, env = "REMASTER_SEASON", value_name = "SEASON", hide_env_values = true)]
    pub(crate) season: Option<String>,
    /// Write DVD files without a Blu-ray as episodes to upscale, not as comments
    #[arg(long, env = "REMASTER_UPSCALE_UNMATCHED", hide_env_values = true)]
    pub(crate) upscale_unmatched: bool,
    /// Write over a season file that is there
    #[arg(long, env = "REMASTER_FORCE", hide_env_values = true)]
    pub(crate) force: bool,
}

#[derive(Debug, Args)]
pub(crate) struct SubmitArgs {
    /// Season file; paths in it are relative to it
    #[arg(value_name = "SEASON.TOML")]
    pub(crate) season: PathBuf,
    /// Run one stage instead of the whole line
    #[arg(long, env = "REMASTER_STAGE", value_name = "STAGE", hide_env_values = true)]
    pub(crate) stage: Option<StageArg>,
    /// Follow the job until it ends
    #[arg(long, env = "REMASTER_WATCH", hide_env_values = true)]
    pub(crate) watch: bool,
    /// Copy the sources into the store, for workers that do not see the files
    #[arg(long, env = "REMASTER_UPLOAD", hide_env_values = true)]
    pub(crate) upload: bool,
    /// Give this job more of the workers: each step of priority doubles its share
    #[arg(
        long,
        env = "REMASTER_PRIORITY",
        value_name = "N",
        default_value_t = 0,
        hide_env_values = true
    )]
    pub(crate) priority: i64,
    #[command(flatten)]
    pub(crate) connect: ConnectArgs,
    #[command(flatten)]
    pub(crate) store: StoreArgs,
}

#[derive(Debug, Args)]
pub(crate) struct JobArgs {
    /// Job id or the start of it [default: the newest job]
    pub(crate) job: Option<String>,
    #[command(flatten)]
    pub(crate) connect: ConnectArgs,
}

#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    #[command(flatten)]
    pub(crate) job: JobArgs,
    /// List all jobs instead
    #[arg(long, env = "REMASTER_ALL", conflicts_with = "job", hide_env_values = true)]
    pub(crate) all: bool,
    /// Show every task
    #[arg(long, env = "REMASTER_TASKS", hide_env_values = true)]
    pub(crate) tasks: bool,
    /// Show what has happened to one task, by its name
    #[arg(long, env = "REMASTER_TASK", value_name = "NAME", conflicts_with_all = ["all", "tasks"], hide_env_values = true)]
    pub(crate) task: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct PriorityArgs {
    /// Job id or the start of it
    pub(crate) job: String,
    /// Priority; 0 where nothing was said
    #[arg(allow_negative_numbers = true)]
    pub(crate) priority: i64,
    #[command(flatten)]
    pub(crate) connect: ConnectArgs,
}

#[derive(Debug, Args)]
pub(crate) struct DrainArgs {
    /// Worker id or the start of it
    pub(crate) worker: String,
    #[command(flatten)]
    pub(crate) connect: ConnectArgs,
}

#[derive(Debug, Args)]
pub(crate) struct GcArgs {
    /// Only show what would be removed
    #[arg(long, env = "REMASTER_DRY_RUN", hide_env_values = true)]
    pub(crate) dry_run: bool,
    /// Remove without asking; wanted where nobody sits at a terminal to be asked
    #[arg(
        long,
        env = "REMASTER_YES",
        hide_env_values = true,
        conflicts_with = "dry_run"
    )]
    pub(crate) yes: bool,
    /// Leave alone what is younger: running attempts write before they commit
    #[arg(long, env = "REMASTER_GRACE_HOURS", value_name = "HOURS", hide_env_values = true, default_value_t = 24, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) grace_hours: u32,
    #[command(flatten)]
    pub(crate) connect: ConnectArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ModelsArgs {
    #[command(subcommand)]
    pub(crate) command: ModelsCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ModelsCommand {
    /// List the published models
    List(ConnectArgs),
    /// Show a model's card
    Show(ModelShowArgs),
    /// Take in a model made elsewhere: .safetensors, .pth or ncnn
    Import(ModelImportArgs),
    /// Write a model as .safetensors or .onnx
    Export(ModelExportArgs),
    /// Point a season's channel at a model
    Publish(ModelPublishArgs),
}

#[derive(Debug, Args)]
pub(crate) struct ModelShowArgs {
    /// Model id or the start of it
    pub(crate) id: String,
    #[command(flatten)]
    pub(crate) connect: ConnectArgs,
    #[command(flatten)]
    pub(crate) store: StoreArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ModelImportArgs {
    /// Weights of an RRDBNet or Compact network; of ncnn's two files either one
    pub(crate) file: PathBuf,
    /// Season it is meant for
    #[arg(long, env = "REMASTER_SEASON", value_name = "SEASON", hide_env_values = true)]
    pub(crate) season: Option<String>,
    /// Channel of the season to point at it
    #[arg(
        long,
        env = "REMASTER_CHANNEL",
        value_name = "CHANNEL",
        requires = "season",
        hide_env_values = true
    )]
    pub(crate) channel: Option<String>,
    #[command(flatten)]
    pub(crate) connect: ConnectArgs,
    #[command(flatten)]
    pub(crate) store: StoreArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ModelExportArgs {
    /// Model id or the start of it
    pub(crate) id: String,
    /// File to write: .safetensors or .onnx
    #[arg(
        long,
        short,
        env = "REMASTER_OUTPUT",
        value_name = "FILE",
        hide_env_values = true
    )]
    pub(crate) output: PathBuf,
    #[command(flatten)]
    pub(crate) connect: ConnectArgs,
    #[command(flatten)]
    pub(crate) store: StoreArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ModelPublishArgs {
    /// Model id or the start of it
    pub(crate) id: String,
    /// Season
    #[arg(long, env = "REMASTER_SEASON", value_name = "SEASON", hide_env_values = true)]
    pub(crate) season: String,
    /// Channel, such as `best`
    #[arg(
        long,
        env = "REMASTER_CHANNEL",
        value_name = "CHANNEL",
        hide_env_values = true
    )]
    pub(crate) channel: String,
    #[command(flatten)]
    pub(crate) connect: ConnectArgs,
}

#[derive(Debug, Args)]
pub(crate) struct DatasetArgs {
    #[command(subcommand)]
    pub(crate) command: DatasetCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum DatasetCommand {
    /// List the datasets
    List(ConnectArgs),
    /// Show a dataset's shards
    Show(DatasetPick),
    /// Read every pair of a dataset and check its hashes
    Verify(DatasetPick),
    /// Write a dataset's pairs as PNG files into hr/ and lr/, and the way back to the Blu-rays' colours as .cube files
    Export(DatasetExportArgs),
}

#[derive(Debug, Args)]
pub(crate) struct DatasetPick {
    /// Season
    pub(crate) season: String,
    /// Number of the dataset [default: the newest]
    #[arg(long, env = "REMASTER_NUMBER", value_name = "N", hide_env_values = true)]
    pub(crate) number: Option<u32>,
    #[command(flatten)]
    pub(crate) connect: ConnectArgs,
    #[command(flatten)]
    pub(crate) store: StoreArgs,
}

#[derive(Debug, Args)]
pub(crate) struct DatasetExportArgs {
    #[command(flatten)]
    pub(crate) pick: DatasetPick,
    /// Folder to write hr/ and lr/ into
    #[arg(long, env = "REMASTER_OUT", value_name = "DIR", hide_env_values = true)]
    pub(crate) out: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct ReportArgs {
    /// Job id or the start of it [default: the newest job]
    pub(crate) job: Option<String>,
    /// HTML file to write
    #[arg(
        long,
        short,
        env = "REMASTER_OUTPUT",
        value_name = "FILE",
        hide_env_values = true
    )]
    pub(crate) output: PathBuf,
    /// Judge by a Blu-ray that was held back: EPISODE=FILE; may be given several times
    #[arg(
        long, env = "REMASTER_HELD_BACK", value_name = "EPISODE=FILE", value_parser = held_back, hide_env_values = true
    )]
    pub(crate) held_back: Vec<(String, PathBuf)>,
    /// Frames of a held-back episode to measure
    #[arg(
        long,
        env = "REMASTER_FRAMES",
        value_name = "N",
        default_value_t = 24,
        hide_env_values = true
    )]
    pub(crate) frames: u32,
    #[command(flatten)]
    pub(crate) connect: ConnectArgs,
    #[command(flatten)]
    pub(crate) store: StoreArgs,
}

fn held_back(text: &str) -> Result<(String, PathBuf), String> {
    match text.split_once('=') {
        Some((episode, file)) if !episode.is_empty() && !file.is_empty() => {
            Ok((episode.to_owned(), file.into()))
        }
        _ => Err("expected EPISODE=FILE, for example S06E16=BRs/S06E16.mkv".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_option_has_its_variable() {
        fn check(command: &clap::Command) {
            for option in command
                .get_arguments()
                .filter(|a| a.get_long().is_some_and(|l| l != "help" && l != "version"))
            {
                let long = option
                    .get_long()
                    .expect("filtered above")
                    .to_uppercase()
                    .replace('-', "_");
                let variable = option.get_env().map(|name| name.to_string_lossy().into_owned());
                assert_eq!(
                    variable,
                    Some(format!("REMASTER_{long}")),
                    "in {}",
                    command.get_name()
                );
            }
            command.get_subcommands().for_each(check);
        }
        check(&Cli::command());
    }

    #[test]
    fn a_held_back_episode_has_two_halves() {
        assert_eq!(held_back("E1=a.mkv"), Ok(("E1".to_owned(), "a.mkv".into())));
        assert!(held_back("E1").is_err());
        assert!(held_back("=a.mkv").is_err());
    }
}

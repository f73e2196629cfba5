//! `remaster-chaos`: runs groups of faults and keeps a report, or soaks; `remaster-chaos worker` is one of the workers that
//! suffer it.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use remaster_store::hash_file;
use remaster_testkit::binary;
use remaster_testkit::chaos::{Group, Outcome, Report, WorkerArgs, run_group, run_worker, soak};

/// Faults by the hundred against real coordinators
#[derive(Debug, Parser)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run groups of faults; all that have not passed with so many faults yet when none is named
    Run(RunArgs),
    /// Run seasons in a loop with a fault every two seconds, and say whether memory and descriptors stay flat
    Soak(SoakArgs),
    /// Work, and suffer
    Worker(WorkerArgs),
}

#[derive(Debug, Args)]
struct RunArgs {
    /// Groups to run, whether they have passed before or not
    groups: Vec<Group>,
    /// Folder of the report
    #[arg(long, default_value = "target/chaos")]
    out: PathBuf,
    /// Percent of the full counts
    #[arg(long, default_value_t = 100)]
    percent: usize,
}

#[derive(Debug, Args)]
struct SoakArgs {
    /// For how long
    #[arg(long, default_value_t = 30)]
    minutes: u64,
    /// Folder of what the seasons come to without faults
    #[arg(long, default_value = "target/chaos")]
    out: PathBuf,
}

fn main() -> anyhow::Result<ExitCode> {
    match Cli::parse().command {
        Command::Worker(args) => run_worker(args).map(|()| ExitCode::SUCCESS),
        Command::Run(args) => run_groups(args),
        Command::Soak(args) => run_soak(&args),
    }
}

#[expect(clippy::print_stdout, reason = "the table is the output")]
fn run_soak(args: &SoakArgs) -> anyhow::Result<ExitCode> {
    let calm = args.out.join(build()?).join("calm");
    let time = Duration::from_secs(60 * args.minutes);
    let soaked = tokio::runtime::Runtime::new()?.block_on(soak(time, &calm))?;
    let findings = &soaked.findings;
    println!(
        "soak: {} s, {} faults, {} seasons, {} tasks committed; lost {}, duplicated {}, unexpected {}",
        soaked.seconds,
        soaked.faults,
        soaked.seasons,
        findings.committed,
        findings.lost.len(),
        findings.duplicated.len(),
        findings.unexpected.len()
    );
    let word = if soaked.is_noticed() { "enough" } else { "TOO FEW" };
    println!(
        "links: {} of {} that were parted had something to cut or to hold up: {word}",
        soaked.noticed, soaked.parted
    );
    for course in &soaked.courses {
        let (memory, open) = (course.memory_kib(), course.descriptors());
        let word = if course.is_flat() { "flat" } else { "GROWS" };
        println!(
            "{}: {} to {} KiB, {} to {} descriptors from the second quarter to the last: {word}",
            course.name, memory.0, memory.1, open.0, open.1
        );
    }
    for complaint in findings.complaints() {
        println!("  {complaint}");
    }
    Ok(ExitCode::from(u8::from(!soaked.is_passed())))
}

#[expect(clippy::print_stdout, reason = "the table is the output")]
fn run_groups(args: RunArgs) -> anyhow::Result<ExitCode> {
    let folder = args.out.join(build()?);
    let report = Report::open(&folder)?;
    let has_passed = |group: &Group| {
        let wanted = group.count(args.percent);
        report
            .outcome(*group)
            .is_some_and(|outcome| outcome.is_passed_with(wanted))
    };
    let groups = if args.groups.is_empty() {
        Group::all()
            .into_iter()
            .filter(|group| !has_passed(group))
            .collect()
    } else {
        args.groups
    };
    let runtime = tokio::runtime::Runtime::new()?;
    let mut failed = 0;
    for group in groups {
        let count = group.count(args.percent);
        eprintln!("{}: {count} faults", group.name());
        // Should this process end meanwhile, that stands in the report and not what came of the group before.
        report.keep(&Outcome::unfinished(group, count, "has not ended"))?;
        let outcome = runtime
            .block_on(run_group(group, count, &folder.join("calm")))
            .unwrap_or_else(|error| Outcome::unfinished(group, count, &format!("{error:#}")));
        failed += usize::from(!outcome.is_passed());
        tell(&outcome, &report.keep(&outcome)?);
    }
    println!("{}", report.table());
    Ok(ExitCode::from(u8::from(failed > 0)))
}

/// What was tested: the table of another build says nothing about this one.
fn build() -> anyhow::Result<String> {
    let coordinator = hash_file(&binary("remaster-coordinator")?, |_| {})?;
    let own = hash_file(&std::env::current_exe()?, |_| {})?;
    Ok(format!("{}-{}", coordinator.short(), own.short()))
}

fn tell(outcome: &Outcome, table: &Path) {
    let word = if outcome.is_passed() { "passed" } else { "FAILED" };
    eprintln!(
        "{}: {word} after {} s; {}",
        outcome.group,
        outcome.seconds,
        table.display()
    );
    for complaint in outcome.complaints() {
        eprintln!("  {complaint}");
    }
    if let Some(kept) = &outcome.kept {
        eprintln!("  logs, database and store: {}", kept.display());
    }
}

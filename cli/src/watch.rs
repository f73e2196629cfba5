//! `remaster watch`: a bar per kind of task on stderr, plain lines where stderr is no terminal, until the job has ended.
//!
//! A coordinator that restarts is waited for: watching must not fail before the job does.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use remaster_proto::pb;
use remaster_service::CliError;
use tonic::Code;

use crate::args::JobArgs;
use crate::client::Coordinator;
use crate::jobs::{JobView, KindView, dead_lines};
use crate::output::{OutputFormat, duration, now_ms, show};

/// A restart takes seconds; after this long the coordinator is gone.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two tries to reach it.
const RETRY_PAUSE: Duration = Duration::from_secs(1);
/// In a log, a sign of life of a long task.
const LINE_EVERY_MS: i64 = 15_000;
/// Steps of a bar: tasks differ in size, so a bar shows the share of the work known so far.
const BAR_STEPS: u64 = 1000;

/// `remaster watch`.
pub(crate) async fn run(args: &JobArgs, format: OutputFormat) -> anyhow::Result<()> {
    let coordinator = Coordinator::open(&args.connect)?;
    let id = coordinator.resolve_job(args.job.as_deref()).await?;
    let last = follow_to_end(&coordinator, &id).await?;
    if format == OutputFormat::Json {
        show(format, &last, |_| String::new())?;
    }
    judge(&last)
}

/// Follows a job until it ends; fails when the job has failed.
pub(crate) async fn follow(coordinator: &Coordinator, id: &str) -> anyhow::Result<()> {
    judge(&follow_to_end(coordinator, id).await?)
}

async fn follow_to_end(coordinator: &Coordinator, id: &str) -> anyhow::Result<JobView> {
    let mut screen = Screen::new(std::io::stderr().is_terminal());
    let mut last: Option<JobView> = None;
    let mut lost_at: Option<Instant> = None;
    loop {
        match listen(coordinator, id, &mut screen, &mut last).await {
            Ok(())
                if last
                    .as_ref()
                    .is_some_and(|job| job.ended_ms.is_some() || is_final(&job.state)) =>
            {
                break;
            }
            Err(status) if status.code() == Code::NotFound => return Err(coordinator.failed(&status).into()),
            Ok(()) => {}
            Err(status) if lost_at.is_some_and(|at: Instant| at.elapsed() > PATIENCE) => {
                return Err(coordinator.failed(&status).into());
            }
            Err(_) => screen.say("the coordinator is away, waiting for it"),
        }
        let heard = screen.take_heard();
        lost_at = if heard {
            Some(Instant::now())
        } else {
            lost_at.or_else(|| Some(Instant::now()))
        };
        tokio::time::sleep(RETRY_PAUSE).await;
    }
    let job = last.ok_or_else(|| CliError::failed("the coordinator said nothing of the job"))?;
    screen.end(&job);
    Ok(job)
}

async fn listen(
    coordinator: &Coordinator,
    id: &str,
    screen: &mut Screen,
    last: &mut Option<JobView>,
) -> Result<(), tonic::Status> {
    let request = pb::WatchJobRequest {
        job_id: id.to_owned(),
    };
    let mut updates = coordinator.jobs.clone().watch_job(request).await?.into_inner();
    while let Some(job) = updates.message().await? {
        let job = JobView::from(job);
        screen.update(&job, now_ms());
        *last = Some(job);
    }
    Ok(())
}

fn is_final(state: &str) -> bool {
    remaster_domain::JobState::parse(state).is_some_and(remaster_domain::JobState::is_final)
}

fn judge(job: &JobView) -> anyhow::Result<()> {
    if job.state == "succeeded" {
        return Ok(());
    }
    let lines = dead_lines(job);
    let message = match lines.len() {
        0 => format!("job {} is {}", job.job_id, job.state),
        dead => format!(
            "job {} has {dead} dead tasks:\n  {}",
            job.job_id,
            lines.join("\n  ")
        ),
    };
    let failed = CliError::failed(message);
    Err(match job.state.as_str() {
        "failed" => failed
            .with_hint(format!(
                "mend what is wrong, then `remaster retry {}`",
                job.job_id
            ))
            .into(),
        _ => failed.into(),
    })
}

/// Bars or lines; always on stderr.
struct Screen {
    bars: Option<MultiProgress>,
    by_kind: BTreeMap<String, ProgressBar>,
    /// Per kind: what was printed last, and when.
    printed: BTreeMap<String, (String, i64)>,
    heard: bool,
    told: String,
}

impl Screen {
    fn new(terminal: bool) -> Self {
        Self {
            bars: terminal.then(MultiProgress::new),
            by_kind: BTreeMap::new(),
            printed: BTreeMap::new(),
            heard: false,
            told: String::new(),
        }
    }

    fn update(&mut self, job: &JobView, now_ms: i64) {
        self.heard = true;
        for kind in &job.kinds {
            match &self.bars {
                Some(bars) => {
                    let bar = self
                        .by_kind
                        .entry(kind.kind.clone())
                        .or_insert_with(|| add_bar(bars, &kind.kind));
                    bar.set_position((share(kind) * BAR_STEPS as f64) as u64);
                    bar.set_message(line(kind, now_ms));
                }
                None => self.print_line(kind, now_ms),
            }
        }
        if let Some(reason) = &job.waiting_reason {
            self.say(&format!("waiting: {reason}"));
        }
    }

    /// A line when a task has ended, and now and then while one runs: not for every step of progress.
    fn print_line(&mut self, kind: &KindView, now_ms: i64) {
        let state = format!("{}/{} {}", kind.committed, kind.count(), kind.dead);
        let is_new = self.printed.get(&kind.kind).is_none_or(|(before, at_ms)| {
            *before != state || (kind.leased > 0 && now_ms - at_ms >= LINE_EVERY_MS)
        });
        if is_new {
            eprintln!("{:<9} {}", kind.kind, line(kind, now_ms));
            self.printed.insert(kind.kind.clone(), (state, now_ms));
        }
    }

    /// Says something once, above the bars.
    fn say(&mut self, text: &str) {
        if self.told == text {
            return;
        }
        text.clone_into(&mut self.told);
        match &self.bars {
            Some(bars) => drop(bars.println(text)),
            None => eprintln!("{text}"),
        }
    }

    fn take_heard(&mut self) -> bool {
        std::mem::take(&mut self.heard)
    }

    fn end(&mut self, job: &JobView) {
        for bar in self.by_kind.values() {
            bar.abandon();
        }
        let took = job
            .ended_ms
            .map(|ended| format!(" after {}", duration(ended - job.created_ms)));
        eprintln!("{} {}{}", job.season, job.state, took.unwrap_or_default());
    }
}

fn add_bar(bars: &MultiProgress, kind: &str) -> ProgressBar {
    let style = ProgressStyle::with_template("{prefix:9} [{bar:24}] {wide_msg}").expect("a fixed template");
    let bar = bars.add(ProgressBar::new(BAR_STEPS).with_style(style));
    bar.set_prefix(kind.to_owned());
    bar
}

/// The share of the known work that is done: whole tasks and the part of those that run.
fn share(kind: &KindView) -> f64 {
    let running = if kind.total == 0 {
        0.0
    } else {
        kind.done as f64 / kind.total as f64 * f64::from(kind.leased)
    };
    let count = f64::from(kind.count().max(1));
    ((f64::from(kind.committed + kind.dead + kind.cancelled) + running) / count).clamp(0.0, 1.0)
}

/// `3/8, 1 dead, 2.1 fps, 40 s left`.
fn line(kind: &KindView, now_ms: i64) -> String {
    let mut parts = vec![format!("{}/{}", kind.committed, kind.count())];
    if kind.dead > 0 {
        parts.push(format!("{} dead", kind.dead));
    }
    let open = kind.ready + kind.leased > 0;
    if open && !kind.note.is_empty() {
        parts.push(kind.note.clone());
    }
    match (open, kind.elapsed_ms(now_ms)) {
        (false, Some(elapsed)) => parts.push(format!("in {}", duration(elapsed))),
        (true, Some(elapsed)) => parts.extend(left(share(kind), elapsed)),
        (_, None) => {}
    }
    parts.join(", ")
}

/// What is left if it goes on as so far; silent while a guess would be wild.
fn left(share: f64, elapsed_ms: i64) -> Option<String> {
    if !(0.02..1.0).contains(&share) {
        return None;
    }
    Some(format!(
        "{} left",
        duration((elapsed_ms as f64 * (1.0 - share) / share) as i64)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(ready: u32, leased: u32, committed: u32, done: u64, total: u64) -> KindView {
        pb::KindSummary {
            kind: "upscale".to_owned(),
            ready,
            leased,
            committed,
            done,
            total,
            note: "2.1 fps".to_owned(),
            started_ms: 1_000,
            ended_ms: 21_000,
            ..Default::default()
        }
        .into()
    }

    #[test]
    fn a_line_counts_what_runs_and_guesses_what_is_left() {
        assert_eq!(line(&kind(1, 2, 1, 50, 100), 31_000), "1/4, 2.1 fps, 30 s left");
        assert_eq!(line(&kind(0, 0, 4, 0, 0), 99_000), "4/4, in 20 s");
        assert_eq!(line(&kind(4, 0, 0, 0, 0), 1_000), "0/4, 2.1 fps");
    }

    #[test]
    fn a_failed_job_lists_its_dead_tasks() {
        let dead = pb::DeadTask {
            name: "index/ab".to_owned(),
            message: "not a video".to_owned(),
            ..Default::default()
        };
        let job = |state: &str, dead: Vec<pb::DeadTask>| {
            JobView::from(pb::JobSummary {
                job_id: "j".to_owned(),
                state: state.to_owned(),
                dead,
                ..Default::default()
            })
        };
        assert!(judge(&job("succeeded", vec![])).is_ok());
        let error = judge(&job("failed", vec![dead])).expect_err("it failed");
        assert_eq!(
            error.to_string(),
            "job j has 1 dead tasks:\n  index/ab: not a video"
        );
        assert_eq!(
            judge(&job("cancelled", vec![])).expect_err("it was").to_string(),
            "job j is cancelled"
        );
    }
}

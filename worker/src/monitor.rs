//! How running work hears that it must stop, and says how far it is. The same for a lease and for a local command, so the
//! work does not know which of the two it serves.

use std::io::{IsTerminal, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use remaster_media::Children;
use remaster_proto::Attempt;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Span;

use crate::error::WorkError;

/// A call that cannot be interrupted (a mux, an index) may go on this long after a stop before it is left to itself.
pub(crate) const STOP_GRACE: Duration = Duration::from_secs(3);
/// Between two progress lines on a terminal.
const TERMINAL_INTERVAL: Duration = Duration::from_millis(250);
/// Between two progress lines in a file or a pipe.
const PLAIN_INTERVAL: Duration = Duration::from_secs(5);

type Report = dyn Fn(u64, u64, &str) + Send + Sync;
/// Done, total and note of each report.
#[cfg(test)]
type Reports = Arc<Mutex<Vec<(u64, u64, String)>>>;

/// Stop and progress of one piece of work. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Monitor {
    stop: CancellationToken,
    /// Work on threads, some of it perhaps left behind.
    threads: TaskTracker,
    report: Arc<Report>,
}

impl Monitor {
    /// For an attempt: the next heartbeat carries what is reported.
    pub(crate) fn of_attempt(attempt: &Attempt) -> Self {
        let (stop, threads) = (attempt.stop.clone(), attempt.threads.clone());
        let attempt = attempt.clone();
        Self {
            stop,
            threads,
            report: Arc::new(move |done, total, note| attempt.report(done, total, note)),
        }
    }

    /// For a local command: lines on stderr with rate and time left.
    pub(crate) fn on_stderr(stop: CancellationToken, what: &str) -> Self {
        let [monitor] = Self::side_by_side(&stop, [what]);
        monitor
    }

    /// For things that a local command does at once: on a terminal they share a line.
    pub(crate) fn side_by_side<const N: usize>(stop: &CancellationToken, whats: [&str; N]) -> [Self; N] {
        let line = Arc::new(Mutex::new(ProgressLine::new(&whats)));
        std::array::from_fn(|part| {
            let line = Arc::clone(&line);
            let report = move |done, total, note: &str| {
                let mut line = line.lock().unwrap_or_else(PoisonError::into_inner);
                // Nobody is there to read a progress line that cannot be written.
                if let Some(text) = line.after(part, done, total, note, Instant::now()) {
                    let _ = std::io::stderr().write_all(text.as_bytes());
                }
            };
            Self {
                stop: stop.clone(),
                threads: TaskTracker::new(),
                report: Arc::new(report),
            }
        })
    }

    /// For tests: never stops, says nothing.
    #[cfg(test)]
    pub(crate) fn silent() -> Self {
        Self {
            stop: CancellationToken::new(),
            threads: TaskTracker::new(),
            report: Arc::new(|_, _, _| {}),
        }
    }

    /// For tests: never stops by itself, remembers what it was told.
    #[cfg(test)]
    pub(crate) fn recording() -> (Self, Reports) {
        let reports = Reports::default();
        let own = Arc::clone(&reports);
        let report = move |done, total, note: &str| {
            let mut reports = own.lock().unwrap_or_else(PoisonError::into_inner);
            reports.push((done, total, note.to_owned()));
        };
        let monitor = Self {
            report: Arc::new(report),
            ..Self::silent()
        };
        (monitor, reports)
    }

    /// For tests: tells the work to stop.
    #[cfg(test)]
    pub(crate) fn stop(&self) {
        self.stop.cancel();
    }

    /// The same work as a part of something larger: `done` of `total` lies behind it.
    #[cfg(feature = "upscale")]
    pub(crate) fn part(&self, behind: u64, total: u64) -> Self {
        let report = Arc::clone(&self.report);
        Self {
            stop: self.stop.clone(),
            threads: self.threads.clone(),
            report: Arc::new(move |done, _, note| report(behind + done, total, note)),
        }
    }

    /// A step too small to be reported: it stops with the work it belongs to.
    pub(crate) fn quiet(&self) -> Self {
        Self {
            stop: self.stop.clone(),
            threads: self.threads.clone(),
            report: Arc::new(|_, _, _| {}),
        }
    }

    /// Says how far the work is, in its own unit.
    pub(crate) fn report(&self, done: u64, total: u64, note: &str) {
        (self.report)(done, total, note);
    }

    /// Says how many bytes came or went of how many, in the unit that people see: `note` names it.
    pub(crate) fn report_bytes(&self, done: u64, total: u64, note: &str) {
        self.report(done >> 20, total >> 20, note);
    }

    /// To be asked between frames.
    pub(crate) fn check(&self) -> Result<(), WorkError> {
        if self.stop.is_cancelled() {
            Err(WorkError::Stopped)
        } else {
            Ok(())
        }
    }

    /// Runs blocking work on a thread of its own kind. After a stop its children are killed, since work that waits for one would
    /// not look up, and it gets a moment to notice; then it is left behind.
    pub(crate) async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, WorkError> + Send + 'static,
    ) -> Result<T, WorkError> {
        self.check()?;
        let (span, children) = (Span::current(), Children::default());
        let own = children.clone();
        let mut running = self
            .threads
            .spawn_blocking(move || span.in_scope(|| own.around(work)));
        let ended = tokio::select! {
            ended = &mut running => ended,
            () = self.stop.cancelled() => {
                children.stop();
                match tokio::time::timeout(STOP_GRACE, running).await {
                    Ok(ended) => ended,
                    Err(_) => return Err(WorkError::Stopped),
                }
            }
        };
        match ended {
            Ok(Ok(result)) => Ok(result),
            // What a killed child leaves behind looks like a failure.
            Ok(Err(_)) if self.stop.is_cancelled() => Err(WorkError::Stopped),
            Ok(Err(error)) => Err(error),
            Err(panic) => Err(WorkError::Retryable(format!("the work ended abruptly: {panic}"))),
        }
    }
}

/// One line that is written over on a terminal, and lines that follow each other elsewhere.
struct ProgressLine {
    parts: Vec<Part>,
    is_terminal: bool,
}

/// One of the things that are done at once.
struct Part {
    what: String,
    started: Instant,
    shown: Option<Instant>,
    /// What was done and said last: another note is another step with a rate of its own.
    last: (u64, String),
    text: String,
    is_done: bool,
}

impl ProgressLine {
    fn new(whats: &[&str]) -> Self {
        let part = |what: &&str| Part {
            what: (*what).to_owned(),
            started: Instant::now(),
            shown: None,
            last: (0, String::new()),
            text: String::new(),
            is_done: false,
        };
        Self {
            parts: whats.iter().map(part).collect(),
            is_terminal: std::io::stderr().is_terminal(),
        }
    }

    /// What to write once a part is so far; nothing where it said something a moment ago.
    fn after(&mut self, part: usize, done: u64, total: u64, note: &str, now: Instant) -> Option<String> {
        let interval = if self.is_terminal {
            TERMINAL_INTERVAL
        } else {
            PLAIN_INTERVAL
        };
        let line = self.parts[part]
            .after(done, total, note, now, interval)?
            .to_owned();
        if !self.is_terminal {
            return Some(line + "\n");
        }
        let texts = self.parts.iter().map(|part| part.text.as_str());
        let texts: Vec<&str> = texts.filter(|text| !text.is_empty()).collect();
        let is_last = self.parts.iter().all(|part| part.is_done);
        let end = if is_last { "\n" } else { "" };
        Some(format!("\r\x1b[K{}{end}", texts.join(" | ")))
    }
}

impl Part {
    fn after(&mut self, done: u64, total: u64, note: &str, now: Instant, interval: Duration) -> Option<&str> {
        self.is_done = done == total && total > 0;
        if done < self.last.0 || note != self.last.1 {
            self.started = now;
        }
        self.last = (done, note.to_owned());
        if !self.is_done && self.shown.is_some_and(|shown| now - shown < interval) {
            return None;
        }
        self.shown = Some(now);
        self.text = progress_text(&self.what, done, total, note, now - self.started);
        Some(&self.text)
    }
}

fn progress_text(what: &str, done: u64, total: u64, note: &str, elapsed: Duration) -> String {
    let per_second = done as f64 / elapsed.as_secs_f64().max(1e-3);
    let mut text = if total > 0 {
        format!("{what}: {done}/{total}")
    } else {
        format!("{what}: {done}")
    };
    if done > 0 && elapsed >= Duration::from_millis(500) {
        text.push_str(&format!(", {per_second:.1} a second"));
        let left_s = (total.saturating_sub(done) as f64 / per_second).round();
        if left_s > 0.0 {
            text.push_str(&format!(", {} left", clock(left_s as u64)));
        }
    }
    if !note.is_empty() {
        text.push_str(&format!(" ({note})"));
    }
    text
}

fn clock(seconds: u64) -> String {
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if hours > 0 {
        format!("{hours}:{minutes:02}:{seconds:02}")
    } else {
        format!("{minutes}:{seconds:02}")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::path::Path;
    use std::process::Command;

    use remaster_domain::{
        ContentHash, FieldPlan, FrameInfo, FrameRange, PictType, Rational, SourceIndex, VideoInfo,
    };
    use remaster_media::FrameReader;

    use super::*;

    #[test]
    fn a_progress_line_tells_rate_and_time_left() {
        let text = progress_text("frames", 100, 400, "x264", Duration::from_secs(50));
        assert_eq!(text, "frames: 100/400, 2.0 a second, 2:30 left (x264)");
        assert_eq!(progress_text("frames", 0, 0, "", Duration::ZERO), "frames: 0");
        assert_eq!(clock(3_725), "1:02:05");
    }

    #[test]
    fn what_is_done_at_once_shares_the_line_of_a_terminal() {
        let mut line = ProgressLine::new(&["index sd", "index hd"]);
        let now = Instant::now();
        line.is_terminal = true;
        let mut said = |part, done| line.after(part, done, 9, "", now);
        assert_eq!(said(0, 1).as_deref(), Some("\r\x1b[Kindex sd: 1/9"));
        assert_eq!(
            said(1, 4).as_deref(),
            Some("\r\x1b[Kindex sd: 1/9 | index hd: 4/9")
        );
        assert_eq!(said(1, 5), None, "a moment later");
        assert_eq!(
            said(0, 9).as_deref(),
            Some("\r\x1b[Kindex sd: 9/9 | index hd: 4/9")
        );
        let end = said(1, 9);
        assert_eq!(end.as_deref(), Some("\r\x1b[Kindex sd: 9/9 | index hd: 9/9\n"));
        line.is_terminal = false;
        assert_eq!(line.after(0, 9, 9, "", now).as_deref(), Some("index sd: 9/9\n"));
    }

    #[tokio::test]
    async fn a_panic_in_the_work_is_an_error_that_may_be_tried_again() {
        let result = Monitor::silent().blocking::<()>(|| panic!("of a test")).await;
        assert!(matches!(result, Err(WorkError::Retryable(_))));
    }

    #[tokio::test]
    async fn stopped_work_is_not_begun() {
        let monitor = Monitor::silent();
        monitor.stop.cancel();
        assert!(matches!(
            monitor.blocking(|| Ok(())).await,
            Err(WorkError::Stopped)
        ));
    }
    /// A process that has the file among its arguments.
    fn process_that_names(file: &Path) -> Option<String> {
        let processes = std::fs::read_dir("/proc").ok()?.flatten();
        let mut lines =
            processes.map(|entry| std::fs::read(entry.path().join("cmdline")).unwrap_or_default());
        let names = |line: &Vec<u8>| String::from_utf8_lossy(line).contains(&*file.to_string_lossy());
        lines
            .find(names)
            .map(|line| String::from_utf8_lossy(&line).into_owned())
    }

    fn index_of_one_frame() -> SourceIndex {
        let one = Rational { num: 1, den: 1 };
        SourceIndex {
            version: 1,
            source: ContentHash::of(b""),
            video: VideoInfo {
                codec: String::new(),
                width: 16,
                height: 16,
                pix_fmt: "yuv420p".to_owned(),
                sar: one,
                frame_rate: one,
                time_base: one,
                matrix: None,
                range: None,
            },
            frames: vec![FrameInfo {
                pts: 0,
                pict_type: PictType::I,
                key: true,
                interlaced: false,
            }],
            cuts: Vec::new(),
            repeats: Vec::new(),
            fields: FieldPlan::default(),
        }
    }

    #[tokio::test]
    async fn a_stop_ends_the_child_that_the_work_waits_for() {
        let folder = tempfile::tempdir().unwrap();
        let film = folder.path().join("hangs.mkv");
        // Nobody ever writes to it.
        assert!(Command::new("mkfifo").arg(&film).status().unwrap().success());
        let monitor = Monitor::silent();
        let (own, path) = (monitor.clone(), film.clone());
        let reading = tokio::spawn(async move {
            let read = move || {
                let range = FrameRange { start: 0, end: 1 };
                let mut frames = FrameReader::open(&path, &index_of_one_frame(), range)?;
                frames.next().transpose().map_err(WorkError::from)
            };
            own.blocking(read).await
        });
        while process_that_names(&film).is_none() {
            tokio::task::yield_now().await;
        }
        monitor.stop.cancel();
        assert!(matches!(reading.await.unwrap(), Err(WorkError::Stopped)));
        assert_eq!(process_that_names(&film), None);
        monitor.threads.close();
        monitor.threads.wait().await;
    }
}

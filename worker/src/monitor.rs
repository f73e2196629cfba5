//! How running work hears that it must stop, and says how far it is. The same for a lease and for a local command, so the
//! work does not know which of the two it serves.

use std::io::{IsTerminal, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use remaster_proto::Attempt;
use tokio_util::sync::CancellationToken;
use tracing::Span;

use crate::error::WorkError;

/// A call that cannot be interrupted (a mux, an index) may go on this long after a stop before it is left to itself.
pub(crate) const STOP_GRACE: Duration = Duration::from_secs(3);
/// Between two progress lines on a terminal.
const TERMINAL_INTERVAL: Duration = Duration::from_millis(250);
/// Between two progress lines in a file or a pipe.
const PLAIN_INTERVAL: Duration = Duration::from_secs(5);

type Report = dyn Fn(u64, u64, &str) + Send + Sync;

/// Stop and progress of one piece of work. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Monitor {
    stop: CancellationToken,
    report: Arc<Report>,
}

impl Monitor {
    /// For an attempt: the next heartbeat carries what is reported.
    pub(crate) fn of_attempt(attempt: &Attempt) -> Self {
        let stop = attempt.stop.clone();
        let attempt = attempt.clone();
        Self {
            stop,
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
                report: Arc::new(report),
            }
        })
    }

    /// For tests: never stops, says nothing.
    #[cfg(test)]
    pub(crate) fn silent() -> Self {
        Self {
            stop: CancellationToken::new(),
            report: Arc::new(|_, _, _| {}),
        }
    }

    /// The same work as a part of something larger: `done` of `total` lies behind it.
    #[cfg(feature = "upscale")]
    pub(crate) fn part(&self, behind: u64, total: u64) -> Self {
        let report = Arc::clone(&self.report);
        Self {
            stop: self.stop.clone(),
            report: Arc::new(move |done, _, note| report(behind + done, total, note)),
        }
    }

    /// A step too small to be reported: it stops with the work it belongs to.
    #[cfg(feature = "upscale")]
    pub(crate) fn quiet(&self) -> Self {
        Self {
            stop: self.stop.clone(),
            report: Arc::new(|_, _, _| {}),
        }
    }

    /// Says how far the work is, in its own unit.
    pub(crate) fn report(&self, done: u64, total: u64, note: &str) {
        (self.report)(done, total, note);
    }

    /// To be asked between frames.
    pub(crate) fn check(&self) -> Result<(), WorkError> {
        if self.stop.is_cancelled() {
            Err(WorkError::Stopped)
        } else {
            Ok(())
        }
    }

    /// Runs blocking work on a thread of its own kind. After a stop it gets a moment to notice, then it is left behind.
    pub(crate) async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, WorkError> + Send + 'static,
    ) -> Result<T, WorkError> {
        self.check()?;
        let span = Span::current();
        let running = tokio::task::spawn_blocking(move || span.in_scope(work));
        let given_up = async {
            self.stop.cancelled().await;
            tokio::time::sleep(STOP_GRACE).await;
        };
        tokio::select! {
            ended = running => match ended {
                Ok(result) => result,
                Err(panic) => Err(WorkError::Retryable(format!("the work ended abruptly: {panic}"))),
            },
            () = given_up => Err(WorkError::Stopped),
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
}

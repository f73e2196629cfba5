//! What machines ask over plain HTTP: `/metrics` for Prometheus, `/healthz` (this process runs), `/readyz` (its database
//! answers). One request a connection, nothing but GET, so that it needs no server of its own weight.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::CoordinatorError;
use crate::coordinator::Coordinator;
use crate::db::{self, Numbers};

/// A request's head; a scraper's is some hundred bytes.
const HEAD_BYTES_MAX: u64 = 8 * 1024;
/// A peer that says nothing is let go after this.
const REQUEST_TIME_MAX: Duration = Duration::from_secs(10);
/// Requests at once; more wait.
const REQUESTS_MAX: usize = 16;

/// Answers until shutdown.
pub async fn serve_http(coordinator: Arc<Coordinator>, listener: TcpListener, shutdown: CancellationToken) {
    let places = Arc::new(Semaphore::new(REQUESTS_MAX));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return;
        };
        let stream = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    warn!(%error, "could not accept a connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            },
            () = shutdown.cancelled() => return,
        };
        let coordinator = Arc::clone(&coordinator);
        tokio::spawn(async move {
            let answered = tokio::time::timeout(REQUEST_TIME_MAX, answer(&coordinator, stream)).await;
            if !matches!(answered, Ok(Ok(()))) {
                debug!("a request was not answered");
            }
            drop(place);
        });
    }
}

async fn answer(coordinator: &Coordinator, mut stream: TcpStream) -> std::io::Result<()> {
    let mut head = vec![];
    let mut limited = (&mut stream).take(HEAD_BYTES_MAX);
    while !head.windows(4).any(|bytes| bytes == b"\r\n\r\n") {
        if limited.read_buf(&mut head).await? == 0 {
            break;
        }
    }
    let head = String::from_utf8_lossy(&head);
    let mut words = head.split_ascii_whitespace();
    let (status, body) = match (words.next(), words.next()) {
        (Some("GET"), Some("/healthz")) => ("200 OK", "ok\n".to_owned()),
        (Some("GET"), Some("/readyz")) => match coordinator.db.now_ms().await {
            Ok(_) => ("200 OK", "ok\n".to_owned()),
            Err(error) => ("503 Service Unavailable", format!("{error}\n")),
        },
        (Some("GET"), Some("/metrics")) => match coordinator.numbers().await {
            Ok(numbers) => ("200 OK", exposition(&numbers)),
            Err(error) => ("503 Service Unavailable", format!("{error}\n")),
        },
        (Some("GET"), Some(_)) => (
            "404 Not Found",
            "there are /metrics, /healthz and /readyz\n".to_owned(),
        ),
        _ => (
            "400 Bad Request",
            "GET /metrics, /healthz or /readyz\n".to_owned(),
        ),
    };
    let bytes = body.len();
    let reply = format!(
        "HTTP/1.1 {status}\r\ncontent-type: text/plain; version=0.0.4; charset=utf-8\r\ncontent-length: {bytes}\r\n\
         connection: close\r\n\r\n{body}"
    );
    stream.write_all(reply.as_bytes()).await?;
    stream.shutdown().await
}

impl Coordinator {
    async fn numbers(&self) -> Result<Numbers, CoordinatorError> {
        let now_ms = self.db.now_ms().await?;
        let live_since_ms = self.live_since_ms(now_ms);
        db::numbers(&mut self.reader().await?, now_ms, live_since_ms).await
    }
}

/// The text format of Prometheus.
fn exposition(numbers: &Numbers) -> String {
    let mut text = String::new();
    let mut family = |name: &str, help: &str, rows: &[(String, i64)]| {
        let kind = if name.ends_with("_total") {
            "counter"
        } else {
            "gauge"
        };
        let _ = writeln!(
            text,
            "# HELP remaster_{name} {help}\n# TYPE remaster_{name} {kind}"
        );
        for (labels, value) in rows {
            let _ = writeln!(text, "remaster_{name}{labels} {value}");
        }
    };
    family(
        "tasks",
        "Tasks of jobs that have not ended, by kind and state.",
        &numbers.tasks,
    );
    family("jobs", "Jobs by state.", &numbers.jobs);
    family(
        "attempts_total",
        "Attempts that have ended, by outcome.",
        &numbers.attempts,
    );
    family(
        "oldest_ready_seconds",
        "For how long the oldest ready task has been ready, by kind.",
        &numbers.oldest_ready_seconds,
    );
    family(
        "workers",
        "Live sessions of workers.",
        &[(String::new(), numbers.workers)],
    );
    family(
        "copies_pending",
        "Objects that are committed and have no name for people yet.",
        &[(String::new(), numbers.copies)],
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_says_what_it_is_and_carries_its_labels() {
        let numbers = Numbers {
            tasks: vec![("{kind=\"index\",state=\"ready\"}".to_owned(), 7)],
            workers: 3,
            ..Numbers::default()
        };
        let text = exposition(&numbers);
        assert!(
            text.contains("# TYPE remaster_tasks gauge\nremaster_tasks{kind=\"index\",state=\"ready\"} 7\n")
        );
        assert!(text.contains("# TYPE remaster_attempts_total counter\n"));
        assert!(text.contains("remaster_workers 3\n"));
    }
}

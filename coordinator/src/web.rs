//! What machines ask over plain HTTP: `/metrics` for Prometheus, `/healthz` (this process runs), `/readyz` (its database
//! answers). Nothing but GET, one request a connection, few connections at once.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::CoordinatorError;
use crate::coordinator::Coordinator;
use crate::db::{self, Numbers};

/// A request's head; a scraper's is some hundred bytes. The least that hyper takes.
const HEAD_BYTES_MAX: usize = 8 * 1024;
/// A peer that says nothing, or does not read its answer, is let go after this.
const REQUEST_TIME_MAX: Duration = Duration::from_secs(10);
/// Requests at once; more wait.
const REQUESTS_MAX: usize = 16;
/// Prometheus' text format, which plain text is as well.
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");

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
            let served = tokio::time::timeout(REQUEST_TIME_MAX, serve_one(&coordinator, stream)).await;
            if !matches!(served, Ok(Ok(()))) {
                debug!("a request was not answered");
            }
            drop(place);
        });
    }
}

async fn serve_one(coordinator: &Coordinator, stream: TcpStream) -> hyper::Result<()> {
    let answered = service_fn(|request: Request<Incoming>| async move {
        let (status, body) = answer(coordinator, request.method(), request.uri().path()).await;
        let mut response = Response::new(Full::new(Bytes::from(body)));
        *response.status_mut() = status;
        response.headers_mut().insert(CONTENT_TYPE, TEXT);
        Ok::<_, std::convert::Infallible>(response)
    });
    http1::Builder::new()
        .timer(TokioTimer::new())
        .max_buf_size(HEAD_BYTES_MAX)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), answered)
        .await
}

async fn answer(coordinator: &Coordinator, method: &Method, path: &str) -> (StatusCode, String) {
    if method != Method::GET {
        let allowed = "GET /metrics, /healthz or /readyz\n".to_owned();
        return (StatusCode::METHOD_NOT_ALLOWED, allowed);
    }
    let found = match path {
        "/healthz" => Ok("ok\n".to_owned()),
        "/readyz" => coordinator.ready().await.map(|()| "ok\n".to_owned()),
        "/metrics" => coordinator.numbers().await.map(|numbers| {
            let stale_calls = coordinator.stale_calls.load(Ordering::Relaxed);
            exposition(&numbers, stale_calls)
        }),
        _ => {
            let there = "there are /metrics, /healthz and /readyz\n".to_owned();
            return (StatusCode::NOT_FOUND, there);
        }
    };
    match found {
        Ok(body) => (StatusCode::OK, body),
        Err(error) => (StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n")),
    }
}

impl Coordinator {
    async fn numbers(&self) -> Result<Numbers, CoordinatorError> {
        let now_ms = self.db.now_ms().await?;
        let live_since_ms = self.live_since_ms(now_ms);
        db::numbers(&mut self.reader().await?, now_ms, live_since_ms).await
    }
}

/// The text format of Prometheus.
fn exposition(numbers: &Numbers, stale_calls: i64) -> String {
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
        "workers_resting",
        "Live sessions of workers that get nothing for a while, since they failed again and again.",
        &[(String::new(), numbers.resting)],
    );
    family(
        "stale_calls_total",
        "Calls refused here since their lease was another's or nobody's.",
        &[(String::new(), stale_calls)],
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
        let text = exposition(&numbers, 5);
        assert!(text.contains("# TYPE remaster_stale_calls_total counter\nremaster_stale_calls_total 5\n"));
        assert!(
            text.contains("# TYPE remaster_tasks gauge\nremaster_tasks{kind=\"index\",state=\"ready\"} 7\n")
        );
        assert!(text.contains("# TYPE remaster_attempts_total counter\n"));
        assert!(text.contains("remaster_workers 3\n"));
    }
}

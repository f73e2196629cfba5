//! What an attempt's lines say of it, whoever writes them.

use std::io::Write;
use std::sync::{Arc, Mutex};

use super::*;

/// What was logged.
#[derive(Debug, Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn lines(&self) -> Vec<String> {
        let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        text.lines().map(str::to_owned).collect()
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn every_line_about_an_attempt_names_worker_job_task_attempt_and_token() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    let _logging = tracing::subscriber::set_default(subscriber);
    let script = Script {
        grants: granted_at_once(vec![lease(1)]),
        ..Script::default()
    };
    let work = Work::of(|_attempt| async {
        tracing::info!("at work");
        Ok(done())
    });
    let mut running = Running::start(1, script, work);
    assert_eq!(running.next().await, "commit 1");
    running.end().await;

    let id = lease(1).task_id;
    let worker = "00000000-0000-0000-0000-0000000000ff";
    for what in ["started", "at work", "handed in"] {
        let lines = log.lines();
        let line = lines.iter().find(|line| line.contains(what)).expect(what);
        for said in [
            format!("worker={worker}"),
            format!("job={id}"),
            format!("task={id}"),
            "kind=\"index\"".to_owned(),
            "attempt=1".to_owned(),
            "token=1".to_owned(),
        ] {
            assert!(line.contains(&said), "{said} is not in {line}");
        }
    }
}

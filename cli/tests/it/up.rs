//! `remaster up` as a process, with a coordinator alone, which is a script: how it is started again, and how it ends.

use std::io::{BufRead, BufReader, Lines};
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};

use nix::sys::prctl::set_child_subreaper;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::beside;

/// Says who it is and that it listens. Port 9 is discard: nobody listens there.
const LISTENS: &str = "echo $$ > pid; echo 0.0.0.0:9 > aside; mv aside remaster-data/coordinator.address";

struct Up {
    folder: TempDir,
    process: Child,
    url: String,
    log: Lines<BufReader<ChildStderr>>,
}

impl Up {
    /// Waits until it says that it is ready.
    fn start(coordinator: &str) -> Self {
        let folder = beside(&[
            ("remaster-coordinator", coordinator),
            ("remaster-worker", ""),
            ("remaster-trainer", ""),
        ]);
        let mut process = Command::new(folder.path().join("remaster"))
            .args(["up", "--listen", "0.0.0.0:0", "--workers", "0", "--no-trainer"])
            .current_dir(folder.path())
            .env_clear()
            .env("HOME", folder.path())
            .env("PATH", "/usr/bin:/bin")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdout = BufReader::new(process.stdout.take().unwrap());
        let mut up = Self {
            log: BufReader::new(process.stderr.take().unwrap()).lines(),
            url: String::new(),
            folder,
            process,
        };
        stdout.read_line(&mut up.url).unwrap();
        up.wait_until_it_says("ready;");
        up
    }

    fn wait_until_it_says(&mut self, words: &str) {
        let said = self.log.by_ref().any(|line| line.unwrap().contains(words));
        assert!(said, "it ended and never said `{words}`");
    }

    fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.process.id()).unwrap();
        kill(Pid::from_raw(id), signal).unwrap();
    }

    fn ended(&mut self) -> ExitStatus {
        self.process.wait().unwrap()
    }

    /// Of the script.
    fn pid(&self) -> Pid {
        let pid = std::fs::read_to_string(self.folder.path().join("pid")).unwrap();
        Pid::from_raw(pid.trim().parse().unwrap())
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn a_coordinator_that_is_started_again_listens_where_it_did() {
    // Its first life reads until it is killed.
    let script = format!(
        "echo \"$@\" | grep -o 'listen [^ ]*' >> lives; [ $(wc -l < lives) = 1 ] || exit 0; {LISTENS}; read x"
    );
    let mut up = Up::start(&script);
    assert_eq!(up.url.trim(), "http://127.0.0.1:9");
    kill(up.pid(), Signal::SIGKILL).unwrap();
    up.wait_until_it_says("stays down");
    up.signal(Signal::SIGTERM);
    assert!(up.ended().success());
    let lives = std::fs::read_to_string(up.folder.path().join("lives")).unwrap();
    assert_eq!(lives, "listen 0.0.0.0:0\nlisten 0.0.0.0:9\n");
}

#[test]
fn a_second_signal_kills_what_does_not_end() {
    // Its children become ours, so that what became of them can be asked.
    set_child_subreaper(true).unwrap();
    let mut up = Up::start(&format!("trap '' TERM; {LISTENS}; exec sleep 60"));
    up.signal(Signal::SIGINT);
    up.wait_until_it_says("waiting for coordinator to end");
    up.signal(Signal::SIGINT);
    assert_eq!(up.ended().code(), Some(130));
    // Where it was killed before `up` had ended, that one has asked already.
    let end = waitpid(up.pid(), None);
    assert!(!matches!(end, Ok(WaitStatus::Exited(..))), "{end:?}");
}

//! Runs ffmpeg and ffprobe: argument vectors and never a shell, stdin closed unless it is the input, stderr always
//! drained, the process gone when its handle is, or once the work that it belongs to is given up.
//!
//! Inputs are opened as `file:<path>` under a protocol and a format whitelist, so a playlist that poses as a video can
//! neither open other files nor reach the network.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io::Read;
use std::path::Path;
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::MediaError;
use crate::children::{Children, locked};

/// Lines of stderr kept for error messages: the cause is nearly always among the last few.
const TAIL_LINES_MAX: usize = 12;
/// Longest stderr line looked at; the rest of a longer one (binary metadata printed as hex) is dropped.
const LINE_BYTES_MAX: usize = 4096;
/// Containers that hold films or sound. Playlists, pictures and raw text formats are left out on purpose.
const FORMATS: &str = "matroska,mov,mpeg,mpegts,avi,asf,flv,dv,ogg,mxf,nut,rm,wtv,vob,svcd,dvd,\
                       wav,mp3,aac,ac3,eac3,flac,dts,w64,aiff";

/// Exit codes by which a shell or the loader says that it could not start a program. ffmpeg ends with neither.
const NOT_STARTED: [i32; 2] = [126, 127];

/// ffmpeg or ffprobe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Program {
    Ffmpeg,
    Ffprobe,
}

impl Program {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Ffmpeg => "ffmpeg",
            Self::Ffprobe => "ffprobe",
        }
    }
}

/// An argument vector in the making.
#[derive(Debug)]
pub(crate) struct Args(Vec<OsString>);

impl Args {
    /// Starts with options common to all calls.
    pub(crate) fn new(program: Program, loglevel: &str) -> Self {
        let mut args = Self(Vec::new());
        args.add(&["-hide_banner", "-loglevel", loglevel]);
        if program == Program::Ffmpeg {
            args.add(&["-nostdin", "-nostats"]);
        }
        args
    }

    pub(crate) fn add(&mut self, args: &[&str]) -> &mut Self {
        self.0.extend(args.iter().map(OsString::from));
        self
    }

    /// An input file; options of this input must already be there.
    pub(crate) fn input(&mut self, path: &Path) -> &mut Self {
        self.add(&[
            "-protocol_whitelist",
            "file,pipe",
            "-format_whitelist",
            FORMATS,
            "-i",
        ]);
        self.file(path)
    }

    /// A plain file argument that no name can turn into an option or a protocol.
    pub(crate) fn file(&mut self, path: &Path) -> &mut Self {
        let mut url = OsString::from("file:");
        url.push(path);
        self.0.push(url);
        self
    }
}

/// A running child; killed and reaped when dropped.
pub(crate) struct Running {
    child: Arc<Mutex<Child>>,
    children: Children,
    messages: Option<JoinHandle<String>>,
}

impl Running {
    /// Starts the program. Every stderr line for which `take` is false may end up in the tail.
    pub(crate) fn start(
        program: Program,
        args: &Args,
        stdin: Stdio,
        stdout: Stdio,
        take: impl FnMut(&str) -> bool + Send + 'static,
    ) -> Result<Self, MediaError> {
        tracing::debug!(program = program.name(), args = ?args.0, "starting");
        let mut command = Command::new(program.name());
        command
            .args(&args.0)
            .stdin(stdin)
            .stdout(stdout)
            .stderr(Stdio::piped());
        let children = Children::of_this_thread();
        let child = children.start(program.name(), &mut command)?;
        let stderr = locked(&child).stderr.take().expect("stderr was piped above");
        let messages = std::thread::spawn(move || drain(stderr, take));
        Ok(Self {
            child,
            children,
            messages: Some(messages),
        })
    }

    /// What the child reads; once, where it was piped.
    pub(crate) fn stdin(&self) -> Option<ChildStdin> {
        locked(&self.child).stdin.take()
    }

    /// What the child writes; once, where it was piped.
    pub(crate) fn stdout(&self) -> Option<ChildStdout> {
        locked(&self.child).stdout.take()
    }

    /// Waits for the end and gives the status with the last messages.
    pub(crate) fn wait(&mut self) -> std::io::Result<(ExitStatus, String)> {
        let mut pause = FIRST_PAUSE;
        let status = loop {
            if let Some(status) = self.ended()? {
                break status;
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(LOOK_INTERVAL);
        };
        Ok((status, self.last_messages()))
    }

    /// Ends the child now and gives its last messages.
    pub(crate) fn stop(&mut self) -> String {
        // Both fail only when the child is gone already, which is what is wanted.
        let _ = locked(&self.child).kill();
        self.wait()
            .map_or_else(|_| self.last_messages(), |(_, messages)| messages)
    }

    fn ended(&self) -> std::io::Result<Option<ExitStatus>> {
        locked(&self.child).try_wait()
    }

    fn last_messages(&mut self) -> String {
        let thread = self.messages.take();
        thread.and_then(|thread| thread.join().ok()).unwrap_or_default()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop();
    }
}

/// What a child that has ended left behind.
pub(crate) struct Finished {
    pub(crate) stdout: Vec<u8>,
    pub(crate) success: bool,
    pub(crate) messages: String,
}

/// Between two looks at whether the child shall end, or has ended.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);
/// Before the second look at whether it has ended; most have by then, for their output has.
const FIRST_PAUSE: Duration = Duration::from_millis(1);

/// Runs to the end, keeping all of stdout: only for calls whose output is small.
pub(crate) fn run(program: Program, args: &Args) -> Result<Finished, MediaError> {
    run_until(program, args, &|| false)
}

/// As [`run`]; when `stop` becomes true the child is killed and the error is [`MediaError::Stopped`]. One that did not end
/// [by itself](ended_by_itself) is an error as well.
pub(crate) fn run_until(
    program: Program,
    args: &Args,
    stop: &dyn Fn() -> bool,
) -> Result<Finished, MediaError> {
    run_taking(program, args, stop, |_| false)
}

/// As [`run_until`], with every stderr line shown to `take` as [`Running::start`] does.
pub(crate) fn run_taking(
    program: Program,
    args: &Args,
    stop: &dyn Fn() -> bool,
    take: impl FnMut(&str) -> bool + Send + 'static,
) -> Result<Finished, MediaError> {
    let failed = |source: std::io::Error| MediaError::Failed {
        what: program.name().to_owned(),
        detail: source.to_string(),
    };
    let mut running = Running::start(program, args, Stdio::null(), Stdio::piped(), take)?;
    let mut pipe = running.stdout().expect("stdout was piped above");
    let reading = std::thread::spawn(move || {
        let mut stdout = Vec::new();
        pipe.read_to_end(&mut stdout).map(|_| stdout)
    });
    while !reading.is_finished() || running.ended().map_err(failed)?.is_none() {
        if stop() {
            return Err(MediaError::Stopped);
        }
        std::thread::sleep(LOOK_INTERVAL);
    }
    let (status, messages) = running.wait().map_err(failed)?;
    if running.children.are_stopped() {
        return Err(MediaError::Stopped);
    }
    if !ended_by_itself(status) {
        return Err(MediaError::Failed {
            what: program.name().to_owned(),
            detail: format!("{status}; {messages}"),
        });
    }
    let stdout = reading
        .join()
        .expect("reading a pipe into memory does not panic")
        .map_err(failed)?;
    Ok(Finished {
        stdout,
        success: status.success(),
        messages,
    })
}

/// Whether a program ran and came to its own end. One that was killed, or that never began, says nothing of its input.
pub(crate) fn ended_by_itself(status: ExitStatus) -> bool {
    status.code().is_some_and(|code| !NOT_STARTED.contains(&code))
}

/// Messages are read this long after one came, with all that came meanwhile: ffmpeg writes a word at a time, and to be woken
/// by each of fifteen a frame takes a reader longer than to read them. At 5,000 frames a second 5 KB gather.
const GATHERING: Duration = Duration::from_millis(2);
/// As much as a pipe holds on Linux: what has gathered is read at once.
const PIPE_BYTES: usize = 64 * 1024;

/// Reads stderr to its end, so that the child never blocks on it, and returns the last lines that nobody took.
fn drain(mut stderr: ChildStderr, mut take: impl FnMut(&str) -> bool) -> String {
    let mut tail = VecDeque::new();
    let mut line = Vec::new();
    let mut chunk = vec![0_u8; PIPE_BYTES];
    let mut finish = |line: &mut Vec<u8>| {
        let text = String::from_utf8_lossy(line).trim().to_owned();
        line.clear();
        if !text.is_empty() && !take(&text) {
            if tail.len() == TAIL_LINES_MAX {
                tail.pop_front();
            }
            tail.push_back(text);
        }
    };
    while let Ok(read) = stderr.read(&mut chunk) {
        if read == 0 {
            break;
        }
        std::thread::sleep(GATHERING);
        for &byte in &chunk[..read] {
            if byte == b'\n' {
                finish(&mut line);
            } else if line.len() < LINE_BYTES_MAX {
                line.push(byte);
            }
        }
    }
    finish(&mut line);
    Vec::from(tail).join("; ")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_file_name_cannot_become_an_option_or_a_protocol() {
        let mut args = Args::new(Program::Ffprobe, "error");
        args.input(Path::new("-version"));
        assert_eq!(args.0.last().unwrap(), "file:-version");
    }

    fn process_that_names(file: &Path) -> Option<u32> {
        let processes = std::fs::read_dir("/proc").unwrap().flatten();
        let mut ids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        ids.find(|id| {
            let line = std::fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&line).contains(&*file.to_string_lossy())
        })
    }

    #[test]
    fn a_child_that_was_killed_is_no_answer() {
        let folder = tempfile::tempdir().unwrap();
        let fifo = folder.path().join("hangs.mkv");
        assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
        let mut args = Args::new(Program::Ffprobe, "error");
        args.input(&fifo);
        let killer = std::thread::spawn(move || {
            let id = loop {
                if let Some(id) = process_that_names(&fifo) {
                    break id;
                }
                std::thread::sleep(LOOK_INTERVAL);
            };
            let killed = Command::new("kill").args(["-KILL", &id.to_string()]).status();
            assert!(killed.unwrap().success());
        });
        let error = run(Program::Ffprobe, &args).err().unwrap();
        killer.join().unwrap();
        assert!(
            error.is_retryable() && error.to_string().contains("signal: 9"),
            "{error}"
        );
    }

    #[test]
    fn a_program_that_never_began_is_no_answer() {
        let ended = |code: &str| Command::new("sh").args(["-c", &format!("exit {code}")]).status();
        assert!(ended_by_itself(ended("0").unwrap()) && ended_by_itself(ended("1").unwrap()));
        assert!(!ended_by_itself(ended("126").unwrap()) && !ended_by_itself(ended("127").unwrap()));
    }

    #[test]
    fn a_failing_child_leaves_its_last_words() {
        let mut args = Args::new(Program::Ffprobe, "error");
        args.input(Path::new("/nonexistent/film.mkv"));
        let finished = run(Program::Ffprobe, &args).unwrap();
        assert!(!finished.success);
        assert!(
            finished.messages.contains("No such file"),
            "{}",
            finished.messages
        );
    }
}

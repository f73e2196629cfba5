//! The command as a person meets it: exit code, stdout and stderr of help texts and of bad input, held by snapshots.
//!
//! No coordinator runs here. What is refused must be refused before anybody is asked.

#![allow(clippy::unwrap_used)]

#[path = "it/up.rs"]
mod up;

use std::path::Path;
use std::process::Command;

use insta::{assert_snapshot, with_settings};
use tempfile::TempDir;

/// Runs `remaster` in a folder, with no setting but those of the test.
fn remaster(folder: &Path, arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_remaster"))
        .args(arguments)
        .current_dir(folder)
        .env_clear()
        .env("HOME", folder)
        .output()
        .unwrap();
    format!(
        "exit: {}\n--- stdout\n{}--- stderr\n{}",
        output.status.code().unwrap(),
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// A folder with one file that could be a film and a season file.
fn season(text: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a.mkv"), b"film").unwrap();
    std::fs::write(folder.path().join("season.toml"), text).unwrap();
    folder
}

fn submit(folder: &Path) -> String {
    // Port 9 is discard: nobody listens there.
    remaster(
        folder,
        &["submit", "season.toml", "--coordinator", "http://127.0.0.1:9"],
    )
}

const PLAIN: &str = "version = 1\n[season]\nname = \"s\"\n\n[[episode]]\nid = \"E1\"\nsd = \"a.mkv\"\n";

#[test]
fn help_is_the_contract() {
    let folder = tempfile::tempdir().unwrap();
    assert_snapshot!("help", remaster(folder.path(), &["--help"]));
    for command in ["up", "scan", "preview", "submit", "status", "report"] {
        assert_snapshot!(
            format!("help-{command}"),
            remaster(folder.path(), &[command, "--help"])
        );
    }
    assert_snapshot!(
        "help-dataset-export",
        remaster(folder.path(), &["dataset", "export", "--help"])
    );
    assert_snapshot!(
        "help-models-publish",
        remaster(folder.path(), &["models", "publish", "--help"])
    );
}

#[test]
fn an_unknown_key_is_named_with_line_and_hint() {
    let folder = season(&PLAIN.replace("sd =", "ds ="));
    assert_snapshot!(submit(folder.path()));
}

#[test]
fn a_duplicate_id_is_named_with_its_line() {
    let folder = season(&format!("{PLAIN}\n[[episode]]\nid = \"E1\"\nsd = \"a.mkv\"\n"));
    assert_snapshot!(submit(folder.path()));
}

#[test]
fn a_season_file_that_is_not_there_is_named() {
    let folder = tempfile::tempdir().unwrap();
    assert_snapshot!(submit(folder.path()));
}

#[test]
fn all_bad_files_are_listed_at_once() {
    let mut text = PLAIN.to_owned();
    for (id, file) in [
        ("E2", "gone.mkv"),
        ("E3", "disc"),
        ("E4", "b.iso"),
        ("E5", "empty.mkv"),
    ] {
        text.push_str(&format!("\n[[episode]]\nid = \"{id}\"\nsd = \"{file}\"\n"));
    }
    let folder = season(&text);
    std::fs::create_dir_all(folder.path().join("disc/VIDEO_TS")).unwrap();
    std::fs::write(folder.path().join("b.iso"), b"x").unwrap();
    std::fs::write(folder.path().join("empty.mkv"), b"").unwrap();
    assert_snapshot!(submit(folder.path()));
}

#[test]
fn a_recipe_that_nobody_knows_is_refused() {
    let folder = season(&format!("{PLAIN}\n[train]\nrecipe = \"esrgam\"\n"));
    assert_snapshot!(submit(folder.path()));
}

#[test]
fn a_coordinator_that_is_not_there_fails_with_one() {
    let folder = season(PLAIN);
    with_settings!({filters => vec![(r"cannot be reached: .*", "cannot be reached: [REASON]")]}, {
        assert_snapshot!(submit(folder.path()));
    });
}

#[test]
fn a_store_that_is_not_one_is_refused_before_anybody_is_asked() {
    let folder = season(PLAIN);
    let arguments = ["submit", "season.toml", "--upload", "--store", "ftp://host/x"];
    assert_snapshot!(remaster(folder.path(), &arguments));
}

/// A folder with `remaster` beside scripts, which stand for its siblings: those are tested where they are built.
fn beside(scripts: &[(&str, &str)]) -> TempDir {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let own = folder.path().join("remaster");
    let built = env!("CARGO_BIN_EXE_remaster");
    if std::fs::hard_link(built, &own).is_err() {
        std::fs::copy(built, &own).unwrap();
    }
    for (name, script) in scripts {
        let sibling = folder.path().join(name);
        std::fs::write(&sibling, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&sibling, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    folder
}

/// `remaster scan` beside a worker that is a script.
fn scan_with(script: &str) -> (TempDir, String) {
    let folder = beside(&[("remaster-worker", script)]);
    let output = Command::new(folder.path().join("remaster"))
        .args(["scan", "--sd", "D V", "--hd", "B", "-o", "s.toml", "--force"])
        .current_dir(folder.path())
        .env("HOME", folder.path())
        .output()
        .unwrap();
    let shown = format!(
        "exit: {}\n--- stdout\n{}--- stderr\n{}",
        output.status.code().unwrap(),
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    (folder, shown)
}

#[test]
fn scan_hands_its_options_on_and_shows_what_was_found() {
    let json = r#"{"version":1,"file":"s.toml","episodes":[{"id":"E1","sd":"a.mkv","hd":null,"share":null}],"unmatched":[]}"#;
    let script = format!("printf '%s\n' \"$@\" > given\ncat > s.toml <<'END'\n{PLAIN}END\necho '{json}'");
    let (folder, shown) = scan_with(&script);
    assert_snapshot!(shown);
    let given = std::fs::read_to_string(folder.path().join("given")).unwrap();
    let expected = "scan --exit-with-stdin --sd|D V|--hd|B|--output|s.toml|--force";
    assert_eq!(
        given.trim().replace('\n', "|"),
        expected.replace(' ', "|").replace("D|V", "D V")
    );
}

#[test]
fn a_scan_that_fails_says_so_once() {
    let (_folder, shown) = scan_with("echo 'error: nothing fits' >&2; exit 2");
    assert_eq!(shown, "exit: 2\n--- stdout\n--- stderr\nerror: nothing fits\n");
}

fn preview(folder: &Path, more: &[&str]) -> String {
    let arguments = ["preview", "season.toml", "--coordinator", "http://127.0.0.1:9"];
    remaster(folder, &[&arguments, more].concat())
}

#[test]
fn a_preview_without_coordinator_or_weights_says_that_weights_would_do() {
    let folder = season(PLAIN);
    with_settings!({filters => vec![(r"cannot be reached: .*", "cannot be reached: [REASON]")]}, {
        assert_snapshot!(preview(folder.path(), &[]));
    });
}

#[test]
fn a_preview_of_weights_that_are_not_there_names_them() {
    let folder = season(PLAIN);
    assert_snapshot!(preview(folder.path(), &["--model", "x4.pth"]));
}

#[test]
fn a_preview_without_anything_to_upscale_is_refused() {
    let folder = season(&PLAIN.replace("sd =", "hd ="));
    assert_snapshot!(preview(folder.path(), &["--model", "a.mkv"]));
}

#[test]
fn a_port_in_use_ends_up_with_the_words_of_the_coordinator() {
    let coordinator = Path::new(env!("CARGO_BIN_EXE_remaster")).with_file_name("remaster-coordinator");
    if !coordinator.is_file() {
        eprintln!(
            "skipped: {} is not built; make test builds it",
            coordinator.display()
        );
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let held = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = held.local_addr().unwrap().to_string();
    let shown = remaster(
        folder.path(),
        &["up", "--listen", &address, "--workers", "0", "--no-trainer"],
    );
    with_settings!({filters => vec![(r"127\.0\.0\.1:\d+", "[ADDRESS]")]}, {
        assert_snapshot!(shown);
    });
}

#[test]
fn gc_without_a_terminal_removes_nothing_unless_it_is_told_to() {
    let folder = tempfile::tempdir().unwrap();
    let gc = |more: &[&str]| {
        let arguments = ["gc", "--coordinator", "http://127.0.0.1:9"];
        remaster(folder.path(), &[&arguments, more].concat())
    };
    assert_snapshot!(gc(&[]));
    for told in ["--dry-run", "--yes"] {
        assert!(gc(&[told]).contains("cannot be reached"), "{told} asks nobody");
    }
}

#[test]
fn completions_come_from_the_same_definition() {
    let folder = tempfile::tempdir().unwrap();
    let shown = remaster(folder.path(), &["completions", "bash"]);
    assert!(shown.starts_with("exit: 0\n"));
    assert!(shown.contains("--held-back"));
}

#[test]
fn a_reader_that_closes_the_pipe_is_no_failure() {
    let command = format!(
        "{} completions bash | head -1; echo ${{PIPESTATUS[0]}}",
        env!("CARGO_BIN_EXE_remaster")
    );
    let output = Command::new("bash").args(["-c", &command]).output().unwrap();
    assert!(String::from_utf8_lossy(&output.stdout).ends_with("\n0\n"));
}

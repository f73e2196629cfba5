//! `scan` as a new user runs it: two folders of files with silly names, one missing, one corrupt, one from another show.

use std::path::Path;

use remaster_domain::SeasonFile;
use tempfile::TempDir;

use super::{discs, path, text, tool};

/// A house with discs: two episodes on both sides, one on DVD alone, one Blu-ray of something else, and what lies about.
fn house() -> TempDir {
    let house = tempfile::tempdir().unwrap();
    let at = |name: &str| house.path().join(name);
    std::fs::create_dir_all(at("DVDs/box \"one\"")).unwrap();
    std::fs::create_dir_all(at("BRs")).unwrap();
    let copy = |from: &str, to: &str| std::fs::copy(discs().file(from), at(to)).map(drop).unwrap();
    copy("ep1.sd.mkv", "DVDs/box \"one\"/title 00.mkv");
    copy("ep2.sd.mkv", "DVDs/zz_final_v2");
    copy("ep3.sd.mkv", "DVDs/VTS_01_3.mkv");
    copy("ep1.sd.mkv", "DVDs/again.mkv");
    copy("ep2.hd.mkv", "BRs/00800.mkv");
    copy("ep1.hd.mkv", "BRs/00801.mkv");
    let show = "life=size=640x360:rate=24:mold=10:ratio=0.1:death_color=#C83232:life_color=#00ff00";
    let other = [
        "-f",
        "lavfi",
        "-i",
        show,
        "-t",
        "5",
        "-c:v",
        "libx264",
        "-preset",
        "ultrafast",
    ];
    tool(
        "ffmpeg",
        &[&["-v", "error"], &other[..], &[path(&at("BRs/00802.mkv"))]].concat(),
    );
    let sound = ["-f", "lavfi", "-i", "sine=d=3", "-c:a", "ac3"];
    tool(
        "ffmpeg",
        &[&["-v", "error"], &sound[..], &[path(&at("BRs/song.mkv"))]].concat(),
    );
    let whole = std::fs::read(discs().file("ep3.hd.mkv")).unwrap();
    std::fs::write(at("BRs/half.mkv"), &whole[..whole.len() / 2]).unwrap();
    std::fs::write(at("BRs/readme.txt"), b"rip of 2009").unwrap();
    house
}

fn scan(house: &Path, more: &[&str]) -> std::process::Output {
    let arguments = ["scan", "--sd", "DVDs", "--hd", "BRs", "-o", "season 6.toml"];
    std::process::Command::new(env!("CARGO_BIN_EXE_remaster-worker"))
        .args(arguments)
        .args(more)
        .current_dir(house)
        .env("XDG_CACHE_HOME", house.join("cache"))
        .output()
        .unwrap()
}

fn season(house: &Path) -> (SeasonFile, String) {
    let written = std::fs::read_to_string(house.join("season 6.toml")).unwrap();
    let season: SeasonFile = toml::from_str(&written).unwrap();
    season.check().unwrap();
    (season, written)
}

#[test]
fn episodes_are_found_by_what_the_files_show() {
    let house = house();
    let done = scan(house.path(), &[]);
    let stderr = text(&done.stderr);
    assert!(done.status.success(), "{stderr}");
    let (found, written) = season(house.path());
    assert_eq!(found.season.name.as_str(), "season-6");
    let pairs: Vec<_> = found
        .episodes
        .iter()
        .map(|e| (e.sd.as_deref().unwrap(), e.hd.as_deref().unwrap()))
        .collect();
    let expected = [
        ("DVDs/zz_final_v2", "BRs/00800.mkv"),
        ("DVDs/again.mkv", "BRs/00801.mkv"),
    ];
    assert_eq!(pairs, expected, "{written}");
    for (file, reason) in [
        ("VTS_01_3.mkv", "no Blu-ray file shows it"),
        ("title 00.mkv", "is the same file as again.mkv"),
        ("00802.mkv", "no DVD file shows it"),
        ("half.mkv", "cut off"),
        ("song.mkv", "no video stream"),
    ] {
        let told = |text: &str| {
            text.lines()
                .any(|line| line.contains(file) && line.contains(reason))
        };
        assert!(told(&stderr), "{file}: {stderr}");
        assert!(written.contains(reason), "{file}: {written}");
    }
    assert!(!written.contains("readme"));
    let report: serde_json::Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!(report["episodes"].as_array().unwrap().len(), 2);
    assert_eq!(report["unmatched"].as_array().unwrap().len(), 5);

    // A file that is there is kept, unless told otherwise; what was decoded once is not decoded again.
    std::fs::write(house.path().join("season 6.toml"), "mine").unwrap();
    let refused = scan(house.path(), &[]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(
        text(&refused.stderr).contains("--force"),
        "{}",
        text(&refused.stderr)
    );
    assert_eq!(
        std::fs::read(house.path().join("season 6.toml")).unwrap(),
        b"mine"
    );
    let again = scan(
        house.path(),
        &["--force", "--upscale-unmatched", "--season", "six"],
    );
    assert!(again.status.success(), "{}", text(&again.stderr));
    assert!(
        !text(&again.stderr).contains("read 00800.mkv"),
        "{}",
        text(&again.stderr)
    );
    let (found, _) = season(house.path());
    assert_eq!(found.season.name.as_str(), "six");
    assert_eq!(found.episodes.len(), 3);
    assert_eq!(
        (found.episodes[2].sd.as_deref(), &found.episodes[2].hd),
        (Some("DVDs/VTS_01_3.mkv"), &None)
    );
}

#[test]
fn folders_that_share_nothing_give_no_file() {
    let house = tempfile::tempdir().unwrap();
    for (folder, file) in [("DVDs", "ep1.sd.mkv"), ("BRs", "ep2.hd.mkv")] {
        std::fs::create_dir(house.path().join(folder)).unwrap();
        std::fs::copy(discs().file(file), house.path().join(folder).join("a.mkv")).unwrap();
    }
    let done = scan(house.path(), &[]);
    assert_eq!(done.status.code(), Some(2), "{}", text(&done.stderr));
    assert!(text(&done.stderr).contains("nothing was written"));
    assert!(!house.path().join("season 6.toml").exists() && done.stdout.is_empty());
}

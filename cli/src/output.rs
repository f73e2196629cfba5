//! What reaches stdout: text for people or JSON for scripts, never both. Formatting is pure; one function writes.

use std::io::Write;

use clap::ValueEnum;
use serde::Serialize;

/// How data is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum OutputFormat {
    /// Columns for people
    Text,
    /// One JSON value for scripts
    Json,
}

/// Writes text to stdout. A reader that closed the pipe is no failure: the caller's exit turns that into success.
pub(crate) fn print(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()?;
    Ok(())
}

/// Writes a value in the format asked for.
pub(crate) fn show<T: Serialize>(
    format: OutputFormat,
    value: &T,
    text: impl FnOnce(&T) -> String,
) -> anyhow::Result<()> {
    match format {
        OutputFormat::Text => print(&text(value)),
        OutputFormat::Json => print(&format!("{}\n", serde_json::to_string_pretty(value)?)),
    }
}

/// Columns padded to their widest cell, two spaces apart, without trailing blanks.
pub(crate) fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = head.iter().map(|cell| cell.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |cells: Vec<&str>| {
        let padded: Vec<_> = cells
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:<width$}"))
            .collect();
        format!("{}\n", padded.join("  ").trim_end())
    };
    let mut text = line(head.to_vec());
    for row in rows {
        text.push_str(&line(row.iter().map(String::as_str).collect()));
    }
    text
}

/// A duration in the two units that matter: `0.4 s`, `12 s`, `3 min 05 s`, `2 h 07 min`, `4 d 03 h`.
pub(crate) fn duration(ms: i64) -> String {
    let seconds = ms.max(0) / 1000;
    match seconds {
        0..=9 => format!("{:.1} s", ms.max(0) as f64 / 1000.0),
        10..=59 => format!("{seconds} s"),
        60..=3599 => format!("{} min {:02} s", seconds / 60, seconds % 60),
        3600..=86_399 => format!("{} h {:02} min", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{} d {:02} h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

/// A size in binary units.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 {
        format!("{bytes} B")
    } else {
        format!("{value:.1} {}", UNITS[unit])
    }
}

/// How long ago something was, for lists.
pub(crate) fn ago(then_ms: i64, now_ms: i64) -> String {
    format!("{} ago", duration(now_ms - then_ms))
}

/// The machine's clock in ms since the epoch; for showing only, decisions take the time as an argument.
pub(crate) fn now_ms() -> i64 {
    let elapsed = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(elapsed.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_well() {
        let shown: Vec<_> = [-5, 400, 12_000, 185_000, 7_620_000, 356_400_000]
            .into_iter()
            .map(duration)
            .collect();
        assert_eq!(
            shown,
            ["0.0 s", "0.4 s", "12 s", "3 min 05 s", "2 h 07 min", "4 d 03 h"]
        );
    }

    #[test]
    fn sizes_read_well() {
        assert_eq!(
            [size(12), size(2048), size(3 << 30)],
            ["12 B", "2.0 KiB", "3.0 GiB"]
        );
    }

    #[test]
    fn columns_align_and_have_no_trailing_blanks() {
        let rows = vec![
            vec!["extract".to_owned(), "3".to_owned()],
            vec!["a".to_owned(), String::new()],
        ];
        assert_eq!(table(&["KIND", "N"], &rows), "KIND     N\nextract  3\na\n");
    }
}

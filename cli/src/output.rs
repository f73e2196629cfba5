//! What reaches stdout: text for people or JSON for scripts, never both. Formatting is pure; one function writes.

use std::io::Write;

use clap::ValueEnum;
pub(crate) use remaster_service::{duration, size};
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
    fn columns_align_and_have_no_trailing_blanks() {
        let rows = vec![
            vec!["extract".to_owned(), "3".to_owned()],
            vec!["a".to_owned(), String::new()],
        ];
        assert_eq!(table(&["KIND", "N"], &rows), "KIND     N\nextract  3\na\n");
    }
}

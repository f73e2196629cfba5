//! Durations and sizes as people read them: the same words in the terminal and on every page.

/// A duration in the two units that matter: `0.4 s`, `12 s`, `3 min 05 s`, `2 h 07 min`, `4 d 03 h`.
#[must_use]
pub fn duration(ms: i64) -> String {
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
#[must_use]
pub fn size(bytes: u64) -> String {
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
}

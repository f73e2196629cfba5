//! What a run says of itself: losses averaged between log lines, speed, time left, the share of time spent waiting
//! for data.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::step::Losses;

/// Collects between two log lines.
#[derive(Debug)]
pub struct Meter {
    since: Instant,
    steps: u64,
    waited: Duration,
    sums: BTreeMap<&'static str, f64>,
}

/// What one log line says.
#[derive(Debug, Clone, PartialEq)]
pub struct Reading {
    /// Mean losses.
    pub losses: BTreeMap<String, f32>,
    /// Steps a second.
    pub steps_per_second: f64,
    /// Share of the time in which the training thread had no batch.
    pub data_wait_share: f64,
}

impl Meter {
    /// Starts now.
    #[must_use]
    pub fn start(now: Instant) -> Self {
        Self {
            since: now,
            steps: 0,
            waited: Duration::ZERO,
            sums: BTreeMap::new(),
        }
    }

    /// Counts a step.
    pub fn add(&mut self, waited: Duration, losses: &Losses) {
        self.steps += 1;
        self.waited += waited;
        for (name, value) in losses {
            *self.sums.entry(name).or_default() += f64::from(*value);
        }
    }

    /// Reads it and starts again.
    pub fn take(&mut self, now: Instant) -> Reading {
        let old = std::mem::replace(self, Self::start(now));
        let seconds = now.duration_since(old.since).as_secs_f64().max(1e-9);
        let steps = old.steps.max(1) as f64;
        Reading {
            losses: old
                .sums
                .iter()
                .map(|(name, sum)| ((*name).to_owned(), (sum / steps) as f32))
                .collect(),
            steps_per_second: old.steps as f64 / seconds,
            data_wait_share: old.waited.as_secs_f64() / seconds,
        }
    }
}

impl Reading {
    /// One line for people; whoever shows it knows how far the run is and adds what is left.
    #[must_use]
    pub fn line(&self, stage: &str) -> String {
        let losses: Vec<_> = self
            .losses
            .iter()
            .map(|(name, value)| format!("{name} {value:.5}"))
            .collect();
        let (speed, wait) = (self.steps_per_second, self.data_wait_share * 100.0);
        format!(
            "{stage} {}, {speed:.2} steps/s, {wait:.1} % waiting for data",
            losses.join(" ")
        )
    }

    /// The same for a curve.
    #[must_use]
    pub fn scalars(&self) -> Vec<(String, f32)> {
        let mut values: Vec<_> = self
            .losses
            .iter()
            .map(|(name, value)| (format!("train/{name}"), *value))
            .collect();
        values.push(("speed/steps_per_second".to_owned(), self.steps_per_second as f32));
        values.push(("speed/data_wait_share".to_owned(), self.data_wait_share as f32));
        values.extend(peak_rss_mib().map(|mib| ("speed/peak_rss_mib".to_owned(), mib as f32)));
        values
    }

    /// Time that so many steps will take, as `h:mm:ss`.
    #[must_use]
    pub fn eta(&self, steps_left: u64) -> String {
        let seconds = (steps_left as f64 / self.steps_per_second.max(1e-9)).round() as u64;
        format!("{}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
    }
}

/// Most memory this process has held, where the system says.
#[must_use]
pub fn peak_rss_mib() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? / 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reading_averages_and_starts_again() {
        let start = Instant::now();
        let mut meter = Meter::start(start);
        meter.add(Duration::from_secs(1), &vec![("l_g_pix", 0.5)]);
        meter.add(Duration::ZERO, &vec![("l_g_pix", 0.25)]);
        let reading = meter.take(start + Duration::from_secs(4));
        assert_eq!(reading.losses["l_g_pix"], 0.375);
        assert_eq!(
            reading.line("l1"),
            "l1 l_g_pix 0.37500, 0.50 steps/s, 25.0 % waiting for data"
        );
        assert_eq!(reading.eta(60), "0:02:00");
        assert!(meter.take(start + Duration::from_secs(5)).losses.is_empty());
    }
}

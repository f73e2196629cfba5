//! The learning rate as a pure function of the step: nothing to save, nothing to restore.

use serde::Deserialize;

/// Far above all that trains, far below where sums of rates are no number.
pub(crate) const RATE_MAX: f64 = 1e30;

/// `scheduler` of a stage.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(tag = "type", deny_unknown_fields)]
pub enum Scheduler {
    /// The same rate throughout.
    #[default]
    Constant,
    /// Half a cosine from the first rate to `eta_min`, once or once a period.
    CosineAnnealing {
        /// Lowest rate.
        #[serde(default)]
        eta_min: f64,
        /// Steps of each period; the whole stage where left out.
        #[serde(default)]
        periods: Vec<u64>,
    },
    /// Times `gamma` at every milestone.
    MultiStep {
        /// Steps, ascending.
        milestones: Vec<u64>,
        /// Factor.
        gamma: f64,
    },
}

impl Scheduler {
    /// What is wrong with it in words.
    pub(crate) fn check(&self) -> Result<(), String> {
        match self {
            Self::CosineAnnealing { periods, .. } if periods.contains(&0) => {
                Err("a period of the scheduler is 0".to_owned())
            }
            Self::CosineAnnealing { eta_min, .. } if !(0.0..=RATE_MAX).contains(eta_min) => {
                Err(format!("eta_min is {eta_min}, expected 0 to {RATE_MAX:e}"))
            }
            Self::MultiStep { gamma, .. } if !(0.0..=1.0).contains(gamma) => {
                Err(format!("gamma is {gamma}, expected 0 to 1"))
            }
            Self::MultiStep { milestones, .. } if !milestones.is_sorted() => {
                Err("milestones must ascend".to_owned())
            }
            _ => Ok(()),
        }
    }

    /// The rate of a step, counted from 0 within a stage of `total` steps.
    #[must_use]
    pub fn rate(&self, first_rate: f64, step: u64, total: u64, warmup: u64) -> f64 {
        if step < warmup {
            return first_rate * (step + 1) as f64 / warmup as f64;
        }
        match self {
            Self::Constant => first_rate,
            Self::CosineAnnealing { eta_min, periods } => {
                let (done, of) = position_in_period(step, total, periods);
                let share = (done as f64 / of.max(1) as f64).min(1.0);
                eta_min + (first_rate - eta_min) * (1.0 + (std::f64::consts::PI * share).cos()) / 2.0
            }
            Self::MultiStep { milestones, gamma } => {
                let passed = milestones.iter().filter(|milestone| **milestone <= step).count();
                first_rate * gamma.powi(i32::try_from(passed).unwrap_or(i32::MAX))
            }
        }
    }
}

fn position_in_period(step: u64, total: u64, periods: &[u64]) -> (u64, u64) {
    let mut start = 0;
    for period in periods {
        if step - start < *period {
            return (step - start, *period);
        }
        start += period;
    }
    (step - start, total.saturating_sub(start))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cosine(periods: Vec<u64>) -> Scheduler {
        Scheduler::CosineAnnealing {
            eta_min: 0.1,
            periods,
        }
    }

    #[test]
    fn cosine_falls_from_first_to_lowest_over_the_stage() {
        let rate = |step| cosine(vec![]).rate(1.0, step, 100, 0);
        assert!((rate(0) - 1.0).abs() < 1e-12);
        assert!((rate(50) - 0.55).abs() < 1e-12);
        assert!((rate(100) - 0.1).abs() < 1e-12);
        assert!((0..100).all(|step| rate(step) > rate(step + 1)));
    }

    #[test]
    fn every_period_starts_again() {
        let rate = |step| cosine(vec![10, 10]).rate(1.0, step, 20, 0);
        assert!((rate(10) - rate(0)).abs() < 1e-12);
        assert!(rate(9) < rate(10));
    }

    #[test]
    fn milestones_multiply_and_warmup_rises() {
        let steps = Scheduler::MultiStep {
            milestones: vec![10, 20],
            gamma: 0.5,
        };
        let rate = |step| steps.rate(1.0, step, 30, 4);
        assert_eq!(
            [rate(0), rate(3), rate(9), rate(10), rate(20)],
            [0.25, 1.0, 1.0, 0.5, 0.25]
        );
    }
}

//! What a run can go wrong by, and when to say so. Pure; what to do about it is the run's.
//!
//! Although every number is one, the generator's pictures may have gone flat. A new network's are flat too, so only one that
//! was alive before counts. And f16 ends at 65,504 and at 6e-8: losses are scaled up so that small gradients are not lost in
//! it, and less so when large ones overflow, whose step is then left out.

use remaster_domain::Precision;
use serde::{Deserialize, Serialize};

/// Spread from which on a generator is alive: half the contrast of the wanted pictures.
const ALIVE_SPREAD: f32 = 0.5;
/// Spread below which its pictures are flat.
const FLAT_SPREAD: f32 = 0.1;
/// Flat steps in a row that are a collapse: one batch may show nothing but a fade.
const FLAT_STEPS_MAX: u32 = 10;
/// Rollbacks of a run: what fails at an eighth of its learning rate is wrong in another way.
pub const ROLLBACKS_MAX: u32 = 3;

/// First factor, most steps between two doublings: as everybody's scaler has them.
const SCALE_FIRST: f32 = 65_536.0;
const CALM_STEPS: u32 = 2_000;
/// Gradients that overflow at this factor are not the scaling's fault.
const SCALE_MIN: f32 = 1.0;

/// What losses in f16 are multiplied by; a power of two, so that it rounds nothing.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct LossScale {
    factor: f32,
    /// Steps since it last changed.
    calm_steps: u32,
}

impl LossScale {
    /// The scale to begin with; `None` where small gradients are not lost.
    #[must_use]
    pub fn first(precision: Precision) -> Option<Self> {
        (precision == Precision::F16).then_some(Self {
            factor: SCALE_FIRST,
            calm_steps: 0,
        })
    }

    /// What losses are multiplied by and gradients divided by.
    #[must_use]
    pub fn factor(self) -> f64 {
        f64::from(self.factor)
    }

    /// Half of it after gradients that overflowed; `None` where half would not help either.
    #[must_use]
    pub fn backed_off(self) -> Option<Self> {
        let factor = self.factor / 2.0;
        (factor >= SCALE_MIN).then_some(Self {
            factor,
            calm_steps: 0,
        })
    }

    /// After a step whose gradients were numbers; twice as much after many of them.
    #[must_use]
    pub fn calm(self) -> Self {
        let calm_steps = self.calm_steps + 1;
        if calm_steps < CALM_STEPS {
            return Self { calm_steps, ..self };
        }
        Self {
            factor: (self.factor * 2.0).min(f32::MAX / 2.0),
            calm_steps: 0,
        }
    }
}

/// What has been seen of a generator's pictures.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    alive: bool,
    flat_steps: u32,
}

impl Health {
    /// After a step whose pictures had this spread; see [`crate::step::StepReport::spread`].
    #[must_use]
    pub fn after(self, spread: f32) -> Self {
        Self {
            alive: self.alive || spread >= ALIVE_SPREAD,
            flat_steps: if spread < FLAT_SPREAD {
                self.flat_steps + 1
            } else {
                0
            },
        }
    }

    /// Whether it has collapsed.
    #[must_use]
    pub const fn has_collapsed(self) -> bool {
        self.alive && self.flat_steps >= FLAT_STEPS_MAX
    }
}

/// Part of the recipe's learning rates that is left after so many rollbacks.
#[must_use]
pub fn rate_share(rollbacks: u32) -> f64 {
    0.5f64.powi(rollbacks.cast_signed())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(spreads: &[f32]) -> Health {
        spreads
            .iter()
            .fold(Health::default(), |health, spread| health.after(*spread))
    }

    #[test]
    fn pictures_that_go_flat_are_a_collapse_and_new_ones_or_a_fade_are_none() {
        assert!(!after(&[0.01; 100]).has_collapsed());
        let mut spreads = vec![0.9];
        spreads.extend([0.01; 9]);
        assert!(!after(&spreads).has_collapsed());
        spreads.push(0.02);
        assert!(after(&spreads).has_collapsed());
        spreads.push(0.3);
        assert!(!after(&spreads).has_collapsed());
    }

    #[test]
    fn the_scale_halves_at_an_overflow_doubles_after_long_calm_and_ends_at_one() {
        assert_eq!(LossScale::first(Precision::Bf16), None);
        let first = LossScale::first(Precision::F16).expect("f16 is scaled");
        let halved = first.calm().backed_off().expect("far above one");
        assert_eq!(halved.factor(), 32_768.0);
        let calm = (1..CALM_STEPS).fold(halved, |scale, _| scale.calm());
        assert_eq!(calm.factor(), 32_768.0);
        assert_eq!(calm.calm().factor(), 65_536.0);
        let halvings = std::iter::successors(Some(first), |scale| scale.backed_off());
        assert_eq!(halvings.last().map(LossScale::factor), Some(1.0));
    }

    #[test]
    fn every_rollback_halves_the_rates() {
        assert_eq!([0, 1, 3].map(rate_share), [1.0, 0.5, 0.125]);
    }
}

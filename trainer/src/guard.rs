//! When a run has gone wrong although every number is one: the generator's pictures have gone flat. A new network's are
//! flat too, so only one that was alive before counts. Pure; what to do about it is the run's.

use serde::{Deserialize, Serialize};

/// Spread from which on a generator is alive: half the contrast of the wanted pictures.
const ALIVE_SPREAD: f32 = 0.5;
/// Spread below which its pictures are flat.
const FLAT_SPREAD: f32 = 0.1;
/// Flat steps in a row that are a collapse: one batch may show nothing but a fade.
const FLAT_STEPS_MAX: u32 = 10;
/// Rollbacks of a run: what fails at an eighth of its learning rate is wrong in another way.
pub const ROLLBACKS_MAX: u32 = 3;

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
    fn every_rollback_halves_the_rates() {
        assert_eq!([0, 1, 3].map(rate_share), [1.0, 0.5, 0.125]);
    }
}
